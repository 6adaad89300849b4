//! ValidatingAdmissionPolicies, where bindings put them into force.

use std::{cell::RefCell, collections::BTreeMap};

use rdd_admission::GroupVersionResource;
use rdd_cel::Type;
use serde_json::{Value, json};

use super::{
    Question,
    authority::{self, Checks},
    expressions::{self, Expression, Purse, Scope},
    frame::{Binding, Frame, InForce, Policy, described, namespace_of, params, text},
    matching::{Subject, items},
    webhooks::seen_as,
};
use crate::{
    status::{ApiError, ApiResult},
    verbs::call::Call,
};

/// The longest message that an expression may make.
const MESSAGE_MAX: usize = 5 * 1024;

/// The annotation of an audit event that tells which rules with action Audit are broken.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

/// The longest value of an audit annotation, in bytes.
const ANNOTATION_MAX: usize = 10 * 1024;

/// One policy.
pub(super) struct Validating {
    frame: Frame,
    validations: Vec<Validation>,
    /// By the part of their keys that the policy chooses.
    annotations: Vec<(String, Expression)>,
}

struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: String,
}

impl Policy for Validating {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let has_params = spec["paramKind"].is_object();
        let mut environments = [
            expressions::of_policies(has_params),
            expressions::of_messages(has_params),
        ];
        let frame = Frame::read(object, &mut environments);
        let [environment, of_messages] = environments;
        let validations = items(spec, "validations").map(|validation| {
            let message = text(validation, "messageExpression");
            Validation {
                expression: Expression::new(
                    &environment,
                    &text(validation, "expression"),
                    &[Type::Bool],
                ),
                message: text(validation, "message").trim().to_owned(),
                message_expression: (!message.is_empty())
                    .then(|| Expression::new(&of_messages, &message, &[Type::String])),
                reason: match text(validation, "reason") {
                    reason if reason.is_empty() => "Invalid".to_owned(),
                    reason => reason,
                },
            }
        });
        let annotations = items(spec, "auditAnnotations").map(|annotation| {
            let source = text(annotation, "valueExpression");
            let wanted = [Type::String, Type::Null];
            (
                text(annotation, "key"),
                Expression::new(&environment, &source, &wanted),
            )
        });
        Self {
            frame,
            validations: validations.collect(),
            annotations: annotations.collect(),
        }
    }
}

impl Validating {
    /// What the rules say about a write with this param: every refusal in order, and what
    /// the audit log is to tell.
    fn judge(&self, scope: &Scope<'_>) -> Verdict {
        let failed = |text: String| self.frame.fails_closed.then(|| Refusal::invalid(text));
        match self.frame.holds(scope) {
            Ok(true) => {}
            Ok(false) => return Verdict::default(),
            Err(text) => {
                return Verdict {
                    refusals: failed(text).into_iter().collect(),
                    notes: Vec::new(),
                };
            }
        }
        let scope = self.frame.scope(scope);
        let mut purse = Purse::of_policy();
        let mut refusals = Vec::new();
        for (index, validation) in self.validations.iter().enumerate() {
            match validation.expression.evaluate(&scope, &mut purse) {
                Ok(value) if value.is_true() => {}
                Ok(_) => refusals.push(Refusal {
                    message: validation.message(&scope, &mut purse),
                    reason: validation.reason.clone(),
                    index,
                    always_denies: false,
                }),
                Err(text) => refusals.extend(failed(text)),
            }
        }
        let mut notes = Vec::new();
        let mut purse = Purse::of_policy();
        for (key, expression) in &self.annotations {
            match expression.evaluate(&scope, &mut purse) {
                Ok(value) => {
                    let text = value.as_str().map(|text| text.trim().to_owned());
                    let text = text.filter(|text| !text.is_empty());
                    notes.extend(text.map(|text| (key.clone(), shortened(text))));
                }
                Err(text) => refusals.extend(self.frame.fails_closed.then(|| Refusal {
                    always_denies: true,
                    ..Refusal::invalid(text)
                })),
            }
        }
        Verdict { refusals, notes }
    }
}

/// What one policy says about one write.
#[derive(Default)]
struct Verdict {
    refusals: Vec<Refusal>,
    /// Annotations of the audit event, by the part of their keys that the policy chooses.
    notes: Vec<(String, String)>,
}

/// As much of a text as an annotation takes.
fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ANNOTATION_MAX));
    text
}

impl Validation {
    fn message<'a>(&'a self, scope: &Scope<'a>, purse: &mut Purse) -> String {
        let made = self.message_expression.as_ref().and_then(|expression| {
            let value = expression.evaluate(scope, purse).ok()?;
            let text = value.as_str()?.trim().to_owned();
            let fits = !text.is_empty() && text.len() <= MESSAGE_MAX && !text.contains('\n');
            fits.then_some(text)
        });
        made.unwrap_or_else(|| {
            if self.message.is_empty() {
                format!("failed expression: {}", self.expression.source())
            } else {
                self.message.clone()
            }
        })
    }
}

impl Binding {
    /// What a broken rule leads to.
    fn actions(&self) -> Vec<&'static str> {
        [
            (self.denies, "Deny"),
            (self.warns, "Warn"),
            (self.audits, "Audit"),
        ]
        .into_iter()
        .filter_map(|(acts, action)| acts.then_some(action))
        .collect()
    }
}

/// One rule that is broken.
struct Refusal {
    message: String,
    reason: String,
    /// Which of the policy's expressions is not true.
    index: usize,
    /// Whatever the actions of the binding are, and without being told by them.
    always_denies: bool,
}

impl Refusal {
    fn invalid(message: String) -> Self {
        Self {
            message,
            reason: "Invalid".to_owned(),
            index: 0,
            always_denies: false,
        }
    }
}

/// Judges a write by every policy that is in force; the first refusal wins.
pub(super) async fn judge(
    question: &mut Question<'_>,
    policies: &[InForce<Validating>],
) -> ApiResult<()> {
    let mut warnings = Vec::new();
    let mut failures = Vec::new();
    let mut denied: Option<(String, String)> = None;
    for InForce { policy, bindings } in policies {
        let frame = policy.frame();
        let subject = Subject::new(question.call, &question.request);
        let resource = match frame.criteria.meant(&subject).await {
            Ok(None) => continue,
            Ok(Some(resource)) => resource,
            Err(error) => {
                let text = format!(
                    "ValidatingAdmissionPolicy '{}' denied request: failed to configure policy: \
                     {error}",
                    frame.name
                );
                deny(&mut denied, frame.fails_closed, text, "Invalid");
                continue;
            }
        };
        if let Some(text) = frame.lacks(question.call) {
            let text = format!(
                "ValidatingAdmissionPolicy '{}' denied request: failed to configure policy: {text}",
                frame.name
            );
            deny(&mut denied, frame.fails_closed, text, "Invalid");
            continue;
        }
        let mut notes = Notes::default();
        for binding in bindings {
            let told = |text: &str| {
                format!(
                    "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {text}",
                    frame.name, binding.name
                )
            };
            let verdict = match ask(&subject, policy, binding, &resource).await {
                Ok(verdict) => verdict,
                Err(error) => {
                    let text = told(&format!("failed to configure binding: {error}"));
                    deny(&mut denied, frame.fails_closed, text, "Invalid");
                    continue;
                }
            };
            notes.add(verdict.notes);
            for Refusal {
                message,
                reason,
                index,
                always_denies,
            } in verdict.refusals
            {
                if always_denies {
                    deny(&mut denied, true, told(&message), &reason);
                    continue;
                }
                if binding.audits {
                    tracing::info!(
                        policy = %frame.name, binding = %binding.name, %message,
                        "a write breaks an admission policy"
                    );
                    failures.push(json!({
                        "message": message,
                        "policy": frame.name,
                        "binding": binding.name,
                        "expressionIndex": index,
                        "validationActions": binding.actions(),
                    }));
                }
                if binding.warns {
                    warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': \
                         {message}",
                        frame.name, binding.name
                    ));
                }
                deny(&mut denied, binding.denies, told(&message), &reason);
            }
        }
        notes.publish(&frame.name, question.call);
    }
    question.warn(warnings);
    if !failures.is_empty() {
        question.call.annotate(
            || FAILURES.to_owned(),
            || Value::Array(failures).to_string(),
        );
    }
    let Some((message, reason)) = denied else {
        return Ok(());
    };
    let resource = &question.call.resource;
    let name = match question.request.name.as_str() {
        "" => "Unknown",
        name => name,
    };
    Err(ApiError::policy_denied(resource, name, &message, &reason))
}

/// The annotations of one policy, of all its bindings and params.
#[derive(Default)]
struct Notes(BTreeMap<String, Vec<String>>);

impl Notes {
    fn add(&mut self, notes: Vec<(String, String)>) {
        for (key, text) in notes {
            let texts = self.0.entry(key).or_default();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
    }

    fn publish(self, policy: &str, call: &Call) {
        for (key, texts) in self.0 {
            call.annotate(|| format!("{policy}/{key}"), || texts.join(", "));
        }
    }
}

fn deny(denied: &mut Option<(String, String)>, denies: bool, message: String, reason: &str) {
    if denies && denied.is_none() {
        *denied = Some((message, reason.to_owned()));
    }
}

/// What a policy says under a binding, for every param.
///
/// # Errors
/// Why the binding cannot be used.
async fn ask(
    subject: &Subject<'_>,
    policy: &Validating,
    binding: &Binding,
    resource: &GroupVersionResource,
) -> ApiResult<Verdict> {
    if let Some(criteria) = &binding.criteria
        && criteria.narrowed(subject).await?.is_none()
    {
        return Ok(Verdict::default());
    }
    let params = params(subject, policy.frame(), binding).await?;
    if params.is_empty() {
        return Ok(Verdict::default());
    }
    let asked = seen_as(subject.call, subject.request, resource).await?;
    let request = described(&asked);
    let namespace = namespace_of(subject).await?;
    let namespace = namespace.unwrap_or(&Value::Null);
    let check = authority::of_request(&asked);
    let mut checks = Checks::default();
    let mut verdict = Verdict::default();
    for params in &params {
        loop {
            let judged = policy.judge(&Scope {
                object: &asked.object,
                old_object: &asked.old_object,
                request: &request,
                namespace,
                params,
                authority: &checks,
                resource: &check,
                variables: &[],
                known: RefCell::new(BTreeMap::new()),
            });
            if !checks.answer(subject.call).await {
                verdict.refusals.extend(judged.refusals);
                verdict.notes.extend(judged.notes);
                break;
            }
        }
    }
    Ok(verdict)
}

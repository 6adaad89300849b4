//! ValidatingAdmissionPolicies, where bindings put them into force.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use rdd_admission::{AdmissionRequest, GroupVersionResource};
use rdd_cel::Type;
use rdd_store::ReadAt;
use serde_json::{Value, json};

use super::{
    Question,
    authority::{self, Checks},
    expressions::{self, Conditions, Expression, Purse, Scope},
    is_namespace,
    matching::{Criteria, LabelSelector, Subject, items, labels},
    webhooks::seen_as,
};
use crate::{
    catalog::Resource,
    status::{ApiError, ApiResult},
    verbs::{call::Call, convert, served, store_error},
};

/// The longest message that an expression may make.
const MESSAGE_MAX: usize = 5 * 1024;

/// The annotation of an audit event that tells which rules with action Audit are broken.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

/// The longest value of an audit annotation, in bytes.
const ANNOTATION_MAX: usize = 10 * 1024;

/// One policy.
pub(super) struct Policy {
    pub(super) name: String,
    criteria: Criteria,
    fails_closed: bool,
    param_kind: Option<(String, String)>,
    conditions: Conditions,
    variables: Vec<(String, Expression)>,
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

/// One binding.
pub(super) struct Binding {
    name: String,
    pub(super) policy: String,
    criteria: Option<Criteria>,
    params: Option<ParamRef>,
    denies: bool,
    warns: bool,
    audits: bool,
}

struct ParamRef {
    name: String,
    namespace: String,
    selector: LabelSelector,
    /// That there is none is a refusal.
    required: bool,
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

impl Policy {
    /// Which writes it is about.
    pub(super) fn criteria(&self) -> &Criteria {
        &self.criteria
    }

    pub(super) fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let kind = &spec["paramKind"];
        let param_kind = kind
            .is_object()
            .then(|| (text(kind, "apiVersion"), text(kind, "kind")));
        let mut environment = expressions::of_policies(param_kind.is_some());
        let mut of_messages = expressions::of_messages(param_kind.is_some());
        let conditions = Conditions::read(&environment, spec);
        if items(spec, "variables").next().is_some() {
            environment = expressions::with_variables(environment);
            of_messages = expressions::with_variables(of_messages);
        }
        let mut variables = Vec::new();
        for variable in items(spec, "variables") {
            let name = format!("variables.{}", text(variable, "name"));
            let expression = Expression::new(&environment, &text(variable, "expression"), &[]);
            let known = expressions::of_variable(&expression.result());
            environment = environment.with(&name, known.clone());
            of_messages = of_messages.with(&name, known);
            variables.push((name, expression));
        }
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
            name: text(&object["metadata"], "name"),
            criteria: Criteria::read(&spec["matchConstraints"], "resourceRules"),
            fails_closed: spec["failurePolicy"] != "Ignore",
            validations: validations.collect(),
            annotations: annotations.collect(),
            param_kind,
            conditions,
            variables,
        }
    }

    /// What the policy cannot be used without, if that is not there.
    fn lacks(&self, call: &Call) -> Option<String> {
        let (api_version, kind) = self.param_kind.as_ref()?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let catalog = call.server.catalog.load();
        catalog
            .resource_of_kind(group, version, kind)
            .is_none()
            .then(|| {
                format!(
                    "failed to find resource referenced by paramKind: '{group}/{version}, \
                     Kind={kind}'"
                )
            })
    }

    /// What the rules say about a write with this param: every refusal in order, and what
    /// the audit log is to tell.
    fn judge(&self, scope: &Scope<'_>) -> Verdict {
        let mut purse = Purse::of_policy();
        let failed = |text: String| self.fails_closed.then(|| Refusal::invalid(text));
        // Made anew, so that what conditions and rules borrow lives as long as this.
        let scope = Scope {
            object: scope.object,
            old_object: scope.old_object,
            request: scope.request,
            namespace: scope.namespace,
            params: scope.params,
            authority: scope.authority,
            resource: scope.resource,
            variables: &self.variables,
            known: RefCell::default(),
        };
        // As kube-apiserver, which shows conditions no Namespace.
        let before = Scope {
            namespace: &Value::Null,
            variables: &[],
            known: RefCell::default(),
            ..scope
        };
        match self.conditions.hold(&before, &mut purse) {
            Ok(true) => {}
            Ok(false) => return Verdict::default(),
            Err(text) => {
                return Verdict {
                    refusals: failed(text).into_iter().collect(),
                    notes: Vec::new(),
                };
            }
        }
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
                Err(text) => refusals.extend(self.fails_closed.then(|| Refusal {
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
    pub(super) fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let acts = |action: &str| items(spec, "validationActions").any(|one| one == action);
        let reference = &spec["paramRef"];
        Self {
            name: text(&object["metadata"], "name"),
            policy: text(spec, "policyName"),
            criteria: spec
                .get("matchResources")
                .map(|matching| Criteria::read(matching, "resourceRules")),
            params: reference.is_object().then(|| ParamRef {
                name: text(reference, "name"),
                namespace: text(reference, "namespace"),
                selector: LabelSelector::read(&reference["selector"]),
                required: reference["parameterNotFoundAction"] == "Deny",
            }),
            denies: acts("Deny"),
            warns: acts("Warn"),
            audits: acts("Audit"),
        }
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

/// A policy with its bindings.
pub(super) struct InForce {
    pub(super) policy: Arc<Policy>,
    pub(super) bindings: Vec<Arc<Binding>>,
}

/// Judges a write by every policy that is in force; the first refusal wins.
pub(super) async fn judge(question: &mut Question<'_>, policies: &[InForce]) -> ApiResult<()> {
    let mut warnings = Vec::new();
    let mut failures = Vec::new();
    let mut denied: Option<(String, String)> = None;
    for InForce { policy, bindings } in policies {
        let subject = Subject::new(question.call, &question.request);
        let resource = match policy.criteria.meant(&subject).await {
            Ok(None) => continue,
            Ok(Some(resource)) => resource,
            Err(error) => {
                let text = format!(
                    "ValidatingAdmissionPolicy '{}' denied request: failed to configure policy: \
                     {error}",
                    policy.name
                );
                deny(&mut denied, policy.fails_closed, text, "Invalid");
                continue;
            }
        };
        if let Some(text) = policy.lacks(question.call) {
            let text = format!(
                "ValidatingAdmissionPolicy '{}' denied request: failed to configure policy: {text}",
                policy.name
            );
            deny(&mut denied, policy.fails_closed, text, "Invalid");
            continue;
        }
        let mut notes = Notes::default();
        for binding in bindings {
            let told = |text: &str| {
                format!(
                    "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {text}",
                    policy.name, binding.name
                )
            };
            let verdict = match ask(&subject, policy, binding, &resource).await {
                Ok(verdict) => verdict,
                Err(error) => {
                    let text = told(&format!("failed to configure binding: {error}"));
                    deny(&mut denied, policy.fails_closed, text, "Invalid");
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
                        policy = %policy.name, binding = %binding.name, %message,
                        "a write breaks an admission policy"
                    );
                    failures.push(json!({
                        "message": message,
                        "policy": policy.name,
                        "binding": binding.name,
                        "expressionIndex": index,
                        "validationActions": binding.actions(),
                    }));
                }
                if binding.warns {
                    warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': \
                         {message}",
                        policy.name, binding.name
                    ));
                }
                deny(&mut denied, binding.denies, told(&message), &reason);
            }
        }
        notes.publish(&policy.name, question.call);
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
    policy: &Policy,
    binding: &Binding,
    resource: &GroupVersionResource,
) -> ApiResult<Verdict> {
    if let Some(criteria) = &binding.criteria
        && criteria.narrowed(subject).await?.is_none()
    {
        return Ok(Verdict::default());
    }
    let params = params(subject, policy, binding).await?;
    if params.is_empty() {
        return Ok(Verdict::default());
    }
    let asked = seen_as(subject.call, subject.request, resource).await?;
    let request = described(&asked);
    // A Namespace is in itself, but not as far as this goes.
    let namespace = match is_namespace(&subject.request.resource) {
        true => None,
        false => subject.namespace().await?,
    };
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

/// `request` as expressions see it: without the objects.
pub(super) fn described(request: &AdmissionRequest) -> Value {
    let mut described = serde_json::to_value(request).unwrap_or_default();
    if let Some(members) = described.as_object_mut() {
        for field in ["object", "oldObject", "uid"] {
            members.remove(field);
        }
        if !request.sub_resource.is_empty() {
            let subresource = request.sub_resource.as_str().into();
            members.insert("requestSubResource".to_owned(), subresource);
        }
    }
    described
}

/// The params of a binding: null where the policy or the binding has none.
async fn params(
    subject: &Subject<'_>,
    policy: &Policy,
    binding: &Binding,
) -> ApiResult<Vec<Value>> {
    let (Some((api_version, kind)), Some(reference)) = (&policy.param_kind, &binding.params) else {
        return Ok(vec![Value::Null]);
    };
    let call = subject.call;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let catalog = call.server.catalog.load();
    let resource = catalog
        .resource_of_kind(group, version, kind)
        .cloned()
        .ok_or_else(|| {
            let described = format!("{api_version}, Kind={kind}");
            ApiError::bare(format!("paramKind kind `{described}` not known"))
        })?;
    let namespace = place(&resource, reference, &subject.request.namespace)?;
    let found = find(call, &resource, reference, namespace).await?;
    if found.is_empty() && reference.required {
        return Err(ApiError::bare(
            "no params found for policy binding with `Deny` parameterNotFoundAction",
        ));
    }
    Ok(found)
}

/// The Namespace in which params are looked for.
fn place<'a>(
    resource: &Resource,
    reference: &'a ParamRef,
    request: &'a str,
) -> ApiResult<Option<&'a str>> {
    match (resource.is_namespaced(), reference.namespace.as_str()) {
        (false, "") => Ok(None),
        (false, _) => Err(ApiError::bare(
            "paramRef.namespace must not be provided for a cluster-scoped `paramKind`",
        )),
        (true, "") if request.is_empty() => Err(ApiError::bare(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped \
             resources",
        )),
        (true, "") => Ok(Some(request)),
        (true, namespace) => Ok(Some(namespace)),
    }
}

/// Read from the store as of now: a param that was just written counts.
async fn find(
    call: &Call,
    resource: &Resource,
    reference: &ParamRef,
    namespace: Option<&str>,
) -> ApiResult<Vec<Value>> {
    let store = &call.server.store;
    let mut entries = if reference.name.is_empty() {
        let range = resource.range(namespace);
        let page = store.list(&range, ReadAt::Latest, None).await;
        page.map_err(store_error)?.entries
    } else {
        let key = resource.key(namespace, &reference.name);
        let entry = store.get(&key).await.map_err(store_error)?;
        entry.into_iter().collect()
    };
    convert::entries(&call.server, resource, &mut entries, call.deadline).await?;
    let mut found = Vec::new();
    for entry in &entries {
        let object = served::value(resource, entry)?;
        if !reference.name.is_empty() || reference.selector.accepts(labels(&object)) {
            found.push(object);
        }
    }
    Ok(found)
}

//! In which order webhooks are asked, and what follows from their answers.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use futures::future::join_all;
use rdd_admission::{AdmissionRequest, GroupVersionResource};
use serde_json::Value;

use super::{
    Question,
    authority::{self, Checks},
    configurations::Webhook,
    expressions::{Purse, Scope},
    frame::described,
    keep_type, kind_of,
    matching::Subject,
    review::{self, Judgement, Outcome, Patch},
    settle,
};
use crate::{
    catalog::{Resource, Subresource},
    outbound::CallError,
    status::{ApiError, ApiResult},
    verbs::{call::Call, convert},
};

/// Asks every webhook that is meant, one after the other, each seeing what the one
/// before made of the object. The answer is whether any of them changed it.
pub(super) async fn mutate<'a>(
    question: &mut Question<'_>,
    webhooks: &'a [Arc<Webhook>],
    again: &mut Reinvocation<'a>,
) -> ApiResult<bool> {
    let mut changed = false;
    for webhook in webhooks {
        changed |= again.ask(question, webhook).await?;
    }
    again.left = question.request.object.clone();
    Ok(changed)
}

/// Asks those a second time that want to know what others made of the object after them.
pub(super) async fn mutate_again<'a>(
    question: &mut Question<'_>,
    webhooks: &'a [Arc<Webhook>],
    again: &mut Reinvocation<'a>,
) -> ApiResult<()> {
    if question.request.object != again.left {
        again.require();
    }
    for webhook in webhooks {
        if again.required.contains(webhook.id.as_str()) {
            again.ask(question, webhook).await?;
        }
    }
    Ok(())
}

/// Asks every webhook that is meant, side by side; the first refusal in order wins.
pub(super) async fn validate(
    question: &mut Question<'_>,
    webhooks: &[Arc<Webhook>],
) -> ApiResult<()> {
    let (call, request) = (question.call, &question.request);
    let answers = join_all(webhooks.iter().map(|webhook| async move {
        let Some(asked) = meant(call, request, webhook).await? else {
            return Ok((Vec::new(), Ok(())));
        };
        match excused(webhook, ask(call, webhook, &asked, false).await)? {
            None => Ok((Vec::new(), Ok(()))),
            Some(Judgement {
                outcome, warnings, ..
            }) => Ok((
                warnings,
                match outcome {
                    Outcome::Allowed(_) => Ok(()),
                    Outcome::Denied(status) => {
                        Err(ApiError::webhook_denied(&webhook.name, &status))
                    }
                },
            )),
        }
    }))
    .await;
    // Who refuses may warn as well; the first refusal wins.
    let mut judged = Ok(());
    for answer in answers {
        match answer {
            Ok((warnings, verdict)) => {
                question.warn(warnings);
                judged = judged.and(verdict);
            }
            Err(error) => judged = judged.and(Err(error)),
        }
    }
    judged
}

/// Who has been asked, and who has to be asked again.
#[derive(Default)]
pub(super) struct Reinvocation<'a> {
    asked: BTreeSet<&'a str>,
    required: BTreeSet<&'a str>,
    /// The object as it was when all had been asked.
    left: Value,
}

impl<'a> Reinvocation<'a> {
    /// Everybody who was asked so far is asked again.
    fn require(&mut self) {
        self.required.append(&mut self.asked);
    }

    /// Whether the webhook changed the object.
    async fn ask(&mut self, question: &mut Question<'_>, webhook: &'a Webhook) -> ApiResult<bool> {
        let call = question.call;
        let Some(asked) = meant(call, &question.request, webhook).await? else {
            return Ok(false);
        };
        let mut changed = false;
        let answer = ask(call, webhook, &asked, true).await;
        if let Some(Judgement {
            outcome, warnings, ..
        }) = excused(webhook, answer)?
        {
            question.warn(warnings);
            let patch = match outcome {
                Outcome::Denied(status) => {
                    return Err(ApiError::webhook_denied(&webhook.name, &status));
                }
                Outcome::Allowed(patch) => patch,
            };
            if let Some(patch) = patch {
                let after = patched(call, webhook, &asked, &patch);
                if let Some(Some(after)) = excused(webhook, after)? {
                    let own = &question.request.resource;
                    let mut after = converted(call, &asked.resource, own, after).await?;
                    if asked.resource != *own && !is_foreign(call) {
                        settle(call, &call.resource, &mut after).map_err(ApiError::internal)?;
                    }
                    changed = after != question.request.object;
                    question.request.object = after;
                }
            }
        }
        if changed {
            self.require();
        }
        if webhook.reinvoked {
            self.asked.insert(&webhook.id);
        }
        Ok(changed)
    }
}

/// Why there is no answer.
enum Unanswered {
    /// The webhook failed; its failure policy decides.
    Failed(String),
    /// Nothing excuses this.
    Refused(ApiError),
}

/// Applies the failure policy: no answer is nothing said, or a refusal.
fn excused<T>(webhook: &Webhook, answer: Result<T, Unanswered>) -> ApiResult<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Unanswered::Refused(error)) => Err(error),
        Err(Unanswered::Failed(text)) => {
            let text = format!("failed calling webhook {:?}: {text}", webhook.name);
            if webhook.fails_closed {
                return Err(ApiError::internal(text));
            }
            tracing::warn!(reason = %text, "a webhook failed open");
            Ok(None)
        }
    }
}

/// The request as this webhook is to see it, if it is meant at all.
async fn meant(
    call: &Call,
    request: &AdmissionRequest,
    webhook: &Webhook,
) -> ApiResult<Option<AdmissionRequest>> {
    let subject = Subject::new(call, request);
    let Some(resource) = webhook.criteria.meant(&subject).await? else {
        return Ok(None);
    };
    let rules = call.server.admission.rules();
    if rules.stands_for(&webhook.name, webhook.endpoint.url()) {
        return Ok(None);
    }
    let asked = seen_as(call, request, &resource).await?;
    if webhook.conditions.is_empty() {
        return Ok(Some(asked));
    }
    let described = described(&asked);
    let resource = authority::of_request(&asked);
    let mut checks = Checks::default();
    let holds = loop {
        let holds = webhook.conditions.hold(
            &Scope {
                object: &asked.object,
                old_object: &asked.old_object,
                request: &described,
                namespace: &Value::Null,
                params: &Value::Null,
                authority: &checks,
                resource: &resource,
                variables: &[],
                known: RefCell::default(),
            },
            &mut Purse::of_conditions(),
        );
        if !checks.answer(call).await {
            break holds;
        }
    };
    match holds {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(text) if webhook.fails_closed => {
            return Err(ApiError::forbidden(&call.resource, &request.name, &text));
        }
        Err(_) => return Ok(None),
    }
    Ok(Some(asked))
}

/// The request as if it had been made in this version of the resource.
pub(super) async fn seen_as(
    call: &Call,
    request: &AdmissionRequest,
    resource: &GroupVersionResource,
) -> ApiResult<AdmissionRequest> {
    let mut asked = request.clone();
    asked.uid = uuid::Uuid::new_v4().to_string();
    if *resource != request.resource {
        for object in [&mut asked.object, &mut asked.old_object] {
            let given = std::mem::take(object);
            *object = converted(call, &request.resource, resource, given).await?;
        }
        if let Some(target) = served(call, resource)
            && call.subresource != Some(Subresource::Scale)
        {
            asked.kind = kind_of(&target);
        }
        asked.resource = resource.clone();
    }
    Ok(asked)
}

async fn ask(
    call: &Call,
    webhook: &Webhook,
    asked: &AdmissionRequest,
    mutating: bool,
) -> Result<Judgement, Unanswered> {
    if asked.dry_run && !webhook.dry_runs {
        return Err(Unanswered::Refused(ApiError::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            webhook.name
        ))));
    }
    let body = review::question(asked, webhook.review_version).map_err(|error| {
        Unanswered::Failed(format!("could not create admission objects: {error}"))
    })?;
    let answer = webhook
        .endpoint
        .post(body, webhook.timeout, call.deadline)
        .await
        .map_err(|error| {
            Unanswered::Failed(match error {
                CallError::NoClient(text) => format!("could not get REST client: {text}"),
                CallError::Failed(text) => format!("failed to call webhook: {text}"),
            })
        })?;
    let judgement = review::judgement(&answer, webhook.review_version, &asked.uid, mutating)
        .map_err(Unanswered::Failed)?;
    for (key, value) in &judgement.annotations {
        call.annotate(|| format!("{}/{key}", webhook.name), || value.clone());
    }
    Ok(judgement)
}

/// The object with the webhook's changes; none when there are none.
fn patched(
    call: &Call,
    webhook: &Webhook,
    asked: &AdmissionRequest,
    patch: &Patch,
) -> Result<Option<Value>, Unanswered> {
    let broken = |text: String| Unanswered::Refused(ApiError::internal(text));
    let patch = match patch.parse() {
        Ok(Some(patch)) => patch,
        Ok(None) => return Ok(None),
        Err(text) => return Err(Unanswered::Failed(text)),
    };
    if asked.object.is_null() {
        return Err(broken(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for \
             this operation",
            webhook.name
        )));
    }
    let mut object = asked.object.clone();
    patch
        .apply(&mut object)
        .map_err(|error| broken(error.to_string()))?;
    let own = served(call, &asked.resource);
    let who = format!("admission webhook {:?}", webhook.name);
    keep_type(own.as_deref(), &who, &asked.object, &mut object).map_err(broken)?;
    if let (Some(own), false) = (own, is_foreign(call)) {
        settle(call, &own, &mut object).map_err(broken)?;
    }
    Ok(Some(object))
}

/// Whether what is asked about is of another kind than the resource: what a Scale or a
/// TokenRequest became is looked at by those who asked.
pub(super) fn is_foreign(call: &Call) -> bool {
    matches!(
        call.subresource,
        Some(Subresource::Scale | Subresource::Token)
    )
}

pub(super) fn served(call: &Call, resource: &GroupVersionResource) -> Option<Arc<Resource>> {
    let GroupVersionResource {
        group,
        version,
        resource,
    } = resource;
    let own = &call.resource;
    if own.group == *group && own.version == *version && own.plural == *resource {
        return Some(Arc::clone(own));
    }
    let catalog = call.server.catalog.load();
    catalog.resource(group, version, resource).cloned()
}

/// The object in another version of its resource. A Scale is the same in all.
pub(super) async fn converted(
    call: &Call,
    from: &GroupVersionResource,
    to: &GroupVersionResource,
    object: Value,
) -> ApiResult<Value> {
    if from == to || object.is_null() || call.subresource == Some(Subresource::Scale) {
        return Ok(object);
    }
    match (served(call, from), served(call, to)) {
        (Some(from), Some(to)) => convert::between(call, &from, &to, object).await,
        _ => Err(ApiError::unknown_resource()),
    }
}

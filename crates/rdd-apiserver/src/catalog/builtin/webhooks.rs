//! MutatingWebhookConfigurations and ValidatingWebhookConfigurations.

use std::{collections::HashSet, sync::Arc};

use rdd_schema::{FieldError, names};
use serde_json::{Map, Value, json};

use super::{
    rules::{
        FAILURE_POLICIES, MATCH_POLICIES, bump_generation, condition_errors, default_match, fill,
        list, one_of, rule_errors, selector_errors, text, texts,
    },
    zero::Form,
};
use crate::{
    admission::expressions,
    catalog::{
        Strategy, WriteContext,
        client_config::{self, SERVICE_PORT},
        crd::label_problems,
    },
};

/// How long a webhook may take where nothing is said.
const TIMEOUT_SECONDS: i64 = 10;

/// The side effects that a webhook may have.
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
/// Those that older configurations may have kept.
const OLD_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];

const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];

/// The versions of AdmissionReview that the server speaks.
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];

/// Named webhooks in order.
pub(super) struct WebhookStrategy {
    pub(super) form: Arc<Form>,
    /// A MutatingWebhookConfiguration rather than a validating one.
    pub(super) mutating: bool,
}

/// Where a client wrote an empty list that is left out when it is written back.
fn empty_lists(object: &Value) -> Vec<String> {
    let is_empty = |pointer: &String| {
        let list = object.pointer(pointer).and_then(Value::as_array);
        list.is_some_and(Vec::is_empty)
    };
    let count = object["webhooks"].as_array().map_or(0, Vec::len);
    let within = (0..count).flat_map(|index| {
        ["rules", "matchConditions"].map(|name| format!("/webhooks/{index}/{name}"))
    });
    let all = std::iter::once("/webhooks".to_owned()).chain(within);
    all.filter(is_empty).collect()
}

impl Strategy for WebhookStrategy {
    fn blank(&self) -> Value {
        self.form.empty()
    }

    /// Empty lists stay in until the generation is counted: to kube-apiserver one is not
    /// the same as none, and that is all that it ever makes of it.
    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        let empty: Vec<String> = empty_lists(object);
        self.form.apply(object);
        for pointer in empty {
            let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
            if let Some(Value::Object(members)) = object.pointer_mut(parent) {
                members.entry(name).or_insert_with(|| json!([]));
            }
        }
        let webhooks = object.get_mut("webhooks").and_then(Value::as_array_mut);
        for webhook in webhooks.into_iter().flatten() {
            if let Some(webhook) = webhook.as_object_mut() {
                self.default_webhook(webhook);
            }
        }
    }

    fn prepare_create(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.form.apply(object);
    }

    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        bump_generation(object, old, "webhooks");
        self.form.apply(object);
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        self.validate(object, &Leniency::default())
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        self.validate(object, &Leniency::towards(old))
    }
}

/// What an update may keep although a create may not have it.
#[derive(Default)]
struct Leniency {
    side_effects: bool,
    unknown_versions: bool,
    duplicate_names: bool,
}

impl Leniency {
    fn towards(old: &Value) -> Self {
        let has = |wrong: &dyn Fn(&Value) -> bool| list(old, "webhooks").any(wrong);
        let mut seen = HashSet::new();
        let duplicate_names =
            list(old, "webhooks").any(|webhook| !seen.insert(text(webhook, "name")));
        Self {
            side_effects: has(&|webhook| !SIDE_EFFECTS.contains(&text(webhook, "sideEffects"))),
            unknown_versions: has(&|webhook| !speaks_known_version(webhook)),
            duplicate_names,
        }
    }
}

fn speaks_known_version(webhook: &Value) -> bool {
    texts(webhook, "admissionReviewVersions")
        .iter()
        .any(|version| REVIEW_VERSIONS.contains(version))
}

impl WebhookStrategy {
    fn default_webhook(&self, webhook: &mut Map<String, Value>) {
        fill(webhook, "failurePolicy", json!("Fail"));
        fill(webhook, "timeoutSeconds", json!(TIMEOUT_SECONDS));
        if self.mutating {
            fill(webhook, "reinvocationPolicy", json!("Never"));
        }
        default_match(webhook, &["rules"]);
        let service = webhook
            .get_mut("clientConfig")
            .and_then(|client| client.get_mut("service"))
            .and_then(Value::as_object_mut);
        if let Some(service) = service {
            fill(service, "port", json!(SERVICE_PORT));
        }
    }

    fn validate(&self, object: &Value, leniency: &Leniency) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut seen = HashSet::new();
        for (index, webhook) in list(object, "webhooks").enumerate() {
            let base = format!("webhooks[{index}]");
            self.webhook_errors(webhook, &base, leniency, &mut errors);
            version_errors(webhook, &base, leniency, &mut errors);
            let name = text(webhook, "name");
            if !leniency.duplicate_names && !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{base}.name"), name));
            }
        }
        errors
    }

    fn webhook_errors(
        &self,
        webhook: &Value,
        base: &str,
        leniency: &Leniency,
        errors: &mut Vec<FieldError>,
    ) {
        let at = |field: &str| format!("{base}.{field}");
        name_errors(text(webhook, "name"), &at("name"), errors);
        for (index, rule) in list(webhook, "rules").enumerate() {
            rule_errors(rule, &format!("{base}.rules[{index}]"), errors);
        }
        one_of(webhook, "failurePolicy", base, FAILURE_POLICIES, errors);
        one_of(webhook, "matchPolicy", base, MATCH_POLICIES, errors);
        let allowed = if leniency.side_effects {
            OLD_SIDE_EFFECTS
        } else {
            SIDE_EFFECTS
        };
        if webhook.get("sideEffects").is_none() {
            errors.push(FieldError::required(
                at("sideEffects"),
                format!("must specify one of {}", allowed.join(", ")),
            ));
        }
        one_of(webhook, "sideEffects", base, allowed, errors);
        if let Some(seconds) = webhook.get("timeoutSeconds").and_then(Value::as_i64)
            && !(1..=30).contains(&seconds)
        {
            errors.push(FieldError::invalid(
                at("timeoutSeconds"),
                seconds,
                "the timeout value must be between 1 and 30 seconds",
            ));
        }
        for field in ["namespaceSelector", "objectSelector"] {
            selector_errors(&webhook[field], &at(field), errors);
        }
        if self.mutating {
            one_of(
                webhook,
                "reinvocationPolicy",
                base,
                REINVOCATION_POLICIES,
                errors,
            );
        }
        client_config::errors(&webhook["clientConfig"], &at("clientConfig"), errors);
        condition_errors(
            webhook,
            &at("matchConditions"),
            &expressions::of_webhooks(),
            errors,
        );
    }
}

fn name_errors(name: &str, at: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(at, ""));
        return;
    }
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        for problem in problems {
            errors.push(FieldError::invalid(at, name, problem));
        }
    } else if name.split('.').count() < 3 {
        errors.push(FieldError::invalid(
            at,
            name,
            "should be a domain with at least three segments separated by dots",
        ));
    }
}

fn version_errors(webhook: &Value, base: &str, leniency: &Leniency, errors: &mut Vec<FieldError>) {
    let at = format!("{base}.admissionReviewVersions");
    let versions = texts(webhook, "admissionReviewVersions");
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        errors.push(FieldError::required(
            at,
            format!("must specify one of {known}"),
        ));
        return;
    }
    let mut seen = HashSet::new();
    for (index, version) in versions.iter().enumerate() {
        let at = format!("{at}[{index}]");
        if !seen.insert(*version) {
            errors.push(FieldError::invalid(at, *version, "duplicate version"));
            continue;
        }
        for problem in label_problems(version) {
            errors.push(FieldError::invalid(at.as_str(), *version, problem));
        }
    }
    if !leniency.unknown_versions && !speaks_known_version(webhook) {
        errors.push(FieldError::invalid(
            at,
            json!(versions),
            format!("must include at least one of {known}"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::builtin::Document;

    fn strategy() -> WebhookStrategy {
        WebhookStrategy {
            form: Document::mutating_webhook_configuration().form,
            mutating: true,
        }
    }

    fn webhook(change: &Value) -> Value {
        let mut webhook = json!({
            "name": "a.example.com", "clientConfig": {"url": "https://127.0.0.1/x"},
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
        });
        for (key, value) in change.as_object().into_iter().flatten() {
            webhook[key] = value.clone();
        }
        json!({"webhooks": [webhook]})
    }

    fn check(change: &Value, expect: &[&str]) {
        let errors = strategy().validate(&webhook(change), &Leniency::default());
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expect);
    }

    #[test]
    fn a_webhook_says_who_it_is_and_how_it_is_reached() {
        check(&json!({}), &[]);
        check(&json!({"name": ""}), &["webhooks[0].name: Required value"]);
        check(
            &json!({"name": "a.b"}),
            &[
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three \
               segments separated by dots",
            ],
        );
        check(
            &json!({"sideEffects": "Some"}),
            &[
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \
               \"NoneOnDryRun\"",
            ],
        );
        check(
            &json!({"timeoutSeconds": 31}),
            &[
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 \
               and 30 seconds",
            ],
        );
        check(
            &json!({"clientConfig": {"service": {"name": "s", "namespace": "", "path": "a//b"}}}),
            &[
                "webhooks[0].clientConfig.service.name: Required value",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": must start with a \
                 '/'",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": segment[0] may \
                 not be empty",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": segment[1] may \
                 not be empty",
            ],
        );
        check(
            &json!({"admissionReviewVersions": ["v2", "v2"]}),
            &[
                "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version",
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include \
                 at least one of v1, v1beta1",
            ],
        );
    }

    #[test]
    fn an_update_may_keep_what_was_allowed_once() {
        let old = webhook(&json!({"sideEffects": "Some", "admissionReviewVersions": ["v9"]}));
        assert!(
            strategy()
                .validate(&old, &Leniency::towards(&old))
                .is_empty()
        );
        assert_eq!(strategy().validate(&old, &Leniency::default()).len(), 2);
    }
}

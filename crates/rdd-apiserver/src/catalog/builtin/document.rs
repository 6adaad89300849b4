//! Reads the schema documents.
//!
//! They are OpenAPI v3 with the `x-kubernetes-*` extensions, and three words of ours
//! that are taken out before anybody else sees them:
//!
//! | Word | Meaning |
//! |---|---|
//! | `x-rdd-zero: keep` | the field is a pointer in Go: its zero value is a value, only null is absence |
//! | `x-rdd-zero: fill` | the field is always written; when absent as `x-rdd-fill` |
//! | `x-rdd-field: n` | the field's number in protobuf; `[n, m]` is field m of the message in field n, whose fields JSON shows among the outer ones |
//!
//! A field without `x-rdd-zero` is left out when it holds its zero value. A `$ref`
//! names an entry of `schemas/definitions.json`; keywords beside it win.

use std::sync::Arc;

use rdd_schema::Schema;
use serde_json::{Map, Value};

use super::zero::Form;
use crate::encoding::protobuf::Message;

const DEFINITIONS: &str = include_str!("schemas/definitions.json");

const PARTIAL_METADATA: &str = r#"{"type": "object", "properties": {"metadata": {
    "$ref": "ObjectMeta", "x-rdd-zero": "fill", "x-rdd-fill": {}, "x-rdd-field": 1
}}}"#;

/// One kind's schema, and the form in which its objects are written.
pub struct Document {
    /// For decoding, merging and publishing.
    pub schema: Arc<Schema>,
    /// For writing.
    pub form: Arc<Form>,
    /// For bodies and answers in protobuf.
    pub message: Arc<Message>,
}

impl Document {
    fn read(text: &str) -> Self {
        let mut document = resolved(text);
        let form = Form::of(&document);
        let message = Message::of(&document);
        strip(&mut document);
        let mut schema =
            Schema::parse(&document).expect("the embedded documents are structural schemas");
        schema.document = Some(Arc::new(document));
        Self {
            schema: Arc::new(schema),
            form: Arc::new(form),
            message: Arc::new(message),
        }
    }

    /// What all objects have in common: their metadata.
    #[must_use]
    pub fn partial_metadata() -> Self {
        Self::read(PARTIAL_METADATA)
    }

    /// The same as a document with the words of ours.
    #[must_use]
    pub fn partial_metadata_document() -> Value {
        resolved(PARTIAL_METADATA)
    }

    /// Namespace.
    #[must_use]
    pub fn namespace() -> Self {
        Self::read(include_str!("schemas/namespace.json"))
    }

    /// ConfigMap.
    #[must_use]
    pub fn config_map() -> Self {
        Self::read(include_str!("schemas/configmap.json"))
    }

    /// Secret.
    #[must_use]
    pub fn secret() -> Self {
        Self::read(include_str!("schemas/secret.json"))
    }

    /// ServiceAccount.
    #[must_use]
    pub fn service_account() -> Self {
        Self::read(include_str!("schemas/serviceaccount.json"))
    }

    /// Event of the core group.
    #[must_use]
    pub fn event() -> Self {
        Self::read(include_str!("schemas/event.json"))
    }

    /// Event of `events.k8s.io`.
    #[must_use]
    pub fn events_event() -> Self {
        Self::read(include_str!("schemas/event.events.json"))
    }

    /// Lease.
    #[must_use]
    pub fn lease() -> Self {
        Self::read(include_str!("schemas/lease.json"))
    }

    /// Scale, which is no kind of its own but a view of others.
    #[must_use]
    pub fn scale() -> Self {
        Self::read(include_str!("schemas/scale.json"))
    }

    /// Role.
    #[must_use]
    pub fn role() -> Self {
        Self::read(include_str!("schemas/role.json"))
    }

    /// ClusterRole.
    #[must_use]
    pub fn cluster_role() -> Self {
        Self::read(include_str!("schemas/clusterrole.json"))
    }

    /// RoleBinding.
    #[must_use]
    pub fn role_binding() -> Self {
        Self::read(include_str!("schemas/rolebinding.json"))
    }

    /// ClusterRoleBinding.
    #[must_use]
    pub fn cluster_role_binding() -> Self {
        Self::read(include_str!("schemas/clusterrolebinding.json"))
    }

    /// CustomResourceDefinition.
    #[must_use]
    pub fn custom_resource_definition() -> Self {
        Self::read(include_str!("schemas/customresourcedefinition.json"))
    }

    /// MutatingWebhookConfiguration.
    #[must_use]
    pub fn mutating_webhook_configuration() -> Self {
        Self::read(include_str!("schemas/mutatingwebhookconfiguration.json"))
    }

    /// ValidatingWebhookConfiguration.
    #[must_use]
    pub fn validating_webhook_configuration() -> Self {
        Self::read(include_str!("schemas/validatingwebhookconfiguration.json"))
    }

    /// ValidatingAdmissionPolicy.
    #[must_use]
    pub fn validating_admission_policy() -> Self {
        Self::read(include_str!("schemas/validatingadmissionpolicy.json"))
    }

    /// MutatingAdmissionPolicy.
    #[must_use]
    pub fn mutating_admission_policy() -> Self {
        Self::read(include_str!("schemas/mutatingadmissionpolicy.json"))
    }

    /// MutatingAdmissionPolicyBinding.
    #[must_use]
    pub fn mutating_admission_policy_binding() -> Self {
        Self::read(include_str!("schemas/mutatingadmissionpolicybinding.json"))
    }

    /// ValidatingAdmissionPolicyBinding.
    #[must_use]
    pub fn validating_admission_policy_binding() -> Self {
        Self::read(include_str!(
            "schemas/validatingadmissionpolicybinding.json"
        ))
    }

    /// APIService.
    #[must_use]
    pub fn api_service() -> Self {
        Self::read(include_str!("schemas/apiservice.json"))
    }

    /// SubjectAccessReview.
    #[must_use]
    pub fn subject_access_review() -> Self {
        Self::read(include_str!("schemas/subjectaccessreview.json"))
    }

    /// LocalSubjectAccessReview.
    #[must_use]
    pub fn local_subject_access_review() -> Self {
        Self::read(include_str!("schemas/localsubjectaccessreview.json"))
    }

    /// SelfSubjectAccessReview.
    #[must_use]
    pub fn self_subject_access_review() -> Self {
        Self::read(include_str!("schemas/selfsubjectaccessreview.json"))
    }

    /// SelfSubjectRulesReview.
    #[must_use]
    pub fn self_subject_rules_review() -> Self {
        Self::read(include_str!("schemas/selfsubjectrulesreview.json"))
    }

    /// SelfSubjectReview.
    #[must_use]
    pub fn self_subject_review() -> Self {
        Self::read(include_str!("schemas/selfsubjectreview.json"))
    }

    /// TokenReview.
    #[must_use]
    pub fn token_review() -> Self {
        Self::read(include_str!("schemas/tokenreview.json"))
    }

    /// TokenRequest.
    #[must_use]
    pub fn token_request() -> Self {
        Self::read(include_str!("schemas/tokenrequest.json"))
    }
}

/// A document without references.
fn resolved(text: &str) -> Value {
    let definitions: Value =
        serde_json::from_str(DEFINITIONS).expect("the embedded definitions are JSON");
    let document: Value = serde_json::from_str(text).expect("the embedded documents are JSON");
    resolve(document, &definitions)
}

/// Puts definitions in the place of references to them.
fn resolve(node: Value, definitions: &Value) -> Value {
    match node {
        Value::Object(mut members) => {
            if let Some(Value::String(name)) = members.remove("$ref") {
                let mut merged = definitions
                    .get(&name)
                    .and_then(Value::as_object)
                    .cloned()
                    .expect("every reference names a definition");
                merged.extend(members);
                return resolve(Value::Object(merged), definitions);
            }
            let resolved: Map<String, Value> = members
                .into_iter()
                .map(|(key, value)| (key, resolve(value, definitions)))
                .collect();
            Value::Object(resolved)
        }
        Value::Array(items) => items
            .into_iter()
            .map(|item| resolve(item, definitions))
            .collect(),
        other => other,
    }
}

/// Takes our own words out.
fn strip(node: &mut Value) {
    match node {
        Value::Object(members) => {
            members.retain(|key, _| !key.starts_with("x-rdd-"));
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_is_read() {
        for document in [
            Document::namespace(),
            Document::config_map(),
            Document::secret(),
            Document::service_account(),
            Document::event(),
            Document::events_event(),
            Document::lease(),
            Document::role(),
            Document::cluster_role(),
            Document::role_binding(),
            Document::cluster_role_binding(),
            Document::custom_resource_definition(),
            Document::mutating_webhook_configuration(),
            Document::validating_webhook_configuration(),
            Document::validating_admission_policy(),
            Document::validating_admission_policy_binding(),
            Document::api_service(),
        ] {
            assert!(document.schema.properties.contains_key("metadata"));
            assert!(document.schema.description.is_some());
        }
    }

    #[test]
    fn words_of_ours_are_not_published() {
        let schema = Document::event().schema;
        let published = schema.document.as_deref().map(Value::to_string);
        assert!(!published.unwrap_or_default().contains("x-rdd"));
    }
}

//! Namespaces.

use std::sync::Arc;

use rdd_schema::{FieldError, names};
use serde_json::{Value, json};

use super::zero::Form;
use crate::{
    catalog::{Resource, Strategy, Subresource, WriteContext},
    object::{is_deleting, meta, metadata_mut},
};

/// The finalizer of whoever empties the Namespace.
pub(crate) const FINALIZER: &str = "kubernetes";

/// The label that carries the name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Namespaces without which a control plane is none.
const PROTECTED: &[&str] = &["default", "kube-system", "kube-public"];

/// Label, finalizer and phase.
pub(super) struct NamespaceStrategy(pub(super) Arc<Form>);

impl Strategy for NamespaceStrategy {
    fn blank(&self) -> Value {
        self.0.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.0.apply(object);
        set_name_label(object);
        let phase = object["status"]["phase"].as_str();
        if phase.unwrap_or_default().is_empty() {
            object["status"]["phase"] = "Active".into();
        }
    }

    fn prepare_create(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        object["status"] = json!({"phase": "Active"});
        let mut finalizers = finalizers(object);
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        object["spec"]["finalizers"] = finalizers.into();
    }

    fn prepare_update(&self, cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        match cx.subresource {
            Some(Subresource::Status) => restore(object, old, "spec"),
            Some(Subresource::Finalize) => restore(object, old, "status"),
            _ => {
                restore(object, old, "spec");
                restore(object, old, "status");
            }
        }
        set_name_label(object);
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        finalizer_errors(object, |_| "spec.finalizers".to_owned())
    }

    fn canonicalize(&self, object: &mut Value) {
        set_name_label(object);
    }

    fn reset_fields(
        &self,
        _resource: &Resource,
        subresource: Option<Subresource>,
    ) -> Vec<Vec<String>> {
        let field = match subresource {
            Some(Subresource::Status) => "spec",
            _ => "status",
        };
        vec![vec![field.to_owned()]]
    }

    fn validate_update(
        &self,
        cx: &WriteContext<'_>,
        object: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        match cx.subresource {
            Some(Subresource::Finalize) => {
                finalizer_errors(object, |index| format!("spec.finalizers[{index}]"))
            }
            Some(Subresource::Status) => phase_error(object).into_iter().collect(),
            // What is there already, and so without effect unless it was never right.
            _ => finalizer_errors(object, |_| "spec.finalizers".to_owned()),
        }
    }

    fn name_errors(&self, name: &str, _prefix: bool) -> Vec<String> {
        if name.contains('.') && names::dns1123_subdomain(name).is_empty() {
            return vec!["must not contain dots".to_owned()];
        }
        let mut errors = names::dns1123_label(name);
        for error in &mut errors {
            if error.starts_with("must be no more than") {
                *error = error.replace("bytes", "characters");
            }
        }
        errors
    }

    fn prepare_delete(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        object["status"]["phase"] = "Terminating".into();
        if let Some(metadata) = metadata_mut(object) {
            metadata.remove("deletionGracePeriodSeconds");
        }
    }

    fn refuses_delete(&self, name: &str) -> Option<String> {
        PROTECTED
            .contains(&name)
            .then(|| "this namespace may not be deleted".to_owned())
    }

    fn holds(&self, object: &Value) -> bool {
        !finalizers(object).is_empty()
    }
}

fn finalizers(object: &Value) -> Vec<Value> {
    object["spec"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn set_name_label(object: &mut Value) {
    let name = meta(object, "name").to_owned();
    if name.is_empty() {
        return;
    }
    if let Some(metadata) = metadata_mut(object) {
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(NAME_LABEL.to_owned(), name.into());
        }
    }
}

fn restore(object: &mut Value, old: &Value, field: &str) {
    object[field] = old.get(field).cloned().unwrap_or_else(|| json!({}));
}

fn finalizer_errors(object: &Value, field: impl Fn(usize) -> String) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, finalizer) in finalizers(object).iter().enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        let field = field(index);
        let syntax = names::qualified_name(name);
        errors.extend(
            syntax
                .into_iter()
                .map(|text| FieldError::invalid(field.clone(), name, text)),
        );
        let standard = ["orphan", "foregroundDeletion", FINALIZER].contains(&name);
        if !name.contains('/') && !standard {
            errors.push(FieldError::invalid(
                field,
                name,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    errors
}

fn phase_error(object: &Value) -> Option<FieldError> {
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    let (expect, text) = if is_deleting(object) {
        (
            "Terminating",
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        )
    } else {
        (
            "Active",
            "may only be 'Active' if `deletionTimestamp` is empty",
        )
    };
    (phase != expect).then(|| FieldError::invalid("status.Phase", phase, text))
}

//! ConfigMaps.

use std::sync::Arc;

use rdd_schema::{FieldError, FieldErrorKind};
use serde_json::Value;

use super::{data_keys, zero::Form};
use crate::catalog::{Strategy, WriteContext};

/// Keys, size, immutability.
pub(super) struct ConfigMapStrategy(pub(super) Arc<Form>);

impl Strategy for ConfigMapStrategy {
    fn blank(&self) -> Value {
        self.0.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.0.apply(object);
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        validate(object)
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        let mut errors = frozen(object, old, &["data", "binaryData"]);
        errors.extend(validate(object));
        errors
    }
}

/// What an object that was marked `immutable` may not change.
pub(super) fn frozen(object: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    const TEXT: &str = "field is immutable when `immutable` is set";
    let immutable = |object: &Value| object.get("immutable") == Some(&Value::Bool(true));
    if !immutable(old) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if !immutable(object) {
        errors.push(FieldError::forbidden("immutable", TEXT));
    }
    for field in fields {
        if object.get(field) != old.get(field) {
            errors.push(FieldError::forbidden(*field, TEXT));
        }
    }
    errors
}

fn validate(object: &Value) -> Vec<FieldError> {
    let members = |field: &str| object.get(field).and_then(Value::as_object);
    let binary = members("binaryData");
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in members("data").into_iter().flatten() {
        errors.extend(data_keys::errors("data", key));
        if binary.is_some_and(|binary| binary.contains_key(key)) {
            errors.push(FieldError::invalid(
                format!("data[{key}]"),
                key.as_str(),
                "duplicate of key present in binaryData",
            ));
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in binary.into_iter().flatten() {
        errors.extend(data_keys::errors("binaryData", key));
        size += value.as_str().map_or(0, data_keys::decoded_len);
    }
    if size > data_keys::VALUES_MAX {
        // The sum belongs to no single field, which Kubernetes prints as `[]`.
        errors.push(FieldError::new(
            FieldErrorKind::TooLong,
            "[]",
            None,
            format!("may not be more than {} bytes", data_keys::VALUES_MAX),
        ));
    }
    errors
}

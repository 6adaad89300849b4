//! Leases.

use std::sync::Arc;

use rdd_schema::FieldError;
use serde_json::Value;

use super::zero::Form;
use crate::catalog::{Strategy, WriteContext};

/// Positive durations; nothing of coordinated leader election.
pub(super) struct LeaseStrategy(pub(super) Arc<Form>);

impl Strategy for LeaseStrategy {
    fn blank(&self) -> Value {
        self.0.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.0.apply(object);
    }

    fn prepare_create(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        drop_election(object);
    }

    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, _old: &Value) {
        drop_election(object);
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        validate(object)
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        validate(object)
    }
}

fn drop_election(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("strategy");
        spec.remove("preferredHolder");
    }
}

fn validate(object: &Value) -> Vec<FieldError> {
    let number = |field: &str| object.get("spec")?.get(field)?.as_i64();
    let mut errors = Vec::new();
    if let Some(seconds) = number("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid(
            "spec.leaseDurationSeconds",
            seconds,
            "must be greater than 0",
        ));
    }
    if let Some(count) = number("leaseTransitions").filter(|count| *count < 0) {
        errors.push(FieldError::invalid(
            "spec.leaseTransitions",
            count,
            "must be greater than or equal to 0",
        ));
    }
    errors
}

//! ServiceAccounts.

use std::sync::Arc;

use serde_json::Value;

use super::zero::Form;
use crate::catalog::{Strategy, WriteContext};

/// References to Secrets keep nothing but a name.
pub(super) struct ServiceAccountStrategy(pub(super) Arc<Form>);

impl Strategy for ServiceAccountStrategy {
    fn blank(&self) -> Value {
        self.0.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.0.apply(object);
    }

    fn prepare_create(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        keep_names(object);
    }

    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, _old: &Value) {
        keep_names(object);
    }
}

fn keep_names(object: &mut Value) {
    let secrets = object.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten() {
        if let Some(members) = secret.as_object_mut() {
            members.retain(|key, _| key == "name");
        }
    }
}

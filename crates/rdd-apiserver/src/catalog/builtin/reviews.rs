//! Questions to the server: they are answered when they are created, and not kept.

use std::sync::Arc;

use serde_json::Value;

use super::zero::Form;
use crate::catalog::{Strategy, WriteContext};

/// Gives a question the form in which Go would write it.
pub(super) struct ReviewStrategy(pub(super) Arc<Form>);

impl Strategy for ReviewStrategy {
    fn blank(&self) -> Value {
        self.0.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.0.apply(object);
    }
}

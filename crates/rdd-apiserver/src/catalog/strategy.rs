//! What is particular to a type: the seam behind which every type keeps its code.

use futures::future::BoxFuture;
use rdd_schema::FieldError;
use rdd_store::Revision;
use serde_json::Value;

use super::{Resource, SelectableField, Subresource};
use crate::object::Time;

/// What a [`Strategy`] may know about the write.
#[derive(Clone, Copy)]
pub struct WriteContext<'a> {
    /// The resource written to.
    pub resource: &'a Resource,
    /// The endpoint, if not the main one.
    pub subresource: Option<Subresource>,
    /// The moment that stands for the whole request.
    pub now: Time,
    /// The caller's user name.
    pub user: &'a str,
}

/// What is particular to a type: pure functions over the object's JSON in the
/// request's version. The pipeline around them does what all types share:
/// pruning and schema defaults, `metadata` (uid, times, generation 1, immutable
/// fields) and its validation, managed fields, admission.
///
/// Order on create: `default` → admission → `prepare_create` →
/// metadata validation → `validate_create`.
/// On update: `default` → admission → `prepare_update` → metadata validation →
/// `validate_update`.
pub trait Strategy: Send + Sync + 'static {
    /// Reads what the schema leaves open: answers the paths of unknown fields.
    ///
    /// # Errors
    /// What Go's decoder says about a value of a wrong type.
    fn decode_open(&self, _object: &Value) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    /// The paths in an applied configuration that the type does not have, where the schema
    /// is open.
    fn undeclared(&self, _config: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Fills defaults that the schema cannot express, after every decode.
    fn default(&self, _cx: &WriteContext<'_>, _object: &mut Value) {}

    /// Resets what a client may not set on create (the status, …).
    fn prepare_create(&self, _cx: &WriteContext<'_>, _object: &mut Value) {}

    /// Completes a new object that was found valid, now that its name is known.
    fn canonicalize(&self, _object: &mut Value) {}

    /// Resets what this endpoint may not change, and moves `metadata.generation`.
    fn prepare_update(&self, _cx: &WriteContext<'_>, _object: &mut Value, _old: &Value) {}

    /// The errors of a new object beyond metadata and schema.
    fn validate_create(&self, _cx: &WriteContext<'_>, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// The errors of a changed object beyond metadata and schema.
    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        _object: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        Vec::new()
    }

    /// As [`Strategy::validate_update`]; also what is wrong but was before, which is told
    /// even of a write that is refused.
    fn judge_update(
        &self,
        cx: &WriteContext<'_>,
        object: &Value,
        old: &Value,
    ) -> (Vec<FieldError>, Vec<String>) {
        (self.validate_update(cx, object, old), Vec::new())
    }

    /// What to warn about; `old` is absent on create.
    fn warnings(
        &self,
        _cx: &WriteContext<'_>,
        _object: &Value,
        _old: Option<&Value>,
    ) -> Vec<String> {
        Vec::new()
    }

    /// Why a name (or, with `prefix`, a generateName) is not acceptable; one text per reason.
    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        let _ = prefix;
        rdd_schema::names::dns1123_subdomain(name)
    }

    /// Turns the request's form into the stored one, where more than `apiVersion` differs.
    fn to_storage(&self, _object: &mut Value) {}

    /// The reverse of [`Strategy::to_storage`].
    #[expect(
        clippy::wrong_self_convention,
        reason = "the strategy converts the object, not itself"
    )]
    fn from_storage(&self, _object: &mut Value) {}

    /// Whether stored bytes of the storage version may go out as they are.
    /// A strategy with a form of its own in `from_storage` says no.
    fn serves_stored_form(&self) -> bool {
        true
    }

    /// What Go prints for an object of the type in which nothing is set (a Lease's `spec`);
    /// empty for custom resources. Bookmarks look like it, and managed fields start from it.
    fn blank(&self) -> Value {
        Value::Object(serde_json::Map::new())
    }

    /// Changes an object just before its deletion begins (a Namespace turns
    /// Terminating). Called with the deletion timestamp already set.
    fn prepare_delete(&self, _cx: &WriteContext<'_>, _object: &mut Value) {}

    /// Why an object may not be deleted (`default` Namespace); the 403 text after `is forbidden: `.
    fn refuses_delete(&self, _name: &str) -> Option<String> {
        None
    }

    /// Whether a deletion of the object takes no heed of its propagation policy.
    fn ignores_policy(&self, _object: &Value) -> bool {
        false
    }

    /// Whether an object that is being deleted and has no `metadata.finalizers`
    /// must still stay (a Namespace with `spec.finalizers`).
    fn holds(&self, _object: &Value) -> bool {
        false
    }

    /// The fields that a manager at this endpoint never owns, as paths from the root.
    fn reset_fields(
        &self,
        resource: &Resource,
        subresource: Option<Subresource>,
    ) -> Vec<Vec<String>> {
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match subresource {
            None if resource.has(Subresource::Status) => vec![path(&["status"])],
            Some(Subresource::Status) if resource.is_custom() => {
                vec![path(&["metadata"]), path(&["spec"])]
            }
            Some(Subresource::Status) => vec![path(&["spec"])],
            _ => Vec::new(),
        }
    }

    /// The value of a selectable field; absent fields read as the empty string.
    fn field_value(&self, field: &SelectableField, object: &Value) -> String {
        let mut at = object;
        for name in &field.path {
            match at.get(name) {
                Some(next) => at = next,
                None => return String::new(),
            }
        }
        match at {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => at.to_string(),
            _ => String::new(),
        }
    }

    /// Called after a write was acknowledged by the store and before it is answered,
    /// in the request's task; `object` is absent when the object is gone.
    /// Calls for one object may come out of order: compare revisions.
    fn committed(&self, _name: &str, _object: Option<&Value>, _revision: Revision) {}

    /// What the answer to a create waits for after [`Strategy::committed`]; it must end
    /// by itself.
    fn settled<'a>(&'a self, _name: &'a str) -> Option<BoxFuture<'a, ()>> {
        None
    }
}

/// The strategy of a type without peculiarities.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Strategy for Plain {}

//! Writes to custom resources.

use std::sync::Arc;

use rdd_cel::rules::{Findings, RuleTree};
use rdd_schema::{FieldError, FieldErrorKind, Schema};
use serde_json::Value;

use super::{embedded, scale};
use crate::{
    catalog::{Strategy, Subresource, WriteContext},
    object::metadata_mut,
};

/// What the definition's schema and subresources ask of an object.
pub(super) struct CustomStrategy {
    /// The schema of the version.
    pub(super) schema: Arc<Schema>,
    /// That of the version in which objects are stored, where it is another one.
    pub(super) storage_schema: Option<Arc<Schema>>,
    /// The rules of the schema, if it has any.
    pub(super) rules: Option<Arc<RuleTree>>,
}

impl Strategy for CustomStrategy {
    fn prepare_create(&self, cx: &WriteContext<'_>, object: &mut Value) {
        if cx.resource.has(Subresource::Status)
            && let Some(members) = object.as_object_mut()
        {
            members.remove("status");
        }
    }

    fn prepare_update(&self, cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        if cx.subresource == Some(Subresource::Status) {
            keep_all_but_status(object, old);
            return;
        }
        if cx.resource.has(Subresource::Status) {
            copy_member(object, old, "status");
        }
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        let grown = i64::from(differs_outside_metadata(object, old));
        if let Some(metadata) = metadata_mut(object)
            && generation + grown > 0
        {
            metadata.insert("generation".to_owned(), (generation + grown).into());
        }
    }

    fn validate_create(&self, cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = rdd_schema::validate(object, &self.schema);
        errors.extend(scale_errors(cx, object));
        errors.extend(embedded::errors(object, &self.schema));
        errors.extend(rdd_schema::duplicates(object, &self.schema));
        self.with_rules(errors, object, None).errors
    }

    fn judge_update(
        &self,
        cx: &WriteContext<'_>,
        object: &Value,
        old: &Value,
    ) -> (Vec<FieldError>, Vec<String>) {
        let Findings { errors, warnings } = self.changes(cx, object, old);
        (errors, warnings)
    }

    fn validate_update(
        &self,
        cx: &WriteContext<'_>,
        object: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        self.changes(cx, object, old).errors
    }

    /// Conversion None: what the stored version does not know is not kept.
    fn to_storage(&self, object: &mut Value) {
        if let Some(schema) = &self.storage_schema {
            rdd_schema::prune(object, schema);
            rdd_schema::drop_nulls(object, schema);
            rdd_schema::default(object, schema);
        }
    }
}

/// What the scale subresource asks, if there is one.
fn scale_errors(cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
    let Some(paths) = &cx.resource.scale else {
        return Vec::new();
    };
    let mut errors: Vec<FieldError> = scale::spec_errors(object, paths).into_iter().collect();
    errors.extend(scale::status_errors(object, paths));
    errors
}

impl CustomStrategy {
    fn changes(&self, cx: &WriteContext<'_>, object: &Value, old: &Value) -> Findings {
        if cx.subresource == Some(Subresource::Status) {
            let mut errors = self.validate_status(object, old);
            if let Some(paths) = &cx.resource.scale {
                errors.extend(scale::status_errors(object, paths));
            }
            errors.extend(self.new_duplicates(object, old));
            return self.with_rules(errors, object, Some(old));
        }
        let mut errors = rdd_schema::validate_update(object, old, &self.schema);
        errors.extend(scale_errors(cx, object));
        errors.extend(embedded::errors(object, &self.schema));
        errors.extend(self.new_duplicates(object, old));
        self.with_rules(errors, object, Some(old))
    }

    /// Adds what the rules find. They run only over values of the right form.
    fn with_rules(
        &self,
        mut errors: Vec<FieldError>,
        object: &Value,
        old: Option<&Value>,
    ) -> Findings {
        let mut found = Findings::default();
        if self.rules.is_some() && rdd_schema::blocks_rules(&errors) {
            errors.push(FieldError::new(
                FieldErrorKind::Invalid,
                "<nil>",
                Some(Value::Null),
                "some validation rules were not checked because the object was invalid; correct \
                 the existing errors to complete validation",
            ));
        } else if let Some(rules) = &self.rules {
            found = rules.validate(&self.schema, object, old);
        }
        errors.append(&mut found.errors);
        Findings { errors, ..found }
    }

    /// Doubles in lists, as long as there were none before.
    fn new_duplicates(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let found = rdd_schema::duplicates(object, &self.schema);
        if found.is_empty() || !rdd_schema::duplicates(old, &self.schema).is_empty() {
            return Vec::new();
        }
        found
    }

    /// Only the subtree counts, and its errors are worded as if it were the whole; only
    /// the fields are named from the root.
    fn validate_status(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let (Some(schema), Some(status)) =
            (self.schema.properties.get("status"), object.get("status"))
        else {
            return Vec::new();
        };
        let errors = match old.get("status") {
            Some(old) => rdd_schema::validate_update(status, old, schema),
            None => rdd_schema::validate(status, schema),
        };
        errors
            .into_iter()
            .map(|error| error.below("status"))
            .collect()
    }
}

/// `/status` takes the status, the managed fields and the version from the request.
fn keep_all_but_status(object: &mut Value, old: &Value) {
    let mut kept = old.clone();
    copy_member(&mut kept, object, "status");
    for field in ["managedFields", "resourceVersion"] {
        let value = object["metadata"].get(field).cloned();
        if let Some(metadata) = metadata_mut(&mut kept) {
            match value {
                Some(value) => metadata.insert(field.to_owned(), value),
                None => metadata.remove(field),
            };
        }
    }
    *object = kept;
}

/// Gives `to` the member of `from`, or none.
fn copy_member(to: &mut Value, from: &Value, name: &str) {
    if let Some(members) = to.as_object_mut() {
        match from.get(name) {
            Some(value) => members.insert(name.to_owned(), value.clone()),
            None => members.remove(name),
        };
    }
}

fn differs_outside_metadata(object: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (object.as_object(), old.as_object()) else {
        return object != old;
    };
    let counts = |key: &str| !matches!(key, "metadata" | "apiVersion");
    new.keys().filter(|key| counts(key)).count() != old.keys().filter(|key| counts(key)).count()
        || new
            .iter()
            .any(|(key, value)| counts(key) && old.get(key) != Some(value))
}

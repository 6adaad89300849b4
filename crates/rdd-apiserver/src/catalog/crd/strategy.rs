//! Writes to CustomResourceDefinitions.

use std::sync::Arc;

use futures::future::BoxFuture;
use rdd_schema::FieldError;
use rdd_store::Revision;
use serde_json::{Value, json};

use super::{FINALIZER, conditions, definitions::Definitions, schema_document, validation};
use crate::{
    catalog::{Strategy, Subresource, WriteContext, builtin::zero::Form},
    object::{finalizers, is_deleting, metadata_mut},
};

/// Defaults, validation, stored versions; hands every write to [`Definitions`].
pub(super) struct DefinitionStrategy {
    pub(super) form: Arc<Form>,
    pub(super) definitions: Arc<Definitions>,
}

impl Strategy for DefinitionStrategy {
    fn blank(&self) -> Value {
        self.form.empty()
    }

    fn decode_open(&self, object: &Value) -> Result<Vec<String>, String> {
        let mut unknown = Vec::new();
        let versions = object["spec"]["versions"].as_array().into_iter().flatten();
        for (index, version) in versions.enumerate() {
            if let Some(schema) = version.pointer("/schema/openAPIV3Schema") {
                let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
                schema_document::decode(schema, &path, &mut unknown)?;
            }
        }
        Ok(unknown)
    }

    /// Values of wrong types are told when the object is read.
    fn undeclared(&self, config: &Value) -> Vec<String> {
        self.decode_open(config).unwrap_or_default()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        let none = object
            .pointer("/spec/versions")
            .is_some_and(|versions| versions.as_array().is_some_and(Vec::is_empty));
        self.form.apply(object);
        let spec = &mut object["spec"];
        if none {
            // It is refused, and shown as it was written.
            spec["versions"] = json!([]);
        }
        for version in spec["versions"].as_array_mut().into_iter().flatten() {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                schema_document::canonicalise(schema);
            }
        }
        if let Some(names) = spec["names"].as_object_mut() {
            let kind = names["kind"].as_str().unwrap_or_default().to_owned();
            if !kind.is_empty() {
                names
                    .entry("singular")
                    .or_insert_with(|| kind.to_lowercase().into());
                names
                    .entry("listKind")
                    .or_insert_with(|| format!("{kind}List").into());
            }
        }
        if let Some(spec) = spec.as_object_mut() {
            spec.entry("conversion")
                .or_insert_with(|| json!({"strategy": "None"}));
        }
        if let Some(service) = spec
            .pointer_mut("/conversion/webhook/clientConfig/service")
            .and_then(Value::as_object_mut)
        {
            service.entry("port").or_insert_with(|| json!(443));
        }
    }

    fn prepare_create(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        object["status"] = json!({
            "conditions": null,
            "acceptedNames": {"kind": "", "plural": ""},
            "storedVersions": or_null(storage_version(&object["spec"]).into_iter().collect()),
        });
    }

    fn prepare_update(&self, cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        if cx.subresource == Some(Subresource::Status) {
            object["spec"] = old["spec"].clone();
        } else {
            object["status"] = old["status"].clone();
        }
        let mut stored = match &object["status"]["storedVersions"] {
            Value::Array(stored) => stored.clone(),
            _ => Vec::new(),
        };
        if cx.subresource.is_none() || stored.is_empty() {
            let version = storage_version(&object["spec"]);
            stored.extend(version.filter(|version| !stored.contains(version)));
        }
        object["status"]["storedVersions"] = or_null(stored);
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(1);
        let grown = i64::from(object["spec"] != old["spec"]);
        if let Some(metadata) = metadata_mut(object) {
            metadata.insert("generation".to_owned(), (generation + grown).into());
        }
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        validation::create(object)
    }

    fn validate_update(
        &self,
        cx: &WriteContext<'_>,
        object: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        if cx.subresource == Some(Subresource::Status) {
            Vec::new()
        } else {
            validation::update(object, old)
        }
    }

    fn warnings(&self, cx: &WriteContext<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        let spec = &object["spec"];
        let unchanged = old.is_some_and(|old| old["spec"] == *spec);
        if unchanged || cx.subresource.is_some() {
            return Vec::new();
        }
        rdd_schema::crd::unknown_formats(&all_schemas(spec))
            .into_iter()
            .map(|format| format!("unrecognized format {format:?}"))
            .collect()
    }

    /// A definition that is to be deleted always goes through
    /// [`Strategy::prepare_delete`], which gives it its finalizer; from then on the
    /// finalizers alone hold it.
    fn holds(&self, object: &Value) -> bool {
        !is_deleting(object)
    }

    /// The first deletion only marks.
    fn ignores_policy(&self, object: &Value) -> bool {
        !is_deleting(object)
    }

    fn prepare_delete(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        let mut names: Vec<Value> = finalizers(object).map(Value::from).collect();
        if !names.iter().any(|name| name == FINALIZER) {
            names.push(FINALIZER.into());
        }
        if let Some(metadata) = metadata_mut(object) {
            metadata.insert("finalizers".to_owned(), names.into());
            metadata.remove("deletionGracePeriodSeconds");
            // Definitions are marked without counting it as a change.
            let generation = metadata.get("generation").and_then(Value::as_i64);
            if let Some(generation) = generation {
                metadata.insert("generation".to_owned(), (generation - 1).into());
            }
        }
        conditions::set(
            object,
            "Terminating",
            "True",
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        );
    }

    fn committed(&self, name: &str, object: Option<&Value>, revision: Revision) {
        self.definitions.observe(name, object, revision);
    }

    fn settled<'a>(&'a self, name: &'a str) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(self.definitions.settled(name)))
    }
}

/// The name of the version in which objects are stored.
fn storage_version(spec: &Value) -> Option<Value> {
    let versions = spec["versions"].as_array().into_iter().flatten();
    let mut stored = versions.filter(|version| version["storage"] == true);
    stored.next().map(|version| version["name"].clone())
}

/// The schemas of all versions as one.
fn all_schemas(spec: &Value) -> Value {
    let versions = spec["versions"].as_array().into_iter().flatten();
    json!({"allOf": versions.map(|version| &version["schema"]["openAPIV3Schema"]).collect::<Vec<_>>()})
}

/// An empty list the way Go prints nil.
fn or_null(list: Vec<Value>) -> Value {
    if list.is_empty() {
        Value::Null
    } else {
        list.into()
    }
}

//! Small words for writing definitions as documents.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

use crate::names;

/// What differs between our definitions.
pub(crate) struct Definition {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) description: &'static str,
    pub(crate) spec: Option<Value>,
    /// `spec` is required.
    pub(crate) spec_required: bool,
    pub(crate) status: Option<Value>,
    pub(crate) columns: Value,
    pub(crate) selectable: &'static [&'static str],
    /// Rules of the whole object.
    pub(crate) rules: Value,
}

impl Definition {
    /// The document, typed as the API takes it.
    pub(crate) fn build(self) -> CustomResourceDefinition {
        let mut properties = Map::new();
        properties.insert(
            "apiVersion".into(),
            string("Version of the schema of this object."),
        );
        properties.insert("kind".into(), string("Kind of this object."));
        properties.insert("metadata".into(), json!({"type": "object"}));
        let mut required = Vec::new();
        if let Some(spec) = self.spec {
            properties.insert("spec".into(), spec);
            if self.spec_required {
                required.push("spec");
            }
        }
        let has_status = self.status.is_some();
        if let Some(status) = self.status {
            properties.insert("status".into(), status);
        }
        let mut schema =
            json!({"type": "object", "description": self.description, "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if self.rules != Value::Null {
            schema["x-kubernetes-validations"] = self.rules;
        }
        let mut version = json!({
            "name": names::VERSION,
            "served": true,
            "storage": true,
            "schema": {"openAPIV3Schema": schema},
            "additionalPrinterColumns": self.columns,
        });
        if has_status {
            version["subresources"] = json!({"status": {}});
        }
        if !self.selectable.is_empty() {
            let paths = self.selectable.iter().map(|path| json!({"jsonPath": path}));
            version["selectableFields"] = paths.collect();
        }
        let document = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.{}", self.plural, self.group)},
            "spec": {
                "group": self.group,
                "scope": self.scope,
                "names": {
                    "kind": self.kind,
                    "listKind": format!("{}List", self.kind),
                    "plural": self.plural,
                    "singular": self.kind.to_lowercase(),
                    "shortNames": self.short_names,
                    "categories": ["all"],
                },
                "versions": [version],
            },
        });
        serde_json::from_value(document)
            .expect("our own definitions have the form that the API takes")
    }
}

/// An object with these properties, of which some are required.
pub(crate) fn object(description: &str, required: &[&str], properties: Value) -> Value {
    let mut schema =
        json!({"type": "object", "description": description, "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A text.
pub(crate) fn string(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// One of these words.
pub(crate) fn word(description: &str, words: &[&str]) -> Value {
    json!({"type": "string", "description": description, "enum": words})
}

/// A moment.
pub(crate) fn time(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

/// A whole number of this format (`int32` or `int64`).
pub(crate) fn integer(format: &str, description: &str) -> Value {
    json!({"type": "integer", "format": format, "description": description})
}

/// `true` or `false`.
pub(crate) fn boolean(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

/// A list that is replaced as a whole.
pub(crate) fn list(description: &str, items: Value) -> Value {
    json!({"type": "array", "description": description, "items": items, "x-kubernetes-list-type": "atomic"})
}

/// A list of objects, merged by one of their fields.
pub(crate) fn map_list(description: &str, key: &str, items: Value) -> Value {
    json!({
        "type": "array",
        "description": description,
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [key],
    })
}

/// Texts by free names.
pub(crate) fn string_map(description: &str) -> Value {
    json!({"type": "object", "description": description, "additionalProperties": {"type": "string"}})
}

/// The standard conditions, one owner per type.
pub(crate) fn conditions() -> Value {
    let condition = json!({
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": {"type": "string", "maxLength": 316, "description": "What the condition is about."},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
            "reason": {"type": "string", "minLength": 1, "maxLength": 1024,
                "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "description": "Why, as one word for programs."},
            "message": {"type": "string", "maxLength": 32768, "description": "Why, for people."},
            "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When the status last changed."},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0,
                "description": "The generation of the object that was judged."},
        },
    });
    map_list("What is known about this object.", "type", condition)
}

/// One printer column.
pub(crate) fn column(
    name: &str,
    r#type: &str,
    path: &str,
    description: &str,
    priority: i32,
) -> Value {
    json!({"name": name, "type": r#type, "jsonPath": path, "description": description, "priority": priority})
}

/// The age of the object itself.
pub(crate) fn age() -> Value {
    column(
        "Age",
        "date",
        ".metadata.creationTimestamp",
        "Time since the object was made.",
        0,
    )
}

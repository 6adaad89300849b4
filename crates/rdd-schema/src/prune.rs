//! Dropping what a schema does not know, and nulls that nobody can mean.

use serde_json::{Map, Value};

use crate::structural::{AdditionalProperties, Schema};

/// Removes fields that the schema does not specify; returns their paths as strict
/// decoding names them (`spec.extra`, `spec.items[0].foo`), in order.
///
/// At the root `apiVersion`, `kind` and `metadata` always stay; the same holds in
/// embedded resources.
pub fn prune(object: &mut Value, schema: &Schema) -> Vec<String> {
    let mut unknown = Vec::new();
    node(object, schema, true, &mut String::new(), &mut unknown);
    unknown
}

/// As [`prune`], for a value inside an object.
pub(crate) fn prune_part(value: &mut Value, schema: &Schema) -> Vec<String> {
    let mut unknown = Vec::new();
    node(value, schema, false, &mut String::new(), &mut unknown);
    unknown
}

fn node(
    value: &mut Value,
    schema: &Schema,
    resource: bool,
    path: &mut String,
    unknown: &mut Vec<String>,
) {
    match value {
        Value::Object(fields) => object(
            fields,
            schema,
            resource || schema.embedded_resource,
            path,
            unknown,
        ),
        Value::Array(items) => {
            let nothing = Schema::default();
            let item = match &schema.items {
                Some(item) => item,
                None if schema.preserve_unknown_fields => return,
                None => &nothing,
            };
            for (index, value) in items.iter_mut().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                node(value, item, false, path, unknown);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn object(
    fields: &mut Map<String, Value>,
    schema: &Schema,
    resource: bool,
    path: &mut String,
    unknown: &mut Vec<String>,
) {
    // Of a map without a schema for its values, the keys stay; validation refuses them
    // where none are allowed.
    let keep = schema.preserve_unknown_fields;
    let values_unknown = matches!(
        schema.additional_properties,
        Some(AdditionalProperties::Any | AdditionalProperties::None)
    );
    let nothing = Schema::default();
    let mut dropped = Vec::new();
    for (name, value) in fields.iter_mut() {
        let implicit = resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
        let length = path.len();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
        match schema.field(name) {
            // Metadata is judged on its own, whatever the schema says about it.
            _ if implicit => {}
            Some(child) => node(value, child, false, path, unknown),
            None if values_unknown => node(value, &nothing, false, path, unknown),
            None if keep => {}
            None => {
                unknown.push(path.clone());
                dropped.push(name.clone());
            }
        }
        path.truncate(length);
    }
    for name in dropped {
        fields.remove(&name);
    }
}

/// Removes explicit nulls of fields that are neither nullable nor defaulted.
pub fn drop_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let Some(child) = schema.field(name) else {
                    return true;
                };
                if value.is_null() {
                    // The default replaces it later.
                    return child.nullable || child.default.is_some();
                }
                drop_nulls(value, child);
                true
            });
        }
        Value::Array(items) => {
            if let Some(item) = &schema.items {
                for value in items {
                    drop_nulls(value, item);
                }
            }
        }
        _ => {}
    }
}

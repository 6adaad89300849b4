//! The form of `metadata`: what Go's `ObjectMeta` makes of what a client sends.

use rdd_schema::{AdditionalProperties, FieldError, Schema};
use serde_json::{Map, Value};

use crate::object::Time;

/// How a member of `metadata` is typed in Go.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Int64,
    /// A number of which zero is one, too.
    Int64OrNone,
    Time,
    TextMap,
    TextList,
    Owners,
    Managed,
}

const MEMBERS: &[(&str, Form)] = &[
    ("annotations", Form::TextMap),
    ("creationTimestamp", Form::Time),
    ("deletionGracePeriodSeconds", Form::Int64OrNone),
    ("deletionTimestamp", Form::Time),
    ("finalizers", Form::TextList),
    ("generateName", Form::Text),
    ("generation", Form::Int64),
    ("labels", Form::TextMap),
    ("managedFields", Form::Managed),
    ("name", Form::Text),
    ("namespace", Form::Text),
    ("ownerReferences", Form::Owners),
    ("resourceVersion", Form::Text),
    ("selfLink", Form::Text),
    ("uid", Form::Text),
];

const OWNER: &[&str] = &[
    "apiVersion",
    "blockOwnerDeletion",
    "controller",
    "kind",
    "name",
    "uid",
];
const MANAGED: &[&str] = &[
    "apiVersion",
    "fieldsType",
    "fieldsV1",
    "manager",
    "operation",
    "subresource",
    "time",
];

/// Brings `metadata` into the form that Go's `ObjectMeta` would print: unknown
/// members dropped, nulls and empty members left out. Answers the paths of what was dropped.
///
/// # Errors
/// What Go's decoder says about a value of a wrong type.
pub fn decode(object: &mut Value, builtin: bool, kind: &str) -> Result<Vec<String>, String> {
    let Some(root) = object.as_object_mut() else {
        return Ok(Vec::new());
    };
    let metadata = match root.get_mut("metadata") {
        None | Some(Value::Null) => {
            root.insert("metadata".to_owned(), Value::Object(Map::new()));
            return Ok(Vec::new());
        }
        Some(Value::Object(metadata)) => metadata,
        Some(other) => {
            let place = if builtin {
                format!("Go struct field {kind}.metadata of type v1.ObjectMeta")
            } else {
                "Go value of type v1.ObjectMeta".to_owned()
            };
            return Err(format!(
                "json: cannot unmarshal {} into {place}",
                go_name(other)
            ));
        }
    };
    let mut dropped = Vec::new();
    let prefix = if builtin {
        "ObjectMeta.metadata"
    } else {
        "ObjectMeta"
    };
    let taken = std::mem::take(metadata);
    for (key, mut value) in taken {
        let Some((_, form)) = MEMBERS.iter().find(|(name, _)| *name == key) else {
            dropped.push(format!("metadata.{key}"));
            continue;
        };
        let place = format!("{prefix}.{key}");
        check(*form, &key, &mut value, &place, builtin, &mut dropped)?;
        if !is_empty(*form, &value) {
            metadata.insert(key, value);
        }
    }
    metadata.remove("selfLink");
    Ok(dropped)
}

/// As [`decode`] for every whole object inside a custom resource
/// (`x-kubernetes-embedded-resource`).
///
/// # Errors
/// What Go's decoder says, and where.
pub fn decode_embedded(value: &mut Value, schema: &Schema) -> Result<Vec<String>, String> {
    let mut dropped = Vec::new();
    walk_embedded(value, schema, "", &mut dropped)?;
    Ok(dropped)
}

fn walk_embedded(
    value: &mut Value,
    schema: &Schema,
    path: &str,
    dropped: &mut Vec<String>,
) -> Result<(), String> {
    match value {
        Value::Object(members) => {
            if schema.embedded_resource {
                for field in ["apiVersion", "kind"] {
                    if let Some(value) = members.get(field).filter(|value| !value.is_string()) {
                        let field = format!("{path}.{field}");
                        let error = FieldError::invalid(field, value.clone(), "must be a string");
                        return Err(error.to_string());
                    }
                }
            }
            if schema.embedded_resource
                && let Some(metadata) = members.remove("metadata")
            {
                let shown = metadata.to_string();
                let mut object = serde_json::json!({"metadata": metadata});
                let unknown = decode(&mut object, false, "")
                    .map_err(|text| format!("{path}.metadata: Invalid value: {shown}: {text}"))?;
                dropped.extend(unknown.iter().map(|field| format!("{path}.{field}")));
                members.insert("metadata".to_owned(), object["metadata"].take());
            }
            for (name, member) in members {
                let (below, step) =
                    match (schema.properties.get(name), &schema.additional_properties) {
                        (Some(schema), _) => (schema, format!(".{name}")),
                        (None, Some(AdditionalProperties::Schema(schema))) => {
                            (&**schema, format!("[{name}]"))
                        }
                        _ => continue,
                    };
                let path = format!("{path}{step}");
                let path = path.trim_start_matches('.').to_owned();
                walk_embedded(member, below, &path, dropped)?;
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                if let Some(schema) = &schema.items {
                    walk_embedded(item, schema, &format!("{path}[{index}]"), dropped)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_empty(form: Form, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty() && !matches!(form, Form::Managed),
        Value::Object(members) => members.is_empty(),
        Value::Number(number) => matches!(form, Form::Int64) && number.as_i64() == Some(0),
        Value::Bool(_) => false,
    }
}

fn go_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong(value: &Value, place: &str, go_type: &str) -> String {
    let shown = match value {
        Value::Number(number) if go_type == "int64" => format!("number {number}"),
        other => go_name(other).to_owned(),
    };
    format!("json: cannot unmarshal {shown} into Go struct field {place} of type {go_type}")
}

fn check(
    form: Form,
    key: &str,
    value: &mut Value,
    place: &str,
    builtin: bool,
    dropped: &mut Vec<String>,
) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    match form {
        Form::Text => match value {
            Value::String(_) => Ok(()),
            other => {
                let go_type = if key == "uid" { "types.UID" } else { "string" };
                Err(wrong(other, place, go_type))
            }
        },
        Form::Int64 | Form::Int64OrNone => {
            if value.is_i64() {
                Ok(())
            } else {
                Err(wrong(value, place, "int64"))
            }
        }
        Form::Time => check_time(value, place),
        Form::TextMap => {
            let Value::Object(members) = value else {
                return Err(wrong(value, place, "map[string]string"));
            };
            for member in members.values_mut() {
                text_or_null(member, place)?;
            }
            Ok(())
        }
        Form::TextList => {
            let Value::Array(items) = value else {
                return Err(wrong(value, place, "[]string"));
            };
            for item in items {
                text_or_null(item, place)?;
            }
            Ok(())
        }
        Form::Owners => check_list(
            key,
            value,
            place,
            OWNER,
            ("OwnerReference", "v1.OwnerReference"),
            builtin,
            dropped,
        ),
        Form::Managed => check_list(
            key,
            value,
            place,
            MANAGED,
            ("ManagedFieldsEntry", "v1.ManagedFieldsEntry"),
            builtin,
            dropped,
        ),
    }
}

/// A null in a map or list of strings reads as the empty string.
fn text_or_null(value: &mut Value, place: &str) -> Result<(), String> {
    match value {
        Value::String(_) => Ok(()),
        Value::Null => {
            *value = Value::String(String::new());
            Ok(())
        }
        other => Err(wrong(other, place, "string")),
    }
}

fn check_time(value: &mut Value, place: &str) -> Result<(), String> {
    let Value::String(text) = value else {
        // A time decodes itself, from a text.
        return Err(wrong(value, place, "string"));
    };
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => {
            *value = Value::String(Time::new(time).to_string());
            Ok(())
        }
        Err(_) => Err(rdd_schema::time_error(text, false)),
    }
}

fn check_list(
    key: &str,
    value: &mut Value,
    place: &str,
    known: &[&str],
    (short, go_type): (&str, &str),
    builtin: bool,
    dropped: &mut Vec<String>,
) -> Result<(), String> {
    let Value::Array(items) = value else {
        return Err(wrong(value, place, &format!("[]{go_type}")));
    };
    for (index, item) in items.iter_mut().enumerate() {
        let Value::Object(members) = item else {
            if item.is_null() {
                *item = Value::Object(Map::new());
                continue;
            }
            return Err(wrong(item, place, go_type));
        };
        let unknown: Vec<String> = members
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
            .cloned()
            .collect();
        for name in unknown {
            members.remove(&name);
            dropped.push(format!("metadata.{key}[{index}].{name}"));
        }
        let path = if builtin {
            format!("metadata.{key}")
        } else {
            key.to_owned()
        };
        for (name, member) in members.iter_mut() {
            if name == "time" && !member.is_null() {
                check_time(member, &format!("{short}.{path}.{name}"))?;
                continue;
            }
            let (fits, go_type) = match name.as_str() {
                "blockOwnerDeletion" | "controller" => (member.is_boolean(), "bool"),
                "fieldsV1" => (member.is_object(), "v1.FieldsV1"),
                "uid" => (member.is_string(), "types.UID"),
                "operation" => (member.is_string(), "v1.ManagedFieldsOperationType"),
                _ => (member.is_string(), "string"),
            };
            if !fits && !member.is_null() {
                return Err(wrong(member, &format!("{short}.{path}.{name}"), go_type));
            }
        }
        members.retain(|_, member| !member.is_null());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_takes_the_form_of_object_meta() {
        let mut object = json!({"metadata": {
            "name": "a", "labels": {"k": null}, "annotations": {}, "finalizers": [], "nope": 1,
            "generation": 0, "deletionGracePeriodSeconds": 0, "creationTimestamp": null, "selfLink": "x",
            "ownerReferences": [{"name": "o", "extra": 1}]
        }});
        let dropped = decode(&mut object, true, "ConfigMap").expect("decodes");
        assert_eq!(
            dropped,
            ["metadata.nope", "metadata.ownerReferences[0].extra"]
        );
        assert_eq!(
            object["metadata"],
            json!({
                "name": "a", "labels": {"k": ""}, "ownerReferences": [{"name": "o"}],
                "deletionGracePeriodSeconds": 0,
            })
        );
    }

    #[test]
    fn wrong_types_are_refused_in_the_words_of_go() {
        let check = |metadata: Value, builtin: bool, expect: &str| {
            let mut object = json!({ "metadata": metadata });
            assert_eq!(
                decode(&mut object, builtin, "ConfigMap").expect_err(expect),
                expect
            );
        };
        check(
            json!({"labels": {"k": 1}}),
            false,
            "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string",
        );
        check(
            json!({"labels": ["x"]}),
            true,
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        );
        check(
            json!("x"),
            true,
            "json: cannot unmarshal string into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
        );
    }
}

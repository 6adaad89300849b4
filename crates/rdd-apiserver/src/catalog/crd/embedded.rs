//! Whole objects inside custom resources (`x-kubernetes-embedded-resource`).

use rdd_schema::{AdditionalProperties, FieldError, Schema};
use serde_json::Value;

use super::validation::label_problems;
use crate::object::metadata;

/// What is wrong with the types and the metadata of embedded objects.
pub(super) fn errors(value: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(value, schema, String::new(), &mut errors);
    errors
}

fn walk(value: &Value, schema: &Schema, path: String, errors: &mut Vec<FieldError>) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(members) => {
            if schema.embedded_resource {
                object_errors(value, &path, errors);
            }
            for (name, member) in members {
                if let Some(schema) = schema.properties.get(name) {
                    walk(member, schema, below(name), errors);
                } else if let Some(AdditionalProperties::Schema(schema)) =
                    &schema.additional_properties
                {
                    walk(member, schema, format!("{path}[{name}]"), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    walk(item, schema, format!("{path}[{index}]"), errors);
                }
            }
        }
        _ => {}
    }
}

fn object_errors(object: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let at = |field: &str| {
        if path.is_empty() {
            field.to_owned()
        } else {
            format!("{path}.{field}")
        }
    };
    for field in ["apiVersion", "kind"] {
        if object.get(field).is_none() {
            errors.push(FieldError::required(at(field), ""));
        }
    }
    for field in ["apiVersion", "kind"] {
        let Some(value) = object.get(field) else {
            continue;
        };
        let Some(text) = value.as_str() else {
            let error = FieldError::invalid(at(field), value.clone(), "must be a string");
            errors.push(error);
            continue;
        };
        let problems = label_problems(&text.to_lowercase());
        let problem = if text.is_empty() {
            "must not be empty".to_owned()
        } else if field == "apiVersion" {
            if text.split('/').count() <= 2 {
                continue;
            }
            format!("unexpected GroupVersion string: {text}")
        } else if problems.is_empty() {
            continue;
        } else {
            format!(
                "may have mixed case, but should otherwise match: {}",
                problems.join(",")
            )
        };
        errors.push(FieldError::invalid(at(field), text, problem));
    }
    if let Some(metadata) = object.get("metadata") {
        let found = metadata::validate_embedded(metadata).into_iter();
        errors.extend(found.map(|error| {
            if path.is_empty() {
                error
            } else {
                error.below(path)
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(embedded: &Value, expect: &[&str]) {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "list": {"type": "array", "items": {
                "type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true,
            }},
        }}));
        let schema = schema.expect("the schema is well-formed");
        let errors = errors(&json!({"list": [embedded]}), &schema);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expect);
    }

    #[test]
    fn embedded_metadata_is_judged() {
        let object =
            |metadata: Value| json!({"apiVersion": "v1", "kind": "X", "metadata": metadata});
        check(
            &object(json!({"name": "a/b"})),
            &["list[0].metadata.name: Invalid value: \"a/b\": may not contain '/'"],
        );
        check(&object(json!({"name": "A b"})), &[]);
        check(
            &object(json!({"generation": -1})),
            &["list[0].metadata.generation: Invalid value: -1: must be greater than or equal to 0"],
        );
        check(
            &object(json!({"managedFields": [{}]})),
            &[
                "list[0].metadata.managedFields[0].operation: Invalid value: \"\": must be `Apply` \
                 or `Update`",
            ],
        );
    }

    #[test]
    fn embedded_objects_say_what_they_are() {
        check(&json!({"apiVersion": "v1", "kind": "ConfigMap"}), &[]);
        check(
            &json!({"kind": "X"}),
            &["list[0].apiVersion: Required value"],
        );
        check(
            &json!({"apiVersion": "a/b/c", "kind": "X"}),
            &[
                "list[0].apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: \
                 a/b/c",
            ],
        );
        check(
            &json!({"apiVersion": "v1"}),
            &["list[0].kind: Required value"],
        );
    }
}

//! Whole objects inside custom resources (`x-kubernetes-embedded-resource`).

use rdd_schema::{AdditionalProperties, FieldError, Schema, names};
use serde_json::Value;

use super::validation::label_problems;

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
    let text = |field: &str| {
        object
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let field = format!("{path}.apiVersion");
    let api_version = text("apiVersion");
    if api_version.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if api_version.split('/').count() > 2 {
        let problem = format!("unexpected GroupVersion string: {api_version}");
        errors.push(FieldError::invalid(field, api_version, problem));
    }
    let field = format!("{path}.kind");
    let kind = text("kind");
    let problems = label_problems(&kind.to_lowercase());
    if kind.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if !problems.is_empty() {
        let problem = format!(
            "may have mixed case, but should otherwise match: {}",
            problems.join(",")
        );
        errors.push(FieldError::invalid(field, kind, problem));
    }
    let labels = object["metadata"]["labels"].as_object();
    for (key, value) in labels.into_iter().flatten() {
        let field = format!("{path}.metadata.labels");
        for problem in names::qualified_name(key) {
            errors.push(FieldError::invalid(field.clone(), key.as_str(), problem));
        }
        let value = value.as_str().unwrap_or_default();
        for problem in names::label_value(value) {
            errors.push(FieldError::invalid(field.clone(), value, problem));
        }
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

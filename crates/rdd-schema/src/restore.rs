//! Whether Kubernetes could turn an unstructured value into a built-in type, in the words
//! of its converter: strategic merge patches go this way, everything else is decoded.

use serde_json::Value;

use crate::structural::Schema;

/// Checks the types of an object of a built-in kind against its schema document.
///
/// # Errors
/// The text of the first value that cannot be restored.
pub fn restore(object: &Value, schema: &Schema) -> Result<(), String> {
    match schema.document.as_deref() {
        Some(document) => node(object, document),
        None => Ok(()),
    }
}

fn node(value: &Value, document: &Value) -> Result<(), String> {
    let text = |key: &str| document.get(key).and_then(Value::as_str);
    let found = kind(value);
    match (text("type"), value) {
        (_, Value::Null) | (None, _) => Ok(()),
        (Some("object"), _) => {
            let fields = document.get("properties").and_then(Value::as_object);
            let values = document.get("additionalProperties");
            match (value, fields, values) {
                (Value::Object(members), Some(fields), _) => members
                    .iter()
                    .filter_map(|(name, value)| Some((value, fields.get(name)?)))
                    .try_for_each(|(value, field)| node(value, field)),
                (Value::Object(members), None, Some(values)) => {
                    members.values().try_for_each(|value| node(value, values))
                }
                (Value::Object(_), None, None) => Ok(()),
                (_, Some(_), _) => Err(format!("cannot restore struct from: {found}")),
                _ => Err(format!("cannot restore map from {found}")),
            }
        }
        (Some("array"), Value::Array(items)) => match document.get("items") {
            Some(item) => items.iter().try_for_each(|value| node(value, item)),
            None => Ok(()),
        },
        (Some("array"), _) => Err(format!("cannot restore slice from {found}")),
        // Times and bytes are read from their JSON, whose errors the decoder words.
        (Some("string"), _) if text("x-go-type").is_some() || text("format").is_some() => Ok(()),
        (Some("string"), Value::String(_)) | (Some("boolean"), Value::Bool(_)) => Ok(()),
        (Some("string"), Value::Number(number)) if !number.is_f64() => {
            Err("cannot convert int64 to string".to_owned())
        }
        (Some("string"), _) => Err("unrecognized type: string".to_owned()),
        (Some("boolean"), _) => Err("unrecognized type: bool".to_owned()),
        (Some("integer"), Value::Number(number)) if !number.is_f64() => Ok(()),
        (Some("integer"), _) => {
            let integer = text("format").unwrap_or("int64");
            Err(match value {
                Value::Number(_) => format!("cannot convert float64 to {integer}"),
                _ => format!("unrecognized type: {integer}"),
            })
        }
        _ => Ok(()),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_of_another_type_is_refused_in_the_words_of_the_converter() {
        let document = json!({"type": "object", "properties": {
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"on": {"type": "boolean"}}}},
            "struct": {"type": "object", "properties": {"count": {"type": "integer", "format": "int32"}}},
        }});
        let mut schema = Schema::parse(&document).expect("a schema");
        schema.document = Some(Arc::new(document));
        let check = |object: Value, wanted: Result<(), &str>| {
            let found = restore(&object, &schema);
            assert_eq!(found, wanted.map_err(str::to_owned), "{object}");
        };
        check(
            json!({"map": {"a": "b"}, "list": [{"on": true}], "struct": {"count": 1}}),
            Ok(()),
        );
        check(json!({"map": null, "unknown": 1}), Ok(()));
        check(json!({"map": "x"}), Err("cannot restore map from string"));
        check(json!({"map": ["x"]}), Err("cannot restore map from slice"));
        check(
            json!({"map": {"a": 5}}),
            Err("cannot convert int64 to string"),
        );
        check(json!({"map": {"a": 1.5}}), Err("unrecognized type: string"));
        check(
            json!({"list": {"a": 1}}),
            Err("cannot restore slice from map"),
        );
        check(
            json!({"list": [{"on": "x"}]}),
            Err("unrecognized type: bool"),
        );
        check(
            json!({"struct": "x"}),
            Err("cannot restore struct from: string"),
        );
        check(
            json!({"struct": {"count": 1.5}}),
            Err("cannot convert float64 to int32"),
        );
        check(
            json!({"struct": {"count": "1"}}),
            Err("unrecognized type: int32"),
        );
    }
}

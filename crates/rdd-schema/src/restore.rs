//! Whether Kubernetes could turn an unstructured value into a built-in type, in the words
//! of its converter: strategic merge patches go this way, everything else is decoded.

use serde_json::Value;

use crate::{decode, structural::Schema};

/// Gives an object of a built-in kind the types of its schema document: whole numbers with
/// a fraction become integers, and integers that are too large keep their low bits.
///
/// # Errors
/// The text of the first value that cannot be restored.
pub fn restore(object: &mut Value, schema: &Schema) -> Result<(), String> {
    match schema.document.as_deref() {
        Some(document) => node(object, document),
        None => Ok(()),
    }
}

fn node(value: &mut Value, document: &Value) -> Result<(), String> {
    let text = |key: &str| document.get(key).and_then(Value::as_str);
    let found = kind(value);
    match (text("type"), &mut *value) {
        (_, Value::Null) | (None, _) => Ok(()),
        (Some("object"), value) => {
            let fields = document.get("properties").and_then(Value::as_object);
            let values = document.get("additionalProperties");
            match (value, fields, values) {
                (Value::Object(members), Some(fields), _) => members
                    .iter_mut()
                    .filter_map(|(name, value)| Some((value, fields.get(name)?)))
                    .try_for_each(|(value, field)| node(value, field)),
                (Value::Object(members), None, Some(values)) => members
                    .iter_mut()
                    .try_for_each(|(_, value)| node(value, values)),
                (Value::Object(_), None, None) => Ok(()),
                (_, Some(_), _) => Err(format!("cannot restore struct from: {found}")),
                _ => Err(format!("cannot restore map from {found}")),
            }
        }
        (Some("array"), Value::Array(items)) => match document.get("items") {
            Some(item) => items.iter_mut().try_for_each(|value| node(value, item)),
            None => Ok(()),
        },
        (Some("array"), _) => Err(format!("cannot restore slice from {found}")),
        (Some("string"), Value::String(value)) => {
            decode::string(value, document).map_err(|error| {
                // Times are read by their own decoder, bytes by the one of JSON.
                if text("format") == Some("byte") {
                    format!("error decoding from json: {error}")
                } else {
                    error
                }
            })
        }
        (Some("string"), value) if decode::is_time(document) => Err(format!(
            "json: cannot unmarshal {} into Go value of type string",
            decode::found(value)
        )),
        (Some("boolean"), Value::Bool(_)) => Ok(()),
        (Some("string"), Value::Number(number)) if !number.is_f64() => {
            Err("cannot convert int64 to string".to_owned())
        }
        (Some("string"), _) => Err("unrecognized type: string".to_owned()),
        (Some("boolean"), _) => Err("unrecognized type: bool".to_owned()),
        (Some("integer"), Value::Number(number)) => {
            let integer = text("format").unwrap_or("int64");
            let whole = whole(number).ok_or(format!("cannot convert float64 to {integer}"))?;
            *value = match integer {
                "int32" => Value::from(low_bits(whole)),
                _ => Value::from(whole),
            };
            Ok(())
        }
        (Some("integer"), _) => {
            let integer = text("format").unwrap_or("int64");
            Err(format!("unrecognized type: {integer}"))
        }
        _ => Ok(()),
    }
}

/// A number without a fraction as Go converts it to an integer.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float beyond the range saturates"
)]
fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        (float.trunc() == float).then_some(float as i64)
    })
}

#[expect(clippy::cast_possible_truncation, reason = "Go keeps the low bits")]
fn low_bits(number: i64) -> i32 {
    number as i32
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
            "time": {"type": "string", "format": "date-time", "x-go-type": "v1.Time"},
            "bytes": {"type": "string", "format": "byte"},
        }});
        let mut schema = Schema::parse(&document).expect("a schema");
        schema.document = Some(Arc::new(document));
        let check = |object: Value, wanted: Result<(), &str>| {
            let found = restore(&mut object.clone(), &schema);
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
        check(
            json!({"time": 5}),
            Err("json: cannot unmarshal number into Go value of type string"),
        );
        check(
            json!({"bytes": "*"}),
            Err("error decoding from json: illegal base64 data at input byte 0"),
        );
        let mut object = json!({"struct": {"count": 2_147_483_648_i64}, "other": 1.0});
        assert_eq!(restore(&mut object, &schema), Ok(()));
        assert_eq!(object["struct"]["count"], json!(i32::MIN));
        let mut object = json!({"struct": {"count": 3.0}});
        assert_eq!(restore(&mut object, &schema), Ok(()));
        assert_eq!(object, json!({"struct": {"count": 3}}));
    }
}

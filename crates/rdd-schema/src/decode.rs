//! Whether Go could decode a value into a built-in type, in the words it would refuse with.
//!
//! The Go types are read from the schema's source document: `x-go-type` names a
//! struct or a named type, everything else follows from `type` and `format`.

use serde_json::Value;

use crate::go_time::time_error;
use crate::structural::Schema;

/// Checks the JSON types of an object of a built-in kind; `metadata` is not looked at.
///
/// # Errors
/// The text of the first mismatch, as Go's `encoding/json` gives it.
pub fn decode(object: &Value, schema: &Schema, kind: &str) -> Result<(), String> {
    let Some(document) = schema.document.as_deref() else {
        return Ok(());
    };
    let Value::Object(members) = object else {
        return Ok(());
    };
    for (name, value) in members {
        if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(node) = document
            .get("properties")
            .and_then(|fields| fields.get(name))
        {
            check(value, node, kind, name)?;
        }
    }
    Ok(())
}

/// Go takes a list of numbers for bytes.
fn is_byte(item: &Value) -> bool {
    let number = item.as_u64();
    item.is_null() || number.is_some_and(|number| number <= u64::from(u8::MAX))
}

fn text<'a>(node: &'a Value, key: &str) -> &'a str {
    node.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The Go type of a node.
fn go_type(node: &Value) -> String {
    let named = text(node, "x-go-type");
    if !named.is_empty() {
        return named.to_owned();
    }
    match text(node, "type") {
        "object" => match node.get("additionalProperties") {
            Some(each) => format!("map[string]{}", go_type(each)),
            None => "map[string]interface {}".to_owned(),
        },
        "array" => format!("[]{}", go_type(node.get("items").unwrap_or(&Value::Null))),
        "string" if text(node, "format") == "byte" => "[]uint8".to_owned(),
        "string" => "string".to_owned(),
        "integer" if text(node, "format") == "int32" => "int32".to_owned(),
        "integer" => "int64".to_owned(),
        "number" => "float64".to_owned(),
        "boolean" => "bool".to_owned(),
        _ => "interface {}".to_owned(),
    }
}

fn wrong(value: &Value, node: &Value, owner: &str, path: &str) -> String {
    let found = match value {
        Value::Number(number) if text(node, "type") == "integer" => format!("number {number}"),
        _ => found(value).to_owned(),
    };
    // A time decodes itself, from a text.
    let wanted = if is_time(node) {
        "string".to_owned()
    } else {
        go_type(node)
    };
    format!("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")
}

/// What Go calls the value of another type.
#[must_use]
pub fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

pub(crate) fn is_time(node: &Value) -> bool {
    matches!(text(node, "x-go-type"), "v1.Time" | "v1.MicroTime")
}

/// `owner` is the innermost struct's short name, `path` the way to the value without indexes.
fn check(value: &Value, node: &Value, owner: &str, path: &str) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let bad = || Err(wrong(value, node, owner, path));
    match (text(node, "type"), value) {
        ("object", Value::Object(members)) => {
            if let Some(fields) = node.get("properties") {
                let named = text(node, "x-go-type");
                let owner = named.rsplit('.').next().unwrap_or(owner);
                for (name, value) in members {
                    if let Some(field) = fields.get(name) {
                        // Go tells through which structures a field came to be here.
                        let path = match text(field, "x-go-embedded") {
                            "" => format!("{path}.{name}"),
                            structures => format!("{path}.{structures}.{name}"),
                        };
                        check(value, field, owner, &path)?;
                    }
                }
            } else if let Some(each) = node.get("additionalProperties") {
                for value in members.values() {
                    check(value, each, owner, path)?;
                }
            }
            Ok(())
        }
        ("array", Value::Array(items)) => match node.get("items") {
            Some(each) => items
                .iter()
                .try_for_each(|item| check(item, each, owner, path)),
            None => Ok(()),
        },
        ("string", Value::String(text)) => string(text, node),
        ("string", Value::Array(items)) if text(node, "format") == "byte" => {
            let odd = items.iter().find(|item| !is_byte(item));
            odd.map_or(Ok(()), |item| {
                let byte = serde_json::json!({"type": "integer", "x-go-type": "uint8"});
                Err(wrong(item, &byte, owner, path))
            })
        }
        ("integer", Value::Number(number)) => {
            let in_range = number.as_i64().is_some_and(|number| {
                text(node, "format") != "int32" || i32::try_from(number).is_ok()
            });
            if in_range { Ok(()) } else { bad() }
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => Ok(()),
        ("", _) => Ok(()),
        _ => bad(),
    }
}

pub(crate) fn string(value: &str, node: &Value) -> Result<(), String> {
    match (text(node, "x-go-type"), text(node, "format")) {
        ("v1.Time", _) if value.parse::<jiff::Timestamp>().is_err() => {
            Err(time_error(value, false))
        }
        ("v1.MicroTime", _) if !is_micro_time(value) => Err(time_error(value, true)),
        (_, "byte") => base64_error(value).map_or(Ok(()), |at| {
            Err(format!("illegal base64 data at input byte {at}"))
        }),
        _ => Ok(()),
    }
}

/// A moment with exactly six digits of the second.
fn is_micro_time(value: &str) -> bool {
    let fraction = value
        .split_once('.')
        .map(|(_, rest)| rest)
        .unwrap_or_default();
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    digits == 6 && value.parse::<jiff::Timestamp>().is_ok()
}

/// Where standard base64 (line breaks allowed) goes wrong.
fn base64_error(value: &str) -> Option<usize> {
    let symbol = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let mut count = 0_usize;
    let mut padding = 0_usize;
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'\n' | b'\r' => {}
            b'=' if count % 4 + padding >= 2
                && !count.is_multiple_of(4)
                && padding < 4 - count % 4 =>
            {
                padding += 1;
            }
            byte if symbol(byte) && padding == 0 => count += 1,
            _ => return Some(at),
        }
    }
    let complete = (count + padding).is_multiple_of(4);
    (!complete).then_some(value.len() - (count + padding) % 4)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn wrong_types_are_refused_in_the_words_of_go() {
        let document = json!({"type": "object", "properties": {
            "data": {"type": "object", "additionalProperties": {"type": "string"}},
            "spec": {"type": "object", "x-go-type": "v1.LeaseSpec", "properties": {
                "seconds": {"type": "integer", "format": "int32"}
            }},
            "bytes": {"type": "object", "additionalProperties": {"type": "string", "format": "byte"}}
        }});
        let schema = Schema {
            document: Some(Arc::new(document)),
            ..Schema::default()
        };
        let check = |object: Value, expect: &str| {
            assert_eq!(decode(&object, &schema, "Thing").expect_err(expect), expect);
        };
        check(
            json!({"data": "x"}),
            "json: cannot unmarshal string into Go struct field Thing.data of type map[string]string",
        );
        check(
            json!({"data": {"k": 1}}),
            "json: cannot unmarshal number into Go struct field Thing.data of type string",
        );
        check(
            json!({"spec": {"seconds": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field LeaseSpec.spec.seconds of type int32",
        );
        check(
            json!({"bytes": {"k": "not base64!"}}),
            "illegal base64 data at input byte 3",
        );
        assert!(decode(&json!({"bytes": {"k": "eH\nh4"}}), &schema, "Thing").is_ok());
    }
}

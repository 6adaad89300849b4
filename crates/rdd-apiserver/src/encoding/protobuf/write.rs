//! Objects of JSON, as messages of their type: what [`super::message`] reads.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Error, Result,
    message::{Field, Message, Shape, json_schema, json_schema_choice},
    wire::{put_bytes, put_double, put_integer},
};

impl Message {
    /// The message that stands for an object. Members that have no number are left out.
    ///
    /// # Errors
    /// When a member does not have the type of its field.
    pub fn write(&self, object: &Map<String, Value>) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for (number, field) in &self.0 {
            match field {
                Field::Inline(message) => put_bytes(&mut out, *number, &message.write(object)?),
                Field::Named {
                    name,
                    shape,
                    always,
                } => {
                    // Null is a value of what holds JSON alone.
                    let json = matches!(shape, Shape::Json);
                    match object.get(name).filter(|value| json || !value.is_null()) {
                        Some(value) => shape.write(&mut out, *number, name, value)?,
                        None if *always => shape.write_nothing(&mut out, *number)?,
                        None => {}
                    }
                }
            }
        }
        Ok(out)
    }
}

impl Shape {
    fn write_nothing(&self, out: &mut Vec<u8>, number: u32) -> Result<()> {
        match self {
            Self::Text | Self::Bytes | Self::Time { .. } => put_bytes(out, number, b""),
            Self::Integer | Self::Bool => put_integer(out, number, 0),
            Self::Double => put_double(out, number, 0.0),
            Self::Message(message) => put_bytes(out, number, &message.write(&Map::new())?),
            _ => {}
        }
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>, number: u32, name: &str, value: &Value) -> Result<()> {
        let wrong = || Error(format!("field {name} cannot hold {value}"));
        match self {
            Self::Text => {
                put_bytes(out, number, value.as_str().ok_or_else(wrong)?.as_bytes());
            }
            Self::Bytes => {
                let text = value.as_str().ok_or_else(wrong)?;
                put_bytes(out, number, &STANDARD.decode(text).map_err(|_| wrong())?);
            }
            Self::Integer => {
                let value = value.as_i64().ok_or_else(wrong)?;
                put_integer(out, number, value.cast_unsigned());
            }
            Self::Bool => put_integer(out, number, value.as_bool().ok_or_else(wrong)?.into()),
            Self::Double => put_double(out, number, value.as_f64().ok_or_else(wrong)?),
            Self::Time { .. } => {
                let text = value.as_str().ok_or_else(wrong)?;
                put_bytes(out, number, &time(text.parse().map_err(|_| wrong())?));
            }
            Self::Json => {
                let mut raw = Vec::new();
                put_bytes(&mut raw, 1, value.to_string().as_bytes());
                put_bytes(out, number, &raw);
            }
            Self::Message(message) => {
                put_object(out, number, message, value).ok_or_else(wrong)??
            }
            Self::JsonSchema => {
                put_object(out, number, json_schema(), value).ok_or_else(wrong)??
            }
            Self::JsonSchemaOrList => {
                let member = if value.is_array() { "other" } else { "schema" };
                let choice = Map::from_iter([(member.to_owned(), value.clone())]);
                put_bytes(out, number, &json_schema_choice(false).write(&choice)?);
            }
            Self::JsonSchemaOrBool => {
                let mut choice = Map::new();
                if value.is_boolean() {
                    choice.insert("other".to_owned(), value.clone());
                } else {
                    choice.insert("other".to_owned(), true.into());
                    choice.insert("schema".to_owned(), value.clone());
                }
                put_bytes(out, number, &json_schema_choice(true).write(&choice)?);
            }
            Self::List(items) => {
                for item in value.as_array().ok_or_else(wrong)? {
                    items.write(out, number, name, item)?;
                }
            }
            Self::Map(values) => {
                for (key, value) in value.as_object().ok_or_else(wrong)? {
                    let mut entry = Vec::new();
                    put_bytes(&mut entry, 1, key.as_bytes());
                    match (&**values, value) {
                        // A list within a map is one message in Go.
                        (Self::List(_), value) => {
                            let mut list = Vec::new();
                            values.write(&mut list, 1, name, value)?;
                            put_bytes(&mut entry, 2, &list);
                        }
                        (values, value) => values.write(&mut entry, 2, name, value)?,
                    }
                    put_bytes(out, number, &entry);
                }
            }
        }
        Ok(())
    }
}

fn put_object(
    out: &mut Vec<u8>,
    number: u32,
    message: &Message,
    value: &Value,
) -> Option<Result<()>> {
    let object = value.as_object()?;
    Some(
        message
            .write(object)
            .map(|inner| put_bytes(out, number, &inner)),
    )
}

fn time(time: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    let (seconds, nanoseconds) = (time.as_second(), i64::from(time.subsec_nanosecond()));
    put_integer(&mut out, 1, seconds.cast_unsigned());
    put_integer(&mut out, 2, nanoseconds.cast_unsigned());
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message() -> Message {
        Message::of(&json!({"properties": {
            "text": {"type": "string", "x-rdd-field": 1},
            "pointer": {"type": "string", "x-rdd-zero": "keep", "x-rdd-field": 2},
            "list": {"type": "array", "items": {"type": "string"}, "x-rdd-field": 3},
            "map": {"type": "object", "additionalProperties": {"type": "string", "format": "byte"}, "x-rdd-field": 4},
            "inner": {"type": "object", "properties": {"count": {"type": "integer", "x-rdd-field": 2}}, "x-rdd-field": 5},
            "inlined": {"type": "boolean", "x-rdd-field": [6, 1]},
            "time": {"type": "string", "x-go-type": "v1.Time", "x-rdd-zero": "fill", "x-rdd-fill": null, "x-rdd-field": 7},
            "precise": {"type": "string", "x-go-type": "v1.MicroTime", "x-rdd-field": 8},
            "json": {"type": "object", "x-go-type": "v1.FieldsV1", "x-rdd-field": 9},
            "schema": {"type": "object", "x-go-type": "v1.JSONSchemaProps", "x-rdd-field": 10},
            "extra": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}, "x-rdd-field": 11},
        }}))
    }

    fn written(object: Value) -> Vec<u8> {
        let object = object.as_object().cloned().unwrap_or_default();
        message().write(&object).expect("it fits the message")
    }

    #[test]
    fn what_is_written_reads_back() {
        let object = json!({
            "text": "a", "pointer": "", "list": ["", "b"], "map": {"k": "/w==", "l": ""},
            "inner": {"count": -1}, "inlined": true, "time": "2024-01-02T03:04:05Z",
            "precise": "2024-01-02T03:04:05.000006Z", "json": {"f:a": {}},
            "schema": {
                "id": "", "$schema": "", "description": "", "type": "object", "format": "",
                "title": "", "pattern": "", "exclusiveMaximum": false, "exclusiveMinimum": false,
                "uniqueItems": false, "nullable": false, "x-kubernetes-embedded-resource": false,
                "x-kubernetes-int-or-string": false, "maximum": 1.5, "default": {"a": [1]},
            },
            "extra": {"scopes": ["x", "y"], "none": []},
        });
        let read = message()
            .read(&written(object.clone()))
            .expect("our own bytes");
        assert_eq!(Value::Object(read), object);
    }

    #[test]
    fn a_schema_holds_schemas_and_truth_values() {
        for choice in [json!(false), json!({"type": "string"})] {
            let schema = json!({"schema": {"additionalProperties": choice}});
            let read = message().read(&written(schema)).expect("our own bytes");
            let found = &read["schema"]["additionalProperties"];
            match &choice {
                Value::Bool(_) => assert_eq!(found, &choice),
                choice => assert_eq!(found["type"], choice["type"]),
            }
        }
        let schema = json!({"schema": {"items": {"type": "string"}}});
        let read = message().read(&written(schema)).expect("our own bytes");
        assert_eq!(read["schema"]["items"]["type"], "string");
    }

    #[test]
    fn what_is_no_pointer_is_always_written() {
        assert_eq!(written(json!({})), b"\x0a\0\x32\x02\x08\0\x3a\0");
        assert_eq!(
            written(json!({"pointer": "", "unknown": 1, "list": null})),
            b"\x0a\0\x12\0\x32\x02\x08\0\x3a\0"
        );
    }

    #[test]
    fn a_member_of_another_type_is_an_error() {
        for object in [
            json!({"text": 1}),
            json!({"map": {"k": "*"}}),
            json!({"time": "x"}),
            json!({"inner": []}),
        ] {
            let object = object.as_object().cloned().unwrap_or_default();
            assert!(message().write(&object).is_err(), "{object:?}");
        }
    }
}

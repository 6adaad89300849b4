//! Messages of one type, as objects of JSON.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Error, Result,
    wire::{self, Payload, Reader},
};
use crate::encoding::json;

/// Messages within messages beyond this depth are refused.
const DEPTH_MAX: usize = 64;

/// How the messages of a type are read and written; made from its schema document.
#[derive(Debug, Default)]
pub struct Message(pub(super) BTreeMap<u32, Field>);

#[derive(Debug)]
pub(super) enum Field {
    /// A field that JSON shows under this name.
    Named {
        name: String,
        shape: Shape,
        /// Written also when nothing was set: it is no pointer in Go.
        always: bool,
    },
    /// A message whose fields JSON shows among those around it.
    Inline(Message),
}

#[derive(Debug)]
pub(super) enum Shape {
    Text,
    /// Bytes, which JSON spells in base64.
    Bytes,
    Integer,
    Bool,
    Double,
    /// Seconds and nanoseconds; nothing at all is no time.
    Time {
        /// Digits behind the seconds.
        digits: u8,
    },
    /// A message that holds JSON.
    Json,
    Message(Message),
    /// `v1.JSONSchemaProps`, which holds itself.
    JsonSchema,
    /// One schema, or a list of them.
    JsonSchemaOrList,
    /// A truth value, or a schema.
    JsonSchemaOrBool,
    List(Box<Shape>),
    /// From texts to this.
    Map(Box<Shape>),
}

impl Message {
    /// Reads the numbers and shapes out of a resolved schema document.
    #[must_use]
    pub fn of(document: &Value) -> Self {
        let mut message = Self::default();
        let properties = document.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            let numbers: Vec<u32> = match property.get("x-rdd-field") {
                Some(Value::Array(path)) => path.iter().filter_map(number).collect(),
                Some(one) => number(one).into_iter().collect(),
                None => continue,
            };
            if let [outer @ .., last] = numbers.as_slice() {
                let mut place = &mut message;
                for number in outer {
                    let field = place
                        .0
                        .entry(*number)
                        .or_insert_with(|| Field::Inline(Self::default()));
                    place = match field {
                        Field::Inline(inner) => inner,
                        Field::Named { .. } => {
                            unreachable!("a number is inline for all or for none")
                        }
                    };
                }
                place.0.insert(*last, Field::of(name, property));
            }
        }
        message
    }

    /// The object that a message stands for. Fields of unknown numbers are read over.
    ///
    /// # Errors
    /// When the bytes are no message of this type.
    pub fn read(&self, bytes: &[u8]) -> Result<Map<String, Value>> {
        let mut object = Map::new();
        self.read_into(bytes, &mut object, 0)?;
        Ok(object)
    }

    fn read_into(&self, bytes: &[u8], object: &mut Map<String, Value>, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error("proto: exceeded maximum recursion depth".to_owned()));
        }
        let mut reader = Reader::new(bytes);
        while let Some((number, payload)) = reader.next()? {
            match self.0.get(&number) {
                None => {}
                Some(Field::Inline(message)) => match payload {
                    Payload::Bytes(inner) => message.read_into(inner, object, depth + 1)?,
                    other => return Err(wrong_type(&number.to_string(), &other)),
                },
                Some(Field::Named { name, shape, .. }) => {
                    shape.read_into(name, payload, object, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

impl Field {
    fn of(name: &str, property: &Value) -> Self {
        let zero = property.get("x-rdd-zero").and_then(Value::as_str);
        let shape = Shape::of(property);
        let always = match &shape {
            Shape::Text | Shape::Integer | Shape::Bool | Shape::Double => zero != Some("keep"),
            Shape::Message(_) => zero == Some("fill"),
            // Left out of JSON when it is zero, and yet no pointer.
            Shape::Time { .. } => zero == Some("fill") || name == "creationTimestamp",
            _ => false,
        };
        Self::named(name, shape, always)
    }

    fn named(name: &str, shape: Shape, always: bool) -> Self {
        Self::Named {
            name: name.to_owned(),
            shape,
            always,
        }
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

impl Shape {
    fn of(document: &Value) -> Self {
        let text = |key: &str| document.get(key).and_then(Value::as_str);
        match (text("x-go-type"), text("type"), text("format")) {
            (Some("v1.JSONSchemaProps"), ..) => Self::JsonSchema,
            (Some("v1.FieldsV1" | "v1.JSON"), ..) => Self::Json,
            (Some("v1.Time"), ..) => Self::Time { digits: 0 },
            (Some("v1.MicroTime"), ..) => Self::Time { digits: 6 },
            (_, Some("string"), Some("byte")) => Self::Bytes,
            (_, Some("string"), _) => Self::Text,
            (_, Some("integer"), _) => Self::Integer,
            (_, Some("number"), _) => Self::Double,
            (_, Some("boolean"), _) => Self::Bool,
            (_, Some("array"), _) => Self::List(Box::new(Self::of(
                document.get("items").unwrap_or(&Value::Null),
            ))),
            _ => match document.get("additionalProperties") {
                Some(values) => Self::Map(Box::new(Self::of(values))),
                None => Self::Message(Message::of(document)),
            },
        }
    }

    fn read_into(
        &self,
        name: &str,
        payload: Payload<'_>,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<()> {
        match self {
            Self::List(items) => {
                let item = items.read(name, payload, depth)?;
                match object.entry(name).or_insert_with(|| json!([])) {
                    Value::Array(items) => items.push(item),
                    other => *other = json!([item]),
                }
            }
            Self::Map(values) => {
                let (key, value) = values.read_entry(name, payload, depth)?;
                match object.entry(name).or_insert_with(|| json!({})) {
                    Value::Object(members) => {
                        members.insert(key, value);
                    }
                    other => *other = json!({key: value}),
                }
            }
            // A message that comes twice is one, by the rules of protobuf.
            Self::Message(message) => {
                let inner = bytes(name, payload)?;
                let mut members = match object.remove(name) {
                    Some(Value::Object(members)) => members,
                    _ => Map::new(),
                };
                message.read_into(inner, &mut members, depth)?;
                object.insert(name.to_owned(), Value::Object(members));
            }
            _ => {
                let value = self.read(name, payload, depth)?;
                object.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn read(&self, name: &str, payload: Payload<'_>, depth: usize) -> Result<Value> {
        let within = |message: &Message| -> Result<Map<String, Value>> {
            let mut members = Map::new();
            message.read_into(bytes(name, payload)?, &mut members, depth)?;
            Ok(members)
        };
        Ok(match self {
            Self::Text => Value::String(wire::text(bytes(name, payload)?)?),
            Self::Bytes => Value::String(STANDARD.encode(bytes(name, payload)?)),
            Self::Integer => json!(varint(name, payload)?.cast_signed()),
            Self::Bool => json!(varint(name, payload)? != 0),
            Self::Double => match payload {
                Payload::Eight(bytes) => json!(f64::from_le_bytes(bytes)),
                other => return Err(wrong_type(name, &other)),
            },
            Self::Time { digits } => time(name, bytes(name, payload)?, *digits)?,
            Self::Json => raw_json(name, bytes(name, payload)?)?,
            Self::Message(message) => Value::Object(within(message)?),
            Self::JsonSchema => Value::Object(within(json_schema())?),
            Self::JsonSchemaOrList | Self::JsonSchemaOrBool => {
                let mut members =
                    within(json_schema_choice(matches!(self, Self::JsonSchemaOrBool)))?;
                let first = members.remove("schema");
                first
                    .or_else(|| members.remove("other"))
                    .unwrap_or(Value::Null)
            }
            Self::List(items) => json!([items.read(name, payload, depth)?]),
            Self::Map(values) => {
                let (key, value) = values.read_entry(name, payload, depth)?;
                json!({key: value})
            }
        })
    }

    /// An entry of a map is a message of key and value; either may be left out.
    fn read_entry(
        &self,
        name: &str,
        payload: Payload<'_>,
        depth: usize,
    ) -> Result<(String, Value)> {
        let mut key = String::new();
        let mut value = None;
        let mut reader = Reader::new(bytes(name, payload)?);
        while let Some((number, payload)) = reader.next()? {
            match number {
                1 => key = wire::text(bytes(name, payload)?)?,
                2 => value = Some(self.read_value(name, payload, depth + 1)?),
                _ => {}
            }
        }
        let value = match value {
            Some(value) => value,
            None => self.empty(),
        };
        Ok((key, value))
    }

    /// A value of a map; a list is a message of its own, with the items as field 1.
    fn read_value(&self, name: &str, payload: Payload<'_>, depth: usize) -> Result<Value> {
        let Self::List(items) = self else {
            return self.read(name, payload, depth);
        };
        let mut list = Vec::new();
        let mut reader = Reader::new(bytes(name, payload)?);
        while let Some((number, payload)) = reader.next()? {
            if number == 1 {
                list.push(items.read(name, payload, depth)?);
            }
        }
        Ok(Value::Array(list))
    }

    fn empty(&self) -> Value {
        match self {
            Self::Text | Self::Bytes => json!(""),
            Self::Integer => json!(0),
            Self::Bool => json!(false),
            Self::Double => json!(0.0),
            Self::List(_) => json!([]),
            Self::Time { .. } | Self::Json | Self::JsonSchemaOrList | Self::JsonSchemaOrBool => {
                Value::Null
            }
            Self::Message(_) | Self::JsonSchema | Self::Map(_) => json!({}),
        }
    }
}

fn bytes<'a>(name: &str, payload: Payload<'a>) -> Result<&'a [u8]> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        other => Err(wrong_type(name, &other)),
    }
}

fn varint(name: &str, payload: Payload<'_>) -> Result<u64> {
    match payload {
        Payload::Varint(value) => Ok(value),
        other => Err(wrong_type(name, &other)),
    }
}

fn wrong_type(name: &str, found: &Payload<'_>) -> Error {
    let found = match found {
        Payload::Varint(_) => 0,
        Payload::Eight(_) => 1,
        Payload::Bytes(_) => 2,
        Payload::Four => 5,
    };
    Error(format!(
        "proto: wrong wireType = {found} for field {}",
        go_name(name)
    ))
}

/// What Go calls a field that JSON shows under this name.
fn go_name(name: &str) -> String {
    const INITIALS: &[&str] = &["api", "uid", "url", "ca"];
    let word = name
        .find(|letter: char| letter.is_ascii_uppercase())
        .unwrap_or(name.len());
    let (first, rest) = name.split_at(word);
    if INITIALS.contains(&first) {
        return format!("{}{rest}", first.to_ascii_uppercase());
    }
    let mut letters = name.chars();
    match letters.next() {
        Some(letter) => letter.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// `v1.Time` and `v1.MicroTime`: second 0 without nanoseconds is no time.
fn time(name: &str, bytes: &[u8], digits: u8) -> Result<Value> {
    let (mut seconds, mut nanoseconds) = (0_i64, 0_i64);
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => seconds = varint(name, payload)?.cast_signed(),
            2 => nanoseconds = varint(name, payload)?.cast_signed(),
            _ => {}
        }
    }
    if seconds == 0 && nanoseconds == 0 {
        return Ok(Value::Null);
    }
    let nanoseconds = i32::try_from(nanoseconds).map_err(|_| no_time(name))?;
    let time = Timestamp::new(seconds, nanoseconds).map_err(|_| no_time(name))?;
    Ok(Value::String(match digits {
        0 => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        _ => time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
    }))
}

fn no_time(name: &str) -> Error {
    Error(format!("proto: field {name} holds no time"))
}

/// A message whose field 1 is a text of JSON.
fn raw_json(name: &str, bytes: &[u8]) -> Result<Value> {
    let mut reader = Reader::new(bytes);
    let mut raw: &[u8] = b"null";
    while let Some((number, payload)) = reader.next()? {
        if number == 1 {
            raw = self::bytes(name, payload)?;
        }
    }
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    json::parse_trusted(raw).map_err(|error| Error(format!("field {name} holds no JSON: {error}")))
}

/// `v1.JSONSchemaPropsOrBool` or `v1.JSONSchemaPropsOrArray`.
pub(super) fn json_schema_choice(or_bool: bool) -> &'static Message {
    static CHOICES: OnceLock<[Message; 2]> = OnceLock::new();
    let choices = CHOICES.get_or_init(|| {
        let schemas = Shape::List(Box::new(Shape::JsonSchema));
        [
            Message(BTreeMap::from([
                (1, Field::named("schema", Shape::JsonSchema, false)),
                (2, Field::named("other", schemas, false)),
            ])),
            Message(BTreeMap::from([
                (1, Field::named("other", Shape::Bool, true)),
                (2, Field::named("schema", Shape::JsonSchema, false)),
            ])),
        ]
    });
    &choices[usize::from(or_bool)]
}

/// `v1.JSONSchemaProps` of `apiextensions.k8s.io`.
pub(super) fn json_schema() -> &'static Message {
    static MESSAGE: OnceLock<Message> = OnceLock::new();
    MESSAGE.get_or_init(|| {
        let list = |shape| Shape::List(Box::new(shape));
        let map = |shape| Shape::Map(Box::new(shape));
        let rule = json!({"properties": {
            "rule": {"type": "string", "x-rdd-field": 1},
            "message": {"type": "string", "x-rdd-field": 2},
            "messageExpression": {"type": "string", "x-rdd-field": 3},
            "reason": {"type": "string", "x-rdd-field": 4},
            "fieldPath": {"type": "string", "x-rdd-field": 5},
            "optionalOldSelf": {"type": "boolean", "x-rdd-field": 6},
        }});
        let documentation = json!({"properties": {
            "description": {"type": "string", "x-rdd-field": 1},
            "url": {"type": "string", "x-rdd-field": 2},
        }});
        let fields = [
            (1, "id", Shape::Text),
            (2, "$schema", Shape::Text),
            (3, "$ref", Shape::Text),
            (4, "description", Shape::Text),
            (5, "type", Shape::Text),
            (6, "format", Shape::Text),
            (7, "title", Shape::Text),
            (8, "default", Shape::Json),
            (9, "maximum", Shape::Double),
            (10, "exclusiveMaximum", Shape::Bool),
            (11, "minimum", Shape::Double),
            (12, "exclusiveMinimum", Shape::Bool),
            (13, "maxLength", Shape::Integer),
            (14, "minLength", Shape::Integer),
            (15, "pattern", Shape::Text),
            (16, "maxItems", Shape::Integer),
            (17, "minItems", Shape::Integer),
            (18, "uniqueItems", Shape::Bool),
            (19, "multipleOf", Shape::Double),
            (20, "enum", list(Shape::Json)),
            (21, "maxProperties", Shape::Integer),
            (22, "minProperties", Shape::Integer),
            (23, "required", list(Shape::Text)),
            (24, "items", Shape::JsonSchemaOrList),
            (25, "allOf", list(Shape::JsonSchema)),
            (26, "oneOf", list(Shape::JsonSchema)),
            (27, "anyOf", list(Shape::JsonSchema)),
            (28, "not", Shape::JsonSchema),
            (29, "properties", map(Shape::JsonSchema)),
            (30, "additionalProperties", Shape::JsonSchemaOrBool),
            (31, "patternProperties", map(Shape::JsonSchema)),
            (33, "additionalItems", Shape::JsonSchemaOrBool),
            (34, "definitions", map(Shape::JsonSchema)),
            (35, "externalDocs", Shape::of(&documentation)),
            (36, "example", Shape::Json),
            (37, "nullable", Shape::Bool),
            (38, "x-kubernetes-preserve-unknown-fields", Shape::Bool),
            (39, "x-kubernetes-embedded-resource", Shape::Bool),
            (40, "x-kubernetes-int-or-string", Shape::Bool),
            (41, "x-kubernetes-list-map-keys", list(Shape::Text)),
            (42, "x-kubernetes-list-type", Shape::Text),
            (43, "x-kubernetes-map-type", Shape::Text),
            (44, "x-kubernetes-validations", list(Shape::of(&rule))),
        ];
        const PLAIN: &[&str] = &[
            "id",
            "$schema",
            "description",
            "type",
            "format",
            "title",
            "pattern",
            "exclusiveMaximum",
            "exclusiveMinimum",
            "uniqueItems",
            "nullable",
            "x-kubernetes-embedded-resource",
            "x-kubernetes-int-or-string",
        ];
        let field = |(number, name, shape)| {
            let always = PLAIN.contains(&name);
            (number, Field::named(name, shape, always))
        };
        Message(fields.into_iter().map(field).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_another_type_is_told_as_go_calls_it() {
        let check = |name: &str, document: Value, bytes: &[u8], expect: &str| {
            let document = json!({"properties": {name: document}});
            let error = Message::of(&document)
                .read(bytes)
                .expect_err("it is refused");
            assert_eq!(error.to_string(), expect);
        };
        check(
            "leaseDurationSeconds",
            json!({"type": "integer", "x-rdd-field": 1}),
            b"\n\x01a",
            "proto: wrong wireType = 2 for field LeaseDurationSeconds",
        );
        check(
            "apiGroup",
            json!({"type": "string", "x-rdd-field": 1}),
            b"\x08\x01",
            "proto: wrong wireType = 0 for field APIGroup",
        );
    }

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("a short field");
        [&[number << 3 | 2, length], bytes].concat()
    }

    fn message() -> Message {
        Message::of(&json!({"properties": {
            "text": {"type": "string", "x-rdd-field": 1},
            "list": {"type": "array", "items": {"type": "string"}, "x-rdd-field": 2},
            "map": {"type": "object", "additionalProperties": {"type": "string", "format": "byte"}, "x-rdd-field": 3},
            "inner": {"type": "object", "properties": {"flag": {"type": "boolean", "x-rdd-field": 1}, "count": {"type": "integer", "x-rdd-field": 2}}, "x-rdd-field": 4},
            "inlined": {"type": "integer", "x-rdd-field": [5, 1]},
            "time": {"type": "string", "x-go-type": "v1.Time", "x-rdd-field": 6},
            "precise": {"type": "string", "x-go-type": "v1.MicroTime", "x-rdd-field": 7},
            "json": {"type": "object", "x-go-type": "v1.FieldsV1", "x-rdd-field": 8},
            "schema": {"type": "object", "x-go-type": "v1.JSONSchemaProps", "x-rdd-field": 9},
        }}))
    }

    #[test]
    fn every_shape_is_read() {
        let check = |bytes: Vec<u8>, wanted: Value| {
            let read = message().read(&bytes).expect("it is a message");
            assert_eq!(Value::Object(read), wanted);
        };
        check(field(1, b"a"), json!({"text": "a"}));
        check(
            [field(2, b"a"), field(2, b"b")].concat(),
            json!({"list": ["a", "b"]}),
        );
        check(
            field(3, &[field(1, b"k"), field(2, b"\xff")].concat()),
            json!({"map": {"k": "/w=="}}),
        );
        check(field(3, &field(1, b"k")), json!({"map": {"k": ""}}));
        check(
            [
                field(4, b"\x08\x01"),
                field(4, b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            ]
            .concat(),
            json!({"inner": {"flag": true, "count": -1}}),
        );
        check(field(4, b""), json!({"inner": {}}));
        check(field(5, b"\x08\x07"), json!({"inlined": 7}));
        check(
            field(6, b"\x08\x01"),
            json!({"time": "1970-01-01T00:00:01Z"}),
        );
        check(field(6, b""), json!({"time": null}));
        check(
            field(7, b"\x08\x01\x10\xe8\x07"),
            json!({"precise": "1970-01-01T00:00:01.000001Z"}),
        );
        check(
            field(8, &field(1, br#"{"f:a":{}}"#)),
            json!({"json": {"f:a": {}}}),
        );
        check(field(15, b"whatever"), json!({}));
    }

    #[test]
    fn schemas_hold_schemas() {
        let property = [field(5, b"object"), {
            // additionalProperties: a number above 15 takes two bytes.
            let inner = field(2, &field(5, b"string"));
            [
                &[0xf2, 0x01, u8::try_from(inner.len()).expect("short")][..],
                &inner,
            ]
            .concat()
        }]
        .concat();
        let entry = [field(1, b"spec"), field(2, &property)].concat();
        let properties = [
            &[0xea, 0x01, u8::try_from(entry.len()).expect("short")][..],
            &entry,
        ]
        .concat();
        let read = message()
            .read(&field(9, &properties))
            .expect("it is a message");
        assert_eq!(
            Value::Object(read),
            json!({"schema": {"properties": {"spec": {
                "type": "object",
                "additionalProperties": {"type": "string"},
            }}}})
        );
    }

    #[test]
    fn a_field_of_another_type_and_endless_nesting_are_refused() {
        assert!(message().read(b"\x08\x01").is_err());
        assert!(
            message()
                .read(&field(6, b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))
                .is_err()
        );
        assert!(message().read(&field(8, &field(1, b"{"))).is_err());
        // not: {not: {not: …
        let mut schema = Vec::new();
        for _ in 0..DEPTH_MAX {
            let mut outer = vec![0xe2, 0x01];
            let mut length = schema.len();
            while length >= 0x80 {
                outer.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            outer.push((length & 0x7f) as u8);
            outer.extend(&schema);
            schema = outer;
        }
        let mut whole = vec![0x4a];
        let length = schema.len();
        whole.push((length & 0x7f) as u8 | 0x80);
        whole.push((length >> 7) as u8);
        whole.extend(&schema);
        let error = message().read(&whole).expect_err("it is too deep");
        assert!(error.to_string().contains("recursion depth"), "{error}");
    }
}

//! OpenAPI v2 in the protobuf form that client-go reads.
//!
//! kubectl up to 1.26 knows no other form: it validates what it sends, and explains
//! types, from this one. The messages and their numbers are those of gnostic's
//! `OpenAPIv2.proto`; only what a document of this server can hold is listed.

use serde_json::Value;

/// How a member of a JSON object is written.
enum Form {
    Text,
    Bool,
    Double,
    Integer,
    Texts,
    /// An arbitrary value, as YAML text.
    Any,
    Anys,
    One(&'static Message),
    Many(&'static Message),
    /// A list of names and messages, in a message of its own.
    Map(&'static Message),
    /// A text or a list of texts.
    Type,
    /// One schema, or `true` or `false`.
    SchemaOrBool,
    /// One schema in a list.
    Items,
    Parameters,
    Responses,
}

/// Name in JSON, number, form.
type Field = (&'static str, u32, Form);

/// A message: its fields, and the number of its extensions `x-…`.
struct Message(&'static [Field], u32);

static DOCUMENT: Message = Message(
    &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::One(&INFO)),
        ("paths", 8, Form::One(&PATHS)),
        ("definitions", 9, Form::Map(&SCHEMA)),
    ],
    16,
);

static INFO: Message = Message(&[("title", 1, Form::Text), ("version", 2, Form::Text)], 7);

/// Its members are paths, not fields.
static PATHS: Message = Message(&[], 1);

static PATH_ITEM: Message = Message(
    &[
        ("get", 2, Form::One(&OPERATION)),
        ("put", 3, Form::One(&OPERATION)),
        ("post", 4, Form::One(&OPERATION)),
        ("delete", 5, Form::One(&OPERATION)),
        ("patch", 8, Form::One(&OPERATION)),
        ("parameters", 9, Form::Parameters),
    ],
    10,
);

static OPERATION: Message = Message(
    &[
        ("tags", 1, Form::Texts),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Texts),
        ("consumes", 7, Form::Texts),
        ("parameters", 8, Form::Parameters),
        ("responses", 9, Form::Responses),
        ("schemes", 10, Form::Texts),
    ],
    13,
);

static BODY_PARAMETER: Message = Message(
    &[
        ("description", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Bool),
        ("schema", 5, Form::One(&SCHEMA)),
    ],
    6,
);

static QUERY_PARAMETER: Message = Message(
    &[
        ("required", 1, Form::Bool),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("uniqueItems", 20, Form::Bool),
    ],
    23,
);

static PATH_PARAMETER: Message = Message(
    &[
        ("required", 1, Form::Bool),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("uniqueItems", 19, Form::Bool),
    ],
    22,
);

static RESPONSE: Message = Message(
    &[
        ("description", 1, Form::Text),
        // Wrapped: the other choice would be a file.
        ("schema", 2, Form::Items),
    ],
    5,
);

static SCHEMA: Message = Message(
    &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("multipleOf", 6, Form::Double),
        ("maximum", 7, Form::Double),
        ("exclusiveMaximum", 8, Form::Bool),
        ("minimum", 9, Form::Double),
        ("exclusiveMinimum", 10, Form::Bool),
        ("maxLength", 11, Form::Integer),
        ("minLength", 12, Form::Integer),
        ("pattern", 13, Form::Text),
        ("maxItems", 14, Form::Integer),
        ("minItems", 15, Form::Integer),
        ("uniqueItems", 16, Form::Bool),
        ("maxProperties", 17, Form::Integer),
        ("minProperties", 18, Form::Integer),
        ("required", 19, Form::Texts),
        ("enum", 20, Form::Anys),
        ("additionalProperties", 21, Form::SchemaOrBool),
        ("type", 22, Form::Type),
        ("items", 23, Form::Items),
        ("allOf", 24, Form::Many(&SCHEMA)),
        ("properties", 25, Form::Map(&SCHEMA)),
        ("example", 30, Form::Any),
    ],
    31,
);

/// The document of JSON in protobuf.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, &DOCUMENT, document);
    out
}

fn message(out: &mut Vec<u8>, kind: &Message, value: &Value) {
    let Some(members) = value.as_object() else {
        return;
    };
    for (name, number, form) in kind.0 {
        if let Some(value) = members.get(*name) {
            field(out, *number, form, value);
        }
    }
    let extensions = members.iter().filter(|(name, _)| name.starts_with("x-"));
    for (name, value) in extensions {
        named(out, kind.1, name, |out| any(out, 2, value));
    }
    let paths = members.iter().filter(|(name, _)| name.starts_with('/'));
    for (name, value) in paths {
        named(out, 2, name, |out| {
            nested(out, 2, |out| message(out, &PATH_ITEM, value));
        });
    }
}

fn field(out: &mut Vec<u8>, number: u32, form: &Form, value: &Value) {
    match form {
        Form::Text => text(out, number, value.as_str().unwrap_or_default()),
        Form::Bool => boolean(out, number, value == true),
        Form::Double => {
            varint(out, u64::from(number << 3 | 1));
            out.extend(value.as_f64().unwrap_or_default().to_le_bytes());
        }
        Form::Integer => {
            varint(out, u64::from(number << 3));
            // Two's complement, as protobuf writes an int64.
            varint(out, value.as_i64().unwrap_or_default().cast_unsigned());
        }
        Form::Texts => {
            for item in items(value) {
                text(out, number, item.as_str().unwrap_or_default());
            }
        }
        Form::Any => any(out, number, value),
        Form::Anys => items(value).for_each(|item| any(out, number, item)),
        Form::One(kind) => nested(out, number, |out| message(out, kind, value)),
        Form::Many(kind) => {
            for item in items(value) {
                nested(out, number, |out| message(out, kind, item));
            }
        }
        Form::Map(kind) => nested(out, number, |out| {
            for (name, value) in value.as_object().into_iter().flatten() {
                named(out, 1, name, |out| {
                    nested(out, 2, |out| message(out, kind, value));
                });
            }
        }),
        Form::Type => nested(out, number, |out| match value {
            Value::Array(types) => {
                for kind in types {
                    text(out, 1, kind.as_str().unwrap_or_default());
                }
            }
            kind => text(out, 1, kind.as_str().unwrap_or_default()),
        }),
        Form::SchemaOrBool => nested(out, number, |out| match value {
            Value::Bool(allowed) => boolean(out, 2, *allowed),
            schema => nested(out, 1, |out| message(out, &SCHEMA, schema)),
        }),
        Form::Items => nested(out, number, |out| {
            nested(out, 1, |out| message(out, &SCHEMA, value));
        }),
        Form::Parameters => {
            for parameter in items(value) {
                nested(out, number, |out| {
                    nested(out, 1, |out| self::parameter(out, parameter));
                });
            }
        }
        Form::Responses => nested(out, number, |out| {
            for (code, response) in value.as_object().into_iter().flatten() {
                named(out, 1, code, |out| {
                    nested(out, 2, |out| {
                        nested(out, 1, |out| message(out, &RESPONSE, response));
                    });
                });
            }
        }),
    }
}

fn parameter(out: &mut Vec<u8>, parameter: &Value) {
    match parameter["in"].as_str() {
        Some("body") => nested(out, 1, |out| message(out, &BODY_PARAMETER, parameter)),
        Some("path") => nested(out, 2, |out| {
            nested(out, 4, |out| message(out, &PATH_PARAMETER, parameter));
        }),
        _ => nested(out, 2, |out| {
            nested(out, 3, |out| message(out, &QUERY_PARAMETER, parameter));
        }),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Every JSON text is YAML.
fn any(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| text(out, 2, &value.to_string()));
}

fn named(out: &mut Vec<u8>, number: u32, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    nested(out, number, |out| {
        text(out, 1, name);
        value(out);
    });
}

fn nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, number, &inner);
}

fn text(out: &mut Vec<u8>, number: u32, text: &str) {
    bytes(out, number, text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number << 3 | 2));
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn boolean(out: &mut Vec<u8>, number: u32, value: bool) {
    varint(out, u64::from(number << 3));
    varint(out, u64::from(value));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_written_with_the_numbers_of_gnostic() {
        let document = json!({
            "swagger": "2.0",
            "definitions": {"W": {"type": "object", "x-a": [1], "properties": {"n": {"minimum": 1}}}},
        });
        let schema = [
            // type: TypeItem{value: "object"}
            &b"\xb2\x01\x08\x0a\x06object"[..],
            // properties: {n: Schema{minimum: 1.0}}
            b"\xca\x01\x10\x0a\x0e\x0a\x01n\x12\x09\x49\0\0\0\0\0\0\xf0\x3f",
            // extension x-a: Any{yaml: "[1]"}
            b"\xfa\x01\x0c\x0a\x03x-a\x12\x05\x12\x03[1]",
        ]
        .concat();
        let mut wanted = b"\x0a\x032.0".to_vec();
        nested(&mut wanted, 9, |out| {
            named(out, 1, "W", |out| bytes(out, 2, &schema));
        });
        assert_eq!(encode(&document), wanted);
    }

    #[test]
    fn lengths_and_negative_numbers_take_several_bytes() {
        let long = "x".repeat(300);
        let document = json!({"swagger": long});
        assert_eq!(encode(&document)[..3], [0x0a, 0xac, 0x02]);
        let mut out = Vec::new();
        field(&mut out, 11, &Form::Integer, &json!(-1));
        assert_eq!(out.len(), 11);
    }
}

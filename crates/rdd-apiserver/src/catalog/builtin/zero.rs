//! The form in which Go writes an object: which empty fields are left out, which are
//! always there, and how times and bytes are spelled.
//!
//! Clients see it in every answer (`"spec":{}` of an empty Lease, the missing `data`
//! of a ConfigMap without any), and managed fields are computed from it.

use std::collections::BTreeMap;

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use serde_json::{Map, Value};

/// How the objects of a type are written; made from its schema document.
#[derive(Debug)]
pub struct Form(Node);

#[derive(Debug)]
struct Node {
    zero: Zero,
    kind: Kind,
}

/// What becomes of a field that holds nothing.
#[derive(Debug)]
enum Zero {
    /// It is left out, also when it is empty, 0 or false.
    Drop,
    /// It is left out when absent or null only.
    Keep,
    /// It is written as this value.
    Fill(Value),
}

#[derive(Debug)]
enum Kind {
    Struct(BTreeMap<String, Node>),
    Map(Box<Node>),
    List(Box<Node>),
    Text,
    /// A moment in whole seconds.
    Time,
    /// A moment in microseconds.
    MicroTime,
    Bytes,
    Scalar,
    Any,
}

impl Form {
    /// Reads the form out of a resolved schema document.
    #[must_use]
    pub fn of(document: &Value) -> Self {
        Self(Node::of(document))
    }

    /// Gives a decoded object the form in which Go would write it. Values of the wrong
    /// type are left alone: decoding has refused them before.
    pub fn apply(&self, object: &mut Value) {
        self.0.apply(object);
    }

    /// What Go writes for an object of the type in which nothing was set.
    #[must_use]
    pub fn empty(&self) -> Value {
        let mut object = Value::Object(Map::new());
        self.0.apply(&mut object);
        object
    }
}

impl Node {
    fn of(document: &Value) -> Self {
        let zero = match document.get("x-rdd-zero").and_then(Value::as_str) {
            Some("keep") => Zero::Keep,
            Some("fill") => Zero::Fill(document.get("x-rdd-fill").cloned().unwrap_or_default()),
            _ => Zero::Drop,
        };
        let text = |key: &str| document.get(key).and_then(Value::as_str);
        let kind = match text("type") {
            Some("object") => {
                if let Some(properties) = document.get("properties").and_then(Value::as_object) {
                    let fields = properties
                        .iter()
                        .map(|(name, node)| (name.clone(), Self::of(node)));
                    Kind::Struct(fields.collect())
                } else if let Some(values) = document.get("additionalProperties") {
                    Kind::Map(Box::new(Self::of(values)))
                } else {
                    Kind::Any
                }
            }
            Some("array") => Kind::List(Box::new(Self::of(
                document.get("items").unwrap_or(&Value::Null),
            ))),
            Some("string") => match (text("x-go-type"), text("format")) {
                (Some("v1.MicroTime"), _) => Kind::MicroTime,
                (Some("v1.Time"), _) => Kind::Time,
                (_, Some("byte")) => Kind::Bytes,
                _ => Kind::Text,
            },
            Some(_) => Kind::Scalar,
            None => Kind::Any,
        };
        Self { zero, kind }
    }

    fn apply(&self, value: &mut Value) {
        match (&self.kind, value) {
            (Kind::Struct(fields), Value::Object(members)) => {
                for (name, field) in fields {
                    field.apply_to_field(name, members);
                }
            }
            (Kind::Map(values), Value::Object(members)) => {
                for value in members.values_mut() {
                    values.apply_to_element(value);
                }
            }
            (Kind::List(items), Value::Array(elements)) => {
                for element in elements {
                    items.apply_to_element(element);
                }
            }
            (Kind::Time, Value::String(text)) => respell_time(text, 0),
            (Kind::MicroTime, Value::String(text)) => respell_time(text, 6),
            (Kind::Bytes, value @ Value::Array(_)) => *value = bytes_of(value),
            (Kind::Bytes, Value::String(text)) => respell_bytes(text),
            _ => {}
        }
    }

    fn apply_to_field(&self, name: &str, members: &mut Map<String, Value>) {
        let absent = members.get(name).is_none_or(Value::is_null);
        match (&self.zero, absent) {
            (Zero::Fill(filler), true) => {
                members.insert(name.to_owned(), filler.clone());
            }
            (_, true) => {
                members.remove(name);
            }
            (_, false) => {}
        }
        let Some(value) = members.get_mut(name) else {
            return;
        };
        self.apply(value);
        match &self.zero {
            Zero::Drop if is_zero(value) => {
                members.remove(name);
            }
            // An empty list of a field that is always written is Go's nil.
            Zero::Fill(Value::Null) if is_zero(value) => *value = Value::Null,
            _ => {}
        }
    }

    /// Elements are never left out: null is the zero value of their type.
    fn apply_to_element(&self, value: &mut Value) {
        if value.is_null() {
            *value = match &self.kind {
                Kind::Text | Kind::Bytes => Value::String(String::new()),
                Kind::Struct(_) => Value::Object(Map::new()),
                _ => Value::Null,
            };
        }
        self.apply(value);
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// RFC 3339 in UTC with exactly so many digits of the second.
fn respell_time(text: &mut String, digits: usize) {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        let moment = moment.to_zoned(jiff::tz::TimeZone::UTC);
        *text = if digits == 0 {
            moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
        } else {
            moment.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
        };
    }
}

/// Bytes that were given as a list of numbers.
fn bytes_of(list: &Value) -> Value {
    let items = list.as_array().into_iter().flatten();
    let bytes: Vec<u8> = items
        .map(|item| item.as_u64().and_then(|number| u8::try_from(number).ok()))
        .map(Option::unwrap_or_default)
        .collect();
    Value::String(STANDARD.encode(bytes))
}

/// Base64 without line breaks.
fn respell_bytes(text: &mut String) {
    // Go reads over line breaks and over bits behind the last byte.
    const READER: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let joined: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    if let Ok(bytes) = READER.decode(&joined) {
        *text = STANDARD.encode(bytes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::builtin::Document;

    fn check(form: &Form, mut object: Value, expect: &Value) {
        form.apply(&mut object);
        assert_eq!(&object, expect);
    }

    #[test]
    fn empty_fields_are_left_out_unless_they_are_pointers() {
        let form = Document::config_map().form;
        check(
            &form,
            json!({"metadata": {"name": "a", "labels": {}}, "data": {}, "immutable": false}),
            &json!({"metadata": {"name": "a"}, "immutable": false}),
        );
        check(
            &form,
            json!({"data": {"a": null}, "binaryData": null}),
            &json!({"metadata": {}, "data": {"a": ""}}),
        );
    }

    #[test]
    fn structs_and_times_of_an_event_are_always_written() {
        check(
            &Document::event().form,
            json!({"metadata": {"name": "a"}, "message": "m"}),
            &json!({
                "metadata": {"name": "a"}, "message": "m", "involvedObject": {}, "source": {},
                "firstTimestamp": null, "lastTimestamp": null, "eventTime": null,
                "reportingComponent": "", "reportingInstance": "",
            }),
        );
    }

    #[test]
    fn a_lease_keeps_zero_pointers_and_times_become_utc() {
        check(
            &Document::lease().form,
            json!({"spec": {"holderIdentity": "", "renewTime": "2024-01-02T05:04:05.123456+02:00"}}),
            &json!({"metadata": {}, "spec": {"holderIdentity": "", "renewTime": "2024-01-02T03:04:05.123456Z"}}),
        );
    }

    #[test]
    fn base64_loses_its_line_breaks() {
        check(
            &Document::secret().form,
            json!({"data": {"k": "eH\nh4"}}),
            &json!({"metadata": {}, "data": {"k": "eHh4"}}),
        );
        check(
            &Document::secret().form,
            json!({"data": {"k": [120, null, 255]}}),
            &json!({"metadata": {}, "data": {"k": "eAD/"}}),
        );
    }
}

//! The form of an `openAPIV3Schema` as Go writes it back: keywords that it does not
//! know and values that mean nothing (`false`, `[]`, `{}`, `default: null`) are gone.

use serde_json::{Map, Value};

/// What a keyword's value is made of.
#[derive(Clone, Copy, PartialEq)]
enum Content {
    /// A plain value, left out when it is zero.
    Plain,
    /// A value behind a pointer in Go: only null is left out.
    Pointer,
    /// A schema, or something that is none and left alone.
    Schema,
    /// A list of schemas.
    List,
    /// Names and their schemas.
    Map,
}

fn content(keyword: &str) -> Option<Content> {
    Some(match keyword {
        "id"
        | "$schema"
        | "description"
        | "type"
        | "format"
        | "title"
        | "exclusiveMaximum"
        | "exclusiveMinimum"
        | "pattern"
        | "uniqueItems"
        | "enum"
        | "required"
        | "dependencies"
        | "externalDocs"
        | "nullable"
        | "x-kubernetes-embedded-resource"
        | "x-kubernetes-int-or-string"
        | "x-kubernetes-list-map-keys"
        | "x-kubernetes-validations" => Content::Plain,
        "$ref"
        | "default"
        | "example"
        | "maximum"
        | "minimum"
        | "maxLength"
        | "minLength"
        | "maxItems"
        | "minItems"
        | "multipleOf"
        | "maxProperties"
        | "minProperties"
        | "x-kubernetes-preserve-unknown-fields"
        | "x-kubernetes-list-type"
        | "x-kubernetes-map-type" => Content::Pointer,
        "not" | "items" | "additionalProperties" | "additionalItems" => Content::Schema,
        "allOf" | "oneOf" | "anyOf" => Content::List,
        "properties" | "patternProperties" | "definitions" => Content::Map,
        _ => return None,
    })
}

/// Brings a schema document into that form.
pub(super) fn canonicalise(node: &mut Value) {
    match node {
        // `items` may be a list of schemas; it is refused later, but by its content.
        Value::Array(nodes) => nodes.iter_mut().for_each(canonicalise),
        Value::Object(members) => {
            members.retain(|keyword, value| match content(keyword) {
                Some(Content::Pointer | Content::Schema) => !value.is_null(),
                Some(_) => !is_zero(value),
                None => false,
            });
            for (keyword, value) in members.iter_mut() {
                match content(keyword) {
                    Some(Content::Schema | Content::List) => canonicalise(value),
                    Some(Content::Map) => value
                        .as_object_mut()
                        .into_iter()
                        .flat_map(Map::values_mut)
                        .for_each(canonicalise),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(mut document: Value, expect: &Value) {
        canonicalise(&mut document);
        assert_eq!(&document, expect);
    }

    #[test]
    fn what_means_nothing_is_left_out() {
        check(
            json!({
                "type": "object", "properties": {}, "required": [], "nullable": false,
                "unknownKeyword": 1,
            }),
            &json!({"type": "object"}),
        );
    }

    #[test]
    fn nested_schemas_are_reached_and_pointers_kept() {
        check(
            json!({"properties": {"a": {
                "type": "array", "maxItems": 0, "default": null,
                "items": {
                    "type": "string", "enum": [], "x-kubernetes-preserve-unknown-fields": false,
                },
            }}}),
            &json!({"properties": {"a": {
                "type": "array", "maxItems": 0,
                "items": {"type": "string", "x-kubernetes-preserve-unknown-fields": false},
            }}}),
        );
    }
}

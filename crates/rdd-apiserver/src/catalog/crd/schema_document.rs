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

/// The Go type of a keyword that is a plain value.
fn go_type(keyword: &str) -> &'static str {
    match keyword {
        "nullable"
        | "uniqueItems"
        | "exclusiveMaximum"
        | "exclusiveMinimum"
        | "x-kubernetes-embedded-resource"
        | "x-kubernetes-int-or-string"
        | "x-kubernetes-preserve-unknown-fields" => "bool",
        "maximum" | "minimum" | "multipleOf" => "float64",
        "maxLength" | "minLength" | "maxItems" | "minItems" | "maxProperties" | "minProperties" => {
            "int64"
        }
        "required" | "x-kubernetes-list-map-keys" => "[]string",
        "enum" => "[]v1.JSON",
        "externalDocs" => "v1.ExternalDocumentation",
        "x-kubernetes-validations" => "v1.ValidationRules",
        "dependencies" => "v1.JSONSchemaDependencies",
        "default" | "example" => "v1.JSON",
        _ => "string",
    }
}

/// Looks at the types of all keywords of a schema document at `path`, and collects the
/// paths of unknown ones.
///
/// # Errors
/// What Go's decoder says about a value of a wrong type.
pub(super) fn decode(node: &Value, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    const GO: &str = "spec.versions.schema.openAPIV3Schema";
    let owner = "CustomResourceValidation";
    let at = Go {
        owner,
        path: GO,
        apart: false,
    };
    schema(node, &at, Some(path), unknown)
}

/// Where Go thinks it is: the struct, and the way to the field without names and indexes.
struct Go<'a> {
    owner: &'a str,
    path: &'a str,
    /// Below a keyword that Go reads apart from the rest, whose struct is the only one told.
    apart: bool,
}

impl Go<'_> {
    fn wrong(&self, value: &Value, go_type: &str) -> String {
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
            Value::Number(number) if go_type == "int64" => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
        };
        format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {go_type}",
            self.owner, self.path
        )
    }
}

/// `path` is absent where Go does not look for unknown fields.
fn schema(
    node: &Value,
    at: &Go<'_>,
    path: Option<&str>,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    let members = match node {
        Value::Null => return Ok(()),
        Value::Object(members) => members,
        other => return Err(at.wrong(other, "v1.JSONSchemaProps")),
    };
    for (keyword, value) in members {
        let go_path = format!("{}.{keyword}", at.path);
        let at = Go {
            owner: "JSONSchemaProps",
            path: go_path.trim_start_matches('.'),
            apart: at.apart,
        };
        let below = path.map(|path| format!("{path}.{keyword}"));
        let below = below.as_deref();
        let Some(content) = content(keyword) else {
            unknown.extend(below.map(str::to_owned));
            continue;
        };
        if value.is_null() {
            continue;
        }
        match content {
            Content::Plain | Content::Pointer => plain(keyword, value, &at, below, unknown)?,
            Content::List => {
                let Value::Array(items) = value else {
                    return Err(at.wrong(value, "[]v1.JSONSchemaProps"));
                };
                for (index, item) in items.iter().enumerate() {
                    let below = below.map(|path| format!("{path}[{index}]"));
                    schema(item, &at, below.as_deref(), unknown)?;
                }
            }
            Content::Map => {
                let Value::Object(members) = value else {
                    return Err(at.wrong(value, "map[string]v1.JSONSchemaProps"));
                };
                for (name, member) in members {
                    let below = below.map(|path| format!("{path}.{name}"));
                    schema(member, &at, below.as_deref(), unknown)?;
                }
            }
            Content::Schema if keyword == "not" => schema(value, &at, below, unknown)?,
            Content::Schema => alternatives(keyword, value, &at)?,
        }
    }
    Ok(())
}

/// Keywords that Go reads apart from the rest, so that unknown fields are not told.
fn alternatives(keyword: &str, value: &Value, at: &Go<'_>) -> Result<(), String> {
    let apart = Go {
        owner: at.owner,
        path: at.path,
        apart: true,
    };
    let mut untold = Vec::new();
    match value {
        Value::Object(_) => schema(value, &apart, None, &mut untold),
        Value::Array(items) if keyword == "items" => items
            .iter()
            .try_for_each(|item| schema(item, &apart, None, &mut untold)),
        Value::Bool(_) if keyword != "items" => Ok(()),
        _ if keyword == "items" => Ok(()),
        _ => Err("boolean or JSON schema expected".to_owned()),
    }
}

fn plain(
    keyword: &str,
    value: &Value,
    at: &Go<'_>,
    path: Option<&str>,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    let go_type = go_type(keyword);
    let wrong = || Err(at.wrong(value, go_type));
    match (go_type, value) {
        ("v1.JSON", _)
        | ("bool", Value::Bool(_))
        | ("float64", Value::Number(_))
        | ("string", Value::String(_))
        | ("[]v1.JSON", Value::Array(_)) => Ok(()),
        ("int64", Value::Number(number)) if number.is_i64() => Ok(()),
        ("[]string", Value::Array(items)) => {
            let bad = items
                .iter()
                .find(|item| !item.is_string() && !item.is_null());
            bad.map_or(Ok(()), |item| Err(at.wrong(item, "string")))
        }
        ("v1.ExternalDocumentation", Value::Object(members)) => fields(
            members,
            "ExternalDocumentation",
            &[("url", "string"), ("description", "string")],
            at,
            path,
            unknown,
        ),
        ("v1.ValidationRules", Value::Array(rules)) => {
            for (index, rule) in rules.iter().enumerate() {
                let path = path.map(|path| format!("{path}[{index}]"));
                match rule {
                    Value::Null => {}
                    Value::Object(members) => {
                        fields(
                            members,
                            "ValidationRule",
                            RULE,
                            at,
                            path.as_deref(),
                            unknown,
                        )?;
                    }
                    other => return Err(at.wrong(other, "v1.ValidationRule")),
                }
            }
            Ok(())
        }
        ("v1.JSONSchemaDependencies", Value::Object(members)) => {
            let mut untold = Vec::new();
            let mut members = members.values().filter(|member| member.is_object());
            members.try_for_each(|member| schema(member, at, None, &mut untold))
        }
        _ => wrong(),
    }
}

const RULE: &[(&str, &str)] = &[
    ("rule", "string"),
    ("message", "string"),
    ("messageExpression", "string"),
    ("reason", "v1.FieldValueErrorReason"),
    ("fieldPath", "string"),
    ("optionalOldSelf", "bool"),
];

/// The members of a small struct.
fn fields(
    members: &Map<String, Value>,
    owner: &str,
    known: &[(&str, &str)],
    at: &Go<'_>,
    path: Option<&str>,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    for (name, value) in members {
        let Some((_, go_type)) = known.iter().find(|(known, _)| known == name) else {
            unknown.extend(path.map(|path| format!("{path}.{name}")));
            continue;
        };
        let fits = match *go_type {
            "bool" => value.is_boolean(),
            _ => value.is_string(),
        };
        if !fits && !value.is_null() {
            let go_path = format!("{}.{name}", at.path);
            let path = go_path.trim_start_matches('.');
            let owner = if at.apart { at.owner } else { owner };
            let at = Go { owner, path, ..*at };
            return Err(at.wrong(value, go_type));
        }
    }
    Ok(())
}

/// Brings a schema document into that form.
pub(super) fn canonicalise(node: &mut Value) {
    match node {
        // `items` may be a list of schemas; it is refused later, but by its content.
        Value::Array(nodes) => nodes.iter_mut().for_each(canonicalise),
        Value::Object(members) => {
            // What is neither a schema nor a list of them was never read.
            if members
                .get("items")
                .is_some_and(|items| !items.is_object() && !items.is_array())
            {
                members.remove("items");
            }
            members.retain(|keyword, value| match content(keyword) {
                Some(Content::Pointer | Content::Schema) => !value.is_null(),
                Some(_) => !is_zero(value),
                None => false,
            });
            for (keyword, value) in members.iter_mut() {
                match content(keyword) {
                    Some(Content::Schema | Content::List) => canonicalise(value),
                    Some(Content::Plain) if keyword == "externalDocs" => {
                        keep_only(value, &["url", "description"]);
                    }
                    Some(Content::Plain) if keyword == "x-kubernetes-validations" => {
                        let names: Vec<&str> = RULE.iter().map(|(name, _)| *name).collect();
                        let rules = value.as_array_mut().into_iter().flatten();
                        rules.for_each(|rule| keep_only(rule, &names));
                    }
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

fn keep_only(value: &mut Value, names: &[&str]) {
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| names.contains(&name.as_str()));
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
    fn types_and_unknown_keywords_are_told_as_go_tells_them() {
        let decode = |document: Value| {
            let mut unknown = Vec::new();
            super::decode(&document, "S", &mut unknown).map(|()| unknown)
        };
        assert_eq!(
            decode(json!({
                "type": "object", "foo": 1,
                "properties": {"a": {"anyOf": [{"bar": 1}], "items": {"untold": 1}}},
            })),
            Ok(vec![
                "S.foo".to_owned(),
                "S.properties.a.anyOf[0].bar".to_owned()
            ])
        );
        let go = "json: cannot unmarshal";
        let at = "spec.versions.schema.openAPIV3Schema";
        for (document, expect) in [
            (
                json!({"properties": {"a": {"maxLength": 1.5}}}),
                format!(
                    "{go} number 1.5 into Go struct field JSONSchemaProps.{at}.properties.maxLength of type int64"
                ),
            ),
            (
                json!({"required": true}),
                format!(
                    "{go} bool into Go struct field JSONSchemaProps.{at}.required of type []string"
                ),
            ),
            (
                json!({"items": {"properties": {"a": {"maxLength": "x"}}}}),
                format!(
                    "{go} string into Go struct field JSONSchemaProps.{at}.items.properties.maxLength of type int64"
                ),
            ),
            (
                json!({"items": {"x-kubernetes-validations": [{"rule": 5}]}}),
                format!(
                    "{go} number into Go struct field JSONSchemaProps.{at}.items.x-kubernetes-validations.rule of type string"
                ),
            ),
            (
                json!({"items": [5]}),
                format!(
                    "{go} number into Go struct field JSONSchemaProps.{at}.items of type v1.JSONSchemaProps"
                ),
            ),
            (
                json!("x"),
                format!(
                    "{go} string into Go struct field CustomResourceValidation.{at} of type v1.JSONSchemaProps"
                ),
            ),
            (
                json!({"additionalProperties": "x"}),
                "boolean or JSON schema expected".to_owned(),
            ),
        ] {
            assert_eq!(decode(document), Err(expect));
        }
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

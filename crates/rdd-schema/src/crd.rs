//! Judging a schema: what an `openAPIV3Schema` of a CustomResourceDefinition may say.
//!
//! Two rule books hold at once. A schema must be *structural*: every value has a type,
//! and the junctors (`allOf`, `anyOf`, `oneOf`, `not`) only restrict what stands
//! outside of them. And it must keep to the part of OpenAPI that Kubernetes supports.
//! Defaults are judged once both are content.

use serde_json::{Map, Value, json};

use crate::{FieldError, Schema, parse, prune, validate};

mod supported;

use supported::{Within, supported};

/// Keywords that may stand at the root beside a status subresource, since the rest
/// would not survive taking `properties.status` out; with their names in Go.
const ROOT_WITH_STATUS: &[(&str, &str)] = &[
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    (
        "x-kubernetes-preserve-unknown-fields",
        "XPreserveUnknownFields",
    ),
    ("x-kubernetes-validations", "XValidations"),
];

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Where a node stands, which decides how a missing type is worded.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Field,
    Item,
}

/// What others have to say about defaults.
pub trait JudgeDefaults {
    /// What is wrong with the types and the metadata of the whole objects in a value.
    fn objects(&self, default: &Value, schema: &Schema) -> Vec<FieldError>;

    /// Which rules of its schema a value at `path` breaks that is fine otherwise; `whole`
    /// says that it is an object of the resource.
    fn rules(&self, default: &Value, schema: &Schema, whole: bool, path: &str) -> Vec<FieldError>;
}

/// Everything that is wrong with a schema document at `path`. `has_status` says
/// whether the resource has the status subresource; `judge` is asked about defaults.
#[must_use]
pub fn validate_document(
    document: &Value,
    path: &str,
    has_status: bool,
    judge: &dyn JudgeDefaults,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = document.as_object();
    if has_status && let Some(root) = root {
        let known = |key: &str| ROOT_WITH_STATUS.iter().any(|(name, _)| *name == key);
        let kind = text(document, "type");
        if !kind.is_empty() && kind != "object" {
            errors.push(FieldError::invalid(
                format!("{path}.type"),
                kind,
                "only \"object\" is allowed as the type at the root of the schema if the status \
                 subresource is enabled",
            ));
        } else if root.keys().any(|key| !known(key)) {
            let names: Vec<&str> = ROOT_WITH_STATUS.iter().map(|(_, name)| *name).collect();
            let problem = format!(
                "only [{}] fields are allowed at the root of the schema if the status \
                 subresource is enabled",
                names.join(" ")
            );
            errors.push(FieldError::invalid(path, document.clone(), problem));
        }
    }
    if document["nullable"] == true {
        let field = format!("{path}.nullable");
        errors.push(FieldError::forbidden(
            field,
            "nullable cannot be true at the root",
        ));
    }
    if depth(document) > parse::DEPTH_MAX {
        errors.push(FieldError::invalid(
            path,
            "",
            format!("must not be nested deeper than {} levels", parse::DEPTH_MAX),
        ));
        return errors;
    }
    let before = errors.len();
    // What has no structural form is told by the second book alone.
    if can_be_structural(document) {
        structural(document, Level::Root, path, &mut errors);
        complete(document, document, path, path, &mut errors);
        errors[before..].sort_by_cached_key(ToString::to_string);
        if errors.len() == before {
            match Schema::parse(document) {
                Ok(schema) => defaults(document, &schema, path, Place::Root, judge, &mut errors),
                Err(error) => errors.push(FieldError::invalid(path, "", error.to_string())),
            }
        }
    }
    supported(document, path, &Within::default(), true, &mut errors);
    // The second book knows nothing of this one.
    if errors.is_empty() && has_keyword(document, "$schema") {
        let problem = "OpenAPIV3Schema 'schema' is not supported";
        errors.push(FieldError::invalid(path, "", problem));
    }
    errors
}

/// Whether a keyword stands anywhere in a document.
fn has_keyword(node: &Value, keyword: &str) -> bool {
    let mut below = children(node).into_iter();
    node.get(keyword).is_some() || below.any(|(_, child)| has_keyword(child, keyword))
}

/// Whether a document has only what structural schemas are made of.
fn can_be_structural(node: &Value) -> bool {
    const FOREIGN: &[&str] = &[
        "id",
        "$schema",
        "$ref",
        "patternProperties",
        "dependencies",
        "additionalItems",
        "definitions",
    ];
    FOREIGN.iter().all(|keyword| node.get(keyword).is_none())
        && text(node, "type") != "null"
        && !node.get("items").is_some_and(Value::is_array)
        && node.get("x-kubernetes-preserve-unknown-fields") != Some(&Value::Bool(false))
        && children(node)
            .iter()
            .all(|(_, child)| can_be_structural(child))
}

/// The formats in a schema document that the server does not check, each once.
#[must_use]
pub fn unknown_formats(document: &Value) -> Vec<String> {
    fn walk(node: &Value, found: &mut Vec<String>) {
        if let Some(format) = node.get("format").and_then(Value::as_str)
            && !crate::format::belongs(format, text(node, "type"))
            && !found.iter().any(|known| known == format)
        {
            found.push(format.to_owned());
        }
        for (_, child) in children(node) {
            walk(child, found);
        }
    }
    let mut found = Vec::new();
    walk(document, &mut found);
    found
}

/// How deep the nesting goes, measured without recursion.
fn depth(document: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(document, 1)];
    while let Some((node, level)) = open.pop() {
        deepest = deepest.max(level);
        if level > parse::DEPTH_MAX {
            return level;
        }
        open.extend(
            children(node)
                .into_iter()
                .map(|(_, child)| (child, level + 1)),
        );
    }
    deepest
}

/// The schemas directly inside a node, with the rest of their path.
fn children(node: &Value) -> Vec<(String, &Value)> {
    let mut children = Vec::new();
    for keyword in ["additionalProperties", "items", "not"] {
        if let Some(child) = node.get(keyword).filter(|child| child.is_object()) {
            children.push((format!(".{keyword}"), child));
        }
    }
    for (name, child) in members(node, "properties") {
        children.push((format!(".properties[{name}]"), child));
    }
    for keyword in ["allOf", "oneOf", "anyOf"] {
        for (index, child) in list(node, keyword).enumerate() {
            children.push((format!(".{keyword}[{index}]"), child));
        }
    }
    children
}

fn members<'a>(node: &'a Value, keyword: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    node.get(keyword)
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

fn list<'a>(node: &'a Value, keyword: &str) -> impl Iterator<Item = &'a Value> {
    node.get(keyword)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(node: &'a Value, keyword: &str) -> &'a str {
    node.get(keyword)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn flag(node: &Value, keyword: &str) -> bool {
    node.get(keyword) == Some(&Value::Bool(true))
}

// === structural ===

fn structural(node: &Value, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    let at = |keyword: &str| format!("{path}.{keyword}");
    if let Some(items) = node.get("items").filter(|items| items.is_object()) {
        structural(items, Level::Item, &at("items"), errors);
    }
    for (name, property) in members(node, "properties") {
        structural(
            property,
            Level::Field,
            &format!("{path}.properties[{name}]"),
            errors,
        );
    }
    let values = node.get("additionalProperties");
    if values.is_some() && level == Level::Root {
        errors.push(FieldError::forbidden(
            at("additionalProperties"),
            "must not be used at the root",
        ));
    }
    if let Some(values) = values.filter(|values| values.is_object()) {
        structural(values, Level::Field, &at("additionalProperties"), errors);
    }
    let int_or_string = flag(node, "x-kubernetes-int-or-string");
    // The pattern is left alone even where the flag is missing: then the type is.
    let skip_any_of = is_int_or_string_pattern(node);
    let skip_first_all_of = list(node, "allOf")
        .next()
        .is_some_and(is_int_or_string_pattern);
    junctors(node, skip_any_of, skip_first_all_of, path, errors);

    let kind = text(node, "type");
    if kind == "array" && node.get("items").is_none() {
        errors.push(FieldError::required(at("items"), "must be specified"));
    }
    let embedded = flag(node, "x-kubernetes-embedded-resource");
    let preserves = flag(node, "x-kubernetes-preserve-unknown-fields");
    if embedded && values.is_some() {
        errors.push(FieldError::forbidden(
            at("additionalProperties"),
            "must not be used if x-kubernetes-embedded-resource is set",
        ));
    }
    if embedded && !preserves && members(node, "properties").next().is_none() {
        errors.push(FieldError::required(
            at("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without \
             x-kubernetes-preserve-unknown-fields",
        ));
    }
    if embedded && kind != "object" {
        wrong_type(
            node,
            "must be object if x-kubernetes-embedded-resource is true",
            path,
            errors,
        );
    } else if kind.is_empty() && !int_or_string && !preserves {
        let problem = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(at("type"), problem));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(
            at("type"),
            kind,
            "must be object at the root",
        ));
    }
    if level == Level::Root || embedded {
        object_meta(node, level, path, errors);
    }
    if int_or_string && preserves {
        errors.push(FieldError::invalid(
            at("x-kubernetes-preserve-unknown-fields"),
            true,
            "must be false if x-kubernetes-int-or-string is true",
        ));
    }
    if int_or_string && embedded {
        errors.push(FieldError::invalid(
            at("x-kubernetes-embedded-resource"),
            true,
            "must be false if x-kubernetes-int-or-string is true",
        ));
    }
}

/// A type that is not what another keyword demands.
fn wrong_type(node: &Value, problem: &str, path: &str, errors: &mut Vec<FieldError>) {
    let field = format!("{path}.type");
    errors.push(match text(node, "type") {
        "" => FieldError::required(field, problem),
        kind => FieldError::invalid(field, kind, problem),
    });
}

/// `apiVersion`, `kind` and `metadata` of whole objects.
fn object_meta(node: &Value, level: Level, path: &str, errors: &mut Vec<FieldError>) {
    let properties = &node["properties"];
    for (name, expect) in [
        ("kind", "string"),
        ("apiVersion", "string"),
        ("metadata", "object"),
    ] {
        let Some(property) = properties.get(name) else {
            continue;
        };
        let kind = text(property, "type");
        if kind != expect {
            let field = format!("{path}.properties[{name}].type");
            errors.push(FieldError::invalid(
                field,
                kind,
                format!("must be {expect}"),
            ));
        }
    }
    if level != Level::Root {
        return;
    }
    let Some(metadata) = properties.get("metadata") else {
        return;
    };
    let is_name = |name: &str| matches!(name, "name" | "generateName");
    // A default is another error.
    let only_names = metadata.as_object().is_none_or(|keywords| {
        keywords
            .keys()
            .all(|keyword| matches!(keyword.as_str(), "type" | "default" | "properties"))
    }) && members(metadata, "properties").all(|(name, _)| is_name(name));
    if !only_names {
        errors.push(FieldError::forbidden(
            format!("{path}.properties[metadata]"),
            "must not specify anything other than name and generateName, but metadata is \
             implicitly specified",
        ));
    }
}

/// `anyOf: [{type: integer}, {type: string}]`, the one place where types may be nested.
fn is_int_or_string_pattern(node: &Value) -> bool {
    let alternatives: Vec<&Value> = list(node, "anyOf").collect();
    matches!(alternatives.as_slice(), [first, second]
        if **first == json!({"type": "integer"}) && **second == json!({"type": "string"}))
}

/// The schemas inside junctors. The pattern of int-or-string is left alone where it may stand.
fn junctors(
    node: &Value,
    skip_any_of: bool,
    skip_first_all_of: bool,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    for (index, child) in list(node, "allOf").enumerate() {
        let skip = skip_first_all_of && index == 0;
        nested(child, skip, &format!("{path}.allOf[{index}]"), errors);
    }
    if !skip_any_of {
        for (index, child) in list(node, "anyOf").enumerate() {
            nested(child, false, &format!("{path}.anyOf[{index}]"), errors);
        }
    }
    for (index, child) in list(node, "oneOf").enumerate() {
        nested(child, false, &format!("{path}.oneOf[{index}]"), errors);
    }
    if let Some(child) = node.get("not") {
        nested(child, false, &format!("{path}.not"), errors);
    }
    if let Some(pattern) = node.get("pattern").and_then(Value::as_str)
        && !pattern.is_empty()
        && let Err(error) = parse::pattern(pattern)
    {
        let problem = format!("must be a valid regular expression, but isn't: {error}");
        let field = format!("{path}.pattern");
        errors.push(FieldError::invalid(field, pattern, problem));
    }
}

fn nested(node: &Value, skip_any_of: bool, path: &str, errors: &mut Vec<FieldError>) {
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    junctors(node, skip_any_of, false, path, errors);
    if let Some(items) = node.get("items").filter(|items| items.is_object()) {
        nested(items, false, &format!("{path}.items"), errors);
    }
    for (name, property) in members(node, "properties") {
        nested(
            property,
            false,
            &format!("{path}.properties[{name}]"),
            errors,
        );
    }
    for (keyword, problem) in [
        ("type", EMPTY),
        ("additionalProperties", UNDEFINED),
        ("default", UNDEFINED),
        ("title", EMPTY),
        ("description", EMPTY),
        ("nullable", FALSE),
        ("x-kubernetes-preserve-unknown-fields", FALSE),
        ("x-kubernetes-embedded-resource", FALSE),
        ("x-kubernetes-int-or-string", FALSE),
        ("x-kubernetes-list-map-keys", EMPTY),
        ("x-kubernetes-list-type", UNDEFINED),
        ("x-kubernetes-map-type", UNDEFINED),
        ("x-kubernetes-validations", EMPTY),
    ] {
        let set = match node.get(keyword) {
            None | Some(Value::Bool(false)) => false,
            Some(value) => problem == UNDEFINED || value != "",
        };
        if set {
            errors.push(FieldError::forbidden(format!("{path}.{keyword}"), problem));
        }
    }
    if node["properties"].get("metadata").is_some() {
        errors.push(FieldError::forbidden(
            format!("{path}.properties[metadata]"),
            "must not be specified in a nested context",
        ));
    }
}

/// What the junctors of the root speak of must stand outside of them. (Kubernetes looks
/// at no other node.) `inner` is what lies in the junctors at `inner_path`.
fn complete(
    inner: &Value,
    outer: &Value,
    outer_path: &str,
    inner_path: &str,
    errors: &mut Vec<FieldError>,
) {
    let mut nested: Vec<(String, &Value)> = Vec::new();
    if let Some(not) = inner.get("not").filter(|not| not.is_object()) {
        nested.push((format!("{inner_path}.not"), not));
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (index, child) in list(inner, keyword).enumerate() {
            nested.push((format!("{inner_path}.{keyword}[{index}]"), child));
        }
    }
    for (path, child) in nested {
        complete_nested(child, outer, outer_path, &path, errors);
    }
}

fn complete_nested(
    inner: &Value,
    outer: &Value,
    outer_path: &str,
    inner_path: &str,
    errors: &mut Vec<FieldError>,
) {
    complete(inner, outer, outer_path, inner_path, errors);
    let mut parts: Vec<(String, &Value, Option<&Value>)> = Vec::new();
    if let Some(items) = inner.get("items").filter(|items| items.is_object()) {
        parts.push((".items".to_owned(), items, outer.get("items")));
    }
    for (name, property) in members(inner, "properties") {
        let outer = outer["properties"].get(name);
        parts.push((format!(".properties[{name}]"), property, outer));
    }
    for (step, inner, outer) in parts {
        let (outer_path, inner_path) =
            (format!("{outer_path}{step}"), format!("{inner_path}{step}"));
        match outer {
            Some(outer) => complete_nested(inner, outer, &outer_path, &inner_path, errors),
            None => {
                let problem = format!("because it is defined in {inner_path}");
                errors.push(FieldError::required(outer_path, problem));
            }
        }
    }
}

// === defaults ===

/// Where a default stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// It is that of the whole object.
    Root,
    /// In the type or the metadata of an object, whose own rules hold there.
    Meta,
    /// Anywhere else.
    Field,
}

fn defaults(
    document: &Value,
    schema: &Schema,
    path: &str,
    place: Place,
    judge: &dyn JudgeDefaults,
    errors: &mut Vec<FieldError>,
) {
    let whole = place == Place::Root || schema.embedded_resource;
    if let Some(default) = document.get("default")
        && place != Place::Meta
    {
        let field = format!("{path}.default");
        let mut pruned = default.clone();
        if !prune::prune_part(&mut pruned, schema).is_empty() {
            errors.push(FieldError::invalid(
                field.clone(),
                default.clone(),
                "must not have unknown fields",
            ));
        }
        let mut found = Vec::new();
        if place == Place::Root && !schema.embedded_resource {
            let mut schema = schema.clone();
            schema.embedded_resource = true;
            found.extend(judge.objects(default, &schema));
        } else {
            found.extend(judge.objects(default, schema));
        }
        if found.is_empty() {
            found = validate::validate_default(default, schema);
        }
        if found.is_empty() {
            errors.extend(judge.rules(default, schema, place == Place::Root, &field));
        }
        errors.extend(found.into_iter().map(|error| error.below(&field)));
    }
    if let (Some(child), Some(schema)) = (document.get("items"), &schema.items) {
        let place = if place == Place::Meta {
            place
        } else {
            Place::Field
        };
        defaults(
            child,
            schema,
            &format!("{path}.items"),
            place,
            judge,
            errors,
        );
    }
    for (name, child) in members(document, "properties") {
        if let Some(schema) = schema.properties.get(name) {
            let meta = whole && matches!(name.as_str(), "metadata" | "apiVersion" | "kind");
            let place = if meta || (place == Place::Meta && !whole) {
                Place::Meta
            } else {
                Place::Field
            };
            let path = format!("{path}.properties[{name}]");
            defaults(child, schema, &path, place, judge, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Has nothing against any default.
    struct Lenient;

    impl JudgeDefaults for Lenient {
        fn objects(&self, _: &Value, _: &Schema) -> Vec<FieldError> {
            Vec::new()
        }

        fn rules(&self, _: &Value, _: &Schema, _: bool, _: &str) -> Vec<FieldError> {
            Vec::new()
        }
    }

    /// Checks a schema as that of `spec.x`; errors are written from there on.
    fn check(x: &Value, expect: &[&str]) {
        let document = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"x": x}},
        }});
        let errors: Vec<String> = validate_document(&document, "S", false, &Lenient)
            .iter()
            .map(|error| {
                let error = error.to_string();
                error.replace("S.properties[spec].properties[x]", "x")
            })
            .collect();
        assert_eq!(errors, expect, "{x}");
    }

    #[test]
    fn every_value_needs_a_type() {
        check(&json!({"type": "string"}), &[]);
        check(&json!({"x-kubernetes-int-or-string": true}), &[]);
        check(&json!({"x-kubernetes-preserve-unknown-fields": true}), &[]);
        check(
            &json!({}),
            &["x.type: Required value: must not be empty for specified object fields"],
        );
        check(
            &json!({"type": "array", "items": {}}),
            &["x.items.type: Required value: must not be empty for specified array items"],
        );
        check(
            &json!({"type": "array"}),
            &["x.items: Required value: must be specified"],
        );
        check(
            &json!({"type": "null"}),
            &[
                "x.type: Unsupported value: \"null\": supported values: \"array\", \"boolean\", \
                 \"integer\", \"number\", \"object\", \"string\"",
                "x.type: Forbidden: type cannot be set to null, use nullable as an alternative",
            ],
        );
    }

    #[test]
    fn junctors_only_restrict() {
        check(
            &json!({"type": "object", "anyOf": [{"required": ["a"]}]}),
            &[],
        );
        check(
            &json!({"type": "string", "allOf": [{"type": "string"}]}),
            &["x.allOf[0].type: Forbidden: must be empty to be structural"],
        );
        check(
            &json!({"type": "string", "not": {"title": "t"}}),
            &["x.not.title: Forbidden: must be empty to be structural"],
        );
        check(
            &json!({
                "x-kubernetes-int-or-string": true,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
            }),
            &[],
        );
        check(
            &json!({
                "x-kubernetes-int-or-string": true,
                "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "x"}],
            }),
            &[],
        );
    }

    #[test]
    fn keys_of_map_lists_are_required_or_defaulted_scalars() {
        let list = |items: Value| {
            json!({
                "type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"], "items": items,
            })
        };
        let item = |key: Value, required: Value| json!({"type": "object", "properties": {"k": key}, "required": required});
        check(&list(item(json!({"type": "string"}), json!(["k"]))), &[]);
        check(
            &list(item(json!({"type": "string", "default": "a"}), json!([]))),
            &[],
        );
        check(
            &list(item(json!({"type": "string"}), json!([]))),
            &[
                "x.items.properties[k].default: Required value: this property is in \
               x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        );
    }

    #[test]
    fn defaults_fit_their_schema() {
        check(
            &json!({"type": "string", "default": 1}),
            &[
                "x.default: Invalid value: \"integer\":  in body must be of type string: \"integer\"",
            ],
        );
        check(
            &json!({
                "type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": "x"},
            }),
            &["x.default: Invalid value: {\"b\":\"x\"}: must not have unknown fields"],
        );
        check(
            &json!({
                "type": "object", "properties": {"a": {"type": "integer"}}, "default": {"a": "x"},
            }),
            &[
                "x.default.a: Invalid value: \"string\": a in body must be of type integer: \
               \"string\"",
            ],
        );
    }

    #[test]
    fn the_root_is_an_object() {
        let errors = validate_document(&json!({"type": "string"}), "S", false, &Lenient);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["S.type: Invalid value: \"string\": must be object at the root"]
        );
        let deep = (0..2 * parse::DEPTH_MAX).fold(json!({}), |inner, _| json!({"items": inner}));
        assert_eq!(validate_document(&deep, "S", false, &Lenient).len(), 1);
    }
}

//! The part of OpenAPI that Kubernetes supports, and its own keywords for merging.

use serde_json::Value;

use super::{children, flag, list, members, text, wrong_type};
use crate::{FieldError, parse};

/// What is wrong with a node and those in it.
pub(super) fn supported(node: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let at = |keyword: &str| format!("{path}.{keyword}");
    for keyword in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        if node.get(keyword).is_some() {
            let problem = format!("{keyword} is not supported");
            errors.push(FieldError::forbidden(at(keyword), problem));
        }
    }
    if text(node, "type") == "null" {
        errors.push(FieldError::forbidden(
            at("type"),
            "type cannot be set to null, use nullable as an alternative",
        ));
    }
    if node["items"].is_array() {
        errors.push(FieldError::forbidden(
            at("items"),
            "items must be a schema object and not an array",
        ));
    }
    if flag(node, "uniqueItems") {
        errors.push(FieldError::forbidden(
            at("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ));
    }
    let has_properties = members(node, "properties").next().is_some();
    if has_properties && node.get("additionalProperties").is_some() {
        errors.push(FieldError::forbidden(
            at("additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        ));
    }
    for (step, child) in children(node) {
        supported(child, &format!("{path}{step}"), errors);
    }
    if node.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        errors.push(FieldError::invalid(
            at("x-kubernetes-preserve-unknown-fields"),
            false,
            "must be true or undefined",
        ));
    }
    merge_keywords(node, path, errors);
    if let Some(pattern) = node.get("pattern").and_then(Value::as_str)
        && let Err(error) = parse::pattern(pattern)
    {
        let problem = format!(
            "must be a valid regular expression, but isn't: error parsing regexp: {}",
            go_regexp_error(pattern, &error)
        );
        errors.push(FieldError::invalid(at("pattern"), pattern, problem));
    }
}

/// Go's words for the commonest mistake, else ours.
fn go_regexp_error(pattern: &str, error: &parse::ParseError) -> String {
    let unescaped = pattern
        .replace("\\\\", "")
        .replace("\\(", "")
        .replace("\\)", "");
    let (open, close) = (
        unescaped.matches('(').count(),
        unescaped.matches(')').count(),
    );
    match () {
        () if open > close => format!("missing closing ): `{pattern}`"),
        () if open < close => format!("unexpected ): `{pattern}`"),
        () if unescaped.matches('[').count() > unescaped.matches(']').count() => {
            let at = pattern.rfind('[').unwrap_or_default();
            format!("missing closing ]: `{}`", &pattern[at..])
        }
        () => error.to_string(),
    }
}

/// `x-kubernetes-list-type`, `x-kubernetes-list-map-keys` and `x-kubernetes-map-type`.
fn merge_keywords(node: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let at = |keyword: &str| format!("{path}.{keyword}");
    let kind = text(node, "type");
    if let Some(map_type) = node.get("x-kubernetes-map-type").and_then(Value::as_str) {
        if kind != "object" {
            let problem = "must be object if x-kubernetes-map-type is specified";
            wrong_type(node, problem, path, errors);
        }
        if !["atomic", "granular"].contains(&map_type) {
            errors.push(FieldError::not_supported(
                at("x-kubernetes-map-type"),
                map_type,
                &["atomic", "granular"],
            ));
        }
    }
    let keys: Vec<&str> = list(node, "x-kubernetes-list-map-keys")
        .filter_map(Value::as_str)
        .collect();
    let Some(list_type) = node.get("x-kubernetes-list-type").and_then(Value::as_str) else {
        if !keys.is_empty() {
            errors.push(FieldError::required(
                at("x-kubernetes-list-type"),
                "must be map if x-kubernetes-list-map-keys is non-empty",
            ));
        }
        return;
    };
    if kind != "array" {
        wrong_type(
            node,
            "must be array if x-kubernetes-list-type is specified",
            path,
            errors,
        );
    }
    if !["atomic", "set", "map"].contains(&list_type) {
        errors.push(FieldError::not_supported(
            at("x-kubernetes-list-type"),
            list_type,
            &["atomic", "set", "map"],
        ));
    }
    let items = node.get("items").filter(|items| items.is_object());
    match (list_type, items) {
        ("set", Some(items)) => set_items(items, &at("items"), errors),
        ("map", _) => map_items(node, items, &keys, path, errors),
        _ => {}
    }
    if list_type != "map" && !keys.is_empty() {
        errors.push(FieldError::invalid(
            at("x-kubernetes-list-type"),
            list_type,
            "must be map if x-kubernetes-list-map-keys is non-empty",
        ));
    }
}

fn set_items(items: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if flag(items, "nullable") {
        errors.push(FieldError::forbidden(
            format!("{path}.nullable"),
            "cannot be nullable when x-kubernetes-list-type is set",
        ));
    }
    let atomic = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (keyword, unset_is_atomic) = match text(items, "type") {
        "object" => ("x-kubernetes-map-type", false),
        "array" => ("x-kubernetes-list-type", true),
        _ => return,
    };
    let given = items.get(keyword);
    let is_atomic = given.map_or(unset_is_atomic, |given| given == "atomic");
    if !is_atomic {
        let value = given.cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(
            format!("{path}.{keyword}"),
            value,
            atomic,
        ));
    }
}

fn map_items(
    node: &Value,
    items: Option<&Value>,
    keys: &[&str],
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    let at = |keyword: &str| format!("{path}.{keyword}");
    if keys.is_empty() {
        errors.push(FieldError::required(
            at("x-kubernetes-list-map-keys"),
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    let Some(items) = items else {
        if node.get("items").is_none() {
            errors.push(FieldError::required(
                at("items"),
                "must have a schema if x-kubernetes-list-type is map",
            ));
        }
        return;
    };
    let kind = text(items, "type");
    if kind != "object" {
        errors.push(FieldError::invalid(
            at("items.type"),
            kind,
            "must be object if parent array's x-kubernetes-list-type is map",
        ));
        return;
    }
    let required: Vec<&str> = list(items, "required").filter_map(Value::as_str).collect();
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            errors.push(FieldError::invalid(
                format!("{}[{index}]", at("x-kubernetes-list-map-keys")),
                *key,
                "must not contain duplicate entries",
            ));
            continue;
        }
        let Some(property) = items["properties"].get(*key) else {
            errors.push(FieldError::invalid(
                format!("{}[{index}]", at("x-kubernetes-list-map-keys")),
                *key,
                "entries must all be names of item properties",
            ));
            continue;
        };
        let property_at = |keyword: &str| format!("{path}.items.properties[{key}].{keyword}");
        let kind = text(property, "type");
        if matches!(kind, "object" | "array") {
            errors.push(FieldError::invalid(
                property_at("type"),
                kind,
                "must be a scalar type if parent array's x-kubernetes-list-type is map",
            ));
        }
        if flag(property, "nullable") {
            errors.push(FieldError::forbidden(
                property_at("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            ));
        }
        if !required.contains(key) && property.get("default").is_none() {
            errors.push(FieldError::required(
                property_at("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be \
                 a required property",
            ));
        }
    }
}

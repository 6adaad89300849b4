//! The part of OpenAPI that Kubernetes supports, and its own keywords for merging.

use serde_json::Value;

use super::{TYPES, children, flag, list, members, text, wrong_type};
use crate::FieldError;

/// What a node lies in.
#[derive(Clone, Default)]
pub(super) struct Within {
    /// Why there may be no default.
    no_default: Option<String>,
    /// The type or the metadata of an object.
    meta: bool,
}

/// What is wrong with a node and those in it.
pub(super) fn supported(
    node: &Value,
    path: &str,
    within: &Within,
    root: bool,
    errors: &mut Vec<FieldError>,
) {
    let at = |keyword: &str| format!("{path}.{keyword}");
    let kind = text(node, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(at("type"), kind, TYPES));
    }
    if let Some(reason) = &within.no_default
        && node.get("default").is_some()
    {
        let problem = format!("must not be set {reason}");
        errors.push(FieldError::forbidden(at("default"), problem));
    }
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
    if kind == "null" {
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
    let embedded = flag(node, "x-kubernetes-embedded-resource");
    if within.meta && embedded {
        errors.push(FieldError::forbidden(
            at("x-kubernetes-embedded-resource"),
            "must not be used inside of resource meta",
        ));
    }
    if flag(node, "uniqueItems") {
        errors.push(FieldError::forbidden(
            at("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ));
    }
    let has_properties = members(node, "properties").next().is_some();
    let values = node.get("additionalProperties");
    if has_properties && values.is_some_and(|values| *values != true) {
        errors.push(FieldError::forbidden(
            at("additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        ));
    }
    for (step, child) in children(node) {
        let mut within = within.clone();
        if step == ".additionalProperties" && within.meta {
            within.no_default =
                Some("inside additionalProperties applying to object metadata".to_owned());
        }
        if let Some(name) = step
            .strip_prefix(".properties[")
            .and_then(|name| name.strip_suffix(']'))
            && (root || embedded)
            && matches!(name, "metadata" | "kind" | "apiVersion")
        {
            within.meta = true;
            if root {
                within.no_default = Some(format!("in top-level {name}"));
            }
        }
        supported(child, &format!("{path}{step}"), &within, false, errors);
    }
    if let Value::Array(items) = &node["items"] {
        for (index, child) in items.iter().enumerate() {
            supported(
                child,
                &format!("{path}.items[{index}]"),
                within,
                false,
                errors,
            );
        }
    }
    if node.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        errors.push(FieldError::invalid(
            at("x-kubernetes-preserve-unknown-fields"),
            false,
            "must be true or undefined",
        ));
    }
    merge_keywords(node, path, errors);
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
    let items = node.get("items").filter(|items| items.is_object());
    if kind != "array" {
        wrong_type(
            node,
            "must be array if x-kubernetes-list-type is specified",
            path,
            errors,
        );
    } else if let ("set", Some(items)) = (list_type, items) {
        set_items(items, &at("items"), errors);
    }
    if !["atomic", "set", "map"].contains(&list_type) {
        errors.push(FieldError::not_supported(
            at("x-kubernetes-list-type"),
            list_type,
            &["atomic", "set", "map"],
        ));
    }
    if list_type != "map" && !keys.is_empty() {
        errors.push(FieldError::invalid(
            at("x-kubernetes-list-type"),
            list_type,
            "must be map if x-kubernetes-list-map-keys is non-empty",
        ));
    }
    if list_type == "map" {
        map_items(node, items, &keys, path, errors);
    }
    if let ("set" | "map", Some(items)) = (list_type, items) {
        if flag(items, "nullable") {
            errors.push(FieldError::forbidden(
                at("items.nullable"),
                format!("cannot be nullable when x-kubernetes-list-type is {list_type}"),
            ));
        }
        if list_type == "map" {
            keys_are_given(items, &keys, path, errors);
        }
    }
}

fn set_items(items: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let atomic = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (keyword, unset_is_atomic) = match text(items, "type") {
        "object" => ("x-kubernetes-map-type", false),
        "array" => ("x-kubernetes-list-type", true),
        _ => return,
    };
    let given = items.get(keyword);
    let is_atomic = given.map_or(unset_is_atomic, |given| given == "atomic");
    if !is_atomic {
        // Kubernetes shows the list type for either.
        let value = items.get("x-kubernetes-list-type").cloned();
        errors.push(FieldError::invalid(
            format!("{path}.{keyword}"),
            value.unwrap_or_default(),
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
        errors.push(match node.get("items") {
            None => FieldError::required(
                at("items"),
                "must have a schema if x-kubernetes-list-type is map",
            ),
            Some(items) => FieldError::invalid(
                at("items"),
                items.clone(),
                "must only have a single schema if x-kubernetes-list-type is map",
            ),
        });
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
    let mut refuse = |problem: &str| {
        errors.push(FieldError::invalid(
            at("x-kubernetes-list-map-keys"),
            Value::from(keys),
            problem,
        ));
    };
    let mut types = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        match items["properties"].get(*key) {
            None => refuse("entries must all be names of item properties"),
            Some(property) if matches!(text(property, "type"), "object" | "array") => {
                types.push(*key);
            }
            Some(_) => {}
        }
        if keys[..index].contains(key) {
            refuse("must not contain duplicate entries");
        }
    }
    for key in types {
        // Kubernetes shows the type of the item.
        errors.push(FieldError::invalid(
            at(&format!("items.properties[{key}].type")),
            kind,
            "must be a scalar type if parent array's x-kubernetes-list-type is map",
        ));
    }
}

/// Every item must have its keys.
fn keys_are_given(items: &Value, keys: &[&str], path: &str, errors: &mut Vec<FieldError>) {
    let required: Vec<&str> = list(items, "required").filter_map(Value::as_str).collect();
    for key in keys {
        let Some(property) = items["properties"].get(*key) else {
            continue;
        };
        let at = |keyword: &str| format!("{path}.items.properties[{key}].{keyword}");
        if !required.contains(key) && property.get("default").is_none() {
            errors.push(FieldError::required(
                at("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be \
                 a required property",
            ));
        }
        if flag(property, "nullable") {
            errors.push(FieldError::forbidden(
                at("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            ));
        }
    }
}

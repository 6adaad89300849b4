//! The documents themselves.
//!
//! kubectl reads two things from the operations: which patch types a resource takes,
//! and whether the server validates fields itself (the `fieldValidation` parameter).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::operations::{Style, add_paths};
use crate::catalog::{Resource, Subresource};

/// What kube-apiserver says of these fields of every custom resource.
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Where the schemas of scales are found.
pub(super) const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

/// The document of one group and version.
pub(super) fn v3<'a>(resources: impl Iterator<Item = &'a Arc<Resource>>) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let mut info = json!({"title": "Kubernetes", "version": "v1.36.0"});
    for resource in resources {
        if resource.is_custom() {
            info = json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"});
        }
        if resource.has(Subresource::Scale) {
            schemas.extend(scale("#/components/schemas/"));
        }
        let name = schema_name(resource);
        let reference = format!("#/components/schemas/{name}");
        add_paths(&mut paths, resource, &reference, Style::V3);
        schemas.insert(
            format!("{name}List"),
            list_schema(resource, &reference, "#/components/schemas/"),
        );
        schemas.insert(name, object_schema(resource, "#/components/schemas/"));
    }
    for (name, schema) in shared("#/components/schemas/") {
        schemas.insert(name, schema);
    }
    json!({
        "openapi": "3.0.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// The keyword of a value that takes any field.
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// One document of everything, in the older form.
pub(super) fn v2<'a>(resources: impl Iterator<Item = &'a Arc<Resource>>) -> Value {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    for resource in resources {
        if resource.has(Subresource::Scale) {
            for (name, mut schema) in scale("#/definitions/") {
                reduce(&mut schema);
                definitions.insert(name, schema);
            }
        }
        let name = schema_name(resource);
        let reference = format!("#/definitions/{name}");
        add_paths(&mut paths, resource, &reference, Style::V2);
        let mut list = list_schema(resource, &reference, "#/definitions/");
        reduce(&mut list);
        definitions.insert(format!("{name}List"), list);
        let mut schema = object_schema(resource, "#/definitions/");
        if resource.is_custom() && schema[PRESERVE] == true {
            open(&mut schema);
        }
        reduce(&mut schema);
        definitions.insert(name, schema);
    }
    for (name, mut schema) in shared("#/definitions/") {
        reduce(&mut schema);
        definitions.insert(name, schema);
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths,
        "definitions": definitions,
    })
}

/// `io.k8s.api.core.v1.ConfigMap` for built-in kinds, `com.example.v1.Widget` for others.
fn schema_name(resource: &Resource) -> String {
    let Resource {
        group,
        version,
        kind,
        ..
    } = resource;
    if resource.is_custom() {
        let reversed: Vec<&str> = group.split('.').rev().collect();
        return format!("{}.{version}.{kind}", reversed.join("."));
    }
    match group.as_str() {
        "apiextensions.k8s.io" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}")
        }
        "apiregistration.k8s.io" => {
            format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{version}.{kind}")
        }
        "" => format!("io.k8s.api.core.{version}.{kind}"),
        group => {
            let short = group.split('.').next().unwrap_or_default();
            format!("io.k8s.api.{short}.{version}.{kind}")
        }
    }
}

pub(super) fn gvk(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

fn object_schema(resource: &Resource, references: &str) -> Value {
    let mut schema = resource
        .schema
        .document
        .as_deref()
        .cloned()
        .unwrap_or_else(|| json!({"type": "object"}));
    if let Some(fields) = schema.as_object_mut() {
        fields.entry("type").or_insert_with(|| json!("object"));
        let properties = fields.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            for (name, text) in [("apiVersion", API_VERSION), ("kind", KIND)] {
                let property = properties.entry(name).or_insert_with(|| json!({}));
                property["type"] = json!("string");
                if property.get("description").is_none() {
                    property["description"] = json!(text);
                }
            }
            properties.insert(
                "metadata".to_owned(),
                json!({
                    "description": METADATA,
                    "allOf": [{"$ref": format!("{references}{META}.ObjectMeta")}],
                }),
            );
        }
        fields.insert(
            "x-kubernetes-group-version-kind".to_owned(),
            json!([gvk(resource)]),
        );
        select_by(fields, resource);
    }
    if resource.is_custom()
        && let Some(properties) = schema["properties"].as_object_mut()
    {
        let own = ["apiVersion", "kind", "metadata"];
        let others = properties.iter_mut();
        others
            .filter(|(name, _)| !own.contains(&name.as_str()))
            .for_each(|(_, property)| spell_out(property, references));
    } else {
        without_go_types(&mut schema);
    }
    schema
}

/// Names the fields by which clients may select, of a definition that has such.
fn select_by(fields: &mut Map<String, Value>, resource: &Resource) {
    if !resource.is_custom() || resource.selectable_fields.is_empty() {
        return;
    }
    let paths = resource.selectable_fields.iter();
    let paths: Vec<Value> = paths
        .map(|field| json!({"fieldPath": field.label.trim_start_matches('.')}))
        .collect();
    fields.insert("x-kubernetes-selectable-fields".to_owned(), json!(paths));
}

/// Says in plain keywords what `x-kubernetes-int-or-string` and
/// `x-kubernetes-embedded-resource` imply.
fn spell_out(schema: &mut Value, references: &str) {
    let Value::Object(keywords) = schema else {
        return;
    };
    let is_set = |keyword: &str| keywords.get(keyword) == Some(&Value::Bool(true));
    let (either, embedded) = (
        is_set("x-kubernetes-int-or-string"),
        is_set("x-kubernetes-embedded-resource"),
    );
    if either {
        keywords
            .entry("anyOf")
            .or_insert_with(|| json!([{"type": "integer"}, {"type": "string"}]));
    }
    drop_empty(keywords);
    if let Some(Value::Object(properties)) = keywords.get_mut("properties") {
        let properties = properties.values_mut();
        properties.for_each(|property| spell_out(property, references));
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(below) = keywords.get_mut(keyword) {
            spell_out(below, references);
        }
    }
    if !embedded {
        return;
    }
    let properties = keywords.entry("properties").or_insert_with(|| json!({}));
    for (name, text) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        if properties.get(name).is_none() {
            properties[name] = json!({"type": "string", "description": text});
        }
    }
    properties["metadata"] = json!({
        "description": METADATA,
        "allOf": [{"$ref": format!("{references}{META}.ObjectMeta")}],
    });
    let required = keywords.entry("required").or_insert_with(|| json!([]));
    if let Value::Array(required) = required {
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|one| one == name) {
                required.push(json!(name));
            }
        }
    }
}

/// Leaves out a list of no properties. Clients decode a document, encode it again and
/// compare, and do not write what is empty.
fn drop_empty(keywords: &mut Map<String, Value>) {
    if keywords.get("properties") == Some(&json!({})) {
        keywords.remove("properties");
    }
}

/// Takes out which Go types the fields of built-in kinds have.
fn without_go_types(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("x-go-type");
            drop_empty(fields);
            fields.values_mut().for_each(without_go_types);
        }
        Value::Array(items) => items.iter_mut().for_each(without_go_types),
        _ => {}
    }
}

/// The schemas of a scale.
fn scale(references: &str) -> Vec<(String, Value)> {
    let reference = |name: &str| json!({"allOf": [{"$ref": format!("{references}{name}")}]});
    let count = json!({"type": "integer", "format": "int32"});
    let scale = json!({
        "type": "object",
        "description": "How many replicas an object has, and how many it should have.",
        "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "kind": {"type": "string", "description": KIND},
            "metadata": reference(&format!("{META}.ObjectMeta")),
            "spec": reference(&format!("{SCALE}Spec")),
            "status": reference(&format!("{SCALE}Status")),
        },
        "x-kubernetes-group-version-kind": [{"group": "autoscaling", "version": "v1", "kind": "Scale"}],
    });
    let spec = json!({"type": "object", "properties": {"replicas": count}});
    let status = json!({
        "type": "object",
        "required": ["replicas"],
        "properties": {"replicas": count, "selector": {"type": "string"}},
    });
    vec![
        (SCALE.to_owned(), scale),
        (format!("{SCALE}Spec"), spec),
        (format!("{SCALE}Status"), status),
    ]
}

/// The schema of a resource's objects with every reference replaced by what it refers to.
pub(super) fn whole_schema(resource: &Resource) -> Value {
    let mut schema = object_schema(resource, "");
    resolve(&mut schema, &shared(""));
    schema
}

/// Replaces references to `known`, which do not refer to themselves.
fn resolve(schema: &mut Value, known: &BTreeMap<String, Value>) {
    match schema {
        Value::Object(fields) => {
            let direct = fields.get("$ref");
            let reference = direct.or_else(|| match fields.get("allOf")?.as_array()?.as_slice() {
                [one] => one.get("$ref"),
                _ => None,
            });
            let found = reference
                .and_then(Value::as_str)
                .and_then(|name| known.get(name))
                .cloned();
            if let Some(found) = found {
                *schema = found;
                resolve(schema, known);
            } else {
                fields.values_mut().for_each(|value| resolve(value, known));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| resolve(value, known)),
        _ => {}
    }
}

fn list_schema(resource: &Resource, reference: &str, references: &str) -> Value {
    let item = if resource.is_custom() {
        json!({"$ref": reference})
    } else {
        json!({"allOf": [{"$ref": reference}]})
    };
    let mut schema = json!({
        "type": "object",
        "description": format!("{} is a list of {}.", resource.list_kind, resource.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the schema of this list."},
            "kind": {"type": "string", "description": "Kind of this list."},
            "metadata": {"description": "Metadata of the list.", "allOf": [{"$ref": format!("{references}{META}.ListMeta")}]},
            "items": {"type": "array", "description": "The objects.", "items": item},
        },
        "x-kubernetes-group-version-kind": [
            {"group": resource.group, "version": resource.version, "kind": resource.list_kind}
        ],
    });
    if let Some(fields) = schema.as_object_mut() {
        select_by(fields, resource);
    }
    schema
}

/// The schemas that all kinds share.
fn shared(references: &str) -> BTreeMap<String, Value> {
    let string = |text: &str| json!({"type": "string", "description": text});
    let time = |text: &str| json!({"type": "string", "format": "date-time", "description": text});
    let strings = |text: &str| json!({"type": "object", "additionalProperties": {"type": "string"}, "description": text});
    let integer = |text: &str| json!({"type": "integer", "format": "int64", "description": text});
    let reference = |name: &str| json!({"$ref": format!("{references}{META}.{name}")});
    let object = |text: &str, required: &[&str], properties: Value| {
        let mut schema = json!({"type": "object", "description": text, "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    };
    let mut schemas = BTreeMap::new();
    let mut add = |name: &str, schema: Value| schemas.insert(format!("{META}.{name}"), schema);
    add(
        "ObjectMeta",
        object(
            "Metadata that every object has.",
            &[],
            json!({
                "name": string("Name of the object, unique within its namespace. It cannot be changed."),
                "generateName": string("Prefix from which the server makes a unique name when none is given."),
                "namespace": string("Namespace of the object. It cannot be changed."),
                "uid": string("Identity of this very object; another one of the same name has another."),
                "resourceVersion": string("Identifies the last write; used to notice concurrent changes."),
                "generation": integer("Counts the changes of what is wanted."),
                "creationTimestamp": time("When the object was made."),
                "deletionTimestamp": time("When the object was asked to go; it goes once its finalizers are done."),
                "deletionGracePeriodSeconds": integer("How long the object may take to go."),
                "selfLink": string("Not used any more."),
                "labels": strings("Names and values by which objects are selected."),
                "annotations": strings("Names and values that tools attach."),
                "finalizers": {"type": "array", "items": {"type": "string"}, "description": "Who has to agree before the object goes.",
                    "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"},
                "ownerReferences": {"type": "array", "items": reference("OwnerReference"), "description": "The objects without which this one goes.",
                    "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"],
                    "x-kubernetes-patch-merge-key": "uid", "x-kubernetes-patch-strategy": "merge"},
                "managedFields": {"type": "array", "items": reference("ManagedFieldsEntry"), "description": "Who owns which fields.",
                    "x-kubernetes-list-type": "atomic"},
            }),
        ),
    );
    add(
        "OwnerReference",
        object(
            "An object without which another one goes.",
            &["apiVersion", "kind", "name", "uid"],
            json!({
                "apiVersion": string("Version of the owner."),
                "kind": string("Kind of the owner."),
                "name": string("Name of the owner."),
                "uid": string("Identity of the owner."),
                "controller": {"type": "boolean", "description": "Whether the owner manages this object."},
                "blockOwnerDeletion": {"type": "boolean", "description": "Whether the owner waits for this object when it is deleted in the foreground."},
            }),
        ),
    );
    add(
        "ManagedFieldsEntry",
        object(
            "The fields that one manager owns.",
            &[],
            json!({
                "manager": string("Who."),
                "operation": string("Apply or Update."),
                "apiVersion": string("Version of the fields' names."),
                "time": time("When the manager last changed a field."),
                "fieldsType": string("The form of the fields; always FieldsV1."),
                "fieldsV1": {"type": "object", "description": "The fields."},
                "subresource": string("The endpoint, if not the main one."),
            }),
        ),
    );
    add(
        "ListMeta",
        object(
            "Metadata that every list has.",
            &[],
            json!({
                "resourceVersion": string("The moment that the list shows."),
                "continue": string("Where the next page begins."),
                "remainingItemCount": integer("How many objects follow."),
                "selfLink": string("Not used any more."),
            }),
        ),
    );
    add(
        "Status",
        object(
            "The outcome of a request.",
            &[],
            json!({
                "apiVersion": string("Version of this object."),
                "kind": string("Kind of this object."),
                "metadata": reference("ListMeta"),
                "status": string("Success or Failure."),
                "message": string("What happened, for people."),
                "reason": string("Why, as one word for programs."),
                "code": {"type": "integer", "format": "int32", "description": "The HTTP status."},
                "details": {"type": "object", "description": "What the message is about."},
            }),
        ),
    );
    add(
        "DeleteOptions",
        object(
            "How something is deleted.",
            &[],
            json!({
                "apiVersion": string("Version of this object."),
                "kind": string("Kind of this object."),
                "dryRun": {"type": "array", "items": {"type": "string"}, "description": "All to store nothing."},
                "gracePeriodSeconds": integer("How long the object may take to go."),
                "orphanDependents": {"type": "boolean", "description": "Replaced by propagationPolicy."},
                "preconditions": {"type": "object", "description": "What must hold, or nothing is deleted.", "properties": {
                    "uid": string("The identity."), "resourceVersion": string("The last write.")}},
                "propagationPolicy": string("Orphan, Background or Foreground."),
            }),
        ),
    );
    add(
        "WatchEvent",
        object(
            "A change.",
            &["type", "object"],
            json!({
                "type": string("ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."),
                "object": {"type": "object", "description": "The object, or a Status for ERROR."},
            }),
        ),
    );
    add(
        "Patch",
        // Without properties, not with none: clients compare what they read with what
        // they would write.
        json!({
            "type": "object",
            "description": "A change to an object, in the form that the content type names.",
        }),
    );
    add("Time", time("A moment."));
    add(
        "FieldsV1",
        json!({"type": "object", "description": "A set of fields."}),
    );
    schemas
}

/// What a definition is that takes any field. Old clients hold a schema with some
/// properties to have no others.
fn open(schema: &mut Value) {
    if let Value::Object(keywords) = schema {
        keywords.retain(|keyword, _| {
            matches!(
                keyword.as_str(),
                "x-kubernetes-group-version-kind" | "x-kubernetes-selectable-fields"
            )
        });
        keywords.insert("type".to_owned(), json!("object"));
    }
}

/// Takes away what the older form cannot say. The keys of `properties` are names of
/// fields and no keywords: a field may well be called `default`.
fn reduce(schema: &mut Value) {
    let Value::Object(keywords) = schema else {
        return;
    };
    // What may be null cannot be required either.
    let nullable = |name: &Value| {
        let property = keywords.get("properties")?.get(name.as_str()?)?;
        property.get("nullable").and_then(Value::as_bool)
    };
    let required = keywords.get("required").and_then(Value::as_array);
    let required: Option<Vec<Value>> = required.map(|names| {
        let kept = names.iter().filter(|name| nullable(name) != Some(true));
        kept.cloned().collect()
    });
    match required {
        Some(names) if names.is_empty() => {
            keywords.remove("required");
        }
        Some(names) => {
            keywords.insert("required".to_owned(), names.into());
        }
        None => {}
    }
    let open =
        keywords.remove("nullable") == Some(Value::Bool(true)) || keywords.contains_key(PRESERVE);
    if open {
        for keyword in ["type", "items", "properties"] {
            keywords.remove(keyword);
        }
    }
    for keyword in ["anyOf", "oneOf", "not", "default"] {
        keywords.remove(keyword);
    }
    if let Some(Value::Array(all)) = keywords.remove("allOf")
        && let Some(reference) = all.first().and_then(|one| one.get("$ref")).cloned()
    {
        keywords.insert("$ref".to_owned(), reference);
    }
    if keywords.contains_key("x-kubernetes-int-or-string") {
        keywords.remove("type");
    }
    if let Some(Value::Object(properties)) = keywords.get_mut("properties") {
        properties.values_mut().for_each(reduce);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(below) = keywords.get_mut(keyword) {
            reduce(below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_named_like_keywords_stay_in_the_older_form() {
        let field = json!({"type": "string"});
        let named = json!({
            "default": field, "nullable": field, "not": field, "anyOf": field, "oneOf": field,
            "allOf": field, "x-kubernetes-int-or-string": field, "type": field,
        });
        let mut schema = json!({
            "type": "object",
            "default": {},
            "properties": {
                "spec": {"type": "object", "properties": named},
                "free": {"type": "object", "nullable": true, "properties": named},
                "list": {"type": "array", "items": {"type": "string", "default": "a"}},
                "map": {"type": "object", "additionalProperties": {"allOf": [{"$ref": "#/x"}]}},
            },
        });
        reduce(&mut schema);
        let expect = json!({
            "type": "object",
            "properties": {
                "spec": {"type": "object", "properties": named},
                "free": {},
                "list": {"type": "array", "items": {"type": "string"}},
                "map": {"type": "object", "additionalProperties": {"$ref": "#/x"}},
            },
        });
        assert_eq!(schema, expect);
    }

    #[test]
    fn what_takes_any_field_names_none_in_the_older_form() {
        let kind = json!([{"group": "example.com", "version": "v1", "kind": "Widget"}]);
        let mut schema = json!({
            "type": "object", PRESERVE: true, "description": "Any.",
            "properties": {"spec": {"type": "object"}},
            "x-kubernetes-group-version-kind": kind,
        });
        open(&mut schema);
        reduce(&mut schema);
        assert_eq!(
            schema,
            json!({"type": "object", "x-kubernetes-group-version-kind": kind})
        );
    }

    #[test]
    fn no_properties_are_left_out_and_a_field_of_that_name_is_not() {
        let mut custom = json!({
            "type": "object",
            "properties": {
                "none": {"type": "object", "properties": {}},
                "properties": {"type": "object", "properties": {"properties": {"type": "string"}}},
            },
        });
        let mut builtin = custom.clone();
        spell_out(&mut custom, "#/");
        without_go_types(&mut builtin);
        for schema in [custom, builtin] {
            assert_eq!(schema["properties"]["none"], json!({"type": "object"}));
            let named = &schema["properties"]["properties"]["properties"]["properties"];
            assert_eq!(named, &json!({"type": "string"}));
        }
    }
}

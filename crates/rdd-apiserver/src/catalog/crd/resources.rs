//! From a definition to the resources that it declares.

use std::sync::Arc;

use rdd_cel::rules::RuleTree;
use rdd_jsonpath::Template;
use rdd_schema::{ParseError, Schema};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    custom::CustomStrategy,
    hoist::{has_subresource, schema_of},
};
use crate::catalog::{
    Cell, Conversion, CustomOrigin, Origin, PrinterColumn, Resource, ScalePaths, Scope,
    SelectableField, StorageForm, Subresource, Verb, api_version, builtin::columns,
    compare_versions,
};

/// One resource per served version.
///
/// # Errors
/// When a schema cannot be read, which validation refuses before.
pub(super) fn of(
    spec: &Value,
    accepted: &Value,
    origin: &CustomOrigin,
) -> Result<Vec<Resource>, ParseError> {
    let versions: Vec<&Value> = spec["versions"].as_array().into_iter().flatten().collect();
    let group = text(spec, "group");
    let stored = versions.iter().find(|version| version["storage"] == true);
    let storage = stored.map_or("", |version| text(version, "name"));
    let stored_document = stored
        .and_then(|version| schema_of(version))
        .unwrap_or(&Value::Null);
    let served = versions.iter().filter(|version| version["served"] == true);
    let served_api_versions: Vec<String> = served
        .clone()
        .map(|version| api_version(group, text(version, "name")))
        .collect();
    let api_versions: Vec<String> = versions
        .iter()
        .map(|version| api_version(group, text(version, "name")))
        .collect();
    // Versions mostly share one schema; it is read once.
    let mut schemas: Vec<(&Value, Arc<Schema>)> = Vec::new();
    let mut read = |document| -> Result<Arc<Schema>, ParseError> {
        let known = schemas.iter().find(|(known, _)| *known == document);
        if let Some((_, schema)) = known {
            return Ok(Arc::clone(schema));
        }
        let mut schema = Schema::parse(document)?;
        // OpenAPI shows it as it was written.
        schema.document = Some(Arc::new(document.clone()));
        let schema = Arc::new(schema);
        schemas.push((document, Arc::clone(&schema)));
        Ok(schema)
    };
    // So are its rules compiled.
    let mut compiled: Vec<(Arc<Schema>, Option<Arc<RuleTree>>)> = Vec::new();
    let mut rules_of = |schema: &Arc<Schema>| {
        let known = compiled
            .iter()
            .find(|(known, _)| Arc::ptr_eq(known, schema));
        if let Some((_, rules)) = known {
            return rules.clone();
        }
        let rules = RuleTree::compile(schema).map(Arc::new);
        compiled.push((Arc::clone(schema), rules.clone()));
        rules
    };
    let conversion = Conversion::read(&spec["conversion"]).map(Arc::new);
    let mut resources = Vec::new();
    for version in served {
        let document = schema_of(version).unwrap_or(&Value::Null);
        let schema = read(document)?;
        let storage_schema = if document == stored_document {
            None
        } else {
            Some(read(stored_document)?)
        };
        let scale = scale_of(version);
        let mut subresources = Vec::new();
        if has_subresource(version, "status") {
            subresources.push(Subresource::Status);
        }
        if scale.is_some() {
            subresources.push(Subresource::Scale);
        }
        resources.push(Resource {
            group: group.to_owned(),
            version: text(version, "name").to_owned(),
            plural: text(accepted, "plural").to_owned(),
            singular: text(accepted, "singular").to_owned(),
            kind: text(accepted, "kind").to_owned(),
            list_kind: text(accepted, "listKind").to_owned(),
            short_names: texts(accepted, "shortNames"),
            categories: texts(accepted, "categories"),
            scope: if text(spec, "scope") == "Namespaced" {
                Scope::Namespaced
            } else {
                Scope::Cluster
            },
            verbs: Verb::ORDINARY,
            subresources,
            scale,
            schema: Arc::clone(&schema),
            message: None,
            storage: StorageForm {
                group: group.to_owned(),
                resource: text(accepted, "plural").to_owned(),
                api_version: api_version(group, storage),
                ttl: None,
                history: true,
            },
            served_api_versions: served_api_versions.clone(),
            api_versions: api_versions.clone(),
            columns: columns_of(version),
            selectable_fields: selectable_fields_of(version),
            create_on_update: false,
            unconditional_update: false,
            delete_returns_object: false,
            has_generation: true,
            deprecation: deprecation_of(group, text(accepted, "kind"), version, &versions),
            origin: Origin::Custom(origin.clone()),
            conversion: conversion.clone(),
            strategy: Arc::new(CustomStrategy {
                rules: rules_of(&schema),
                schema,
                storage_schema,
            }),
            retired: CancellationToken::new(),
        });
    }
    Ok(resources)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    list(value, field)
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The field names of a simple path: `.spec.replicas`, `.metadata['a.b']` excluded.
fn path(text: &str) -> Vec<String> {
    text.trim_start_matches('.')
        .split('.')
        .map(str::to_owned)
        .collect()
}

fn scale_of(version: &Value) -> Option<ScalePaths> {
    let scale = version["subresources"]
        .get("scale")
        .filter(|scale| !scale.is_null())?;
    let selector = text(scale, "labelSelectorPath");
    Some(ScalePaths {
        spec_replicas: path(text(scale, "specReplicasPath")),
        status_replicas: path(text(scale, "statusReplicasPath")),
        label_selector: (!selector.is_empty()).then(|| path(selector)),
    })
}

fn selectable_fields_of(version: &Value) -> Vec<SelectableField> {
    list(version, "selectableFields")
        .map(|field| {
            let path = path(text(field, "jsonPath"));
            SelectableField {
                label: path.join("."),
                path,
            }
        })
        .collect()
}

/// The columns after the name: those of the definition, else the age. A path that cannot
/// be read is accepted in definitions; it takes all columns behind it along.
fn columns_of(version: &Value) -> Vec<PrinterColumn> {
    let given: Vec<&Value> = list(version, "additionalPrinterColumns").collect();
    let readable = given.iter().map_while(|column| {
        let path = Template::parse_path(text(column, "jsonPath")).ok()?;
        Some((*column, path))
    });
    let columns: Vec<PrinterColumn> = readable
        .map(|(column, template)| {
            let path = text(column, "jsonPath");
            let description = match text(column, "description") {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                description => description.to_owned(),
            };
            PrinterColumn {
                name: text(column, "name").to_owned(),
                r#type: text(column, "type").to_owned(),
                format: text(column, "format").to_owned(),
                description,
                priority: column["priority"].as_i64().unwrap_or_default(),
                cell: Cell::Path(template),
            }
        })
        .collect();
    if !given.is_empty() {
        return columns;
    }
    vec![PrinterColumn {
        name: "Age".to_owned(),
        r#type: "date".to_owned(),
        format: String::new(),
        description: columns::AGE.to_owned(),
        priority: 0,
        cell: Cell::Path(
            Template::parse_path(".metadata.creationTimestamp")
                .unwrap_or_else(|_| Template::nothing()),
        ),
    }]
}

/// The warning of a deprecated version, which names a newer one if there is any.
fn deprecation_of(group: &str, kind: &str, version: &Value, versions: &[&Value]) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    if let Some(warning) = version["deprecationWarning"].as_str() {
        return Some(warning.to_owned());
    }
    let name = text(version, "name");
    let newer = versions
        .iter()
        .filter(|other| other["served"] == true && other["deprecated"] != true)
        .map(|other| text(other, "name"))
        .filter(|other| compare_versions(other, name).is_lt())
        .min_by(|a, b| compare_versions(a, b));
    let advice = newer.map_or_else(String::new, |newer| {
        format!("; use {} {kind}", api_version(group, newer))
    });
    let this = api_version(group, name);
    Some(format!("{this} {kind} is deprecated{advice}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(versions: &Value, version: usize, expect: Option<&str>) {
        let versions: Vec<&Value> = versions.as_array().into_iter().flatten().collect();
        let warning = deprecation_of("x.io", "W", versions[version], &versions);
        assert_eq!(warning.as_deref(), expect);
    }

    #[test]
    fn a_deprecated_version_points_to_a_newer_one() {
        let versions = json!([
            {"name": "v1", "served": true},
            {"name": "v2", "served": true, "deprecated": true},
            {"name": "v1beta1", "served": true, "deprecated": true},
            {"name": "v1alpha1", "deprecated": true, "deprecationWarning": "gone soon"},
        ]);
        check(&versions, 0, None);
        check(&versions, 1, Some("x.io/v2 W is deprecated"));
        check(
            &versions,
            2,
            Some("x.io/v1beta1 W is deprecated; use x.io/v1 W"),
        );
        check(&versions, 3, Some("gone soon"));
    }
}

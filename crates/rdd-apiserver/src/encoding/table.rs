//! Transformed answers: Tables for people, metadata alone for caches.

use std::borrow::Cow;

use rdd_jsonpath::Template;
use serde_json::{Map, Value, json};

use crate::{
    catalog::{Cell, PrinterColumn, Resource},
    encoding::negotiate::MetaVersion,
    http::request_info::Query,
    object::{Time, quote},
    status::{ApiError, ApiResult},
};

/// What a table row carries beside its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The metadata.
    Metadata,
    /// Everything.
    Object,
}

/// The `includeObject` parameter.
///
/// # Errors
/// 400 for any other value.
pub fn include_object(query: &Query) -> ApiResult<IncludeObject> {
    match query.get("includeObject").unwrap_or_default() {
        "" | "Metadata" => Ok(IncludeObject::Metadata),
        "None" => Ok(IncludeObject::None),
        "Object" => Ok(IncludeObject::Object),
        other => Err(ApiError::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be \
             'Metadata', 'Object', 'None', or empty",
            quote(other)
        ))),
    }
}

/// The metadata of an object, as an object of its own.
#[must_use]
pub fn partial(object: &Value, version: MetaVersion) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": version.api_version(),
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}

/// A Table of these objects.
#[must_use]
pub fn table(
    resource: &Resource,
    version: MetaVersion,
    include: IncludeObject,
    metadata: Value,
    objects: &[Value],
    now: Time,
) -> Value {
    let columns = columns(resource);
    table_of(&columns, version, include, metadata, objects, now)
}

/// As [`table`], with columns of its own.
#[must_use]
pub fn table_of(
    columns: &[PrinterColumn],
    version: MetaVersion,
    include: IncludeObject,
    metadata: Value,
    objects: &[Value],
    now: Time,
) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut row = Map::new();
            row.insert(
                "cells".to_owned(),
                Value::Array(cells(columns, object, now)),
            );
            let shown = match include {
                IncludeObject::None => Value::Null,
                IncludeObject::Metadata => partial(object, version),
                IncludeObject::Object => object.clone(),
            };
            row.insert("object".to_owned(), shown);
            Value::Object(row)
        })
        .collect();
    document(columns, version, metadata, rows)
}

/// The Table of a bookmark: one row, of an object in which nothing is set.
#[must_use]
pub fn bookmark(resource: &Resource, version: MetaVersion, metadata: Value, now: Time) -> Value {
    let columns = columns(resource);
    let cells = if resource.is_custom() {
        let mut cells = vec![Value::Null; columns.len() + 1];
        cells[0] = json!("");
        cells
    } else {
        cells(&columns, &resource.strategy.blank(), now)
    };
    let object = json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": version.api_version(),
        "metadata": metadata.clone(),
    });
    let revision = json!({"resourceVersion": metadata["resourceVersion"].clone()});
    document(
        &columns,
        version,
        revision,
        vec![json!({"cells": cells, "object": object})],
    )
}

fn document(
    columns: &[PrinterColumn],
    version: MetaVersion,
    metadata: Value,
    rows: Vec<Value>,
) -> Value {
    let mut definitions = Vec::with_capacity(columns.len() + 1);
    if leads_with_name(columns) {
        definitions.push(definition(
            "Name",
            "string",
            "name",
            "Name must be unique within a namespace. Is required when creating resources, although \
         some resources may allow a client to request the generation of an appropriate name \
         automatically. Name is primarily intended for creation idempotence and configuration \
         definition. Cannot be updated. More info: \
         https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
            0,
        ));
    }
    definitions.extend(columns.iter().map(|column| {
        definition(
            &column.name,
            &column.r#type,
            &column.format,
            &column.description,
            column.priority,
        )
    }));
    json!({
        "kind": "Table",
        "apiVersion": version.api_version(),
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

fn definition(name: &str, r#type: &str, format: &str, description: &str, priority: i64) -> Value {
    json!({
        "name": name,
        "type": r#type,
        "format": format,
        "description": description,
        "priority": priority,
    })
}

/// Whether the name stands in front; Events put theirs last.
fn leads_with_name(columns: &[PrinterColumn]) -> bool {
    columns.iter().all(|column| column.format != "name")
}

/// The columns after the name; a type without any shows when it was made.
fn columns(resource: &Resource) -> Cow<'_, [PrinterColumn]> {
    // None of a definition's columns may be readable; its objects still have no others.
    if !resource.columns.is_empty() || resource.is_custom() {
        return Cow::Borrowed(&resource.columns);
    }
    Cow::Owned(vec![PrinterColumn {
        name: "Created At".to_owned(),
        r#type: "date".to_owned(),
        format: String::new(),
        description: crate::catalog::builtin::columns::AGE.to_owned(),
        priority: 0,
        cell: Cell::Computed(
            |object, _| match crate::object::meta(object, "creationTimestamp") {
                "" => json!("0001-01-01T00:00:00Z"),
                time => json!(time),
            },
        ),
    }])
}

fn cells(columns: &[PrinterColumn], object: &Value, now: Time) -> Vec<Value> {
    let mut cells = Vec::with_capacity(columns.len() + 1);
    if leads_with_name(columns) {
        cells.push(json!(crate::object::meta(object, "name")));
    }
    cells.extend(columns.iter().map(|column| match &column.cell {
        Cell::Computed(compute) => compute(object, now),
        Cell::Path(path) => path_cell(path, &column.r#type, object, now),
    }));
    cells
}

fn path_cell(path: &Template, r#type: &str, object: &Value, now: Time) -> Value {
    // Of several results the first is shown.
    let Some(value) = path.find(object).first().copied() else {
        return Value::Null;
    };
    match (r#type, value) {
        ("integer", Value::Number(number)) => number
            .as_i64()
            .map(Value::from)
            .or_else(|| {
                number
                    .as_f64()
                    .map(|number| Value::from(rdd_schema::go_integer(number)))
            })
            .unwrap_or_default(),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("string", Value::String(_)) => value.clone(),
        ("string", Value::Null) => json!("<no value>"),
        ("string", number @ Value::Number(_)) => json!(rdd_schema::go_number(number)),
        ("string", other) => json!(go_json(other)),
        ("date", Value::String(text)) => json!(age_text(text, now)),
        _ => Value::Null,
    }
}

/// JSON as Go writes it, which takes care of HTML.
fn go_json(value: &Value) -> String {
    String::from_utf8_lossy(&crate::object::to_json(value))
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// How long ago an RFC 3339 time was, as kubectl prints ages.
#[must_use]
pub fn age_text(text: &str, now: Time) -> String {
    // Go's zero time is no time.
    if text.is_empty() || text.starts_with("0001-01-01") {
        return "<unknown>".to_owned();
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(then) => age(now.timestamp().as_second() - then.as_second()),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// A number of seconds in the two largest units that matter.
#[must_use]
pub fn age(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 3_600;
    const DAY: i64 = 86_400;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, big_name: &str, small: i64, small_name: &str| {
        let rest = seconds % big / small;
        if rest == 0 {
            format!("{}{big_name}", seconds / big)
        } else {
            format!("{}{big_name}{rest}{small_name}", seconds / big)
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(MINUTE, "m", 1, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(HOUR, "h", MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(DAY, "d", HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(YEAR, "y", DAY, "d"),
        s => format!("{}y", (s / YEAR).min(292)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_like_those_of_kubectl() {
        let check = |seconds: i64, expect: &str| assert_eq!(age(seconds), expect);
        check(-5, "<invalid>");
        check(119, "119s");
        check(120, "2m");
        check(125, "2m5s");
        check(3_700, "61m");
        check(3 * 3_600 + 60, "3h1m");
        check(47 * 3_600, "47h");
        check(3 * 86_400, "3d");
        check(400 * 86_400, "400d");
    }
}

//! The tables of Kubernetes' structured-merge-diff, every case as it is, each object as the
//! `spec` of a custom resource. There are no exceptions.

use std::collections::{BTreeMap, BTreeSet};

use rdd_apply::{
    apply::{Apply, ApplyError, apply},
    managed_fields::{Update, track_update},
};
use rdd_schema::Schema;
use serde_json::{Value, json};

const SUITE: &str = include_str!("data/structured-merge-diff-tests.json");

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .map(|item| item.as_str().unwrap_or_default().to_owned())
        .collect()
}

fn api_version(version: &str) -> String {
    format!("ex.com/{version}")
}

/// What an operation is refused with.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// The manager and path of each conflict.
    Conflicts(BTreeSet<String>),
    Other(String),
}

/// The versions that a case's objects can be had in: those that it says, or all that it uses.
fn versions(case: &Value, op: &Value) -> Vec<String> {
    let said = strings(&op["versions"]);
    let used = list(case, "ops")
        .iter()
        .map(|op| text(op, "version").to_owned());
    let versions: BTreeSet<String> = if said.is_empty() {
        used.collect()
    } else {
        said.into_iter().collect()
    };
    versions.iter().map(|one| api_version(one)).collect()
}

fn perform(
    case: &Value,
    op: &Value,
    spec: &Schema,
    live: Option<&Value>,
) -> Result<Value, Refused> {
    let schema = Schema {
        properties: BTreeMap::from([("spec".to_owned(), spec.clone())]),
        r#type: Some(rdd_schema::Type::Object),
        ..Schema::default()
    };
    let api_version = api_version(text(op, "version"));
    let mut reset_fields: Vec<Vec<String>> = list(op, "reset").iter().map(strings).collect();
    for path in &mut reset_fields {
        path.insert(0, "spec".to_owned());
    }
    let update = Update {
        schema: &schema,
        manager: text(op, "manager"),
        api_version: &api_version,
        subresource: "",
        reset_fields: &reset_fields,
        api_versions: &versions(case, op),
        blank: &json!({}),
        now: "2024-01-01T00:00:00Z",
        // Entries of versions that are gone are dropped, as the library does.
        custom: false,
        other_versions: &[],
    };
    let mut object = json!({"apiVersion": api_version, "kind": "Widget",
                            "metadata": {"name": "w"}});
    // Nothing at all is no explicit null.
    if !op["object"].is_null() {
        object["spec"] = op["object"].clone();
    }
    if text(op, "op") == "update" {
        track_update(live, &mut object, &update);
        return Ok(object);
    }
    let request = Apply {
        schema: update.schema,
        kind: "Widget",
        api_version: update.api_version,
        manager: update.manager,
        subresource: update.subresource,
        force: text(op, "op") == "force",
        reset_fields: update.reset_fields,
        api_versions: update.api_versions,
        blank: update.blank,
        now: update.now,
        custom: update.custom,
        undeclared: &[],
        other_versions: &[],
    };
    apply(live, &object, &request).map_err(|error| match error {
        ApplyError::Conflict(conflicts) => Refused::Conflicts(
            conflicts
                .paths()
                .map(|(cause, path)| {
                    let manager = cause.split('"').nth(1).unwrap_or_default();
                    format!("{manager} {path}")
                })
                .collect(),
        ),
        error => Refused::Other(error.to_string()),
    })
}

/// The managers of an object as the suite writes them.
fn managers(object: &Value) -> Value {
    let mut managers = json!({});
    for entry in list(&object["metadata"], "managedFields") {
        let mut fields = entry["fieldsV1"]["f:spec"].clone();
        if let Some(fields) = fields.as_object_mut() {
            fields.remove(".");
        }
        let name = text(entry, "manager");
        let one = json!({
            "applied": text(entry, "operation") == "Apply",
            "fields": fields,
            "version": text(entry, "apiVersion").trim_start_matches("ex.com/"),
        });
        // The library has one entry per name; two of them are never as the suite says.
        managers[name] = match managers.get(name) {
            None => one,
            Some(other) => json!([other, one]),
        };
    }
    managers
}

/// What differs from what the suite says.
fn difference(case: &Value, schemas: &[Schema]) -> Option<String> {
    let mut live = None;
    for (at, op) in list(case, "ops").iter().enumerate() {
        let schema = op["schema"]
            .as_u64()
            .and_then(|at| usize::try_from(at).ok());
        let schema = schema.and_then(|at| schemas.get(at));
        let schema = schema.expect("an operation has a schema of the suite");
        let expected = op.get("conflicts").map(|_| {
            let conflicts = list(op, "conflicts").iter();
            let paths = conflicts.map(|one| one.as_str().unwrap_or_default());
            Refused::Conflicts(
                paths
                    .map(|path| path.replacen(" .", " .spec.", 1))
                    .collect(),
            )
        });
        match (perform(case, op, schema, live.as_ref()), expected) {
            (Ok(object), None) if op.get("fails").is_none() => live = Some(object),
            (Err(refused), Some(expected)) if refused == expected => {}
            (Err(Refused::Other(error)), None)
                if op.get("fails").is_some_and(|fails| {
                    error.ends_with(&format!(": .spec{}", fails.as_str().unwrap_or_default()))
                }) => {}
            (found, expected) => {
                return Some(format!("operation {at}: {found:?}, expected {expected:?}"));
            }
        }
    }
    let object = live.unwrap_or_default();
    if object["spec"] != case["object"] {
        return Some(format!("{}, expected {}", object["spec"], case["object"]));
    }
    let managers = managers(&object);
    (managers != case["managed"]).then(|| format!("{managers}, expected {}", case["managed"]))
}

#[test]
fn the_tables_of_structured_merge_diff_end_as_they_say() {
    let suite: Value = serde_json::from_str(SUITE).expect("the suite is JSON");
    let schemas: Vec<Schema> = list(&suite, "schemas")
        .iter()
        .map(|schema| Schema::parse(schema).expect("a schema of the suite is valid"))
        .collect();
    let cases = list(&suite, "cases");
    assert!(cases.len() >= 120);
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let difference = difference(case, &schemas)?;
            Some(format!("{}: {difference}", text(case, "name")))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

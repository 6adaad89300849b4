//! `patch`, `annotate` and `label`.

use anyhow::Context as _;
use http::Method;
use serde_json::{Map, Value, json};

use crate::args::{Marks, Patch};
use crate::connection::{Connection, JSON};
use crate::error::{Error, Result};
use crate::output::Format;
use crate::resources::Resources;
use crate::verbs::{DryRun, targets};
use crate::yaml;

/// Changes fields of one object.
pub(crate) async fn patch(connection: &Connection, patch: &Patch) -> Result<()> {
    let text = match (&patch.patch, &patch.patch_file) {
        (Some(text), None) if !text.trim().is_empty() => text.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .with_context(|| format!("failed to read {}", file.display()))?,
        _ => {
            return Err(Error::new(
                "must specify --patch or --patch-file containing the contents of the patch",
            ));
        }
    };
    let documents = yaml::parse(&text).context("unable to parse the patch")?;
    let [document] = documents.as_slice() else {
        return Err(Error::new("the patch must be one document"));
    };
    let media = match patch.r#type.as_str() {
        "json" => "application/json-patch+json",
        "merge" => "application/merge-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        other => {
            return Err(Error::new(format_args!(
                "--type must be one of [json merge strategic], not {other:?}"
            )));
        }
    };
    let dry_run = DryRun::parse(&patch.trial.dry_run)?;
    let format = Format::parse(patch.show.output.as_deref())?;
    let resources = Resources::discover(connection).await?;
    for wanted in targets::parse(&resources, &patch.words)? {
        let Some(name) = &wanted.name else {
            return Err(Error::new(
                "resource(s) were provided, but no name was specified",
            ));
        };
        let name = targets::real_name(connection, wanted.resource, name).await?;
        let mut path = wanted.resource.object_path(&connection.namespace, &name);
        if let Some(subresource) = &patch.subresource {
            path = format!("{path}/{subresource}");
        }
        let before = connection.get(&path, JSON).await?;
        if dry_run.client {
            println!(
                "{} patched{}",
                wanted.resource.named(&name),
                dry_run.suffix()
            );
            continue;
        }
        let address = format!("{path}?{}&fieldManager=kubectl-patch", dry_run.query());
        let after = connection
            .send(Method::PATCH, &address, JSON, Some((media, document)))
            .await
            .map_err(|error| match error {
                Error::Server(status) if status["code"] == 415 => Error::new(format_args!(
                    "{media} is not supported by {}, Kind={}: {}",
                    wanted.resource.api_version(),
                    wanted.resource.kind,
                    status["message"].as_str().unwrap_or_default()
                )),
                error => error,
            })?;
        if format.is_table() {
            let same = before["metadata"]["resourceVersion"]
                == after["metadata"]["resourceVersion"]
                && !dry_run.server;
            let outcome = if same {
                "patched (no change)"
            } else {
                "patched"
            };
            println!(
                "{} {outcome}{}",
                wanted.resource.named(&name),
                dry_run.suffix()
            );
        } else {
            format.print_outcome(after, &wanted.resource.named(&name))?;
        }
    }
    Ok(())
}

/// Sets and removes labels or annotations, which are the same but for their place.
pub(crate) async fn marks(connection: &Connection, marks: &Marks, field: &str) -> Result<()> {
    let is_change = |word: &&String| {
        word.contains('=')
            || (word.ends_with('-') && !word.contains('/')
                || word.ends_with('-') && word.contains('.'))
    };
    let first = marks
        .words
        .iter()
        .skip(1)
        .position(|word| is_change(&word))
        .map_or(marks.words.len(), |index| index + 1);
    let (objects, changes) = marks.words.split_at(first.min(marks.words.len()));
    if changes.is_empty() {
        return Err(Error::new(format_args!(
            "at least one {} update is required",
            field.trim_end_matches('s')
        )));
    }
    let mut patch = Map::new();
    for change in changes {
        let (name, value) = match change.split_once('=') {
            Some((name, value)) => (name, json!(value)),
            None => (change.trim_end_matches('-'), Value::Null),
        };
        let is_removal = value.is_null();
        if let Some(other) = patch.insert(name.to_owned(), value)
            && other.is_null() != is_removal
        {
            let one = if field == "labels" {
                "a label"
            } else {
                "an annotation"
            };
            return Err(Error::new(format_args!(
                "can not both modify and remove {one} in the same command"
            )));
        }
    }
    let dry_run = DryRun::parse(&marks.trial.dry_run)?;
    let format = Format::parse(marks.show.output.as_deref())?;
    let removes = patch.values().all(Value::is_null);
    let verb = match (field, removes) {
        ("labels", true) => "unlabeled",
        ("labels", false) => "labeled",
        _ => "annotated",
    };
    let resources = Resources::discover(connection).await?;
    for (resource, object) in
        targets::read(connection, &resources, objects, &marks.select, marks.all).await?
    {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let current = &object["metadata"][field];
        if !marks.overwrite {
            for (key, value) in &patch {
                if let Some(old) = current[key.as_str()]
                    .as_str()
                    .filter(|old| !value.is_null() && value != old)
                {
                    let has = format!("'{key}' already has a value ({old})");
                    return Err(Error::new(if field == "labels" {
                        format!("{has}, and --overwrite is false")
                    } else {
                        format!(
                            "--overwrite is false but found the following declared annotation(s): {has}"
                        )
                    }));
                }
            }
        }
        if field == "labels" {
            let absent = |key: &&String| current[key.as_str()].is_null();
            let removed = patch.iter().filter(|(_, value)| value.is_null());
            for key in removed.map(|(key, _)| key).filter(absent) {
                println!("label {key:?} not found.");
            }
        }
        let stands = patch
            .iter()
            .all(|(key, value)| current.get(key).unwrap_or(&Value::Null) == value);
        if stands || dry_run.client {
            let outcome = if stands && field == "labels" {
                "not labeled".to_owned()
            } else {
                verb.to_owned()
            };
            println!("{} {outcome}{}", resource.named(name), dry_run.suffix());
            continue;
        }
        let manager = if field == "labels" {
            "kubectl-label"
        } else {
            "kubectl-annotate"
        };
        let address = format!(
            "{}?{}&fieldManager={manager}",
            targets::path(connection, &resource, &object),
            dry_run.query()
        );
        let body = json!({"metadata": {field: patch}});
        let after = connection
            .send(
                Method::PATCH,
                &address,
                JSON,
                Some(("application/merge-patch+json", &body)),
            )
            .await?;
        if format.is_table() {
            println!("{} {verb}{}", resource.named(name), dry_run.suffix());
        } else {
            format.print_outcome(after, &resource.named(name))?;
        }
    }
    Ok(())
}

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
        (Some(text), None) => text.clone(),
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
    let dry_run = DryRun::parse(&patch.dry_run)?;
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
                    "{media} is not supported by {}, Kind={}: {}; choose another --type",
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
            format.print(&after, &|_| wanted.resource.named(&name))?;
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
        match change.split_once('=') {
            Some((name, value)) => patch.insert(name.to_owned(), json!(value)),
            None => patch.insert(change.trim_end_matches('-').to_owned(), Value::Null),
        };
    }
    let dry_run = DryRun::parse(&marks.dry_run)?;
    let format = Format::parse(marks.show.output.as_deref())?;
    let verb = if field == "labels" {
        "labeled"
    } else {
        "annotated"
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
                    return Err(Error::new(format_args!(
                        "'{key}' already has a value ({old}), and --overwrite is false"
                    )));
                }
            }
        }
        let stands = patch
            .iter()
            .all(|(key, value)| current.get(key).unwrap_or(&Value::Null) == value);
        if stands || dry_run.client {
            let outcome = if stands && field == "labels" {
                format!("not {verb}")
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
            format.print(&after, &|_| resource.named(name))?;
        }
    }
    Ok(())
}

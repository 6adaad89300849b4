//! `delete`.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::args::Delete;
use crate::connection::{Connection, JSON};
use crate::error::{Error, Result};
use crate::manifest;
use crate::resources::{Resource, Resources};
use crate::verbs::{DryRun, limit, targets};

/// The first pause between two looks at an object that goes.
const LOOK_MIN: Duration = Duration::from_millis(20);

/// The longest pause.
const LOOK_MAX: Duration = Duration::from_millis(500);

/// Deletes objects and waits until these very ones are gone.
pub(crate) async fn run(connection: &Connection, delete: &Delete) -> Result<()> {
    let resources = Resources::discover(connection).await?;
    let dry_run = DryRun::parse(&delete.trial.dry_run)?;
    let deadline = limit(&delete.timeout)?.map(|limit| Instant::now() + limit);
    let mut failed = None;
    let mut gone = Vec::new();
    let mut doomed: Vec<Doomed> = Vec::new();
    if !delete.filename.is_empty() {
        for sourced in manifest::read(&delete.filename)? {
            let resource = resources.of_sourced(&sourced)?.clone();
            doomed.push(Doomed {
                path: targets::path(connection, &resource, &sourced.object),
                resource,
                known: None,
                source: Some(sourced.source),
            });
        }
    }
    if !delete.words.is_empty() {
        for wanted in targets::parse(&resources, &delete.words)? {
            match &wanted.name {
                Some(_) if delete.select.all_namespaces => {
                    return Err(Error::new(
                        "a resource cannot be retrieved by name across all namespaces",
                    ));
                }
                Some(_) if delete.all || delete.select.selector.is_some() => {
                    return Err(Error::new(
                        "name cannot be provided when a selector is specified",
                    ));
                }
                Some(name) => {
                    let name = targets::real_name(connection, wanted.resource, name).await?;
                    doomed.push(Doomed {
                        path: wanted.resource.object_path(&connection.namespace, &name),
                        resource: wanted.resource.clone(),
                        known: None,
                        source: None,
                    });
                }
                None => {
                    let word = [delete.words[0].clone()];
                    let found =
                        targets::read(connection, &resources, &word, &delete.select, delete.all)
                            .await?;
                    for (resource, object) in found {
                        if resource == *wanted.resource {
                            doomed.push(Doomed {
                                path: targets::path(connection, &resource, &object),
                                resource,
                                known: Some(object),
                                source: None,
                            });
                        }
                    }
                }
            }
        }
    }
    if doomed.is_empty() {
        if delete.filename.is_empty() && delete.words.is_empty() {
            return Err(Error::new(
                "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
            ));
        }
        println!("No resources found");
        return Ok(());
    }
    if delete.force && delete.grace_period == 0 {
        eprintln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely."
        );
    }
    for Doomed {
        resource,
        path,
        known,
        source,
    } in doomed
    {
        match one(connection, delete, &dry_run, &resource, &path).await {
            Ok(answer) => gone.push((resource, path, identity(known.as_ref().unwrap_or(&answer)))),
            Err(error) if delete.ignore_not_found && error.status() == Some(404) => {}
            Err(error) => match source {
                Some(source) => error.during("deleting", &source),
                None => error,
            }
            .keep(&mut failed),
        }
    }
    if delete.wait && !dry_run.client && !dry_run.server {
        for (_, path, uid) in &gone {
            wait(connection, path, uid.as_deref(), deadline).await?;
        }
    }
    failed.map_or(Ok(()), Err)
}

/// An object that is to go.
struct Doomed {
    resource: Resource,
    path: String,
    /// What is known of it, where it was read before.
    known: Option<Value>,
    /// The file that names it.
    source: Option<String>,
}

/// The identity of a deleted object: in the object, or in the Status about it.
fn identity(answer: &Value) -> Option<String> {
    let uid = answer["metadata"]["uid"]
        .as_str()
        .or_else(|| answer["details"]["uid"].as_str());
    uid.map(str::to_owned)
}

async fn one(
    connection: &Connection,
    delete: &Delete,
    dry_run: &DryRun,
    resource: &Resource,
    path: &str,
) -> Result<Value> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let answer = if dry_run.client {
        connection.get(path, JSON).await?
    } else {
        let policy = match delete.cascade.as_str() {
            "background" | "true" => "Background",
            "orphan" | "false" => "Orphan",
            "foreground" => "Foreground",
            other => {
                return Err(Error::new(format_args!(
                    "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
                )));
            }
        };
        let mut options =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        if delete.grace_period >= 0 {
            options["gracePeriodSeconds"] = json!(delete.grace_period);
        }
        if dry_run.server {
            options["dryRun"] = json!(["All"]);
        }
        connection
            .send(Method::DELETE, path, JSON, Some((JSON, &options)))
            .await?
    };
    if delete.show.output.as_deref() == Some("name") {
        println!("{}", resource.named(name));
    } else {
        let (kind, _) = resource
            .named("x")
            .split_once('/')
            .map(|(kind, name)| (kind.to_owned(), name.to_owned()))
            .unwrap_or_default();
        let force = if delete.force && delete.grace_period <= 0 {
            " force"
        } else {
            ""
        };
        let place = match path.split_once("/namespaces/") {
            Some((_, rest)) if resource.namespaced => {
                format!(
                    " from {} namespace",
                    rest.split('/').next().unwrap_or_default()
                )
            }
            _ => String::new(),
        };
        println!("{kind} {name:?}{force} deleted{place}{}", dry_run.suffix());
    }
    Ok(answer)
}

/// Until the object is gone, or another one of its name is there.
async fn wait(
    connection: &Connection,
    path: &str,
    uid: Option<&str>,
    deadline: Option<Instant>,
) -> Result<()> {
    let mut pause = LOOK_MIN;
    loop {
        match connection.get(path, JSON).await {
            Err(error) if error.status() == Some(404) => return Ok(()),
            Err(error) => return Err(error),
            Ok(object) => {
                if uid.is_some_and(|uid| object["metadata"]["uid"] != uid) {
                    return Ok(());
                }
            }
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::new(format_args!(
                "timed out waiting for the condition on {}",
                path.rsplit('/').next().unwrap_or_default()
            )));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_MAX);
    }
}

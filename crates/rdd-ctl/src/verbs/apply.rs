//! `apply`, `create` and `replace`.

use http::Method;
use serde_json::{Map, Value, json};

use crate::args::{Apply, Create};
use crate::connection::{Connection, JSON};
use crate::error::{Error, Result};
use crate::manifest::{self, Sourced};
use crate::output::Format;
use crate::resources::{Resource, Resources};
use crate::verbs::{DryRun, targets};

/// Where client-side apply remembers what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How the server treats fields that it does not know.
fn validation(text: &str) -> Result<&'static str> {
    match text {
        "strict" | "true" => Ok("fieldValidation=Strict"),
        "warn" => Ok("fieldValidation=Warn"),
        "ignore" | "false" => Ok("fieldValidation=Ignore"),
        _ => Err(Error::new(format_args!(
            "invalid validation option {text:?}; valid are strict, warn and ignore"
        ))),
    }
}

/// Fits an object into the namespace of the command.
fn place(connection: &Connection, resource: &Resource, object: &mut Value) {
    if resource.namespaced
        && object["metadata"]["namespace"]
            .as_str()
            .is_none_or(str::is_empty)
    {
        object["metadata"]["namespace"] = connection.namespace.clone().into();
    }
}

/// Brings objects to the content of files.
pub(crate) async fn run(connection: &Connection, apply: &Apply) -> Result<()> {
    let format = Format::parse(apply.show.output.as_deref())?;
    let dry_run = DryRun::parse(&apply.trial.dry_run)?;
    let validate = validation(&apply.strictness.validate)?;
    let mut resources = Resources::discover(connection).await?;
    let mut failed = None;
    for mut sourced in manifest::read_some(&apply.filename, "apply")? {
        // A definition earlier in the same files serves what comes later.
        if resources.of_sourced(&sourced).is_err() {
            resources = Resources::discover(connection).await?;
        }
        let outcome = async {
            let resource = resources.of_sourced(&sourced)?;
            let Sourced { source, object } = &mut sourced;
            place(connection, resource, object);
            let name = object["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if name.is_empty() {
                return Err(match object["metadata"]["generateName"].as_str() {
                    Some(prefix) => Error::new(format_args!(
                        "from {prefix}: cannot use generate name with apply"
                    )),
                    None => Error::new(format_args!(
                        "error when retrieving current configuration of {source:?}: resource name may not be empty"
                    )),
                });
            }
            let (verb, after) = if apply.server_side {
                server_side(connection, apply, &dry_run, validate, resource, object).await?
            } else {
                client_side(connection, apply, &dry_run, validate, resource, &sourced).await?
            };
            if format.is_table() {
                println!("{} {verb}{}", resource.named(&name), dry_run.suffix());
            } else {
                format.print_outcome(after, &resource.named(&name))?;
            }
            Ok(())
        };
        if let Err(error) = outcome.await {
            error.keep(&mut failed);
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn server_side(
    connection: &Connection,
    apply: &Apply,
    dry_run: &DryRun,
    validate: &str,
    resource: &Resource,
    object: &Value,
) -> Result<(&'static str, Value)> {
    let path = targets::path(connection, resource, object);
    let address = format!(
        "{path}?fieldManager={}&force={}&{validate}&{}",
        crate::connection::escape(&apply.field_manager),
        apply.force_conflicts,
        dry_run.query()
    );
    if dry_run.client {
        return Ok(("serverside-applied", object.clone()));
    }
    let after = connection
        .send(
            Method::PATCH,
            &address,
            JSON,
            Some(("application/apply-patch+yaml", object)),
        )
        .await?;
    Ok(("serverside-applied", after))
}

/// The three-way merge: what was applied, what is there, what is wanted.
async fn client_side(
    connection: &Connection,
    apply: &Apply,
    dry_run: &DryRun,
    validate: &str,
    resource: &Resource,
    Sourced { source, object }: &Sourced,
) -> Result<(&'static str, Value)> {
    let path = targets::path(connection, resource, object);
    let mut wanted = object.clone();
    let remembered = remember(&mut wanted);
    let manager = if apply.field_manager == "kubectl" {
        "kubectl-client-side-apply"
    } else {
        &apply.field_manager
    };
    let manager = crate::connection::escape(manager);
    let query = format!("fieldManager={manager}&{validate}&{}", dry_run.query());
    let live = match connection.get(&path, JSON).await {
        Ok(live) => live,
        Err(error) if error.status() == Some(404) => {
            if dry_run.client {
                return Ok(("created", wanted));
            }
            let collection = resource.path(object["metadata"]["namespace"].as_str());
            let address = format!("{collection}?{query}");
            return Ok((
                "created",
                connection
                    .send(Method::POST, &address, JSON, Some((JSON, &wanted)))
                    .await
                    .map_err(|error| error.during("creating", source))?,
            ));
        }
        Err(error) => return Err(error),
    };
    let annotation = live["metadata"]["annotations"][LAST_APPLIED].as_str();
    if annotation.is_none() {
        eprintln!(
            "Warning: resource {} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.",
            format_args!(
                "{}/{}",
                resource.plural,
                object["metadata"]["name"].as_str().unwrap_or_default()
            )
        );
    }
    let before: Value = annotation
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let mut patch = changes(&live, &wanted);
    // With what is remembered: nothing was applied to annotations that others wrote.
    removals(&before, &wanted, &live, &mut patch);
    if annotation == Some(remembered.as_str())
        && let Some(metadata) = patch.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.remove("annotations");
        if metadata.is_empty() {
            patch
                .as_object_mut()
                .map(|fields| fields.remove("metadata"));
        }
    }
    if patch == json!({}) {
        return Ok(("unchanged", live));
    }
    if dry_run.client {
        return Ok(("configured", wanted));
    }
    let address = format!("{path}?{query}");
    let after = connection
        .send(
            Method::PATCH,
            &address,
            JSON,
            Some(("application/merge-patch+json", &patch)),
        )
        .await
        .map_err(|error| error.during("applying the change of", source))?;
    let same = after["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
        && !dry_run.server;
    Ok((if same { "unchanged" } else { "configured" }, after))
}

/// Writes into the object what is applied, and returns that text.
fn remember(object: &mut Value) -> String {
    let mut applied = object.clone();
    if let Some(annotations) = applied["metadata"]
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    } else {
        // kubectl remembers an empty map where there was none.
        applied["metadata"]["annotations"] = json!({});
    }
    let text = format!("{applied}\n");
    object["metadata"]["annotations"][LAST_APPLIED] = text.clone().into();
    text
}

/// A merge patch that makes what is there into what is wanted, leaving the rest alone.
fn changes(live: &Value, wanted: &Value) -> Value {
    let (Some(live), Some(wanted)) = (live.as_object(), wanted.as_object()) else {
        return wanted.clone();
    };
    let mut patch = Map::new();
    for (name, value) in wanted {
        match live.get(name) {
            Some(current) if current == value => {}
            Some(current) if current.is_object() && value.is_object() => {
                let inner = changes(current, value);
                if inner != json!({}) {
                    patch.insert(name.clone(), inner);
                }
            }
            _ => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

/// Adds nulls for what was applied before, is there, and is not wanted any more.
fn removals(before: &Value, wanted: &Value, live: &Value, patch: &mut Value) {
    let (Some(before), Some(live)) = (before.as_object(), live.as_object()) else {
        return;
    };
    for (name, old) in before {
        let Some(current) = live.get(name) else {
            continue;
        };
        match wanted.get(name) {
            None => patch[name] = Value::Null,
            Some(value) if value.is_object() && old.is_object() => {
                let mut inner = patch.get(name).cloned().unwrap_or_else(|| json!({}));
                removals(old, value, current, &mut inner);
                if inner != json!({}) {
                    patch[name] = inner;
                }
            }
            Some(_) => {}
        }
    }
}

/// Creates objects from files, or from words.
pub(crate) async fn create(connection: &Connection, create: &Create) -> Result<()> {
    let objects = if create.filename.is_empty() && !create.words.is_empty() {
        let object = generated(create)?;
        let source = String::new();
        vec![Sourced { source, object }]
    } else if create.words.is_empty() {
        manifest::read_some(&create.filename, "create")?
    } else {
        return Err(Error::new(format_args!(
            "Unexpected args: [{}]\nSee 'kubectl create -h' for help and examples",
            create.words.join(" ")
        )));
    };
    each(
        connection,
        create,
        objects,
        ("creating", "created"),
        async |resource, object, query| {
            let collection = resource.path(object["metadata"]["namespace"].as_str());
            connection
                .send(
                    Method::POST,
                    &format!("{collection}?fieldManager=kubectl-create&{query}"),
                    JSON,
                    Some((JSON, object)),
                )
                .await
        },
    )
    .await
}

/// Replaces objects by the content of files.
pub(crate) async fn replace(connection: &Connection, replace: &Create) -> Result<()> {
    let objects = manifest::read_some(&replace.filename, "replace")?;
    each(
        connection,
        replace,
        objects,
        ("replacing", "replaced"),
        async |resource, object, query| {
            let path = targets::path(connection, resource, object);
            let mut object = object.clone();
            if object["metadata"]["resourceVersion"].as_str().is_none() {
                let live = connection.get(&path, JSON).await?;
                object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            }
            connection
                .send(
                    Method::PUT,
                    &format!("{path}?fieldManager=kubectl-replace&{query}"),
                    JSON,
                    Some((JSON, &object)),
                )
                .await
        },
    )
    .await
}

async fn each(
    connection: &Connection,
    arguments: &Create,
    objects: Vec<Sourced>,
    (doing, done): (&str, &str),
    send: impl AsyncFn(&Resource, &Value, &str) -> Result<Value>,
) -> Result<()> {
    let format = Format::parse(arguments.show.output.as_deref())?;
    let dry_run = DryRun::parse(&arguments.trial.dry_run)?;
    let query = format!(
        "{}&{}",
        validation(&arguments.strictness.validate)?,
        dry_run.query()
    );
    let resources = Resources::discover(connection).await?;
    let mut failed = None;
    for mut sourced in objects {
        let outcome = async {
            let resource = resources.of_sourced(&sourced)?;
            let Sourced { source, object } = &mut sourced;
            let after = if dry_run.client {
                object.clone()
            } else {
                place(connection, resource, object);
                let sent = send(resource, object, &query).await;
                sent.map_err(|error| match source.as_str() {
                    "" => not_generated(resource, error),
                    source => error.during(doing, source),
                })?
            };
            let named = resource.named(after["metadata"]["name"].as_str().unwrap_or_default());
            if format.is_table() {
                println!("{named} {done}{}", dry_run.suffix());
                Ok(())
            } else {
                format.print_outcome(after, &named)
            }
        };
        if let Err(error) = outcome.await {
            error.keep(&mut failed);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// kubectl's words for an object made of words that the server refuses.
fn not_generated(resource: &Resource, error: Error) -> Error {
    let Error::Server(status) = &error else {
        return error;
    };
    let message = status["message"].as_str().unwrap_or_default();
    match resource.singular.as_str() {
        kind @ ("configmap" | "serviceaccount") => {
            Error::new(format_args!("failed to create {kind}: {message}"))
        }
        "secret" => Error::new(format_args!("failed to create secret {message}")),
        _ => error,
    }
}

/// Whether it is one of the forms that need no kubectl.
pub(crate) fn can_create(create: &Create) -> bool {
    !create.filename.is_empty() || generated(create).is_ok() || create.words.is_empty()
}

/// `namespace NAME`, `configmap NAME --from-literal …`, `secret generic NAME --from-literal …`.
fn generated(create: &Create) -> Result<Value> {
    let mut data = Map::new();
    for literal in &create.from_literal {
        let (key, value) = literal.split_once('=').ok_or_else(|| {
            Error::new(format_args!(
                "invalid literal source {literal}, expected key=value"
            ))
        })?;
        data.insert(key.to_owned(), value.into());
    }
    let words: Vec<&str> = create.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["namespace" | "ns", name] => {
            Ok(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        }
        ["configmap" | "cm", name] => Ok(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}),
        ),
        ["secret", "generic", name] => Ok(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}),
        ),
        ["serviceaccount" | "sa", name] => {
            Ok(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}))
        }
        _ => Err(Error::new(
            "create takes -f FILE, or one of: namespace NAME, configmap NAME, secret generic NAME, serviceaccount NAME",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apply_changes_and_removes_only_what_it_applied() {
        let before = json!({"data": {"a": "1", "b": "2"}});
        let live = json!({"data": {"a": "1", "b": "2", "theirs": "x"}, "metadata": {"uid": "u"}});
        let wanted = json!({"data": {"a": "3"}});
        let mut patch = changes(&live, &wanted);
        removals(&before, &wanted, &live, &mut patch);
        assert_eq!(patch, json!({"data": {"a": "3", "b": null}}));
    }

    #[test]
    fn annotations_of_others_stay_when_something_is_applied_again() {
        let mut before = json!({"metadata": {"name": "a"}, "data": {"k": "1"}});
        let mut live = before.clone();
        remember(&mut live);
        let text = live["metadata"]["annotations"][LAST_APPLIED].as_str();
        before = serde_json::from_str(text.expect("it is there")).expect("JSON");
        live["metadata"]["annotations"]["theirs"] = json!("x");
        let mut wanted = json!({"metadata": {"name": "a"}, "data": {"k": "2"}});
        remember(&mut wanted);
        let mut patch = changes(&live, &wanted);
        removals(&before, &wanted, &live, &mut patch);
        assert_eq!(patch["data"], json!({"k": "2"}));
        let annotations = patch["metadata"]["annotations"].as_object();
        let keys: Vec<&String> = annotations.expect("some").keys().collect();
        assert_eq!(keys, [LAST_APPLIED]);
    }

    #[test]
    fn nothing_to_change_is_an_empty_patch() {
        let live = json!({"data": {"a": "1"}, "metadata": {"uid": "u"}});
        let wanted = json!({"data": {"a": "1"}});
        let mut patch = changes(&live, &wanted);
        removals(&wanted, &wanted, &live, &mut patch);
        assert_eq!(patch, json!({}));
    }
}

//! Server-side apply.

use std::sync::Arc;

use rdd_schema::Schema;
use serde_json::{Map, Value, json};

use crate::{
    conflict::Conflicts,
    field_set::FieldSet,
    managed_fields::{Entry, Id, Managed, Untrackable, Update, remove_untracked, take},
    shape::Place,
    typed::{Comparison, check, fields_of, merge, same, with_named_fields, without},
};

/// What client-side apply of kubectl remembers in an object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The manager whose applies take over from client-side apply.
const KUBECTL: &str = "kubectl";

/// How many bytes the annotations of an object may have.
const ANNOTATION_BYTES_MAX: usize = 256 * 1024;

/// An apply request.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// What the object looks like.
    pub schema: &'a Schema,
    /// The kind of the endpoint.
    pub kind: &'a str,
    /// The version of the endpoint.
    pub api_version: &'a str,
    /// The field manager.
    pub manager: &'a str,
    /// The subresource applied to; empty for the object itself.
    pub subresource: &'a str,
    /// Take over what others own.
    pub force: bool,
    /// Fields that this endpoint never owns.
    pub reset_fields: &'a [Vec<String>],
    /// Every `apiVersion` in which the object can be had.
    pub api_versions: &'a [String],
    /// What an object of this type prints with nothing set; an empty object for custom resources.
    pub blank: &'a Value,
    /// The current time in RFC 3339, seconds, UTC.
    pub now: &'a str,
    /// A custom resource rather than a built-in type.
    pub custom: bool,
    /// Paths of the configuration that its type does not have, where the schema cannot tell.
    pub undeclared: &'a [String],
    /// What the object looks like in the versions other than the endpoint's.
    pub other_versions: &'a [(String, Arc<Schema>)],
}

/// Why an apply is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 400: the configuration is not one for this endpoint.
    #[error("{0}")]
    BadRequest(String),
    /// 500 without a reason: the configuration does not fit the schema, or the
    /// stored entries cannot be used.
    #[error("{0}")]
    Type(String),
    /// 409: others own what would change.
    #[error("{0}")]
    Conflict(Conflicts),
}

/// Applies a configuration; without a live object it creates one.
///
/// The answer carries its managed fields. It is not defaulted, pruned or
/// validated, and holds what the configuration says about fields that the
/// endpoint resets. When nothing changes it equals the live object.
///
/// # Errors
/// See [`ApplyError`]; the texts are those of kube-apiserver.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    request: &Apply<'_>,
) -> Result<Value, ApplyError> {
    check_type(config, request)?;
    let nothing = json!({});
    let stored = live
        .and_then(|live| live.pointer("/metadata/managedFields"))
        .unwrap_or(&Value::Null);
    let mut managed = Managed::decode(stored)
        .map_err(|error| ApplyError::Type(format!("failed to decode managed fields: {error}")))?;
    let update = request.as_update();
    let gone = |error: Untrackable| ApplyError::Type(error.to_string());
    let place = request.place();
    // What is stored may hold duplicates, which the applier can cure.
    let live_errors = live.map_or_else(Vec::new, |live| {
        let mut errors = check(place, live);
        errors.retain(|error| !error.contains(": duplicate entries for key "));
        errors
    });
    if managed.entries.is_empty()
        && let Some(live) = live
    {
        let role = "failed to create manager for existing fields: failed to convert new object";
        refuse(role, " to smd typed", live, &live_errors)?;
        managed
            .record_before_first_apply(live, &update)
            .map_err(gone)?;
    }
    if config
        .pointer("/metadata/managedFields")
        .is_some_and(|entries| !entries.is_null())
    {
        return Err(ApplyError::BadRequest(
            "metadata.managedFields must be nil".to_owned(),
        ));
    }
    let mut errors = check(place, config);
    let undeclared = request.undeclared.iter();
    errors.extend(undeclared.map(|path| format!(".{path}: field not declared in schema")));
    refuse("failed to create typed patch object", "", config, &errors)?;
    if let Some(live) = live {
        refuse("failed to create typed live object", "", live, &live_errors)?;
    }
    managed.check_versions(&update).map_err(gone)?;
    managed.reconcile(request.schema);

    let base = live.unwrap_or(&nothing);
    let mut merged = merge_and_prune(base, config, request, &mut managed);
    let own = Id::apply(request.manager, request.subresource);
    managed
        .check_other_versions(&update, Some(&own), base, &merged)
        .map_err(gone)?;
    match settle(base, &merged, request, &mut managed, request.force) {
        Ok(()) => {}
        Err(conflicts) if request.manager == KUBECTL => {
            let conflicts = without_last_applied(conflicts, base, request);
            if !conflicts.of_managers.is_empty() {
                return Err(ApplyError::Conflict(conflicts));
            }
            // What client-side apply wrote last is taken over. Forcing has no conflicts.
            settle(base, &merged, request, &mut managed, true).map_err(ApplyError::Conflict)?;
        }
        Err(conflicts) => return Err(ApplyError::Conflict(conflicts)),
    }
    take(&mut merged);
    managed.encode(&mut merged);
    if request.manager == KUBECTL {
        refresh_last_applied(&mut merged, config);
    }
    Ok(merged)
}

impl<'a> Apply<'a> {
    fn as_update(&self) -> Update<'a> {
        Update {
            schema: self.schema,
            manager: self.manager,
            api_version: self.api_version,
            subresource: self.subresource,
            reset_fields: self.reset_fields,
            api_versions: self.api_versions,
            blank: self.blank,
            now: self.now,
            custom: self.custom,
            other_versions: self.other_versions,
        }
    }

    fn place(&self) -> Place<'a> {
        Place::Object(self.schema)
    }
}

fn check_type(config: &Value, request: &Apply<'_>) -> Result<(), ApplyError> {
    let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version != request.api_version || kind != request.kind {
        let message = format!("invalid object type: {}", type_text(api_version, kind));
        return Err(ApplyError::BadRequest(message));
    }
    Ok(())
}

/// Refuses an object that does not fit the schema, if there are errors. The text begins
/// with what failed, then names the object, then says how.
fn refuse(failed: &str, how: &str, object: &Value, errors: &[String]) -> Result<(), ApplyError> {
    let errors = match errors {
        [] => return Ok(()),
        [error] => error.clone(),
        _ => format!("errors:\n  {}", errors.join("\n  ")),
    };
    let text = |pointer: &str| {
        let value = object.pointer(pointer);
        value.and_then(Value::as_str).unwrap_or_default()
    };
    Err(ApplyError::Type(format!(
        "{failed} ({}/{}; {}){how}: {errors}",
        text("/metadata/namespace"),
        text("/metadata/name"),
        type_text(text("/apiVersion"), text("/kind")),
    )))
}

/// A type as Go prints it: `apps/v1, Kind=Deployment`, with a bare slash for the core group.
fn type_text(api_version: &str, kind: &str) -> String {
    let core = if api_version.contains('/') { "" } else { "/" };
    format!("{core}{api_version}, Kind={kind}")
}

/// The live object with the configuration, without what the manager applied
/// before and nobody owns now. The manager's entry becomes that of the configuration.
fn merge_and_prune(
    live: &Value,
    config: &Value,
    request: &Apply<'_>,
    managed: &mut Managed,
) -> Value {
    let place = request.place();
    let mut set = fields_of(place, config);
    set.remove_recursively(&FieldSet::of_fields(request.reset_fields));
    let id = Id::apply(request.manager, request.subresource);
    let previous = managed.entries.remove(&id);
    let time = previous.as_ref().and_then(|entry| entry.time.clone());
    let entry = Entry {
        set,
        api_version: request.api_version.to_owned(),
        time,
    };
    managed.entries.insert(id.clone(), entry);

    let merged = merge(place, live, config);
    let last = match previous {
        Some(previous) if !previous.set.is_empty() => with_named_fields(place, &previous.set),
        _ => return merged,
    };
    let mut still = last.clone();
    if let Some(entry) = managed.entries.get(&id) {
        still.remove(&with_named_fields(place, &entry.set));
    }
    if still.is_empty() {
        return merged;
    }
    let mut owned = FieldSet::default();
    for entry in managed.entries.values() {
        owned.add(&entry.set);
    }
    let all = with_named_fields(place, &fields_of(place, &merged));

    let pruned = without(place, &merged, &last);
    // What somebody owns comes back …
    let mut unowned = all.clone();
    unowned.remove(&with_named_fields(place, &fields_of(place, &pruned)));
    unowned.remove(&with_named_fields(place, &owned));
    let pruned = without(place, &merged, &unowned);
    // … and so does what the manager never applied.
    let mut dropped = all;
    dropped.remove(&with_named_fields(place, &fields_of(place, &pruned)));
    without(place, &merged, &dropped.intersection(&last))
}

/// Finds the conflicts, or takes what changed from everybody else.
fn settle(
    live: &Value,
    merged: &Value,
    request: &Apply<'_>,
    managed: &mut Managed,
    force: bool,
) -> Result<(), Conflicts> {
    let mut comparison = Comparison::between(request.place(), live, merged);
    comparison.ignore(&FieldSet::of_fields(request.reset_fields));
    let changed = comparison.set();
    let own = Id::apply(request.manager, request.subresource);
    if !force {
        let mut of_managers: Vec<(String, FieldSet)> = managed
            .entries
            .iter()
            .filter(|(id, _)| **id != own)
            .filter_map(|(id, entry)| {
                let set = entry.set.intersection(&changed);
                (!set.is_empty()).then(|| (display(id, &entry.api_version), set))
            })
            .collect();
        of_managers.sort_by(|(a, _), (b, _)| a.cmp(b));
        if !of_managers.is_empty() {
            return Err(Conflicts { of_managers });
        }
    }
    for (id, entry) in &mut managed.entries {
        if *id == own {
            remove_untracked(&mut entry.set);
            if !same(live, merged) {
                entry.time = (request.subresource != "scale").then(|| request.now.to_owned());
            }
        } else if !comparison.is_empty() {
            entry.set.remove(&changed);
            entry.set.remove(&comparison.removed);
        }
    }
    managed.drop_empty();
    Ok(())
}

fn display(id: &Id, api_version: &str) -> String {
    let mut text = Value::String(id.manager.clone()).to_string();
    if !id.subresource.is_empty() {
        text.push_str(" with subresource ");
        text.push_str(&Value::String(id.subresource.clone()).to_string());
    }
    if !id.applied {
        text.push_str(" using ");
        text.push_str(api_version);
    }
    text
}

// === client-side apply of kubectl ===

/// The conflicts that remain when fields still as client-side apply wrote them are no conflict.
fn without_last_applied(conflicts: Conflicts, live: &Value, request: &Apply<'_>) -> Conflicts {
    let Some(allowed) = last_applied_fields(live, request) else {
        return conflicts;
    };
    let of_managers = conflicts
        .of_managers
        .into_iter()
        .filter_map(|(manager, mut set)| {
            set.remove(&allowed);
            (!set.is_empty()).then_some((manager, set))
        })
        .collect();
    Conflicts { of_managers }
}

fn last_applied_fields(live: &Value, request: &Apply<'_>) -> Option<FieldSet> {
    let text = annotations(live)?.get(LAST_APPLIED)?.as_str()?;
    let applied: Value = serde_json::from_str(text).ok()?;
    if applied.get("apiVersion").and_then(Value::as_str) != Some(request.api_version)
        || !check(request.place(), &applied).is_empty()
    {
        return None;
    }
    let mut fields = fields_of(request.place(), &applied);
    let comparison = Comparison::between(request.place(), &applied, live);
    fields.remove(&comparison.set());
    fields.remove(&comparison.removed);
    Some(fields)
}

/// Writes the configuration where client-side apply looks for it, if it was ever used.
fn refresh_last_applied(object: &mut Value, config: &Value) {
    let used = annotations(object)
        .and_then(|annotations| annotations.get(LAST_APPLIED)?.as_str())
        .is_some_and(|text| !text.is_empty());
    if !used {
        return;
    }
    let mut config = config.clone();
    take(&mut config);
    if let Some(annotations) = annotations_mut(&mut config) {
        annotations.remove(LAST_APPLIED);
    }
    let text = escaped(&config.to_string()) + "\n";
    let Some(annotations) = annotations_mut(object) else {
        return;
    };
    annotations.insert(LAST_APPLIED.to_owned(), Value::String(text));
    let size: usize = annotations
        .iter()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > ANNOTATION_BYTES_MAX {
        annotations.remove(LAST_APPLIED);
    }
}

fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    object.pointer("/metadata/annotations")?.as_object()
}

fn annotations_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.pointer_mut("/metadata/annotations")?.as_object_mut()
}

/// JSON with `<`, `>` and `&` escaped, as Go prints it.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

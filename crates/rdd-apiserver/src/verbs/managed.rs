//! Managed fields at the server's side: who the manager is, what is left alone.

use std::sync::Arc;

use rdd_schema::Schema;
use serde_json::Value;

use crate::{catalog::Subresource, object, options::WriteOptions, verbs::call::Call};

/// Records what a write other than apply sets.
pub(crate) fn track(call: &Call, options: &WriteOptions, old: Option<&Value>, new: &mut Value) {
    let resource = &call.resource;
    if call.subresource == Some(Subresource::Scale)
        && !old.is_some_and(|old| owns_replicas(call, old))
    {
        // To a Scale, what nobody owns is not tracked, and a write alone does not change that.
        return;
    }
    let reset = resource.strategy.reset_fields(resource, call.subresource);
    let manager = options.manager(call.user_agent());
    let now = call.now.to_string();
    let unwritten = (!resource.is_custom())
        .then(|| take_empty(new, "webhooks"))
        .flatten();
    let api_version = resource.api_version();
    rdd_apply::managed_fields::track_update(
        old,
        new,
        &rdd_apply::managed_fields::Update {
            schema: &resource.schema,
            manager: &manager,
            api_version: &api_version,
            subresource: call.subresource.map_or("", Subresource::as_str),
            reset_fields: &reset,
            api_versions: &resource.api_versions,
            blank: &resource.strategy.blank(),
            now: &now,
            custom: resource.is_custom(),
            other_versions: &other_versions(call),
        },
    );
    if let (Some(unwritten), Some(members)) = (unwritten, new.as_object_mut()) {
        members.insert("webhooks".to_owned(), unwritten);
    }
    // A Scale of no replicas does not say so, and what nobody says nobody owns.
    if call.subresource == Some(Subresource::Scale)
        && let Some(scale) = &resource.scale
    {
        let pointer = format!("/{}", scale.spec_replicas.join("/"));
        if new.pointer(&pointer).and_then(Value::as_i64) == Some(0) {
            rdd_apply::managed_fields::disown(new, &scale.spec_replicas);
        }
    }
}

/// Takes out an empty list, which is told apart from none but is left out when it is
/// written, so that nobody owns it.
fn take_empty(object: &mut Value, name: &str) -> Option<Value> {
    let members = object.as_object_mut()?;
    let is_empty = members.get(name)?.as_array()?.is_empty();
    is_empty.then(|| members.remove(name)).flatten()
}

/// The schemas of the versions of a custom resource that the request is not in, as far as
/// an object is held against them as it is: a webhook makes another one of it before.
pub(crate) fn other_versions(call: &Call) -> Vec<(String, Arc<Schema>)> {
    let resource = &call.resource;
    if !resource.is_custom()
        || resource.conversion.is_some()
        || resource.served_api_versions.len() < 2
    {
        return Vec::new();
    }
    let catalog = call.server.catalog.load();
    let Some(group) = catalog.group(&resource.group) else {
        return Vec::new();
    };
    let of_others = group.versions.values().filter_map(|version| {
        let other = version.resources.get(&resource.plural)?;
        (other.version != resource.version)
            .then(|| (other.api_version(), Arc::clone(&other.schema)))
    });
    of_others.collect()
}

/// Whether some manager owns the number that a Scale shows.
fn owns_replicas(call: &Call, object: &Value) -> bool {
    let Some(scale) = &call.resource.scale else {
        return false;
    };
    let entries = object.pointer("/metadata/managedFields");
    let entries = entries.and_then(Value::as_array).into_iter().flatten();
    let mut sets = entries.map(|entry| &entry["fieldsV1"]);
    sets.any(|set| {
        let mut path = scale.spec_replicas.iter();
        path.try_fold(set, |at, name| at.get(format!("f:{name}")))
            .is_some()
    })
}

/// A PUT that says nothing about managed fields keeps what is stored.
pub(crate) fn keep_if_omitted(new: &mut Value, current: &Value) {
    let stored = current
        .get("metadata")
        .and_then(|metadata| metadata.get("managedFields"));
    if let (Some(metadata), Some(stored)) = (object::metadata_mut(new), stored) {
        metadata
            .entry("managedFields")
            .or_insert_with(|| stored.clone());
    }
}

fn managed(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

/// A write that changes nothing but the times of managed fields changes nothing.
pub(crate) fn drop_timestamp_changes(old: &Value, new: &mut Value) {
    let (Some(before), Some(after)) = (managed(old), managed(new)) else {
        return;
    };
    if before == after || !same_but_for_times(before, after) {
        return;
    }
    let before = before.clone();
    let after = std::mem::replace(&mut new["metadata"]["managedFields"], before);
    if new != old {
        new["metadata"]["managedFields"] = after;
    }
}

fn same_but_for_times(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_array(), other.as_array()) else {
        return false;
    };
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| timeless(one).eq(timeless(other)))
}

/// The members of an entry of managed fields, without its time.
fn timeless(entry: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let members = entry.as_object().into_iter().flatten();
    members.filter(|(name, _)| *name != "time")
}

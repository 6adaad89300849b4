//! Stored form ↔ served form.
//!
//! Most objects are stored as they are served, and their bytes go out untouched.
//! An object that was stored in another version, before the current schema, or in
//! a form of its own takes the slow way: parse, convert, prune, default.

use bytes::Bytes;
use rdd_store::Entry;
use serde_json::Value;

use crate::{
    catalog::Resource,
    object::{self, canonical, metadata, parse_entry, stored_in},
    status::ApiResult,
    verbs::decode,
};

/// Whether an entry's bytes are what this version serves.
pub(crate) fn is_direct(resource: &Resource, entry: &Entry) -> bool {
    resource.strategy.serves_stored_form()
        && entry.revision >= resource.schema_revision()
        && stored_in(&entry.value, &resource.api_version())
}

/// The canonical bytes of an entry in this version, without its revision.
pub(crate) fn bytes(resource: &Resource, entry: &Entry) -> ApiResult<Bytes> {
    if is_direct(resource, entry) {
        return Ok(entry.value.clone());
    }
    Ok(canonical(&value(resource, entry)?))
}

/// An entry parsed in this version, with its revision.
pub(crate) fn value(resource: &Resource, entry: &Entry) -> ApiResult<Value> {
    let mut value = parse_entry(entry)?;
    if is_direct(resource, entry) {
        return Ok(value);
    }
    resource.strategy.from_storage(&mut value);
    value["apiVersion"] = Value::String(resource.api_version());
    if resource.is_custom() {
        // What no longer fits is dropped on the way out, never refused.
        let _ = metadata::decode(&mut value, false, &resource.kind);
        object::set_revision(&mut value, entry.revision);
        decode::shape(resource, &mut value);
    }
    Ok(value)
}

/// The bytes to store for an object of this version.
pub(crate) fn to_storage(resource: &Resource, object: &Value) -> Bytes {
    let direct = resource.strategy.serves_stored_form()
        && resource.storage.api_version == resource.api_version();
    if direct {
        return canonical(object);
    }
    let mut stored = object.clone();
    resource.strategy.to_storage(&mut stored);
    stored["apiVersion"] = Value::String(resource.storage.api_version.clone());
    canonical(&stored)
}

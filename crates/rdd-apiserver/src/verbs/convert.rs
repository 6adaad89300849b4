//! From one version of a resource to another, also through a conversion webhook.
//!
//! What the store holds is brought into the request's version once, entry by entry;
//! from then on [`served`] treats it as if it had been stored like that.

use bytes::Bytes;
use rdd_store::Entry;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    api_server::Inner,
    catalog::Resource,
    conversion::Conversion,
    encoding::json::parse_trusted,
    object::{canonical, stored_in},
    status::{ApiError, ApiResult},
    verbs::{call::Call, decode, served},
};

/// The object in the version of `to`, with whatever that version does not know: nothing
/// may be lost on the way there and back.
///
/// # Errors
/// When the conversion webhook fails.
pub(crate) async fn between(
    call: &Call,
    from: &Resource,
    to: &Resource,
    mut object: Value,
) -> ApiResult<Value> {
    let target = to.api_version();
    if from.api_version() == target {
        return Ok(object);
    }
    if let Some(conversion) = &to.conversion {
        object = one(&call.server, conversion, object, &target, call.deadline).await?;
    } else if to.is_custom() {
        object["apiVersion"] = Value::String(target);
    } else {
        from.strategy.to_storage(&mut object);
        to.strategy.from_storage(&mut object);
        object["apiVersion"] = Value::String(target);
    }
    Ok(object)
}

/// An entry as if it had been stored in this version.
///
/// # Errors
/// When the conversion webhook fails.
pub(crate) async fn entry(call: &Call, entry: Entry) -> ApiResult<Entry> {
    if call.resource.conversion.is_none() {
        return Ok(entry);
    }
    let mut entries = vec![entry];
    self::entries(&call.server, &call.resource, &mut entries, call.deadline).await?;
    entries
        .pop()
        .ok_or_else(|| ApiError::internal("a conversion lost its object"))
}

/// Entries as if they had been stored in this version.
///
/// # Errors
/// When the conversion webhook fails.
pub(crate) async fn entries(
    server: &Inner,
    resource: &Resource,
    entries: &mut [Entry],
    deadline: Instant,
) -> ApiResult<()> {
    let Some(conversion) = &resource.conversion else {
        return Ok(());
    };
    let target = resource.api_version();
    let foreign: Vec<&mut Entry> = entries
        .iter_mut()
        .filter(|entry| !stored_in(&entry.value, &target))
        .collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let objects: Vec<Value> = foreign
        .iter()
        .map(|entry| parse_trusted(&entry.value).map_err(ApiError::internal))
        .collect::<ApiResult<_>>()?;
    let converted = conversion
        .convert(&server.services, objects, &target, deadline)
        .await?;
    for (entry, mut object) in foreign.into_iter().zip(converted) {
        decode::shape(resource, &mut object);
        entry.value = canonical(&object);
    }
    Ok(())
}

/// The bytes to store for an object of the request's version.
///
/// # Errors
/// When the conversion webhook fails.
pub(crate) async fn to_storage(call: &Call, object: &Value) -> ApiResult<Bytes> {
    let resource = &call.resource;
    let target = &resource.storage.api_version;
    match &resource.conversion {
        Some(conversion) if resource.api_version() != *target => {
            let object = object.clone();
            let mut stored = one(&call.server, conversion, object, target, call.deadline).await?;
            resource.strategy.to_storage(&mut stored);
            Ok(canonical(&stored))
        }
        _ => Ok(served::to_storage(resource, object)),
    }
}

/// Stored bytes in the request's version.
///
/// # Errors
/// When the conversion webhook fails.
pub(crate) async fn from_storage(call: &Call, stored: &Bytes) -> ApiResult<Value> {
    let resource = &call.resource;
    let mut object = parse_trusted(stored).map_err(ApiError::internal)?;
    let target = resource.api_version();
    match &resource.conversion {
        Some(conversion) if !stored_in(stored, &target) => {
            object = one(&call.server, conversion, object, &target, call.deadline).await?;
        }
        _ => object["apiVersion"] = Value::String(target),
    }
    decode::shape(resource, &mut object);
    Ok(object)
}

async fn one(
    server: &Inner,
    conversion: &Conversion,
    object: Value,
    target: &str,
    deadline: Instant,
) -> ApiResult<Value> {
    let mut converted = conversion
        .convert(&server.services, vec![object], target, deadline)
        .await?;
    converted
        .pop()
        .ok_or_else(|| ApiError::internal("a conversion lost its object"))
}

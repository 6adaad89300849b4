//! DELETE on an object and on a collection.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::Response;
use rdd_admission::{Operation, Phase};
use rdd_store::{Entry, Expect};
use serde_json::{Value, json};

use crate::{
    encoding::{
        json,
        negotiate::{ContentType, content_type},
        protobuf::{Envelope, Message},
        yaml,
    },
    http::body::{self, Body},
    object::{self, is_deleting},
    options::{DeleteOptions, Propagation},
    status::{self, ApiError, ApiResult},
    verbs::{
        call::Call,
        convert, list, served,
        write::{mark_deleting, store_error},
    },
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

pub(crate) async fn delete(call: &mut Call, body: Body) -> ApiResult<Response<Body>> {
    let options = read_options(call, body).await?;
    let name = call.name().to_owned();
    match delete_one(call, &options, &name).await? {
        Deleted::Gone { object, uid } => {
            if call.resource.delete_returns_object {
                return call.answer_object(200, &object);
            }
            let status = status::deleted(&call.resource, &name, &uid);
            Ok(call.document(200, &status))
        }
        Deleted::Remains(object) => {
            let code = if options.orphan_dependents_false {
                202
            } else {
                200
            };
            call.answer_object(code, &object)
        }
    }
}

async fn read_options(call: &Call, body: Body) -> ApiResult<DeleteOptions> {
    let bytes = body::read(body).await?;
    let body = if bytes.is_empty() {
        None
    } else {
        let options = parse_options(call, &bytes)?;
        Some(if options.is_null() {
            json!({})
        } else {
            options
        })
    };
    DeleteOptions::parse(&call.query, body.as_ref())
}

fn parse_options(call: &Call, bytes: &Bytes) -> ApiResult<Value> {
    let bad = |text: String| ApiError::bad_request(text);
    match content_type(&call.headers) {
        ContentType::Json => json::parse_trusted(bytes).map_err(|error| {
            bad(format!(
                "couldn't get version/kind; json parse error: {error}"
            ))
        }),
        ContentType::Yaml => yaml::parse(bytes)
            .map(|parsed| parsed.value)
            .map_err(|error| bad(error.0)),
        ContentType::Protobuf => Envelope::read(bytes)
            .and_then(|envelope| delete_options().read(envelope.raw))
            .map(Value::Object)
            .map_err(|error| bad(error.to_string())),
        _ => Err(ApiError::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// `v1.DeleteOptions` in protobuf.
fn delete_options() -> &'static Message {
    static MESSAGE: OnceLock<Message> = OnceLock::new();
    MESSAGE.get_or_init(|| {
        Message::of(&json!({"properties": {
            "gracePeriodSeconds": {"type": "integer", "x-rdd-field": 1},
            "preconditions": {"type": "object", "x-rdd-field": 2, "properties": {
                "uid": {"type": "string", "x-rdd-field": 1},
                "resourceVersion": {"type": "string", "x-rdd-field": 2},
            }},
            "orphanDependents": {"type": "boolean", "x-rdd-field": 3},
            "propagationPolicy": {"type": "string", "x-rdd-field": 4},
            "dryRun": {"type": "array", "items": {"type": "string"}, "x-rdd-field": 5},
            "ignoreStoreReadErrorWithClusterBreakingPotential": {"type": "boolean", "x-rdd-field": 6},
        }}))
    })
}

enum Deleted {
    /// The object is no more; its revision is that of its end.
    Gone { object: Value, uid: String },
    /// Finalizers hold it.
    Remains(Value),
}

async fn delete_one(call: &mut Call, options: &DeleteOptions, name: &str) -> ApiResult<Deleted> {
    let resource = Arc::clone(&call.resource);
    let key = resource.key(call.namespace(), name);
    let mut current = call.server.store.get(&key).await.map_err(store_error)?;
    if let Some(text) = resource.strategy.refuses_delete(name) {
        return Err(ApiError::forbidden(&resource, name, &text));
    }
    loop {
        let entry = current.ok_or_else(|| ApiError::not_found(&resource, name))?;
        let seen = convert::entry(call, entry.clone()).await?;
        let old = served::value(&resource, &seen)?;
        check_preconditions(call, options, name, &old)?;
        let mut nothing = Value::Null;
        call.admit(
            Phase::Mutating,
            Operation::Delete,
            &mut nothing,
            Some(&old),
            &options.given,
        )
        .await?;
        call.admit(
            Phase::Validating,
            Operation::Delete,
            &mut nothing,
            Some(&old),
            &options.given,
        )
        .await?;
        let uid = object::meta(&old, "uid").to_owned();
        let mut new = old.clone();
        if !resource.strategy.ignores_policy(&new) {
            set_policy(&mut new, options.propagation);
        }
        let held = object::finalizers(&new).next().is_some() || resource.strategy.holds(&new);
        let lost = if held {
            if !is_deleting(&new) {
                mark_deleting(&mut new, call.now);
                resource
                    .strategy
                    .prepare_delete(&call.write_context(), &mut new);
            } else if let Some(metadata) = object::metadata_mut(&mut new) {
                // Definitions are marked without it, and get it when they are deleted again.
                metadata
                    .entry("deletionGracePeriodSeconds")
                    .or_insert_with(|| json!(0));
            }
            match put(call, options, &entry, &mut new).await? {
                None => return Ok(Deleted::Remains(new)),
                Some(lost) => lost,
            }
        } else if options.given.dry_run {
            return Ok(Deleted::Gone { object: old, uid });
        } else {
            match call.server.store.delete(&key, entry.revision).await {
                Ok(revision) => {
                    call.committed(name, None, revision);
                    let mut object = old;
                    object::set_revision(&mut object, revision);
                    return Ok(Deleted::Gone { object, uid });
                }
                Err(rdd_store::Error::Conflict { current }) => current,
                Err(error) => return Err(store_error(error)),
            }
        };
        call.check_deadline()?;
        current = lost;
    }
}

/// Stores a deleting object; answers what is there instead when the race was lost.
async fn put(
    call: &Call,
    options: &DeleteOptions,
    entry: &Entry,
    new: &mut Value,
) -> ApiResult<Option<Option<Entry>>> {
    let resource = &call.resource;
    let stored = convert::to_storage(call, new).await?;
    if stored == entry.value || options.given.dry_run {
        object::set_revision(new, entry.revision);
        return Ok(None);
    }
    let expect = Expect::At(entry.revision);
    match call
        .server
        .store
        .put(&entry.key, stored, expect, resource.storage.put_options())
        .await
    {
        Ok(revision) => {
            object::set_revision(new, revision);
            let name = object::meta(new, "name").to_owned();
            call.committed(&name, Some(new), revision);
            Ok(None)
        }
        Err(rdd_store::Error::Conflict { current }) => Ok(Some(current)),
        Err(error) => Err(store_error(error)),
    }
}

fn check_preconditions(
    call: &Call,
    options: &DeleteOptions,
    name: &str,
    old: &Value,
) -> ApiResult<()> {
    let resource = &call.resource;
    if let Some(uid) = &options.uid {
        let stored = object::meta(old, "uid");
        if uid != stored {
            let text = format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({stored}). \
                 The object might have been deleted and then recreated"
            );
            return Err(ApiError::precondition(resource, name, &text));
        }
    }
    if let Some(revision) = &options.resource_version {
        let stored = object::meta(old, "resourceVersion");
        if revision != stored {
            let text = format!(
                "the ResourceVersion in the precondition ({revision}) does not match the \
                 ResourceVersion in record ({stored}). The object might have been modified"
            );
            return Err(ApiError::precondition(resource, name, &text));
        }
    }
    Ok(())
}

/// The policy is a finalizer that the garbage collector takes away.
fn set_policy(object: &mut Value, policy: Option<Propagation>) {
    let Some(policy) = policy else { return };
    let wanted = match policy {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let mut finalizers: Vec<String> = object::finalizers(object)
        .filter(|name| Some(*name) == wanted || !matches!(*name, ORPHAN | FOREGROUND))
        .map(str::to_owned)
        .collect();
    if let Some(wanted) = wanted
        && !finalizers.iter().any(|name| name == wanted)
    {
        finalizers.push(wanted.to_owned());
    }
    if let Some(metadata) = object::metadata_mut(object) {
        if finalizers.is_empty() {
            metadata.remove("finalizers");
        } else {
            metadata.insert("finalizers".to_owned(), json!(finalizers));
        }
    }
}

pub(crate) async fn delete_collection(call: &mut Call, body: Body) -> ApiResult<Response<Body>> {
    let request = list::parse(call)?;
    let options = read_options(call, body).await?;
    let resource = Arc::clone(&call.resource);
    let listed = list::chosen(call, &request).await?;
    let mut items = Vec::new();
    for entry in &listed.entries {
        let object = served::value(&resource, entry)?;
        let name = object::meta(&object, "name").to_owned();
        let namespace = object::meta(&object, "namespace").to_owned();
        let outer = std::mem::replace(&mut call.info.namespace, namespace);
        let deleted = delete_one(call, &options, &name).await;
        call.info.namespace = outer;
        match deleted {
            Ok(_) => items.push(object),
            Err(error) if error.code() == 404 => {}
            Err(error) => return Err(error),
        }
    }
    list::answer_deleted(call, &listed, items)
}

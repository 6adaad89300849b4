//! The pipeline behind every write to one object.
//!
//! ```text
//! current ─▶ compute (PUT body, patch, apply) ─▶ managed fields ─▶ mutating admission
//!         ─▶ version check ─▶ prepare, validate ─▶ validating admission
//!         ─▶ gone? delete · same bytes? nothing · else compare-and-swap ──lost──▶ current …
//! ```
//!
//! The loop ends with success, with a refusal, or at the write's deadline. What
//! lost a race is computed again from the entry that won it, which the store hands
//! over with the conflict.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use rdd_admission::{Operation, Phase};
use rdd_store::{Entry, Expect, Key, Revision};
use serde_json::Value;

use crate::{
    auth,
    catalog::{Resource, Subresource},
    http::body::Body,
    object::{self, Time, canonical, is_deleting, metadata},
    options::WriteOptions,
    status::{ApiError, ApiResult},
    verbs::{call::Call, convert, managed, served},
};

/// How many generated names are tried.
const NAME_ATTEMPTS: usize = 8;

/// What a verb makes of the current object.
pub(crate) struct Computed {
    /// The new object in the request's version.
    pub(crate) object: Value,
    /// Managed fields are in it already (apply).
    pub(crate) tracked: bool,
}

/// A verb's part of the pipeline: pure, and run again after a lost race.
pub(crate) trait Compute: Send {
    /// The new object from the current one, which is absent for an upsert.
    fn compute(&mut self, call: &mut Call, current: Option<&Value>) -> ApiResult<Computed>;

    /// Whether a missing object is created.
    fn creates(&self, resource: &Resource) -> bool;

    /// The uid that the object must have, for verbs that take one as a precondition.
    fn expected_uid(&self) -> Option<&str> {
        None
    }
}

/// Runs a verb on the object of the URL.
pub(crate) async fn run(
    call: &mut Call,
    options: &WriteOptions,
    verb: &mut dyn Compute,
) -> ApiResult<Response<Body>> {
    let resource = Arc::clone(&call.resource);
    let key = resource.key(call.namespace(), call.name());
    let mut current = call.server.store.get(&key).await.map_err(store_error)?;
    loop {
        let round = match current {
            Some(entry) => change(call, options, verb, &key, entry).await?,
            None => {
                // A part never makes the whole, whatever the verb does to whole objects.
                if call.subresource.is_some() || !verb.creates(&resource) {
                    return Err(ApiError::not_found(&resource, call.name()));
                }
                if let Some(uid) = verb.expected_uid() {
                    let key = visible_key(call, options);
                    let error = ApiError::foreign_uid(&resource, &key, call.name(), uid, "");
                    return Err(error);
                }
                call.server.authorize_create(call).await?;
                let computed = unversioned(verb.compute(call, None)?)?;
                insert(call, options, &key, computed).await?
            }
        };
        match round {
            Round::Done(answer) => return Ok(answer),
            Round::Lost(winner) => {
                call.check_deadline()?;
                current = winner;
            }
        }
    }
}

/// An object that comes to be by a change has no revision, whatever the change says of it.
fn unversioned(mut computed: Computed) -> ApiResult<Computed> {
    let given = object::meta(&computed.object, "resourceVersion");
    object::parse_revision(given).map_err(bad_revision)?;
    if let Some(metadata) = object::metadata_mut(&mut computed.object) {
        metadata.remove("resourceVersion");
    }
    Ok(computed)
}

/// A verb on the object itself or on a part of it, which has options of its own.
pub(crate) struct Part {
    pub(crate) subresource: Option<Subresource>,
    pub(crate) options: WriteOptions,
    pub(crate) verb: Box<dyn Compute>,
}

/// Runs verbs one after the other, each on what the one before made of the object of the
/// URL and judged as if it had come alone, and writes what the last one made.
pub(crate) async fn run_parts(
    call: &mut Call,
    options: &WriteOptions,
    parts: &mut [Part],
) -> ApiResult<Response<Body>> {
    let resource = Arc::clone(&call.resource);
    let key = resource.key(call.namespace(), call.name());
    let mut current = call.server.store.get(&key).await.map_err(store_error)?;
    loop {
        let revision = current.as_ref().map(|entry| entry.revision);
        let mut object = match &current {
            Some(entry) => {
                let seen = convert::entry(call, entry.clone()).await?;
                Some(served::value(&resource, &seen)?)
            }
            None => None,
        };
        let mut renamed = None;
        for part in &mut *parts {
            call.subresource = part.subresource;
            let (options, verb) = (&part.options, &mut *part.verb);
            object = Some(match object {
                Some(old) => changed(call, options, verb, &old, revision).await?,
                None if call.subresource.is_some() || !verb.creates(&resource) => {
                    return Err(ApiError::not_found(&resource, call.name()));
                }
                None => {
                    call.server.authorize_create(call).await?;
                    let computed = unversioned(verb.compute(call, None)?)?;
                    let made = created(call, options, computed).await?;
                    renamed = made.renamed;
                    made.object
                }
            });
        }
        call.subresource = None;
        let object = object.ok_or_else(|| ApiError::not_found(&resource, call.name()))?;
        let round = match current {
            Some(entry) => replace(call, options, &key, entry, object).await?,
            None => {
                let created = Created {
                    object,
                    given: String::new(),
                    renamed,
                };
                add(call, options, &key, created).await?
            }
        };
        match round {
            Round::Done(answer) => return Ok(answer),
            Round::Lost(winner) => {
                call.check_deadline()?;
                current = winner;
            }
        }
    }
}

/// The key as kube-apiserver's messages show it: a dry run does not know its beginning.
fn visible_key(call: &Call, options: &WriteOptions) -> String {
    let root = if options.given.dry_run {
        ""
    } else {
        "/registry"
    };
    let plural = &call.resource.plural;
    let place = match call.namespace() {
        Some(namespace) => format!("{namespace}/{}", call.name()),
        None => call.name().to_owned(),
    };
    if call.resource.is_custom() {
        format!("{root}/{}/{plural}/{place}", call.resource.group)
    } else {
        format!("{root}/{plural}/{place}")
    }
}

pub(crate) enum Round {
    Done(Response<Body>),
    Lost(Option<Entry>),
}

/// One attempt to change an object that exists.
async fn change(
    call: &mut Call,
    options: &WriteOptions,
    verb: &mut dyn Compute,
    key: &Key,
    entry: Entry,
) -> ApiResult<Round> {
    let seen = convert::entry(call, entry.clone()).await?;
    let old = served::value(&call.resource, &seen)?;
    let new = changed(call, options, verb, &old, Some(entry.revision)).await?;
    replace(call, options, key, entry, new).await
}

/// What a verb makes of an object, once everybody has judged it. An object that is only
/// about to be made has no revision.
async fn changed(
    call: &mut Call,
    options: &WriteOptions,
    verb: &mut dyn Compute,
    old: &Value,
    revision: Option<Revision>,
) -> ApiResult<Value> {
    let resource = Arc::clone(&call.resource);
    let name = call.name().to_owned();
    let Computed {
        object: mut new,
        tracked,
    } = verb.compute(call, Some(old))?;
    if let Some(uid) = verb.expected_uid() {
        let stored = object::meta(old, "uid");
        if uid != stored {
            let key = visible_key(call, options);
            return Err(ApiError::foreign_uid(&resource, &key, &name, uid, stored));
        }
    }
    if !tracked {
        managed::track(call, options, Some(old), &mut new);
    }
    let operation = Operation::Update;
    call.admit(
        Phase::Mutating,
        operation,
        &mut new,
        Some(old),
        &options.given,
    )
    .await?;
    drop_duplicate_owners(call, &mut new);
    if let Some(revision) = revision {
        check_revision(&resource, &name, &new, revision)?;
    }
    metadata::restore(&mut new, old);
    auth::check_escalation(call, &new, Some(old)).await?;
    {
        let cx = call.write_context();
        resource.strategy.prepare_update(&cx, &mut new, old);
        let (errors, excused) = update_errors(&resource, &cx, &new, old);
        call.warn(excused);
        if !errors.is_empty() {
            let name = object::meta(&new, "name");
            return Err(ApiError::invalid(&resource, name, &errors));
        }
    }
    let warnings = write_warnings(call, &new, Some(old));
    call.warn(warnings);
    managed::drop_timestamp_changes(old, &mut new);
    // Who writes over whatever there is writes over this.
    if object::meta(&new, "resourceVersion").is_empty()
        && revision.is_some()
        && let Some(metadata) = object::metadata_mut(&mut new)
    {
        let revision = object::meta(old, "resourceVersion");
        metadata.insert("resourceVersion".to_owned(), revision.into());
    }
    call.admit(
        Phase::Validating,
        operation,
        &mut new,
        Some(old),
        &options.given,
    )
    .await?;
    Ok(new)
}

/// Puts an object in the place of the one that it was made from, if that still stands.
async fn replace(
    call: &mut Call,
    options: &WriteOptions,
    key: &Key,
    entry: Entry,
    new: Value,
) -> ApiResult<Round> {
    let resource = Arc::clone(&call.resource);
    let name = call.name().to_owned();
    let gone = is_deleting(&new)
        && object::finalizers(&new).next().is_none()
        && !resource.strategy.holds(&new);
    if gone {
        if !options.given.dry_run {
            match call.server.store.delete(key, entry.revision).await {
                Ok(revision) => call.committed(&name, None, revision),
                Err(rdd_store::Error::Conflict { current }) => return Ok(Round::Lost(current)),
                Err(error) => return Err(store_error(error)),
            }
        }
        return call
            .answer_stored(200, &canonical(&new), Some(entry.revision))
            .map(Round::Done);
    }
    let stored = convert::to_storage(call, &new).await?;
    if stored == entry.value || options.given.dry_run {
        return call
            .answer_stored(
                200,
                &served_bytes(call, &new, &stored).await?,
                Some(entry.revision),
            )
            .map(Round::Done);
    }
    let expect = Expect::At(entry.revision);
    let put = resource.storage.put_options();
    match call
        .server
        .store
        .put(key, stored.clone(), expect, put)
        .await
    {
        Ok(revision) => {
            call.committed(&name, Some(&new), revision);
            call.answer_stored(
                200,
                &served_bytes(call, &new, &stored).await?,
                Some(revision),
            )
            .map(Round::Done)
        }
        Err(rdd_store::Error::Conflict { current }) => Ok(Round::Lost(current)),
        Err(error) => Err(store_error(error)),
    }
}

/// The stored bytes again where they are what is served. What was stored in another
/// version of a custom resource comes back as that version left it.
async fn served_bytes(call: &Call, object: &Value, stored: &Bytes) -> ApiResult<Bytes> {
    let resource = &call.resource;
    if object::stored_in(stored, &resource.api_version()) && resource.strategy.serves_stored_form()
    {
        return Ok(stored.clone());
    }
    if resource.is_custom() {
        return Ok(canonical(&convert::from_storage(call, stored).await?));
    }
    Ok(canonical(object))
}

/// The resourceVersion of the new object must be the current one, or absent where that is allowed.
fn check_revision(resource: &Resource, name: &str, new: &Value, stored: Revision) -> ApiResult<()> {
    let text = object::meta(new, "resourceVersion");
    match object::parse_revision(text) {
        Ok(None) if resource.unconditional_update => Ok(()),
        Ok(None) => Err(ApiError::version_required(resource, name)),
        Ok(Some(revision)) if revision == stored => Ok(()),
        Ok(Some(_)) => Err(ApiError::modified(resource, name)),
        Err(parse) => Err(bad_revision(parse)),
    }
}

/// kube-apiserver's 500 for a resourceVersion that is no number.
fn bad_revision(parse: String) -> ApiError {
    ApiError::bare(parse)
}

fn update_errors(
    resource: &Resource,
    cx: &crate::catalog::WriteContext<'_>,
    new: &Value,
    old: &Value,
) -> (Vec<rdd_schema::FieldError>, Vec<String>) {
    let empty = Value::Null;
    let (new_metadata, old_metadata) = (
        new.get("metadata").unwrap_or(&empty),
        old.get("metadata").unwrap_or(&empty),
    );
    let general = metadata::validate(resource, new_metadata);
    let mut immutable = metadata::validate_update(new_metadata, old_metadata);
    immutable.extend(metadata::validate_again(new_metadata));
    let (generally, against_old) = metadata::checks_of_update(resource);
    let mut errors = general.clone();
    for _ in 0..against_old {
        errors.extend(immutable.iter().cloned());
    }
    for _ in 1..generally {
        errors.extend(general.iter().cloned());
    }
    let (own, excused) = resource.strategy.judge_update(cx, new, old);
    errors.extend(own);
    (errors, excused)
}

/// What patches or webhooks made twice is dropped here, what a body held before.
fn drop_duplicate_owners(call: &mut Call, new: &mut Value) {
    let after = " after mutating admission happens";
    let warning = metadata::drop_duplicate_owners(new, after);
    call.warn(warning);
}

fn write_warnings(call: &Call, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if call.resource.is_custom()
        && let Some(metadata) = new.get("metadata")
    {
        warnings.extend(metadata::finalizer_warnings(metadata, old));
    }
    warnings.extend(
        call.resource
            .strategy
            .warnings(&call.write_context(), new, old),
    );
    warnings
}

/// Creates the object of a POST, whose name may have to be generated.
pub(crate) async fn create(
    call: &mut Call,
    options: &WriteOptions,
    mut new: Value,
) -> ApiResult<Response<Body>> {
    wipe(&mut new);
    let resource = Arc::clone(&call.resource);
    let generate = object::meta(&new, "generateName").to_owned();
    let named = !object::meta(&new, "name").is_empty();
    let attempts = if named || generate.is_empty() {
        1
    } else {
        NAME_ATTEMPTS
    };
    call.name_generated = attempts > 1;
    for attempt in 1..=attempts {
        let mut object = if attempt == attempts {
            std::mem::take(&mut new)
        } else {
            new.clone()
        };
        let name = if attempts > 1 {
            let name = metadata::generate_name(&generate);
            if let Some(metadata) = object::metadata_mut(&mut object) {
                metadata.insert("name".to_owned(), Value::String(name.clone()));
            }
            name
        } else {
            object::meta(&object, "name").to_owned()
        };
        let key = resource.key(call.namespace(), &name);
        let computed = Computed {
            object,
            tracked: false,
        };
        match insert(call, options, &key, computed).await? {
            Round::Done(answer) => {
                if let Some(notes) = &call.notes {
                    notes.name(&name);
                }
                return Ok(answer);
            }
            Round::Lost(Some(entry)) if attempt == attempts => {
                if attempts > 1 {
                    return Err(ApiError::no_free_name(&resource, &name));
                }
                let deleting = object::parse_entry(&entry).is_ok_and(|old| is_deleting(&old));
                return Err(if deleting {
                    ApiError::being_deleted(&resource, &name)
                } else {
                    ApiError::already_exists(&resource, &name)
                });
            }
            Round::Lost(_) => call.check_deadline()?,
        }
    }
    Err(ApiError::internal("no name could be generated"))
}

/// What a client may not say about a new object.
pub(crate) fn wipe(object: &mut Value) {
    if let Some(metadata) = object::metadata_mut(object) {
        for key in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
        ] {
            metadata.remove(key);
        }
    }
}

/// One attempt to put a new object where there is none.
async fn insert(
    call: &mut Call,
    options: &WriteOptions,
    key: &Key,
    computed: Computed,
) -> ApiResult<Round> {
    let created = created(call, options, computed).await?;
    add(call, options, key, created).await
}

/// An object that is ready to be put where there is none.
struct Created {
    object: Value,
    /// The revision that it came with.
    given: String,
    /// Where it belongs, if admission chose another name than was asked for.
    renamed: Option<Key>,
}

/// A new object, once everybody has judged it.
async fn created(
    call: &mut Call,
    options: &WriteOptions,
    computed: Computed,
) -> ApiResult<Created> {
    let resource = Arc::clone(&call.resource);
    let Computed {
        object: mut new,
        tracked,
    } = computed;
    if let crate::catalog::Origin::Custom(custom) = &resource.origin
        && custom.terminating.get()
    {
        let text = "create not allowed while custom resource definition is terminating";
        return Err(ApiError::forbidden(
            &resource,
            object::meta(&new, "name"),
            text,
        ));
    }
    if !tracked {
        managed::track(call, options, None, &mut new);
    }
    let operation = Operation::Create;
    call.server.check_namespace(call, &new).await?;
    let asked = object::meta(&new, "name").to_owned();
    call.admit(Phase::Mutating, operation, &mut new, None, &options.given)
        .await?;
    // Admission may have chosen another name.
    let renamed = Some(object::meta(&new, "name"))
        .filter(|name| *name != asked)
        .map(|name| resource.key(call.namespace(), name));
    drop_duplicate_owners(call, &mut new);
    auth::check_escalation(call, &new, None).await?;
    let given = object::meta(&new, "resourceVersion").to_owned();
    if let Some(metadata) = object::metadata_mut(&mut new) {
        metadata.remove("resourceVersion");
        metadata.insert(
            "uid".to_owned(),
            Value::String(uuid::Uuid::new_v4().to_string()),
        );
        metadata.insert(
            "creationTimestamp".to_owned(),
            Value::String(call.now.to_string()),
        );
        if resource.has_generation {
            metadata.insert("generation".to_owned(), Value::from(1));
        }
    }
    let name = object::meta(&new, "name").to_owned();
    {
        let cx = call.write_context();
        resource.strategy.prepare_create(&cx, &mut new);
        let empty = Value::Null;
        let mut errors = metadata::validate(&resource, new.get("metadata").unwrap_or(&empty));
        errors.extend(resource.strategy.validate_create(&cx, &new));
        if !errors.is_empty() {
            return Err(ApiError::invalid(&resource, &name, &errors));
        }
    }
    resource.strategy.canonicalize(&mut new);
    let warnings = write_warnings(call, &new, None);
    call.warn(warnings);
    call.admit(Phase::Validating, operation, &mut new, None, &options.given)
        .await?;
    Ok(Created {
        object: new,
        given,
        renamed,
    })
}

/// Puts a new object where there is none.
async fn add(
    call: &mut Call,
    options: &WriteOptions,
    key: &Key,
    created: Created,
) -> ApiResult<Round> {
    let Created {
        object: new,
        given,
        renamed,
    } = created;
    let key = renamed.as_ref().unwrap_or(key);
    let resource = Arc::clone(&call.resource);
    let name = object::meta(&new, "name").to_owned();
    let stored = convert::to_storage(call, &new).await?;
    if options.given.dry_run {
        if let Some(entry) = call.server.store.get(key).await.map_err(store_error)? {
            return lost(&resource, &name, renamed.is_some(), Some(entry));
        }
        return call
            .answer_stored(201, &served_bytes(call, &new, &stored).await?, None)
            .map(Round::Done);
    }
    // It is the storage that refuses one, so a dry run does not. One that is no number is none.
    if let Ok(Some(_)) = object::parse_revision(&given) {
        return Err(ApiError::bare(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let put = resource.storage.put_options();
    match call
        .server
        .store
        .put(key, stored.clone(), Expect::Absent, put)
        .await
    {
        Ok(revision) => {
            call.committed(&name, Some(&new), revision);
            if let Some(settled) = resource.strategy.settled(&name) {
                settled.await;
            }
            call.answer_stored(
                201,
                &served_bytes(call, &new, &stored).await?,
                Some(revision),
            )
            .map(Round::Done)
        }
        Err(rdd_store::Error::Conflict { current }) => {
            lost(&resource, &name, renamed.is_some(), current)
        }
        Err(error) => Err(store_error(error)),
    }
}

/// Marks an object as being deleted at this moment; bumps the generation where there is one.
pub(crate) fn mark_deleting(object: &mut Value, now: Time) {
    if let Some(metadata) = object::metadata_mut(object) {
        metadata.insert(
            "deletionTimestamp".to_owned(),
            Value::String(now.to_string()),
        );
        metadata.insert("deletionGracePeriodSeconds".to_owned(), Value::from(0));
        let generation = metadata
            .get("generation")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        if generation > 0 {
            metadata.insert("generation".to_owned(), Value::from(generation + 1));
        }
    }
}

/// What the client learns when the store does not do it.
pub(crate) fn store_error(error: rdd_store::Error) -> ApiError {
    use rdd_store::Error;
    match error {
        Error::TooLarge { .. } => ApiError::bare("etcdserver: request is too large"),
        Error::Full(_) | Error::ReadOnly(_) | Error::InUse(_) | Error::Closed => {
            ApiError::unavailable(format!("the store cannot take writes now: {error}"))
        }
        Error::Future { current } => ApiError::revision_too_large(u64::MAX, current.0),
        Error::Compacted { .. } => {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        }
        other => {
            tracing::error!(error = %other, "the store failed");
            ApiError::internal(other)
        }
    }
}

/// There is something at the place of a new object. Whoever asked for another name has
/// nothing to try again.
fn lost(resource: &Resource, name: &str, renamed: bool, there: Option<Entry>) -> ApiResult<Round> {
    if renamed {
        return Err(ApiError::already_exists(resource, name));
    }
    Ok(Round::Lost(there))
}

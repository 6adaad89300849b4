//! GET on a collection.

use bytes::{BufMut, Bytes, BytesMut};
use http::Response;
use rdd_schema::FieldError;
use rdd_store::{Entry, Key, Page, ReadAt, Revision};
use serde_json::{Value, json};

use crate::{
    catalog::Resource,
    encoding::{
        negotiate::{Format, View},
        table,
    },
    http::{body::Body, response},
    object::{parse_uint, quote},
    options,
    selector::Selector,
    status::{ApiError, ApiResult},
    verbs::{
        call::Call,
        continuation::{decode_token, encode_token},
        convert,
        get::wait_for,
        list_pieces::{self, Form, ListPieces},
        served,
        write::store_error,
    },
    watch_cache::labels_of,
};

/// Entries that a selector looks at in one step while it fills a page.
const SCAN_STEP: usize = 1_000;

/// What a list asks for, checked.
pub(crate) struct Request {
    selector: Selector,
    limit: Option<usize>,
    at: ReadAt,
    /// Revision that the state must have reached.
    not_older_than: Option<u64>,
    /// Where an earlier page ended.
    after: Option<Key>,
    /// The token's revision, for the 410 that offers a way on.
    resumed: bool,
}

pub(crate) async fn list(call: &Call) -> ApiResult<Response<Body>> {
    options::timeout(
        &call.query,
        call.deadline
            .saturating_duration_since(tokio::time::Instant::now()),
    )?;
    let request = parse(call)?;
    let listed = chosen(call, &request).await?;
    answer(call, listed)
}

/// The entries that a request asks for.
pub(crate) async fn chosen(call: &Call, request: &Request) -> ApiResult<Listed> {
    if let Some(revision) = request.not_older_than {
        wait_for(call, revision).await?;
    }
    read(call, request).await
}

/// Reads and checks the options of a list.
pub(crate) fn parse(call: &Call) -> ApiResult<Request> {
    let query = &call.query;
    if let Some(text) = query.get("timeoutSeconds") {
        options::parse_int(text)?;
    }
    let limit = match query.get("limit") {
        Some(text) => usize::try_from(options::parse_int(text)?)
            .ok()
            .filter(|limit| *limit > 0),
        None => None,
    };
    let selector = Selector::parse(
        &call.resource,
        query.get("labelSelector"),
        query.get("fieldSelector"),
    )?;
    let token = query.get("continue").unwrap_or_default();
    let version = query.get("resourceVersion").unwrap_or_default();
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    check_options(
        query.get("sendInitialEvents").is_some(),
        token,
        version,
        matching,
    )?;
    let mut request = Request {
        selector,
        limit,
        at: ReadAt::Latest,
        not_older_than: None,
        after: None,
        resumed: false,
    };
    if !token.is_empty() {
        if !matches!(version, "" | "0") {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let (revision, start) = decode_token(token)?;
        request.after = Some(Key::new(format!(
            "{}{start}",
            call.resource.storage.prefix()
        )));
        if let Some(revision) = revision {
            request.at = ReadAt::Exact(revision);
        }
        request.resumed = true;
        return Ok(request);
    }
    let revision = if version.is_empty() {
        0
    } else {
        parse_uint(version).map_err(|error| {
            ApiError::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {}: {error}",
                quote(version)
            ))
        })?
    };
    if version == "0" || request.selector.fixed_name().is_some() {
        // What is read from the cache, or by its name, comes whole.
        request.limit = None;
    }
    if revision > 0 {
        request.not_older_than = Some(revision);
        let exact = matching == "Exact" || (matching.is_empty() && limit.is_some());
        if exact {
            request.at = ReadAt::Exact(Revision(revision));
        }
    }
    Ok(request)
}

fn check_options(initial: bool, token: &str, version: &str, matching: &str) -> ApiResult<()> {
    let mut errors = Vec::new();
    let field = "resourceVersionMatch";
    if !matching.is_empty() {
        if version.is_empty() {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !token.is_empty() {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(
                field,
                matching,
                &["Exact", "NotOlderThan", ""],
            ));
        }
        if matching == "Exact" && version == "0" {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    if initial {
        errors.push(FieldError::forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid_kind(
        "ListOptions",
        "meta.k8s.io",
        "",
        &errors,
    ))
}

// === reading ===

/// What was found.
pub(crate) struct Listed {
    pub(crate) entries: Vec<Entry>,
    revision: Revision,
    /// The place of the last entry looked at, when there is more.
    more: Option<String>,
    remaining: Option<u64>,
}

async fn read(call: &Call, request: &Request) -> ApiResult<Listed> {
    let resource = &call.resource;
    let prefix_length = resource.storage.prefix().len();
    let place = |key: &Key| {
        key.as_str()
            .get(prefix_length..)
            .unwrap_or_default()
            .to_owned()
    };
    let mut range = resource.range(call.namespace());
    if let Some(after) = &request.after {
        range = range.after(after.clone());
    }
    let mut at = request.at;
    if request.selector.is_everything() {
        let page = page(call, request, &range, at, request.limit).await?;
        let more = (page.remaining > 0).then(|| page.entries.last().map(|last| place(&last.key)));
        return Ok(Listed {
            revision: page.revision,
            more: more.flatten(),
            remaining: (page.remaining > 0).then_some(page.remaining),
            entries: page.entries,
        });
    }
    // With a selector: scan until the page is full or the end is reached.
    let step = request.limit.map(|_| SCAN_STEP);
    let mut entries = Vec::new();
    loop {
        let page = page(call, request, &range, at, step).await?;
        at = ReadAt::Exact(page.revision);
        let last = page.entries.last().map(|last| last.key.clone());
        for entry in page.entries {
            let here = place(&entry.key);
            if !selects(resource, &request.selector, &here, &entry)? {
                continue;
            }
            entries.push(entry);
            if request.limit == Some(entries.len()) {
                let more =
                    page.remaining > 0 || last.as_ref().is_some_and(|last| place(last) != here);
                return Ok(Listed {
                    entries,
                    revision: page.revision,
                    more: more.then_some(here),
                    remaining: None,
                });
            }
        }
        match last {
            Some(last) if page.remaining > 0 => {
                range = resource.range(call.namespace()).after(last);
            }
            _ => {
                return Ok(Listed {
                    entries,
                    revision: page.revision,
                    more: None,
                    remaining: None,
                });
            }
        }
    }
}

async fn page(
    call: &Call,
    request: &Request,
    range: &rdd_store::KeyRange,
    at: ReadAt,
    limit: Option<usize>,
) -> ApiResult<Page> {
    match call.server.store.list(range, at, limit).await {
        Ok(mut page) => {
            let (server, resource) = (&call.server, &call.resource);
            convert::entries(server, resource, &mut page.entries, call.deadline).await?;
            Ok(page)
        }
        Err(rdd_store::Error::Compacted { .. }) if request.resumed => {
            let after = request.after.as_ref().map(Key::as_str).unwrap_or_default();
            let last = after
                .get(call.resource.storage.prefix().len()..)
                .unwrap_or_default();
            Err(ApiError::continue_expired(encode_token(None, last)))
        }
        Err(rdd_store::Error::Future { current }) => {
            let ReadAt::Exact(asked) = at else {
                return Err(ApiError::internal("the newest state is in the future"));
            };
            Err(ApiError::revision_too_large(asked.0, current.0))
        }
        Err(error) => Err(store_error(error)),
    }
}

/// Whether a selector takes an entry; parses no more of it than it must.
pub(crate) fn selects(
    resource: &Resource,
    selector: &Selector,
    place: &str,
    entry: &Entry,
) -> ApiResult<bool> {
    if !selector.accepts_place(place) {
        return Ok(false);
    }
    if selector.reads_labels() {
        let labels = labels_of(Some(entry));
        if !selector.accepts_labels(|key| labels.get(key).map(String::as_str)) {
            return Ok(false);
        }
    }
    if selector.reads_fields() {
        return Ok(selector.accepts_fields(resource, &served::value(resource, entry)?));
    }
    Ok(true)
}

// === answering ===

fn list_metadata(resource: &Resource, view: View, listed: &Listed) -> Value {
    let mut metadata = json!({"resourceVersion": listed.revision.to_string()});
    if resource.is_custom() && view == View::Object {
        metadata["continue"] = json!("");
    }
    if let Some(last) = &listed.more {
        metadata["continue"] = json!(encode_token(Some(listed.revision), last));
        if let Some(remaining) = listed.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    metadata
}

fn answer(call: &Call, listed: Listed) -> ApiResult<Response<Body>> {
    let resource = &call.resource;
    let metadata = list_metadata(resource, call.accepted.view, &listed);
    let values = || -> ApiResult<Vec<Value>> {
        listed
            .entries
            .iter()
            .map(|entry| served::value(resource, entry))
            .collect()
    };
    if call.accepted.view == View::Object && call.accepted.format == Format::Json {
        return spliced(call, &metadata, listed);
    }
    answer_values(call, metadata, values()?)
}

/// A list of parsed objects, in the representation that the client takes.
fn answer_values(call: &Call, metadata: Value, mut items: Vec<Value>) -> ApiResult<Response<Body>> {
    let resource = &call.resource;
    match call.accepted.view {
        View::Object => {
            if !resource.is_custom() {
                items.iter_mut().for_each(drop_type);
            }
            Ok(call.document(200, &typed_list(resource, metadata, items)))
        }
        View::PartialList(version) => {
            let items: Vec<Value> = items
                .iter()
                .map(|object| table::partial(object, version))
                .collect();
            let items = if items.is_empty() {
                Value::Null
            } else {
                Value::Array(items)
            };
            let list = json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": version.api_version(),
                "metadata": metadata,
                "items": items,
            });
            Ok(call.document(200, &list))
        }
        View::Partial(_) => {
            let list_type = if resource.is_custom() {
                "*unstructured.UnstructuredList".to_owned()
            } else {
                format!("*{}.{}", resource.family(), resource.list_kind)
            };
            Err(ApiError::not_acceptable(format!(
                "you requested PartialObjectMetadata, but the requested object is a list \
                 ({list_type})"
            )))
        }
        View::Table(version) => {
            let include = table::include_object(&call.query)?;
            let table = table::table(resource, version, include, metadata, &items, call.now);
            Ok(call.document(200, &table))
        }
    }
}

/// The head of a list: all before its first item.
fn head(resource: &Resource, metadata: &Value) -> Bytes {
    let head = json!({"kind": resource.list_kind, "apiVersion": resource.api_version()});
    let head = head.to_string();
    let head = head.trim_end_matches('}');
    format!("{head},\"metadata\":{metadata},\"items\":[").into()
}

/// A JSON list whose items are copied from stored bytes wherever those are what is served.
fn spliced(call: &Call, metadata: &Value, listed: Listed) -> ApiResult<Response<Body>> {
    let resource = &call.resource;
    let head = head(resource, metadata);
    let form = if resource.is_custom() {
        Form::Whole
    } else {
        Form::Item
    };
    let direct = |entry: &Entry| served::is_direct(resource, entry);
    let size: usize = listed.entries.iter().map(|entry| entry.value.len()).sum();
    if size > response::COMPRESS_FROM && !call.accepted.pretty && listed.entries.iter().all(direct)
    {
        return Ok(response::streamed(
            "application/json",
            &call.headers,
            ListPieces::new(head, listed.entries, form),
        ));
    }
    let mut out = BytesMut::with_capacity(size + listed.entries.len() * 64 + 512);
    out.put_slice(&head);
    for (index, entry) in listed.entries.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        form.splice(&served::bytes(resource, entry)?, entry.revision, &mut out);
    }
    out.put_slice(list_pieces::TAIL);
    Ok(call.json(200, out.freeze()))
}

fn drop_type(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        object.remove("kind");
        object.remove("apiVersion");
    }
}

fn typed_list(resource: &Resource, metadata: Value, items: Vec<Value>) -> Value {
    json!({
        "kind": resource.list_kind,
        "apiVersion": resource.api_version(),
        "metadata": metadata,
        "items": items,
    })
}

/// The answer of deletecollection: the objects as they were.
pub(crate) fn answer_deleted(
    call: &Call,
    listed: &Listed,
    items: Vec<Value>,
) -> ApiResult<Response<Body>> {
    let metadata = list_metadata(&call.resource, call.accepted.view, listed);
    answer_values(call, metadata, items)
}

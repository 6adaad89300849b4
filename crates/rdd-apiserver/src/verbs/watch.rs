//! GET on a collection with `watch=true`.
//!
//! ```text
//! Start: initial events? ─▶ bookmark "initial-events-end"? ─▶ live: changes, bookmarks ─▶ end
//! ```
//!
//! Guarantees: events come in the order of their revisions, none twice, none left
//! out; a bookmark's revision is safe to resume from. A normal end (timeout, the
//! server stops, the resource is retired) is the plain end of the stream; only a
//! position that is no longer known ends in an ERROR event.
//!
//! The stream is driven by its connection: a client that does not read costs its
//! place in the ring and nothing else.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rand::RngExt as _;
use rdd_schema::FieldError;
use rdd_store::{Entry, ReadAt, Revision};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    api_server::Inner,
    catalog::Resource,
    encoding::{
        negotiate::{Format, View},
        protobuf::answer,
        table::{self, IncludeObject},
    },
    http::{
        body::{Body, BoxError},
        request_info::is_true,
        response,
    },
    object::{self, parse_uint, quote, to_json},
    options,
    selector::Selector,
    status::{ApiError, ApiResult},
    verbs::{call::Call, convert, list, served, write::store_error},
    watch_cache::{Ended, EventType, Subscription, WatchChange},
};

/// How often an idle watcher that asked for it learns the current revision.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// How long before the end of a watch its last bookmark comes.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// How long the conversion of one event may take.
const CONVERSION_TIMEOUT: Duration = Duration::from_secs(30);

/// The shortest default life of a watch, in seconds; the longest is twice that.
const LIFE_MIN: u64 = 1_800;

/// What a watch asks for, checked.
struct Request {
    selector: Selector,
    revision: Option<u64>,
    initial: bool,
    bookmarks: bool,
    initial_bookmark: bool,
    life: Duration,
}

pub(crate) async fn watch(call: &Call) -> ApiResult<Response<Body>> {
    let request = parse(call)?;
    let include = match call.accepted.view {
        View::Table(_) => table::include_object(&call.query)?,
        _ => IncludeObject::Metadata,
    };
    let shape = Shape {
        resource: Arc::clone(&call.resource),
        selector: request.selector.clone(),
        view: call.accepted.view,
        format: call.accepted.format,
        include,
        titled: false,
    };
    let content_type = match shape.format {
        Format::Protobuf => answer::STREAM,
        _ => "application/json",
    };
    let refusal = shape.form();
    let opened = open(call, &request, shape).await;
    let mut answer = match opened {
        Ok(stream) => {
            let body = StreamBody::new(stream::unfold(stream, step));
            Response::new(body.boxed_unsync())
        }
        Err(error) => {
            // What went wrong with the position is told inside the stream.
            response::bytes(200, content_type, refusal.error(&error))
        }
    };
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(answer)
}

fn parse(call: &Call) -> ApiResult<Request> {
    let query = &call.query;
    let mut selector = Selector::parse(
        &call.resource,
        query.get("labelSelector"),
        query.get("fieldSelector"),
    )?;
    if !call.name().is_empty() {
        if selector
            .fixed_name()
            .is_some_and(|fixed| fixed != call.name())
        {
            return Err(ApiError::bad_request(
                "fieldSelector metadata.name doesn't match requested name",
            ));
        }
        selector.fix_name(call.name());
    }
    if let Some(text) = query.get("limit") {
        options::parse_int(text)?;
    }
    let seconds = match query.get("timeoutSeconds") {
        Some(text) => options::parse_int(text)?,
        None => 0,
    };
    let version = query.get("resourceVersion").unwrap_or_default();
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    let initial = query.get("sendInitialEvents").map(is_true);
    let token = query.get("continue").unwrap_or_default();
    check_options(initial, matching, token)?;
    if initial.is_none() && matches!(version, "" | "0") {
        // Such a watch is one with initial events.
        check_options(Some(true), "NotOlderThan", token)?;
    }
    let revision = if version.is_empty() {
        None
    } else {
        let revision = parse_uint(version).map_err(|error| {
            ApiError::bare(format!(
                "resourceVersion: Invalid value: {}: {error}",
                quote(version)
            ))
        })?;
        Some(revision)
    };
    let from_now_on = matches!(revision, None | Some(0));
    let bookmarks = query.flag("allowWatchBookmarks");
    let life = match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
        Err(_) => Duration::ZERO,
        Ok(_) => Duration::from_secs(rand::rng().random_range(LIFE_MIN..LIFE_MIN * 2)),
    };
    Ok(Request {
        selector,
        revision,
        initial: initial.unwrap_or(from_now_on),
        bookmarks,
        initial_bookmark: bookmarks && initial.unwrap_or(from_now_on),
        life,
    })
}

fn check_options(initial: Option<bool>, matching: &str, token: &str) -> ApiResult<()> {
    let field = "resourceVersionMatch";
    let mut errors = Vec::new();
    if !matching.is_empty() && !token.is_empty() {
        errors.push(FieldError::forbidden(
            field,
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    match (initial, matching) {
        (None, "") => {}
        (None, other) => {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
            if other != "NotOlderThan" {
                errors.push(FieldError::not_supported(field, other, &["NotOlderThan"]));
            }
        }
        (Some(_), "NotOlderThan") => {}
        (Some(_), "") => errors.push(FieldError::forbidden(
            field,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        (Some(_), other) => {
            errors.push(FieldError::forbidden(
                field,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
            errors.push(FieldError::not_supported(field, other, &["NotOlderThan"]));
        }
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

/// Takes up the position and queues what comes before live events.
async fn open(call: &Call, request: &Request, shape: Shape) -> ApiResult<Stream> {
    let server = &call.server;
    let resource = &call.resource;
    let mut queue = VecDeque::new();
    let prefix = resource.storage.prefix();
    let after = if request.initial {
        if let Some(revision) = request.revision {
            super::get::wait_for(call, revision).await?;
        }
        let range = resource.range(call.namespace());
        let mut page = server
            .store
            .list(&range, ReadAt::Latest, None)
            .await
            .map_err(store_error)?;
        convert::entries(server, resource, &mut page.entries, call.deadline).await?;
        for entry in &page.entries {
            let place = entry.key.as_str().get(prefix.len()..).unwrap_or_default();
            if list::selects(resource, &request.selector, place, entry)? {
                queue.push_back(Pending::Initial(entry.clone()));
            }
        }
        server
            .cache
            .reached(page.revision)
            .await
            .map_err(|_| ApiError::deadline())?;
        if request.initial_bookmark {
            queue.push_back(Pending::InitialEnd(page.revision));
        }
        page.revision
    } else {
        match request.revision {
            None | Some(0) => {
                let now = server.store.revision();
                server
                    .cache
                    .reached(now)
                    .await
                    .map_err(|_| ApiError::deadline())?;
                now
            }
            Some(revision) => Revision(revision),
        }
    };
    let oldest = resource.schema_revision();
    let subscription = server.cache.subscribe(&prefix, after);
    let subscription = match subscription {
        Ok(_) if after < oldest && request.revision.is_some() && !request.initial => {
            return Err(too_old(after, oldest));
        }
        Ok(subscription) => subscription,
        Err(Ended::Behind { floor }) => return Err(too_old(after, floor)),
        Err(Ended::Closed) => return Err(ApiError::deadline()),
    };
    let now = Instant::now();
    let end = now + request.life;
    let first_bookmark = end
        .checked_sub(BOOKMARK_BEFORE_END)
        .filter(|time| *time > now)
        .map_or(end, |time| time.min(now + BOOKMARK_EVERY));
    let namespace = call.namespace().filter(|_| resource.is_namespaced());
    Ok(Stream {
        subscription,
        namespace: namespace.map(|namespace| format!("{namespace}/")),
        shape,
        queue,
        end,
        bookmark_at: request.bookmarks.then_some(first_bookmark),
        server: Arc::clone(server),
        ended: false,
    })
}

fn too_old(asked: Revision, floor: Revision) -> ApiError {
    ApiError::expired(format!("too old resource version: {asked} ({floor})"))
}

/// A running watch.
struct Stream {
    subscription: Subscription,
    /// `namespace/`, when only one is watched.
    namespace: Option<String>,
    shape: Shape,
    queue: VecDeque<Pending>,
    end: Instant,
    bookmark_at: Option<Instant>,
    server: Arc<Inner>,
    ended: bool,
}

type Item = Result<Frame<Bytes>, BoxError>;

/// What is still to be sent. Initial events are shared entries until their turn comes,
/// so that a thousand watchers that start at once do not copy the collection.
enum Pending {
    Line(Bytes),
    Initial(Entry),
    InitialEnd(Revision),
}

/// What happened to a waiting watch.
enum Input {
    Changes(Result<Vec<Arc<WatchChange>>, Ended>),
    BookmarkDue,
    End,
}

/// Yields the next frame.
async fn step(mut watch: Stream) -> Option<(Item, Stream)> {
    loop {
        if let Some(pending) = watch.queue.pop_front() {
            if matches!(watch.shape.view, View::PartialList(_)) {
                // An object is no list and cannot be shown as one: the stream breaks off.
                return None;
            }
            let line = watch.render(pending);
            return Some((Ok(Frame::data(line)), watch));
        }
        if watch.ended {
            return None;
        }
        let input = watch.wait().await;
        watch.handle(input).await;
    }
}

impl Stream {
    fn render(&mut self, pending: Pending) -> Bytes {
        match pending {
            Pending::Line(line) => line,
            Pending::InitialEnd(revision) => self.shape.bookmark(revision, true),
            Pending::Initial(entry) => self
                .shape
                .line(EventType::Added, &entry, entry.revision)
                .unwrap_or_else(|error| {
                    self.queue.clear();
                    self.ended = true;
                    self.shape.form().error(&error)
                }),
        }
    }

    async fn wait(&mut self) -> Input {
        let bookmark_at = self.bookmark_at.unwrap_or(self.end);
        let retired = self.shape.resource.retired.clone();
        tokio::select! {
            biased;
            () = self.server.stopping.cancelled() => Input::End,
            () = retired.cancelled() => Input::End,
            () = tokio::time::sleep_until(self.end) => Input::End,
            () = tokio::time::sleep_until(bookmark_at), if bookmark_at < self.end => Input::BookmarkDue,
            changes = self.subscription.next() => Input::Changes(changes),
        }
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::End => self.ended = true,
            Input::Changes(Ok(changes)) => self.deliver(&changes).await,
            Input::Changes(Err(Ended::Behind { .. })) => {
                // Too slow: the client resumes from its own revision, or lists again.
                self.ended = true;
            }
            Input::Changes(Err(Ended::Closed)) => self.ended = true,
            Input::BookmarkDue => match self.subscription.bookmark() {
                Ok((revision, changes)) => {
                    self.deliver(&changes).await;
                    let line = self.shape.bookmark(revision, false);
                    self.queue.push_back(Pending::Line(line));
                    let next = Instant::now() + BOOKMARK_EVERY;
                    let last = self
                        .end
                        .checked_sub(BOOKMARK_BEFORE_END)
                        .unwrap_or(self.end);
                    let due = if Instant::now() < last {
                        next.min(last)
                    } else {
                        self.end
                    };
                    self.bookmark_at = Some(due);
                }
                Err(_) => self.ended = true,
            },
        }
    }

    async fn deliver(&mut self, changes: &[Arc<WatchChange>]) {
        for change in changes {
            if let Some(namespace) = &self.namespace
                && !change.place().starts_with(namespace.as_str())
            {
                continue;
            }
            let seen = match self.in_own_version(change).await {
                Ok(seen) => self.shape.event(&seen),
                Err(error) => Err(error),
            };
            match seen {
                Ok(Some(line)) => self.queue.push_back(Pending::Line(line)),
                Ok(None) => {}
                Err(error) => {
                    let line = self.shape.form().error(&error);
                    self.queue.push_back(Pending::Line(line));
                    self.ended = true;
                    return;
                }
            }
        }
    }
}

impl Stream {
    /// A change in the version that is watched, where that takes a webhook.
    async fn in_own_version(&self, change: &Arc<WatchChange>) -> ApiResult<Arc<WatchChange>> {
        let resource = &self.shape.resource;
        if resource.conversion.is_none() || !self.shape.selector.accepts_place(change.place()) {
            return Ok(Arc::clone(change));
        }
        let convert = |mut entries: Vec<Entry>| async move {
            let deadline = Instant::now() + CONVERSION_TIMEOUT;
            convert::entries(&self.server, resource, &mut entries, deadline).await?;
            Ok(entries)
        };
        change.in_version(&resource.api_version(), convert).await
    }
}

/// What events look like to this watcher, and which it sees.
struct Shape {
    resource: Arc<Resource>,
    selector: Selector,
    view: View,
    format: Format,
    include: IncludeObject,
    /// The columns of a table were sent.
    titled: bool,
}

impl Shape {
    /// The line of a change, if this watcher sees it.
    fn event(&mut self, change: &Arc<WatchChange>) -> ApiResult<Option<Bytes>> {
        let (new, old) = (change.new_entry(), change.old_entry());
        let sees_new = match new {
            Some(entry) => self.sees(change, entry, true)?,
            None => false,
        };
        let sees_old = match old {
            Some(entry) => self.sees(change, entry, false)?,
            None => false,
        };
        let (event_type, entry) = match (sees_old, sees_new) {
            (false, true) => (EventType::Added, new),
            (true, true) => (EventType::Modified, new),
            (true, false) => (EventType::Deleted, old),
            (false, false) => return Ok(None),
        };
        let Some(entry) = entry else { return Ok(None) };
        let revision = change.revision();
        let shared = self.plain();
        if shared {
            let resource = Arc::clone(&self.resource);
            let make = || object_line(&resource, event_type, entry, revision);
            return change
                .line(&self.resource.api_version(), event_type, make)
                .map(Some);
        }
        self.line(event_type, entry, revision).map(Some)
    }

    fn sees(&self, change: &WatchChange, entry: &Entry, new: bool) -> ApiResult<bool> {
        let selector = &self.selector;
        if !selector.accepts_place(change.place()) {
            return Ok(false);
        }
        if selector.reads_labels() {
            let labels = if new {
                change.new_labels()
            } else {
                change.old_labels()
            };
            if !selector.accepts_labels(|key| labels.get(key).map(String::as_str)) {
                return Ok(false);
            }
        }
        if selector.reads_fields() {
            let object = served::value(&self.resource, entry)?;
            return Ok(selector.accepts_fields(&self.resource, &object));
        }
        Ok(true)
    }

    /// The line of one state of an object.
    fn line(
        &mut self,
        event_type: EventType,
        entry: &Entry,
        revision: Revision,
    ) -> ApiResult<Bytes> {
        if self.plain() {
            return object_line(&self.resource, event_type, entry, revision);
        }
        let mut object = served::value(&self.resource, entry)?;
        object::set_revision(&mut object, revision);
        let object = self.transform(object);
        self.form().event(event_type.as_str(), &object)
    }

    /// Whether events show objects as they are stored.
    fn plain(&self) -> bool {
        self.view == View::Object && self.format == Format::Json
    }

    fn form(&self) -> Form {
        match self.format {
            Format::Protobuf => Form::Protobuf(Arc::clone(&self.resource)),
            _ => Form::Json,
        }
    }

    fn transform(&mut self, object: Value) -> Value {
        match self.view {
            View::Object | View::PartialList(_) => object,
            View::Partial(version) => table::partial(&object, version),
            View::Table(version) => {
                let metadata = json!({"resourceVersion": object::meta(&object, "resourceVersion")});
                let now = crate::object::Time::now();
                let rows = std::slice::from_ref(&object);
                let mut table =
                    table::table(&self.resource, version, self.include, metadata, rows, now);
                if std::mem::replace(&mut self.titled, true) {
                    table["columnDefinitions"] = Value::Null;
                }
                table
            }
        }
    }

    fn bookmark(&mut self, revision: Revision, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.view {
            View::Partial(version) => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": version.api_version(),
                "metadata": metadata,
            }),
            View::Table(version) => {
                let now = crate::object::Time::now();
                let mut table = table::bookmark(&self.resource, version, metadata, now);
                if std::mem::replace(&mut self.titled, true) {
                    table["columnDefinitions"] = Value::Null;
                }
                table
            }
            View::Object | View::PartialList(_) => {
                let mut object = self.resource.strategy.blank();
                object["kind"] = json!(self.resource.kind);
                object["apiVersion"] = json!(self.resource.api_version());
                object["metadata"] = metadata;
                object
            }
        };
        let form = self.form();
        let event = form.event("BOOKMARK", &object);
        event.unwrap_or_else(|error| form.error(&error))
    }
}

/// How events are written.
enum Form {
    Json,
    /// Objects of this resource.
    Protobuf(Arc<Resource>),
}

impl Form {
    fn event(&self, event_type: &str, object: &Value) -> ApiResult<Bytes> {
        match self {
            Self::Json => Ok(json_event(event_type, object)),
            Self::Protobuf(resource) => {
                let body = answer::encode(resource, object).map_err(ApiError::internal)?;
                Ok(answer::event(event_type, &body).into())
            }
        }
    }

    fn error(&self, error: &ApiError) -> Bytes {
        let status = error.to_status();
        match (self, answer::status(&status)) {
            (Self::Protobuf(_), Ok(body)) => answer::event("ERROR", &body).into(),
            _ => json_event("ERROR", &status),
        }
    }
}

fn json_event(event_type: &str, object: &Value) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    put_line(event_type, &to_json(object), &mut out);
    out.freeze()
}

fn object_line(
    resource: &Resource,
    event_type: EventType,
    entry: &Entry,
    revision: Revision,
) -> ApiResult<Bytes> {
    let stored = served::bytes(resource, entry)?;
    let mut out = BytesMut::with_capacity(stored.len() + 96);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(event_type.as_str().as_bytes());
    out.put_slice(b"\",\"object\":");
    object::splice(&stored, revision, &mut out);
    out.put_slice(b"}\n");
    Ok(out.freeze())
}

fn put_line(event_type: &str, object: &[u8], out: &mut BytesMut) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(event_type.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
}

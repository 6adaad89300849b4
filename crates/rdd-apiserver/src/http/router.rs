//! From a request to its handler: who asks, for what, may they, which resource.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt;
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    api_server::Inner,
    auth::{
        self, Attributes, Decision, Identity, Issuer, authenticate::UNAUTHENTICATED,
        certificate::Presented,
    },
    catalog::{Catalog, Resource, Subresource, Verb},
    encoding::negotiate::{self, Offer, Protobuf},
    http::{
        body::{self, Body, BoxError},
        detach::detach,
        passthrough::{self, Guard},
        record::Record,
        request_info::{Query, RequestInfo, ResourceRequest},
        response,
        serve::Peer,
        websocket,
    },
    metrics::exposition::MEDIA_TYPE,
    object::{self, Time},
    options,
    status::{ApiError, ApiResult},
    verbs::{
        self,
        call::{Call, WRITE_TIMEOUT, add_warnings},
    },
};

/// How long anything but a watch may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the server's figures are read.
const METRICS: &str = "/metrics";

/// Answers paths that name no resource: discovery, OpenAPI, health, version.
pub trait Pages: Send + Sync + 'static {
    /// The answer, or `None` for a path that is not known.
    fn page(&self, catalog: &Catalog, request: &Parts, query: &Query) -> Option<Response<Body>>;
}

/// No such paths at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPages;

impl Pages for NoPages {
    fn page(&self, _: &Catalog, _: &Parts, _: &Query) -> Option<Response<Body>> {
        None
    }
}

/// The server as a tower service.
#[derive(Clone)]
pub struct Router {
    server: Arc<Inner>,
    identity: Option<Arc<Identity>>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Router {
    pub(crate) fn new(server: Arc<Inner>) -> Self {
        Self {
            server,
            identity: None,
        }
    }

    /// The connections that became something else than HTTP.
    pub(crate) fn sockets(&self) -> &TaskTracker {
        &self.server.sockets
    }

    /// Whose certificates these are.
    pub(crate) fn presented(&self, chain: &[CertificateDer<'_>]) -> Presented {
        self.server.authenticator.presented(chain)
    }

    /// The same service for a caller that is known already.
    #[must_use]
    pub fn acting_as(mut self, identity: Identity) -> Self {
        self.identity = Some(Arc::new(identity));
        self
    }
}

impl<B> tower::Service<Request<B>> for Router
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = Arc::clone(&self.server);
        let identity = self.identity.clone();
        let (parts, body) = request.into_parts();
        let body = body.map_err(Into::into).boxed_unsync();
        // Who waits to be asked for its body must not be; in HTTP/2 the answer ends the stream.
        let unread = parts.version < Version::HTTP_2
            && !body.is_end_stream()
            && !parts.headers.contains_key(header::EXPECT);
        if !unread {
            return Box::pin(
                async move { Ok(detach(handle(server, identity, parts, body)).await) },
            );
        }
        let (body, unread) = body::lend(body);
        Box::pin(async move {
            let answer = detach(handle(server, identity, parts, body)).await;
            unread.discard().await;
            Ok(answer)
        })
    }
}

async fn handle(
    server: Arc<Inner>,
    identity: Option<Arc<Identity>>,
    parts: Parts,
    body: Body,
) -> Response<Body> {
    let format = negotiate::error_format(&parts.headers);
    let audit_id = parts.headers.get("audit-id").cloned();
    let head = parts.method == Method::HEAD;
    let audit_id = audit_id.unwrap_or_else(new_audit_id);
    let id = audit_id.to_str().unwrap_or_default();
    let mut record = Record::begin(&server, &parts, id);
    let upgrade = websocket::Upgrade::wanted(&parts);
    let mut deprecation = None;
    let answer = route(
        &server,
        identity,
        parts,
        body,
        &mut record,
        &mut deprecation,
    )
    .await;
    let mut answer = answer.unwrap_or_else(|error| {
        record.refused(&error);
        response::error(&error, format)
    });
    if head {
        *answer.body_mut() = body::empty();
    }
    let upgrade = upgrade.filter(|_| record.is_watch() && answer.status() == StatusCode::OK);
    if let Some(upgrade) = &upgrade {
        answer = upgrade.answer(answer);
    }
    if let Some(warning) = deprecation {
        add_warnings(answer.headers_mut(), &[warning]);
    }
    let headers = answer.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-cache, private"));
    headers.insert("audit-id", audit_id);
    let answer = record.ended(answer);
    match upgrade {
        Some(upgrade) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let (answer, events) = upgrade.carry(answer, server.stopping.clone());
            server.sockets.spawn(events);
            answer
        }
        _ => answer,
    }
}

fn new_audit_id() -> HeaderValue {
    let id = uuid::Uuid::new_v4().to_string();
    HeaderValue::try_from(id).expect("a UUID is plain ASCII")
}

async fn route(
    server: &Arc<Inner>,
    identity: Option<Arc<Identity>>,
    mut parts: Parts,
    body: Body,
    record: &mut Record,
    deprecation: &mut Option<String>,
) -> ApiResult<Response<Body>> {
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = RequestInfo::new(&parts.method, parts.uri.path(), &query);
    let catalog = server.catalog.load();
    let resource = match &info {
        RequestInfo::Resource(request) => {
            catalog.resource(&request.group, &request.version, &request.plural)
        }
        RequestInfo::Path { .. } => None,
    };
    record.asked(&info, resource, &parts.method, &parts.headers);
    // Before anybody asks who it is that asks, as kube-apiserver.
    let lasts = matches!(&info, RequestInfo::Resource(request) if request.verb == Some(Verb::Watch))
        || parts.uri.path().starts_with(passthrough::PREFIX);
    let wanted = if lasts {
        None
    } else {
        Some(options::timeout(&query, REQUEST_TIMEOUT)?)
    };
    let identity = match identity {
        Some(identity) => identity,
        None => {
            let presented = match parts.extensions.get::<Arc<Peer>>() {
                Some(peer) => &peer.presented,
                None => &Presented::Nothing,
            };
            let authenticator = &server.authenticator;
            authenticator
                .authenticate(&parts.headers, presented, &server.store)
                .await?
        }
    };
    record.identified(&identity, &identity);
    let user = Arc::clone(&identity);
    let selected = query.get("fieldSelector").and_then(selected_name);
    let verb = match &info {
        RequestInfo::Path { verb, .. } => verb.clone(),
        RequestInfo::Resource(request) => request.verb.map_or_else(
            || request.method.as_str().to_ascii_lowercase(),
            |verb| verb.as_str().to_owned(),
        ),
    };
    let narrowed = matches!(
        &info,
        RequestInfo::Resource(request)
            if request.name.is_empty() && matches!(request.verb, Some(Verb::List | Verb::Watch))
    );
    let selected = selected.filter(|_| narrowed);
    let requested = auth::Requested {
        info: &info,
        verb: &verb,
        selected_name: selected,
    };
    let (headers, modes) = (&parts.headers, &server.modes);
    let authorizer = server.authorizer();
    let identity = auth::impersonate(authorizer, modes, identity, headers, requested).await?;
    record.identified(&user, &identity);
    let guard = parts.uri.path().starts_with(passthrough::PREFIX);
    match guard.then(|| server.passthrough.guard(parts.uri.path())) {
        Some(Some(Guard::Resource(request, verb))) => {
            let attributes = Attributes {
                identity: &identity,
                request: &RequestInfo::Resource(*request),
                verb,
                selected_name: None,
            };
            authorize(server, &attributes, record).await?;
            return Ok(server.passthrough.serve(parts, body).await);
        }
        Some(Some(Guard::Delegated)) if !identity.is_in(UNAUTHENTICATED) => {
            parts.extensions.insert(Arc::clone(&identity));
            return Ok(server.passthrough.serve(parts, body).await);
        }
        _ => {}
    }
    let attributes = Attributes {
        identity: &identity,
        request: &info,
        verb: &verb,
        selected_name: selected,
    };
    authorize(server, &attributes, record).await?;
    let request = match info {
        RequestInfo::Path { .. } => {
            if parts.uri.path() == METRICS && parts.method == Method::GET {
                let text = server.metrics.render(&*server.store, &catalog).await;
                return Ok(response::bytes(200, MEDIA_TYPE, text));
            }
            if let Some(issuer) = server.authenticator.issuer()
                && let Some(page) = issuer_page(issuer, &parts)
            {
                return Ok(page);
            }
            let page = server.pages.page(&catalog, &parts, &query);
            return page
                .ok_or_else(|| server.unless_rising(unknown_path(&catalog, parts.uri.path())));
        }
        RequestInfo::Resource(request) => request,
    };
    let Some(resource) = resource else {
        let unknown = unknown_resource(&catalog, &request.group, &request.version);
        return Err(server.unless_rising(unknown));
    };
    deprecation.clone_from(&resource.deprecation);
    if resource.is_custom() && request.verb == Some(Verb::Patch) && request.name.is_empty() {
        // The name is missed after the type of the patch was read.
        verbs::check_patch(&parts.headers)?;
    }
    let (verb, subresource) = endpoint(resource, &request)?;
    let accepted = negotiate::negotiate(
        &parts.headers,
        &query,
        Offer {
            custom: resource.is_custom(),
            watch: verb == Verb::Watch,
            collection: matches!(verb, Verb::List | Verb::Watch),
            transforms: true,
            // Nobody ever lists what is only asked.
            tables: resource.verbs != [Verb::Create] && subresource != Some(Subresource::Token),
            protobuf: if websocket::Upgrade::wanted(&parts).is_some() {
                Protobuf::Nothing
            } else if resource.is_custom() {
                Protobuf::Metadata
            } else {
                Protobuf::Objects
            },
        },
    )?;
    let is_write = matches!(
        verb,
        Verb::Create | Verb::Update | Verb::Patch | Verb::Delete
    );
    let most = if is_write {
        WRITE_TIMEOUT
    } else {
        REQUEST_TIMEOUT
    };
    let timeout = wanted.map_or(most, |wanted| wanted.min(most));
    let call = Call {
        server: Arc::clone(server),
        resource: Arc::clone(resource),
        subresource,
        info: request,
        identity,
        headers: parts.headers,
        query,
        accepted,
        now: Time::now(),
        deadline: Instant::now() + timeout,
        warnings: Vec::new(),
        name_generated: false,
        notes: record.notes(),
    };
    let deadline = call.deadline;
    let run = verbs::run(call, verb, body);
    if is_write {
        // A write checks its own deadline between attempts, so that none is cut in half.
        return run.await;
    }
    tokio::time::timeout_at(deadline, run)
        .await
        .unwrap_or_else(|_| Err(ApiError::deadline()))
}

/// Lets the request through or refuses it, and keeps a record of that.
async fn authorize(server: &Inner, attributes: &Attributes<'_>, record: &Record) -> ApiResult<()> {
    let decision = server.authorizer().authorize(attributes).await;
    record.decided(&decision);
    match decision {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) => Err(auth::authorize::denial(attributes, &reason)),
    }
}

/// Where others learn to check tokens of ServiceAccounts (OpenID Connect Discovery 1.0).
fn issuer_page(issuer: &Issuer, parts: &Parts) -> Option<Response<Body>> {
    let (kind, document) = match parts.uri.path().trim_end_matches('/') {
        "/.well-known/openid-configuration" => {
            let host = parts.headers.get(header::HOST)?.to_str().ok()?;
            ("application/json", issuer.configuration(host))
        }
        "/openid/v1/jwks" => ("application/jwk-set+json", issuer.key_set()),
        _ => return None,
    };
    let mut answer = response::bytes(200, kind, object::to_json(&document));
    answer.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    Some(answer)
}

/// The name that a field selector fixes, without parsing all of it: authorisation comes first.
fn selected_name(selector: &str) -> Option<&str> {
    selector.split(',').find_map(|term| {
        let value = term.strip_prefix("metadata.name=")?;
        Some(value.strip_prefix('=').unwrap_or(value))
    })
}

/// JSON inside built-in groups, plain text everywhere else.
fn unknown_resource(catalog: &Catalog, group: &str, _version: &str) -> ApiError {
    match catalog.group(group) {
        Some(group) if group.builtin => ApiError::unknown_resource(),
        _ => ApiError::page_not_found(),
    }
}

fn unknown_path(catalog: &Catalog, path: &str) -> ApiError {
    let mut segments = path.trim_matches('/').split('/');
    let group = match (segments.next(), segments.next()) {
        (Some("api"), Some(_)) => Some(""),
        (Some("apis"), Some(group)) => Some(group),
        _ => None,
    };
    match group.and_then(|group| catalog.group(group)) {
        Some(group) if group.builtin => ApiError::unknown_resource(),
        _ => ApiError::page_not_found(),
    }
}

/// Which verb on which endpoint of the resource, if there is one.
fn endpoint(
    resource: &Resource,
    request: &ResourceRequest,
) -> ApiResult<(Verb, Option<Subresource>)> {
    let custom = resource.is_custom();
    let name = request.name.as_str();
    if name.contains('/') {
        // An escaped slash is a slash to Go's router.
        return Err(if custom {
            ApiError::page_not_found()
        } else {
            ApiError::unknown_resource()
        });
    }
    check_path_name("Name", name)?;
    let not_found = || {
        if custom {
            ApiError::not_found(resource, name)
        } else {
            ApiError::unknown_resource()
        }
    };
    if request.too_deep && !custom {
        // Of a custom resource's path, nobody reads on behind the subresource.
        return Err(ApiError::unknown_resource());
    }
    let in_namespace = request.object_namespace().is_some();
    let collection = name.is_empty();
    if custom {
        let across =
            !in_namespace && collection && matches!(request.verb, Some(Verb::List | Verb::Watch));
        let fits = match resource.is_namespaced() {
            true => in_namespace || across,
            false => !in_namespace,
        };
        if !fits {
            return Err(ApiError::page_not_found());
        }
    } else {
        let fits = match resource.is_namespaced() {
            // What cannot be listed has no path across namespaces.
            true => in_namespace || (collection && resource.verbs != [Verb::Create]),
            false => !in_namespace && (request.namespace.is_empty() || !collection),
        };
        if !fits {
            return Err(ApiError::unknown_resource());
        }
    }
    if !custom && !collection && resource.verbs == [Verb::Create] {
        // Questions are not kept, so that none has a path.
        return Err(ApiError::unknown_resource());
    }
    let subresource = match request.subresource.as_str() {
        "" => None,
        segment => match Subresource::parse(segment).filter(|one| resource.has(*one)) {
            Some(subresource) => Some(subresource),
            None => return Err(not_found()),
        },
    };
    let Some(verb) = request.verb else {
        return Err(refused(resource, None));
    };
    let legacy_watch = verb == Verb::Watch && request.method != Method::GET;
    if (request.method == Method::HEAD || legacy_watch) && !custom {
        return Err(ApiError::method_not_allowed());
    }
    if let Some(subresource) = subresource {
        let allowed = match subresource {
            Subresource::Status | Subresource::Scale => {
                matches!(verb, Verb::Get | Verb::Update | Verb::Patch)
            }
            Subresource::Finalize => verb == Verb::Update,
            Subresource::Token => verb == Verb::Create,
        };
        return if allowed {
            Ok((verb, Some(subresource)))
        } else {
            Err(refused(resource, Some(verb)))
        };
    }
    let fits = match verb {
        Verb::Create => collection || custom,
        Verb::Update | Verb::Patch => {
            if collection && custom {
                return Err(ApiError::bad_request("name must be provided"));
            }
            !collection
        }
        _ => true,
    };
    let across_namespaces = resource.is_namespaced() && !in_namespace && collection;
    let fits = fits
        && resource.verbs.contains(&verb)
        && (!across_namespaces || matches!(verb, Verb::List | Verb::Watch));
    if fits {
        Ok((verb, None))
    } else {
        Err(refused(resource, Some(verb)))
    }
}

fn refused(resource: &Resource, verb: Option<Verb>) -> ApiError {
    if resource.is_custom() {
        ApiError::verb_not_supported(resource, verb)
    } else {
        ApiError::method_not_allowed()
    }
}

fn check_path_name(what: &str, name: &str) -> ApiResult<()> {
    match rdd_schema::names::path_segment(name).as_slice() {
        [] => Ok(()),
        wrong => Err(ApiError::bad_request(format!(
            "{what} parameter invalid: \"{name}\": {}",
            wrong.join("; ")
        ))),
    }
}

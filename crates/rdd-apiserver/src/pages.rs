//! Paths that name no resource: discovery, OpenAPI, health, version, and the list of them.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::catalog::Catalog;
use crate::discovery::Discovery;
use crate::encoding::negotiate::{Format, Offer, Protobuf, error_format, negotiate};
use crate::encoding::{json, yaml};
use crate::health::Health;
use crate::http::body::{self, Body};
use crate::http::request_info::Query;
use crate::http::response;
use crate::http::router::Pages;
use crate::object::to_json;
use crate::openapi::OpenApi;
use crate::status::ApiError;

/// What the server says it is.
#[derive(Clone, Debug)]
pub struct Version {
    /// `v1.36.0+rdd-0.1.0`: the behaviour that is implemented, and by whom.
    pub git_version: String,
    /// The source's commit; may be empty.
    pub git_commit: String,
}

impl Version {
    fn document(&self) -> Value {
        let mut parts = self.git_version.trim_start_matches('v').split('.');
        json!({
            "major": parts.next().unwrap_or_default(),
            "minor": parts.next().unwrap_or_default(),
            "gitVersion": self.git_version,
            "gitCommit": self.git_commit,
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "rust",
            "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, architecture()),
        })
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// All such paths. What is rendered from a catalog is kept until the catalog changes.
pub struct Site {
    version: Version,
    health: Health,
    rendered: Mutex<Option<Arc<Rendered>>>,
}

struct Rendered {
    generation: u64,
    discovery: Discovery,
    openapi: OpenApi,
}

impl Site {
    /// A site that says this of itself.
    #[must_use]
    pub fn new(version: Version, health: Health) -> Self {
        Self {
            version,
            health,
            rendered: Mutex::new(None),
        }
    }

    fn rendered(&self, catalog: &Catalog) -> Arc<Rendered> {
        let mut kept = self.rendered.lock();
        if let Some(rendered) = kept
            .as_ref()
            .filter(|rendered| rendered.generation == catalog.generation)
        {
            return Arc::clone(rendered);
        }
        // Documents of groups that did not change are carried over.
        let openapi = match kept.as_ref() {
            Some(rendered) => rendered.openapi.follow(catalog),
            None => OpenApi::new(catalog),
        };
        let rendered = Arc::new(Rendered {
            generation: catalog.generation,
            discovery: Discovery::new(catalog),
            openapi,
        });
        *kept = Some(Arc::clone(&rendered));
        rendered
    }
}

impl Pages for Site {
    fn page(&self, catalog: &Catalog, request: &Parts, query: &Query) -> Option<Response<Body>> {
        let path = request.uri.path();
        let segments: Vec<&str> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        match segments.as_slice() {
            [] => Some(document(request, query, &root(catalog), true)),
            ["healthz" | "livez" | "readyz", ..] => self.health.page(&segments, query),
            ["version"] => Some(only_get(request, || {
                if takes_json(&request.headers) {
                    document(request, query, &self.version.document(), false)
                } else {
                    let format = error_format(&request.headers);
                    response::error(&ApiError::no_representation("application/json"), format)
                }
            })),
            ["openapi", "v2"] => Some(self.rendered(catalog).openapi.v2(request)),
            ["openapi", "v3"] => Some(self.rendered(catalog).openapi.index(request)),
            ["openapi", "v3", rest @ ..] => Some(self.rendered(catalog).openapi.v3(
                &rest.join("/"),
                request,
                query,
            )),
            ["api" | "apis", ..] => {
                let rendered = self.rendered(catalog);
                rendered.discovery.page(&segments, request, query)
            }
            _ => None,
        }
    }
}

fn root(catalog: &Catalog) -> Value {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for group in catalog.groups().values() {
        let base = if group.name.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{}", group.name)
        };
        paths.extend(
            group
                .versions
                .keys()
                .map(|version| format!("{base}/{version}")),
        );
        if !group.name.is_empty() {
            paths.push(base);
        }
    }
    paths.sort();
    json!({"paths": paths})
}

/// Whether a client takes JSON, where nothing else is to be had.
fn takes_json(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or("*/*");
    accept.split(',').any(|clause| {
        let media = clause.split(';').next().unwrap_or_default().trim();
        matches!(media, "" | "*/*" | "application/*" | "application/json")
    })
}

/// A document in the form that the client takes, or the refusal, which is worded in
/// another way where only definitions are served.
pub(crate) fn document(
    request: &Parts,
    query: &Query,
    document: &Value,
    custom: bool,
) -> Response<Body> {
    rendered(request, query, &render(document), custom)
}

/// JSON with the newline that Go's encoder ends on.
pub(crate) fn render(document: &Value) -> Bytes {
    let mut out = to_json(document);
    out.push(b'\n');
    out.into()
}

/// The same for a document that is rendered already; plain JSON shares its bytes.
pub(crate) fn rendered(
    request: &Parts,
    query: &Query,
    document: &Bytes,
    custom: bool,
) -> Response<Body> {
    let offer = Offer {
        custom,
        watch: false,
        collection: false,
        transforms: false,
        tables: false,
        protobuf: Protobuf::Nothing,
    };
    match negotiate(&request.headers, query, offer) {
        Ok(accepted) if accepted.format == Format::Yaml => match json::parse_trusted(document) {
            Ok(document) => response::bytes(200, "application/yaml", yaml::write(&document)),
            Err(error) => response::error(&ApiError::internal(error), Format::Yaml),
        },
        Ok(accepted) if accepted.pretty => {
            response::bytes(200, "application/json", response::pretty(document))
        }
        Ok(_) => response::bytes(200, "application/json", document.clone()),
        Err(error) => response::error(&error, error_format(&request.headers)),
    }
}

fn only_get(request: &Parts, answer: impl FnOnce() -> Response<Body>) -> Response<Body> {
    if request.method == Method::GET {
        answer()
    } else {
        response::error(&ApiError::method_not_allowed(), Format::Json)
    }
}

/// Whether the client has this very document already.
pub(crate) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    known.is_some_and(|known| {
        known
            .split(',')
            .any(|one| one.trim().trim_start_matches("W/") == etag)
    })
}

/// Nothing new.
pub(crate) fn not_modified(etag: &str) -> Response<Body> {
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    set(answer.headers_mut(), header::ETAG, etag);
    answer
}

/// Sets a header whose text we made.
pub(crate) fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

//! OpenAPI: what objects look like, for clients that validate, explain or generate.
//!
//! One document per group and version, made from the schemas that the server itself
//! validates with, on first request; a document is kept while its group does not change.

mod document;
mod gnostic;
mod operations;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode, header};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

use crate::catalog::{ApiGroup, Catalog, Resource};
use crate::http::body::{self, Body};
use crate::http::request_info::Query;
use crate::http::response;
use crate::object::to_json;
use crate::pages::{is_known, not_modified, set};

/// A year, for documents whose address holds their hash.
const FOR_EVER: &str = "public, immutable";

/// What kubectl asks OpenAPI v2 for, and the only form that versions before 1.27 read.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The same, in the spelling of older clients.
const V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The documents of one catalog snapshot.
pub(crate) struct OpenApi {
    documents: BTreeMap<String, Arc<Document>>,
    v2: OnceLock<Rendered>,
    v2_protobuf: OnceLock<Rendered>,
}

/// One group and version.
struct Document {
    group: Arc<ApiGroup>,
    version: String,
    rendered: OnceLock<Rendered>,
}

struct Rendered {
    bytes: Bytes,
    /// Upper-case hexadecimal SHA-512.
    hash: String,
}

impl Rendered {
    fn new(document: &Value) -> Self {
        Self::of(to_json(document).into())
    }

    fn of(bytes: Bytes) -> Self {
        Self {
            hash: hex::encode_upper(Sha512::digest(&bytes)),
            bytes,
        }
    }

    fn etag(&self) -> String {
        format!("\"{}\"", self.hash)
    }
}

impl Document {
    fn rendered(&self) -> &Rendered {
        self.rendered.get_or_init(|| {
            let resources = self.group.versions.get(&self.version);
            let resources = resources
                .into_iter()
                .flat_map(|version| version.resources.values());
            Rendered::new(&document::v3(resources))
        })
    }
}

/// What objects of a resource look like, metadata included, with no reference to another
/// schema.
pub(crate) fn whole_schema(resource: &Resource) -> Value {
    document::whole_schema(resource)
}

impl OpenApi {
    pub(crate) fn new(catalog: &Catalog) -> Self {
        Self::build(catalog, &BTreeMap::new())
    }

    /// The documents of a newer snapshot; those of unchanged groups are the same.
    pub(crate) fn follow(&self, catalog: &Catalog) -> Self {
        Self::build(catalog, &self.documents)
    }

    fn build(catalog: &Catalog, known: &BTreeMap<String, Arc<Document>>) -> Self {
        let mut documents = BTreeMap::new();
        for group in catalog.groups().values() {
            for version in group.versions.keys() {
                let path = if group.name.is_empty() {
                    format!("api/{version}")
                } else {
                    format!("apis/{}/{version}", group.name)
                };
                let same = known
                    .get(&path)
                    .filter(|document| Arc::ptr_eq(&document.group, group));
                let document = same.cloned().unwrap_or_else(|| {
                    Arc::new(Document {
                        group: Arc::clone(group),
                        version: version.clone(),
                        rendered: OnceLock::new(),
                    })
                });
                documents.insert(path, document);
            }
        }
        Self {
            documents,
            v2: OnceLock::new(),
            v2_protobuf: OnceLock::new(),
        }
    }

    pub(crate) fn index(&self, request: &Parts) -> Response<Body> {
        let paths: Map<String, Value> = self
            .documents
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.rendered().hash);
                (path.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        answer(request, &Rendered::new(&json!({"paths": paths})))
    }

    pub(crate) fn v3(&self, path: &str, request: &Parts, query: &Query) -> Response<Body> {
        let Some(document) = self.documents.get(path) else {
            return bare(StatusCode::NOT_FOUND);
        };
        let rendered = document.rendered();
        match query.get("hash") {
            Some(hash) if hash != rendered.hash => {
                let mut answer = bare(StatusCode::MOVED_PERMANENTLY);
                let place = format!("/openapi/v3/{path}?hash={}", rendered.hash);
                set(answer.headers_mut(), header::LOCATION, &place);
                answer
            }
            found => {
                let mut answer = self::answer(request, rendered);
                if found.is_some() {
                    set(answer.headers_mut(), header::CACHE_CONTROL, FOR_EVER);
                    set(
                        answer.headers_mut(),
                        header::EXPIRES,
                        "Fri, 31 Dec 2100 23:59:59 GMT",
                    );
                }
                answer
            }
        }
    }

    pub(crate) fn v2(&self, request: &Parts) -> Response<Body> {
        let accept = request
            .headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .unwrap_or("*/*");
        let mut media = accept
            .split(',')
            .map(|clause| clause.split(';').next().unwrap_or_default().trim());
        // The first that is known wins; no client of this document gives weights.
        let form = media.find_map(|media| match media {
            "" | "*/*" | "application/*" | "application/json" => Some(false),
            V2_PROTOBUF | V2_PROTOBUF_OLD => Some(true),
            _ => None,
        });
        match form {
            None => bare(StatusCode::NOT_ACCEPTABLE),
            Some(false) => {
                let rendered = self.v2.get_or_init(|| Rendered::new(&self.v2_document()));
                answer(request, rendered)
            }
            Some(true) => {
                let rendered = self
                    .v2_protobuf
                    .get_or_init(|| Rendered::of(gnostic::encode(&self.v2_document()).into()));
                let mut answer = answer(request, rendered);
                set(answer.headers_mut(), header::CONTENT_TYPE, V2_PROTOBUF);
                answer
            }
        }
    }

    fn v2_document(&self) -> Value {
        let resources = self
            .documents
            .values()
            .filter_map(|document| document.group.versions.get(&document.version))
            .flat_map(|version| version.resources.values());
        document::v2(resources)
    }
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = status;
    answer
}

fn answer(request: &Parts, rendered: &Rendered) -> Response<Body> {
    let etag = rendered.etag();
    let mut answer = if is_known(&request.headers, &etag) {
        not_modified(&etag)
    } else {
        response::compressible(
            200,
            "application/json",
            &request.headers,
            rendered.bytes.clone(),
        )
    };
    set(answer.headers_mut(), header::ETAG, &etag);
    set(answer.headers_mut(), header::VARY, "Accept");
    answer
}

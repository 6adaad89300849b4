//! What is served: the legacy documents, and the aggregated one that newer clients ask for.
//!
//! Everything is rendered once per catalog snapshot.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

use crate::catalog::{ApiGroup, Catalog, Resource, Subresource, Verb};
use crate::encoding::negotiate::{
    Accepted, Format, Offer, Protobuf, aggregated_discovery, error_format, negotiate,
};
use crate::encoding::protobuf::answer::{self, DiscoveryKind};
use crate::encoding::{json, yaml};
use crate::http::body::Body;
use crate::http::request_info::Query;
use crate::http::response;
use crate::pages::{is_known, not_modified, render, set};
use crate::status::{ApiError, ApiResult};

/// Kubernetes' own groups in the order of their priorities.
const PRIORITIES: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "rbac.authorization.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "coordination.k8s.io",
];

/// How kube-apiserver lists the verbs of custom resources; nobody sorts them for it.
const CUSTOM_VERBS: &[Verb] = &[
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Create,
    Verb::Update,
    Verb::Watch,
];

/// The discovery documents of one catalog snapshot.
pub(crate) struct Discovery {
    groups: Bytes,
    group: BTreeMap<String, Bytes>,
    resources: BTreeMap<String, Bytes>,
    /// The groups that definitions brought.
    custom: BTreeSet<String>,
    core: Aggregated,
    named: Aggregated,
}

/// The aggregated document, and what tells it from every other one.
struct Aggregated {
    document: Bytes,
    etag: String,
}

impl Discovery {
    pub(crate) fn new(catalog: &Catalog) -> Self {
        let ordered = ordered_groups(catalog);
        let named: Vec<&ApiGroup> = ordered
            .iter()
            .copied()
            .filter(|group| !group.name.is_empty())
            .collect();
        let core: Vec<&ApiGroup> = ordered
            .iter()
            .copied()
            .filter(|group| group.name.is_empty())
            .collect();
        let group_documents: Vec<Value> = named.iter().map(|group| api_group(group)).collect();
        let mut resources = BTreeMap::new();
        for group in &ordered {
            for (version, served) in &group.versions {
                let list: Vec<Value> = served
                    .resources
                    .values()
                    .flat_map(|resource| listed(resource))
                    .collect();
                let group_version = crate::catalog::api_version(&group.name, version);
                let mut document = json!({
                    "kind": "APIResourceList",
                    "groupVersion": group_version,
                    "resources": list,
                });
                if !group.name.is_empty() {
                    document["apiVersion"] = json!("v1");
                }
                resources.insert(group_version, render(&document));
            }
        }
        Self {
            groups: render(
                &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": group_documents}),
            ),
            group: named
                .iter()
                .map(|group| {
                    let mut document = api_group(group);
                    document["kind"] = json!("APIGroup");
                    document["apiVersion"] = json!("v1");
                    (group.name.clone(), render(&document))
                })
                .collect(),
            resources,
            custom: named
                .iter()
                .filter(|group| !group.builtin)
                .map(|group| group.name.clone())
                .collect(),
            core: aggregate(&core),
            named: aggregate(&named),
        }
    }

    pub(crate) fn page(
        &self,
        segments: &[&str],
        request: &Parts,
        query: &Query,
    ) -> Option<Response<Body>> {
        let (found, kind, aggregated) = match segments {
            ["api"] => {
                let found = render(&core_versions(request));
                (found, DiscoveryKind::Versions, Some(&self.core))
            }
            ["apis"] => {
                let found = self.groups.clone();
                (found, DiscoveryKind::Groups, Some(&self.named))
            }
            ["apis", group] => (self.group.get(*group)?.clone(), DiscoveryKind::Group, None),
            ["api", version] => {
                let found = self.resources.get(*version)?.clone();
                (found, DiscoveryKind::Resources, None)
            }
            ["apis", group, version] => {
                let found = self.resources.get(&format!("{group}/{version}"))?.clone();
                (found, DiscoveryKind::Resources, None)
            }
            _ => return None,
        };
        // What is aggregated over the groups answers any method, and words its refusals
        // as definitions do.
        let any_method = matches!(segments, ["apis"] | ["apis", _]);
        let custom =
            any_method || matches!(segments, ["apis", group, _] if self.custom.contains(*group));
        if request.method != Method::GET && !any_method {
            return Some(response::error(
                &ApiError::method_not_allowed(),
                Format::Json,
            ));
        }
        if let Some(aggregated) = aggregated
            && let Some(accepted) = aggregated_discovery(&request.headers, query)
        {
            return Some(aggregated.answer(accepted, request));
        }
        let offer = Offer {
            custom,
            watch: false,
            collection: false,
            transforms: false,
            tables: false,
            protobuf: Protobuf::Objects,
        };
        let answer = negotiate(&request.headers, query, offer)
            .and_then(|accepted| Ok((accepted, form(&found, accepted, kind)?)));
        Some(match answer {
            Ok((accepted, body)) => response::bytes(200, media(accepted.format), body),
            Err(error) => response::error(&error, error_format(&request.headers)),
        })
    }
}

fn media(format: Format) -> &'static str {
    match format {
        Format::Json => "application/json",
        Format::Yaml => "application/yaml",
        Format::Protobuf => answer::MEDIA,
    }
}

/// A rendered document in the form that was asked for; plain JSON shares its bytes.
fn form(document: &Bytes, accepted: Accepted, kind: DiscoveryKind) -> ApiResult<Bytes> {
    if accepted.format == Format::Json {
        return Ok(if accepted.pretty {
            response::pretty(document).into()
        } else {
            document.clone()
        });
    }
    let document = json::parse_trusted(document).map_err(ApiError::internal)?;
    if accepted.format == Format::Yaml {
        return Ok(yaml::write(&document).into());
    }
    let message = answer::discovery(kind, &document).map_err(ApiError::internal)?;
    Ok(message.into())
}

/// Groups by priority: core, then Kubernetes' own, then those of definitions by name.
fn ordered_groups(catalog: &Catalog) -> Vec<&ApiGroup> {
    let mut groups: Vec<&ApiGroup> = catalog.groups().values().map(|group| &**group).collect();
    let place = |group: &ApiGroup| PRIORITIES.iter().position(|name| *name == group.name);
    groups.sort_by_key(|group| (place(group).unwrap_or(PRIORITIES.len()), group.name.clone()));
    groups
}

fn core_versions(request: &Parts) -> Value {
    let host = request
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host
        .map(str::to_owned)
        .or_else(|| request.uri.authority().map(ToString::to_string));
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host.unwrap_or_default()}],
    })
}

fn api_group(group: &ApiGroup) -> Value {
    let versions: Vec<Value> = group
        .ordered_versions()
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{}/{version}", group.name), "version": version}))
        .collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

fn verbs(resource: &Resource) -> Vec<&'static str> {
    let verbs = if resource.is_custom() {
        CUSTOM_VERBS
    } else {
        resource.verbs
    };
    verbs.iter().map(|verb| verb.as_str()).collect()
}

/// The kind of the objects; where it is of the group and version that list it, those of
/// built-in resources stay empty.
fn response_kind(resource: &Resource) -> Value {
    let (group, version) = if resource.is_custom() {
        (resource.group.as_str(), resource.version.as_str())
    } else {
        ("", "")
    };
    json!({"group": group, "version": version, "kind": resource.kind})
}

/// The subresources by name.
fn subresources(resource: &Resource) -> Vec<Subresource> {
    let mut ordered = resource.subresources.clone();
    if !resource.is_custom() {
        ordered.sort_by_key(|one| one.as_str());
    }
    ordered
}

/// The kind that a subresource speaks of, and what can be done to it.
fn subresource(resource: &Resource, subresource: Subresource) -> (Value, Vec<&'static str>) {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    match subresource {
        Subresource::Status => (response_kind(resource), vec!["get", "patch", "update"]),
        Subresource::Scale => (
            kind("autoscaling", "v1", "Scale"),
            vec!["get", "patch", "update"],
        ),
        Subresource::Finalize => (response_kind(resource), vec!["update"]),
        Subresource::Token => (
            kind("authentication.k8s.io", "v1", "TokenRequest"),
            vec!["create"],
        ),
    }
}

/// A resource and its subresources as the legacy list shows them.
fn listed(resource: &Resource) -> Vec<Value> {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.is_namespaced(),
        "kind": resource.kind,
        "verbs": verbs(resource),
    });
    // What is never stored has no version in which it is.
    if resource.verbs != [Verb::Create] {
        entry["storageVersionHash"] = json!(storage_hash(resource));
    }
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let mut entries = vec![entry];
    for one in subresources(resource) {
        let (kind, verbs) = subresource(resource, one);
        let mut entry = json!({
            "name": format!("{}/{}", resource.plural, one.as_str()),
            "singularName": "",
            "namespaced": resource.is_namespaced(),
            "kind": kind["kind"],
            "verbs": verbs,
        });
        if matches!(one, Subresource::Scale | Subresource::Token) {
            entry["group"] = kind["group"].clone();
            entry["version"] = kind["version"].clone();
        }
        entries.push(entry);
    }
    entries
}

fn storage_hash(resource: &Resource) -> String {
    use base64::Engine as _;
    let stored = &resource.storage.api_version;
    let (group, version) = match (resource.group.as_str(), resource.plural.as_str()) {
        // kube-apiserver goes on storing these as it always did, and hashes are compared.
        ("events.k8s.io", "events") => ("", "v1"),
        ("apiextensions.k8s.io", _) => ("apiextensions.k8s.io", "v1beta1"),
        (group, _) => (group, stored.rsplit('/').next().unwrap_or_default()),
    };
    let text = format!("{group}/{version}/{}", resource.kind);
    let hash = Sha256::digest(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&hash[..8])
}

fn aggregate(groups: &[&ApiGroup]) -> Aggregated {
    let items: Vec<Value> = groups.iter().map(|group| item(group)).collect();
    let document = render(&json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }));
    Aggregated {
        etag: format!("\"{}\"", hex::encode_upper(Sha512::digest(&document))),
        document,
    }
}

fn item(group: &ApiGroup) -> Value {
    let mut metadata = json!({});
    if !group.name.is_empty() {
        metadata["name"] = json!(group.name);
    }
    let versions: Vec<Value> = group
        .ordered_versions()
        .into_iter()
        .filter_map(|version| {
            let served = group.versions.get(version)?;
            let resources: Vec<Value> = served
                .resources
                .values()
                .map(|resource| aggregated(resource))
                .collect();
            Some(json!({"version": version, "resources": resources, "freshness": "Current"}))
        })
        .collect();
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": response_kind(resource),
        "scope": if resource.is_namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(resource),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let list = subresources(resource).into_iter().map(|one| {
            let (kind, verbs) = subresource(resource, one);
            json!({"subresource": one.as_str(), "responseKind": kind, "verbs": verbs})
        });
        entry["subresources"] = list.collect();
    }
    entry
}

impl Aggregated {
    fn answer(&self, accepted: Accepted, request: &Parts) -> Response<Body> {
        let etag = self.etag.as_str();
        let mut answer = if is_known(&request.headers, etag) {
            not_modified(etag)
        } else {
            match form(&self.document, accepted, DiscoveryKind::Aggregated) {
                Ok(body) => response::bytes(200, aggregated_media(accepted.format), body),
                Err(error) => return response::error(&error, accepted.format),
            }
        };
        let headers = answer.headers_mut();
        set(headers, header::ETAG, etag);
        set(headers, header::VARY, "Accept");
        set(headers, header::CACHE_CONTROL, "public");
        answer
    }
}

fn aggregated_media(format: Format) -> &'static str {
    match format {
        Format::Json => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        Format::Yaml => "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        Format::Protobuf => {
            "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::catalog::crd;
    use crate::encoding::protobuf::Envelope;

    struct Answer {
        code: u16,
        media: String,
        etag: Option<String>,
        body: Vec<u8>,
    }

    async fn ask(method: Method, path: &str, accept: &str, known: &str) -> Answer {
        let (catalog, _) = crd::served();
        let discovery = Discovery::new(&catalog.load());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept)
            .header("if-none-match", known)
            .body(())
            .expect("a request");
        let (request, ()) = request.into_parts();
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let answer = discovery.page(&segments, &request, &Query::default());
        let answer = answer.expect("served");
        let header = |name| {
            let value: Option<&header::HeaderValue> = answer.headers().get(name);
            value.map(|value| value.to_str().expect("text").to_owned())
        };
        Answer {
            code: answer.status().as_u16(),
            media: header(header::CONTENT_TYPE).unwrap_or_default(),
            etag: header(header::ETAG),
            body: answer
                .into_body()
                .collect()
                .await
                .expect("a body")
                .to_bytes()
                .to_vec(),
        }
    }

    const VIEW: &str = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

    #[tokio::test]
    async fn the_aggregated_document_is_had_in_every_form_under_one_tag() {
        let forms = [
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ];
        let mut tags = BTreeSet::new();
        for form in forms {
            let asked = format!("{form};{VIEW}");
            let answer = ask(Method::GET, "/apis", &format!("text/html,{asked}"), "").await;
            assert_eq!((answer.code, answer.media), (200, asked.clone()));
            let etag = answer.etag.expect("a tag");
            assert_eq!(ask(Method::GET, "/apis", &asked, &etag).await.code, 304);
            tags.insert(etag);
        }
        assert_eq!(tags.len(), 1);
    }

    #[tokio::test]
    async fn the_aggregated_document_wins_over_plain_forms_in_any_order() {
        for accept in [
            format!("application/json,application/yaml;q=0.2;{VIEW}"),
            format!("application/vnd.kubernetes.protobuf,application/yaml;{VIEW}"),
        ] {
            let answer = ask(Method::GET, "/api", &accept, "").await;
            assert_eq!(answer.media, format!("application/yaml;{VIEW}"));
        }
    }

    #[tokio::test]
    async fn the_beta_of_the_aggregated_document_is_not_served() {
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert_eq!(ask(Method::GET, "/apis", beta, "").await.code, 406);
        let either = format!("{beta},application/json");
        let answer = ask(Method::GET, "/apis", &either, "").await;
        assert_eq!(
            (answer.code, answer.media.as_str()),
            (200, "application/json")
        );
        assert_eq!(answer.etag, None);
    }

    #[tokio::test]
    async fn the_legacy_documents_are_had_in_protobuf() {
        let kinds = [
            ("/api", "APIVersions"),
            ("/apis", "APIGroupList"),
            ("/apis/coordination.k8s.io", "APIGroup"),
            ("/apis/coordination.k8s.io/v1", "APIResourceList"),
        ];
        for (path, kind) in kinds {
            let answer = ask(Method::GET, path, answer::MEDIA, "").await;
            assert_eq!(answer.media, answer::MEDIA, "{path}");
            let envelope = Envelope::read(&answer.body).expect("an envelope");
            assert_eq!(envelope.kind, kind);
        }
        let leases = ask(
            Method::GET,
            "/apis/coordination.k8s.io/v1",
            answer::MEDIA,
            "",
        )
        .await;
        assert_eq!(
            Envelope::read(&leases.body).expect("an envelope").raw,
            b"\n\x16coordination.k8s.io/v1\x12o\n\x06leases\x10\x01\x1a\x05Lease\"C\n\x06create\
              \n\x06delete\n\x10deletecollection\n\x03get\n\x04list\n\x05patch\n\x06update\n\x05watch\
              2\x05leaseB\0J\0R\x0cgqkMMb/YqFM="
        );
    }

    #[tokio::test]
    async fn documents_over_groups_answer_any_method() {
        for path in ["/apis", "/apis/coordination.k8s.io"] {
            assert_eq!(ask(Method::POST, path, "*/*", "").await.code, 200, "{path}");
        }
        for path in ["/api", "/api/v1", "/apis/coordination.k8s.io/v1"] {
            assert_eq!(ask(Method::POST, path, "*/*", "").await.code, 405, "{path}");
        }
    }
}

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
use crate::encoding::negotiate::Format;
use crate::http::body::Body;
use crate::http::request_info::Query;
use crate::http::response;
use crate::object::to_json;
use crate::pages::{is_known, not_modified, render, rendered, set};
use crate::status::ApiError;

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

/// An aggregated document in both of its versions.
struct Aggregated {
    v2: Tagged,
    v2beta1: Tagged,
}

/// A document, and what tells it from every other one.
struct Tagged {
    media: &'static str,
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
        let custom = matches!(segments, ["apis", group, ..] if self.custom.contains(*group));
        let (found, aggregated) = match segments {
            ["api"] => (render(&core_versions(request)), Some(&self.core)),
            ["apis"] => (self.groups.clone(), Some(&self.named)),
            ["api", version] => (self.resources.get(*version)?.clone(), None),
            ["apis", group] => (self.group.get(*group)?.clone(), None),
            ["apis", group, version] => (
                self.resources.get(&format!("{group}/{version}"))?.clone(),
                None,
            ),
            _ => return None,
        };
        if request.method != Method::GET && segments != ["apis"] {
            return Some(response::error(
                &ApiError::method_not_allowed(),
                Format::Json,
            ));
        }
        let asked = wanted(request);
        match (asked, aggregated) {
            (Some(version), Some(aggregated)) => Some(aggregated.answer(version, request)),
            _ => Some(rendered(request, query, &found, custom)),
        }
    }
}

/// Groups by priority: core, then Kubernetes' own, then those of definitions by name.
fn ordered_groups(catalog: &Catalog) -> Vec<&ApiGroup> {
    let mut groups: Vec<&ApiGroup> = catalog.groups().values().map(|group| &**group).collect();
    groups.sort_by_key(|group| (!group.builtin, group.name.clone()));
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

/// The kind that a subresource speaks of, and what can be done to it.
fn subresource(resource: &Resource, subresource: Subresource) -> (Value, Vec<&'static str>) {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    match subresource {
        Subresource::Status => (
            kind(&resource.group, &resource.version, &resource.kind),
            vec!["get", "patch", "update"],
        ),
        Subresource::Scale => (
            kind("autoscaling", "v1", "Scale"),
            vec!["get", "patch", "update"],
        ),
        Subresource::Finalize => (
            kind(&resource.group, &resource.version, &resource.kind),
            vec!["update"],
        ),
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
        "storageVersionHash": storage_hash(resource),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let mut entries = vec![entry];
    for one in &resource.subresources {
        let (kind, verbs) = subresource(resource, *one);
        let mut entry = json!({
            "name": format!("{}/{}", resource.plural, one.as_str()),
            "singularName": "",
            "namespaced": resource.is_namespaced(),
            "kind": kind["kind"],
            "verbs": verbs,
        });
        if *one == Subresource::Scale {
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
    let version = stored.rsplit('/').next().unwrap_or_default();
    let text = format!("{}/{version}/{}", resource.group, resource.kind);
    let hash = Sha256::digest(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&hash[..8])
}

fn aggregate(groups: &[&ApiGroup]) -> Aggregated {
    let items: Vec<Value> = groups.iter().map(|group| item(group)).collect();
    let tagged = |version: &str, media| {
        let document = json!({
            "kind": "APIGroupDiscoveryList",
            "apiVersion": format!("apidiscovery.k8s.io/{version}"),
            "metadata": {},
            "items": items,
        });
        let document = Bytes::from(to_json(&document));
        Tagged {
            media,
            etag: format!("\"{}\"", hex::encode_upper(Sha512::digest(&document))),
            document,
        }
    };
    Aggregated {
        v2: tagged(
            "v2",
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        ),
        v2beta1: tagged(
            "v2beta1",
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        ),
    }
}

fn item(group: &ApiGroup) -> Value {
    let mut metadata = json!({"creationTimestamp": null});
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
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
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
        let list = resource.subresources.iter().map(|one| {
            let (kind, verbs) = subresource(resource, *one);
            json!({"subresource": one.as_str(), "responseKind": kind, "verbs": verbs})
        });
        entry["subresources"] = list.collect();
    }
    entry
}

/// The version of the aggregated document that the client asks for, if it asks for one.
fn wanted(request: &Parts) -> Option<&'static str> {
    let accept = request.headers.get(header::ACCEPT)?.to_str().ok()?;
    let mut older = None;
    for clause in accept.split(',') {
        let has = |parameter: &str| clause.split(';').any(|part| part.trim() == parameter);
        let json = clause
            .split(';')
            .next()
            .is_some_and(|media| media.trim() == "application/json");
        if json && has("g=apidiscovery.k8s.io") && has("as=APIGroupDiscoveryList") {
            if has("v=v2") {
                return Some("v2");
            }
            if has("v=v2beta1") {
                older = Some("v2beta1");
            }
        }
    }
    older
}

impl Aggregated {
    fn answer(&self, version: &'static str, request: &Parts) -> Response<Body> {
        if request.method != Method::GET {
            return response::error(&ApiError::method_not_allowed(), Format::Json);
        }
        let tagged = if version == "v2" {
            &self.v2
        } else {
            &self.v2beta1
        };
        let etag = tagged.etag.as_str();
        let mut answer = if is_known(&request.headers, etag) {
            not_modified(etag)
        } else {
            response::bytes(200, tagged.media, tagged.document.clone())
        };
        let headers = answer.headers_mut();
        set(headers, header::ETAG, etag);
        set(headers, header::VARY, "Accept");
        set(headers, header::CACHE_CONTROL, "public");
        answer
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::catalog::crd;

    #[test]
    fn each_version_of_the_aggregated_document_has_its_own_tag() {
        let (catalog, _) = crd::served();
        let discovery = Discovery::new(&catalog.load());
        let ask = |versions: &str, known: &str| {
            let accept = versions
                .split(',')
                .map(|version| {
                    format!(
                        "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                    )
                })
                .collect::<Vec<_>>()
                .join(",");
            let request = Request::builder()
                .header("accept", accept)
                .header("if-none-match", known)
                .body(())
                .expect("a request");
            let (request, ()) = request.into_parts();
            let answer = discovery.page(&["apis"], &request, &Query::default());
            let answer = answer.expect("served");
            let etag = answer.headers()[header::ETAG].to_str().expect("text");
            (answer.status().as_u16(), etag.to_owned())
        };
        let (code, newer) = ask("v2,v2beta1", "");
        assert_eq!(code, 200);
        let (code, older) = ask("v2beta1", &newer);
        assert_eq!(code, 200, "the newer document is not the older one");
        assert_ne!(newer, older);
        assert_eq!(ask("v2", &newer).0, 304);
        assert_eq!(ask("v2beta1", &older).0, 304);
    }
}

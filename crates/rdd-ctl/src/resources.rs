//! From the words of a command line to what the server serves.

use serde_json::Value;

use crate::connection::{Connection, escape};
use crate::error::{Error, Result};
use crate::manifest::Sourced;

/// What newer servers answer with everything at once.
const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A served type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    /// Whether this is the version that the server prefers.
    pub(crate) preferred: bool,
}

impl Resource {
    /// `configmaps`, `widgets.example.com`.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `configmap/a`, `widget.example.com/a`: how outcomes name an object.
    pub(crate) fn named(&self, name: &str) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() {
            format!("{kind}/{name}")
        } else {
            format!("{kind}.{}/{name}", self.group)
        }
    }

    /// `v1`, `example.com/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of a collection; `None` is every namespace.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let base = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{base}/namespaces/{}/{}", escape(namespace), self.plural),
            None => format!("{base}/{}", self.plural),
        }
    }

    /// The path of an object.
    pub(crate) fn object_path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.path(Some(namespace)), escape(name))
    }

    fn is(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        self.plural == word
            || self.singular == word
            || self.kind.to_lowercase() == word
            || self.short_names.contains(&word)
    }
}

/// Everything that the server serves.
pub(crate) struct Resources(pub(crate) Vec<Resource>);

impl Resources {
    /// Two requests, whatever the number of types.
    pub(crate) async fn discover(connection: &Connection) -> Result<Self> {
        let (core, named) = futures::try_join!(
            connection.get("/api", AGGREGATED),
            connection.get("/apis", AGGREGATED)
        )?;
        let mut resources = Vec::new();
        for document in [&core, &named] {
            if document["kind"] == "APIGroupDiscoveryList" {
                aggregated(document, &mut resources);
            } else {
                legacy(connection, document, &mut resources).await?;
            }
        }
        Ok(Self(resources))
    }

    /// The type of a word: plural, singular, kind or short name, with `.group` or `.version.group`.
    pub(crate) fn find(&self, word: &str) -> Result<&Resource> {
        let by_name = |name: &str, fits: &dyn Fn(&Resource) -> bool| {
            let mut found: Vec<&Resource> = self
                .0
                .iter()
                .filter(|resource| resource.is(name) && fits(resource))
                .collect();
            // A name of its own beats somebody's short name.
            found.sort_by_key(|resource| {
                (
                    !resource.preferred,
                    resource.short_names.iter().any(|short| short == name),
                )
            });
            found.first().copied()
        };
        let plain = by_name(word, &|_| true);
        let found = plain.or_else(|| {
            let (name, rest) = word.split_once('.')?;
            by_name(name, &|resource| resource.group == rest).or_else(|| {
                let (version, group) = rest.split_once('.').unwrap_or((rest, ""));
                by_name(name, &|resource| {
                    resource.version == version && resource.group == group
                })
            })
        });
        found.ok_or_else(|| {
            Error::new(format_args!(
                "the server doesn't have a resource type {word:?}"
            ))
        })
    }

    /// The plurals by which types are asked for, sorted.
    pub(crate) fn plurals(&self) -> Vec<String> {
        let preferred = self.0.iter().filter(|resource| resource.preferred);
        let mut all: Vec<String> = preferred.map(|resource| resource.plural.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The types of a comma-separated list; a category stands for its members.
    pub(crate) fn find_all(&self, words: &str) -> Result<Vec<&Resource>> {
        let mut found: Vec<&Resource> = Vec::new();
        for word in words.split(',').filter(|word| !word.is_empty()) {
            let members: Vec<&Resource> = self
                .0
                .iter()
                .filter(|resource| {
                    resource.preferred
                        && resource.categories.iter().any(|category| category == word)
                })
                .collect();
            let more = if members.is_empty() {
                vec![self.find(word)?]
            } else {
                members
            };
            for resource in more {
                if !found.contains(&resource) {
                    found.push(resource);
                }
            }
        }
        Ok(found)
    }

    /// The type of an object that was read somewhere.
    pub(crate) fn of_sourced(&self, sourced: &Sourced) -> Result<&Resource> {
        let Sourced { source, object } = sourced;
        self.of(object).map_err(|error| {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            Error::new(format_args!(
                "resource mapping not found for name: {:?} namespace: {:?} from {source:?}: {error}\nensure CRDs are installed first",
                text("name"),
                text("namespace"),
            ))
        })
    }

    /// The type of an object.
    fn of(&self, object: &Value) -> std::result::Result<&Resource, String> {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        let found = self
            .0
            .iter()
            .find(|resource| resource.kind == kind && resource.api_version() == api_version);
        found.ok_or_else(|| format!("no matches for kind {kind:?} in version {api_version:?}"))
    }
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn aggregated(document: &Value, resources: &mut Vec<Resource>) {
    for group in document["items"].as_array().into_iter().flatten() {
        for (index, version) in group["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            for entry in version["resources"].as_array().into_iter().flatten() {
                resources.push(Resource {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    plural: text(&entry["resource"]),
                    singular: text(&entry["singularResource"]),
                    kind: text(&entry["responseKind"]["kind"]),
                    namespaced: entry["scope"] == "Namespaced",
                    verbs: texts(&entry["verbs"]),
                    short_names: texts(&entry["shortNames"]),
                    categories: texts(&entry["categories"]),
                    preferred: index == 0,
                });
            }
        }
    }
}

async fn legacy(
    connection: &Connection,
    document: &Value,
    resources: &mut Vec<Resource>,
) -> Result<()> {
    let mut versions = Vec::new();
    for version in texts(&document["versions"]) {
        versions.push((String::new(), version, true));
    }
    for group in document["groups"].as_array().into_iter().flatten() {
        for (index, version) in group["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            versions.push((text(&group["name"]), text(&version["version"]), index == 0));
        }
    }
    for (group, version, preferred) in versions {
        let path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let list = connection.get(&path, crate::connection::JSON).await?;
        for entry in list["resources"].as_array().into_iter().flatten() {
            let plural = text(&entry["name"]);
            if plural.contains('/') {
                continue;
            }
            resources.push(Resource {
                group: group.clone(),
                version: version.clone(),
                plural,
                singular: text(&entry["singularName"]),
                kind: text(&entry["kind"]),
                namespaced: entry["namespaced"].as_bool().unwrap_or_default(),
                verbs: texts(&entry["verbs"]),
                short_names: texts(&entry["shortNames"]),
                categories: texts(&entry["categories"]),
                preferred,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resources() -> Resources {
        let mut list = Vec::new();
        aggregated(
            &json!({"items": [
                {"metadata": {}, "versions": [{"version": "v1", "resources": [
                    {"resource": "configmaps", "singularResource": "configmap", "responseKind": {"kind": "ConfigMap"},
                     "scope": "Namespaced", "verbs": ["get"], "shortNames": ["cm"]},
                    {"resource": "events", "singularResource": "event", "responseKind": {"kind": "Event"}, "scope": "Namespaced"}]}]},
                {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [
                    {"resource": "events", "singularResource": "event", "responseKind": {"kind": "Event"}, "scope": "Namespaced"}]}]},
                {"metadata": {"name": "example.com"}, "versions": [
                    {"version": "v2", "resources": [{"resource": "widgets", "singularResource": "widget",
                        "responseKind": {"kind": "Widget"}, "scope": "Namespaced", "categories": ["all"]}]},
                    {"version": "v1", "resources": [{"resource": "widgets", "singularResource": "widget",
                        "responseKind": {"kind": "Widget"}, "scope": "Namespaced", "categories": ["all"]}]}]}
            ]}),
            &mut list,
        );
        Resources(list)
    }

    #[test]
    fn types_are_found_by_any_of_their_names() {
        let resources = resources();
        for (word, wanted) in [
            ("configmaps", "v1 configmaps"),
            ("configmap", "v1 configmaps"),
            ("ConfigMap", "v1 configmaps"),
            ("cm", "v1 configmaps"),
            ("events", "v1 events"),
            ("events.events.k8s.io", "events.k8s.io/v1 events"),
            ("widgets", "example.com/v2 widgets"),
            ("widget.example.com", "example.com/v2 widgets"),
            ("widgets.v1.example.com", "example.com/v1 widgets"),
        ] {
            let found = resources.find(word).expect(word);
            assert_eq!(
                format!("{} {}", found.api_version(), found.plural),
                wanted,
                "{word}"
            );
        }
        assert!(resources.find("pods").is_err());
        assert_eq!(
            resources.find_all("cm,all,configmap").expect("found").len(),
            2
        );
    }
}

//! What one rule allows, and whether some rules hold everything that others do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{auth::Attributes, http::request_info::RequestInfo};

const ALL: &str = "*";

/// `rbac.authorization.k8s.io/v1` PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// `get`, `*`, …
    pub verbs: Vec<String>,
    /// `""`, `apps`, `*`, …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Empty for every name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// `/healthz`, `/apis/*`, `*`.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

fn holds(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == ALL || one == wanted)
}

/// Whether resources of a rule name this one: itself, all of them, or all of its kind of
/// subresource.
fn holds_resource(list: &[String], wanted: &str) -> bool {
    holds(list, wanted)
        || wanted.split_once('/').is_some_and(|(_, subresource)| {
            list.iter()
                .any(|one| one.strip_prefix("*/") == Some(subresource))
        })
}

fn holds_path(list: &[String], path: &str) -> bool {
    list.iter().any(|one| {
        one == ALL
            || one == path
            || one
                .strip_suffix('*')
                .is_some_and(|start| path.starts_with(start))
    })
}

impl Rule {
    /// Whether the rule alone allows the request.
    #[must_use]
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !holds(&self.verbs, attributes.verb) {
            return false;
        }
        match attributes.request {
            RequestInfo::Path { path, .. } => holds_path(&self.non_resource_urls, path),
            RequestInfo::Resource(request) => {
                let resource = if request.subresource.is_empty() {
                    request.plural.clone()
                } else {
                    format!("{}/{}", request.plural, request.subresource)
                };
                let name = attributes.selected_name.unwrap_or(&request.name);
                holds(&self.api_groups, &request.group)
                    && holds_resource(&self.resources, &resource)
                    && (self.resource_names.is_empty()
                        || self.resource_names.iter().any(|one| one == name))
            }
        }
    }

    fn covers(&self, atom: &Atom) -> bool {
        if !holds(&self.verbs, &atom.verb) {
            return false;
        }
        match &atom.what {
            What::Path(path) => holds_path(&self.non_resource_urls, path),
            What::Resource {
                group,
                resource,
                name,
            } => {
                holds(&self.api_groups, group)
                    && holds_resource(&self.resources, resource)
                    && (self.resource_names.is_empty()
                        || name
                            .as_ref()
                            .is_some_and(|name| self.resource_names.contains(name)))
            }
        }
    }

    /// The rule in parts of one verb on one thing each.
    fn atoms(&self) -> Vec<Atom> {
        let mut things = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                let what = |name: Option<String>| What::Resource {
                    group: group.clone(),
                    resource: resource.clone(),
                    name,
                };
                if self.resource_names.is_empty() {
                    things.push(what(None));
                }
                things.extend(self.resource_names.iter().cloned().map(Some).map(what));
            }
        }
        things.extend(self.non_resource_urls.iter().cloned().map(What::Path));
        things
            .into_iter()
            .flat_map(|what| {
                self.verbs.iter().map(move |verb| Atom {
                    what: what.clone(),
                    verb: verb.clone(),
                })
            })
            .collect()
    }

    /// The rule in one line, as refusals show it.
    fn compact(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| {
            let list: Vec<String> = list.iter().map(|one| format!("{one:?}")).collect();
            format!("{name}:[{}]", list.join(" "))
        })
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Resource {
        group: String,
        resource: String,
        name: Option<String>,
    },
    Path(String),
}

struct Atom {
    what: What,
    verb: String,
}

/// What of `asked` nobody who holds `held` may do, a line each, in order.
#[must_use]
pub fn uncovered(held: &[Rule], asked: &[Rule]) -> Vec<String> {
    let mut missing: BTreeMap<What, Vec<Vec<String>>> = BTreeMap::new();
    for atom in asked.iter().flat_map(Rule::atoms) {
        if !held.iter().any(|rule| rule.covers(&atom)) {
            // The verbs of one resource share a line, as often as they come; those of paths do not.
            let is_path = matches!(atom.what, What::Path(_));
            let lines = missing.entry(atom.what).or_default();
            match lines.first_mut().filter(|_| !is_path) {
                Some(verbs) => verbs.push(atom.verb),
                None => lines.push(vec![atom.verb]),
            }
        }
    }
    let mut lines: Vec<String> = missing
        .into_iter()
        .flat_map(|(what, lines)| lines.into_iter().map(move |verbs| (what.clone(), verbs)))
        .map(|(what, verbs)| {
            let rule = match what {
                What::Path(path) => Rule {
                    verbs,
                    non_resource_urls: vec![path],
                    ..Rule::default()
                },
                What::Resource {
                    group,
                    resource,
                    name,
                } => Rule {
                    verbs,
                    api_groups: vec![group],
                    resources: vec![resource],
                    resource_names: name.into_iter().collect(),
                    ..Rule::default()
                },
            };
            rule.compact()
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let texts = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        Rule {
            verbs: texts(verbs),
            api_groups: texts(groups),
            resources: texts(resources),
            resource_names: texts(names),
            non_resource_urls: Vec::new(),
        }
    }

    fn paths(verbs: &[&str], paths: &[&str]) -> Rule {
        Rule {
            non_resource_urls: paths.iter().map(|one| (*one).to_owned()).collect(),
            ..rule(verbs, &[], &[], &[])
        }
    }

    #[test]
    fn what_is_not_held_is_named_in_parts() {
        let check = |held: &[Rule], asked: &[Rule], expect: &[&str]| {
            assert_eq!(uncovered(held, asked), expect);
        };
        let held = [
            rule(&["get"], &[""], &["configmaps"], &[]),
            rule(&["get"], &[""], &["secrets"], &["n"]),
            rule(&["update"], &["*"], &["*/scale"], &[]),
            paths(&["get"], &["/apis/*"]),
        ];
        check(
            &held,
            &[rule(&["get"], &[""], &["configmaps"], &["x"])],
            &[],
        );
        check(
            &held,
            &[rule(
                &["get", "list"],
                &[""],
                &["configmaps", "secrets"],
                &[],
            )],
            &[
                r#"{APIGroups:[""], Resources:["configmaps"], Verbs:["list"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#,
            ],
        );
        check(
            &held,
            &[rule(&["get"], &[""], &["secrets"], &["n", "m"])],
            &[r#"{APIGroups:[""], Resources:["secrets"], ResourceNames:["m"], Verbs:["get"]}"#],
        );
        check(
            &held,
            &[rule(&["update"], &["apps"], &["things/scale"], &[])],
            &[],
        );
        check(&held, &[paths(&["get"], &["/apis/x", "/apis/*"])], &[]);
        check(
            &held,
            &[paths(&["get"], &["/metrics"])],
            &[r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#],
        );
        // Verbs of a resource come as often as they are asked for, those of paths apart.
        check(
            &held,
            &[
                rule(&["list"], &[""], &["secrets", "secrets"], &[]),
                paths(&["get", "put", "get"], &["/metrics"]),
            ],
            &[
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["list" "list"]}"#,
                r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#,
                r#"{NonResourceURLs:["/metrics"], Verbs:["put"]}"#,
            ],
        );
        check(
            &[rule(&["*"], &["*"], &["*"], &[])],
            &[rule(&["a", "*"], &["x"], &["y/z"], &["n"])],
            &[],
        );
    }
}

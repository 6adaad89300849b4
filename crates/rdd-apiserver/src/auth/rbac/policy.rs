//! Roles and bindings, kept so that those of one subject are found at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::rules::Rule;
use crate::auth::{Attributes, Decision, Identity, authorize::Rights};

/// Where roles and bindings are kept.
pub(super) const ROLES_PREFIX: &str = "/registry/rbac.authorization.k8s.io/";

/// Namespace and name; the namespace of what has none is empty.
type Place = (String, String);

/// Every role and binding.
#[derive(Debug, Default)]
pub(super) struct Policy {
    roles: HashMap<Place, Arc<[Rule]>>,
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    /// Cluster bindings have an empty namespace.
    bindings: HashMap<Place, Arc<Binding>>,
    /// The bindings of a subject in a namespace, in the order of their names.
    by_subject: HashMap<(String, Subject), BTreeMap<String, Arc<Binding>>>,
}

#[derive(Debug)]
struct Binding {
    namespace: String,
    name: String,
    role_kind: String,
    role_name: String,
    /// Each with the words in which it is shown.
    subjects: Vec<(Subject, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredBinding {
    #[serde(default)]
    subjects: Vec<StoredSubject>,
    role_ref: RoleRef,
}

#[derive(Deserialize)]
struct StoredSubject {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct RoleRef {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
}

impl Policy {
    /// A key of the store holds this now, or nothing.
    pub(super) fn observe(&mut self, key: &str, object: Option<&Value>) {
        let Some((resource, place)) = key
            .strip_prefix(ROLES_PREFIX)
            .and_then(|rest| rest.split_once('/'))
        else {
            return;
        };
        let (namespace, name) = place.split_once('/').unwrap_or(("", place));
        let place = (namespace.to_owned(), name.to_owned());
        let rules = || object.map(rules_in);
        match resource {
            "roles" => match rules() {
                Some(rules) => drop(self.roles.insert(place, rules)),
                None => drop(self.roles.remove(&place)),
            },
            "clusterroles" => match rules() {
                Some(rules) => drop(self.cluster_roles.insert(place.1, rules)),
                None => drop(self.cluster_roles.remove(&place.1)),
            },
            "rolebindings" | "clusterrolebindings" => self.bind(place, object),
            _ => {}
        }
    }

    fn bind(&mut self, place: Place, object: Option<&Value>) {
        if let Some(old) = self.bindings.remove(&place) {
            for (subject, _) in &old.subjects {
                let slot = (old.namespace.clone(), subject.clone());
                if let Some(bindings) = self.by_subject.get_mut(&slot) {
                    bindings.remove(&old.name);
                    if bindings.is_empty() {
                        self.by_subject.remove(&slot);
                    }
                }
            }
        }
        let Some(stored) = object.and_then(|object| StoredBinding::deserialize(object).ok()) else {
            return;
        };
        let subjects = stored.subjects.into_iter().filter_map(|subject| {
            let name = subject.name;
            match subject.kind.as_str() {
                "User" => Some((Subject::User(name.clone()), format!("User {name:?}"))),
                "Group" => Some((Subject::Group(name.clone()), format!("Group {name:?}"))),
                "ServiceAccount" => {
                    let namespace = match subject.namespace.as_str() {
                        "" => place.0.as_str(),
                        namespace => namespace,
                    };
                    let user = format!("system:serviceaccount:{namespace}:{name}");
                    let shown = format!("ServiceAccount \"{name}/{namespace}\"");
                    Some((Subject::User(user), shown))
                }
                _ => None,
            }
        });
        let binding = Arc::new(Binding {
            subjects: subjects.collect(),
            namespace: place.0.clone(),
            name: place.1.clone(),
            role_kind: stored.role_ref.kind,
            role_name: stored.role_ref.name,
        });
        for (subject, _) in &binding.subjects {
            self.by_subject
                .entry((place.0.clone(), subject.clone()))
                .or_default()
                .insert(place.1.clone(), Arc::clone(&binding));
        }
        self.bindings.insert(place, binding);
    }

    /// The rules of a role; those of a Role lie in the namespace.
    pub(super) fn role(&self, namespace: &str, kind: &str, name: &str) -> Option<Arc<[Rule]>> {
        match kind {
            "Role" => self.roles.get(&(namespace.to_owned(), name.to_owned())),
            _ => self.cluster_roles.get(name),
        }
        .cloned()
    }

    /// Calls `visit` with every binding that gives a user something in a namespace, first
    /// those that count everywhere, until it answers with something.
    fn visit<T>(
        &self,
        identity: &Identity,
        namespace: &str,
        mut visit: impl FnMut(&Binding, &str, Option<Arc<[Rule]>>) -> Option<T>,
    ) -> Option<T> {
        let mut places = vec![""];
        if !namespace.is_empty() {
            places.push(namespace);
        }
        let subjects: Vec<Subject> = std::iter::once(Subject::User(identity.name.clone()))
            .chain(identity.groups.iter().cloned().map(Subject::Group))
            .collect();
        for place in places {
            let mut done: HashSet<&str> = HashSet::new();
            for subject in &subjects {
                let slot = (place.to_owned(), subject.clone());
                for (name, binding) in self.by_subject.get(&slot).into_iter().flatten() {
                    if !done.insert(name) {
                        continue;
                    }
                    let shown = binding
                        .subjects
                        .iter()
                        .find(|(one, _)| one == subject)
                        .map_or("", |(_, shown)| shown.as_str());
                    let rules = self.role(place, &binding.role_kind, &binding.role_name);
                    if let Some(found) = visit(binding, shown, rules) {
                        return Some(found);
                    }
                }
            }
        }
        None
    }

    /// Whether somebody may do something, and by which binding, or why it is not known.
    pub(super) fn judge(&self, attributes: &Attributes<'_>) -> Decision {
        let mut problems = Vec::new();
        let namespace = attributes.namespace();
        let allowed = self.visit(attributes.identity, namespace, |binding, subject, rules| {
            let Some(rules) = rules else {
                problems.push(binding.missing());
                return None;
            };
            rules
                .iter()
                .any(|rule| rule.allows(attributes))
                .then(|| binding.reason(subject))
        });
        match allowed {
            Some(reason) => Decision::Allow(reason),
            None if problems.is_empty() => Decision::Deny(String::new()),
            None => Decision::Deny(format!("RBAC: {}", joined(&problems))),
        }
    }

    /// Everything that somebody may do in a namespace.
    pub(super) fn rules_of(&self, identity: &Identity, namespace: &str) -> Rights {
        let mut rights = Rights::default();
        self.visit(identity, namespace, |binding, _, rules| -> Option<()> {
            match rules {
                Some(rules) => rights.rules.extend(rules.iter().cloned()),
                None => rights.problems.push(binding.missing()),
            }
            None
        });
        rights
    }
}

impl Binding {
    fn reason(&self, subject: &str) -> String {
        let Self {
            role_kind,
            role_name,
            ..
        } = self;
        let binding = if self.namespace.is_empty() {
            format!("ClusterRoleBinding {:?}", self.name)
        } else {
            format!("RoleBinding \"{}/{}\"", self.name, self.namespace)
        };
        format!("RBAC: allowed by {binding} of {role_kind} {role_name:?} to {subject}")
    }

    fn missing(&self) -> String {
        let kind = self.role_kind.to_lowercase();
        format!(
            "{kind}.rbac.authorization.k8s.io {:?} not found",
            self.role_name
        )
    }
}

/// Several errors as Go shows them.
fn joined(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn rules_in(role: &Value) -> Arc<[Rule]> {
    role.get("rules")
        .and_then(|rules| Vec::<Rule>::deserialize(rules).ok())
        .unwrap_or_default()
        .into()
}

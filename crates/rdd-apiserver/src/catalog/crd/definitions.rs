//! The one who knows every definition: decides on names, and puts resources into the
//! catalog.
//!
//! It hears of a write twice: from the task that made it, before it is answered, and
//! in order from the store's change stream, which also carries the writes of other
//! replicas and of the time before a restart. Revisions make the second time harmless.
//!
//! What was decided is served once it stands in the definition's status: who has seen a
//! resource and then changes its definition must meet no later write of the server's.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rdd_store::Revision;
use serde_json::Value;
use tokio::sync::watch;

use super::names::Conflict;
use super::{
    conditions,
    names::{self, Claims},
    resources,
};
use crate::{
    catalog::{CatalogHandle, CustomOrigin, Terminating},
    object::{is_deleting, meta},
};

/// How many deletions are remembered, so that the report of an older write that comes
/// late does not bring a definition back. Reports are late by microseconds.
const GONE_MAX: usize = 1024;

/// How long the answer to a creation waits at most until the resource is served.
const SERVED_WITHIN: Duration = Duration::from_secs(2);

/// What was decided about a definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// `status.acceptedNames`.
    pub accepted: Value,
    /// The name that somebody else holds.
    pub conflict: Option<Conflict>,
    /// Whether the stored status says, or once said, that the resource is served.
    pub established: bool,
}

/// Every definition, and what is served of it.
#[derive(Default)]
pub struct Definitions {
    catalog: OnceLock<Weak<CatalogHandle>>,
    state: Mutex<State>,
    /// Notified of every write that was observed.
    observed: watch::Sender<()>,
    keepers: AtomicUsize,
}

#[derive(Default)]
struct State {
    known: BTreeMap<String, Known>,
    gone: VecDeque<(String, Revision)>,
    /// The definitions whose verdict is another one since somebody asked.
    judged_anew: BTreeSet<String>,
}

/// Somebody writes down what is decided, for as long as this lives.
pub(crate) struct Keeper(Arc<Definitions>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.keepers.fetch_sub(1, Ordering::AcqRel);
        self.0.observed.send_replace(());
    }
}

struct Known {
    uid: String,
    group: String,
    /// The newest write that was observed.
    revision: Revision,
    spec: Value,
    /// The write since which `spec` is as it is.
    spec_revision: Revision,
    verdict: Verdict,
    terminating: Terminating,
    /// What the catalog holds: names and specification since this revision.
    served: Option<(Value, Revision)>,
    /// It has all names that it asks for.
    is_content: bool,
    /// The catalog holds something else than what should be served.
    is_behind: bool,
}

impl Definitions {
    /// Says where the resources go.
    pub(super) fn attach(&self, catalog: &Arc<CatalogHandle>) {
        // Attached once, by the constructor of both.
        let _ = self.catalog.set(Arc::downgrade(catalog));
    }

    /// Takes note of a write: `object` is the definition as it is now, absent when it
    /// is gone. What follows from it is served when this returns.
    pub fn observe(&self, name: &str, object: Option<&Value>, revision: Revision) {
        let mut state = self.state.lock();
        let newest = state.known.get(name).map(|known| known.revision);
        let gone = state
            .gone
            .iter()
            .any(|(gone, at)| gone == name && *at >= revision);
        if gone || newest.is_some_and(|newest| newest >= revision) {
            return;
        }
        let group = match object {
            Some(object) => {
                let known = Known::next(state.known.remove(name), object, revision);
                let group = known.group.clone();
                state.known.insert(name.to_owned(), known);
                group
            }
            None => {
                state.gone.push_back((name.to_owned(), revision));
                if state.gone.len() > GONE_MAX {
                    state.gone.pop_front();
                }
                let Some(known) = state.known.remove(name) else {
                    return;
                };
                if known.served.is_some() {
                    self.update(|catalog| catalog.remove_custom(name));
                }
                known.group
            }
        };
        state.decide(&group);
        self.serve(&mut state, &group);
        drop(state);
        self.observed.send_replace(());
    }

    /// Says that somebody writes down from now on what is decided.
    pub(crate) fn keep(self: &Arc<Self>) -> Keeper {
        self.keepers.fetch_add(1, Ordering::AcqRel);
        Keeper(Arc::clone(self))
    }

    /// Ends when nothing is to be written down about this definition any more: it is
    /// served, refused or on its way out, or nobody writes. Never later than
    /// [`SERVED_WITHIN`]: by then its status tells what it waits for.
    pub(super) async fn settled(&self, name: &str) {
        let mut observed = self.observed.subscribe();
        let settled = async {
            while self.keepers.load(Ordering::Acquire) > 0 && self.is_unsettled(name) {
                if observed.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(SERVED_WITHIN, settled).await.is_err() {
            tracing::warn!(
                definition = name,
                "the status of a definition is written late"
            );
        }
    }

    fn is_unsettled(&self, name: &str) -> bool {
        let state = self.state.lock();
        state.known.get(name).is_some_and(|known| {
            let Verdict {
                conflict,
                established,
                ..
            } = &known.verdict;
            conflict.is_none() && !established && !known.terminating.get()
        })
    }

    /// What was decided about a definition.
    #[must_use]
    pub fn verdict(&self, name: &str) -> Option<Verdict> {
        let state = self.state.lock();
        state.known.get(name).map(|known| known.verdict.clone())
    }

    /// The definitions of which something else was decided since the last call.
    #[must_use]
    pub(crate) fn judged_anew(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.state.lock().judged_anew)
    }

    fn update(&self, change: impl FnOnce(&mut crate::catalog::Catalog)) {
        if let Some(catalog) = self.catalog.get().and_then(Weak::upgrade) {
            catalog.update(change);
        }
    }

    /// Brings the catalog in line with what was decided in a group.
    fn serve(&self, state: &mut State, group: &str) {
        for (name, known) in &mut state.known {
            if !known.is_behind || known.group != group {
                continue;
            }
            let origin = CustomOrigin {
                crd_name: name.clone(),
                crd_uid: known.uid.clone(),
                revision: known.revision,
                terminating: known.terminating.clone(),
            };
            match resources::of(&known.spec, &known.verdict.accepted, &origin) {
                Ok(resources) => {
                    self.update(|catalog| {
                        catalog.remove_custom(name);
                        // A built-in group belongs to the server alone.
                        if catalog.group(group).is_none_or(|group| !group.builtin) {
                            for resource in resources {
                                catalog.insert(resource);
                            }
                        }
                    });
                    known.served = Some((known.verdict.accepted.clone(), known.spec_revision));
                    known.is_behind = false;
                }
                Err(error) => {
                    tracing::error!(definition = %name, %error, "definition cannot be served");
                }
            }
        }
    }
}

impl State {
    /// Decides on the names of a group: the older claim wins. Who has what it asks for
    /// is not looked at.
    fn decide(&mut self, group: &str) {
        let mut order: Vec<(bool, Revision, String)> = self
            .known
            .iter()
            .filter(|(_, known)| !known.is_content && known.group == group)
            .map(|(name, known)| {
                (
                    !known.verdict.established,
                    known.spec_revision,
                    name.clone(),
                )
            })
            .collect();
        order.sort();
        for (_, _, name) in order {
            let Some(known) = self.known.get(&name) else {
                continue;
            };
            let of_group = self.known.values().filter(|known| known.group == group);
            let claims = Claims::of(of_group.map(|known| &known.verdict.accepted));
            let (accepted, conflict) =
                names::decide(&known.spec["names"], &known.verdict.accepted, &claims);
            let verdict = Verdict {
                established: known.verdict.established,
                accepted,
                conflict,
            };
            let Some(known) = self.known.get_mut(&name) else {
                continue;
            };
            if known.verdict != verdict {
                known.verdict = verdict;
                self.judged_anew.insert(name);
            }
            known.take_stock();
        }
    }
}

impl Known {
    /// Compares what is with what should be, once per change.
    fn take_stock(&mut self) {
        let Verdict {
            accepted,
            conflict,
            established,
        } = &self.verdict;
        self.is_content = conflict.is_none() && *accepted == self.spec["names"];
        let is_served = self
            .served
            .as_ref()
            .is_some_and(|(names, revision)| names == accepted && *revision == self.spec_revision);
        self.is_behind = *established && !is_served;
    }

    /// What is known after a write, before names are decided.
    fn next(before: Option<Self>, object: &Value, revision: Revision) -> Self {
        let uid = meta(object, "uid");
        let spec = object["spec"].clone();
        let mut next = match before.filter(|known| known.uid == uid) {
            Some(known) => Self {
                spec_revision: if known.spec == spec {
                    known.spec_revision
                } else {
                    revision
                },
                spec,
                revision,
                ..known
            },
            None => Self {
                uid: uid.to_owned(),
                group: spec["group"].as_str().unwrap_or_default().to_owned(),
                revision,
                spec,
                spec_revision: revision,
                verdict: Verdict {
                    accepted: object["status"]["acceptedNames"].clone(),
                    conflict: None,
                    established: false,
                },
                terminating: Terminating::default(),
                served: None,
                is_content: false,
                is_behind: false,
            },
        };
        next.verdict.established |= conditions::is_true(object, "Established");
        if is_deleting(object) {
            next.terminating.raise();
        }
        next.take_stock();
        next
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::crd::served;

    fn definition(plural: &str, kind: &str, uid: &str) -> Value {
        json!({
            "metadata": {"name": format!("{plural}.example.com"), "uid": uid},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {
                    "plural": plural, "kind": kind, "singular": kind.to_lowercase(),
                    "listKind": format!("{kind}List"),
                },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }],
            },
            "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": null},
        })
    }

    fn kind(catalog: &CatalogHandle, plural: &str) -> Option<String> {
        let catalog = catalog.load();
        let resource = catalog.resource("example.com", "v1", plural)?;
        Some(resource.kind.clone())
    }

    fn established(plural: &str, kind: &str, uid: &str) -> Value {
        let mut object = definition(plural, kind, uid);
        object["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
        object
    }

    #[test]
    fn a_definition_is_served_once_its_status_says_so_and_gone_at_once() {
        let (catalog, definitions) = served();
        let name = "alphas.example.com";
        definitions.observe(name, Some(&definition("alphas", "Alpha", "1")), Revision(4));
        assert_eq!(kind(&catalog, "alphas"), None);
        definitions.observe(
            name,
            Some(&established("alphas", "Alpha", "1")),
            Revision(5),
        );
        assert_eq!(kind(&catalog, "alphas").as_deref(), Some("Alpha"));
        definitions.observe(name, None, Revision(7));
        assert_eq!(kind(&catalog, "alphas"), None);
        // A late report of an older write does not bring it back.
        definitions.observe(
            name,
            Some(&established("alphas", "Alpha", "1")),
            Revision(6),
        );
        assert_eq!(kind(&catalog, "alphas"), None);
    }

    #[test]
    fn a_clash_is_not_served_until_the_name_is_free() {
        let (catalog, definitions) = served();
        let (alphas, betas) = ("alphas.example.com", "betas.example.com");
        definitions.observe(
            alphas,
            Some(&established("alphas", "Alpha", "1")),
            Revision(1),
        );
        definitions.observe(betas, Some(&definition("betas", "Alpha", "2")), Revision(2));
        assert_eq!(definitions.judged_anew().len(), 2);
        let conflict = definitions
            .verdict(betas)
            .and_then(|verdict| verdict.conflict);
        assert_eq!(
            conflict.map(|conflict| conflict.reason),
            Some("ListKindConflict")
        );
        definitions.observe(alphas, None, Revision(3));
        assert_eq!(
            definitions.judged_anew().into_iter().collect::<Vec<_>>(),
            [betas]
        );
        let verdict = definitions.verdict(betas).expect("it is known");
        assert_eq!(verdict.conflict, None);
        assert_eq!(kind(&catalog, "betas"), None);
        definitions.observe(
            betas,
            Some(&established("betas", "Alpha", "2")),
            Revision(4),
        );
        assert_eq!(kind(&catalog, "betas").as_deref(), Some("Alpha"));
    }

    #[test]
    fn a_status_write_does_not_retire_the_resource_but_a_new_schema_does() {
        let (catalog, definitions) = served();
        let name = "alphas.example.com";
        let mut object = established("alphas", "Alpha", "1");
        definitions.observe(name, Some(&object), Revision(1));
        let first = catalog
            .load()
            .resource("example.com", "v1", "alphas")
            .cloned();
        let first = first.expect("the definition is served");
        object["metadata"]["deletionTimestamp"] = json!("2024-01-02T03:04:05Z");
        definitions.observe(name, Some(&object), Revision(2));
        assert!(!first.retired.is_cancelled());
        assert!(matches!(
            &first.origin,
            crate::catalog::Origin::Custom(custom) if custom.terminating.get()
        ));
        object["spec"]["versions"][0]["deprecated"] = json!(true);
        definitions.observe(name, Some(&object), Revision(3));
        assert!(first.retired.is_cancelled());
    }
}

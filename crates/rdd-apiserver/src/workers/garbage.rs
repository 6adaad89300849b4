//! Collects objects whose owners are gone.
//!
//! The graph holds what has owners, by uid, and forgets it with them; the store stays
//! the truth: before anything is deleted, the owner is looked up again. What happens to
//! a dependent is decided in [`judge`], a pure function.
//!
//! | Its owners | What happens |
//! |---|---|
//! | all gone | it is deleted, by its own finalizers in the foreground, orphaning or in the background |
//! | some live, some gone or waiting for their dependents | the dead references are removed |
//! | only some that wait for their dependents | it is deleted |
//! | of a kind that is not served | nothing, until it is |
//! | in another place than owners can be | nothing |

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rdd_store::{Entry, Key, Store};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Failure, Workers,
    front_door::{self, FrontDoor, Manager},
    queue::{Queue, Reconcile},
};
use crate::catalog::{Catalog, CatalogHandle, Resource};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// When an owner of a kind that is not served is looked for again.
const UNKNOWN_KIND: Duration = Duration::from_secs(30);

/// When an owner that waits for its dependents is looked at again without a reason.
const RECHECK: Duration = Duration::from_secs(10);

/// The part of an object that counts here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    api_version: String,
    kind: String,
    metadata: Metadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    uid: String,
    deletion_timestamp: Option<String>,
    finalizers: Vec<String>,
    owner_references: Vec<Owner>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    block_owner_deletion: Option<bool>,
}

impl Object {
    fn parse(entry: &Entry) -> Option<Self> {
        serde_json::from_slice(&entry.value).ok()
    }

    fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn has(&self, finalizer: &str) -> bool {
        self.metadata.finalizers.iter().any(|one| one == finalizer)
    }

    /// Whether it waits for its dependents.
    fn waits(&self) -> bool {
        self.is_deleting() && self.has(FOREGROUND)
    }
}

/// What the worker is called to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    /// An object with owners, by its key.
    Dependent(Key),
    /// An object that is being deleted and cares about its dependents, by its key.
    Owner(Key),
}

/// Who belongs to whom.
#[derive(Debug, Default)]
struct Graph {
    /// The dependents of an owner, by the owner's uid.
    dependents: HashMap<String, BTreeSet<Key>>,
    /// The owners of a dependent.
    owners: HashMap<Key, Vec<Owner>>,
    /// Owners that wait for their dependents, by uid.
    waiting: HashMap<String, Key>,
}

impl Graph {
    fn set_owners(&mut self, key: &Key, owners: Vec<Owner>) {
        for owner in self.owners.remove(key).into_iter().flatten() {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        for owner in &owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(key.clone());
        }
        if !owners.is_empty() {
            self.owners.insert(key.clone(), owners);
        }
    }

    /// Takes a change in; answers what has to be looked at.
    fn put(&mut self, key: &Key, object: &Object) -> Vec<Item> {
        let mut items = Vec::new();
        let owners = &object.metadata.owner_references;
        let before = self.owners.get(key).cloned().unwrap_or_default();
        if before != *owners {
            self.set_owners(key, owners.clone());
            if !owners.is_empty() {
                items.push(Item::Dependent(key.clone()));
            }
        }
        // A dependent that stops blocking may be what its owner waits for.
        for owner in before.iter().chain(owners) {
            if let Some(owner) = self.waiting.get(&owner.uid) {
                items.push(Item::Owner(owner.clone()));
            }
        }
        if object.is_deleting() && (object.has(ORPHAN) || object.has(FOREGROUND)) {
            if object.has(FOREGROUND) {
                self.waiting
                    .insert(object.metadata.uid.clone(), key.clone());
            }
            items.push(Item::Owner(key.clone()));
        } else {
            self.waiting.remove(&object.metadata.uid);
        }
        items
    }

    /// Forgets an object; answers what has to be looked at.
    fn remove(&mut self, key: &Key, uid: &str) -> Vec<Item> {
        let owners = self.owners.get(key).cloned().unwrap_or_default();
        self.set_owners(key, Vec::new());
        self.waiting.remove(uid);
        let dependents = self.dependents.get(uid).into_iter().flatten();
        let waiting = owners
            .iter()
            .filter_map(|owner| self.waiting.get(&owner.uid));
        dependents
            .map(|key| Item::Dependent(key.clone()))
            .chain(waiting.map(|key| Item::Owner(key.clone())))
            .collect()
    }
}

/// How one owner was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It lives.
    Solid,
    /// It is gone, or another object has its name.
    Dangling,
    /// It is being deleted and waits for its dependents.
    Waiting,
    /// Its kind is not served.
    Unknown,
    /// It cannot be the owner of such an object.
    Impossible,
}

/// What happens to a dependent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Keep,
    /// Looked at again later.
    Later,
    /// The references that are not solid are removed.
    Unlink,
    Delete,
}

fn judge(owners: &[State]) -> Judgement {
    let any = |state| owners.contains(&state);
    match () {
        () if owners.is_empty() || any(State::Impossible) => Judgement::Keep,
        () if any(State::Unknown) => Judgement::Later,
        () if !any(State::Solid) => Judgement::Delete,
        () if any(State::Dangling) || any(State::Waiting) => Judgement::Unlink,
        () => Judgement::Keep,
    }
}

/// Collects garbage.
pub(super) struct Worker {
    store: Arc<dyn Store>,
    catalog: Arc<CatalogHandle>,
    front_door: Arc<FrontDoor>,
    queue: Arc<Queue<Item>>,
    graph: Arc<Mutex<Graph>>,
}

/// What others tell the worker.
pub(super) struct Inbox {
    queue: Arc<Queue<Item>>,
    graph: Arc<Mutex<Graph>>,
}

impl Inbox {
    /// The whole state follows.
    pub(super) fn clear(&self) {
        *self.graph.lock() = Graph::default();
    }

    /// A key holds something new.
    pub(super) fn put(&self, entry: &Entry, previous: Option<&Entry>) {
        if is_exempt(&entry.key) {
            return;
        }
        // Most objects neither have owners nor care about dependents: a search for the
        // words is cheaper than parsing.
        let matters = |entry: &Entry| {
            contains(&entry.value, b"\"ownerReferences\"")
                || contains(&entry.value, b"\"deletionTimestamp\"")
        };
        if !matters(entry) && !previous.is_some_and(matters) {
            return;
        }
        let Some(object) = Object::parse(entry) else {
            return;
        };
        let items = self.graph.lock().put(&entry.key, &object);
        items.into_iter().for_each(|item| self.queue.push(item));
    }

    /// A key is empty now.
    pub(super) fn removed(&self, previous: &Entry) {
        if is_exempt(&previous.key) {
            return;
        }
        let Some(object) = Object::parse(previous) else {
            return;
        };
        let items = self
            .graph
            .lock()
            .remove(&previous.key, &object.metadata.uid);
        items.into_iter().for_each(|item| self.queue.push(item));
    }
}

/// Events neither own nor are owned.
fn is_exempt(key: &Key) -> bool {
    key.as_str().starts_with("/registry/events/")
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

impl Reconcile<Item> for Worker {
    async fn reconcile(&self, item: &Item) -> Result<(), Failure> {
        match item {
            Item::Dependent(key) => self.dependent(key).await,
            Item::Owner(key) => self.owner(key).await,
        }
    }
}

impl Worker {
    pub(super) fn new(workers: &Workers, front_door: Arc<FrontDoor>) -> Self {
        Self {
            store: Arc::clone(&workers.store),
            catalog: Arc::clone(&workers.catalog),
            front_door,
            queue: Arc::new(Queue::new(workers.metrics.queue("garbage"))),
            graph: Arc::default(),
        }
    }

    pub(super) fn inbox(&self) -> Inbox {
        Inbox {
            queue: Arc::clone(&self.queue),
            graph: Arc::clone(&self.graph),
        }
    }

    pub(super) async fn run(self) {
        self.queue.work(&self).await;
    }

    async fn read(&self, key: &Key) -> Result<Option<(Entry, Object)>, Failure> {
        let entry = self.store.get(key).await?;
        Ok(entry.and_then(|entry| {
            let object = Object::parse(&entry)?;
            Some((entry, object))
        }))
    }

    async fn dependent(&self, key: &Key) -> Result<(), Failure> {
        let Some((entry, object)) = self.read(key).await? else {
            return Ok(());
        };
        // What is being deleted goes when its finalizers do.
        if object.is_deleting() {
            return Ok(());
        }
        let catalog = self.catalog.load();
        let Some(resource) = resource_of(&catalog, &object.api_version, &object.kind) else {
            return Ok(());
        };
        let mut states = Vec::new();
        for owner in &object.metadata.owner_references {
            states.push(self.look_up(&catalog, &object, owner).await?);
        }
        let metadata = &object.metadata;
        let path = front_door::path(
            resource,
            metadata.namespace.as_deref(),
            Some(&metadata.name),
        );
        match judge(&states) {
            Judgement::Keep => Ok(()),
            Judgement::Later => {
                self.queue
                    .push_after(Item::Dependent(key.clone()), UNKNOWN_KIND);
                Ok(())
            }
            Judgement::Unlink => {
                let dead = |uid: &str| {
                    let mut owners = metadata.owner_references.iter().zip(&states);
                    owners.any(|(owner, state)| owner.uid == uid && *state != State::Solid)
                };
                self.unlink(&path, &entry, dead).await
            }
            Judgement::Delete => {
                let policy = if object.has(ORPHAN) {
                    "Orphan"
                } else if object.has(FOREGROUND)
                    || self.has_dependents_to_wait_for(&states, metadata)
                {
                    "Foreground"
                } else {
                    "Background"
                };
                let preconditions = json!({
                    "uid": metadata.uid, "resourceVersion": entry.revision.to_string(),
                });
                self.front_door
                    .delete(&path, policy, Some(preconditions))
                    .await?;
                Ok(())
            }
        }
    }

    /// Below an owner that waits, dependents with dependents of their own wait as well.
    fn has_dependents_to_wait_for(&self, owners: &[State], metadata: &Metadata) -> bool {
        owners.contains(&State::Waiting) && self.graph.lock().dependents.contains_key(&metadata.uid)
    }

    async fn look_up(
        &self,
        catalog: &Catalog,
        dependent: &Object,
        owner: &Owner,
    ) -> Result<State, Failure> {
        let Some(resource) = resource_of(catalog, &owner.api_version, &owner.kind) else {
            return Ok(State::Unknown);
        };
        let namespace = dependent.metadata.namespace.as_deref();
        if resource.is_namespaced() && namespace.is_none() {
            return Ok(State::Impossible);
        }
        let found = self.read(&resource.key(namespace, &owner.name)).await?;
        Ok(match found {
            Some((_, found)) if found.metadata.uid != owner.uid => State::Dangling,
            Some((_, found)) if found.waits() => State::Waiting,
            Some(_) => State::Solid,
            None => State::Dangling,
        })
    }

    /// Removes the references to owners that are dead.
    async fn unlink(
        &self,
        path: &str,
        entry: &Entry,
        dead: impl Fn(&str) -> bool,
    ) -> Result<(), Failure> {
        let Ok(object) = crate::object::parse_entry(entry) else {
            return Ok(());
        };
        let metadata = &object["metadata"];
        let kept: Vec<&Value> = metadata["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|owner| !dead(owner["uid"].as_str().unwrap_or_default()))
            .collect();
        let patch = json!({"metadata": {
            "uid": metadata["uid"],
            "resourceVersion": entry.revision.to_string(),
            "ownerReferences": if kept.is_empty() { Value::Null } else { json!(kept) },
        }});
        self.front_door
            .merge(Manager::Controllers, path, &patch)
            .await?;
        Ok(())
    }

    /// Lets an owner that is being deleted go once its dependents are orphaned or gone.
    async fn owner(&self, key: &Key) -> Result<(), Failure> {
        let Some((entry, object)) = self.read(key).await? else {
            return Ok(());
        };
        let finalizer = match () {
            () if !object.is_deleting() => return Ok(()),
            () if object.has(ORPHAN) => ORPHAN,
            () if object.has(FOREGROUND) => FOREGROUND,
            () => return Ok(()),
        };
        let catalog = self.catalog.load();
        let Some(resource) = resource_of(&catalog, &object.api_version, &object.kind) else {
            return Ok(());
        };
        let dependents = self.dependents_of(&object.metadata.uid).await?;
        if finalizer == ORPHAN {
            for (entry, dependent) in &dependents {
                let Some(resource) = resource_of(&catalog, &dependent.api_version, &dependent.kind)
                else {
                    continue;
                };
                let metadata = &dependent.metadata;
                let path = front_door::path(
                    resource,
                    metadata.namespace.as_deref(),
                    Some(&metadata.name),
                );
                self.unlink(&path, entry, |uid| uid == object.metadata.uid)
                    .await?;
            }
        } else {
            let mut blocked = false;
            for (entry, dependent) in &dependents {
                self.queue.push(Item::Dependent(entry.key.clone()));
                blocked |= dependent.metadata.owner_references.iter().any(|owner| {
                    owner.uid == object.metadata.uid && owner.block_owner_deletion == Some(true)
                });
            }
            if blocked {
                self.queue.push_after(Item::Owner(key.clone()), RECHECK);
                return Ok(());
            }
        }
        let metadata = &object.metadata;
        let kept: Vec<&String> = metadata
            .finalizers
            .iter()
            .filter(|one| *one != finalizer)
            .collect();
        let patch = json!({"metadata": {
            "uid": metadata.uid,
            "resourceVersion": entry.revision.to_string(),
            "finalizers": if kept.is_empty() { Value::Null } else { json!(kept) },
        }});
        let path = front_door::path(
            resource,
            metadata.namespace.as_deref(),
            Some(&metadata.name),
        );
        self.front_door
            .merge(Manager::Controllers, &path, &patch)
            .await?;
        Ok(())
    }

    async fn dependents_of(&self, uid: &str) -> Result<Vec<(Entry, Object)>, Failure> {
        let keys: Vec<Key> = {
            let graph = self.graph.lock();
            graph
                .dependents
                .get(uid)
                .into_iter()
                .flatten()
                .cloned()
                .collect()
        };
        let mut dependents = Vec::new();
        for key in keys {
            dependents.extend(self.read(&key).await?);
        }
        Ok(dependents)
    }
}

/// The resource of a kind, in this version or else in any other of its group.
fn resource_of<'a>(
    catalog: &'a Catalog,
    api_version: &str,
    kind: &str,
) -> Option<&'a Arc<Resource>> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    catalog.resource_of_kind(group, version, kind).or_else(|| {
        let versions = catalog.group(group)?.ordered_versions();
        versions
            .into_iter()
            .find_map(|version| catalog.resource_of_kind(group, version, kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(owners: &[State], expect: Judgement) {
        assert_eq!(judge(owners), expect, "{owners:?}");
    }

    #[test]
    fn only_what_has_no_living_owner_is_deleted() {
        use State::{Dangling, Impossible, Solid, Unknown, Waiting};
        check(&[], Judgement::Keep);
        check(&[Solid], Judgement::Keep);
        check(&[Dangling], Judgement::Delete);
        check(&[Dangling, Waiting], Judgement::Delete);
        check(&[Solid, Dangling], Judgement::Unlink);
        check(&[Solid, Waiting], Judgement::Unlink);
        check(&[Dangling, Unknown], Judgement::Later);
        check(&[Dangling, Impossible], Judgement::Keep);
    }

    fn object(uid: &str, owner: Option<&str>, deleting: Option<&str>) -> Object {
        Object {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            metadata: Metadata {
                uid: uid.to_owned(),
                deletion_timestamp: deleting.map(|_| "2024-01-02T03:04:05Z".to_owned()),
                finalizers: deleting.into_iter().map(str::to_owned).collect(),
                owner_references: owner
                    .into_iter()
                    .map(|uid| Owner {
                        uid: uid.to_owned(),
                        ..Owner::default()
                    })
                    .collect(),
                ..Metadata::default()
            },
        }
    }

    #[test]
    fn the_graph_calls_whom_a_change_concerns_and_forgets_what_is_gone() {
        let (owner, child) = (Key::new("/o"), Key::new("/c"));
        let mut graph = Graph::default();
        assert!(graph.put(&owner, &object("1", None, None)).is_empty());
        assert_eq!(
            graph.put(&child, &object("2", Some("1"), None)),
            [Item::Dependent(child.clone())]
        );
        // Nothing new.
        assert!(graph.put(&child, &object("2", Some("1"), None)).is_empty());
        assert_eq!(
            graph.put(&owner, &object("1", None, Some(FOREGROUND))),
            [Item::Owner(owner.clone())]
        );
        assert_eq!(graph.remove(&child, "2"), [Item::Owner(owner.clone())]);
        assert!(graph.remove(&owner, "1").is_empty());
        assert!(graph.owners.is_empty() && graph.dependents.is_empty());
        assert!(graph.waiting.is_empty());
    }

    #[test]
    fn a_dead_owner_calls_its_dependents() {
        let (owner, child) = (Key::new("/o"), Key::new("/c"));
        let mut graph = Graph::default();
        graph.put(&child, &object("2", Some("1"), None));
        assert_eq!(graph.remove(&owner, "1"), [Item::Dependent(child)]);
    }
}

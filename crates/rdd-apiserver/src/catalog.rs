//! Which resources are served, and how: the seam between the verbs and the types.
//!
//! A [`Catalog`] is an immutable snapshot. [`CatalogHandle`] swaps it: built-in
//! resources are put in once, those of a CustomResourceDefinition come and go.
//! A request takes the snapshot once and keeps it, so that it sees one schema
//! from its first byte to its last. A [`Resource`] that a new snapshot does not
//! carry over is *retired*: its watches end, and nobody else's.
//!
//! Everything that differs between types and is not data lives behind
//! [`Strategy`]: pure functions over JSON.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;
use tokio::sync::watch;

pub use crate::conversion::Conversion;

pub mod builtin;
mod client_config;
pub mod crd;
mod resource;
mod strategy;

pub use resource::{
    Cell, CustomOrigin, GroupVersionResource, Origin, PrinterColumn, Resource, ScalePaths, Scope,
    SelectableField, StorageForm, Subresource, Terminating, Verb, api_version,
};
pub use strategy::{Plain, Strategy, WriteContext};

/// The resources of one version of a group.
#[derive(Clone, Debug, Default)]
pub struct ApiVersion {
    /// By plural.
    pub resources: BTreeMap<String, Arc<Resource>>,
}

/// One API group.
#[derive(Clone, Debug)]
pub struct ApiGroup {
    /// Empty for the core group.
    pub name: String,
    /// Whether the group is compiled in. (No CRD may add to such a group.)
    pub builtin: bool,
    /// The served versions by name.
    pub versions: BTreeMap<String, ApiVersion>,
}

impl ApiGroup {
    /// The served versions, the preferred one first: GA descending, beta, alpha, then by name.
    #[must_use]
    pub fn ordered_versions(&self) -> Vec<&str> {
        let mut versions: Vec<&str> = self.versions.keys().map(String::as_str).collect();
        versions.sort_by(|a, b| compare_versions(a, b));
        versions
    }
}

/// Orders versions the way Kubernetes prefers them: `v2, v1, v2beta1, v1alpha1, foo`.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    match (parse_version(a), parse_version(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// (stability, major, minor): greater is preferred.
fn parse_version(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (major, rest) = rest.split_at(digits);
    if major.starts_with('0') {
        return None;
    }
    let major = major.parse().ok()?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    let (stability, minor) = match rest.strip_prefix("beta") {
        Some(minor) => (1, minor),
        None => (0, rest.strip_prefix("alpha")?),
    };
    if minor.starts_with('0') || !minor.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((stability, major, minor.parse().ok()?))
}

/// The served resources at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Counts the swaps; what is rendered from a snapshot may be cached under it.
    pub generation: u64,
    groups: BTreeMap<String, Arc<ApiGroup>>,
}

impl Catalog {
    /// The groups by name; the core group is the empty one.
    #[must_use]
    pub fn groups(&self) -> &BTreeMap<String, Arc<ApiGroup>> {
        &self.groups
    }

    /// The group of this name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Arc<ApiGroup>> {
        self.groups.get(name)
    }

    /// The resource that a URL names.
    #[must_use]
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.groups
            .get(group)?
            .versions
            .get(version)?
            .resources
            .get(plural)
    }

    /// The resource that an object's `apiVersion` and `kind` name.
    #[must_use]
    pub fn resource_of_kind(
        &self,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Option<&Arc<Resource>> {
        let version = self.groups.get(group)?.versions.get(version)?;
        version
            .resources
            .values()
            .find(|resource| resource.kind == kind)
    }

    /// Every resource in every served version.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.groups
            .values()
            .flat_map(|group| group.versions.values())
            .flat_map(|version| version.resources.values())
    }

    /// Adds a resource, or replaces the one in its place.
    pub fn insert(&mut self, resource: Resource) {
        let builtin = !resource.is_custom();
        let group = self
            .groups
            .entry(resource.group.clone())
            .or_insert_with(|| {
                Arc::new(ApiGroup {
                    name: resource.group.clone(),
                    builtin,
                    versions: BTreeMap::new(),
                })
            });
        Arc::make_mut(group)
            .versions
            .entry(resource.version.clone())
            .or_default()
            .resources
            .insert(resource.plural.clone(), Arc::new(resource));
    }

    /// Removes every version of the resource that this definition declares,
    /// and versions and groups that become empty with it.
    pub fn remove_custom(&mut self, crd_name: &str) {
        let declared = |resource: &Resource| matches!(&resource.origin, Origin::Custom(custom) if custom.crd_name == crd_name);
        // A definition's name is `<plural>.<group>`, so only one group is concerned.
        let Some((_, group_name)) = crd_name.split_once('.') else {
            return;
        };
        let Some(group) = self.groups.get_mut(group_name) else {
            return;
        };
        let group = Arc::make_mut(group);
        for version in group.versions.values_mut() {
            version.resources.retain(|_, resource| !declared(resource));
        }
        group
            .versions
            .retain(|_, version| !version.resources.is_empty());
        if group.versions.is_empty() {
            self.groups.remove(group_name);
        }
    }
}

/// The place where the current [`Catalog`] is found and swapped.
#[derive(Debug)]
pub struct CatalogHandle {
    current: RwLock<Arc<Catalog>>,
    changed: watch::Sender<u64>,
}

impl CatalogHandle {
    /// Starts with this snapshot.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        let changed = watch::Sender::new(catalog.generation);
        Self {
            current: RwLock::new(Arc::new(catalog)),
            changed,
        }
    }

    /// The current snapshot.
    #[must_use]
    pub fn load(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.read())
    }

    /// Swaps the snapshot for what `change` makes of it, and retires the resources
    /// that are no longer in it. Swaps are serialised; `change` must be quick.
    pub fn update(&self, change: impl FnOnce(&mut Catalog)) {
        let (before, after) = {
            let mut current = self.current.write();
            let mut next = Catalog::clone(&current);
            change(&mut next);
            next.generation = current.generation + 1;
            let next = Arc::new(next);
            (std::mem::replace(&mut *current, Arc::clone(&next)), next)
        };
        retire(&before, &after);
        self.changed.send_replace(after.generation);
    }

    /// Sees every later generation (the latest one, when several pass quickly).
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn retire(before: &Catalog, after: &Catalog) {
    let mut kept = HashSet::new();
    for (name, group) in &before.groups {
        let next = after.groups.get(name);
        if next.is_some_and(|next| Arc::ptr_eq(next, group)) {
            continue;
        }
        kept.clear();
        if let Some(next) = next {
            for resource in next
                .versions
                .values()
                .flat_map(|version| version.resources.values())
            {
                kept.insert(Arc::as_ptr(resource));
            }
        }
        for resource in group
            .versions
            .values()
            .flat_map(|version| version.resources.values())
        {
            if !kept.contains(&Arc::as_ptr(resource)) {
                resource.retired.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability_then_number() {
        let mut versions = vec![
            "foo1", "v1alpha1", "v10", "v2", "v1beta2", "v11beta1", "v1", "v01",
        ];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(
            versions,
            [
                "v10", "v2", "v1", "v11beta1", "v1beta2", "v1alpha1", "foo1", "v01"
            ]
        );
    }
}

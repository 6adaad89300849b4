//! Who was which object, all through a history.
//!
//! The store tells every object that was made and removed, whatever a watch made of it.
//! The engine's side is looked at after every step.

use std::collections::{BTreeMap, BTreeSet};

use rdd_engine::Fake;
use rdd_store::{ChangeKind, Revision, Store as _};
use sha2::{Digest as _, Sha256};

use crate::faults::FailingStore;

/// The kinds of mirrors whose objects are followed.
const KINDS: [&str; 3] = ["containers", "images", "volumes"];

/// Where mirrors are kept.
pub(super) fn key(kind: &str, name: &str) -> String {
    format!("/registry/containers.rancherdesktop.io/{kind}/default/{name}")
}

/// The names of the mirrors that an engine should have.
fn names(engine: &Fake) -> BTreeSet<String> {
    let hash = |bytes: Vec<u8>| hex::encode(Sha256::digest(bytes));
    let (containers, images, volumes) = engine.contents();
    let mut names: BTreeSet<String> = containers.into_iter().map(|found| found.id).collect();
    for image in images {
        if image.tags.is_empty() {
            names.insert(format!("img-{}", hash(image.id.clone().into_bytes())));
        }
        for tag in image.tags {
            names.insert(image_name(&image.id, &tag));
        }
    }
    let volume = |name: String| format!("vol-{}", hash(name.into_bytes()));
    names.extend(volumes.into_iter().map(|found| volume(found.name)));
    names
}

fn image_name(id: &str, tag: &str) -> String {
    let bytes = [id.as_bytes(), &[0], tag.as_bytes()].concat();
    format!("img-{}", hex::encode(Sha256::digest(bytes)))
}

/// What could take a mirror's identity away.
pub(super) struct Identities {
    begin: Revision,
    /// The mirrors that there were then.
    before: BTreeSet<String>,
    /// The mirrors that there should be now.
    there: BTreeSet<String>,
    /// How often what a mirror shows went.
    went: BTreeMap<String, usize>,
    /// How often a user may have removed a mirror.
    removed: BTreeMap<String, usize>,
    /// The store when what a mirror shows first went.
    first: BTreeMap<String, Revision>,
}

impl Identities {
    /// From now on, when every mirror is what it should be.
    pub(super) fn begin(store: &FailingStore, engine: &Fake) -> Self {
        Self {
            begin: store.revision(),
            before: names(engine),
            there: names(engine),
            went: BTreeMap::new(),
            removed: BTreeMap::new(),
            first: BTreeMap::new(),
        }
    }

    /// After a step that began when the store was there.
    pub(super) fn look(&mut self, before: Revision, engine: &Fake) {
        let now = names(engine);
        for name in self.there.difference(&now) {
            *self.went.entry(name.clone()).or_default() += 1;
            self.first.entry(name.clone()).or_insert(before);
        }
        self.there = now;
    }

    /// A user removed a mirror, or may have.
    pub(super) fn removed(&mut self, name: &str) {
        *self.removed.entry(name.to_owned()).or_default() += 1;
    }

    /// A user removed an image's mirror. The engine knows the tag only, which may be
    /// another image's by now.
    pub(super) fn tag_removed(&mut self, tag: &str, ids: impl Iterator<Item = String>) {
        for id in ids {
            self.removed(&image_name(&id, tag));
        }
    }

    /// Whether no user removed a mirror of this name.
    pub(super) fn is_first(&self, name: &str) -> bool {
        !self.removed.contains_key(name)
    }

    /// Panics when a mirror was another object than before without a reason, or went
    /// before what it shows.
    pub(super) async fn judge(&self, store: &FailingStore) {
        let before = self.before.iter().cloned();
        let mut made: BTreeMap<String, usize> = before.map(|name| (name, 1)).collect();
        let mut changes = store.changes(self.begin).expect("the store remembers it");
        let mut seen = self.begin;
        while seen < store.revision() {
            let batch = changes.next().await.expect("the store is open");
            for change in batch.expect("the store remembers it") {
                seen = change.revision;
                let of_kind = |kind: &&str| change.key.as_str().strip_prefix(&key(kind, ""));
                let Some(name) = KINDS.iter().find_map(of_kind) else {
                    continue;
                };
                let asked = self.removed.get(name).copied().unwrap_or_default();
                match &change.kind {
                    ChangeKind::Put { previous: None, .. } => {
                        let made = made.entry(name.to_owned()).or_default();
                        *made += 1;
                        let went = self.went.get(name).copied().unwrap_or_default();
                        assert!(
                            *made <= 1 + went + asked,
                            "{name} was made {made} times, although what it shows went {went} times, and a user removed it {asked} times"
                        );
                    }
                    ChangeKind::Put { .. } => {}
                    ChangeKind::Delete { .. } => {
                        let gone = self.first.get(name);
                        assert!(
                            asked > 0 || gone.is_some_and(|gone| *gone <= change.revision),
                            "{name} was removed, although nobody asked for it and what it shows was there"
                        );
                    }
                }
            }
        }
    }
}

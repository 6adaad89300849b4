//! Reads the store's changes and tells every worker what concerns it.

use std::sync::Arc;

use rdd_store::{Change, ChangeKind, KeyRange, ReadAt, Store};

use super::{Error, aggregation, definitions, garbage, namespaces, policies};
use crate::{catalog::crd::Definitions, object};

/// Where CustomResourceDefinitions are kept.
pub(super) const DEFINITIONS: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";

/// Where Namespaces are kept.
pub(super) const NAMESPACES: &str = "/registry/namespaces/";

/// One reader for all workers.
pub(super) struct Feed {
    pub(super) store: Arc<dyn Store>,
    pub(super) known: Arc<Definitions>,
    pub(super) definitions: definitions::Inbox,
    pub(super) namespaces: namespaces::Inbox,
    pub(super) garbage: garbage::Inbox,
    pub(super) aggregation: aggregation::Inbox,
    pub(super) policies: policies::Inbox,
}

impl Feed {
    /// Shows everybody the whole state, then every change. Falling behind what the
    /// store remembers means beginning again with the whole state.
    pub(super) async fn run(self) -> Result<(), Error> {
        loop {
            let everything = KeyRange::prefix("/registry/");
            let page = self.store.list(&everything, ReadAt::Latest, None).await?;
            self.garbage.clear();
            for entry in &page.entries {
                self.put(entry, None);
            }
            let revision = page.revision;
            drop(page);
            let mut changes = match self.store.changes(revision) {
                Ok(changes) => changes,
                Err(rdd_store::Error::Compacted { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            loop {
                match changes.next().await {
                    None => return Ok(()),
                    Some(Ok(batch)) => batch.iter().for_each(|change| self.change(change)),
                    Some(Err(rdd_store::Error::Compacted { .. })) => break,
                    Some(Err(error)) => return Err(error.into()),
                }
            }
        }
    }

    fn change(&self, change: &Change) {
        match &change.kind {
            ChangeKind::Put { entry, previous } => self.put(entry, previous.as_ref()),
            ChangeKind::Delete { previous } => {
                let key = change.key.as_str();
                if let Some(name) = key.strip_prefix(DEFINITIONS) {
                    self.known.observe(name, None, change.revision);
                    self.push_judged(name);
                }
                self.definitions.removed(key);
                self.namespaces.removed(key);
                self.aggregation.changed(key);
                if let Some(previous) = previous {
                    self.garbage.removed(previous);
                }
            }
        }
    }

    fn put(&self, entry: &rdd_store::Entry, previous: Option<&rdd_store::Entry>) {
        let key = entry.key.as_str();
        if let Some(name) = key.strip_prefix(DEFINITIONS) {
            if let Ok(definition) = object::parse_entry(entry) {
                self.known.observe(name, Some(&definition), entry.revision);
            }
            self.push_judged(name);
        }
        self.namespaces.changed(key);
        self.aggregation.changed(key);
        self.policies.changed(key);
        self.garbage.put(entry, previous);
    }

    /// Names are decided per group, so a change of one definition may concern others.
    fn push_judged(&self, name: &str) {
        self.definitions.push(name);
        for other in self.known.judged_anew() {
            self.definitions.push(&other);
        }
    }
}

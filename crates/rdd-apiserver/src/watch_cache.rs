//! Recent changes per resource, for watchers.
//!
//! ```text
//! store.changes ──▶ Feed (one task) ──▶ ring per collection ◀── Subscription (a position, no queue)
//!                        └─▶ progress: every change up to here is in its ring
//! ```
//!
//! Guarantees: a [`Subscription`] sees every change of its collection after its
//! revision, in order, once. One that falls out of the ring is told so and ends;
//! it costs nothing while it is slow. The bytes of an event are made once and
//! shared. A collection is what shares a key prefix: core and `events.k8s.io`
//! events are one.
//!
//! The rings hold references to what the store's own window holds, and never
//! outlive it, so their memory is bounded by the store's. Labels are parsed when
//! the first selector asks and kept; other fields are parsed per selector, since
//! names and namespaces, which nearly all field selectors ask for, stand in the key.
//!
//! Rejected: a queue per watcher (a slow one costs memory, a burst costs watchers ×
//! events), and reading the store's window directly (every watcher would be woken
//! by, and skip over, every change of every resource).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rdd_store::{Change, ChangeKind, Entry, Revision, Store};
use serde::Deserialize;
use tokio::sync::{OnceCell, watch};

/// Changes that one ring keeps. Kubernetes keeps up to 100,000 by load; a watcher
/// that reconnects within minutes finds its place in this.
const RING_MAX: usize = 10_000;

/// How many changes a subscription takes at once, so that one watcher that is far
/// behind does not hold the lock for long.
const BATCH_MAX: usize = 500;

/// The kinds of a watch event that carries an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// It is there now.
    Added,
    /// It changed.
    Modified,
    /// It is gone.
    Deleted,
}

impl EventType {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// The labels of one state of an object.
pub type Labels = BTreeMap<String, String>;

/// A change as all watchers share it.
#[derive(Debug)]
pub struct WatchChange {
    /// The write.
    pub change: Arc<Change>,
    /// `name` or `namespace/name`.
    place_at: usize,
    new_labels: OnceLock<Labels>,
    old_labels: OnceLock<Labels>,
    /// Finished lines by `apiVersion` and event type; nearly always one entry.
    lines: Mutex<Vec<(String, EventType, Bytes)>>,
    /// The same write in other versions of its resource.
    versions: Mutex<Vec<(String, SharedChange)>>,
}

/// A change that is made once, by whoever needs it first.
type SharedChange = Arc<OnceCell<Arc<WatchChange>>>;

impl WatchChange {
    fn new(change: Arc<Change>, place_at: usize) -> Self {
        Self {
            change,
            place_at,
            new_labels: OnceLock::new(),
            old_labels: OnceLock::new(),
            lines: Mutex::new(Vec::new()),
            versions: Mutex::new(Vec::new()),
        }
    }

    /// The same write in another version of the resource: made by `convert` from the new
    /// and the old entry for the first watcher that asks, and shared with the others.
    ///
    /// # Errors
    /// Those of `convert`; the next watcher tries again.
    pub(crate) async fn in_version<E, F>(
        &self,
        api_version: &str,
        convert: impl FnOnce(Vec<Entry>) -> F,
    ) -> Result<Arc<WatchChange>, E>
    where
        F: Future<Output = Result<Vec<Entry>, E>>,
    {
        let cell = {
            let mut versions = self.versions.lock();
            match versions.iter().find(|(known, _)| known == api_version) {
                Some((_, cell)) => Arc::clone(cell),
                None => {
                    let cell = Arc::new(OnceCell::new());
                    versions.push((api_version.to_owned(), Arc::clone(&cell)));
                    cell
                }
            }
        };
        let make = || async {
            let states = [self.new_entry(), self.old_entry()];
            let given = states.iter().flatten().copied().cloned().collect();
            let mut made = convert(given).await?.into_iter();
            let mut next = |state: Option<&Entry>| state.and_then(|_| made.next());
            let (new, old) = (next(states[0]), next(states[1]));
            let kind = match new {
                Some(entry) => ChangeKind::Put {
                    entry,
                    previous: old,
                },
                None => ChangeKind::Delete { previous: old },
            };
            let change = Change {
                kind,
                key: self.change.key.clone(),
                ..*self.change
            };
            Ok(Arc::new(WatchChange::new(Arc::new(change), self.place_at)))
        };
        cell.get_or_try_init(make).await.map(Arc::clone)
    }

    /// The write's revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.change.revision
    }

    /// `name` or `namespace/name`.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.change.key.as_str()[self.place_at..]
    }

    /// The state after the write.
    #[must_use]
    pub fn new_entry(&self) -> Option<&Entry> {
        match &self.change.kind {
            ChangeKind::Put { entry, .. } => Some(entry),
            ChangeKind::Delete { .. } => None,
        }
    }

    /// The state before the write.
    #[must_use]
    pub fn old_entry(&self) -> Option<&Entry> {
        match &self.change.kind {
            ChangeKind::Put { previous, .. } | ChangeKind::Delete { previous } => previous.as_ref(),
        }
    }

    /// The labels after the write.
    #[must_use]
    pub fn new_labels(&self) -> &Labels {
        self.new_labels.get_or_init(|| labels_of(self.new_entry()))
    }

    /// The labels before the write.
    #[must_use]
    pub fn old_labels(&self) -> &Labels {
        self.old_labels.get_or_init(|| labels_of(self.old_entry()))
    }

    /// The line of this event in this version, made by the first watcher that needs it.
    ///
    /// # Errors
    /// What `make` says; nothing is remembered then.
    pub fn line<E>(
        &self,
        api_version: &str,
        event_type: EventType,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let mut lines = self.lines.lock();
        let made = lines
            .iter()
            .find(|(version, r#type, _)| version == api_version && *r#type == event_type);
        if let Some((_, _, line)) = made {
            return Ok(line.clone());
        }
        let line = make()?;
        lines.push((api_version.to_owned(), event_type, line.clone()));
        Ok(line)
    }
}

/// The labels in stored bytes, without building the rest of the object.
#[must_use]
pub fn labels_of(entry: Option<&Entry>) -> Labels {
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        labels: Labels,
    }
    #[derive(Deserialize)]
    struct Stored {
        metadata: Metadata,
    }
    entry
        .and_then(|entry| serde_json::from_slice::<Stored>(&entry.value).ok())
        .map(|stored| stored.metadata.labels)
        .unwrap_or_default()
}

/// Recent changes of one collection.
#[derive(Debug)]
struct Ring {
    changes: VecDeque<Arc<WatchChange>>,
    /// Changes up to and including this one are no longer here.
    floor: Revision,
}

#[derive(Debug)]
struct Collection {
    ring: RwLock<Ring>,
    /// The newest revision in the ring; wakes the collection's watchers.
    newest: watch::Sender<Revision>,
}

/// The rings of all collections.
#[derive(Debug)]
pub struct WatchCache {
    collections: RwLock<HashMap<String, Arc<Collection>>>,
    progress: watch::Sender<Revision>,
    /// Where the feed began.
    start: Revision,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The changes after the position are no longer known.
    #[error("the position is no longer in the ring")]
    Behind {
        /// The oldest position that could be taken up.
        floor: Revision,
    },
    /// The server stops.
    #[error("the watch cache is closed")]
    Closed,
}

impl WatchCache {
    /// An empty cache, and the work of filling it from the store, which ends when
    /// the store closes.
    pub fn new(store: Arc<dyn Store>) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let start = store.floor();
        let cache = Arc::new(Self {
            collections: RwLock::default(),
            progress: watch::Sender::new(start),
            start,
        });
        let feed = feed(Arc::clone(&cache), store);
        (cache, feed)
    }

    /// The revision up to which every change is in its ring.
    #[must_use]
    pub fn progress(&self) -> Revision {
        *self.progress.borrow()
    }

    /// Waits until every change up to this one is in its ring.
    ///
    /// # Errors
    /// `Closed` when the feed ended.
    pub async fn reached(&self, revision: Revision) -> Result<(), Ended> {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|now| *now >= revision).await;
        reached.map(|_| ()).map_err(|_| Ended::Closed)
    }

    /// A place behind `after` in a collection, named by its key prefix.
    ///
    /// # Errors
    /// `Behind` when changes after it are no longer known.
    pub fn subscribe(
        self: &Arc<Self>,
        prefix: &str,
        after: Revision,
    ) -> Result<Subscription, Ended> {
        let collection = self.collection(prefix);
        let floor = collection.ring.read().floor;
        if after < floor {
            return Err(Ended::Behind { floor });
        }
        let newest = collection.newest.subscribe();
        let progress = self.progress.subscribe();
        Ok(Subscription {
            collection,
            newest,
            progress,
            after,
        })
    }

    fn collection(&self, prefix: &str) -> Arc<Collection> {
        if let Some(collection) = self.collections.read().get(prefix) {
            return Arc::clone(collection);
        }
        let mut collections = self.collections.write();
        let collection = collections.entry(prefix.to_owned()).or_insert_with(|| {
            Arc::new(Collection {
                ring: RwLock::new(Ring {
                    changes: VecDeque::new(),
                    floor: self.start,
                }),
                newest: watch::Sender::new(self.start),
            })
        });
        Arc::clone(collection)
    }

    fn append(&self, change: Arc<Change>, floor: Revision) {
        let key = change.key.as_str();
        let revision = change.revision;
        let prefix_length = collection_prefix(key).len();
        let collection = self.collection(&key[..prefix_length]);
        {
            let mut ring = collection.ring.write();
            let unknown_before = matches!(change.kind, ChangeKind::Delete { previous: None });
            if unknown_before {
                // History read from disk does not tell what was deleted, so no watcher
                // can be served across this change.
                ring.changes.clear();
                ring.floor = revision;
            } else {
                ring.changes
                    .push_back(Arc::new(WatchChange::new(change, prefix_length)));
            }
            while ring.changes.len() > RING_MAX
                || ring
                    .changes
                    .front()
                    .is_some_and(|oldest| oldest.revision() <= floor)
            {
                if let Some(oldest) = ring.changes.pop_front() {
                    ring.floor = oldest.revision();
                }
            }
        }
        collection.newest.send_replace(revision);
    }
}

/// `/registry/<resource>/` or `/registry/<group>/<resource>/`. Only groups have dots.
fn collection_prefix(key: &str) -> &str {
    let mut slashes = key.match_indices('/').map(|(at, _)| at).skip(1);
    let Some(first) = slashes.next() else {
        return key;
    };
    let Some(second) = slashes.next() else {
        return &key[..=first];
    };
    let segment = &key[first + 1..second];
    if segment.contains('.') {
        slashes.next().map_or(key, |third| &key[..=third])
    } else {
        &key[..=second]
    }
}

async fn feed(cache: Arc<WatchCache>, store: Arc<dyn Store>) {
    let mut stream = match store.changes(cache.start) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::error!(%error, "the watch cache cannot follow the store");
            return;
        }
    };
    while let Some(batch) = stream.next().await {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(%error, "the watch cache lost the store's changes");
                return;
            }
        };
        let Some(newest) = batch.last().map(|change| change.revision) else {
            continue;
        };
        let floor = store.floor();
        for change in batch {
            cache.append(change, floor);
        }
        cache.progress.send_replace(newest);
    }
}

/// One watcher's place.
#[derive(Debug)]
pub struct Subscription {
    collection: Arc<Collection>,
    newest: watch::Receiver<Revision>,
    progress: watch::Receiver<Revision>,
    after: Revision,
}

impl Subscription {
    /// Waits for changes behind the place and takes them, oldest first.
    /// Cancelling the wait loses nothing.
    ///
    /// # Errors
    /// `Behind` when they were dropped before they could be taken.
    pub async fn next(&mut self) -> Result<Vec<Arc<WatchChange>>, Ended> {
        loop {
            // Marked before looking, so that a change in between wakes the wait below.
            self.newest.borrow_and_update();
            let batch = self.take()?;
            if !batch.is_empty() {
                return Ok(batch);
            }
            self.newest.changed().await.map_err(|_| Ended::Closed)?;
        }
    }

    /// The changes behind the place that are there now.
    ///
    /// # Errors
    /// `Behind` when they were dropped before they could be taken.
    pub fn take(&mut self) -> Result<Vec<Arc<WatchChange>>, Ended> {
        let ring = self.collection.ring.read();
        if self.after < ring.floor {
            return Err(Ended::Behind { floor: ring.floor });
        }
        let first = ring
            .changes
            .partition_point(|change| change.revision() <= self.after);
        let batch: Vec<_> = ring
            .changes
            .range(first..)
            .take(BATCH_MAX)
            .cloned()
            .collect();
        if let Some(last) = batch.last() {
            self.after = last.revision();
        }
        Ok(batch)
    }

    /// A revision up to which the collection has nothing that was not taken, and the
    /// changes that had to be taken to know it: what a bookmark may say afterwards.
    ///
    /// # Errors
    /// `Behind` as [`Subscription::take`].
    pub fn bookmark(&mut self) -> Result<(Revision, Vec<Arc<WatchChange>>), Ended> {
        let progress = *self.progress.borrow();
        let mut changes = Vec::new();
        loop {
            let batch = self.take()?;
            if batch.is_empty() {
                break;
            }
            changes.extend(batch);
        }
        self.after = self.after.max(progress);
        Ok((self.after, changes))
    }

    /// The place: everything up to here was taken.
    #[must_use]
    pub fn position(&self) -> Revision {
        self.after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdd_store::{Expect, Key, MemoryStore, PutOptions};

    async fn put(store: &dyn Store, key: &str, value: &'static str, expect: Expect) -> Revision {
        let options = PutOptions::default();
        let value = Bytes::from_static(value.as_bytes());
        store
            .put(&Key::new(key), value, expect, options)
            .await
            .expect("the write succeeds")
    }

    #[test]
    fn a_key_tells_its_collection() {
        let check = |key: &str, expect: &str| assert_eq!(collection_prefix(key), expect);
        check("/registry/configmaps/a/b", "/registry/configmaps/");
        check("/registry/namespaces/a.b", "/registry/namespaces/");
        check("/registry/e.io/things/a/b", "/registry/e.io/things/");
        check("/registry/e.io/things/a", "/registry/e.io/things/");
    }

    #[tokio::test]
    async fn subscribers_see_every_change_of_their_collection_once() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (cache, feed) = WatchCache::new(Arc::clone(&store));
        let feed = tokio::spawn(feed);
        let mut early = cache
            .subscribe("/registry/a.io/as/", cache.progress())
            .expect("now");
        let first = put(&*store, "/registry/a.io/as/x", "{}", Expect::Absent).await;
        put(&*store, "/registry/b.io/bs/x", "{}", Expect::Absent).await;
        let second = put(&*store, "/registry/a.io/as/x", "{}", Expect::At(first)).await;
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(
                early
                    .next()
                    .await
                    .expect("in the ring")
                    .iter()
                    .map(|c| c.revision()),
            );
        }
        assert_eq!(seen, [first, second]);
        let mut late = cache
            .subscribe("/registry/a.io/as/", first)
            .expect("in the ring");
        let changes = late.next().await.expect("in the ring");
        assert_eq!(changes.len(), 1);
        assert_eq!((changes[0].revision(), changes[0].place()), (second, "x"));
        store.close().await;
        feed.await.expect("the feed ends with the store");
    }

    #[tokio::test]
    async fn a_bookmark_counts_changes_of_other_collections() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (cache, feed) = WatchCache::new(Arc::clone(&store));
        let feed = tokio::spawn(feed);
        let mut idle = cache
            .subscribe("/registry/a.io/as/", cache.progress())
            .expect("now");
        let other = put(&*store, "/registry/b.io/bs/x", "{}", Expect::Absent).await;
        cache.reached(other).await.expect("the feed runs");
        let (revision, changes) = idle.bookmark().expect("in the ring");
        assert_eq!((revision, changes.len()), (other, 0));
        store.close().await;
        feed.await.expect("the feed ends with the store");
    }

    #[tokio::test]
    async fn who_falls_behind_is_told() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (cache, feed) = WatchCache::new(Arc::clone(&store));
        let feed = tokio::spawn(feed);
        let mut slow = cache
            .subscribe("/registry/a.io/as/", cache.progress())
            .expect("now");
        let mut revision = put(&*store, "/registry/a.io/as/x", "{}", Expect::Absent).await;
        for _ in 0..RING_MAX + 1 {
            revision = put(&*store, "/registry/a.io/as/x", "{}", Expect::At(revision)).await;
        }
        cache.reached(revision).await.expect("the feed runs");
        assert!(matches!(slow.next().await, Err(Ended::Behind { .. })));
        store.close().await;
        feed.await.expect("the feed ends with the store");
    }
}

//! The part that all back ends share: the current state, and the window of recent changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::key::{Key, KeyRange};
use crate::revision::Revision;
use crate::store::{Change, ChangeKind, Entry, Expect, Page, ReadAt, Stats};

/// Changes that the window keeps at most. A watcher that reconnects after ten
/// minutes at thirty writes a second still finds its place.
const WINDOW_CHANGES: usize = 20_000;

/// Bytes of superseded values that the window keeps alive at most.
const WINDOW_BYTES: usize = 32 * 1024 * 1024;

/// Current state and recent changes; cheap to clone, one writer at a time.
#[derive(Clone, Debug)]
pub(crate) struct State {
    inner: Arc<RwLock<Inner>>,
    newest: Arc<watch::Sender<Revision>>,
}

#[derive(Debug, Default)]
struct Inner {
    current: BTreeMap<Key, Entry>,
    expiries: BTreeSet<(SystemTime, Key)>,
    expiry_of: BTreeMap<Key, SystemTime>,
    window: VecDeque<Arc<Change>>,
    window_bytes: usize,
    revision: Revision,
    floor: Revision,
    bytes: u64,
    closed: bool,
}

/// A reader's view of the window.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    inner: Arc<RwLock<Inner>>,
    newest: watch::Receiver<Revision>,
}

/// A write that has been decided and waits to become visible.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) change: Change,
    pub(crate) expires: Option<SystemTime>,
}

impl State {
    /// An empty state whose next write is the one after `revision`.
    pub(crate) fn new(revision: Revision) -> Self {
        let inner = Inner {
            revision,
            floor: revision,
            ..Inner::default()
        };
        Self {
            inner: Arc::new(RwLock::new(inner)),
            newest: Arc::new(watch::Sender::new(revision)),
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.inner.read().revision
    }

    pub(crate) fn floor(&self) -> Revision {
        self.inner.read().floor
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        self.inner.read().current.get(key).cloned()
    }

    pub(crate) fn list(&self, range: &KeyRange, at: ReadAt, limit: Option<usize>) -> Result<Page> {
        let inner = self.inner.read();
        match at {
            ReadAt::Exact(revision) if revision > inner.revision => Err(Error::Future {
                current: inner.revision,
            }),
            ReadAt::Exact(revision) if revision < inner.floor => {
                Err(Error::Compacted { floor: inner.floor })
            }
            ReadAt::Exact(revision) if revision < inner.revision => {
                Ok(inner.page_at(range, revision, limit))
            }
            ReadAt::Latest | ReadAt::Exact(_) => {
                let entries = inner.range(range);
                Ok(page(entries, inner.revision, limit))
            }
        }
    }

    /// Loads an entry without a change; only while opening.
    pub(crate) fn load(&self, entry: Entry, expires: Option<SystemTime>) {
        let mut inner = self.inner.write();
        inner.set_expiry(&entry.key, expires);
        inner.bytes += entry.value.len() as u64;
        inner.current.insert(entry.key.clone(), entry);
    }

    /// Sets the counter and the floor after loading.
    pub(crate) fn loaded(&self, revision: Revision, floor: Revision) {
        let mut inner = self.inner.write();
        inner.revision = inner.revision.max(revision);
        inner.floor = floor;
        self.newest.send_replace(inner.revision);
    }

    /// Makes decided writes visible, in order, and wakes the readers once.
    pub(crate) fn apply(&self, writes: impl IntoIterator<Item = Decided>) {
        let mut inner = self.inner.write();
        for write in writes {
            inner.apply(write);
        }
        inner.trim();
        self.newest.send_replace(inner.revision);
    }

    pub(crate) fn compact(&self, up_to: Revision) -> Revision {
        let mut inner = self.inner.write();
        let floor = up_to.min(inner.revision).max(inner.floor);
        while inner
            .window
            .front()
            .is_some_and(|change| change.revision <= floor)
        {
            inner.drop_oldest();
        }
        inner.floor = floor;
        floor
    }

    pub(crate) fn window(&self, after: Revision) -> Result<Window> {
        let inner = self.inner.read();
        if after < inner.floor {
            return Err(Error::Compacted { floor: inner.floor });
        }
        Ok(Window {
            inner: Arc::clone(&self.inner),
            newest: self.newest.subscribe(),
        })
    }

    /// The keys whose time is over, with the revision that may be deleted.
    pub(crate) fn expired(&self, now: SystemTime) -> Vec<(Key, Revision)> {
        let inner = self.inner.read();
        inner
            .expiries
            .iter()
            .take_while(|(at, _)| *at <= now)
            .filter_map(|(_, key)| Some((key.clone(), inner.current.get(key)?.revision)))
            .collect()
    }

    /// When the next key expires.
    pub(crate) fn next_expiry(&self) -> Option<SystemTime> {
        self.inner.read().expiries.first().map(|(at, _)| *at)
    }

    pub(crate) fn stats(&self) -> Stats {
        let inner = self.inner.read();
        Stats {
            entries: inner.current.len() as u64,
            bytes: inner.bytes,
            ..Stats::default()
        }
    }

    pub(crate) fn close(&self) {
        let mut inner = self.inner.write();
        inner.closed = true;
        self.newest.send_replace(inner.revision);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.read().closed
    }
}

/// Checks what a write expects against what is there.
pub(crate) fn check(current: Option<&Entry>, expect: Expect) -> Result<()> {
    let holds = match (current, expect) {
        (None, Expect::Absent) => true,
        (Some(entry), Expect::At(revision)) => entry.revision == revision,
        _ => false,
    };
    if holds {
        Ok(())
    } else {
        Err(Error::Conflict {
            current: current.cloned(),
        })
    }
}

impl Inner {
    fn range<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = &'a Entry> {
        self.current
            .range::<str, _>((range.start(), Bound::Unbounded))
            .take_while(|(key, _)| !range.is_past(key))
            .map(|(_, entry)| entry)
    }

    /// The range as it was: the current one with every later change undone.
    fn page_at(&self, range: &KeyRange, revision: Revision, limit: Option<usize>) -> Page {
        let mut then: BTreeMap<&Key, Option<&Entry>> = BTreeMap::new();
        let first = self
            .window
            .partition_point(|change| change.revision <= revision);
        for change in self.window.range(first..) {
            if range.contains(&change.key) {
                let previous = match &change.kind {
                    ChangeKind::Put { previous, .. } | ChangeKind::Delete { previous } => previous,
                };
                // The first change after the moment knows what was there.
                then.entry(&change.key).or_insert(previous.as_ref());
            }
        }
        for entry in self.range(range) {
            then.entry(&entry.key).or_insert(Some(entry));
        }
        page(then.into_values().flatten(), revision, limit)
    }

    fn apply(&mut self, write: Decided) {
        let change = write.change;
        self.revision = change.revision;
        let previous = match &change.kind {
            ChangeKind::Put { entry, previous } => {
                self.set_expiry(&change.key, write.expires);
                self.bytes += entry.value.len() as u64;
                self.current.insert(change.key.clone(), entry.clone());
                previous
            }
            ChangeKind::Delete { previous } => {
                self.set_expiry(&change.key, None);
                self.current.remove(&change.key);
                previous
            }
        };
        if let Some(previous) = previous {
            self.bytes = self.bytes.saturating_sub(previous.value.len() as u64);
            self.window_bytes += previous.value.len();
        }
        self.window.push_back(Arc::new(change));
    }

    fn trim(&mut self) {
        while self.window.len() > WINDOW_CHANGES || self.window_bytes > WINDOW_BYTES {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(change) = self.window.pop_front() else {
            return;
        };
        let (ChangeKind::Put { previous, .. } | ChangeKind::Delete { previous }) = &change.kind;
        let size = previous.as_ref().map_or(0, |entry| entry.value.len());
        self.window_bytes = self.window_bytes.saturating_sub(size);
        self.floor = change.revision;
    }

    fn set_expiry(&mut self, key: &Key, expires: Option<SystemTime>) {
        if let Some(old) = self.expiry_of.remove(key) {
            self.expiries.remove(&(old, key.clone()));
        }
        if let Some(at) = expires {
            self.expiry_of.insert(key.clone(), at);
            self.expiries.insert((at, key.clone()));
        }
    }
}

fn page<'a>(
    mut entries: impl Iterator<Item = &'a Entry>,
    revision: Revision,
    limit: Option<usize>,
) -> Page {
    let taken = entries.by_ref().take(limit.unwrap_or(usize::MAX));
    Page {
        entries: taken.cloned().collect(),
        revision,
        remaining: entries.count() as u64,
    }
}

impl Window {
    /// Waits until there are changes after `after`; `None` once the store is closed.
    pub(crate) async fn after(&mut self, after: Revision) -> Option<Result<Vec<Arc<Change>>>> {
        loop {
            // Marked before looking, so that a write in between wakes the wait below.
            self.newest.mark_unchanged();
            {
                let inner = self.inner.read();
                if after < inner.floor {
                    return Some(Err(Error::Compacted { floor: inner.floor }));
                }
                let first = inner
                    .window
                    .partition_point(|change| change.revision <= after);
                if first < inner.window.len() {
                    return Some(Ok(inner.window.range(first..).cloned().collect()));
                }
                if inner.closed {
                    return None;
                }
            }
            if self.newest.changed().await.is_err() {
                return None;
            }
        }
    }
}

//! A store without a disk, for tests and throw-away control planes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::key::{Key, KeyRange};
use crate::revision::Revision;
use crate::state::{Decided, State, check};
use crate::store::{
    Change, ChangeKind, ChangeStream, Entry, Expect, Page, PutOptions, ReadAt, Stats, Store,
    VALUE_MAX,
};

/// Everything in memory; gone when dropped.
#[derive(Debug)]
pub struct MemoryStore {
    state: State,
    /// One writer at a time, so that check and apply are one step.
    writer: Mutex<()>,
    writes: Arc<AtomicU64>,
}

impl MemoryStore {
    /// An empty store. Keys with a time to live wait for [`Store::delete_expired`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::new(Revision::ZERO),
            writer: Mutex::new(()),
            writes: Arc::new(AtomicU64::new(0)),
        }
    }

    fn write(
        &self,
        key: &Key,
        expect: Expect,
        decide: impl FnOnce(Revision, Option<Entry>) -> (ChangeKind, Option<SystemTime>),
    ) -> Result<Revision> {
        let _one = self.writer.lock();
        if self.state.is_closed() {
            return Err(Error::Closed);
        }
        let current = self.state.get(key);
        check(current.as_ref(), expect)?;
        let revision = self.state.revision().next();
        let at = SystemTime::now();
        let (kind, expires) = decide(revision, current);
        let change = Change {
            revision,
            key: key.clone(),
            kind,
            at,
        };
        self.state.apply([Decided { change, expires }]);
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(revision)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn revision(&self) -> Revision {
        self.state.revision()
    }

    fn floor(&self) -> Revision {
        self.state.floor()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.state.get(key))
    }

    async fn list(&self, range: &KeyRange, at: ReadAt, limit: Option<usize>) -> Result<Page> {
        self.state.list(range, at, limit)
    }

    async fn put(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        options: PutOptions,
    ) -> Result<Revision> {
        fits(&value)?;
        self.write(key, expect, |revision, previous| {
            let entry = Entry {
                key: key.clone(),
                value,
                revision,
                created: previous.as_ref().map_or(revision, |entry| entry.created),
            };
            let expires = options.ttl.map(|ttl| SystemTime::now() + ttl);
            (ChangeKind::Put { entry, previous }, expires)
        })
    }

    async fn delete(&self, key: &Key, at: Revision) -> Result<Revision> {
        self.write(key, Expect::At(at), |_, previous| {
            (ChangeKind::Delete { previous }, None)
        })
    }

    fn changes(&self, after: Revision) -> Result<ChangeStream> {
        Ok(ChangeStream {
            window: self.state.window(after)?,
            after,
        })
    }

    async fn compact(&self, up_to: Revision) -> Result<()> {
        self.state.compact(up_to);
        Ok(())
    }

    fn failure(&self) -> Option<String> {
        None
    }

    fn stats(&self) -> Stats {
        let writes = self.writes.load(Ordering::Relaxed);
        Stats {
            writes,
            commits: writes,
            ..self.state.stats()
        }
    }

    fn next_expiry(&self) -> Option<SystemTime> {
        self.state.next_expiry()
    }

    async fn delete_expired(&self, now: SystemTime) -> Result<()> {
        delete_expired(self, &self.state, now).await
    }

    async fn close(&self) {
        let _one = self.writer.lock();
        self.state.close();
    }
}

/// Deletes what has expired, leaving alone what was renewed meanwhile.
pub(crate) async fn delete_expired(
    store: &dyn Store,
    state: &State,
    now: SystemTime,
) -> Result<()> {
    for (key, revision) in state.expired(now) {
        match store.delete(&key, revision).await {
            Ok(_) | Err(Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Refuses values that are too large for any back end.
pub(crate) fn fits(value: &Bytes) -> Result<()> {
    if value.len() > VALUE_MAX {
        return Err(Error::TooLarge {
            size: value.len(),
            max: VALUE_MAX,
        });
    }
    Ok(())
}

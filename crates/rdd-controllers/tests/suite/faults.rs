//! A store that fails now and then, as a disk in trouble does.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rdd_store::{
    ChangeStream, Entry, Error, Expect, Key, KeyRange, Page, PutOptions, ReadAt, Revision, Stats,
    Store,
};

type Result<T> = std::result::Result<T, Error>;

/// Passes everything on, and fails one call in so many.
pub(crate) struct FailingStore {
    inner: Arc<dyn Store>,
    one_read_in: AtomicU64,
    one_write_in: AtomicU64,
    calls: AtomicU64,
    failed: AtomicU64,
    place: Mutex<Option<Place>>,
}

/// Where writes fail, after so many more have succeeded.
struct Place {
    prefix: String,
    left: usize,
    failed: bool,
}

impl FailingStore {
    /// Fails nothing yet.
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            one_read_in: AtomicU64::new(0),
            one_write_in: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            place: Mutex::new(None),
        }
    }

    /// From now on, one read and one write in `count` fails; with 0 none does.
    pub(crate) fn fail_one_in(&self, count: u64) {
        self.one_read_in.store(count, Ordering::Relaxed);
        self.fail_one_write_in(count);
    }

    /// From now on, one write in `count` fails; with 0 none does.
    pub(crate) fn fail_one_write_in(&self, count: u64) {
        self.one_write_in.store(count, Ordering::Relaxed);
    }

    /// Writes of these keys fail once so many more have succeeded.
    pub(crate) fn fail_writes_below(&self, prefix: &str, after: usize) {
        *self.place.lock() = Some(Place {
            prefix: prefix.to_owned(),
            left: after,
            failed: false,
        });
    }

    /// Writes succeed again, wherever they are.
    pub(crate) fn heal(&self) {
        *self.place.lock() = None;
    }

    fn judge_place(&self, key: &Key) -> Result<()> {
        let mut place = self.place.lock();
        let Some(place) = place
            .as_mut()
            .filter(|place| key.as_str().starts_with(&place.prefix))
        else {
            return Ok(());
        };
        if let Some(left) = place.left.checked_sub(1) {
            place.left = left;
            return Ok(());
        }
        place.failed = true;
        Err(trouble())
    }

    /// Whether a write has failed at the place that was told.
    pub(crate) fn has_failed_there(&self) -> bool {
        self.place.lock().as_ref().is_some_and(|place| place.failed)
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many calls have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn judge(&self, one_in: &AtomicU64) -> Result<()> {
        let one_in = one_in.load(Ordering::Relaxed);
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        // Scattered: at every fifth call, a step that takes five would fail for ever.
        let scattered = call.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        if one_in == 0 || !scattered.is_multiple_of(one_in) {
            return Ok(());
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        Err(trouble())
    }
}

fn trouble() -> Error {
    Error::Prepare {
        path: PathBuf::from("/nowhere"),
        source: io::Error::other("the disk is in trouble"),
    }
}

#[async_trait]
impl Store for FailingStore {
    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn floor(&self) -> Revision {
        self.inner.floor()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.judge(&self.one_read_in)?;
        self.inner.get(key).await
    }

    async fn list(&self, range: &KeyRange, at: ReadAt, limit: Option<usize>) -> Result<Page> {
        self.judge(&self.one_read_in)?;
        self.inner.list(range, at, limit).await
    }

    async fn put(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        options: PutOptions,
    ) -> Result<Revision> {
        self.judge(&self.one_write_in)?;
        self.judge_place(key)?;
        self.inner.put(key, value, expect, options).await
    }

    async fn delete(&self, key: &Key, at: Revision) -> Result<Revision> {
        self.judge(&self.one_write_in)?;
        self.inner.delete(key, at).await
    }

    fn changes(&self, after: Revision) -> Result<ChangeStream> {
        self.inner.changes(after)
    }

    async fn compact(&self, up_to: Revision) -> Result<()> {
        self.inner.compact(up_to).await
    }

    fn failure(&self) -> Option<String> {
        self.inner.failure()
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn next_expiry(&self) -> Option<SystemTime> {
        self.inner.next_expiry()
    }

    async fn delete_expired(&self, now: SystemTime) -> Result<()> {
        self.inner.delete_expired(now).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

//! What every store promises.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::key::{Key, KeyRange};
use crate::revision::Revision;
use crate::state::Window;

/// The largest value: etcd's default request limit, so that both back ends agree.
pub const VALUE_MAX: usize = 1_572_864;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place.
    pub key: Key,
    /// The bytes, shared with everyone who reads them.
    pub value: Bytes,
    /// The write that put this value there.
    pub revision: Revision,
    /// The write that filled the key since it was last empty.
    pub created: Revision,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key is empty.
    Absent,
    /// The key holds the value of exactly this write.
    At(Revision),
}

/// Whether superseded values of a key are worth keeping on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// Keep them until compaction.
    #[default]
    Keep,
    /// Replace them: for what churns without meaning, such as Leases and Events.
    Drop,
}

/// Properties of a value beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// After this time the store deletes the key as if a client had.
    pub ttl: Option<Duration>,
    /// What happens to the value that is replaced.
    pub history: History,
}

/// The moment that a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAt {
    /// The newest state.
    Latest,
    /// The state right after this write.
    Exact(Revision),
}

/// Part of a range, in key order.
#[derive(Clone, Debug)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The moment that they show.
    pub revision: Revision,
    /// How many entries of the range follow the last one.
    pub remaining: u64,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its revision.
    pub revision: Revision,
    /// Where it happened.
    pub key: Key,
    /// What it did.
    pub kind: ChangeKind,
    /// When, by this machine's clock; for display only.
    pub at: SystemTime,
}

/// What a write did.
#[derive(Clone, Debug)]
pub enum ChangeKind {
    /// The key holds `entry` now; before it held `previous`.
    Put {
        /// The new state.
        entry: Entry,
        /// The state before.
        previous: Option<Entry>,
    },
    /// The key is empty now; before it held `previous`.
    Delete {
        /// The state before; unknown only for history read from disk.
        previous: Option<Entry>,
    },
}

/// Figures about a store, for metrics and benches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Writes acknowledged since opening.
    pub writes: u64,
    /// Durable commits since opening; one commit carries many writes under load.
    pub commits: u64,
    /// Writes that wait for their commit.
    pub queued: u64,
    /// Keys that hold a value.
    pub entries: u64,
    /// Bytes of all current values.
    pub bytes: u64,
    /// How long durable commits took; empty where nothing is durable.
    pub commit_times: CommitTimes,
}

/// The bounds of [`CommitTimes`]: from a fast disk's fsync to one that hardly works.
pub const COMMIT_BOUNDS: [Duration; 12] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// How many commits took how long, their fsync included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitTimes {
    /// Those up to each of [`COMMIT_BOUNDS`] and above the one before it; then all longer ones.
    pub counts: [u64; COMMIT_BOUNDS.len() + 1],
    /// All together, in nanoseconds.
    pub nanos: u64,
}

impl CommitTimes {
    pub(crate) fn add(&mut self, took: Duration) {
        let bucket = COMMIT_BOUNDS.partition_point(|bound| *bound < took);
        self.counts[bucket] += 1;
        self.nanos += u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    }
}

/// A versioned key–value store.
///
/// # Contract
/// 1. Every successful write takes exactly the next revision.
/// 2. A write is acknowledged only when it is as durable as the back end makes it.
/// 3. A read sees every write acknowledged before it began.
/// 4. [`Store::changes`] yields every write after its revision, in order, once.
/// 5. A failed write leaves nothing behind.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest revision.
    fn revision(&self) -> Revision;

    /// The oldest revision after which [`Store::changes`] and exact reads still work.
    fn floor(&self) -> Revision;

    /// What the key holds.
    async fn get(&self, key: &Key) -> Result<Option<Entry>>;

    /// The first `limit` entries of a range (all of them without one). Counting
    /// what remains visits the rest of the range without copying it.
    ///
    /// # Errors
    /// `Compacted` and `Future` for an exact revision outside the window.
    async fn list(&self, range: &KeyRange, at: ReadAt, limit: Option<usize>) -> Result<Page>;

    /// Writes a value.
    ///
    /// # Errors
    /// `Conflict` when `expect` does not hold, `TooLarge`, or why the disk refused.
    async fn put(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        options: PutOptions,
    ) -> Result<Revision>;

    /// Empties a key; this is a write of its own.
    ///
    /// # Errors
    /// `Conflict` when the key does not hold the value of revision `at`.
    async fn delete(&self, key: &Key, at: Revision) -> Result<Revision>;

    /// Every write after `after`, in order.
    ///
    /// # Errors
    /// `Compacted` when writes after it are no longer known. A revision in the
    /// future is fine: the stream begins behind it.
    fn changes(&self, after: Revision) -> Result<ChangeStream>;

    /// Forgets the history up to and including this revision; current values stay.
    async fn compact(&self, up_to: Revision) -> Result<()>;

    /// Why the last write failed, until one succeeds again.
    fn failure(&self) -> Option<String>;

    /// Figures about the store.
    fn stats(&self) -> Stats;

    /// When the next key's time is over; [`Store::delete_expired`] is due then.
    fn next_expiry(&self) -> Option<SystemTime>;

    /// Deletes every key whose time is over, each as a write of its own.
    async fn delete_expired(&self, now: SystemTime) -> Result<()>;

    /// Finishes the writes that were accepted and releases the files. Later writes
    /// fail with `Closed`; change streams end.
    async fn close(&self);
}

/// Writes in the order of their revisions; see [`Store::changes`].
///
/// It holds a place in the shared window and no queue of its own, so a slow
/// reader costs nothing until it falls out of the window, which it is told.
#[derive(Debug)]
pub struct ChangeStream {
    pub(crate) window: Window,
    pub(crate) after: Revision,
}

impl ChangeStream {
    /// Waits for writes and returns all that are there, oldest first; `None` when
    /// the store was closed.
    ///
    /// # Errors
    /// `Compacted` when the reader fell behind what is kept.
    pub async fn next(&mut self) -> Option<Result<Vec<std::sync::Arc<Change>>>> {
        let batch = self.window.after(self.after).await?;
        Some(batch.inspect(|changes| {
            if let Some(last) = changes.last() {
                self.after = last.revision;
            }
        }))
    }
}

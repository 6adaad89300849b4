//! The one thread that writes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::SqliteOptions;
use super::file::File;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::revision::Revision;
use crate::state::{Decided, State, check};
use crate::store::{Change, ChangeKind, CommitTimes, Entry, Expect, History, PutOptions};

/// Writes in one transaction at most: bounds both the wait of the first and the memory.
const BATCH: usize = 512;

/// How often old history is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// What callers see of the writer while it runs.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) writes: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) queued: AtomicU64,
    pub(super) commit_times: Mutex<CommitTimes>,
    pub(super) failure: Mutex<Option<String>>,
}

pub(super) enum Request {
    Write(Write),
    Compact {
        up_to: Revision,
        reply: oneshot::Sender<Result<()>>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

pub(super) struct Write {
    pub(super) key: Key,
    pub(super) expect: Expect,
    pub(super) operation: Operation,
    pub(super) reply: oneshot::Sender<Result<Revision>>,
}

pub(super) enum Operation {
    Put { value: Bytes, options: PutOptions },
    Delete,
}

/// A write of the running transaction.
struct Pending {
    decided: Decided,
    history: History,
    reply: oneshot::Sender<Result<Revision>>,
}

/// A write that lost against one of the running transaction. Nobody may hear of what that
/// one wrote before it can be read, and before it is sure to last.
struct Refused {
    conflict: Error,
    reply: oneshot::Sender<Result<Revision>>,
}

/// Starts the thread; it ends when the store is closed or dropped.
pub(super) fn start(
    file: File,
    options: SqliteOptions,
    state: State,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
) -> Result<()> {
    let writer = Writer {
        file,
        options,
        state,
        shared,
        swept: Instant::now(),
    };
    std::thread::Builder::new()
        .name("rdd-store".to_owned())
        .spawn(move || writer.run(requests))
        .map(drop)
        .map_err(|source| Error::Prepare {
            path: "the writer thread".into(),
            source,
        })
}

struct Writer {
    file: File,
    options: SqliteOptions,
    state: State,
    shared: Arc<Shared>,
    swept: Instant,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut closing = Vec::new();
        while let Some(first) = requests.blocking_recv() {
            let mut writes = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Write(write) => writes.push(write),
                    Request::Compact { up_to, reply } => {
                        self.commit(std::mem::take(&mut writes));
                        // The caller may have gone; compaction is done all the same.
                        let _unheard = reply.send(self.compact(up_to));
                    }
                    Request::Close { reply } => {
                        closing.push(reply);
                        requests.close();
                    }
                }
                next = if writes.len() < BATCH {
                    requests.try_recv().ok()
                } else {
                    None
                };
            }
            self.commit(writes);
            if self.swept.elapsed() >= HOUSEKEEPING {
                self.swept = Instant::now();
                self.housekeeping();
            }
        }
        self.state.close();
        if let Err(error) = self.file.close() {
            tracing::warn!(%error, "failed to close the database in order");
        }
        for reply in closing {
            // Nobody waits any more: closed all the same.
            let _unheard = reply.send(());
        }
    }

    /// Decides in queue order, each write seeing those before it, then commits all.
    fn commit(&mut self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let count = writes.len() as u64;
        let mut ahead: HashMap<Key, Option<Entry>> = HashMap::new();
        let mut revision = self.state.revision();
        let mut pending = Vec::with_capacity(writes.len());
        let mut refused = Vec::new();
        for write in writes {
            let (current, is_ahead) = match ahead.get(&write.key) {
                Some(entry) => (entry.clone(), true),
                None => (self.state.get(&write.key), false),
            };
            if let Err(conflict) = check(current.as_ref(), write.expect) {
                let reply = write.reply;
                if is_ahead {
                    refused.push(Refused { conflict, reply });
                } else {
                    // A caller that has gone loses nothing: nothing was written.
                    let _unheard = reply.send(Err(conflict));
                }
                continue;
            }
            revision = revision.next();
            let (decided, history, after) = decide(&write.key, write.operation, current, revision);
            ahead.insert(write.key, after);
            pending.push(Pending {
                decided,
                history,
                reply: write.reply,
            });
        }
        if !pending.is_empty() {
            self.persist(pending, refused);
        }
        self.shared.queued.fetch_sub(count, Ordering::Relaxed);
    }

    fn persist(&mut self, pending: Vec<Pending>, refused: Vec<Refused>) {
        let rows = pending.iter().map(|write| (&write.decided, write.history));
        let begun = Instant::now();
        match self.file.append(rows) {
            Ok(()) => {
                self.shared.commit_times.lock().add(begun.elapsed());
                self.shared.failure.lock().take();
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                self.shared
                    .writes
                    .fetch_add(pending.len() as u64, Ordering::Relaxed);
                let (decided, replies): (Vec<_>, Vec<_>) = pending
                    .into_iter()
                    .map(|write| {
                        let revision = write.decided.change.revision;
                        (write.decided, (write.reply, revision))
                    })
                    .unzip();
                self.state.apply(decided);
                for (reply, revision) in replies {
                    // A caller that has gone finds its write by reading.
                    let _unheard = reply.send(Ok(revision));
                }
                for Refused { conflict, reply } in refused {
                    // As above: nothing was written.
                    let _unheard = reply.send(Err(conflict));
                }
            }
            Err(error) => {
                tracing::error!(%error, writes = pending.len(), "failed to commit");
                *self.shared.failure.lock() = Some(error.to_string());
                let lost = refused.into_iter().map(|write| write.reply);
                for reply in pending.into_iter().map(|write| write.reply).chain(lost) {
                    // A caller that has gone loses nothing: nothing was written.
                    let _unheard = reply.send(Err(error.again()));
                }
            }
        }
    }

    fn compact(&mut self, up_to: Revision) -> Result<()> {
        let floor = self.state.compact(up_to);
        self.file.compact(floor, self.state.revision())
    }

    /// Forgets history beyond its age and size, a step per call.
    fn housekeeping(&mut self) {
        let oldest = SystemTime::now().checked_sub(self.options.history_age);
        let result = self
            .file
            .surplus(oldest, self.options.history_bytes)
            .and_then(|surplus| match surplus {
                Some(floor) => self.file.compact(floor, self.state.revision()),
                None => Ok(()),
            });
        if let Err(error) = result {
            tracing::warn!(%error, "failed to forget old history");
        }
    }
}

fn decide(
    key: &Key,
    operation: Operation,
    previous: Option<Entry>,
    revision: Revision,
) -> (Decided, History, Option<Entry>) {
    let at = SystemTime::now();
    let (kind, expires, history, after) = match operation {
        Operation::Put { value, options } => {
            let entry = Entry {
                key: key.clone(),
                value,
                revision,
                created: previous.as_ref().map_or(revision, |entry| entry.created),
            };
            let kind = ChangeKind::Put {
                entry: entry.clone(),
                previous,
            };
            let expires = options.ttl.map(|ttl| at + ttl);
            (kind, expires, options.history, Some(entry))
        }
        Operation::Delete => (ChangeKind::Delete { previous }, None, History::Keep, None),
    };
    let change = Change {
        revision,
        key: key.clone(),
        kind,
        at,
    };
    (Decided { change, expires }, history, after)
}

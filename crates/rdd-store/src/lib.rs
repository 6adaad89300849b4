//! A versioned key–value store: bytes in, bytes out, one revision counter.
//!
//! Every write takes the next [`Revision`]; a read sees every write that was
//! acknowledged before it. The current state and a bounded window of recent
//! changes live in memory as shared [`bytes::Bytes`]; a back end adds durability
//! below that. [`MemoryStore`] has none, [`SqliteStore`] writes a log to one file.
//!
//! Guarantees: compare-and-swap per key; changes are delivered in revision order
//! without gaps; an acknowledged write survives the process.
//! Assumption: one process owns the store's files.
//!
//! Invariant: the store knows keys and bytes, never what they mean.

pub mod conformance;
mod error;
mod key;
mod memory;
mod revision;
mod sqlite;
mod state;
mod store;

pub use error::{Error, Result};
pub use key::{Key, KeyRange};
pub use memory::MemoryStore;
pub use revision::Revision;
pub use sqlite::{SqliteOptions, SqliteStore};
pub use store::{
    COMMIT_BOUNDS, Change, ChangeKind, ChangeStream, CommitTimes, Entry, Expect, History, Page,
    PutOptions, ReadAt, Stats, Store, VALUE_MAX,
};

//! What a patch means: JSON patch, merge patch, strategic merge patch, server-side
//! apply, and the managed fields that all writes leave behind.
//!
//! Each kind of patch is one function from an object to an object. The API server
//! calls them again whenever it lost a race, so they change nothing else. Server-side
//! apply and managed fields see values through the shape that a [`rdd_schema::Schema`]
//! gives them, by the rules of Kubernetes' structured-merge-diff: structs and maps
//! merge by field, sets by value, map lists by key, all else as a whole.
//!
//! ```text
//! apply ─┬─▶ typed ──▶ shape ──▶ rdd_schema
//!        └─▶ managed_fields ──▶ field_set
//! ```
//!
//! Invariant: no I/O, no clock, no knowledge of HTTP, stores or particular kinds.

pub mod apply;
pub mod json_patch;
pub mod managed_fields;
pub mod merge;
pub mod overlay;
pub mod strategic;

mod conflict;
mod field_set;
mod shape;
mod typed;

pub use conflict::Conflicts;
pub use field_set::{DecodeError, FieldSet};
pub use typed::{go, go_type};

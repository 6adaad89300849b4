//! What an object may look like: structural schemas and the pure functions over them.
//!
//! A [`Schema`] is the parsed, immutable form of a Kubernetes structural schema
//! (`openAPIV3Schema` with its `x-kubernetes-*` extensions). Built-in types and
//! custom resources are described by the same type, so that pruning, defaulting,
//! validation, server-side apply and OpenAPI publishing have one code path each.
//!
//! Invariant: no I/O, no async, no knowledge of HTTP, stores or particular kinds.

pub mod crd;
pub mod field_error;
pub mod go_regexp;
pub mod names;
pub mod structural;

mod correlate;
mod decode;
mod default;
mod format;
mod go_number;
mod go_time;
mod parse;
mod prune;
mod restore;
mod validate;

pub use correlate::{KeyedItems, is_same};
pub use decode::{decode, found};
pub use default::default;
pub use field_error::{FieldError, FieldErrorKind};
pub use go_number::{go_integer, go_number};
pub use go_time::time_error;
pub use parse::{DEPTH_MAX, ParseError};
pub use prune::{drop_nulls, prune};
pub use restore::restore;
pub use structural::{
    AdditionalProperties, Checks, ListType, MapType, PatchStrategy, Pattern, Schema, Type,
};
pub use validate::{blocks_rules, duplicates, validate, validate_update};

//! kubectl's JSONPath: what printer columns name, and what `-o jsonpath` takes.
//!
//! Client and server speak this dialect, so it stands in a crate of its own below both.
//!
//! Invariant: pure functions over JSON.

mod template;

pub use template::{DEPTH_MAX, ParseError, TEXT_MAX, Template, show};

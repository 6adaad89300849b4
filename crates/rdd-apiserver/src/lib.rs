//! The Kubernetes-compatible API, as a tower `Service` over a [`rdd_store::Store`].
//!
//! ```text
//! request → http/detach → http/router (RequestInfo, Identity, may they?) → verbs/*
//! write   → decode or patch, prune, default → mutating admission → validate →
//!           validating admission → store.put(expect) → answer
//! watch   → store.changes → watch_cache → filter → JSON lines
//! ```
//!
//! Which resources exist is data: a [`catalog::Catalog`] snapshot, to which
//! CustomResourceDefinitions add. Every refusal is made in [`status`].
//!
//! Invariant: the server knows no kind but those that Kubernetes itself has; its
//! only memory beside the store is the watch cache, and that can be thrown away.

pub mod catalog;
pub mod encoding;
pub mod object;
pub mod status;
pub mod workers;

pub use status::{ApiError, ApiResult};

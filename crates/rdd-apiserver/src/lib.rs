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

pub mod api_server;
mod client;

pub mod status;

pub mod object;

pub mod http;

pub mod auth;

pub mod encoding;

pub mod catalog;

mod admission;

mod conversion;

mod outbound;

pub mod options;

pub mod selector;

mod verbs;

pub mod watch_cache;

pub mod workers;

mod discovery;

pub mod audit;

pub mod health;

pub mod metrics;

mod openapi;

pub mod pages;

/// Stack of the threads that run the server: documents may nest
/// [`encoding::json::DEPTH_MAX`] levels deep, every level costs the recursive walks
/// (parse, prune, validate, compare, drop) a frame, and unoptimised frames are large.
pub const WORKER_STACK: usize = 16 * 1024 * 1024;

pub use api_server::{ApiServer, Options};
pub use auth::Identity;
pub use metrics::{Metrics, exposition::Exposition};
pub use outbound::{ServiceAt, Services};
pub use status::{ApiError, ApiResult};

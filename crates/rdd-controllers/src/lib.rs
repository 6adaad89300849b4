//! The controllers, one folder per API group, and the one list of them.
//!
//! Invariant: a controller reaches the API through the `kube::Client` of its
//! context and everything else through its [`World`]; nothing here relies on the
//! API server being ours.

mod app;
mod containers;
mod registry;
mod samples;
mod world;

pub use registry::{NAMES, REGISTRY};
pub use world::{Connect, DockerEngines, LiveEngine, World};

//! Where an engine runs: a dockerd or containerd of our own on this machine.
//!
//! [`Machine`] starts, adopts and stops; [`Native`] does it with the engine itself.
//! The engine's process is a group of its own and outlives a crash of rdd; it is
//! adopted again after checking that its number still means the same process.
//!
//! Invariant: knows processes, networks and files, neither Kubernetes nor what is
//! inside the engine.

mod error;
mod fake;
mod machine;
mod native;

pub use error::{Error, Result};
pub use fake::FakeMachine;
pub use machine::{Backend, Machine};
pub use native::{Native, NativeOptions, STOP_MAX};

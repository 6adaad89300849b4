//! The controllers, one folder per API group, and the one list of them.
//!
//! Invariant: a controller reaches the API through the `kube::Client` of its
//! context and everything else through its [`World`]; nothing here relies on the
//! API server being ours.

mod app;
mod certificates;
mod containers;
mod external;
mod host;
mod mock;
mod registry;
mod samples;
mod world;

pub use certificates::Certificates;
pub use external::{Ended, Program, run};
pub use host::{native_machine, ports, remove_engine, world};
pub use registry::{
    CONTROLLERS_HELP, NAMES, PROGRAM_ONLY, REGISTRY, embedded, of_group, problems, program,
    programs, reference,
};
pub use world::{Connect, DockerEngines, LiveEngine, World};

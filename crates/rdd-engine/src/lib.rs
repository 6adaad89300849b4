//! Container engines in their own words: what there is, what happens, what can be done.
//!
//! [`Engine`] is what a mirror needs of an engine. [`Docker`] speaks the Docker Engine
//! API, which Podman speaks too; [`Fake`] misbehaves on demand.
//!
//! The client is our own, on hyper, because the typed ones refuse an answer that holds
//! a word they do not know, and a mirror has to survive engines that are newer than it.
//! Answers are read field by field; what is absent is empty.
//!
//! Invariant: nothing here knows Kubernetes.

mod docker;
mod endpoint;
mod engine;
mod error;
mod fake;
mod object;
mod stream;
mod wish;

pub use docker::{Certificates, Docker, ping};
pub use endpoint::Endpoint;
pub use engine::{Action, Engine, EngineInfo, Event, EventStream, Kind, Moment};
pub use error::{Error, Result};
pub use fake::{Fake, Faults};
pub use object::{Binding, Container, Image, ImageSummary, Mount, Network, Port, Volume};
pub use stream::{Exec, ExecOptions, LogOptions, Output, Source};
pub use wish::{
    Credentials, NewContainer, NewVolume, Transfer, TransferStep, registry_of, split_reference,
};

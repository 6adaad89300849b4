//! Runs any set of controllers against any `kube::Client`.
//!
//! A controller is a value, [`ControllerDef`]; [`Selection`] picks some of a
//! registry; [`start`] brings them up in an order whose last step is readiness:
//!
//! ```text
//! definitions installed and Established → leases taken → controllers spawned, caches filled →
//! rules served and listed → gate opened, reconciling → discovery entry written → ready annotation
//! ```
//!
//! A step that fails ends the start with its own error, and nothing after it
//! happens: a client that sees the annotation may rely on every step before it.
//!
//! Invariant: it does not know which controllers exist, nor that the API server is ours.

mod admission;
mod context;
mod controller_def;
mod definitions;
mod diagnostics;
mod discovery;
mod error;
pub mod finalizer;
mod health;
mod janitor;
mod lease;
mod listener;
mod manager;
pub mod ownership;
mod passthrough;
mod probe;
mod reach;
mod remote;
mod selection;
mod signals;
mod tls;
mod vigil;
mod watch_backoff;
mod webhooks;

pub use admission::{JoinAdmission, WebhooksOnly};
pub use context::Context;
pub use controller_def::ControllerDef;
pub use diagnostics::{Diagnostics, Report};
pub use discovery::{Discovery, Entry, EntryError, Names};
pub use error::{Error, Result};
pub use health::Ports;
pub use janitor::clear_up;
pub use lease::Terms;
pub use manager::{Deadlines, EMBEDDED, Manager, Options, Role, start};
pub use passthrough::{Access, Body, Endpoint, Passthroughs};
pub use probe::Running;
pub use reach::tell_reach;
pub use remote::Proxy;
pub use selection::{Selected, Selection, UnknownController};
pub use signals::Signals;
pub use tls::Tls;
pub use vigil::vigil;
pub use watch_backoff::{WatchBackoff, watch_backoff};
pub use webhooks::remove_leftovers;

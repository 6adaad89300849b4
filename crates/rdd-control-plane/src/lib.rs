//! Assembles store, API server and controllers into one running whole, and takes it down.
//!
//! [`run`] is the daemon: it returns when a signal, a lost lease or a failed start
//! ends it. [`ControlPlane`] is the same whole inside another program, such as a test.
//!
//! Invariant: the only crate that sees both the API server and the controllers; it
//! decides their order and holds every task that they hand it.

mod budgets;
mod control_plane;
mod door;
mod kubeconfig;
mod options;
mod pki;
mod record_guard;
mod serve;

pub use control_plane::{ControlPlane, Listener, Parts};
pub use options::Options;
pub use rdd_apiserver::ServiceAt;
pub use rdd_apiserver::audit::AuditOptions;
pub use rdd_controllers::{native_machine, remove_engine};
pub use rdd_manager::Ports;
pub use serve::run;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ConfigMap;

/// The controllers that some manager lists in the discovery ConfigMap. `None` while that is
/// not known: nobody has registered yet, or an entry cannot be read.
#[must_use]
pub fn running_controllers(map: &ConfigMap) -> Option<BTreeSet<String>> {
    rdd_manager::Entry::controllers(map).ok().flatten()
}

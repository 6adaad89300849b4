//! CustomResourceDefinitions: resources that clients declare.
//!
//! ```text
//! POST, PUT, PATCH ─▶ strategy (default, validate) ─▶ store ─▶ Strategy::committed
//!                                                                    │ same task
//!        catalog snapshot ◀─ resources ◀─ Definitions::observe ◀─────┤
//!                                              ▲  │ verdict          │ store.changes
//!                                              │  ▼                  ▼
//!                                           workers/definitions: conditions, clean-up
//! ```
//!
//! [`Definitions`] decides on names; the worker writes the decision into the status, in
//! the two steps that watchers of Kubernetes know; with the second one the catalog is
//! swapped. The answer to a create waits for that, so that a resource is served when its
//! definition's `create` returns, and the server has nothing left to write that a client's
//! next write could collide with. Both paths lead through the same `observe`, which
//! ignores what it has seen.

use std::sync::Arc;

use crate::catalog::{CatalogHandle, builtin};

pub(crate) mod conditions;
mod custom;
mod definitions;
mod embedded;
mod hoist;
mod names;
mod resources;
mod scale;
mod schema_document;
mod strategy;
mod validation;

pub use definitions::{Definitions, Verdict};
pub use names::Conflict;
pub(crate) use validation::approval_condition;
pub(in crate::catalog) use validation::label_problems;

/// The finalizer that holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The catalog of a server without any definition yet, and the keeper of those to come.
#[must_use]
pub fn served() -> (Arc<CatalogHandle>, Arc<Definitions>) {
    let definitions = Arc::new(Definitions::default());
    let keeper = Arc::clone(&definitions);
    let catalog = builtin::catalog(|form| {
        Arc::new(strategy::DefinitionStrategy {
            form,
            definitions: keeper,
        })
    });
    let handle = Arc::new(CatalogHandle::new(catalog));
    definitions.attach(&handle);
    (handle, definitions)
}

//! What makes a bare API server usable: work that the server does on its own behalf,
//! always on, whatever controllers run beside it.
//!
//! ```text
//! store.changes ─▶ feed ─▶ definitions: conditions of CRDs, deletion of their objects
//!                     ├──▶ namespaces:  deletion of content; `default` account, root CA
//!                     ├──▶ garbage:     objects whose owners are gone
//!                     ├──▶ aggregation: rules of aggregated ClusterRoles
//!                     └──▶ policies:    type warnings of admission policies
//! catalog ────────▶ api_services: one APIService per served version
//! ```
//!
//! Each worker has a [`queue::Queue`] of names, looks at the store's newest state of
//! what it is called to, and writes through the server's own front door, as any client.
//! Nothing is polled: a name that has to wait for others comes back when something it
//! waits for changes, and after a while for safety.

use std::sync::Arc;

use rdd_store::{KeyRange, ReadAt, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    ApiServer, Identity,
    catalog::{CatalogHandle, crd::Definitions},
    metrics::Metrics,
    object,
};

mod aggregation;
mod api_services;
mod definitions;
mod feed;
mod front_door;
mod garbage;
mod namespaces;
mod policies;
mod queue;

/// The identity in whose name the workers write.
const WORKER: &str = "system:apiserver";

/// What the workers work with.
pub struct Workers {
    /// The server's store, for reading.
    store: Arc<dyn Store>,
    catalog: Arc<CatalogHandle>,
    definitions: Arc<Definitions>,
    /// The server itself, as [`WORKER`].
    client: kube::Client,
    /// Where the lengths of the workers' queues are shown.
    metrics: Arc<Metrics>,
    root_ca: String,
}

/// Why the workers ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer.
    #[error("the store failed")]
    Store(#[from] rdd_store::Error),
}

/// Why a worker has to try something again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the store failed: {0}")]
    Store(#[from] rdd_store::Error),
    #[error("the server refused: {0}")]
    Refused(#[from] kube::Error),
}

/// Serves the definitions that are in the store already; to be called before the
/// server's first request.
///
/// # Errors
/// When the store cannot be read.
pub async fn load_definitions(store: &dyn Store, definitions: &Definitions) -> Result<(), Error> {
    let range = KeyRange::prefix(feed::DEFINITIONS);
    let mut page = store.list(&range, ReadAt::Latest, None).await?;
    // The older claim on a name wins, as it did when they were made.
    page.entries.sort_by_key(|entry| entry.created);
    for entry in &page.entries {
        if let Ok(definition) = object::parse_entry(entry) {
            let name = object::meta(&definition, "name");
            definitions.observe(name, Some(&definition), entry.revision);
        }
    }
    Ok(())
}

impl Workers {
    /// The workers of `server`, which do nothing yet. `definitions` is the keeper that
    /// came with the server's catalog from [`crate::catalog::crd::served`]; `root_ca` are
    /// the PEM certificates by which clients recognise the server, which every namespace
    /// holds in its ConfigMap `kube-root-ca.crt`.
    #[must_use]
    pub fn new(server: &ApiServer, definitions: Arc<Definitions>, root_ca: String) -> Self {
        Self {
            store: Arc::clone(server.store()),
            catalog: Arc::clone(server.catalog()),
            definitions,
            client: server.client(Identity::system(WORKER)),
            metrics: Arc::clone(server.metrics()),
            root_ca,
        }
    }

    /// Creates what every control plane begins with: its four Namespaces, and the roles
    /// that Kubernetes brings along. Safe to repeat.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_start_objects(&self) -> Result<(), kube::Error> {
        let front_door = self.front_door();
        namespaces::create_initial(&front_door).await?;
        aggregation::create_initial(&front_door).await
    }

    /// Works until `stop`, or until the store closes.
    ///
    /// # Errors
    /// When the store fails; the caller decides whether to begin again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let front_door = Arc::new(self.front_door());
        let definitions = definitions::Worker::new(&self, Arc::clone(&front_door));
        let namespaces = namespaces::Worker::new(&self, Arc::clone(&front_door));
        let garbage = garbage::Worker::new(&self, Arc::clone(&front_door));
        let aggregation = aggregation::Worker::new(&self, Arc::clone(&front_door));
        let policies = policies::Worker::new(&self, Arc::clone(&front_door));
        let api_services = api_services::Worker::new(&self, front_door);
        let feed = feed::Feed {
            store: Arc::clone(&self.store),
            known: Arc::clone(&self.definitions),
            definitions: definitions.inbox(),
            namespaces: namespaces.inbox(),
            garbage: garbage.inbox(),
            aggregation: aggregation.inbox(),
            policies: policies.inbox(),
        };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = feed.run() => ended,
            () = definitions.run() => Ok(()),
            () = namespaces.run() => Ok(()),
            () = garbage.run() => Ok(()),
            () = aggregation.run() => Ok(()),
            () = policies.run() => Ok(()),
            () = api_services.run() => Ok(()),
        }
    }

    fn front_door(&self) -> front_door::FrontDoor {
        front_door::FrontDoor::new(self.client.clone())
    }
}

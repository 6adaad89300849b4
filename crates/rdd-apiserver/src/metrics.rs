//! Figures about the server in the Prometheus text format, under the names that
//! kube-apiserver gives them where it has the same figure.
//!
//! Counting a request takes no lock and allocates nothing: its labels lead to a series in
//! a table that only grows, and only up to a bound ([`requests`]). Everything that can be
//! read off somewhere else (store, queues, process, controllers) is read when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::RwLock;
use rdd_store::{COMMIT_BOUNDS, KeyRange, ReadAt, Store};

use crate::catalog::Catalog;
use exposition::Exposition;
use requests::Requests;

pub mod exposition;
pub(crate) mod histogram;
mod process;
pub(crate) mod requests;

/// Adds figures of somebody else to the answer.
type Collector = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// What there is to know about a running server.
pub struct Metrics {
    pub(crate) requests: Requests,
    queues: RwLock<Vec<(&'static str, Arc<AtomicU64>)>>,
    collectors: RwLock<Vec<Collector>>,
    started: SystemTime,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Requests::new(),
            queues: RwLock::default(),
            collectors: RwLock::default(),
            started: SystemTime::now(),
        }
    }

    /// Asks `collector` for further figures whenever somebody reads all of them.
    pub fn add(&self, collector: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.collectors.write().push(Box::new(collector));
    }

    /// The length of a queue, which its owner keeps current.
    pub(crate) fn queue(&self, name: &'static str) -> Arc<AtomicU64> {
        let depth = Arc::default();
        self.queues.write().push((name, Arc::clone(&depth)));
        depth
    }

    /// Everything, as text.
    pub(crate) async fn render(&self, store: &dyn Store, catalog: &Catalog) -> String {
        let mut out = Exposition::default();
        self.requests.render(&mut out);
        out.family("workqueue_depth", "gauge", "Names that wait for a worker.");
        for (name, depth) in self.queues.read().iter() {
            let depth = depth.load(Ordering::Relaxed);
            out.sample("workqueue_depth", &[("name", name)], depth);
        }
        storage(&mut out, store);
        objects(&mut out, store, catalog).await;
        process::render(&mut out, self.started);
        for collector in self.collectors.read().iter() {
            collector(&mut out);
        }
        out.into_text()
    }
}

fn storage(out: &mut Exposition, store: &dyn Store) {
    let stats = store.stats();
    let mut single = |name, kind, help, value| {
        out.family(name, kind, help);
        out.sample(name, &[], value);
    };
    single(
        "rdd_store_writes_total",
        "counter",
        "Writes that were committed.",
        stats.writes,
    );
    single(
        "rdd_store_commits_total",
        "counter",
        "Transactions that were committed; each holds one or more writes.",
        stats.commits,
    );
    single(
        "rdd_store_queue_depth",
        "gauge",
        "Writes that wait for their commit.",
        stats.queued,
    );
    single(
        "rdd_store_entries",
        "gauge",
        "Objects that are kept.",
        stats.entries,
    );
    single(
        "rdd_store_failing",
        "gauge",
        "1 while commits fail.",
        u64::from(store.failure().is_some()),
    );
    single(
        "apiserver_storage_size_bytes",
        "gauge",
        "Bytes of all objects.",
        stats.bytes,
    );
    let name = "rdd_store_commit_duration_seconds";
    out.family(
        name,
        "histogram",
        "From the begin of a transaction until it is on disk.",
    );
    let sum = stats.commit_times.nanos as f64 / 1e9;
    let bounds = COMMIT_BOUNDS.map(|bound| bound.as_secs_f64());
    out.histogram(name, &[], &bounds, &stats.commit_times.counts, sum);
}

/// Counts the objects of each resource once, whatever the number of versions it is served in.
async fn objects(out: &mut Exposition, store: &dyn Store, catalog: &Catalog) {
    let name = "apiserver_resource_objects";
    out.family(name, "gauge", "Objects by resource.");
    let mut last = None;
    for resource in catalog.resources() {
        let prefix = resource.storage.prefix();
        if last.as_ref() == Some(&prefix) || resource.verbs.len() < 2 {
            continue;
        }
        let range = KeyRange::prefix(prefix.clone());
        if let Ok(page) = store.list(&range, ReadAt::Latest, Some(0)).await {
            let labels = [
                ("group", resource.group.as_str()),
                ("resource", resource.plural.as_str()),
            ];
            out.sample(name, &labels, page.remaining);
        }
        last = Some(prefix);
    }
}

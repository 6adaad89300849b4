//! Tells the authors of admission policies which expressions do not fit the kinds that a
//! policy is about.

use std::sync::Arc;

use rdd_store::{Key, Store};
use serde_json::json;

use super::{
    Failure, Workers,
    front_door::FrontDoor,
    queue::{Queue, Reconcile},
};
use crate::{admission, catalog::CatalogHandle, object};

/// Where ValidatingAdmissionPolicies are kept.
const POLICIES: &str = "/registry/admissionregistration.k8s.io/validatingadmissionpolicies/";

/// The owner of what is written; Kubernetes' controller has this name.
const MANAGER: &str = "validatingadmissionpolicy-status";

/// Keeps the status of policies: one look per generation.
pub(super) struct Worker {
    store: Arc<dyn Store>,
    catalog: Arc<CatalogHandle>,
    front_door: Arc<FrontDoor>,
    queue: Arc<Queue<String>>,
}

/// What others tell the worker.
pub(super) struct Inbox(Arc<Queue<String>>);

impl Inbox {
    /// A key holds something new.
    pub(super) fn changed(&self, key: &str) {
        if let Some(name) = key.strip_prefix(POLICIES) {
            self.0.push(name.to_owned());
        }
    }
}

impl Reconcile<String> for Worker {
    async fn reconcile(&self, name: &String) -> Result<(), Failure> {
        let key = Key::new(format!("{POLICIES}{name}"));
        let entry = self.store.get(&key).await?;
        let Some(policy) = entry.and_then(|entry| object::parse_entry(&entry).ok()) else {
            return Ok(());
        };
        let generation = policy["metadata"]["generation"].as_i64();
        if generation <= policy["status"]["observedGeneration"].as_i64() {
            return Ok(());
        }
        let warnings = admission::type_warnings(&self.catalog.load(), &policy);
        let checked = if warnings.is_empty() {
            json!({})
        } else {
            json!({"expressionWarnings": warnings})
        };
        let applied = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            // Another policy of the same name counts its generations anew.
            "metadata": {"name": name, "uid": policy["metadata"]["uid"]},
            "status": {"observedGeneration": generation, "typeChecking": checked},
        });
        let path = format!(
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{name}/status"
        );
        self.front_door.apply(MANAGER, &path, &applied).await?;
        Ok(())
    }
}

impl Worker {
    pub(super) fn new(workers: &Workers, front_door: Arc<FrontDoor>) -> Self {
        Self {
            store: Arc::clone(&workers.store),
            catalog: Arc::clone(&workers.catalog),
            front_door,
            queue: Arc::new(Queue::new(workers.metrics.queue("policies"))),
        }
    }

    pub(super) fn inbox(&self) -> Inbox {
        Inbox(Arc::clone(&self.queue))
    }

    pub(super) async fn run(self) {
        self.queue.work(&self).await;
    }
}

//! Keeps an APIService for every version of every group that this server serves, as
//! clients that list APIServices expect.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdd_store::{KeyRange, ReadAt, Store};
use serde_json::{Value, json};

use super::{
    Failure, Workers,
    front_door::{FrontDoor, Manager},
};
use crate::{
    catalog::{ApiGroup, CatalogHandle},
    object::{self, is_deleting},
};

const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const KEYS: &str = "/registry/apiregistration.k8s.io/apiservices/";

/// Marks the objects that the server makes: `onstart` for what is compiled in, `true`
/// for what definitions declare.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// The group of the APIServices themselves, which has none, as in Kubernetes.
const OWN_GROUP: &str = "apiregistration.k8s.io";

/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the catalog.
pub(super) struct Worker {
    store: Arc<dyn Store>,
    catalog: Arc<CatalogHandle>,
    front_door: Arc<FrontDoor>,
}

impl Worker {
    pub(super) fn new(workers: &Workers, front_door: Arc<FrontDoor>) -> Self {
        Self {
            store: Arc::clone(&workers.store),
            catalog: Arc::clone(&workers.catalog),
            front_door,
        }
    }

    pub(super) async fn run(self) {
        let mut changed = self.catalog.subscribe();
        loop {
            changed.borrow_and_update();
            if let Err(error) = self.reconcile().await {
                tracing::debug!(%error, "APIServices will be tried again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    async fn reconcile(&self) -> Result<(), Failure> {
        let mut wanted = wanted(&self.catalog);
        let page = self
            .store
            .list(&KeyRange::prefix(KEYS), ReadAt::Latest, None)
            .await?;
        for entry in &page.entries {
            let Ok(stored) = object::parse_entry(entry) else {
                continue;
            };
            let name = object::meta(&stored, "name");
            let ours = stored["metadata"]["labels"].get(AUTOMANAGED).is_some();
            let wanted = wanted.remove(name);
            if wanted.is_none() && ours && !is_deleting(&stored) {
                let path = format!("{PATH}/{name}");
                let same = json!({"uid": object::meta(&stored, "uid")});
                self.front_door
                    .delete(&path, "Background", Some(same))
                    .await?;
            }
        }
        for service in wanted.values() {
            self.front_door
                .create(Manager::Server, PATH, service)
                .await?;
        }
        Ok(())
    }
}

/// What there should be, by name.
fn wanted(catalog: &CatalogHandle) -> BTreeMap<String, Value> {
    let snapshot = catalog.load();
    let mut wanted = BTreeMap::new();
    for group in snapshot.groups().values() {
        if group.name == OWN_GROUP {
            continue;
        }
        for version in group.versions.keys() {
            let name = format!("{version}.{}", group.name);
            let (group_priority, version_priority) = priorities(group);
            let managed = if group.builtin { "onstart" } else { "true" };
            let service = json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": name, "labels": {AUTOMANAGED: managed}},
                "spec": {
                    "group": group.name, "version": version,
                    "groupPriorityMinimum": group_priority, "versionPriority": version_priority,
                },
            });
            wanted.insert(name, service);
        }
    }
    wanted
}

/// The priorities that kube-apiserver gives its groups.
fn priorities(group: &ApiGroup) -> (i32, i32) {
    match group.name.as_str() {
        "" => (18_000, 1),
        "events.k8s.io" => (17_750, 15),
        "authentication.k8s.io" => (17_700, 15),
        "authorization.k8s.io" => (17_600, 15),
        "rbac.authorization.k8s.io" => (17_000, 15),
        "admissionregistration.k8s.io" | "apiextensions.k8s.io" => (16_700, 15),
        "coordination.k8s.io" => (16_500, 15),
        _ => (1_000, 100),
    }
}

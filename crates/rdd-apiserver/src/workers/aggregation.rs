//! Gives aggregated ClusterRoles the rules of the ClusterRoles that they select.

use std::sync::Arc;

use futures::future::try_join_all;
use rdd_store::{KeyRange, ReadAt, Store};
use serde_json::{Value, json};

use super::{
    Failure, Workers,
    front_door::{FrontDoor, Manager},
    queue::{Queue, Reconcile},
};
use crate::{admission::LabelSelector, auth::rbac::bootstrap, object};

/// Where ClusterRoles are kept.
const CLUSTER_ROLES: &str = "/registry/rbac.authorization.k8s.io/clusterroles/";

/// Creates the roles and bindings that are missing.
pub(super) async fn create_initial(front_door: &FrontDoor) -> Result<(), kube::Error> {
    const GROUP: &str = "/apis/rbac.authorization.k8s.io/v1";
    let create = |plural: &'static str, objects: Vec<Value>| async move {
        let path = format!("{GROUP}/{plural}");
        let creations = objects
            .iter()
            .map(|object| front_door.create(Manager::Server, &path, object));
        try_join_all(creations).await.map(drop)
    };
    create("clusterroles", bootstrap::cluster_roles()).await?;
    create("clusterrolebindings", bootstrap::cluster_role_bindings()).await
}

/// Recomputes every aggregated role when any ClusterRole changed; there are few.
pub(super) struct Worker {
    store: Arc<dyn Store>,
    front_door: Arc<FrontDoor>,
    queue: Arc<Queue<()>>,
}

/// What others tell the worker.
pub(super) struct Inbox(Arc<Queue<()>>);

impl Inbox {
    /// A key holds something new, or nothing any more.
    pub(super) fn changed(&self, key: &str) {
        if key.starts_with(CLUSTER_ROLES) {
            self.0.push(());
        }
    }
}

impl Reconcile<()> for Worker {
    async fn reconcile(&self, (): &()) -> Result<(), Failure> {
        let range = KeyRange::prefix(CLUSTER_ROLES);
        let page = self.store.list(&range, ReadAt::Latest, None).await?;
        let roles: Vec<Value> = page
            .entries
            .iter()
            .filter_map(|entry| object::parse_entry(entry).ok())
            .collect();
        for role in &roles {
            let Some(selectors) = role.pointer("/aggregationRule/clusterRoleSelectors") else {
                continue;
            };
            let wanted = union(&roles, role, selectors);
            let present = role.get("rules").cloned().unwrap_or(Value::Null);
            let empty = |rules: &Value| rules.as_array().is_none_or(Vec::is_empty);
            if wanted == present || (empty(&wanted) && empty(&present)) {
                continue;
            }
            let path = format!(
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/{}",
                object::meta(role, "name")
            );
            let patch = json!({"rules": wanted});
            self.front_door
                .merge(Manager::Controllers, &path, &patch)
                .await?;
        }
        Ok(())
    }
}

impl Worker {
    pub(super) fn new(workers: &Workers, front_door: Arc<FrontDoor>) -> Self {
        Self {
            store: Arc::clone(&workers.store),
            front_door,
            queue: Arc::new(Queue::new(workers.metrics.queue("aggregation"))),
        }
    }

    pub(super) fn inbox(&self) -> Inbox {
        Inbox(Arc::clone(&self.queue))
    }

    pub(super) async fn run(self) {
        self.queue.work(&self).await;
    }
}

/// The rules of all other roles that any of the selectors takes, each once, in the order
/// of selectors and names.
fn union(roles: &[Value], this: &Value, selectors: &Value) -> Value {
    let mut rules: Vec<Value> = Vec::new();
    let name = object::meta(this, "name");
    for selector in selectors.as_array().into_iter().flatten() {
        let selector = LabelSelector::read(selector);
        for role in roles {
            let taken = object::meta(role, "name") != name
                && selector.accepts(role["metadata"]["labels"].as_object());
            for rule in role["rules"].as_array().into_iter().flatten() {
                if taken && !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Value::Array(rules)
}

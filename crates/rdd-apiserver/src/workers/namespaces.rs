//! Furnishes Namespaces, and empties those that go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rdd_store::{Entry, Key, ReadAt, Store};
use serde_json::{Value, json};

use super::{
    Failure, Workers,
    feed::NAMESPACES,
    front_door::{self, FrontDoor, Manager},
    queue::{Queue, Reconcile},
};
use crate::{
    catalog::{CatalogHandle, Resource, Verb, builtin::FINALIZER, crd::conditions},
    object::{self, is_deleting},
};

/// The Namespaces that every control plane begins with.
const INITIAL: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// The ConfigMap with the certificates by which the server is recognised.
const ROOT_CA: &str = "kube-root-ca.crt";

/// What Kubernetes writes on it.
const ROOT_CA_DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// When a Namespace whose content does not go is looked at again without a reason.
const RECHECK: Duration = Duration::from_secs(10);

/// How many messages about single resources a condition quotes.
const PROBLEMS_MAX: usize = 10;

/// Creates the initial Namespaces where they are missing.
pub(super) async fn create_initial(front_door: &FrontDoor) -> Result<(), kube::Error> {
    for name in INITIAL {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
        });
        front_door
            .create(Manager::Server, "/api/v1/namespaces", &namespace)
            .await?;
    }
    Ok(())
}

/// The Namespaces that are being emptied.
type Waiting = Arc<Mutex<BTreeSet<String>>>;

/// Keeps Namespaces in order.
pub(super) struct Worker {
    store: Arc<dyn Store>,
    catalog: Arc<CatalogHandle>,
    front_door: Arc<FrontDoor>,
    root_ca: String,
    queue: Arc<Queue<String>>,
    waiting: Waiting,
}

/// What others tell the worker.
pub(super) struct Inbox {
    queue: Arc<Queue<String>>,
    waiting: Waiting,
}

impl Inbox {
    /// A key holds something new.
    pub(super) fn changed(&self, key: &str) {
        if let Some(name) = key.strip_prefix(NAMESPACES) {
            self.queue.push(name.to_owned());
        } else if let Some(namespace) = root_ca_of(key) {
            self.queue.push(namespace.to_owned());
        }
    }

    /// A key is empty now.
    pub(super) fn removed(&self, key: &str) {
        if let Some(name) = key.strip_prefix(NAMESPACES) {
            self.waiting.lock().remove(name);
            return;
        }
        let mut segments = key.rsplit('/');
        let (Some(_), Some(namespace)) = (segments.next(), segments.next()) else {
            return;
        };
        let furnished = root_ca_of(key).is_some()
            || key
                .strip_prefix("/registry/serviceaccounts/")
                .is_some_and(|rest| {
                    rest.split_once('/')
                        .is_some_and(|(_, name)| name == "default")
                });
        if furnished || self.waiting.lock().contains(namespace) {
            self.queue.push(namespace.to_owned());
        }
    }
}

/// The Namespace whose root CA a key holds.
fn root_ca_of(key: &str) -> Option<&str> {
    let (namespace, name) = key.strip_prefix("/registry/configmaps/")?.split_once('/')?;
    (name == ROOT_CA).then_some(namespace)
}

/// What is left in a Namespace.
#[derive(Default)]
struct Left {
    /// Objects per resource: `widgets.example.com`, `configmaps.`.
    resources: BTreeMap<String, usize>,
    /// Objects per finalizer.
    finalizers: BTreeMap<String, usize>,
    /// Deletions that the server refused.
    problems: Vec<String>,
}

impl Reconcile<String> for Worker {
    async fn reconcile(&self, name: &String) -> Result<(), Failure> {
        match self.get(format!("{NAMESPACES}{name}")).await? {
            None => Ok(()),
            Some(namespace) if is_deleting(&namespace) => self.empty(name, namespace).await,
            Some(_) => self.furnish(name).await,
        }
    }
}

impl Worker {
    pub(super) fn new(workers: &Workers, front_door: Arc<FrontDoor>) -> Self {
        Self {
            store: Arc::clone(&workers.store),
            catalog: Arc::clone(&workers.catalog),
            front_door,
            root_ca: workers.root_ca.clone(),
            queue: Arc::new(Queue::new(workers.metrics.queue("namespaces"))),
            waiting: Waiting::default(),
        }
    }

    pub(super) fn inbox(&self) -> Inbox {
        Inbox {
            queue: Arc::clone(&self.queue),
            waiting: Arc::clone(&self.waiting),
        }
    }

    pub(super) async fn run(self) {
        self.queue.work(&self).await;
    }

    async fn get(&self, key: String) -> Result<Option<Value>, Failure> {
        let entry = self.store.get(&Key::new(key)).await?;
        Ok(entry.and_then(|entry| object::parse_entry(&entry).ok()))
    }

    /// The default account and the root CA.
    async fn furnish(&self, namespace: &str) -> Result<(), Failure> {
        let account = self
            .get(format!("/registry/serviceaccounts/{namespace}/default"))
            .await?;
        if account.is_none() {
            let account = json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
            });
            let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
            self.front_door
                .create(Manager::Controllers, &path, &account)
                .await?;
        }
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let data = json!({"ca.crt": self.root_ca});
        match self
            .get(format!("/registry/configmaps/{namespace}/{ROOT_CA}"))
            .await?
        {
            None => {
                let bundle = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {
                        "name": ROOT_CA,
                        "annotations": {"kubernetes.io/description": ROOT_CA_DESCRIPTION},
                    },
                    "data": data,
                });
                self.front_door
                    .create(Manager::Controllers, &path, &bundle)
                    .await?;
            }
            Some(mut bundle) if bundle["data"] != data && !is_deleting(&bundle) => {
                bundle["data"] = data;
                let path = format!("{path}/{ROOT_CA}");
                self.front_door
                    .replace(Manager::Controllers, &path, &bundle)
                    .await?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Deletes what is in a Namespace, says how far that has come, and lets it go when
    /// nothing is left.
    async fn empty(&self, name: &str, mut namespace: Value) -> Result<(), Failure> {
        let finalizers = namespace["spec"]["finalizers"].as_array();
        let rest: Vec<Value> = match finalizers {
            Some(all) if all.iter().any(|finalizer| finalizer == FINALIZER) => {
                let ours = |finalizer: &&Value| *finalizer != FINALIZER;
                all.iter().filter(ours).cloned().collect()
            }
            // Emptied before; others hold it.
            _ => return Ok(()),
        };
        self.waiting.lock().insert(name.to_owned());
        let left = self.delete_content(name).await?;
        let mut path = format!("/api/v1/namespaces/{name}/status");
        if left.describe(&mut namespace) {
            namespace = self
                .front_door
                .replace(Manager::Controllers, &path, &namespace)
                .await?;
        }
        if !left.resources.is_empty() || !left.problems.is_empty() {
            self.queue.push_after(name.to_owned(), RECHECK);
            return Ok(());
        }
        namespace["spec"]["finalizers"] = rest.into();
        path = format!("/api/v1/namespaces/{name}/finalize");
        self.front_door
            .replace(Manager::Controllers, &path, &namespace)
            .await?;
        Ok(())
    }

    async fn delete_content(&self, namespace: &str) -> Result<Left, Failure> {
        let catalog = self.catalog.load();
        let mut seen = BTreeSet::new();
        let mut left = Left::default();
        for resource in catalog.resources() {
            let deletable =
                resource.is_namespaced() && resource.verbs.contains(&Verb::DeleteCollection);
            // Versions, and both APIs of Events, share their objects.
            if !deletable || !seen.insert(resource.storage.prefix()) {
                continue;
            }
            if self.content(resource, namespace, Some(1)).await?.is_empty() {
                continue;
            }
            let path = front_door::path(resource, Some(namespace), None);
            if let Err(error) = self.front_door.delete(&path, "Background", None).await {
                left.problems.push(error.to_string());
            }
            let remaining = self.content(resource, namespace, None).await?;
            if remaining.is_empty() {
                continue;
            }
            let name = format!("{}.{}", resource.plural, resource.group);
            left.resources.insert(name, remaining.len());
            for entry in &remaining {
                let Ok(object) = object::parse_entry(entry) else {
                    continue;
                };
                for finalizer in object::finalizers(&object) {
                    *left.finalizers.entry(finalizer.to_owned()).or_default() += 1;
                }
            }
        }
        Ok(left)
    }

    async fn content(
        &self,
        resource: &Resource,
        namespace: &str,
        limit: Option<usize>,
    ) -> Result<Vec<Entry>, Failure> {
        let range = resource.range(Some(namespace));
        Ok(self
            .store
            .list(&range, ReadAt::Latest, limit)
            .await?
            .entries)
    }
}

impl Left {
    /// Writes the five conditions; answers whether any says something new.
    fn describe(&self, namespace: &mut Value) -> bool {
        let counted = |counts: &BTreeMap<String, usize>, verb: &str| {
            let texts: Vec<String> = counts
                .iter()
                .map(|(name, count)| format!("{name} {verb} {count} resource instances"))
                .collect();
            texts.join(", ")
        };
        let content = if self.problems.is_empty() {
            None
        } else {
            let quoted: Vec<&str> = self
                .problems
                .iter()
                .take(PROBLEMS_MAX)
                .map(String::as_str)
                .collect();
            Some(format!(
                "Failed to delete all resource types, {} remaining: {}",
                self.problems.len(),
                quoted.join(", ")
            ))
        };
        let remaining = (!self.resources.is_empty()).then(|| {
            let counts = counted(&self.resources, "has");
            format!("Some resources are remaining: {counts}")
        });
        let held = (!self.finalizers.is_empty()).then(|| {
            let counts = counted(&self.finalizers, "in");
            format!("Some content in the namespace has finalizers remaining: {counts}")
        });
        let mut changed = false;
        for (kind, problem, bad, good, message) in [
            (
                "NamespaceDeletionDiscoveryFailure",
                None,
                "DiscoveryFailed",
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                None,
                "GroupVersionParsingFailed",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            (
                "NamespaceDeletionContentFailure",
                content,
                "ContentDeletionFailed",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            (
                "NamespaceContentRemaining",
                remaining,
                "SomeResourcesRemain",
                "ContentRemoved",
                "All content successfully removed",
            ),
            (
                "NamespaceFinalizersRemaining",
                held,
                "SomeFinalizersRemain",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ] {
            changed |= match problem {
                Some(problem) => conditions::set(namespace, kind, "True", bad, &problem),
                None => conditions::set(namespace, kind, "False", good, message),
            };
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_conditions_say_what_is_left() {
        let mut namespace = json!({"metadata": {"name": "a"}, "status": {}});
        let left = Left {
            resources: BTreeMap::from([("configmaps.".to_owned(), 1)]),
            finalizers: BTreeMap::from([("example.com/f".to_owned(), 1)]),
            problems: Vec::new(),
        };
        assert!(left.describe(&mut namespace));
        let conditions = namespace["status"]["conditions"].as_array().cloned();
        let said: Vec<(String, String)> = conditions
            .into_iter()
            .flatten()
            .map(|one| (one["status"].to_string(), one["message"].to_string()))
            .filter(|(status, _)| status == "\"True\"")
            .collect();
        assert_eq!(said.len(), 2);
        assert_eq!(
            said[0].1,
            "\"Some resources are remaining: configmaps. has 1 resource instances\""
        );
        assert!(said[1].1.contains("example.com/f in 1 resource instances"));
        assert!(!left.describe(&mut namespace));
        assert!(Left::default().describe(&mut namespace));
    }

    #[test]
    fn furniture_and_content_wake_the_worker() {
        let inbox = Inbox {
            queue: Arc::new(Queue::new(Arc::default())),
            waiting: Waiting::default(),
        };
        let woken = |inbox: &Inbox| inbox.queue.take_all();
        inbox.changed("/registry/configmaps/a/other");
        inbox.removed("/registry/configmaps/a/other");
        assert!(woken(&inbox).is_empty());
        inbox.removed("/registry/configmaps/a/kube-root-ca.crt");
        inbox.removed("/registry/serviceaccounts/b/default");
        inbox.changed("/registry/namespaces/c");
        assert_eq!(woken(&inbox), ["a", "b", "c"]);
        inbox.waiting.lock().insert("d".to_owned());
        inbox.removed("/registry/example.com/widgets/d/w");
        assert_eq!(woken(&inbox), ["d"]);
    }
}

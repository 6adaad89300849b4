//! Writes down what was decided about definitions, and empties those that go.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdd_store::{Entry, Key, ReadAt, Store};
use serde_json::Value;

use super::{
    Failure, Workers,
    feed::DEFINITIONS,
    front_door::{self, FrontDoor, Manager},
    queue::{Queue, Reconcile},
};
use crate::{
    catalog::{
        CatalogHandle, Resource,
        crd::{self, Definitions, conditions},
    },
    object::{self, finalizers, is_deleting, meta},
};

/// When a definition whose objects do not go is looked at again without a reason.
const RECHECK: Duration = Duration::from_secs(10);

/// The writes that bring a new definition to where it is served: watchers see each.
const STEPS: usize = 2;

/// Definitions that are being deleted, by the prefix of their objects' keys.
type Waiting = Arc<Mutex<BTreeMap<String, String>>>;

/// Keeps the status of definitions.
pub(super) struct Worker {
    store: Arc<dyn Store>,
    catalog: Arc<CatalogHandle>,
    known: Arc<Definitions>,
    front_door: Arc<FrontDoor>,
    queue: Arc<Queue<String>>,
    waiting: Waiting,
}

/// What others tell the worker.
pub(super) struct Inbox {
    queue: Arc<Queue<String>>,
    waiting: Waiting,
}

impl Inbox {
    /// The definition of this name changed, or one that its fate hangs on.
    pub(super) fn push(&self, name: &str) {
        self.queue.push(name.to_owned());
    }

    /// A key is empty now.
    pub(super) fn removed(&self, key: &str) {
        let waiting = self.waiting.lock();
        for (prefix, name) in waiting.iter() {
            if key.starts_with(prefix.as_str()) {
                self.queue.push(name.clone());
            }
        }
    }
}

impl Reconcile<String> for Worker {
    async fn reconcile(&self, name: &String) -> Result<(), Failure> {
        let Some(mut object) = self.read(name).await? else {
            self.waiting.lock().retain(|_, waiting| waiting != name);
            return Ok(());
        };
        if is_deleting(&object) {
            return self.empty(name, object).await;
        }
        // Who created it waits for the last step. What is still left comes through the feed.
        for _ in 0..STEPS {
            match self.judged(name, &object) {
                Some(next) if next != object => object = self.write_status(&next).await?,
                _ => break,
            }
        }
        Ok(())
    }
}

impl Worker {
    pub(super) fn new(workers: &Workers, front_door: Arc<FrontDoor>) -> Self {
        Self {
            store: Arc::clone(&workers.store),
            catalog: Arc::clone(&workers.catalog),
            known: Arc::clone(&workers.definitions),
            front_door,
            queue: Arc::new(Queue::new(workers.metrics.queue("definitions"))),
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
        let _keeper = self.known.keep();
        self.queue.work(&self).await;
    }

    async fn read(&self, name: &str) -> Result<Option<Value>, Failure> {
        let key = Key::new(format!("{DEFINITIONS}{name}"));
        let entry = self.store.get(&key).await?;
        Ok(entry.and_then(|entry| object::parse_entry(&entry).ok()))
    }

    async fn write_status(&self, object: &Value) -> Result<Value, Failure> {
        let path = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}/status",
            meta(object, "name")
        );
        let written = self.front_door.replace(Manager::Server, &path, object);
        Ok(written.await?)
    }

    /// The definition with the status that was decided on.
    fn judged(&self, name: &str, object: &Value) -> Option<Value> {
        let verdict = self.known.verdict(name)?;
        let mut next = object.clone();
        next["status"]["acceptedNames"] = verdict.accepted;
        let established = conditions::is_true(object, "Established");
        let installing = object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|one| one["type"] == "Established" && one["reason"] == "Installing");
        let mut set = |kind: &str, status: &str, reason: &str, message: &str| {
            conditions::set(&mut next, kind, status, reason, message);
        };
        match &verdict.conflict {
            None => set("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
            Some(conflict) => set("NamesAccepted", "False", conflict.reason, &conflict.message),
        }
        let initial = "the initial names have been accepted";
        match &verdict.conflict {
            _ if established => {}
            Some(_) => set(
                "Established",
                "False",
                "NotAccepted",
                "not all names are accepted",
            ),
            None if installing => set("Established", "True", "InitialNamesAccepted", initial),
            None => set("Established", "False", "Installing", initial),
        }
        if let Some(approval) = crd::approval_condition(object) {
            let (status, reason, message) = approval;
            set(
                "KubernetesAPIApprovalPolicyConformant",
                status,
                reason,
                &message,
            );
        }
        Some(next)
    }

    /// Deletes the objects of a definition that is being deleted, and lets it go when
    /// there are none left.
    async fn empty(&self, name: &str, mut object: Value) -> Result<(), Failure> {
        if !finalizers(&object).any(|finalizer| finalizer == crd::FINALIZER) {
            return Ok(());
        }
        let Some(prefix) = prefix(&object) else {
            return Ok(());
        };
        self.waiting.lock().insert(prefix.clone(), name.to_owned());
        let changed = conditions::set(
            &mut object,
            "Terminating",
            "True",
            "InstanceDeletionInProgress",
            "CustomResource deletion is in progress",
        );
        if changed {
            // The write comes back through the feed.
            return self.write_status(&object).await.map(drop);
        }
        self.delete_objects(name, &prefix).await?;
        if !self.objects(&prefix).await?.is_empty() {
            self.queue.push_after(name.to_owned(), RECHECK);
            return Ok(());
        }
        conditions::set(
            &mut object,
            "Terminating",
            "False",
            "InstanceDeletionCompleted",
            "removed all instances",
        );
        let rest: Vec<Value> = finalizers(&object)
            .filter(|finalizer| *finalizer != crd::FINALIZER)
            .map(Value::from)
            .collect();
        if let Some(metadata) = object::metadata_mut(&mut object) {
            metadata.insert("finalizers".to_owned(), rest.into());
        }
        self.write_status(&object).await?;
        // A create that began before the deletion did may have ended after the last look.
        for late in self.objects(&prefix).await? {
            match self.store.delete(&late.key, late.revision).await {
                Ok(_) | Err(rdd_store::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn objects(&self, prefix: &str) -> Result<Vec<Entry>, Failure> {
        let range = rdd_store::KeyRange::prefix(prefix);
        Ok(self.store.list(&range, ReadAt::Latest, None).await?.entries)
    }

    async fn delete_objects(&self, name: &str, prefix: &str) -> Result<(), Failure> {
        let entries = self.objects(prefix).await?;
        let catalog = self.catalog.load();
        let served = catalog.resources().find(|resource| belongs(resource, name));
        let Some(resource) = served else {
            // No version is served, so that nobody else can delete them either.
            for entry in entries {
                match self.store.delete(&entry.key, entry.revision).await {
                    Ok(_) | Err(rdd_store::Error::Conflict { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(());
        };
        let mut namespaces: Vec<Option<&str>> = entries
            .iter()
            .map(|entry| {
                let rest = entry.key.as_str().strip_prefix(prefix)?;
                rest.split_once('/').map(|(namespace, _)| namespace)
            })
            .collect();
        namespaces.dedup();
        for namespace in namespaces {
            let path = front_door::path(resource, namespace, None);
            self.front_door.delete(&path, "Background", None).await?;
        }
        Ok(())
    }
}

fn belongs(resource: &Resource, name: &str) -> bool {
    matches!(&resource.origin, crate::catalog::Origin::Custom(custom) if custom.crd_name == name)
}

/// What the keys of a definition's objects begin with.
fn prefix(object: &Value) -> Option<String> {
    let group = object["spec"]["group"].as_str()?;
    let plural = object["spec"]["names"]["plural"].as_str()?;
    Some(format!("/registry/{group}/{plural}/"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_found_by_group_and_plural() {
        let object = json!({"spec": {"group": "example.com", "names": {"plural": "widgets"}}});
        assert_eq!(
            prefix(&object).as_deref(),
            Some("/registry/example.com/widgets/")
        );
    }
}

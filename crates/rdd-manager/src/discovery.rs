//! The ConfigMap in which managers say which controllers they run.
//!
//! The control plane makes it anew at each start ([`Discovery::begin`]), and takes the
//! entries of killed managers away ([`crate::clear_up`]): nobody else clears what dead
//! managers left. A manager owns exactly its own key. Three answers differ: the key is missing (unknown, keep waiting), its
//! list is empty (no controllers), the list lacks a controller (it does not run here).

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::error::{Error, Result};
use crate::lease::holder;
use crate::watch_backoff::watch_backoff;

/// How often is looked whether programs have left.
const LOOK: Duration = Duration::from_millis(20);

/// What things are called, chosen by whoever assembles the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The namespace of the ConfigMap and of the leases.
    pub namespace: &'static str,
    /// The ConfigMap.
    pub config_map: &'static str,
    /// On the ConfigMap: everything that this start enabled works.
    pub ready_annotation: &'static str,
    /// On the ConfigMap: the random identity of the start that made it.
    pub start_annotation: &'static str,
    /// On the ConfigMap: the control plane stops, and programs have to leave first.
    pub stopping_annotation: &'static str,
    /// Who owns the fields of definitions.
    pub field_manager: &'static str,
    /// Who owns the fields of webhook configurations.
    pub webhook_field_manager: &'static str,
    /// On a webhook configuration, a label: the controller whose rules it lists.
    pub controller: &'static str,
    /// On a webhook configuration, an annotation: the manager that wrote it.
    pub manager: &'static str,
}

/// What one manager says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Who it is: unique among all managers that ever ran. Its health endpoint says it too.
    #[serde(default)]
    pub identity: String,
    /// Port of the health endpoint.
    pub health_port: u16,
    /// Port of the metrics endpoint.
    pub metrics_port: u16,
    /// The controllers that it runs; `null` when none.
    pub enabled_controllers: Option<Vec<String>>,
    /// Endpoints by controller, sorted.
    #[serde(default)]
    pub enabled_passthroughs: BTreeMap<String, Vec<String>>,
    /// When it registered.
    pub start_time: String,
    /// Answers 200 while the manager lives.
    pub health_endpoint: String,
    /// Its figures.
    pub metrics_endpoint: String,
    /// Where its endpoints are; empty without any.
    #[serde(default)]
    pub passthrough_endpoint: String,
}

/// A key of the ConfigMap that is no entry.
#[derive(Debug, thiserror::Error)]
#[error("the discovery entry {key:?} is malformed")]
pub struct EntryError {
    /// The manager.
    pub key: String,
    /// What the parser said.
    #[source]
    pub source: serde_json::Error,
}

impl Entry {
    /// An entry for these controllers, whose manager answers on these loopback ports.
    #[must_use]
    pub fn new(
        identity: &str,
        health_port: u16,
        metrics_port: u16,
        controllers: Vec<String>,
    ) -> Self {
        Self {
            identity: identity.to_owned(),
            health_port,
            metrics_port,
            enabled_controllers: (!controllers.is_empty()).then_some(controllers),
            enabled_passthroughs: BTreeMap::new(),
            start_time: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            health_endpoint: format!("http://localhost:{health_port}/healthz"),
            metrics_endpoint: format!("http://localhost:{metrics_port}/metrics"),
            passthrough_endpoint: String::new(),
        }
    }

    /// Every controller that some manager lists; `None` when no manager has
    /// registered yet, which says nothing about any controller.
    ///
    /// # Errors
    /// When an entry cannot be read.
    pub fn controllers(map: &ConfigMap) -> Result<Option<BTreeSet<String>>, EntryError> {
        let entries = Self::all(map)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let names = entries
            .into_values()
            .flat_map(|entry| entry.enabled_controllers);
        Ok(Some(names.flatten().collect()))
    }

    /// Every manager's entry.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn all(map: &ConfigMap) -> Result<BTreeMap<String, Self>, EntryError> {
        let entries = map.data.iter().flatten().map(|(key, text)| {
            let entry = serde_json::from_str(text).map_err(|source| EntryError {
                key: key.clone(),
                source,
            })?;
            Ok((key.clone(), entry))
        });
        entries.collect()
    }
}

/// Reads and writes the ConfigMap.
#[derive(Clone)]
pub struct Discovery {
    client: kube::Client,
    names: Names,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Discovery")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Discovery {
    /// Over a client that may write the ConfigMap.
    #[must_use]
    pub fn new(client: kube::Client, names: Names) -> Self {
        Self { client, names }
    }

    /// Makes the ConfigMap anew, without entries and not ready, in the name of this
    /// start. For the control plane alone, before any manager starts.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn begin(&self, start_id: &str) -> Result<()> {
        self.ensure_namespace().await?;
        let api = self.api();
        match api
            .delete(self.names.config_map, &DeleteParams::default())
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            deleted => {
                deleted.map_err(Error::api("remove the old discovery ConfigMap"))?;
            }
        }
        let annotations =
            BTreeMap::from([(self.names.start_annotation.to_owned(), start_id.to_owned())]);
        api.create(&PostParams::default(), &self.empty(annotations))
            .await
            .map_err(Error::api("create the discovery ConfigMap"))?;
        Ok(())
    }

    /// Writes a manager's entry and no other.
    ///
    /// # Errors
    /// When the API refuses; then the manager has not registered.
    pub async fn register(&self, key: &str, entry: &Entry) -> Result<()> {
        let text = serde_json::to_string(entry).expect("an entry is plain data");
        let patch = json!({"data": {key: text}});
        let action = "register in the discovery ConfigMap";
        match self.patch(&patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            patched => return patched.map_err(Error::api(action)),
        }
        self.ensure_namespace().await?;
        let created = self
            .api()
            .create(&PostParams::default(), &self.empty(BTreeMap::new()))
            .await;
        match created {
            // Another manager was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            created => {
                created.map_err(Error::api(action))?;
            }
        }
        self.patch(&patch).await.map_err(Error::api(action))
    }

    /// Takes a manager's entry away, unless another one has that key by now. For the
    /// manager itself, and for the control plane when it is dead.
    ///
    /// # Errors
    /// When the API refuses. A missing ConfigMap is fine.
    pub async fn unregister(&self, key: &str, identity: &str) -> Result<()> {
        let action = "take an entry out of the discovery ConfigMap";
        loop {
            let found = self.api().get_opt(self.names.config_map).await;
            let Some(map) = found.map_err(Error::api(action))? else {
                return Ok(());
            };
            let entry = map.data.as_ref().and_then(|data| data.get(key));
            let entry: Option<Entry> = entry.and_then(|text| serde_json::from_str(text).ok());
            if entry.is_none_or(|entry| entry.identity != identity) {
                return Ok(());
            }
            let patch = json!({
                "metadata": {"resourceVersion": map.metadata.resource_version},
                "data": {key: null},
            });
            match self.patch(&patch).await {
                // Somebody else wrote an entry meanwhile.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                patched => return patched.map_err(Error::api(action)),
            }
        }
    }

    /// Every manager's entry; `None` without the ConfigMap.
    ///
    /// # Errors
    /// When the API refuses, or an entry cannot be read.
    pub async fn entries(&self) -> Result<Option<BTreeMap<String, Entry>>> {
        let action = "read the discovery ConfigMap";
        let found = self.api().get_opt(self.names.config_map).await;
        let Some(map) = found.map_err(Error::api(action))? else {
            return Ok(None);
        };
        Entry::all(&map).map(Some).map_err(Error::Entry)
    }

    /// Says that everything works. The control plane's last step.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn mark_ready(&self) -> Result<()> {
        let patch = json!({"metadata": {"annotations": {self.names.ready_annotation: "true"}}});
        self.patch(&patch)
            .await
            .map_err(Error::api("mark the control plane ready"))
    }

    /// Tells managers in programs of their own that the control plane stops, and waits
    /// until they have signed off, for this long at most: what they hold is free then.
    /// Without any, nothing is written.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn dismiss(&self, own: &str, patience: Duration) -> Result<()> {
        let entries = self.entries().await?.unwrap_or_default();
        let others: Vec<String> = entries
            .into_iter()
            .filter(|(key, _)| key != own)
            .map(|(_, entry)| entry.identity)
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let patch = json!({"metadata": {"annotations": {self.names.stopping_annotation: "true"}}});
        self.patch(&patch)
            .await
            .map_err(Error::api("tell programs to leave"))?;
        let gone = async {
            while self.hold_something(&others).await? {
                sleep(LOOK).await;
            }
            Ok(())
        };
        // Whoever stays misses the API soon.
        timeout(patience, gone).await.unwrap_or(Ok(()))
    }

    /// Whether one of these managers is listed, or has a lease.
    async fn hold_something(&self, identities: &[String]) -> Result<bool> {
        let is_one = |identity: &str| identities.iter().any(|one| one == identity);
        let entries = self.entries().await?.unwrap_or_default();
        if entries.values().any(|entry| is_one(&entry.identity)) {
            return Ok(true);
        }
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), self.names.namespace);
        let leases = leases.list(&ListParams::default()).await;
        let leases = leases.map_err(Error::api("read the leases of managers"))?;
        Ok(leases.items.iter().any(|lease| is_one(holder(lease))))
    }

    /// Returns when the control plane says that it stops.
    pub async fn dismissed(&self) {
        let config =
            watcher::Config::default().fields(&format!("metadata.name={}", self.names.config_map));
        let events = watcher(self.api(), config)
            .backoff(watch_backoff())
            .touched_objects();
        let mut events = pin!(events);
        while let Some(seen) = events.next().await {
            // That the control plane is gone without a word is somebody else's to find out.
            let annotations = seen.ok().and_then(|map| map.metadata.annotations);
            if annotations.is_some_and(|all| all.contains_key(self.names.stopping_annotation)) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    async fn patch(&self, patch: &serde_json::Value) -> kube::Result<()> {
        self.api()
            .patch(
                self.names.config_map,
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await
            .map(drop)
    }

    pub(crate) async fn ensure_namespace(&self) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let action = || format!("create the namespace {}", self.names.namespace);
        if api
            .get_opt(self.names.namespace)
            .await
            .map_err(Error::api(action()))?
            .is_some()
        {
            return Ok(());
        }
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(self.names.namespace.to_owned());
        namespace.metadata.labels = Some(labels(false));
        match api.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            created => created.map(drop).map_err(Error::api(action())),
        }
    }

    fn empty(&self, annotations: BTreeMap<String, String>) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(self.names.config_map.to_owned());
        map.metadata.labels = Some(labels(true));
        map.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
        map
    }

    fn api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), self.names.namespace)
    }
}

fn labels(component: bool) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(
        "app.kubernetes.io/name".to_owned(),
        "rancher-desktop-daemon".to_owned(),
    )]);
    if component {
        labels.insert(
            "app.kubernetes.io/component".to_owned(),
            "controller-manager".to_owned(),
        );
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_none_and_not_here_are_three_answers() {
        let check = |data: &[(&str, &str)], expect: Option<&[&str]>| {
            let map = ConfigMap {
                data: Some(
                    data.iter()
                        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                        .collect(),
                ),
                ..ConfigMap::default()
            };
            let names = Entry::controllers(&map).expect("entries parse");
            let expect = expect.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(names, expect);
        };
        let entry = |controllers: &[&str]| {
            let names = controllers.iter().map(|name| (*name).to_owned()).collect();
            serde_json::to_string(&Entry::new("x", 1, 1, names)).expect("plain data")
        };
        check(&[], None);
        check(&[("embedded", &entry(&[]))], Some(&[]));
        check(
            &[
                ("embedded", &entry(&["app"])),
                ("containers", &entry(&["engine"])),
            ],
            Some(&["app", "engine"]),
        );
        let broken = ConfigMap {
            data: Some(BTreeMap::from([("x".to_owned(), "{".to_owned())])),
            ..ConfigMap::default()
        };
        assert_eq!(Entry::controllers(&broken).expect_err("malformed").key, "x");
    }

    #[test]
    fn an_entry_has_the_documented_fields() {
        let value =
            serde_json::to_value(Entry::new("app/1", 7, 8, Vec::new())).expect("plain data");
        assert_eq!(value["enabledControllers"], serde_json::Value::Null);
        assert_eq!(value["enabledPassthroughs"], json!({}));
        assert_eq!(value["healthPort"], 7);
        assert_eq!(value["healthEndpoint"], "http://localhost:7/healthz");
        assert_eq!(value["metricsEndpoint"], "http://localhost:8/metrics");
    }
}

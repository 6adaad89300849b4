//! Clearing up after managers that were killed.
//!
//! A manager in a program of its own takes its entry and its webhooks away when it ends.
//! One that was killed cannot; the control plane does it when the leases of the killed
//! one have run out. Nobody else takes what another manager wrote away.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::time::sleep;

use crate::discovery::{Discovery, Entry, Names};
use crate::lease::{self, lasts};
use crate::manager::EMBEDDED;
use crate::watch_backoff::watch_backoff;
use crate::webhooks::{self, Whose};

/// How often leases are looked at while some manager is outside.
const LOOK: Duration = Duration::from_secs(1);

/// When the leases of a manager were seen to change last.
type Seen = BTreeMap<String, (BTreeSet<String>, Instant)>;

/// Clears up until dropped. Sleeps while no manager is outside.
pub async fn clear_up(client: kube::Client, names: Names) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), names.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", names.config_map));
    let events = watcher(maps, config)
        .backoff(watch_backoff())
        .touched_objects();
    let mut events = pin!(events);
    let discovery = Discovery::new(client.clone(), names);
    let mut seen = Seen::new();
    let mut outside = false;
    loop {
        tokio::select! {
            event = events.try_next() => match event {
                Ok(Some(map)) => outside = map.data.iter().flatten().any(|(key, _)| key != EMBEDDED),
                Ok(None) => return,
                Err(error) => tracing::debug!(%error, "the watch for managers was interrupted"),
            },
            () = sleep(LOOK), if outside => {
                if let Err(error) = look(&client, &names, &discovery, &mut seen).await {
                    tracing::warn!(%error, "managers outside could not be looked after");
                }
            }
        }
    }
}

async fn look(
    client: &kube::Client,
    names: &Names,
    discovery: &Discovery,
    seen: &mut Seen,
) -> crate::Result<()> {
    let entries = discovery.entries().await?.unwrap_or_default();
    let leases: Api<Lease> = Api::namespaced(client.clone(), names.namespace);
    let leases = leases
        .list(&ListParams::default())
        .await
        .map_err(crate::Error::api("read the leases of managers"))?
        .items;
    seen.retain(|identity, _| entries.values().any(|entry| entry.identity == *identity));
    for (key, entry) in entries.iter().filter(|(key, _)| *key != EMBEDDED) {
        if !is_dead(entry, &leases, seen) {
            continue;
        }
        tracing::warn!(
            manager = entry.identity,
            "a manager has not renewed its leases and is taken off the list"
        );
        webhooks::remove(client, names, Whose::Manager(&entry.identity)).await?;
        discovery.unregister(key, &entry.identity).await?;
    }
    Ok(())
}

/// Whether everything that a manager holds has run out: watched, unchanged, for as long
/// as it says that it lasts.
fn is_dead(entry: &Entry, leases: &[Lease], seen: &mut Seen) -> bool {
    let held: Vec<&Lease> = leases
        .iter()
        .filter(|lease| lease::holder(lease) == entry.identity)
        .collect();
    if held.is_empty() {
        return true;
    }
    let versions: BTreeSet<String> = held
        .iter()
        .filter_map(|lease| lease.metadata.resource_version.clone())
        .collect();
    let longest = held
        .iter()
        .map(|lease| lasts(lease))
        .max()
        .unwrap_or_default();
    let now = Instant::now();
    let known = seen
        .entry(entry.identity.clone())
        .or_insert_with(|| (versions.clone(), now));
    if known.0 != versions {
        *known = (versions, now);
    }
    now.duration_since(known.1) >= longest
}

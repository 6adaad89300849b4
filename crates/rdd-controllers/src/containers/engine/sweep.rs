//! Removing mirrors without asking the engine: after an intended stop, and those of
//! another engine.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use parking_lot::RwLock;
use rdd_api::names;
use serde::de::DeserializeOwned;

use super::mirrors::{Mirrors, is_older};
use super::work::prune;

/// Mirrors of one kind that are removed at once.
const AT_ONCE: usize = 16;

/// Removes the mirrors whose engine is chosen. Nothing is skipped because of a
/// failure; all failures are told together.
pub(super) async fn sweep(
    client: &kube::Client,
    mirrors: &RwLock<Mirrors>,
    chosen: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let (containers, volumes, images, namespaces) = {
        let mirrors = mirrors.read();
        (
            pick(&mirrors.containers, &chosen),
            pick(&mirrors.volumes, &chosen),
            pick(&mirrors.images, &chosen),
            pick(&mirrors.namespaces, &chosen),
        )
    };
    let mut failed = Vec::new();
    sweep_kind(client, containers, &mut failed).await;
    sweep_kind(client, volumes, &mut failed).await;
    sweep_kind(client, images, &mut failed).await;
    sweep_kind(client, namespaces, &mut failed).await;
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("; "))
    }
}

fn pick<K: Resource>(
    objects: &BTreeMap<String, Arc<K>>,
    chosen: impl Fn(&str) -> bool,
) -> Vec<Arc<K>> {
    let marked = |object: &&Arc<K>| {
        // No engine of ours is behind what an older release mirrored.
        let mut labels = object.meta().labels.iter().flatten();
        is_older(&***object)
            || labels.any(|(name, value)| name == names::ENGINE_LABEL && chosen(value))
    };
    objects.values().filter(marked).cloned().collect()
}

async fn sweep_kind<K>(client: &kube::Client, objects: Vec<Arc<K>>, failed: &mut Vec<String>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let removed = stream::iter(objects).map(|object| async move {
        let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
        let removed = prune(&api, &*object).await;
        removed.map_err(|error| format!("{}: {error}", object.name_any()))
    });
    let removed: Vec<_> = removed.buffer_unordered(AT_ONCE).collect().await;
    failed.extend(removed.into_iter().filter_map(Result::err));
}

//! Adding and removing finalizers beside other writers.
//!
//! Guarantees: no other finalizer is lost or brought back, whatever happens
//! between the read and the write; an object that is gone is no error.

use std::fmt::Debug;

use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Attempts against other writers of one object. Each lost race means that somebody
/// else made progress; a hundred in a row means a broken writer.
const ATTEMPTS: usize = 100;

/// Whether the object carries the finalizer.
#[must_use]
pub fn has<K: Resource>(object: &K, finalizer: &str) -> bool {
    let finalizers = object.meta().finalizers.iter().flatten();
    finalizers.into_iter().any(|name| name == finalizer)
}

/// Whether the object is waiting for finalizers.
#[must_use]
pub fn is_deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Puts the finalizer on the object. Does nothing to one that has it, that is
/// being deleted, or that is gone.
///
/// # Errors
/// When the API refuses.
pub async fn add<K>(api: &Api<K>, name: &str, finalizer: &str) -> kube::Result<()>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    edit(api, name, |object| {
        if is_deleting(object) || has(object, finalizer) {
            return None;
        }
        let mut list = object.meta().finalizers.clone().unwrap_or_default();
        list.push(finalizer.to_owned());
        Some(list)
    })
    .await
}

/// Takes the finalizer off the object, wherever in the list it stands.
///
/// # Errors
/// When the API refuses.
pub async fn remove<K>(api: &Api<K>, name: &str, finalizer: &str) -> kube::Result<()>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    remove_all(api, name, |other| other == finalizer).await
}

/// Takes every finalizer off the object that is to go.
///
/// # Errors
/// When the API refuses.
pub async fn remove_all<K>(
    api: &Api<K>,
    name: &str,
    goes: impl Fn(&str) -> bool,
) -> kube::Result<()>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    edit(api, name, |object| {
        let list = object.meta().finalizers.as_ref()?;
        let kept: Vec<String> = list.iter().filter(|name| !goes(name)).cloned().collect();
        (kept.len() != list.len()).then_some(kept)
    })
    .await
}

async fn edit<K>(
    api: &Api<K>,
    name: &str,
    change: impl Fn(&K) -> Option<Vec<String>>,
) -> kube::Result<()>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut attempt = 0;
    loop {
        let Some(object) = api.get_opt(name).await? else {
            return Ok(());
        };
        let Some(finalizers) = change(&object) else {
            return Ok(());
        };
        // The list is replaced as a whole, so the write is pinned to what was read.
        let patch = json!({"metadata": {
            "uid": object.meta().uid,
            "resourceVersion": object.meta().resource_version,
            "finalizers": finalizers,
        }});
        let written = api
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        attempt += 1;
        match written {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

//! Taking what an object owns down with it, in order.
//!
//! Guarantees: only objects that name the owner by its uid are touched; of their
//! finalizers only those are taken off that an owner puts on, so that what an object's
//! own controller has to do is still done; one failure does not hold the others up.

use std::fmt;

use futures::future::join_all;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::core::discovery::verbs;
use kube::discovery::{Discovery, Scope};
use kube::{Client, ResourceExt as _};

use crate::finalizer;

/// What finalizers of owners begin with; the owner's kind follows.
pub const OWNED_BY: &str = "rdd.rancherdesktop.io/owned-by-";

/// What could not be deleted, and why.
#[derive(Debug, Default, thiserror::Error)]
pub struct Left(Vec<String>);

impl fmt::Display for Left {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "failed to delete what it owns: {}",
            self.0.join("; ")
        )
    }
}

/// Deletes everything of any kind in the namespace that this owner owns.
///
/// # Errors
/// All failures together; what did not fail is deleted. Kinds that cannot be listed are
/// skipped, and what is gone already is success.
pub async fn delete_owned(client: &Client, namespace: &str, owner_uid: &str) -> Result<(), Left> {
    let discovered = Discovery::new(client.clone()).run().await;
    let discovered =
        discovered.map_err(|error| Left(vec![format!("discover what is served: {error}")]))?;
    let kinds: Vec<_> = discovered
        .groups()
        .flat_map(|group| group.recommended_resources())
        .filter(|(_, able)| {
            able.scope == Scope::Namespaced
                && able.supports_operation(verbs::LIST)
                && able.supports_operation(verbs::DELETE)
        })
        .collect();
    let sweeps = kinds.iter().map(|(kind, _)| async move {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
        sweep(&api, &kind.plural, owner_uid).await
    });
    let failures: Vec<String> = join_all(sweeps).await.into_iter().flatten().collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Left(failures))
}

/// Deletes what is owned of one kind; says what failed.
async fn sweep(api: &Api<DynamicObject>, plural: &str, owner_uid: &str) -> Vec<String> {
    let Ok(listed) = api.list_metadata(&ListParams::default()).await else {
        return Vec::new();
    };
    let owned = listed.items.into_iter().filter(|object| {
        let mut owners = object.owner_references().iter();
        owners.any(|owner| owner.uid == owner_uid)
    });
    let mut failures = Vec::new();
    for object in owned {
        let name = object.name_any();
        let deleted = async {
            finalizer::remove_all(api, &name, |finalizer| finalizer.starts_with(OWNED_BY)).await?;
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: object.uid(),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            match api.delete(&name, &params).await {
                // Gone, or another one of the same name by now.
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
                deleted => deleted.map(drop),
            }
        };
        if let Err(error) = deleted.await {
            failures.push(format!("{plural}/{name}: {error}"));
        }
    }
    failures
}

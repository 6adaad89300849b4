//! The namespace of the mirrors goes with the App, not before it.
//!
//! Whoever deletes a namespace deletes what is in it, and a deleted mirror removes
//! what it shows from the engine.

use std::sync::Arc;

use async_trait::async_trait;
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt as _};
use rdd_admission::{AdmissionRequest, Admit, Admitted, Denial, Frame, Matches, Operation};
use rdd_api::{App, Container, Image, Volume, names};
use serde::de::DeserializeOwned;

/// The webhook that the rule goes by.
const GUARD: &str = "namespace-guard.app.rancherdesktop.io";

/// Refuses to delete the App's namespace while mirrors are, or may come to be, in it.
pub(super) fn rule(client: kube::Client) -> Arc<dyn Admit> {
    let matches = [Matches::resource("", "namespaces", [Operation::Delete])];
    Arc::new(NamespaceGuard {
        client,
        frame: Frame::validating(GUARD, matches).listed("namespace-guard", "v1", "namespace"),
    })
}

struct NamespaceGuard {
    client: kube::Client,
    frame: Frame,
}

#[async_trait]
impl Admit for NamespaceGuard {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        let apps: Api<App> = Api::all(self.client.clone());
        let app = apps.get_opt(names::APP).await.map_err(unknown)?;
        let Some(app) = app.filter(|app| app.spec.namespace() == request.name) else {
            return Ok(Admitted::default());
        };
        let leaving = app.meta().deletion_timestamp.is_some();
        if leaving && !self.holds_mirrors(&request.name).await.map_err(unknown)? {
            return Ok(Admitted::default());
        }
        Err(Denial::forbidden(
            GUARD,
            format!(
                "namespace {:?} holds the mirrors of App {:?}, and deleting them would remove what they show from the engine; delete the App instead",
                request.name,
                app.name_any()
            ),
        ))
    }
}

impl NamespaceGuard {
    async fn holds_mirrors(&self, namespace: &str) -> Result<bool, kube::Error> {
        Ok(self.holds::<Container>(namespace).await?
            || self.holds::<Image>(namespace).await?
            || self.holds::<Volume>(namespace).await?)
    }

    async fn holds<K>(&self, namespace: &str) -> Result<bool, kube::Error>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        match api.list_metadata(&ListParams::default().limit(1)).await {
            Ok(found) => Ok(!found.items.is_empty()),
            // A kind that nobody serves has no objects.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What cannot be judged is not allowed: a removed container does not come back.
fn unknown(error: kube::Error) -> Denial {
    Denial {
        webhook: GUARD.to_owned(),
        code: 500,
        reason: "InternalError".to_owned(),
        message: format!("failed to look at what the namespace holds: {error}"),
    }
}

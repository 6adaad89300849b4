//! ContainerNamespace: what whoever deletes one is told.

use std::sync::Arc;

use async_trait::async_trait;
use kube::api::{Api, ListParams};
use rdd_admission::{AdmissionRequest, Admit, Admitted, Denial, Frame, Matches, Operation};
use rdd_api::names::{self, controller, group, selection};
use rdd_api::{Container, ContainerNamespace};
use rdd_manager::ControllerDef;

use super::kinds;
use crate::world::World;

/// Ships ContainerNamespace; the engine mirrors into it.
pub(crate) const DEF: ControllerDef<World> = ControllerDef {
    name: controller::CONTAINER_NAMESPACE,
    group: selection::CONTAINERS,
    needs: &[],
    crds: || vec![ContainerNamespace::crd()],
    admission: |context| vec![Arc::new(DeletionNotice::new(context.client()))],
    endpoints: |_| Vec::new(),
    run: kinds::idle,
};

/// The webhook name by which the rule is known.
const RULE: &str = "container-namespace-deleting.containers.rancherdesktop.io";

/// Allows every deletion, and warns when it will not last.
struct DeletionNotice {
    client: kube::Client,
    frame: Frame,
}

impl DeletionNotice {
    fn new(client: kube::Client) -> Self {
        let matches = [Matches::resource(
            group::CONTAINERS,
            "containernamespaces",
            [Operation::Delete],
        )];
        Self {
            client,
            frame: Frame::validating(RULE, matches).listed(
                "container-namespace-deleting",
                names::VERSION,
                "containernamespace",
            ),
        }
    }

    /// Whether the engine makes this one anew.
    async fn is_needed(&self, namespace: &str, name: &str) -> kube::Result<bool> {
        if name == names::MOBY {
            return Ok(true);
        }
        let api: Api<Container> = Api::namespaced(self.client.clone(), namespace);
        let mirrors = match api.list(&ListParams::default()).await {
            // A kind that nobody serves has no objects.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
            mirrors => mirrors?,
        };
        let refers = |mirror: &Container| {
            let status = mirror.status.as_ref();
            status.is_some_and(|status| status.namespace == name)
        };
        Ok(mirrors.items.iter().any(refers))
    }
}

#[async_trait]
impl Admit for DeletionNotice {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        let name = &request.name;
        let warning = match self.is_needed(&request.namespace, name).await {
            Ok(false) => None,
            Ok(true) => Some(format!(
                "ContainerNamespace {name:?} is made again while the engine is mirrored"
            )),
            Err(error) => Some(format!(
                "ContainerNamespace {name:?} may be made again: the containers cannot be read: {error}"
            )),
        };
        Ok(Admitted {
            object: None,
            warnings: warning.into_iter().collect(),
        })
    }
}

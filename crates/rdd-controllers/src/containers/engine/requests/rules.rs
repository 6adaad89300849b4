//! Which requests are accepted: two unfinished ones must not ask for the same name.

use async_trait::async_trait;
use kube::api::{Api, ListParams};
use rdd_admission::{AdmissionRequest, Admit, Admitted, Denial, Frame, Matches, Operation};
use rdd_api::names::{MOBY, VERSION, group};
use rdd_api::{ContainerCreateRequest, Request as _};
use serde_json::Value;

/// The webhook name by which the rule is known.
const RULE: &str = "container-create-request.containers.rancherdesktop.io";

/// Judges the creation of ContainerCreateRequests.
///
/// Of two that are created in the same moment both may pass. The engine then makes the
/// first and refuses the second, which shows on it.
pub(crate) struct CreateRules {
    client: kube::Client,
    frame: Frame,
}

impl CreateRules {
    pub(crate) fn new(client: kube::Client) -> Self {
        let matches = Matches::resource(
            group::CONTAINERS,
            "containercreaterequests",
            [Operation::Create],
        );
        Self {
            client,
            frame: Frame::validating(RULE, [matches]).listed(
                "container-create-request",
                VERSION,
                "containercreaterequest",
            ),
        }
    }
}

#[async_trait]
impl Admit for CreateRules {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        let spec = &request.object["spec"];
        let Some(name) = spec["name"].as_str() else {
            return Ok(Admitted::default());
        };
        let namespace = request.object["metadata"]["namespace"].as_str();
        let api: Api<ContainerCreateRequest> =
            Api::namespaced(self.client.clone(), namespace.unwrap_or_default());
        let others = api.list(&ListParams::default()).await.map_err(|error| {
            Denial::forbidden(RULE, format!("the other requests cannot be read: {error}"))
        })?;
        let place = |namespace: Option<&str>| match namespace {
            None | Some("") => MOBY.to_owned(),
            Some(namespace) => namespace.to_owned(),
        };
        let wanted = place(spec.get("namespace").and_then(Value::as_str));
        let rival = others.items.iter().find(|other| {
            other.outcome().is_none()
                && other.spec.name.as_deref() == Some(name)
                && place(other.spec.namespace.as_deref()) == wanted
        });
        match rival.and_then(|rival| rival.metadata.name.as_deref()) {
            None => Ok(Admitted::default()),
            Some(rival) => Err(Denial::forbidden(
                RULE,
                format!(
                    "request {rival:?} asks for a container named {name:?} in namespace {wanted:?} too and is not finished; wait for it or delete it"
                ),
            )),
        }
    }
}

//! Notary: every value that an object ever had, kept in a ConfigMap.
//!
//! Shows a status of one's own, an admission rule with a warning, and a finalizer.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Resource as _, ResourceExt as _};
use rdd_admission::{AdmissionRequest, Admit, Admitted, Denial, Frame, Matches, Operation};
use rdd_api::names::{self, controller, group, selection};
use rdd_api::{Notary, condition};
use rdd_manager::{Context, ControllerDef, finalizer, ownership};
use serde_json::json;

use super::{Error, drive};
use crate::world::World;

/// The controller.
pub(crate) const DEF: ControllerDef<World> = ControllerDef {
    name: controller::NOTARY,
    group: selection::RDD,
    needs: &[],
    crds: || vec![Notary::crd()],
    admission: |_| vec![Arc::new(Validator::new())],
    endpoints: |_| Vec::new(),
    run,
};

/// The webhook that the rule goes by.
const VALIDATOR: &str = "notary.rdd.rancherdesktop.io";

/// What no value may start with.
const FORBIDDEN: &str = "invalid";

/// Longer values, in bytes, are accepted with a warning.
const READABLE: usize = 24;

fn run(context: Context<World>) -> BoxFuture<'static, anyhow::Result<()>> {
    Box::pin(async move {
        let notaries: Api<Notary> = Api::all(context.client());
        let controller = Controller::new(notaries, watcher::Config::default());
        drive(context, controller, reconcile).await;
        Ok(())
    })
}

async fn reconcile(seen: Arc<Notary>, context: Arc<Context<World>>) -> Result<Action, Error> {
    let (name, namespace) = (seen.name_any(), seen.namespace().unwrap_or_default());
    let api: Api<Notary> = Api::namespaced(context.client(), &namespace);
    // What was seen may be older than what this controller wrote.
    let Some(notary) = api.get_opt(&name).await? else {
        return Ok(Action::await_change());
    };
    if finalizer::is_deleting(&notary) {
        if finalizer::has(&notary, names::CLEANUP_FINALIZER) {
            let uid = notary.uid().unwrap_or_default();
            ownership::delete_owned(&context.client(), &namespace, &uid).await?;
            finalizer::remove(&api, &name, names::CLEANUP_FINALIZER).await?;
        }
        return Ok(Action::await_change());
    }
    if !finalizer::has(&notary, names::CLEANUP_FINALIZER) {
        finalizer::add(&api, &name, names::CLEANUP_FINALIZER).await?;
        return Ok(Action::await_change());
    }
    let status = notary.status.clone().unwrap_or_default();
    if notary.spec.value == status.last_recorded_value {
        return Ok(Action::await_change());
    }
    write_down(&context, &notary, status.change_count).await?;
    let status = json!({
        // Nobody else may have recorded meanwhile.
        "metadata": {"resourceVersion": notary.resource_version()},
        "status": {
            "lastRecordedValue": notary.spec.value,
            "changeCount": status.change_count + 1,
            "configMapStatus": "Updated",
        },
    });
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(Action::await_change())
}

/// Adds the value to the record. A pass that is repeated writes the same entry again.
async fn write_down(context: &Context<World>, notary: &Notary, number: i64) -> Result<(), Error> {
    let namespace = notary.namespace().unwrap_or_default();
    let api: Api<ConfigMap> = Api::namespaced(context.client(), &namespace);
    let entry = format!("timestamp={},value={}", condition::now(), notary.spec.value);
    let data = BTreeMap::from([
        (format!("change_{number:03}"), entry.clone()),
        ("latest_change".to_owned(), entry),
        ("change_count".to_owned(), number.to_string()),
    ]);
    let name = &notary.spec.config_map_name;
    if api.get_opt(name).await?.is_some() {
        let patch = json!({"data": data});
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        return Ok(());
    }
    let mut map = ConfigMap {
        data: Some(data),
        ..ConfigMap::default()
    };
    map.metadata.name = Some(name.clone());
    map.metadata.labels = Some(BTreeMap::from([
        (
            "app.kubernetes.io/managed-by".to_owned(),
            "notary-controller".to_owned(),
        ),
        ("app.kubernetes.io/instance".to_owned(), notary.name_any()),
    ]));
    map.metadata.owner_references = notary.controller_owner_ref(&()).map(|owner| vec![owner]);
    api.create(&PostParams::default(), &map).await?;
    Ok(())
}

/// Judges values when they are written.
struct Validator {
    frame: Frame,
}

impl Validator {
    fn new() -> Self {
        let operations = [Operation::Create, Operation::Update];
        let matches = [Matches::resource(group::RDD, "notaries", operations)];
        Self {
            frame: Frame::validating(VALIDATOR, matches).listed(
                "notary-validator",
                names::VERSION,
                "notary",
            ),
        }
    }
}

#[async_trait]
impl Admit for Validator {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        let value = request.object["spec"]["value"].as_str().unwrap_or_default();
        let start = value.get(..FORBIDDEN.len());
        if start.is_some_and(|start| start.eq_ignore_ascii_case(FORBIDDEN)) {
            let text =
                format!("spec.value cannot start with '{FORBIDDEN}' (case-insensitive): {value:?}");
            return Err(Denial::forbidden(VALIDATOR, text));
        }
        let mut admitted = Admitted::default();
        if value.len() > READABLE {
            admitted.warnings.push(format!(
                "spec.value is longer than {READABLE} characters ({} chars) - consider using a shorter value for better readability",
                value.len()
            ));
        }
        Ok(admitted)
    }
}

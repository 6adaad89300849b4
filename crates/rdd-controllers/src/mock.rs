//! Mock: made-up mirrors, for who writes a client and wants no engine.
//!
//! Runs in a program of its own only, beside a control plane without the engine
//! controller (`--controllers=containers,-engine`). Namespace `rdd-mocks` owns all that
//! it makes, so that deleting what is below it brings it back, and deleting the
//! namespace itself is refused.

mod data;
mod logs;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, select_all};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use rdd_admission::{AdmissionRequest, Admit, Admitted, Denial, Frame, Matches, Operation};
use rdd_api::names::{self, controller, field_manager, selection};
use rdd_api::{App, Container, ContainerNamespace, Image, Volume};
use rdd_manager::{Context, ControllerDef, Entry, watch_backoff};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::World;
use data::Data;

/// The controller.
pub(crate) const DEF: ControllerDef<World> = ControllerDef {
    name: controller::MOCK,
    group: selection::MOCK,
    needs: &[
        controller::APP,
        controller::CONTAINER,
        controller::CONTAINER_NAMESPACE,
        controller::IMAGE,
        controller::VOLUME,
    ],
    crds: Vec::new,
    admission: |_| vec![Arc::new(Guard::new())],
    endpoints: |_| vec![Arc::new(logs::Logs)],
    run,
};

/// The namespace that owns everything.
const OWNER: &str = "rdd-mocks";

/// The namespace of the mirrors.
const NAMESPACE: &str = "rancher-desktop";

/// How long a pass that failed waits for the next; each failure in a row doubles it.
const RETRY: Duration = Duration::from_secs(1);

/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(10);

fn run(context: Context<World>) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let data = Data::bundled()?;
        let client = context.client();
        refuse_beside_engine(&client).await?;
        let mut changes = select_all([
            changes::<Namespace>(Api::all(client.clone())),
            changes::<Container>(Api::namespaced(client.clone(), NAMESPACE)),
            changes::<Image>(Api::namespaced(client.clone(), NAMESPACE)),
            changes::<Volume>(Api::namespaced(client.clone(), NAMESPACE)),
            changes::<ContainerNamespace>(Api::namespaced(client.clone(), NAMESPACE)),
            changes::<App>(Api::all(client.clone())),
            changes::<ConfigMap>(Api::namespaced(client.clone(), names::RDD_NAMESPACE)),
        ]);
        context.synced().await;
        let stopping = context.stopping();
        let (mut retry, mut told) = (RETRY, String::new());
        loop {
            let pass = pass(&client, data).await;
            context.record(
                "change",
                pass.as_ref()
                    .map(drop)
                    .map_err(|error| format!("{error:#}")),
            );
            let again = async {
                if let Err(error) = &pass {
                    let error = format!("{error:#}");
                    // Once, as long as it goes on failing for the same reason.
                    if error != told {
                        tracing::warn!(error, "a pass failed and is tried again");
                        told = error;
                    }
                    sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                } else {
                    (retry, told) = (RETRY, String::new());
                    changes.next().await;
                    // Whatever came along is one change.
                    while changes.next().now_or_never().is_some() {}
                }
            };
            tokio::select! {
                () = again => {}
                () = stopping.cancelled() => return Ok(()),
            }
        }
    })
}

/// One item for every change of an object.
fn changes<K>(api: Api<K>) -> BoxStream<'static, ()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(api, watcher::Config::default())
        .backoff(watch_backoff())
        .touched_objects()
        // A watch that fails goes on by itself, and tells then what has changed.
        .filter_map(|seen| std::future::ready(seen.ok().map(drop)))
        .boxed()
}

/// The engine removes mirrors that it does not know: its namespace is its own.
async fn refuse_beside_engine(client: &kube::Client) -> Result<()> {
    let app: Api<App> = Api::all(client.clone());
    let Some(app) = app
        .get_opt(names::APP)
        .await
        .context("failed to read the App")?
    else {
        return Ok(());
    };
    if app.spec.namespace() != NAMESPACE {
        return Ok(());
    }
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), names::RDD_NAMESPACE);
    let map = maps
        .get_opt(names::DISCOVERY_CONFIG_MAP)
        .await
        .context("failed to read which controllers run")?;
    let running = map
        .map(|map| Entry::controllers(&map))
        .transpose()?
        .flatten();
    if running.unwrap_or_default().contains(controller::ENGINE) {
        bail!(
            "controller \"engine\" mirrors into namespace {NAMESPACE:?}; start the control plane with --controllers=containers,-engine"
        );
    }
    Ok(())
}

/// Makes everything as it should be. What is so already is not written.
async fn pass(client: &kube::Client, data: &Data) -> Result<()> {
    refuse_beside_engine(client).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let owner = apply(&namespaces, "v1", "Namespace", OWNER, None, json!({})).await?;
    let owner = owner
        .controller_owner_ref(&())
        .context("the namespace has no uid")?;
    let owner = Some(&owner);
    apply(&namespaces, "v1", "Namespace", NAMESPACE, owner, json!({})).await?;
    let api: Api<ContainerNamespace> = Api::namespaced(client.clone(), NAMESPACE);
    for name in &data.namespaces {
        ours(&api, "ContainerNamespace", name, owner, json!({})).await?;
    }
    let api: Api<Image> = Api::namespaced(client.clone(), NAMESPACE);
    for image in &data.images {
        mirror(&api, "Image", &image.name, owner, &image.status).await?;
    }
    let api: Api<Volume> = Api::namespaced(client.clone(), NAMESPACE);
    for volume in &data.volumes {
        mirror(&api, "Volume", &volume.name, owner, &volume.status).await?;
    }
    let api: Api<Container> = Api::namespaced(client.clone(), NAMESPACE);
    for container in &data.containers {
        mirror(&api, "Container", &container.name, owner, &container.status).await?;
    }
    Ok(())
}

async fn mirror<K>(
    api: &Api<K>,
    kind: &str,
    name: &str,
    owner: Option<&OwnerReference>,
    status: &Value,
) -> Result<()>
where
    K: Clone + Debug + DeserializeOwned,
{
    ours(api, kind, name, owner, json!({})).await?;
    let version = format!("{}/{}", names::group::CONTAINERS, names::VERSION);
    let document = json!({
        "apiVersion": version, "kind": kind, "metadata": {"name": name}, "status": status,
    });
    api.patch_status(name, &params(), &Patch::Apply(&document))
        .await
        .with_context(|| format!("failed to write the status of {kind} {name:?}"))?;
    Ok(())
}

async fn ours<K>(
    api: &Api<K>,
    kind: &str,
    name: &str,
    owner: Option<&OwnerReference>,
    more: Value,
) -> Result<K>
where
    K: Clone + Debug + DeserializeOwned,
{
    let version = format!("{}/{}", names::group::CONTAINERS, names::VERSION);
    apply(api, &version, kind, name, owner, more).await
}

async fn apply<K>(
    api: &Api<K>,
    version: &str,
    kind: &str,
    name: &str,
    owner: Option<&OwnerReference>,
    mut document: Value,
) -> Result<K>
where
    K: Clone + Debug + DeserializeOwned,
{
    document["apiVersion"] = json!(version);
    document["kind"] = json!(kind);
    document["metadata"] = json!({"name": name});
    if let Some(owner) = owner {
        document["metadata"]["ownerReferences"] = json!([owner]);
    }
    api.patch(name, &params(), &Patch::Apply(&document))
        .await
        .with_context(|| format!("failed to apply {kind} {name:?}"))
}

fn params() -> PatchParams {
    PatchParams::apply(field_manager::MOCK).force()
}

/// The webhook that the rule goes by.
const GUARD: &str = "mock-namespace-no-delete.mock.rancherdesktop.io";

/// Keeps the owner of everything.
struct Guard {
    frame: Frame,
}

impl Guard {
    fn new() -> Self {
        let matches = [Matches::resource("", "namespaces", [Operation::Delete])];
        Self {
            frame: Frame::validating(GUARD, matches).listed(
                "mock-namespace-no-delete",
                "v1",
                "namespace",
            ),
        }
    }
}

#[async_trait]
impl Admit for Guard {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        if request.name == OWNER {
            let text = "deletion of mock namespace is not allowed";
            return Err(Denial::forbidden(GUARD, text));
        }
        Ok(Admitted::default())
    }
}

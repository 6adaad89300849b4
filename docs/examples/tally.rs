//! A controller in a program of its own: keeps every value of a Tally in a ConfigMap.
//!
//! ```sh
//! KUBECONFIG=$(rdd svc paths config) cargo run
//! ```

#![allow(clippy::print_stderr)]

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::json;

/// How long a pass that failed waits for the next.
const RETRY: Duration = Duration::from_secs(1);

/// So many times in a row the watch may fail; each pause is longer than the one before.
const MISSES: u32 = 5;

fn tallies() -> ApiResource {
    ApiResource {
        group: "example.com".to_owned(),
        version: "v1".to_owned(),
        api_version: "example.com/v1".to_owned(),
        kind: "Tally".to_owned(),
        plural: "tallies".to_owned(),
    }
}

/// Applies the definition, and waits until it is served.
async fn install(client: Client) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "tallies.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "tallies", "singular": "tally", "kind": "Tally"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["value"], "properties": {
                        "value": {"type": "string"},
                    }},
                    "status": {"type": "object", "properties": {
                        "recorded": {"type": "string"},
                        "count": {"type": "integer"},
                    }},
                }}},
            }],
        },
    });
    let params = PatchParams::apply("tally-controller").force();
    definitions
        .patch("tallies.example.com", &params, &Patch::Apply(&definition))
        .await?;
    let established = conditions::is_crd_established();
    await_condition(definitions, "tallies.example.com", established).await?;
    Ok(())
}

/// One look at one object as it is now: the next step, or none. Repeating it does no harm.
async fn reconcile(tally: Arc<DynamicObject>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let (name, namespace) = (tally.name_any(), tally.namespace().unwrap_or_default());
    let value = tally.data["spec"]["value"].as_str().unwrap_or_default();
    if tally.data["status"]["recorded"] == value {
        return Ok(Action::await_change());
    }
    let count = tally.data["status"]["count"].as_u64().unwrap_or_default();
    // Applied, so that it makes no difference whether the ConfigMap is there: each entry has
    // an owner of its own, and what others wrote stays.
    let mut record = ConfigMap {
        data: Some(BTreeMap::from([(
            format!("change_{count:03}"),
            value.to_owned(),
        )])),
        ..ConfigMap::default()
    };
    record.metadata.name = Some(format!("{name}-record"));
    let owner = tally.controller_owner_ref(&tallies());
    record.metadata.owner_references = owner.map(|owner| vec![owner]);
    let params = PatchParams::apply(&format!("tally-controller-{count}"));
    Api::<ConfigMap>::namespaced((*client).clone(), &namespace)
        .patch(&format!("{name}-record"), &params, &Patch::Apply(&record))
        .await?;
    let status = json!({
        // Refused when somebody has written since this object was seen.
        "metadata": {"resourceVersion": tally.resource_version()},
        "status": {"recorded": value, "count": count + 1},
    });
    Api::<DynamicObject>::namespaced_with((*client).clone(), &namespace, &tallies())
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(Action::await_change())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = Client::try_default().await?;
    install(client.clone()).await?;
    let all = Api::all_with(client.clone(), &tallies());
    let passes = Controller::new_with(all, watcher::Config::default(), tallies()).run(
        reconcile,
        |_, _, _| Action::requeue(RETRY),
        Arc::new(client),
    );
    let (mut passes, mut misses) = (pin!(passes), 0);
    while let Some(pass) = passes.next().await {
        match pass {
            Ok(_) => misses = 0,
            // The API is away, or has new tokens: end, and be started again.
            Err(controller::Error::QueueError(error)) if misses == MISSES => Err(error)?,
            Err(controller::Error::QueueError(_)) => misses += 1,
            Err(error) => eprintln!("a pass failed and is tried again: {error}"),
        }
    }
    Ok(())
}

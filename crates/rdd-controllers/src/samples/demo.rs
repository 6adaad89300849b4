//! Demo: counts up to a number.
//!
//! Shows conditions, Events, work that goes on by itself, and endpoints beside the API.

mod endpoints;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::watcher;
use kube::{Resource as _, ResourceExt as _};
use rdd_api::names::{controller, selection};
use rdd_api::{Condition, Demo, condition};
use rdd_manager::{Context, ControllerDef};
use serde_json::json;

use super::{Error, drive};
use crate::world::World;

/// The controller.
pub(crate) const DEF: ControllerDef<World> = ControllerDef {
    name: controller::DEMO,
    group: selection::APP,
    needs: &[],
    crds: || vec![Demo::crd()],
    admission: |_| Vec::new(),
    endpoints: endpoints::all,
    run,
};

/// The one Demo.
const NAME: &str = "demo";

/// When to count on, if nothing else happens before.
const PAUSE: Duration = Duration::from_secs(10);

fn run(context: Context<World>) -> BoxFuture<'static, anyhow::Result<()>> {
    Box::pin(async move {
        let demos: Api<Demo> = Api::all(context.client());
        let controller = Controller::new(demos, watcher::Config::default());
        drive(context, controller, reconcile).await;
        Ok(())
    })
}

async fn reconcile(seen: Arc<Demo>, context: Arc<Context<World>>) -> Result<Action, Error> {
    let name = seen.name_any();
    let api: Api<Demo> = Api::all(context.client());
    if name != NAME {
        // The definition refuses others; one may be older than it.
        match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            deleted => drop(deleted?),
        }
        return Ok(Action::await_change());
    }
    // What was seen may be older than what this controller wrote.
    let Some(demo) = api.get_opt(&name).await? else {
        return Ok(Action::await_change());
    };
    let mut status = demo.status.clone().unwrap_or_default();
    let counts = status.processed_count < demo.spec.count;
    let (ready, progress) = if counts {
        status.processed_count += 1;
        status.last_processed = condition::now();
        ("Processing", "InProgress")
    } else {
        ("Ready", "Completed")
    };
    let message = format!(
        "{} of {} processed",
        status.processed_count, demo.spec.count
    );
    let generation = demo.metadata.generation.unwrap_or_default();
    let conditions = [
        ("Ready", true, ready),
        ("Processing", counts, progress),
        ("Completed", !counts, progress),
    ];
    status.conditions = conditions
        .map(|(kind, holds, reason)| {
            let old = condition::find(&status.conditions, kind);
            Condition::new(old, kind, holds, reason, &message, generation)
        })
        .to_vec();
    if demo.status.as_ref() != Some(&status) {
        let patch = json!({
            "metadata": {"resourceVersion": demo.resource_version()},
            "status": status,
        });
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let reason = if counts { "Processing" } else { "Completed" };
        tell(&context, &demo, reason, message).await?;
    }
    Ok(if counts {
        Action::requeue(PAUSE)
    } else {
        Action::await_change()
    })
}

async fn tell(
    context: &Context<World>,
    demo: &Demo,
    reason: &str,
    message: String,
) -> Result<(), Error> {
    let recorder = Recorder::new(context.client(), "demo-controller".into());
    let event = Event {
        type_: EventType::Normal,
        reason: reason.to_owned(),
        note: Some(message),
        action: "Count".to_owned(),
        secondary: None,
    };
    recorder.publish(&event, &demo.object_ref(&())).await?;
    Ok(())
}

//! ConfigMapReplicaSet: a number of equal ConfigMaps.
//!
//! Shows children: made, counted, made again when somebody deletes one, and taken down.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Resource as _, ResourceExt as _};
use rdd_api::ConfigMapReplicaSet;
use rdd_api::names::{self, controller, selection};
use rdd_manager::{Context, ControllerDef, finalizer, ownership};
use serde_json::json;

use super::{Error, drive};
use crate::world::World;

/// The controller.
pub(crate) const DEF: ControllerDef<World> = ControllerDef {
    name: controller::CONFIG_MAP_REPLICA_SET,
    group: selection::RDD,
    needs: &[],
    crds: || vec![ConfigMapReplicaSet::crd()],
    admission: |_| Vec::new(),
    endpoints: |_| Vec::new(),
    run,
};

/// On every child, beside the name of its set.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "rdd-configmapreplicaset");

/// On every child: the name of its set.
const INSTANCE: &str = "app.kubernetes.io/instance";

fn run(context: Context<World>) -> BoxFuture<'static, anyhow::Result<()>> {
    Box::pin(async move {
        let sets: Api<ConfigMapReplicaSet> = Api::all(context.client());
        let children: Api<ConfigMap> = Api::all(context.client());
        let ours = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
        let controller = Controller::new(sets, watcher::Config::default())
            .owns(children, watcher::Config::default().labels(&ours));
        drive(context, controller, reconcile).await;
        Ok(())
    })
}

async fn reconcile(
    set: Arc<ConfigMapReplicaSet>,
    context: Arc<Context<World>>,
) -> Result<Action, Error> {
    let (name, namespace) = (set.name_any(), set.namespace().unwrap_or_default());
    let api: Api<ConfigMapReplicaSet> = Api::namespaced(context.client(), &namespace);
    let uid = set.uid().unwrap_or_default();
    if finalizer::is_deleting(&*set) {
        if finalizer::has(&*set, names::CLEANUP_FINALIZER) {
            ownership::delete_owned(&context.client(), &namespace, &uid).await?;
            finalizer::remove(&api, &name, names::CLEANUP_FINALIZER).await?;
        }
        return Ok(Action::await_change());
    }
    if !finalizer::has(&*set, names::CLEANUP_FINALIZER) {
        finalizer::add(&api, &name, names::CLEANUP_FINALIZER).await?;
        return Ok(Action::await_change());
    }
    let wanted = set.spec.replicas.unwrap_or(1).max(0);
    let maps: Api<ConfigMap> = Api::namespaced(context.client(), &namespace);
    let label = format!("{INSTANCE}={name},{}={}", MANAGED_BY.0, MANAGED_BY.1);
    let mut surplus = Vec::new();
    let mut missing: Vec<i32> = (0..wanted).collect();
    for map in maps
        .list_metadata(&ListParams::default().labels(&label))
        .await?
        .items
    {
        if !map.owner_references().iter().any(|owner| owner.uid == uid) {
            continue;
        }
        match number(&name, &map.name_any()) {
            Some(number) if number < wanted => missing.retain(|other| *other != number),
            Some(number) => surplus.push((number, map.name_any())),
            None => {}
        }
    }
    // The highest numbers go first.
    surplus.sort_by(|left, right| right.cmp(left));
    for (_, name) in surplus {
        match maps.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            deleted => drop(deleted?),
        }
    }
    for number in missing {
        match maps
            .create(&PostParams::default(), &child(&set, number))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                return Err(Error::Foreign(format!("ConfigMap {name}-{number}")));
            }
            created => drop(created?),
        }
    }
    if set
        .status
        .as_ref()
        .is_none_or(|status| status.ready_replicas != wanted)
    {
        let status = json!({"status": {"readyReplicas": wanted}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
    }
    Ok(Action::await_change())
}

/// The number at the end of a child's name.
fn number(set: &str, child: &str) -> Option<i32> {
    let number: i32 = child.strip_prefix(set)?.strip_prefix('-')?.parse().ok()?;
    // No other spelling of the same number, such as 01 or +1.
    (child == format!("{set}-{number}")).then_some(number)
}

fn child(set: &ConfigMapReplicaSet, number: i32) -> ConfigMap {
    let name = set.name_any();
    let mut data = set.spec.data.clone();
    data.insert("index".to_owned(), number.to_string());
    let mut map = ConfigMap {
        data: Some(data),
        ..ConfigMap::default()
    };
    map.metadata.name = Some(format!("{name}-{number}"));
    let labels = [
        ("app.kubernetes.io/name", "configmap"),
        (INSTANCE, &name),
        ("app.kubernetes.io/component", "controller"),
        MANAGED_BY,
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    map.metadata.labels = Some(BTreeMap::from(labels));
    map.metadata.owner_references = set.controller_owner_ref(&()).map(|owner| vec![owner]);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_that_it_gives_are_numbers_of_a_set() {
        assert_eq!(number("a", "a-0"), Some(0));
        assert_eq!(number("a-1", "a-1-12"), Some(12));
        for other in ["a", "a-", "a-01", "a-+1", "a-x", "b-1", "a--1x"] {
            assert_eq!(number("a", other), None, "{other}");
        }
    }
}

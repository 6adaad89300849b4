//! What the controllers promise while the store fails now and then.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use rdd_api::{App, Container, condition, names};
use rdd_machine::Machine as _;
use serde_json::json;

use crate::lab::{self, Lab};

const CONTAINERS: usize = 12;

fn id(number: usize) -> String {
    format!("{number:064x}")
}

fn put_containers(lab: &Lab) {
    for number in 0..CONTAINERS {
        lab.engine.put_container(
            rdd_engine::Container {
                id: id(number),
                name: format!("/box-{number}"),
                state: "running".to_owned(),
                ..rdd_engine::Container::default()
            },
            "start",
        );
    }
}

async fn create_app(lab: &Lab) {
    let app: App = serde_json::from_value(json!({
        "apiVersion": names::APP_API_VERSION,
        "kind": "App",
        "metadata": {"name": names::APP},
        "spec": {"running": true, "namespace": "mine"},
    }))
    .expect("an App");
    lab.apps()
        .create(&PostParams::default(), &app)
        .await
        .expect("it is accepted");
    lab.app_says(condition::SETTLED, "True", "Settled").await;
}

/// The names of the mirrors, unless the store failed just now.
async fn mirrors(lab: &Lab) -> Option<BTreeSet<String>> {
    let api: Api<Container> = Api::all(lab.client.clone());
    let list = api.list(&ListParams::default()).await.ok()?;
    Some(list.iter().map(ResourceExt::name_any).collect())
}

#[test]
fn mirrors_become_complete_although_writes_fail() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        create_app(&lab).await;
        lab.store.fail_one_write_in(5);
        put_containers(&lab);
        let wanted: BTreeSet<String> = (0..CONTAINERS).map(id).collect();
        lab.eventually("every container is mirrored", || async {
            (mirrors(&lab).await? == wanted).then_some(())
        })
        .await;
        for number in 0..CONTAINERS / 2 {
            lab.engine.take_container(&id(number));
        }
        let wanted: BTreeSet<String> = (CONTAINERS / 2..CONTAINERS).map(id).collect();
        lab.eventually("only what is there is mirrored", || async {
            (mirrors(&lab).await? == wanted).then_some(())
        })
        .await;
        assert!(lab.store.failed() > 0, "nothing was tried");
        lab.store.fail_one_in(0);
        manager.stop().await;
    });
}

#[test]
fn a_teardown_among_failures_orphans_nothing() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        put_containers(&lab);
        create_app(&lab).await;
        lab.eventually("every container is mirrored", || async {
            (mirrors(&lab).await?.len() == CONTAINERS).then_some(())
        })
        .await;
        lab.store.fail_one_in(10);
        lab.eventually("the deletion is accepted", || async {
            let (apps, how) = (lab.apps(), DeleteParams::default());
            apps.delete(names::APP, &how).await.ok().map(|_| ())
        })
        .await;
        lab.eventually("the App is gone", || async {
            let app = lab.apps().get_opt(names::APP).await.ok()?;
            app.is_none().then_some(())
        })
        .await;
        let failed = lab.store.failed();
        assert!(failed > 0, "nothing was tried");
        lab.store.fail_one_in(0);
        assert_eq!(mirrors(&lab).await, Some(BTreeSet::new()));
        assert!(!lab.machine.is_running().await);
        let namespaces: Api<Namespace> = Api::all(lab.client.clone());
        lab.eventually("the App's namespace is gone", || async {
            let namespace = namespaces.get_opt("mine").await.expect("the server works");
            namespace.is_none().then_some(())
        })
        .await;
        assert!(
            lab.engine
                .calls()
                .iter()
                .all(|call| !call.starts_with("remove")),
            "an end of the mirror removed something real: {:?}",
            lab.engine.calls()
        );
        manager.stop().await;
    });
}

//! Managers outside the control plane: listed, watched over, and cleared up after.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{Api, ListParams};
use rdd_api::names;
use rdd_controllers::{Certificates, NAMES, REGISTRY, World};
use rdd_manager::{Discovery, Entry, Options, Role, Running, Terms, WebhooksOnly, vigil};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::lab::{self, Lab};

/// A manager of the samples in the name of a program.
fn outside(lab: &Lab, identity: &str) -> Options<World> {
    let group = names::selection::RDD;
    Options {
        role: Role::External {
            group: group.to_owned(),
        },
        terms: Terms {
            duration: Duration::from_secs(1),
            ..Terms::external(group, identity)
        },
        admission: Arc::new(WebhooksOnly),
        ..lab.options(group, "unused")
    }
}

fn discovery(lab: &Lab) -> Discovery {
    Discovery::new(lab.client.clone(), NAMES)
}

async fn entry(lab: &Lab, key: &str) -> Option<Entry> {
    let entries = discovery(lab).entries().await.expect("the server works");
    entries.and_then(|mut entries| entries.remove(key))
}

async fn mutating(lab: &Lab) -> Vec<String> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(lab.client.clone());
    let all = api.list(&ListParams::default()).await;
    let all = all.expect("the server works").items;
    all.into_iter()
        .filter_map(|one| one.metadata.name)
        .collect()
}

async fn listed(lab: &Lab) -> Vec<String> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(lab.client.clone());
    let all = api
        .list(&ListParams::default())
        .await
        .expect("the server works");
    all.items
        .into_iter()
        .filter_map(|one| one.metadata.name)
        .collect()
}

#[test]
fn every_rule_is_listed_while_it_is_served_and_no_longer() {
    lab::run(|lab| async move {
        let folder = tempfile::tempdir().expect("a folder");
        let certificates = Certificates::open(folder.path()).expect("an authority");
        let names = REGISTRY.iter().map(|def| def.name);
        let options = Options {
            tls: Some(certificates.of_manager("embedded", names).expect("issued")),
            ..lab.options("*", "start-1")
        };
        let manager = rdd_manager::start(options).await.expect("it starts");
        assert_eq!(
            listed(&lab).await,
            [
                "app-validator",
                "container-create-request",
                "container-mutating",
                "container-namespace-deleting",
                "namespace-guard",
                "notary-validator"
            ]
        );
        assert_eq!(mutating(&lab).await, ["app-defaulter"]);
        manager.stop().await;
        assert_eq!(listed(&lab).await, [""; 0]);
        assert_eq!(mutating(&lab).await, [""; 0]);
    });
}

#[test]
fn what_earlier_controllers_left_listed_goes_and_what_is_hosted_stays() {
    lab::run(|lab| async move {
        let folder = tempfile::tempdir().expect("a folder");
        let certificates = Certificates::open(folder.path()).expect("an authority");
        let options = Options {
            tls: Some(
                certificates
                    .of_manager("embedded", ["app"])
                    .expect("issued"),
            ),
            ..lab.options("app,rdd", "start-1")
        };
        // As after a kill: nothing is signed off.
        drop(rdd_manager::start(options).await.expect("it starts"));
        let foreign = serde_json::json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "foreign"}, "webhooks": [],
        });
        let api: Api<ValidatingWebhookConfiguration> = Api::all(lab.client.clone());
        let foreign = serde_json::from_value(foreign).expect("a configuration");
        api.create(&Default::default(), &foreign)
            .await
            .expect("the server works");
        rdd_manager::remove_leftovers(&lab.client, &NAMES, &["app"])
            .await
            .expect("the server works");
        assert_eq!(
            listed(&lab).await,
            ["app-validator", "foreign", "namespace-guard"]
        );
    });
}

#[test]
fn the_control_plane_clears_up_after_a_manager_that_was_killed_and_no_other() {
    lab::run(|lab| async move {
        let folder = tempfile::tempdir().expect("a folder");
        let certificates = Certificates::open(folder.path()).expect("an authority");
        let embedded = lab.start("app").await;
        let clear_up = rdd_manager::clear_up(lab.client.clone(), NAMES);
        let _janitor = AbortOnDropHandle::new(tokio::spawn(clear_up));
        let killed = Options {
            tls: Some(certificates.of_manager("rdd", ["notary"]).expect("issued")),
            ..outside(&lab, "killed")
        };
        let killed = rdd_manager::start(killed).await.expect("it starts");
        let alive = entry(&lab, "rdd").await.expect("it is listed");
        assert_eq!(alive.identity, "rdd/killed");
        assert!(alive.is_alive().await);
        let Running::Known(running) = discovery(&lab).running().await.expect("known") else {
            panic!("managers are registered");
        };
        assert!(running.contains_key("notary") && running.contains_key("app"));
        assert_eq!(listed(&lab).await, ["notary-validator"]);
        drop(killed);
        lab.eventually("it is taken off the list", || async {
            entry(&lab, "rdd").await.is_none().then_some(())
        })
        .await;
        assert_eq!(listed(&lab).await, [""; 0]);
        assert!(!alive.is_alive().await);
        assert!(entry(&lab, "embedded").await.is_some());
        // Its leases are free by now.
        let next = rdd_manager::start(outside(&lab, "next"))
            .await
            .expect("it starts");
        assert_eq!(
            entry(&lab, "rdd").await.expect("listed").identity,
            "rdd/next"
        );
        next.stop().await;
        embedded.stop().await;
    });
}

#[test]
fn a_program_leaves_when_its_entry_is_gone_and_not_before() {
    lab::run(|lab| async move {
        let manager = rdd_manager::start(outside(&lab, "one"))
            .await
            .expect("it starts");
        let (registered, seen) = watch::channel(false);
        let (discovery, identity) = (discovery(&lab), manager.identity().to_owned());
        let watching = tokio::spawn(async move { vigil(&discovery, "rdd", &identity, seen).await });
        // Another start of the control plane.
        lab.begin("start-2").await;
        assert!(!watching.is_finished());
        registered.send_replace(true);
        let problem = watching.await.expect("no panic");
        assert!(
            problem.contains("not in the discovery ConfigMap"),
            "{problem}"
        );
        manager.stop().await;
        assert!(entry(&lab, "rdd").await.is_none());
    });
}

#[test]
fn a_program_does_not_mark_a_control_plane_ready() {
    lab::run(|lab| async move {
        let manager = rdd_manager::start(outside(&lab, "one"))
            .await
            .expect("it starts");
        assert!(entry(&lab, "rdd").await.is_some());
        assert!(!lab.is_ready().await);
        manager.stop().await;
    });
}

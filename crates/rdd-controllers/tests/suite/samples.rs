//! The sample controllers.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt as _};
use rdd_api::{ConfigMapReplicaSet, Demo, Notary, names};
use rdd_store::{KeyRange, ReadAt, Store as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::lab::{self, Lab};

fn api<K>(lab: &Lab) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(lab.client.clone(), "default")
}

/// An object from its document.
fn object<K: DeserializeOwned>(group: &str, kind: &str, name: &str, spec: Value) -> K {
    let document = json!({
        "apiVersion": format!("{group}/v1alpha1"),
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    });
    serde_json::from_value(document).expect("the type reads the document")
}

fn notary(name: &str, value: &str) -> Notary {
    let spec = json!({"value": value, "configMapName": format!("{name}-log")});
    object("rdd.rancherdesktop.io", "Notary", name, spec)
}

fn set(name: &str, spec: Value) -> ConfigMapReplicaSet {
    object("rdd.rancherdesktop.io", "ConfigMapReplicaSet", name, spec)
}

async fn create<K>(api: &Api<K>, object: &K) -> K
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let created = api.create(&PostParams::default(), object).await;
    created.expect("it is accepted")
}

async fn merge<K>(api: &Api<K>, name: &str, patch: Value)
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let params = PatchParams::default();
    let patched = api.patch(name, &params, &Patch::Merge(&patch)).await;
    patched.expect("it is accepted");
}

async fn names_of(lab: &Lab) -> Vec<String> {
    let listed = api::<ConfigMap>(lab).list(&ListParams::default()).await;
    let items = listed.expect("the server works").items.into_iter();
    let mut names: Vec<String> = items
        .map(|map| map.name_any())
        .filter(|name| !name.starts_with("kube-"))
        .collect();
    names.sort();
    names
}

async fn has_maps(lab: &Lab, expect: &[&str]) {
    let what = format!("ConfigMaps {expect:?}");
    lab.eventually(&what, || async {
        (names_of(lab).await == expect).then_some(())
    })
    .await;
}

#[test]
fn a_notary_keeps_every_value_once() {
    lab::run(|lab| async move {
        let manager = lab.start("rdd").await;
        let notaries: Api<Notary> = api(&lab);
        let maps: Api<ConfigMap> = api(&lab);
        create(&notaries, &notary("n", "one")).await;
        let recorded = |count: i64, value: &'static str| {
            let notaries = notaries.clone();
            let lab = &lab;
            async move {
                lab.eventually("the value is recorded", || async {
                    let status = notaries.get("n").await.expect("it is there").status?;
                    let done = status.change_count == count
                        && status.last_recorded_value == value
                        && status.config_map_status == "Updated";
                    done.then_some(())
                })
                .await;
            }
        };
        recorded(1, "one").await;
        merge(&notaries, "n", json!({"spec": {"value": "two"}})).await;
        recorded(2, "two").await;
        // The same value, and a change of something else, are no entries.
        merge(&notaries, "n", json!({"metadata": {"labels": {"a": "b"}}})).await;
        merge(&notaries, "n", json!({"spec": {"value": "three"}})).await;
        recorded(3, "three").await;
        let map = maps.get("n-log").await.expect("it is there");
        let data = map.data.clone().unwrap_or_default();
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        let expect = [
            "change_000",
            "change_001",
            "change_002",
            "change_count",
            "latest_change",
        ];
        assert_eq!(keys, expect);
        assert!(data["change_000"].starts_with("timestamp=20"), "{data:?}");
        assert!(data["change_000"].ends_with(",value=one"), "{data:?}");
        assert_eq!(data["latest_change"], data["change_002"]);
        assert_eq!(data["change_count"], "2");
        let labels = map.labels();
        assert_eq!(labels["app.kubernetes.io/managed-by"], "notary-controller");
        assert_eq!(labels["app.kubernetes.io/instance"], "n");
        assert_eq!(map.owner_references()[0].controller, Some(true));
        notaries
            .delete("n", &DeleteParams::default())
            .await
            .expect("it may go");
        has_maps(&lab, &[]).await;
        lab.eventually("the notary is gone", || async {
            let left = notaries.get_opt("n").await.expect("the server works");
            left.is_none().then_some(())
        })
        .await;
        assert!(manager.stop().await.is_empty(), "all end in time");
    });
}

#[test]
fn a_notary_refuses_invalid_values_however_they_are_written() {
    lab::run(|lab| async move {
        let manager = lab.start("notary").await;
        let notaries: Api<Notary> = api(&lab);
        let check = |outcome: kube::Result<Notary>, value: &str| {
            let Err(kube::Error::Api(status)) = outcome else {
                panic!("{outcome:?}");
            };
            let text = format!(
                "admission webhook \"notary.rdd.rancherdesktop.io\" denied the request: spec.value cannot start with 'invalid' (case-insensitive): {value:?}"
            );
            assert_eq!((status.code, status.message.as_str()), (403, text.as_str()));
        };
        let params = PostParams::default();
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        for (params, value) in [(&params, "invalid"), (&dry, "InVaLiD one")] {
            let refused = notaries.create(params, &notary("n", value)).await;
            check(refused, value);
        }
        create(&notaries, &notary("n", "valid")).await;
        let patch = json!({"spec": {"value": "INVALID"}});
        let patched = notaries
            .patch("n", &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        check(patched, "INVALID");
        let mut applied = serde_json::to_value(notary("n", "invalid!")).expect("JSON");
        applied["metadata"] = json!({"name": "n"});
        let params = PatchParams::apply("test").force();
        let applied = notaries.patch("n", &params, &Patch::Apply(&applied)).await;
        check(applied, "invalid!");
        // A short text, and one that cannot be cut there.
        for value in ["inval", "ä€😀x"] {
            merge(&notaries, "n", json!({"spec": {"value": value}})).await;
        }
        assert!(manager.stop().await.is_empty(), "all end in time");
    });
}

#[test]
fn a_deleted_owner_takes_along_what_it_owns_and_nothing_else() {
    lab::run(|lab| async move {
        let manager = lab.start("notary").await;
        let (notaries, maps, secrets): (Api<Notary>, Api<ConfigMap>, Api<Secret>) =
            (api(&lab), api(&lab), api(&lab));
        let owner = create(&notaries, &notary("n", "a")).await;
        lab.eventually("the notary has its finalizer", || async {
            let notary = notaries.get("n").await.expect("it is there");
            (!notary.finalizers().is_empty()).then_some(())
        })
        .await;
        let reference = owner.controller_owner_ref(&()).expect("it has a uid");
        let mut secret = Secret::default();
        secret.metadata.name = Some("held".to_owned());
        secret.metadata.owner_references = Some(vec![reference.clone()]);
        secret.metadata.finalizers = Some(vec![
            "rdd.rancherdesktop.io/owned-by-Notary".to_owned(),
            names::CLEANUP_FINALIZER.to_owned(),
        ]);
        create(&secrets, &secret).await;
        let mut foreign = ConfigMap::default();
        foreign.metadata.name = Some("foreign".to_owned());
        create(&maps, &foreign).await;
        notaries
            .delete("n", &DeleteParams::default())
            .await
            .expect("it may go");
        lab.eventually("the notary is gone", || async {
            let left = notaries.get_opt("n").await.expect("the server works");
            left.is_none().then_some(())
        })
        .await;
        let held = secrets.get("held").await.expect("its own work is left");
        assert_eq!(held.finalizers(), [names::CLEANUP_FINALIZER]);
        assert!(held.meta().deletion_timestamp.is_some());
        assert_eq!(names_of(&lab).await, ["foreign"]);
        assert!(manager.stop().await.is_empty(), "all end in time");
    });
}

#[test]
fn a_set_keeps_as_many_maps_as_are_wanted() {
    lab::run(|lab| async move {
        let manager = lab.start("configmapreplicaset").await;
        let (sets, maps): (Api<ConfigMapReplicaSet>, Api<ConfigMap>) = (api(&lab), api(&lab));
        create(&sets, &set("s", json!({"data": {"k": "v"}}))).await;
        has_maps(&lab, &["s-0"]).await;
        merge(
            &sets,
            "s",
            json!({"spec": {"replicas": 3, "data": {"k": "w"}}}),
        )
        .await;
        has_maps(&lab, &["s-0", "s-1", "s-2"]).await;
        let data = |pairs: [(&str, &str); 2]| -> BTreeMap<String, String> {
            let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
            pairs.into()
        };
        let read = |name: &'static str| {
            let maps = maps.clone();
            async move { maps.get(name).await.expect("it is there") }
        };
        let first = read("s-0").await;
        assert_eq!(first.data, Some(data([("k", "v"), ("index", "0")])));
        assert_eq!(
            read("s-2").await.data,
            Some(data([("k", "w"), ("index", "2")]))
        );
        let labels = first.labels();
        assert_eq!(labels["app.kubernetes.io/name"], "configmap");
        assert_eq!(labels["app.kubernetes.io/instance"], "s");
        assert_eq!(labels["app.kubernetes.io/component"], "controller");
        assert_eq!(
            labels["app.kubernetes.io/managed-by"],
            "rdd-configmapreplicaset"
        );
        assert_eq!(first.owner_references()[0].controller, Some(true));
        // A hole is filled, whatever the count says.
        maps.delete("s-1", &DeleteParams::default())
            .await
            .expect("anybody may");
        has_maps(&lab, &["s-0", "s-1", "s-2"]).await;
        merge(&sets, "s", json!({"spec": {"replicas": 1}})).await;
        has_maps(&lab, &["s-0"]).await;
        lab.eventually("the status follows", || async {
            let status = sets.get("s").await.expect("it is there").status?;
            (status.ready_replicas == 1).then_some(())
        })
        .await;
        merge(&sets, "s", json!({"spec": {"replicas": 0}})).await;
        has_maps(&lab, &[]).await;
        sets.delete("s", &DeleteParams::default())
            .await
            .expect("it may go");
        lab.eventually("the set is gone", || async {
            let left = sets.get_opt("s").await.expect("the server works");
            left.is_none().then_some(())
        })
        .await;
        assert!(manager.stop().await.is_empty(), "all end in time");
    });
}

#[test]
fn demo_counts_by_itself_and_says_so() {
    lab::run(|lab| async move {
        let manager = lab.start("demo").await;
        let demos: Api<Demo> = Api::all(lab.client.clone());
        let demo = |name: &str| -> Demo {
            let spec = json!({"message": "hi", "count": 3});
            object("app.rancherdesktop.io", "Demo", name, spec)
        };
        let refused = demos.create(&PostParams::default(), &demo("other")).await;
        let Err(kube::Error::Api(status)) = refused else {
            panic!("{refused:?}");
        };
        let text = "Demo resource must be named 'demo'";
        assert!(status.message.contains(text), "{}", status.message);
        create(&demos, &demo("demo")).await;
        let done = lab
            .eventually("it has counted", || async {
                let status = demos.get("demo").await.expect("it is there").status?;
                let completed = rdd_api::condition::find(&status.conditions, "Completed")?;
                completed.is_true().then(|| status.clone())
            })
            .await;
        assert_eq!(done.processed_count, 3);
        let conditions = done.conditions.iter();
        let conditions: Vec<String> = conditions
            .map(|one| format!("{}={}/{}", one.r#type, one.status, one.reason))
            .collect();
        assert_eq!(
            conditions,
            [
                "Ready=True/Ready",
                "Processing=False/Completed",
                "Completed=True/Completed"
            ]
        );
        let events: Api<Event> = Api::namespaced(lab.client.clone(), "default");
        lab.eventually("it says that it is done", || async {
            let listed = events.list(&ListParams::default()).await;
            let reasons: Vec<String> = listed
                .expect("the server works")
                .items
                .into_iter()
                .filter_map(|event| event.reason)
                .collect();
            let has = |reason: &str| reasons.iter().any(|other| other == reason);
            (has("Processing") && has("Completed")).then_some(())
        })
        .await;
        assert!(manager.stop().await.is_empty(), "all end in time");
    });
}

#[test]
fn samples_at_rest_write_nothing() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        create(&api(&lab), &notary("n", "a")).await;
        create(&api(&lab), &set("s", json!({"replicas": 2}))).await;
        has_maps(&lab, &["n-log", "s-0", "s-1"]).await;
        // Rest is a second without a change; then nothing may change any more.
        let quiet = async |span: Duration| {
            let range = KeyRange::prefix("/");
            let page = lab.store.list(&range, ReadAt::Latest, None).await;
            let after = page.expect("the store works").revision;
            let mut changes = lab.store.changes(after).expect("nothing is compacted");
            let changed = tokio::time::timeout(span, changes.next()).await;
            changed.is_err()
        };
        lab.eventually("it comes to rest", || async {
            quiet(Duration::from_secs(1)).await.then_some(())
        })
        .await;
        assert!(quiet(Duration::from_secs(3)).await, "somebody wrote");
        assert!(manager.stop().await.is_empty(), "all end in time");
    });
}

#[test]
fn samples_are_listed_by_their_own_names_only() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        let crds: Api<CustomResourceDefinition> = Api::all(lab.client.clone());
        for name in [
            "demos.app.rancherdesktop.io",
            "notaries.rdd.rancherdesktop.io",
            "configmapreplicasets.rdd.rancherdesktop.io",
        ] {
            let crd = crds.get(name).await.expect("it is served");
            assert_eq!(crd.spec.names.categories, None, "{name}");
        }
        assert!(manager.stop().await.is_empty(), "all end in time");
    });
}

#[test]
fn a_demo_of_another_name_that_an_older_definition_allowed_is_deleted() {
    lab::run(|lab| async move {
        lab.start("demo").await.stop().await;
        let crds: Api<CustomResourceDefinition> = Api::all(lab.client.clone());
        let rule = "/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations";
        let patch = json!([{"op": "remove", "path": rule}]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).expect("a patch"));
        crds.patch(
            "demos.app.rancherdesktop.io",
            &PatchParams::default(),
            &patch,
        )
        .await
        .expect("it is accepted");
        let demos: Api<Demo> = Api::all(lab.client.clone());
        let other: Demo = object(
            "app.rancherdesktop.io",
            "Demo",
            "other",
            json!({"count": 1}),
        );
        // The server takes a definition up a moment after it is written.
        lab.eventually("the rule is gone", || async {
            demos.create(&PostParams::default(), &other).await.ok()
        })
        .await;
        lab.begin("start-2").await;
        let manager = rdd_manager::start(lab.options("demo", "start-2"))
            .await
            .expect("it starts");
        lab.eventually("the other one is gone", || async {
            let left = demos.get_opt("other").await.expect("the server works");
            left.is_none().then_some(())
        })
        .await;
        manager.stop().await;
    });
}

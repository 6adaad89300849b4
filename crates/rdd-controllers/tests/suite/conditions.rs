//! What conditions say about which generation, and what every combination of wishes ends in.

use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use rdd_api::{App, Condition, condition, names};
use rdd_controllers::REGISTRY;
use rdd_machine::{Backend, Machine as _};
use serde_json::{Value, json};

use crate::lab::{self, Lab};

const ID: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// Creates any object of ours.
async fn create(lab: &Lab, group: &str, kind: &str, name: &str, spec: Value) {
    let api = api_of(lab, group, kind);
    let document = json!({
        "apiVersion": format!("{group}/{}", names::VERSION),
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    });
    let object = serde_json::from_value(document).expect("an object");
    api.create(&PostParams::default(), &object)
        .await
        .expect("it is accepted");
}

async fn merge(lab: &Lab, group: &str, kind: &str, name: &str, patch: Value) {
    let patch = Patch::Merge(patch);
    api_of(lab, group, kind)
        .patch(name, &PatchParams::default(), &patch)
        .await
        .expect("it is accepted");
}

/// The API of a kind that some controller ships.
pub(crate) fn api_of(lab: &Lab, group: &str, kind: &str) -> Api<DynamicObject> {
    let shipped = REGISTRY.iter().flat_map(|def| (def.crds)());
    let crd = shipped
        .into_iter()
        .find(|crd| crd.spec.group == group && crd.spec.names.kind == kind)
        .expect("a controller ships it");
    let resource = ApiResource {
        group: group.to_owned(),
        version: names::VERSION.to_owned(),
        api_version: format!("{group}/{}", names::VERSION),
        kind: kind.to_owned(),
        plural: crd.spec.names.plural,
    };
    if crd.spec.scope == "Cluster" {
        Api::all_with(lab.client.clone(), &resource)
    } else {
        Api::namespaced_with(lab.client.clone(), "default", &resource)
    }
}

/// Every object of every kind that a controller ships, with its conditions.
async fn judged(lab: &Lab) -> Vec<(DynamicObject, Vec<Condition>)> {
    let mut found = Vec::new();
    for crd in REGISTRY.iter().flat_map(|def| (def.crds)()) {
        let api = api_of(lab, &crd.spec.group, &crd.spec.names.kind);
        let listed = api.list(&ListParams::default()).await;
        for mut object in listed.expect("it is served").items {
            object.types.get_or_insert_default().kind = crd.spec.names.kind.clone();
            let conditions = object.data["status"]["conditions"].clone();
            let conditions = serde_json::from_value::<Option<Vec<Condition>>>(conditions);
            found.push((object, conditions.expect("conditions").unwrap_or_default()));
        }
    }
    found
}

#[test]
fn every_condition_of_every_kind_names_the_generation_that_it_is_about() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        lab.engine.put_container(
            rdd_engine::Container {
                id: ID.to_owned(),
                name: "/web".to_owned(),
                state: "running".to_owned(),
                ..rdd_engine::Container::default()
            },
            "start",
        );
        let (app, containers, rdd) = (
            names::group::APP,
            names::group::CONTAINERS,
            names::group::RDD,
        );
        create(&lab, app, "App", names::APP, json!({"running": true})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        create(
            &lab,
            app,
            "Demo",
            "demo",
            json!({"message": "a", "count": 2}),
        )
        .await;
        create(
            &lab,
            rdd,
            "ConfigMapReplicaSet",
            "s",
            json!({"replicas": 1}),
        )
        .await;
        create(
            &lab,
            rdd,
            "Notary",
            "n",
            json!({"value": "a", "configMapName": "n"}),
        )
        .await;
        create(
            &lab,
            containers,
            "VolumeCreateRequest",
            "v",
            json!({"driver": "local", "name": "volume"}),
        )
        .await;
        create(
            &lab,
            containers,
            "ImagePushRequest",
            "p",
            json!({"imageRef": "nowhere"}),
        )
        .await;
        create(
            &lab,
            containers,
            "ImageScanRequest",
            "i",
            json!({"imageRef": "nowhere"}),
        )
        .await;
        create(
            &lab,
            containers,
            "ContainerCreateRequest",
            "c",
            json!({"image": "nowhere", "state": "created"}),
        )
        .await;
        // A second generation of everything that may have one.
        merge(
            &lab,
            app,
            "App",
            names::APP,
            json!({"spec": {"kubernetes": {"enabled": false}}}),
        )
        .await;
        merge(&lab, app, "Demo", "demo", json!({"spec": {"count": 3}})).await;
        merge(
            &lab,
            rdd,
            "ConfigMapReplicaSet",
            "s",
            json!({"spec": {"replicas": 2}}),
        )
        .await;
        merge(
            &lab,
            containers,
            "Container",
            ID,
            json!({"spec": {"state": "running"}}),
        )
        .await;
        let wanted = [
            "App",
            "Container",
            "ContainerCreateRequest",
            "Demo",
            "ImagePushRequest",
            "ImageScanRequest",
            "VolumeCreateRequest",
        ];
        lab.eventually("every condition is of the present generation", || async {
            let mut kinds = std::collections::BTreeSet::new();
            for (object, conditions) in judged(&lab).await {
                let generation = object.metadata.generation;
                for condition in &conditions {
                    // Never without, whatever else is still under way.
                    assert!(
                        condition.observed_generation.is_some(),
                        "{condition:?} of {:?}",
                        object.types
                    );
                }
                if conditions
                    .iter()
                    .any(|condition| condition.observed_generation != generation)
                {
                    return None;
                }
                if !conditions.is_empty() {
                    kinds.insert(object.types.unwrap_or_default().kind);
                }
            }
            kinds.iter().map(String::as_str).eq(wanted).then_some(())
        })
        .await;
        manager.stop().await;
    });
}

/// The fields of the App that can be changed, each with a value that is not the default.
fn changes() -> Vec<(&'static str, Value)> {
    vec![
        ("running", json!({"running": false})),
        ("running", json!({"running": true})),
        ("name", json!({"containerEngine": {"name": "containerd"}})),
        (
            "endpoint",
            json!({"containerEngine": {"endpoint": "unix:///elsewhere.sock"}}),
        ),
        ("kubernetes", json!({"kubernetes": {"enabled": true}})),
        ("machine", json!({"machine": {"type": "lima"}})),
    ]
}

/// What holds once such an App has settled: the machine, whether anything is mirrored, and
/// what is said.
fn outcome(app: &App) -> (Option<Backend>, bool, (&'static str, &'static str)) {
    let attached = app.spec.endpoint().is_some();
    let lima = app
        .spec
        .machine
        .as_ref()
        .is_some_and(|machine| machine.r#type == rdd_api::MachineType::Lima);
    let kubernetes = app
        .spec
        .kubernetes
        .as_ref()
        .is_some_and(|kubernetes| kubernetes.enabled);
    if !app.spec.running {
        return (None, false, ("True", "Settled"));
    }
    if lima && !attached {
        return (None, false, ("False", "NotSupported"));
    }
    let backend = if app.spec.is_moby() {
        Backend::Moby
    } else {
        Backend::Containerd
    };
    let says = if kubernetes {
        ("False", "NotSupported")
    } else {
        ("True", "Settled")
    };
    ((!attached).then_some(backend), app.spec.is_moby(), says)
}

#[test]
fn every_pair_of_changes_in_one_patch_ends_as_the_whole_app_says() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        lab.engine.put_container(
            rdd_engine::Container {
                id: ID.to_owned(),
                name: "/web".to_owned(),
                state: "running".to_owned(),
                ..rdd_engine::Container::default()
            },
            "start",
        );
        let base = |running: bool| {
            json!({"spec": {
                "running": running,
                "containerEngine": {"name": "moby", "endpoint": null},
                "kubernetes": null,
                "machine": {"type": "native"},
            }})
        };
        create(
            &lab,
            names::group::APP,
            "App",
            names::APP,
            json!({"running": false}),
        )
        .await;
        let changes = changes();
        for running in [false, true] {
            for (index, (first, one)) in changes.iter().enumerate() {
                for (second, other) in changes.iter().skip(index + 1) {
                    if first == second {
                        continue;
                    }
                    merge(&lab, names::group::APP, "App", names::APP, base(running)).await;
                    lab.app_says(condition::SETTLED, "True", "Settled").await;
                    let mut both = one.clone();
                    for (field, value) in other.as_object().expect("fields") {
                        match (both.get_mut(field), value) {
                            (Some(Value::Object(old)), Value::Object(new)) => {
                                old.extend(new.clone());
                            }
                            _ => both[field] = value.clone(),
                        }
                    }
                    let starts = lab.machine.starts();
                    merge(
                        &lab,
                        names::group::APP,
                        "App",
                        names::APP,
                        json!({"spec": both}),
                    )
                    .await;
                    let app = lab.apps().get(names::APP).await.expect("it is there");
                    let (machine, mirrored, (status, reason)) = outcome(&app);
                    lab.app_says(condition::SETTLED, status, reason).await;
                    let what = format!("running={running}, then {both}");
                    // What cannot be is told at once, before what runs has been stopped.
                    lab.eventually(&what, || async {
                        (status != "True" && machine.is_some() || lab.machine.backend() == machine)
                            .then_some(())
                    })
                    .await;
                    if status == "True" {
                        assert_eq!(lab.machine.backend(), machine, "{what}");
                    }
                    // "Stop" wins: nothing is started on the way to it.
                    if machine.is_none() {
                        assert_eq!(lab.machine.starts(), starts, "{what}");
                    }
                    if status == "True" {
                        let containers: Api<rdd_api::Container> =
                            Api::namespaced(lab.client.clone(), "default");
                        let there = containers.get_opt(ID).await.expect("the server works");
                        assert_eq!(there.is_some(), mirrored, "{what}");
                    }
                }
            }
        }
        manager.stop().await;
    });
}

#[test]
fn another_engine_is_settled_only_once_the_machine_runs_it() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        create(
            &lab,
            names::group::APP,
            "App",
            names::APP,
            json!({"running": true}),
        )
        .await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        assert_eq!(lab.machine.backend(), Some(Backend::Moby));
        for (name, backend, reason) in [
            ("containerd", Backend::Containerd, "NotApplicable"),
            ("moby", Backend::Moby, "Connected"),
        ] {
            let starts = lab.machine.starts();
            let patch = json!({"spec": {"containerEngine": {"name": name}}});
            merge(&lab, names::group::APP, "App", names::APP, patch).await;
            lab.app_says(condition::SETTLED, "True", "Settled").await;
            assert_eq!(lab.machine.backend(), Some(backend));
            assert_eq!(
                lab.machine.starts(),
                starts + 1,
                "it was started anew, once"
            );
            lab.app_says(condition::CONTAINER_ENGINE_READY, "True", reason)
                .await;
        }
        assert!(lab.machine.is_running().await);
        manager.stop().await;
    });
}

#[test]
fn a_very_long_message_is_cut_between_characters_and_nothing_stops() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        lab.machine.fail_starts(Some("ä€😀".repeat(100_000 / 9)));
        create(
            &lab,
            names::group::APP,
            "App",
            names::APP,
            json!({"running": true}),
        )
        .await;
        for kind in [condition::RUNNING, condition::SETTLED] {
            let told = lab.app_says(kind, "False", "StartFailed").await;
            assert!(told.message.ends_with("… (truncated)"), "{kind}");
            assert!(told.message.len() <= 32_768, "{}", told.message.len());
        }
        lab.machine.fail_starts(None);
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        manager.stop().await;
    });
}

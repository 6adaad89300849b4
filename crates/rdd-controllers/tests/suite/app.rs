//! The App, its machine and its engine together.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use rdd_api::{App, Container, condition, names};
use rdd_machine::Machine as _;
use rdd_store::Store as _;
use serde_json::{Value, json};

use crate::lab::{self, Lab};

const ID: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

async fn create(lab: &Lab, spec: Value) {
    let document = json!({
        "apiVersion": names::APP_API_VERSION,
        "kind": "App",
        "metadata": {"name": names::APP},
        "spec": spec,
    });
    let app: App = serde_json::from_value(document).expect("an App");
    lab.apps()
        .create(&PostParams::default(), &app)
        .await
        .expect("it is accepted");
}

async fn change(lab: &Lab, spec: Value) {
    let patch = json!({"spec": spec});
    lab.apps()
        .patch(names::APP, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("it is accepted");
}

fn put_container(lab: &Lab) {
    lab.engine.put_container(
        rdd_engine::Container {
            id: ID.to_owned(),
            name: "/web".to_owned(),
            state: "running".to_owned(),
            ..rdd_engine::Container::default()
        },
        "start",
    );
}

async fn mirror(lab: &Lab) -> Container {
    let api: Api<Container> = Api::namespaced(lab.client.clone(), "default");
    lab.eventually("the container is mirrored", || async {
        let found = api.get_opt(ID).await.expect("the server works")?;
        found.status.is_some().then_some(found)
    })
    .await
}

async fn mirror_exists(lab: &Lab) -> bool {
    let api: Api<Container> = Api::namespaced(lab.client.clone(), "default");
    api.get_opt(ID).await.expect("the server works").is_some()
}

/// Nothing is written for a second.
async fn is_still(lab: &Lab) {
    let mut changes = lab
        .store
        .changes(lab.store.revision())
        .expect("nothing is compacted");
    let change = tokio::time::timeout(Duration::from_secs(1), changes.next()).await;
    assert!(change.is_err(), "an idle system writes: {:?}", change.ok());
}

#[test]
fn an_app_is_brought_up_changed_and_taken_down() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        put_container(&lab);
        create(&lab, json!({"running": true})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        assert!(lab.machine.is_running().await);
        lab.app_says(condition::CREATED, "True", "Created").await;
        lab.app_says(condition::RUNNING, "True", "Started").await;
        lab.app_says(condition::CONTAINER_ENGINE_READY, "True", "Connected")
            .await;
        lab.app_says(condition::KUBERNETES_READY, "False", "NotApplicable")
            .await;
        mirror(&lab).await;
        is_still(&lab).await;

        // A change that needs no work is acknowledged all the same.
        change(&lab, json!({"kubernetes": {"enabled": false}})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;

        change(&lab, json!({"running": false})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        assert!(!lab.machine.is_running().await);
        assert!(
            !mirror_exists(&lab).await,
            "settled means that the mirrors are gone"
        );
        is_still(&lab).await;

        change(&lab, json!({"running": true})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        mirror(&lab).await;
        manager.stop().await;
    });
}

#[test]
fn an_engine_that_dies_is_started_again_and_every_mirror_stays() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        put_container(&lab);
        create(&lab, json!({"running": true})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        let before = mirror(&lab).await;
        lab.engine.fault(|faults| faults.down = true);
        lab.engine.cut_streams();
        lab.machine.crash();
        lab.app_says(condition::SETTLED, "False", "StartFailed")
            .await;
        lab.engine.fault(|faults| faults.down = false);
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        assert!(lab.machine.is_running().await);
        assert_eq!(mirror(&lab).await.uid(), before.uid());
        manager.stop().await;
    });
}

#[test]
fn a_restarted_control_plane_finds_its_mirrors_again() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        put_container(&lab);
        create(&lab, json!({"running": true})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        let before = mirror(&lab).await;

        // As after a kill: the machine goes on, nothing is signed off.
        drop(manager);
        assert!(lab.machine.is_running().await);
        lab.begin("start-2").await;
        let manager = rdd_manager::start(lab.options("*", "start-2"))
            .await
            .expect("it starts");
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        assert_eq!(mirror(&lab).await.uid(), before.uid());

        // An orderly end stops the machine, says so, and keeps the mirrors too.
        manager.stop().await;
        assert!(!lab.machine.is_running().await);
        lab.app_says(condition::SETTLED, "False", "Starting").await;
        lab.begin("start-3").await;
        let manager = rdd_manager::start(lab.options("*", "start-3"))
            .await
            .expect("it starts");
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        assert_eq!(mirror(&lab).await.uid(), before.uid());
        manager.stop().await;
    });
}

#[test]
fn a_missing_engine_is_told_at_once_and_found_when_it_is_installed() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        lab.machine.set_installed(false);
        create(&lab, json!({"running": true})).await;
        let told = lab
            .app_says(condition::SETTLED, "False", "EngineNotInstalled")
            .await;
        assert!(
            told.message.contains("apt-get install -y docker.io"),
            "{}",
            told.message
        );
        lab.app_says(condition::RUNNING, "False", "EngineNotInstalled")
            .await;
        lab.machine.set_installed(true);
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        manager.stop().await;
    });
}

#[test]
fn a_deleted_app_goes_after_its_machine_and_mirrors() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        put_container(&lab);
        create(&lab, json!({"running": true, "namespace": "mine"})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        let app = lab.apps().get(names::APP).await.expect("it is there");
        assert_eq!(app.finalizers(), [names::CLEANUP_FINALIZER]);
        lab.apps()
            .delete(names::APP, &DeleteParams::default())
            .await
            .expect("it is accepted");
        lab.eventually("the App is gone", || async {
            let app = lab
                .apps()
                .get_opt(names::APP)
                .await
                .expect("the server works");
            app.is_none().then_some(())
        })
        .await;
        assert!(!lab.machine.is_running().await);
        let namespaces: Api<Namespace> = Api::all(lab.client.clone());
        lab.eventually("the App's namespace is gone", || async {
            namespaces
                .get_opt("mine")
                .await
                .expect("the server works")
                .is_none()
                .then_some(())
        })
        .await;
        manager.stop().await;
    });
}

async fn delete_app(lab: &Lab) {
    lab.apps()
        .delete(names::APP, &DeleteParams::default())
        .await
        .expect("it is accepted");
}

/// Nothing is left of the App, its machine and its mirrors.
async fn everything_goes(lab: &Lab) {
    lab.eventually("the App is gone", || async {
        let app = lab.apps().get_opt(names::APP).await;
        app.expect("the server works").is_none().then_some(())
    })
    .await;
    lab.eventually("the machine is stopped", || async {
        (!lab.machine.is_running().await).then_some(())
    })
    .await;
    let containers: Api<Container> = Api::all(lab.client.clone());
    lab.eventually("the mirror is gone", || async {
        let list = containers.list(&ListParams::default()).await;
        list.expect("the server works")
            .items
            .is_empty()
            .then_some(())
    })
    .await;
}

#[test]
fn whoever_is_deleted_first_everything_goes_in_the_end() {
    lab::run(|lab| async move {
        let mut manager = lab.start("*").await;
        let containers: Api<Container> = Api::namespaced(lab.client.clone(), "default");
        let how = DeleteParams::default();

        // During creation.
        put_container(&lab);
        create(&lab, json!({"running": true})).await;
        delete_app(&lab).await;
        everything_goes(&lab).await;

        // Both at once; whether the container goes, too, is decided by who came first.
        put_container(&lab);
        create(&lab, json!({"running": true})).await;
        mirror(&lab).await;
        let (app, container) = (lab.apps(), containers.delete(ID, &how));
        let (app, _) = tokio::join!(app.delete(names::APP, &how), container);
        app.expect("it is accepted");
        everything_goes(&lab).await;

        // The child first, and it cannot go: the engine refuses.
        put_container(&lab);
        create(&lab, json!({"running": true})).await;
        mirror(&lab).await;
        lab.engine
            .fault(|faults| faults.refuse_removals = Some(500));
        containers.delete(ID, &how).await.expect("it is accepted");
        delete_app(&lab).await;
        everything_goes(&lab).await;
        lab.engine.fault(|faults| faults.refuse_removals = None);

        // A crash between the deletion and its end.
        create(&lab, json!({"running": true})).await;
        mirror(&lab).await;
        drop(manager);
        delete_app(&lab).await;
        lab.begin("start-2").await;
        manager = rdd_manager::start(lab.options("*", "start-2"))
            .await
            .expect("the controllers start");
        everything_goes(&lab).await;
        manager.stop().await;
    });
}

#[test]
fn the_namespace_of_the_mirrors_cannot_be_deleted_under_them() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        put_container(&lab);
        create(&lab, json!({"running": true, "namespace": "mine"})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        let namespaces: Api<Namespace> = Api::all(lab.client.clone());
        for running in [true, false] {
            change(&lab, json!({"running": running})).await;
            let refused = namespaces.delete("mine", &DeleteParams::default()).await;
            let Err(kube::Error::Api(status)) = refused else {
                panic!("it is not refused: {refused:?}");
            };
            assert_eq!(status.code, 403);
            assert!(
                status.message.contains("delete the App instead"),
                "{}",
                status.message
            );
        }
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        let calls = lab.engine.calls();
        assert!(
            calls.iter().all(|call| !call.starts_with("remove")),
            "{calls:?}"
        );
        // Others are nobody's business.
        let other: Namespace =
            serde_json::from_value(json!({"metadata": {"name": "other"}})).expect("a namespace");
        namespaces
            .create(&PostParams::default(), &other)
            .await
            .expect("it is accepted");
        namespaces
            .delete("other", &DeleteParams::default())
            .await
            .expect("it is accepted");
        manager.stop().await;
    });
}

#[test]
fn an_attached_engine_is_mirrored_and_no_machine_runs() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        put_container(&lab);
        let engine = json!({"name": "moby", "endpoint": "unix:///elsewhere.sock"});
        create(&lab, json!({"running": true, "containerEngine": engine})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        mirror(&lab).await;
        assert!(!lab.machine.is_running().await);
        change(&lab, json!({"running": false})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        assert!(!mirror_exists(&lab).await);
        manager.stop().await;
    });
}

#[test]
fn what_is_not_supported_ends_every_wait() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        create(
            &lab,
            json!({"running": true, "kubernetes": {"enabled": true, "version": "1.32.0"}}),
        )
        .await;
        lab.app_says(condition::SETTLED, "False", "NotSupported")
            .await;
        change(&lab, json!({"kubernetes": {"enabled": false}})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        change(&lab, json!({"machine": {"type": "lima"}})).await;
        lab.app_says(condition::SETTLED, "False", "NotSupported")
            .await;
        change(&lab, json!({"machine": {"type": "native"}})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        // The backend that cannot be mirrored settles without mirrors.
        change(&lab, json!({"containerEngine": {"name": "containerd"}})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        lab.app_says(condition::CONTAINER_ENGINE_READY, "True", "NotApplicable")
            .await;
        manager.stop().await;
    });
}

#[test]
fn without_the_engine_controller_the_machine_alone_settles() {
    lab::run(|lab| async move {
        let manager = lab.start("*,-engine").await;
        create(&lab, json!({"running": true})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        change(&lab, json!({"running": false})).await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        manager.stop().await;
    });
}

#[test]
fn every_way_to_write_an_app_is_judged_the_same() {
    lab::run(|lab| async move {
        let manager = lab.start("app").await;
        create(&lab, json!({"running": false})).await;
        // After that nobody else writes.
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        let revision = lab
            .apps()
            .get(names::APP)
            .await
            .expect("it is there")
            .resource_version();
        let kind = kube::api::ApiResource::erase::<App>(&());
        let api: Api<DynamicObject> = Api::all_with(lab.client.clone(), &kind);
        let dry = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let object = |name: &str, spec: Value| json!({"apiVersion": names::APP_API_VERSION, "kind": "App", "metadata": {"name": name}, "spec": spec});
        for (name, spec, expect) in [
            (
                "app",
                json!({"running": false, "namespace": "other"}),
                "spec.namespace is immutable",
            ),
            (
                "app",
                json!({"running": false, "containerEngine": {"name": "moby", "endpoint": "x"}}),
                "is not supported",
            ),
            (
                "second",
                json!({"running": false}),
                "App resource must be named 'app'",
            ),
        ] {
            let document = object(name, spec.clone());
            let typed: DynamicObject = serde_json::from_value(document.clone()).expect("an object");
            let mut replacement = typed.clone();
            replacement.metadata.resource_version = revision.clone();
            let mut outcomes = vec![(
                "apply",
                api.patch(
                    name,
                    &PatchParams::apply("test").force(),
                    &Patch::Apply(&document),
                )
                .await,
            )];
            if name == names::APP {
                let replace = api
                    .replace(name, &PostParams::default(), &replacement)
                    .await;
                let merge = Patch::Merge(json!({"spec": spec}));
                outcomes.push(("replace", replace));
                outcomes.push((
                    "merge",
                    api.patch(name, &PatchParams::default(), &merge).await,
                ));
                outcomes.push(("dry run", api.patch(name, &dry, &merge).await));
            } else {
                outcomes.push(("create", api.create(&PostParams::default(), &typed).await));
            }
            for (way, outcome) in outcomes {
                let error = outcome.expect_err(way).to_string();
                assert!(error.contains(expect), "{way} {name}: {error}");
            }
        }
        assert_eq!(
            lab.apps()
                .list(&kube::api::ListParams::default())
                .await
                .expect("listed")
                .items
                .len(),
            1
        );
        manager.stop().await;
    });
}

#[test]
fn writers_of_different_conditions_lose_nothing() {
    const ROUNDS: usize = 1000;
    lab::run(|lab| async move {
        // The definition without the controller: only the two writers write.
        let manager = lab.start("engine").await;
        create(&lab, json!({"running": false})).await;
        let writers = ["First", "Second"].map(|kind| {
            let apps = lab.apps();
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let status = round % 2 == 0;
                    let condition =
                        rdd_api::Condition::new(None, kind, status, "Round", &round.to_string(), 1);
                    let body = json!({
                        "apiVersion": names::APP_API_VERSION,
                        "kind": "App",
                        "status": {"conditions": [condition]},
                    });
                    let params = PatchParams::apply(kind).force();
                    apps.patch_status(names::APP, &params, &Patch::Apply(&body))
                        .await
                        .expect("it is accepted");
                }
            })
        });
        for writer in writers {
            writer.await.expect("no write failed");
        }
        let app = lab.apps().get(names::APP).await.expect("it is there");
        let conditions = app.status.unwrap_or_default().conditions;
        for kind in ["First", "Second", condition::CONTAINER_ENGINE_READY] {
            let found = condition::find(&conditions, kind).expect("it is not lost");
            assert!(
                kind == condition::CONTAINER_ENGINE_READY
                    || found.message == (ROUNDS - 1).to_string()
            );
        }
        manager.stop().await;
    });
}

//! The whole, with an engine that does as it is told.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use rdd_api::{App, Container, ContainerNamespace, Image, Volume, condition, names};
use rdd_engine as engine;
use rdd_testkit::TestControlPlane;
use serde_json::json;

/// No condition may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

async fn wait_until<F: AsyncFn() -> bool>(what: &str, holds: F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

async fn set_running(client: &kube::Client, running: bool) {
    let api: Api<App> = Api::all(client.clone());
    let app = json!({"apiVersion": names::APP_API_VERSION, "kind": "App", "metadata": {"name": "app"}, "spec": {"running": running}});
    let params = PatchParams::apply("test").force();
    let written = api
        .patch("app", &params, &Patch::Apply(&app))
        .await
        .expect("the App is written");
    let generation = written.metadata.generation.unwrap_or_default();
    wait_until("the App settles", async || {
        let app = api.get("app").await.expect("it is there");
        let conditions = app.status.unwrap_or_default().conditions;
        condition::find(&conditions, condition::SETTLED).is_some_and(|settled| {
            settled.is_true() && settled.observed_generation >= Some(generation)
        })
    })
    .await;
}

fn container(id: char, name: &str) -> engine::Container {
    engine::Container {
        id: id.to_string().repeat(64),
        name: format!("/{name}"),
        path: "sh".into(),
        image: "sha256:1".into(),
        state: "running".into(),
        ..engine::Container::default()
    }
}

fn image(id: &str, tags: &[&str]) -> engine::Image {
    engine::Image {
        id: format!("sha256:{id}"),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        architecture: "amd64".into(),
        os: "linux".into(),
        ..engine::Image::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_is_mirrored_while_it_should_be_and_swept_after() {
    let plane = TestControlPlane::start().await.expect("it starts");
    let client = plane.client();
    plane.engine.put_container(container('a', "web"), "create");
    plane
        .engine
        .put_image(image("1", &["box:1", "box:2"]), "load");
    plane.engine.put_volume(engine::Volume {
        name: "Data_1".into(),
        ..engine::Volume::default()
    });
    set_running(&client, true).await;

    let containers: Api<Container> = Api::default_namespaced(client.clone());
    let images: Api<Image> = Api::default_namespaced(client.clone());
    let volumes: Api<Volume> = Api::default_namespaced(client.clone());
    let all = async || {
        (
            containers
                .list(&Default::default())
                .await
                .expect("lists")
                .items
                .len(),
            images
                .list(&Default::default())
                .await
                .expect("lists")
                .items
                .len(),
            volumes
                .list(&Default::default())
                .await
                .expect("lists")
                .items
                .len(),
        )
    };
    // Whoever saw the App settled sees the mirrors at once.
    assert_eq!(all().await, (1, 2, 1));

    // An object that somebody made by hand is just an object.
    let mut mine = container('f', "mine").id;
    mine.replace_range(0..1, "0");
    let hand_made: Container = serde_json::from_value(json!({
        "apiVersion": "containers.rancherdesktop.io/v1alpha1", "kind": "Container", "metadata": {"name": mine}})).expect("a container");
    containers
        .create(&PostParams::default(), &hand_made)
        .await
        .expect("it is accepted");

    set_running(&client, false).await;
    assert_eq!(all().await, (1, 0, 0));
    assert!(
        plane.engine.calls().is_empty(),
        "{:?}",
        plane.engine.calls()
    );
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_stream_keeps_mirrors_and_repairs_them_in_place() {
    let plane = TestControlPlane::start().await.expect("it starts");
    let client = plane.client();
    plane
        .engine
        .put_container(container('a', "stays"), "create");
    plane.engine.put_container(container('b', "goes"), "create");
    set_running(&client, true).await;
    let containers: Api<Container> = Api::default_namespaced(client.clone());
    let before = containers
        .get(&"a".repeat(64))
        .await
        .expect("it is mirrored")
        .metadata
        .uid;

    plane.engine.fault(|faults| faults.down = true);
    plane.engine.cut_streams();
    let app: Api<App> = Api::all(client.clone());
    wait_until("the loss is said", async || {
        let conditions = app
            .get("app")
            .await
            .expect("it is there")
            .status
            .unwrap_or_default()
            .conditions;
        condition::find(&conditions, condition::CONTAINER_ENGINE_READY).is_some_and(|ready| {
            !ready.is_true() && ready.reason == condition::reason::CONNECT_FAILED
        })
    })
    .await;
    plane.engine.take_container(&"b".repeat(64));
    plane
        .engine
        .put_container(container('c', "comes"), "create");
    assert_eq!(
        containers
            .list(&Default::default())
            .await
            .expect("lists")
            .items
            .len(),
        2
    );

    plane.engine.fault(|faults| faults.down = false);
    wait_until("the mirrors are repaired", async || {
        let names: Vec<String> = containers
            .list(&Default::default())
            .await
            .expect("lists")
            .items
            .into_iter()
            .filter_map(|container| container.metadata.name)
            .collect();
        names == ["a".repeat(64), "c".repeat(64)]
    })
    .await;
    let after = containers
        .get(&"a".repeat(64))
        .await
        .expect("it is mirrored")
        .metadata
        .uid;
    assert_eq!(before, after);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_removals_stay_visible_and_finish_by_themselves() {
    let plane = TestControlPlane::start().await.expect("it starts");
    let client = plane.client();
    plane.engine.put_image(image("1", &["box:1"]), "load");
    set_running(&client, true).await;
    let images: Api<Image> = Api::default_namespaced(client.clone());
    let name = images.list(&Default::default()).await.expect("lists").items[0]
        .metadata
        .name
        .clone()
        .expect("named");
    plane
        .engine
        .fault(|faults| faults.refuse_removals = Some(409));
    images
        .delete(&name, &DeleteParams::default())
        .await
        .expect("it is accepted");
    wait_until("the engine was asked", async || {
        !plane.engine.calls().is_empty()
    })
    .await;
    let held = images.get(&name).await.expect("the refusal holds it");
    assert!(held.metadata.deletion_timestamp.is_some());
    assert_eq!(
        held.metadata.finalizers.as_deref(),
        Some(&[names::MIRROR_FINALIZER.to_owned()][..])
    );

    // Others go on as if it were absent.
    plane
        .engine
        .put_container(container('a', "other"), "create");
    let containers: Api<Container> = Api::default_namespaced(client.clone());
    wait_until("others are mirrored", async || {
        containers
            .get_opt(&"a".repeat(64))
            .await
            .expect("reads")
            .is_some()
    })
    .await;

    plane.engine.fault(|faults| faults.refuse_removals = None);
    plane.engine.take_container(&"a".repeat(64));
    wait_until("the image is gone", async || {
        images.get_opt(&name).await.expect("reads").is_none()
    })
    .await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_container_namespace_comes_back() {
    let plane = TestControlPlane::start().await.expect("it starts");
    let client = plane.client();
    set_running(&client, true).await;
    let api: Api<ContainerNamespace> = Api::default_namespaced(client.clone());
    let before = api
        .get(names::MOBY)
        .await
        .expect("it is there")
        .metadata
        .uid;
    api.delete(names::MOBY, &DeleteParams::default())
        .await
        .expect("it goes at once");
    wait_until("it is back with another identity", async || {
        api.get_opt(names::MOBY)
            .await
            .expect("reads")
            .is_some_and(|found| found.metadata.uid != before)
    })
    .await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_immediate_without_controllers() {
    let plane = TestControlPlane::with_controllers("")
        .await
        .expect("it starts");
    let api: Api<ConfigMap> = Api::namespaced(plane.client(), names::RDD_NAMESPACE);
    let record = api
        .get(names::DISCOVERY_CONFIG_MAP)
        .await
        .expect("it is there");
    let annotations = record.metadata.annotations.unwrap_or_default();
    assert_eq!(
        annotations.get(names::READY_ANNOTATION).map(String::as_str),
        Some("true")
    );
    assert_eq!(
        annotations.get(names::START_ANNOTATION).map(String::as_str),
        Some("test")
    );
    plane.stop().await;
}

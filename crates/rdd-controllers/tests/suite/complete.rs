//! What mirrors show of a real dockerd, and which of its events they follow. Needs root,
//! docker.io and busybox-static.

use std::sync::Arc;

use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use rdd_api::{Container, ContainerState, ContainerStatus, Image, Volume, condition, names};
use rdd_controllers::{DockerEngines, World};
use rdd_manager::Manager;
use serde_json::{Value, json};

use crate::burst::Line;
use crate::dockerd::Dockerd;
use crate::lab::{self, Lab};

/// What a container without network runs until it is told to end.
const LOOP: &str = "trap 'exit 0' TERM; while true; do read -t 1 line; done";

pub(crate) async fn begin(lab: &mut Lab, endpoint: &str) -> Manager {
    lab.use_world(World::new(
        lab.machine.clone(),
        Arc::new(DockerEngines::default()),
    ));
    let manager = lab.start("*").await;
    let app = json!({"apiVersion": names::APP_API_VERSION, "kind": "App",
        "metadata": {"name": names::APP},
        "spec": {"running": true, "containerEngine": {"name": "moby", "endpoint": endpoint}}});
    let params = PatchParams::apply("test").force();
    let applied = lab
        .apps()
        .patch(names::APP, &params, &Patch::Apply(&app))
        .await;
    applied.expect("it is accepted");
    lab.app_says(condition::SETTLED, "True", "Settled").await;
    manager
}

fn containers(lab: &Lab) -> Api<Container> {
    Api::namespaced(lab.client.clone(), "default")
}

/// Waits until a container's status is as wanted.
async fn shows(
    lab: &Lab,
    id: &str,
    what: &str,
    wanted: impl Fn(&ContainerStatus) -> bool,
) -> Container {
    lab.eventually(&format!("{id} shows {what}"), || async {
        let found = containers(lab).get_opt(id).await;
        let found = found.expect("the server works")?;
        found.status.as_ref().is_some_and(&wanted).then_some(found)
    })
    .await
}

fn run(docker: &Dockerd, name: &str, flags: &[&str], line: &str) -> String {
    let mut words = vec!["run", "-d", "--stop-timeout=1", "--name", name];
    words.extend(flags);
    words.extend(["box:1", "/bin/sh", "-c", line]);
    docker.docker(&words)
}

#[test]
fn everything_that_docker_tells_shows_and_follows_its_events() {
    lab::run(|mut lab| async move {
        let docker = Dockerd::start("complete");
        docker.import("box:1");
        let manager = begin(&mut lab, &docker.endpoint()).await;
        everything_shows(&lab, &docker).await;
        health(&lab, &docker).await;
        ends(&lab, &docker).await;
        networks(&lab, &docker).await;
        use_shows(&lab, &docker).await;
        assert!(manager.stop().await.is_empty());
    });
}

async fn everything_shows(lab: &Lab, docker: &Dockerd) {
    let flags = [
        "--net=none",
        "--restart=on-failure:3",
        "-v",
        "data:/data:ro",
        "--tmpfs=/scratch",
        "--label=com.docker.compose.project=shop",
        "--label=com.docker.compose.service=front",
        "--label=Odd.Label=ä b",
    ];
    let id = run(docker, "web", &flags, LOOP);
    let web = shows(lab, &id, "its run", |status| {
        status.status == ContainerState::Running
    })
    .await;
    let status = web.status.expect("it was just seen");
    let inspected: Value =
        serde_json::from_str(&docker.docker(&["inspect", &id])).expect("docker's JSON");
    let inspected = &inspected[0];
    assert_eq!(json!(status.path), inspected["Path"]);
    assert_eq!(json!(status.args), inspected["Args"]);
    assert_eq!(json!(status.image), inspected["Image"]);
    assert_eq!(json!(status.pid), inspected["State"]["Pid"]);
    assert_eq!(status.image_name, "box:1");
    assert!(
        status.command.starts_with("/bin/sh -c "),
        "{}",
        status.command
    );
    assert_eq!(
        (
            status.compose_project.as_str(),
            status.compose_service.as_str()
        ),
        ("shop", "front")
    );
    assert_eq!(status.labels["Odd.Label"], "ä b");
    assert_eq!(status.restart_policy, "on-failure:3");
    assert_eq!(status.restart_count, Some(0));
    assert_eq!(status.oom_killed, Some(false));
    let data = status.mounts.iter().find(|mount| mount.name == "data");
    let data = data.expect("it is mounted");
    assert_eq!(
        (data.destination.as_str(), data.r#type.as_str()),
        ("/data", "volume")
    );
    assert!(data.read_only);
    assert!(status.started_at.is_some() && status.finished_at.is_none());

    // What `docker update` changes.
    docker.docker(&["update", "--restart=unless-stopped", "web"]);
    shows(lab, &id, "its policy", |status| {
        status.restart_policy == "unless-stopped"
    })
    .await;
}

async fn health(lab: &Lab, docker: &Dockerd) {
    let flags = [
        "--net=none",
        "--health-cmd=read x < /sick && exit 1 || exit 0",
        "--health-interval=1s",
        "--health-retries=1",
    ];
    let id = run(docker, "patient", &flags, LOOP);
    shows(lab, &id, "health", |status| status.health == "healthy").await;
    docker.docker(&["exec", "patient", "/bin/sh", "-c", "echo x > /sick"]);
    shows(lab, &id, "sickness", |status| status.health == "unhealthy").await;
    docker.docker(&["rm", "-f", "patient"]);
}

async fn ends(lab: &Lab, docker: &Dockerd) {
    let id = run(docker, "victim", &["--net=none"], LOOP);
    shows(lab, &id, "its run", |status| {
        status.status == ContainerState::Running
    })
    .await;
    docker.docker(&["kill", "victim"]);
    let killed = shows(lab, &id, "its end", |status| {
        status.status == ContainerState::Exited && status.exit_code == Some(137)
    })
    .await;
    let status = killed.status.expect("it was just seen");
    assert_eq!((status.pid, status.oom_killed), (Some(0), Some(false)));

    // One that ends at once and is started again and again.
    let again = run(
        docker,
        "again",
        &["--net=none", "--restart=always"],
        "exit 1",
    );
    shows(lab, &again, "its restarts", |status| {
        status.restart_count >= Some(2)
    })
    .await;
    docker.docker(&["rm", "-f", "again"]);

    // More memory than it may have.
    let flags = ["--net=none", "--memory=16m", "--memory-swap=16m"];
    let hungry = run(
        docker,
        "hungry",
        &flags,
        "x=xxxxxxxx; while true; do x=$x$x; done",
    );
    let hungry = shows(lab, &hungry, "its end", |status| {
        status.status == ContainerState::Exited
    })
    .await;
    let told = docker.docker(&["inspect", "-f", "{{.State.OOMKilled}}", "hungry"]);
    shows(
        lab,
        &hungry.name_any(),
        "what Docker says of it",
        |status| status.oom_killed.map(|killed| killed.to_string()) == Some(told.clone()),
    )
    .await;
    docker.docker(&["rm", "-f", "victim", "hungry"]);
}

async fn networks(lab: &Lab, docker: &Dockerd) {
    let id = run(docker, "joiner", &["--net=none"], LOOP);
    shows(lab, &id, "no network", |status| {
        status.networks.len() == 1 && status.networks[0].name == "none"
    })
    .await;
    docker.docker(&[
        "network",
        "create",
        "--subnet=10.213.77.0/24",
        "-o",
        "com.docker.network.bridge.name=rddtest0",
        "side",
    ]);
    docker.docker(&["network", "disconnect", "none", "joiner"]);
    shows(lab, &id, "that it left", |status| {
        status.networks.is_empty()
    })
    .await;
    docker.docker(&["network", "connect", "--ip=10.213.77.7", "side", "joiner"]);
    let found = shows(lab, &id, "that it joined", |status| {
        status
            .networks
            .first()
            .is_some_and(|network| network.ip_address == "10.213.77.7")
    })
    .await;
    assert_eq!(
        found.status.expect("it was just seen").networks[0].name,
        "side"
    );
    docker.docker(&["network", "disconnect", "side", "joiner"]);
    shows(lab, &id, "that it left again", |status| {
        status.networks.is_empty()
    })
    .await;
    let flags = [
        "--net=side",
        "--expose=81",
        "-p",
        "127.0.0.1::80",
        "-p",
        "[::1]::80",
    ];
    let open = run(docker, "open", &flags, LOOP);
    let open = shows(lab, &open, "its ports", |status| status.ports.len() == 2).await;
    let ports = open.status.expect("it was just seen").ports;
    assert_eq!(ports[0].name, "80/tcp");
    let addresses: Vec<&str> = ports[0]
        .bindings
        .iter()
        .map(|at| at.host_ip.as_str())
        .collect();
    assert_eq!(addresses, ["127.0.0.1", "::1"]);
    assert!(
        ports[0]
            .bindings
            .iter()
            .all(|at| at.host_port.parse::<u16>().is_ok())
    );
    assert_eq!(
        (ports[1].name.as_str(), ports[1].bindings.len()),
        ("81/tcp", 0)
    );
    docker.docker(&["rm", "-f", "joiner", "open"]);
    docker.docker(&["network", "rm", "side"]);
}

async fn use_shows(lab: &Lab, docker: &Dockerd) {
    let images: Api<Image> = Api::namespaced(lab.client.clone(), "default");
    let volumes: Api<Volume> = Api::namespaced(lab.client.clone(), "default");
    let used = |wanted: bool| {
        let (images, volumes) = (&images, &volumes);
        async move {
            lab.eventually(&format!("use is {wanted}"), || async {
                let images = images.list(&ListParams::default()).await.ok()?;
                let volumes = volumes.list(&ListParams::default()).await.ok()?;
                let image = images.items.first()?.status.clone()?;
                let volume = volumes.items.first()?.status.clone()?;
                (image.in_use == wanted && volume.in_use == wanted).then_some((image, volume))
            })
            .await
        }
    };
    let (image, volume) = used(true).await;
    let size = docker.docker(&["image", "inspect", "-f", "{{.Size}}", "box:1"]);
    assert_eq!(image.size.to_string(), size);
    assert_eq!(
        (volume.name.as_str(), volume.driver.as_str()),
        ("data", "local")
    );
    assert!(
        volume.mountpoint.ends_with("/data/_data"),
        "{}",
        volume.mountpoint
    );
    docker.docker(&["rm", "-f", "web"]);
    used(false).await;
}

#[test]
fn a_daemon_that_is_restarted_with_other_containers_is_caught_up_in_place() {
    lab::run(|mut lab| async move {
        // Containers of this one outlive its daemon.
        let mut docker = Dockerd::start_with("restart", &["--live-restore"]);
        docker.import("box:1");
        let folder = tempfile::tempdir().expect("a folder");
        let mut line = Line::new(folder.path(), &docker.endpoint());
        let manager = begin(&mut lab, &line.endpoint()).await;
        let survivor = run(&docker, "survivor", &["--net=none"], LOOP);
        let removed = run(&docker, "removed", &["--net=none"], LOOP);
        let is_running = |status: &ContainerStatus| status.status == ContainerState::Running;
        shows(&lab, &removed, "its run", is_running).await;
        shows(&lab, &survivor, "its run", is_running).await;
        let asked = json!({"metadata": {"annotations": {names::ACTION_ANNOTATION: "restart"}},
            "spec": {"state": "running"}});
        let patched = containers(&lab)
            .patch(&survivor, &PatchParams::default(), &Patch::Merge(&asked))
            .await;
        patched.expect("it is accepted");
        let before = lab
            .eventually("the action is done", || async {
                let found = containers(&lab).get(&survivor).await.ok()?;
                let last = found.status.as_ref()?.last_action.clone()?;
                let is_over = !found.annotations().contains_key(names::ACTION_ANNOTATION);
                (last.state == "Succeeded"
                    && !last.annotated
                    && is_over
                    && is_running(found.status.as_ref()?))
                .then_some(found)
            })
            .await;
        let started = docker.docker(&["inspect", "-f", "{{.State.StartedAt}}", "survivor"]);

        line.cut();
        docker.stop();
        let ready = condition::CONTAINER_ENGINE_READY;
        lab.app_says(ready, "False", "ConnectFailed").await;
        docker.start_again();
        docker.docker(&["rm", "-f", "removed"]);
        let added = run(&docker, "added", &["--net=none"], LOOP);
        // As seen from here it is still away.
        let shown = containers(&lab).list(&ListParams::default()).await;
        assert_eq!(shown.expect("the server works").items.len(), 2, "no sweep");
        line.mend();
        lab.app_says(ready, "True", "Connected").await;

        shows(&lab, &added, "its run", is_running).await;
        lab.eventually("the removed one is gone", || async {
            let found = containers(&lab).get_opt(&removed).await;
            found.expect("the server works").is_none().then_some(())
        })
        .await;
        let after = shows(&lab, &survivor, "its run", is_running).await;
        assert_eq!(after.uid(), before.uid());
        assert_eq!(after.spec, before.spec);
        let last = |mirror: &Container| mirror.status.clone().and_then(|status| status.last_action);
        assert_eq!(last(&after), last(&before));
        let now = docker.docker(&["inspect", "-f", "{{.State.StartedAt}}", "survivor"]);
        assert_eq!(now, started, "nobody touched the survivor");
        docker.docker(&["rm", "-f", "survivor", "added"]);
        assert!(manager.stop().await.is_empty());
    });
}

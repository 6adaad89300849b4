//! A dockerd of our own under the controllers. Needs root and docker.io.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rdd_api::{App, Container, ContainerState, condition, names};
use rdd_controllers::{DockerEngines, World};
use rdd_machine::{Machine as _, Native, NativeOptions};
use serde_json::json;

use crate::lab;

fn native(home: &Path) -> Native {
    Native::new(NativeOptions {
        suffix: "controllers".to_owned(),
        index: 153,
        dockerd: vec![PathBuf::from("/usr/sbin/dockerd")],
        containerd: Vec::new(),
        data: home.join("data"),
        run: home.join("run"),
        socket: home.join("docker.sock"),
        state: home.join("engine.json"),
        settings: home.join("daemon.json"),
        log: home.join("dockerd.log"),
        folders: Vec::new(),
        runtime: None,
    })
}

async fn shell(line: String) -> String {
    let output =
        tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &line]).output())
            .await
            .expect("no panic")
            .expect("sh is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn containers_outlive_a_killed_engine_and_end_with_a_stopped_one() {
    lab::run(|mut lab| async move {
        let home = tempfile::Builder::new()
            .prefix("rddc")
            .tempdir_in("/tmp")
            .expect("a folder");
        let home = home.path().to_path_buf();
        let machine = Arc::new(native(&home));
        lab.use_world(World::new(
            machine.clone(),
            Arc::new(DockerEngines::default()),
        ));
        let docker = format!("docker -H unix://{}/docker.sock", home.display());
        let manager = lab.start("*").await;
        let app: App = serde_json::from_value(json!({
            "apiVersion": names::APP_API_VERSION,
            "kind": "App",
            "metadata": {"name": names::APP},
            "spec": {"running": true},
        }))
        .expect("an App");
        lab.apps()
            .create(&PostParams::default(), &app)
            .await
            .expect("it is accepted");
        lab.app_says(condition::SETTLED, "True", "Settled").await;

        let id = shell(format!(
            "mkdir -p {0}/image/bin && cp /bin/busybox {0}/image/bin/sh && tar -C {0}/image -c . | {docker} import - box:1 >/dev/null \
             && {docker} run -d box:1 /bin/sh -c 'while true; do read -t 1 x; done'",
            home.display()
        ))
        .await;
        let containers: Api<Container> = Api::namespaced(lab.client.clone(), "default");
        let running = || async {
            let found = containers.get_opt(&id).await.expect("the server works")?;
            let state = found.status.as_ref().map(|status| status.status);
            (state == Some(ContainerState::Running)).then_some(found)
        };
        let before = lab.eventually("the container is mirrored", running).await;

        // The engine is killed: the container runs on, and its mirror stays.
        let generation = lab
            .apps()
            .get(names::APP)
            .await
            .expect("it is there")
            .metadata
            .generation;
        shell(format!("kill -9 $(cat {}/run/dockerd.pid)", home.display())).await;
        lab.app_says(condition::RUNNING, "False", "StartFailed")
            .await;
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        let after = lab
            .eventually("the container is still mirrored", running)
            .await;
        assert_eq!(after.uid(), before.uid());
        let started = |container: &Container| {
            container
                .status
                .clone()
                .and_then(|status| status.started_at)
        };
        assert_eq!(
            started(&after),
            started(&before),
            "the container was not touched"
        );
        let now = lab
            .apps()
            .get(names::APP)
            .await
            .expect("it is there")
            .metadata
            .generation;
        assert_eq!(now, generation);

        // A kill of rdd: the next one adopts the engine as it is.
        drop(manager);
        let pid = shell(format!("cat {}/run/dockerd.pid", home.display())).await;
        lab.begin("start-2").await;
        let manager = rdd_manager::start(lab.options("*", "start-2"))
            .await
            .expect("it starts");
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        assert_eq!(
            shell(format!("cat {}/run/dockerd.pid", home.display())).await,
            pid
        );
        assert_eq!(
            lab.eventually("the container is still mirrored", running)
                .await
                .uid(),
            before.uid()
        );

        let off = Patch::Merge(json!({"spec": {"running": false}}));
        lab.apps()
            .patch(names::APP, &PatchParams::default(), &off)
            .await
            .expect("it is accepted");
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        assert!(
            containers
                .get_opt(&id)
                .await
                .expect("the server works")
                .is_none()
        );
        let left = format!(
            "ps ax -o args | grep -v grep | grep -c '{}' || true",
            home.display()
        );
        assert_eq!(shell(left).await, "0", "no process is left");
        manager.stop().await;
        machine.destroy().await.expect("it is removed");
    });
}

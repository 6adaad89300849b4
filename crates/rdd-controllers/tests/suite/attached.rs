//! A Docker that somebody else runs, used from both sides. Needs root, docker.io and
//! busybox-static.

use std::fmt::Debug;
use std::sync::Arc;

use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use rdd_api::{Container, ContainerState, Image, Volume, condition, names};
use rdd_controllers::{DockerEngines, World};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::dockerd::Dockerd;
use crate::lab::{self, Lab};

/// What a container without network runs until it is told to end.
const LOOP: &str = "trap 'exit 0' TERM; while true; do read -t 1 line; done";

struct Story {
    lab: Lab,
    docker: Dockerd,
}

impl Story {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.lab.client.clone(), "default")
    }

    async fn all<K>(&self) -> Vec<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let list = self.api::<K>().list(&ListParams::default()).await;
        list.expect("the server works").items
    }

    async fn set(&self, params: &PatchParams, patch: &Patch<&serde_json::Value>) {
        let patched = self.lab.apps().patch(names::APP, params, patch).await;
        patched.expect("it is accepted");
    }

    fn run(&self, name: &str) -> String {
        self.docker.docker(&[
            "run",
            "-d",
            "--net=none",
            "--stop-timeout=1",
            "--name",
            name,
            "--expose=80",
            "--label=com.docker.compose.project=shop",
            "box:1",
            "/bin/sh",
            "-c",
            LOOP,
        ])
    }

    async fn container(&self, id: &str, fits: impl Fn(&Container) -> bool) -> Container {
        self.lab
            .eventually(&format!("container {id} is as wanted"), || async {
                let found = self.api::<Container>().get_opt(id).await;
                found.expect("the server works").filter(&fits)
            })
            .await
    }

    async fn state(&self, id: &str, wanted: ContainerState) -> Container {
        let state = |container: &Container| container.status.as_ref().map(|status| status.status);
        self.container(id, |container| state(container) == Some(wanted))
            .await
    }

    async fn gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.lab
            .eventually(&format!("{name} is gone"), || async {
                let found = self.api::<K>().get_opt(name).await;
                found.expect("the server works").is_none().then_some(())
            })
            .await;
    }

    async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let deleted = self.api::<K>().delete(name, &DeleteParams::default()).await;
        drop(deleted.expect("the deletion is accepted"));
    }

    /// Waits until the images have these tags; untagged ones are empty.
    async fn tags(&self, wanted: &[&str]) -> Vec<Image> {
        self.lab
            .eventually(&format!("the tags are {wanted:?}"), || async {
                let images = self.all::<Image>().await;
                let mut tags: Vec<String> = images
                    .iter()
                    .map(|image| {
                        let status = image.status.clone().unwrap_or_default();
                        status.repo_tag.unwrap_or_default()
                    })
                    .collect();
                tags.sort();
                // A mirror gets its status right after it is made.
                let complete = images.iter().all(|image| image.status.is_some());
                (complete && tags == wanted).then_some(images)
            })
            .await
    }
}

#[test]
fn both_sides_see_and_carry_out_what_the_other_does() {
    lab::run(|mut lab| async move {
        let docker = Dockerd::start("attached");
        docker.import("box:1");
        docker.docker(&["volume", "create", "My_Volume.1"]);
        lab.use_world(World::new(
            lab.machine.clone(),
            Arc::new(DockerEngines::default()),
        ));
        let manager = lab.start("*").await;
        let mut story = Story { lab, docker };
        let first = story.run("web");
        let app = json!({"apiVersion": names::APP_API_VERSION, "kind": "App",
            "metadata": {"name": names::APP},
            "spec": {"running": true,
                "containerEngine": {"name": "moby", "endpoint": story.docker.endpoint()}}});
        let params = PatchParams::apply("test").force();
        story.set(&params, &Patch::Apply(&app)).await;
        story
            .lab
            .app_says(condition::SETTLED, "True", "Settled")
            .await;

        containers(&story, &first).await;
        images(&story).await;
        volumes(&story).await;
        restarted(&mut story).await;

        let stop = json!({"spec": {"running": false}});
        story
            .set(&PatchParams::default(), &Patch::Merge(&stop))
            .await;
        story
            .lab
            .app_says(condition::SETTLED, "True", "Settled")
            .await;
        assert!(story.all::<Container>().await.is_empty());
        assert!(story.all::<Image>().await.is_empty());
        let left = story.docker.docker(&["ps", "-aq", "--no-trunc"]);
        assert!(!left.is_empty(), "detaching touches nothing");
        assert!(manager.stop().await.is_empty());
    });
}

async fn containers(story: &Story, id: &str) {
    let web = story.state(id, ContainerState::Running).await;
    let status = web.status.expect("it was just seen");
    assert_eq!(status.name, "web");
    assert_eq!(status.compose_project, "shop");
    assert_eq!(status.image_name, "box:1");
    story.docker.docker(&["rename", "web", "renamed"]);
    story
        .container(id, |container| {
            let status = container.status.as_ref();
            status.is_some_and(|status| status.name == "renamed")
        })
        .await;
    for (words, state) in [
        ("pause", ContainerState::Paused),
        ("unpause", ContainerState::Running),
        ("stop", ContainerState::Exited),
    ] {
        story.docker.docker(&[words, "renamed"]);
        story.state(id, state).await;
    }
    for (action, state) in [
        ("start", ContainerState::Running),
        ("pause", ContainerState::Paused),
        ("unpause", ContainerState::Running),
        ("restart", ContainerState::Running),
        ("stop", ContainerState::Exited),
    ] {
        let patch = json!({"metadata": {"annotations": {names::ACTION_ANNOTATION: action}}});
        let asked = story
            .api::<Container>()
            .patch(id, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        asked.expect("it is accepted");
        story
            .container(id, |container| {
                let status = container.status.as_ref();
                let last = status.and_then(|status| status.last_action.as_ref());
                !container
                    .annotations()
                    .contains_key(names::ACTION_ANNOTATION)
                    && last.is_some_and(|last| last.action == action && last.state == "Succeeded")
            })
            .await;
        story.state(id, state).await;
    }
    story.docker.docker(&["start", "renamed"]);
    story.state(id, ContainerState::Running).await;
    story.delete::<Container>(id).await;
    story.gone::<Container>(id).await;
    assert_eq!(story.docker.docker(&["ps", "-aq"]), "");
    let other = story.run("other");
    story.state(&other, ContainerState::Running).await;
    story.docker.docker(&["rm", "-f", "other"]);
    story.gone::<Container>(&other).await;
}

async fn images(story: &Story) {
    story.docker.docker(&["tag", "box:1", "box:2"]);
    let images = story.tags(&["box:1", "box:2"]).await;
    let named = |tag: &str| {
        let has = |image: &&Image| {
            image
                .status
                .as_ref()
                .is_some_and(|status| status.repo_tag.as_deref() == Some(tag))
        };
        images.iter().find(has).expect("it is mirrored").name_any()
    };
    story.delete::<Image>(&named("box:2")).await;
    story.tags(&["box:1"]).await;

    // In use: it stays until the user is gone, and then goes by itself.
    let user = story.run("user");
    story.state(&user, ContainerState::Running).await;
    story.docker.docker(&["rmi", "-f", "box:1"]);
    story.tags(&[""]).await;
    let untagged = story.all::<Image>().await.remove(0);
    story.docker.docker(&[
        "tag",
        &untagged.status.as_ref().expect("it is mirrored").id,
        "box:1",
    ]);
    story.tags(&["box:1"]).await;
    story.delete::<Image>(&named("box:1")).await;
    story
        .lab
        .eventually("the deletion was tried", || async {
            let found = story.api::<Image>().get(&named("box:1")).await.ok()?;
            found.meta().deletion_timestamp.is_some().then_some(())
        })
        .await;
    story.docker.docker(&["rm", "-f", "user"]);
    story.gone::<Image>(&named("box:1")).await;
    story.tags(&[]).await;
    assert_eq!(story.docker.docker(&["images", "-aq"]), "");

    // A tag that moves to a new image.
    story.docker.import("box:1");
    story.tags(&["box:1"]).await;
    let old = story
        .docker
        .docker(&["image", "inspect", "--format={{.Id}}", "box:1"]);
    story.docker.import_other("box:1");
    let images = story.tags(&["", "box:1"]).await;
    let untagged = images.iter().find(|image| {
        image
            .status
            .as_ref()
            .is_some_and(|status| status.id == old && status.repo_tag.is_none())
    });
    assert!(untagged.is_some(), "{images:?}");
}

async fn volumes(story: &Story) {
    let find = |wanted: usize| async move {
        story
            .lab
            .eventually("the volumes are as wanted", || async {
                let volumes = story.all::<Volume>().await;
                (volumes.len() == wanted).then_some(volumes)
            })
            .await
    };
    let volumes = find(1).await;
    let status = volumes[0].status.clone().expect("it is mirrored");
    assert_eq!(status.name, "My_Volume.1");
    story.docker.docker(&["volume", "create", "second"]);
    find(2).await;
    story.docker.docker(&["volume", "rm", "second"]);
    find(1).await;

    let user = story.docker.docker(&[
        "create",
        "--net=none",
        "-v",
        "My_Volume.1:/data",
        "--name",
        "holder",
        "box:1",
        "/bin/sh",
    ]);
    story.state(&user, ContainerState::Created).await;
    let name = volumes[0].name_any();
    story.delete::<Volume>(&name).await;
    story
        .lab
        .eventually("the deletion waits", || async {
            let found = story.api::<Volume>().get(&name).await.ok()?;
            found.meta().deletion_timestamp.is_some().then_some(())
        })
        .await;
    story.delete::<Container>(&user).await;
    story.gone::<Container>(&user).await;
    story.gone::<Volume>(&name).await;
    assert_eq!(story.docker.docker(&["volume", "ls", "-q"]), "");
}

async fn restarted(story: &mut Story) {
    let id = story.run("survivor");
    let before = story.state(&id, ContainerState::Running).await;
    story.docker.stop();
    let ready = condition::CONTAINER_ENGINE_READY;
    story.lab.app_says(ready, "False", "ConnectFailed").await;
    assert!(!story.all::<Image>().await.is_empty(), "everything stays");
    story.docker.start_again();
    let after = story.state(&id, ContainerState::Exited).await;
    assert_eq!(after.uid(), before.uid());
    story
        .lab
        .app_says(condition::SETTLED, "True", "Settled")
        .await;
}

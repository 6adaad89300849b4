//! The mirror against an engine that fails on demand.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use rdd_api::{Container, ContainerNamespace, ContainerState, Image, Volume, names};
use rdd_engine::{self as engine, Fake};
use rdd_manager::Manager;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::lab::{self, Lab};

const READY: &str = "ContainerEngineReady";

/// The limit of every wait: far above what anything here takes, far below a hang.
const LIMIT: Duration = Duration::from_secs(30);

/// Looks again and again until `look` gives something; says what was seen last.
async fn eventually<T, S, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    S: Debug,
    F: Future<Output = Result<T, S>>,
{
    let end = Instant::now() + LIMIT;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < end, "{what}; last seen: {seen:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Controllers that mirror a fake engine.
struct Story {
    lab: Lab,
    engine: Fake,
    manager: Option<Manager>,
}

/// Runs a test with an engine that has one of each, mirrored.
fn story<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Story) -> F + Send + 'static) {
    lab::run(|lab| async move { test(Story::begin(lab).await).await });
}

fn id(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits:0<64}")
}

fn container(name: &str, state: &str) -> engine::Container {
    engine::Container {
        id: id(name),
        name: format!("/{name}"),
        path: "sh".to_owned(),
        image: "sha256:1".to_owned(),
        state: state.to_owned(),
        ..engine::Container::default()
    }
}

fn image(id: &str, tags: &[&str]) -> engine::Image {
    engine::Image {
        id: format!("sha256:{id}"),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        ..engine::Image::default()
    }
}

fn volume(name: &str) -> engine::Volume {
    engine::Volume {
        name: name.to_owned(),
        driver: "local".to_owned(),
        ..engine::Volume::default()
    }
}

impl Story {
    async fn begin(lab: Lab) -> Self {
        let engine = lab.engine.clone();
        engine.put_container(container("web", "running"), "start");
        engine.put_image(image("1", &["box:1", "box:2"]), "tag");
        engine.put_volume(volume("My_Volume"));
        let manager = Some(lab.start("*").await);
        let story = Self {
            lab,
            engine,
            manager,
        };
        story.set(json!({"running": true})).await;
        story.ready("True/Connected").await;
        story
    }

    /// Ends the controllers in order.
    async fn end(&mut self) {
        let manager = self.manager.take().expect("they run");
        assert!(manager.stop().await.is_empty(), "none had to be aborted");
    }

    /// Applies a spec of the App.
    async fn set(&self, spec: Value) {
        let app = json!({"apiVersion": names::APP_API_VERSION, "kind": "App",
            "metadata": {"name": names::APP}, "spec": spec});
        let params = PatchParams::apply("test").force();
        let applied = self
            .lab
            .apps()
            .patch(names::APP, &params, &Patch::Apply(&app))
            .await;
        applied.expect("the App is accepted");
    }

    /// The App's condition as `Status/Reason`.
    async fn condition(&self) -> String {
        let app = self
            .lab
            .apps()
            .get_opt(names::APP)
            .await
            .expect("the server answers");
        let status = app.and_then(|app| app.status).unwrap_or_default();
        rdd_api::condition::find(&status.conditions, READY).map_or(String::new(), |condition| {
            format!("{}/{}", condition.status, condition.reason)
        })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.lab.client.clone(), "default")
    }

    async fn ready(&self, wanted: &str) {
        eventually(&format!("{READY} is {wanted}"), || async {
            let found = self.condition().await;
            if found == wanted { Ok(()) } else { Err(found) }
        })
        .await;
    }

    async fn all<K>(&self) -> Vec<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let list = self.api::<K>().list(&ListParams::default()).await;
        list.expect("the server answers").items
    }

    /// UIDs by name.
    async fn uids(&self) -> BTreeMap<String, String> {
        fn uids<K: Resource>(objects: &[K]) -> impl Iterator<Item = (String, String)> {
            let pair = |object: &K| (object.name_any(), object.uid().unwrap_or_default());
            objects.iter().map(pair)
        }
        let (containers, images, volumes) = (
            self.all::<Container>().await,
            self.all::<Image>().await,
            self.all::<Volume>().await,
        );
        uids(&containers)
            .chain(uids(&images))
            .chain(uids(&volumes))
            .collect()
    }

    /// Waits until a container's mirror is as wanted, or gone for `None`.
    async fn mirror(
        &self,
        name: &str,
        wanted: impl Fn(Option<&Container>) -> bool,
    ) -> Option<Container> {
        eventually(&format!("the mirror of {name} is as wanted"), || async {
            let found = self.api::<Container>().get_opt(&id(name)).await;
            let found = found.expect("the server answers");
            if wanted(found.as_ref()) {
                Ok(found)
            } else {
                Err(found)
            }
        })
        .await
    }

    async fn state(&self, name: &str, wanted: ContainerState) -> Container {
        let found = self
            .mirror(name, |mirror| {
                let status = mirror.and_then(|mirror| mirror.status.as_ref());
                status.is_some_and(|status| status.status == wanted)
            })
            .await;
        found.expect("it was just seen")
    }

    async fn tags(&self, wanted: &[(&str, Option<&str>)]) {
        let wanted: Vec<(String, Option<String>)> = wanted
            .iter()
            .map(|(id, tag)| (format!("sha256:{id}"), tag.map(str::to_owned)))
            .collect();
        eventually("the images are as wanted", || async {
            let images = self.all::<Image>().await;
            let mut found: Vec<(String, Option<String>)> = images
                .into_iter()
                .map(|image| image.status.unwrap_or_default())
                .map(|status| (status.id, status.repo_tag))
                .collect();
            found.sort();
            if found == wanted { Ok(()) } else { Err(found) }
        })
        .await;
    }

    async fn patch(&self, name: &str, patch: serde_json::Value) -> kube::Result<Container> {
        let api = self.api::<Container>();
        api.patch(&id(name), &PatchParams::default(), &Patch::Merge(&patch))
            .await
    }

    async fn ask(&self, name: &str, action: &str) {
        let patch = json!({"metadata": {"annotations": {names::ACTION_ANNOTATION: action}}});
        self.patch(name, patch).await.expect("it is accepted");
    }

    /// Waits for the outcome of an action, and for its request to be gone.
    async fn outcome(&self, name: &str, action: &str) -> (String, Option<String>) {
        let found = self.mirror(name, |mirror| {
            let Some(mirror) = mirror else { return false };
            let last = mirror
                .status
                .as_ref()
                .and_then(|status| status.last_action.as_ref());
            !mirror.annotations().contains_key(names::ACTION_ANNOTATION)
                && last.is_some_and(|last| last.action == action && last.state != "InProgress")
        });
        let status = found.await.and_then(|mirror| mirror.status);
        let last = status.and_then(|status| status.last_action);
        let last = last.expect("it was just seen");
        (last.state, last.error)
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

    fn calls(&self) -> Vec<String> {
        self.engine.calls()
    }
}

#[test]
fn whatever_the_engine_has_is_mirrored() {
    story(|story| async move {
        let web = story.state("web", ContainerState::Running).await;
        assert_eq!(web.spec.state, rdd_api::DesiredState::Unknown);
        assert_eq!(web.finalizers(), [names::MIRROR_FINALIZER]);
        assert!(web.labels().contains_key(names::ENGINE_LABEL));
        let status = web.status.expect("it was just seen");
        assert_eq!(
            (status.name.as_str(), status.namespace.as_str()),
            ("web", "moby")
        );
        assert_eq!(status.last_action, None);
        story
            .tags(&[("1", Some("box:1")), ("1", Some("box:2"))])
            .await;
        let volumes = story.all::<Volume>().await;
        let name = |volume: &Volume| volume.status.as_ref().map(|status| status.name.clone());
        assert_eq!(
            volumes.iter().filter_map(name).collect::<Vec<_>>(),
            ["My_Volume"]
        );
        let namespaces = story.all::<ContainerNamespace>().await;
        assert_eq!(namespaces.len(), 1);
        assert_eq!(namespaces[0].name_any(), names::MOBY);
    });
}

#[test]
fn changes_of_the_engine_show_also_when_events_repeat() {
    story(|story| async move {
        story.engine.fault(|faults| faults.repeat_events = true);
        story
            .engine
            .put_container(container("db", "created"), "create");
        story.state("db", ContainerState::Created).await;
        story
            .engine
            .put_container(container("db", "hibernating"), "update");
        story.state("db", ContainerState::Unknown).await;
        story.engine.take_container(&id("db"));
        story.mirror("db", |mirror| mirror.is_none()).await;
        assert!(story.calls().is_empty(), "the engine was told nothing");
    });
}

#[test]
fn tags_come_go_and_move_with_their_images() {
    story(|story| async move {
        story.engine.put_image(image("2", &["box:2"]), "tag");
        story
            .tags(&[("1", Some("box:1")), ("2", Some("box:2"))])
            .await;
        story.engine.put_image(image("1", &[]), "untag");
        story.tags(&[("1", None), ("2", Some("box:2"))]).await;
        story.engine.put_image(image("1", &["new:1"]), "tag");
        story
            .tags(&[("1", Some("new:1")), ("2", Some("box:2"))])
            .await;
        story.engine.take_image("sha256:2");
        story.tags(&[("1", Some("new:1"))]).await;
    });
}

#[test]
fn deleting_a_mirror_removes_what_it_shows() {
    story(|story| async move {
        story.delete::<Container>(&id("web")).await;
        story.mirror("web", |mirror| mirror.is_none()).await;
        let volumes = story.all::<Volume>().await;
        story.delete::<Volume>(&volumes[0].name_any()).await;
        eventually("the volume is gone", || async {
            let left = story.all::<Volume>().await;
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
        let images = story.all::<Image>().await;
        let tag = |image: &&Image| {
            image
                .status
                .as_ref()
                .and_then(|status| status.repo_tag.as_deref())
                == Some("box:1")
        };
        let name = images.iter().find(tag).expect("it is mirrored").name_any();
        story.delete::<Image>(&name).await;
        story.tags(&[("1", Some("box:2"))]).await;
        let mut calls = story.calls();
        calls.sort();
        // Asking again for what is gone does no harm.
        calls.dedup();
        assert_eq!(
            calls,
            [
                format!("remove {}", id("web")),
                "remove My_Volume".to_owned(),
                "remove box:1".to_owned()
            ]
        );
    });
}

#[test]
fn a_refused_deletion_shows_why_and_happens_once_it_can() {
    story(|story| async move {
        story
            .engine
            .fault(|faults| faults.refuse_removals = Some(409));
        let name = story.all::<Volume>().await[0].name_any();
        story.delete::<Volume>(&name).await;
        let raw: Api<kube::core::DynamicObject> = Api::namespaced_with(
            story.lab.client.clone(),
            "default",
            &kube::core::ApiResource::erase::<Volume>(&()),
        );
        eventually("the refusal shows", || async {
            let found = raw.get(&name).await.expect("it is still there");
            let message = found.data["status"]["conditions"][0]["message"].clone();
            if message == "refused to remove My_Volume" {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
        // Another one is not held up meanwhile, and whatever goes may have been in the way.
        story.engine.fault(|faults| faults.refuse_removals = None);
        story.engine.take_container(&id("web"));
        eventually("the volume is gone", || async {
            let left = story.all::<Volume>().await;
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    });
}

#[test]
fn an_object_that_cannot_be_read_keeps_its_mirror_and_holds_nothing_up() {
    story(|story| async move {
        let before = story.uids().await;
        story.engine.fault(|faults| {
            faults.unreadable.insert(id("web"));
        });
        story.engine.cut_streams();
        story
            .engine
            .put_container(container("db", "running"), "start");
        story.state("db", ContainerState::Running).await;
        story.ready("True/Connected").await;
        let after = story.uids().await;
        assert_eq!(after[&id("web")], before[&id("web")]);
    });
}

#[test]
fn a_lost_engine_keeps_every_mirror_and_is_caught_up_in_place() {
    story(|story| async move {
        let before = story.uids().await;
        let patch = json!({"metadata": {"annotations": {"mine": "stays"}}});
        story.patch("web", patch).await.expect("it is accepted");
        story.engine.fault(|faults| faults.down = true);
        story.engine.cut_streams();
        story.ready("False/ConnectFailed").await;
        assert_eq!(story.uids().await, before);
        story
            .engine
            .put_container(container("web", "exited"), "die");
        story.engine.take_volume("My_Volume");
        story.engine.fault(|faults| faults.down = false);
        let web = story.state("web", ContainerState::Exited).await;
        story.ready("True/Connected").await;
        assert_eq!(web.uid().as_ref(), before.get(&id("web")));
        assert_eq!(web.annotations()["mine"], "stays");
        assert!(
            story.all::<Volume>().await.is_empty(),
            "what went meanwhile is gone"
        );
    });
}

#[test]
fn another_engine_at_the_same_place_is_told_nothing() {
    story(|story| async move {
        let before = story.uids().await;
        story.engine.replace_identity("two");
        story.delete::<Container>(&id("web")).await;
        story.engine.cut_streams();
        story.ready("False/ConnectFailed").await;
        assert!(story.calls().is_empty(), "{:?}", story.calls());
        assert_eq!(story.uids().await, before);
        // Who asks for mirroring anew means the engine that is there now.
        story.set(json!({"running": false})).await;
        story.ready("False/Stopped").await;
        story.set(json!({"running": true})).await;
        story.ready("True/Connected").await;
        story.state("web", ContainerState::Running).await;
        assert!(story.calls().is_empty(), "{:?}", story.calls());
    });
}

#[test]
fn reconnecting_without_a_difference_writes_nothing() {
    story(|story| async move {
        let versions = || async {
            let containers = story.all::<Container>().await;
            let images = story.all::<Image>().await;
            let versions = containers.iter().map(ResourceExt::resource_version);
            let versions = versions.chain(images.iter().map(ResourceExt::resource_version));
            versions.collect::<Vec<_>>()
        };
        // The conditions of a new mirror follow its first state.
        story
            .mirror("web", |mirror| {
                let status = mirror.and_then(|mirror| mirror.status.as_ref());
                status.is_some_and(|status| !status.conditions.is_empty())
            })
            .await;
        let before = versions().await;
        for round in 0..5 {
            story.engine.cut_streams();
            let name = format!("round{round}");
            // Its mirror shows that the round is over.
            story.engine.put_volume(volume(&name));
            eventually("the round is over", || async {
                let volumes = story.all::<Volume>().await;
                let mut names = volumes.iter().filter_map(|volume| volume.status.as_ref());
                if names.any(|status| status.name == name) {
                    Ok(())
                } else {
                    Err(volumes)
                }
            })
            .await;
            story.ready("True/Connected").await;
        }
        assert_eq!(versions().await, before);
    });
}

#[test]
fn actions_are_carried_out_once_and_their_outcome_is_kept() {
    story(|story| async move {
        for (action, state) in [
            ("pause", ContainerState::Paused),
            ("unpause", ContainerState::Running),
            ("stop", ContainerState::Exited),
            ("start", ContainerState::Running),
            ("restart", ContainerState::Running),
        ] {
            story.ask("web", action).await;
            assert_eq!(
                story.outcome("web", action).await,
                ("Succeeded".to_owned(), None)
            );
            story.state("web", state).await;
            let restarts = story
                .calls()
                .iter()
                .filter(|call| call.starts_with(action))
                .count();
            assert_eq!(restarts, 1, "{action}: {:?}", story.calls());
        }
        story
            .engine
            .fault(|faults| faults.refuse_actions = Some(500));
        story.ask("web", "stop").await;
        let (state, error) = story.outcome("web", "stop").await;
        assert_eq!(state, "Failed");
        assert!(error.is_some_and(|error| error.starts_with("refused to stop")));
    });
}

#[test]
fn a_request_that_hangs_delays_nobody_else() {
    story(|story| async move {
        let many: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
        for name in &many {
            story
                .engine
                .put_container(container(name, "running"), "start");
        }
        for name in &many {
            story.state(name, ContainerState::Running).await;
        }
        story.engine.fault(|faults| faults.hang_actions = true);
        for name in &many {
            story.ask(name, "stop").await;
        }
        eventually("every stop has begun", || async {
            let calls = story.calls();
            if calls.len() == many.len() {
                Ok(())
            } else {
                Err(calls.len())
            }
        })
        .await;
        story
            .engine
            .put_container(container("late", "created"), "create");
        story.state("late", ContainerState::Created).await;
        story.delete::<Container>(&id("late")).await;
        story.mirror("late", |mirror| mirror.is_none()).await;
        story.engine.fault(|faults| faults.hang_actions = false);
        for name in &many {
            assert_eq!(story.outcome(name, "stop").await.0, "Succeeded");
        }
    });
}

#[test]
fn a_standing_wish_is_kept_and_its_contradiction_refused() {
    story(|story| async move {
        let wish = |state: &str| json!({"spec": {"state": state}});
        story
            .patch("web", wish("created"))
            .await
            .expect("it is accepted");
        story.state("web", ContainerState::Exited).await;
        let asked = json!({"metadata": {"annotations": {names::ACTION_ANNOTATION: "start"}}});
        let refused = story.patch("web", asked).await.expect_err("it contradicts");
        assert!(refused.to_string().contains("spec.state"), "{refused}");
        story
            .patch("web", wish("running"))
            .await
            .expect("it is accepted");
        story.state("web", ContainerState::Running).await;
        story
            .engine
            .put_container(container("web", "paused"), "pause");
        eventually("it is thawed", || async {
            let calls = story.calls();
            if calls.iter().any(|call| call.starts_with("unpause")) {
                Ok(())
            } else {
                Err(calls)
            }
        })
        .await;
        let web = story.state("web", ContainerState::Running).await;
        assert_eq!(web.status.expect("it was just seen").last_action, None);
        story
            .patch("web", wish("unknown"))
            .await
            .expect("it is accepted");
        story
            .engine
            .put_container(container("web", "exited"), "die");
        let web = story.state("web", ContainerState::Exited).await;
        assert_eq!(web.spec.state, rdd_api::DesiredState::Unknown);
    });
}

#[test]
fn a_stop_removes_every_mirror_and_nothing_else() {
    story(|story| async move {
        let mine: Container = serde_json::from_value(json!({
            "apiVersion": "containers.rancherdesktop.io/v1alpha1", "kind": "Container",
            "metadata": {"name": "mine"}, "spec": {}
        }))
        .expect("a Container");
        let created = story.api().create(&PostParams::default(), &mine).await;
        created.expect("it is accepted");
        story.set(json!({"running": false})).await;
        story.ready("False/Stopped").await;
        let left = story.uids().await;
        assert_eq!(left.keys().collect::<Vec<_>>(), ["mine"]);
        assert!(story.all::<ContainerNamespace>().await.is_empty());
        assert!(story.calls().is_empty(), "the engine was told nothing");
        story.set(json!({"running": true})).await;
        story.state("web", ContainerState::Running).await;
        // It shows nothing of the engine, so its deletion concerns nobody.
        story.delete::<Container>("mine").await;
        assert!(story.calls().is_empty(), "the engine was told nothing");
    });
}

#[test]
fn a_tag_that_moved_on_is_not_taken_from_its_new_image() {
    story(|story| async move {
        // The mirror still shows the old image when it is deleted.
        story.engine.fault(|faults| faults.drop_events = true);
        story.engine.put_image(image("2", &["box:2"]), "tag");
        let images = story.all::<Image>().await;
        let shows = |image: &&Image| {
            let status = image.status.as_ref();
            status.is_some_and(|status| status.repo_tag.as_deref() == Some("box:2"))
        };
        let name = images
            .iter()
            .find(shows)
            .expect("it is mirrored")
            .name_any();
        story.delete::<Image>(&name).await;
        eventually("the mirror is gone", || async {
            let found = story.api::<Image>().get_opt(&name).await;
            match found.expect("the server answers") {
                None => Ok(()),
                Some(found) => Err(found),
            }
        })
        .await;
        assert!(story.calls().is_empty(), "{:?}", story.calls());
    });
}

#[test]
fn a_restart_that_was_done_before_a_crash_is_not_done_again() {
    story(|mut story| async move {
        story.end().await;
        // What a crash between the engine's answer and the record leaves behind.
        let mut restarted = container("web", "running");
        restarted.started_at = Some("2030-01-01T00:00:01Z".to_owned());
        story.engine.put_container(restarted, "restart");
        story.ask("web", "restart").await;
        let status = json!({"status": {"lastAction": {"action": "restart",
            "state": "InProgress", "observedAt": "2030-01-01T00:00:00Z"}}});
        let written = story
            .api::<Container>()
            .patch_status(&id("web"), &PatchParams::default(), &Patch::Merge(&status))
            .await;
        written.expect("it is accepted");
        story.manager = Some(story.lab.start("*").await);
        let (state, error) = story.outcome("web", "restart").await;
        assert_eq!((state.as_str(), error), ("Succeeded", None));
        assert!(story.calls().is_empty(), "{:?}", story.calls());
    });
}

#[test]
fn a_sweep_that_was_cut_short_is_finished_by_the_next_start() {
    story(|mut story| async move {
        story.end().await;
        assert!(
            !story.uids().await.is_empty(),
            "an orderly end keeps mirrors"
        );
        story.set(json!({"running": false})).await;
        story.manager = Some(story.lab.start("*").await);
        story.ready("False/Stopped").await;
        assert!(story.uids().await.is_empty());
        assert!(story.calls().is_empty(), "the engine was told nothing");
    });
}

#[test]
fn a_mirror_without_status_and_without_a_volume_is_removed() {
    story(|mut story| async move {
        story.end().await;
        let volumes = story.all::<Volume>().await;
        let label = volumes[0].labels()[names::ENGINE_LABEL].clone();
        let half = |name: &str| -> Volume {
            serde_json::from_value(json!({
                "apiVersion": "containers.rancherdesktop.io/v1alpha1", "kind": "Volume",
                "metadata": {"name": name, "labels": {names::ENGINE_LABEL: label},
                    "finalizers": [names::MIRROR_FINALIZER]},
            }))
            .expect("a Volume")
        };
        let lonely = story
            .api()
            .create(&PostParams::default(), &half("vol-0"))
            .await;
        lonely.expect("it is accepted");
        story.manager = Some(story.lab.start("*").await);
        eventually("only what the engine has is left", || async {
            let left = story.all::<Volume>().await;
            if left.len() == 1 { Ok(()) } else { Err(left) }
        })
        .await;
        assert!(story.calls().is_empty(), "{:?}", story.calls());
    });
}

#[test]
fn what_changes_while_the_connection_is_made_is_not_missed() {
    story(|story| async move {
        let engine = story.engine.clone();
        let changing = tokio::spawn(async move {
            for number in 0..200 {
                let name = format!("v{}", number % 7);
                if number % 3 == 0 {
                    engine.take_volume(&name);
                } else {
                    engine.put_volume(volume(&name));
                }
                if number % 20 == 0 {
                    engine.cut_streams();
                }
                // Between any two steps of the connection.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        changing.await.expect("no panic");
        let there = engine::Engine::volumes(&story.engine)
            .await
            .expect("it is up");
        let mut wanted: Vec<String> = there.into_iter().map(|volume| volume.name).collect();
        wanted.sort();
        eventually("the mirror is what the engine is", || async {
            let volumes = story.all::<Volume>().await;
            let mut found: Vec<String> = volumes
                .into_iter()
                .map(|volume| volume.status.unwrap_or_default().name)
                .collect();
            found.sort();
            if found == wanted { Ok(()) } else { Err(found) }
        })
        .await;
        story.ready("True/Connected").await;
    });
}

#[test]
fn moby_is_back_after_its_deletion() {
    story(|story| async move {
        let before = story.all::<ContainerNamespace>().await[0].uid();
        story.delete::<ContainerNamespace>(names::MOBY).await;
        eventually("it is another one", || async {
            let found = story.all::<ContainerNamespace>().await;
            if found.first().is_some_and(|moby| moby.uid() != before) {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
    });
}

#[test]
fn an_orderly_end_aborts_no_controller() {
    story(|mut story| async move {
        story.end().await;
    });
}

#[test]
fn many_mirrors_are_swept_in_one_go() {
    story(|story| async move {
        for number in 0..600 {
            let name = format!("c{number}");
            story
                .engine
                .put_container(container(&name, "running"), "start");
        }
        eventually("all are mirrored", || async {
            let found = story.all::<Container>().await.len();
            if found == 601 { Ok(()) } else { Err(found) }
        })
        .await;
        let begin = Instant::now();
        story.set(json!({"running": false})).await;
        story.ready("False/Stopped").await;
        assert!(story.uids().await.is_empty());
        // Sweeping anew for every deletion that is told would take minutes.
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{:?}",
            begin.elapsed()
        );
    });
}

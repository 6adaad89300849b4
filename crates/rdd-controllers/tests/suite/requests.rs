//! Requests against an engine that fails on demand.

use std::fmt::Debug;
use std::time::Duration;

use kube::Resource;
use kube::api::{Api, DeleteParams, PostParams};
use kube::core::NamespaceResourceScope;
use rdd_api::names::{self, REQUEST_LABEL};
use rdd_api::{
    Condition, Container, ContainerCreateRequest, ImagePullRequest, ImagePushRequest,
    ImageScanRequest, Request, RequestStatus, Volume, VolumeCreateRequest, condition,
};
use rdd_controllers::World;
use rdd_engine as engine;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::lab;
use crate::story::{Story, eventually, image, story};

pub(crate) trait Kind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Request
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
{
}

impl<K> Kind for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Request
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
{
}

pub(crate) async fn ask<K: Kind>(story: &Story, name: &str, spec: Value) -> kube::Result<K> {
    let object = json!({
        "apiVersion": format!("{}/{}", names::group::CONTAINERS, names::VERSION),
        "kind": K::kind(&()),
        "metadata": {"name": name},
        "spec": spec,
    });
    let object: K = serde_json::from_value(object).expect("it has the form");
    story
        .api::<K>()
        .create(&PostParams::default(), &object)
        .await
}

async fn asked<K: Kind>(story: &Story, name: &str, spec: Value) -> K {
    ask(story, name, spec).await.expect("it is accepted")
}

async fn becomes<K: Kind>(
    story: &Story,
    name: &str,
    wanted: impl Fn(&RequestStatus) -> bool,
) -> RequestStatus {
    eventually(&format!("request {name} is as wanted"), || async {
        let found: Option<K> = story.api::<K>().get_opt(name).await.expect("it answers");
        match found.as_ref().and_then(Request::status) {
            Some(status) if wanted(status) => Ok(status.clone()),
            other => Err(other.cloned()),
        }
    })
    .await
}

/// `Complete`'s reason, the one that both conditions carry.
pub(crate) fn reason(status: &RequestStatus) -> &str {
    condition::find(&status.conditions, condition::COMPLETE)
        .map_or("", |condition| condition.reason.as_str())
}

pub(crate) fn holds(status: &RequestStatus, kind: &str) -> bool {
    condition::find(&status.conditions, kind).is_some_and(Condition::is_true)
}

async fn ends<K: Kind>(story: &Story, name: &str) -> RequestStatus {
    let status = becomes::<K>(story, name, |status| {
        holds(status, condition::COMPLETE) || holds(status, condition::FAILED)
    })
    .await;
    assert_ne!(
        holds(&status, condition::COMPLETE),
        holds(&status, condition::FAILED),
        "exactly one: {status:?}"
    );
    let observed = |condition: &Condition| condition.observed_generation == Some(1);
    assert!(status.conditions.iter().all(observed), "{status:?}");
    status
}

fn calls(story: &Story, what: &str) -> usize {
    let calls = story.calls();
    calls.iter().filter(|call| call.starts_with(what)).count()
}

#[test]
fn a_container_is_made_started_and_mirrored() {
    story(|story| async move {
        let spec = json!({"image": "box:1", "name": "made", "path": "sh", "args": ["-c", "x"],
            "env": [{"name": "A", "value": "b"}], "labels": {"l": "v"},
            "ports": [{"name": "80/tcp", "bindings": [{"hostIP": "127.0.0.1", "hostPort": "8080"}]}],
            "mounts": [{"destination": "/d", "type": "volume", "name": "My_Volume"}]});
        let request: ContainerCreateRequest = asked(&story, "one", spec).await;
        let status = ends::<ContainerCreateRequest>(&story, "one").await;
        assert_eq!(reason(&status), "Completed");
        let id = status.name.expect("it was made");
        let there = story.engine.look(&id).expect("the engine has it");
        assert_eq!(
            (there.state.as_str(), there.name.as_str()),
            ("running", "/made")
        );
        assert_eq!(
            there.labels.get(REQUEST_LABEL),
            request.metadata.uid.as_ref()
        );
        assert_eq!(there.labels["l"], "v");
        assert_eq!(there.ports[0].bindings[0].host_port, "8080");
        eventually("its mirror has its identifier", || async {
            let found = story.api::<Container>().get_opt(&id).await;
            found.expect("it answers").map(drop).ok_or(())
        })
        .await;
        let spec = json!({"image": "box:1", "state": "created"});
        asked::<ContainerCreateRequest>(&story, "two", spec).await;
        let status = ends::<ContainerCreateRequest>(&story, "two").await;
        let there = story
            .engine
            .look(&status.name.expect("made"))
            .expect("there");
        assert_eq!(there.state, "created");
    });
}

#[test]
fn what_the_engine_refuses_fails_in_its_words() {
    story(|story| async move {
        for (name, spec, wanted, words) in [
            (
                "taken",
                json!({"image": "box:1", "name": "web"}),
                "CreateFailed",
                "already in use",
            ),
            (
                "absent",
                json!({"image": "none:1"}),
                "CreateFailed",
                "No such image: none:1",
            ),
            (
                "place",
                json!({"image": "box:1", "namespace": "k8s.io"}),
                "NamespaceNotFound",
                "k8s.io",
            ),
        ] {
            asked::<ContainerCreateRequest>(&story, name, spec).await;
            let status = ends::<ContainerCreateRequest>(&story, name).await;
            assert_eq!(reason(&status), wanted, "{status:?}");
            assert!(status.conditions[0].message.contains(words), "{status:?}");
        }
        story
            .engine
            .fault(|faults| faults.refuse_actions = Some(500));
        let spec = json!({"image": "box:1", "name": "stuck"});
        asked::<ContainerCreateRequest>(&story, "stuck", spec).await;
        let status = ends::<ContainerCreateRequest>(&story, "stuck").await;
        assert_eq!(reason(&status), "StartFailed");
        assert!(status.name.is_some(), "what was made is named");
        asked::<VolumeCreateRequest>(&story, "v", json!({"driver": "local", "name": "My_Volume"}))
            .await;
        let status = ends::<VolumeCreateRequest>(&story, "v").await;
        assert!(
            status.conditions[0].message.contains("exists already"),
            "{status:?}"
        );
        asked::<ImageScanRequest>(&story, "scan", json!({"imageRef": "x"})).await;
        assert_eq!(
            reason(&ends::<ImageScanRequest>(&story, "scan").await),
            "NoScanner"
        );
    });
}

#[test]
fn bad_requests_are_refused_when_they_are_made() {
    story(|story| async move {
        for spec in [
            json!({"image": ""}),
            json!({"image": "a", "state": "paused"}),
            json!({"image": "a", "name": "/x"}),
            json!({"image": "a", "ports": [{"name": "80"}]}),
        ] {
            let refused = ask::<ContainerCreateRequest>(&story, "bad", spec.clone()).await;
            assert!(matches!(refused, Err(kube::Error::Api(_))), "{spec}");
        }
        story.engine.fault(|faults| faults.hang = true);
        let spec = json!({"image": "box:1", "name": "wanted"});
        asked::<ContainerCreateRequest>(&story, "first", spec.clone()).await;
        let refused = ask::<ContainerCreateRequest>(&story, "second", spec.clone()).await;
        let text = refused.expect_err("the first is not finished").to_string();
        assert!(
            text.contains("\"first\"") && text.contains("\"wanted\""),
            "{text}"
        );
        story.engine.fault(|faults| faults.hang = false);
        ends::<ContainerCreateRequest>(&story, "first").await;
        asked::<ContainerCreateRequest>(&story, "second", spec).await;
        let status = ends::<ContainerCreateRequest>(&story, "second").await;
        assert_eq!(reason(&status), "CreateFailed");
        let api = story.api::<ContainerCreateRequest>();
        let mut changed = api.get("second").await.expect("it is there");
        changed.spec.image = "other".to_owned();
        let refused = api
            .replace("second", &PostParams::default(), &changed)
            .await;
        let text = refused.expect_err("it cannot be changed").to_string();
        assert!(text.contains("a request cannot be changed"), "{text}");
    });
}

#[test]
fn transfers_tell_how_far_they_are_and_end_with_their_request() {
    story(|story| async move {
        story.engine.offer("app:1", "sha256:7");
        story.engine.fault(|faults| faults.hang_transfers = true);
        for number in 0..6 {
            story.engine.offer(&format!("app:{number}"), "sha256:7");
            let spec = json!({"repoTag": format!("app:{number}")});
            asked::<ImagePullRequest>(&story, &format!("p{number}"), spec).await;
        }
        let is_waiting =
            |status: &RequestStatus| status.conditions[0].message == "Waiting for other transfers";
        eventually("four are fetched and two wait", || async {
            let all = story.all::<ImagePullRequest>().await;
            let statuses: Vec<_> = all.iter().filter_map(|one| one.status.clone()).collect();
            let fetching = statuses
                .iter()
                .filter(|status| reason(status) == "InProgress");
            let waiting = statuses.iter().filter(|status| is_waiting(status));
            let counts = (fetching.count(), waiting.count());
            if counts == (4, 2) {
                Ok(())
            } else {
                Err(counts)
            }
        })
        .await;
        // A creation is not held up by transfers.
        asked::<VolumeCreateRequest>(&story, "v", json!({"name": "quick"})).await;
        ends::<VolumeCreateRequest>(&story, "v").await;
        let all = story.all::<ImagePullRequest>().await;
        let busy = all.iter().find(|one| one.reason() == Some("InProgress"));
        let busy = busy
            .expect("four are")
            .metadata
            .name
            .clone()
            .expect("a name");
        let api = story.api::<ImagePullRequest>();
        drop(
            api.delete(&busy, &DeleteParams::default())
                .await
                .expect("it goes"),
        );
        eventually("its turn goes to another one", || async {
            let all = story.all::<ImagePullRequest>().await;
            let fetching = all
                .iter()
                .filter(|one| one.reason() == Some("InProgress"))
                .count();
            if all.len() == 5 && fetching == 4 {
                Ok(())
            } else {
                Err((all.len(), fetching))
            }
        })
        .await;
        story.engine.fault(|faults| faults.hang_transfers = false);
        for one in story.all::<ImagePullRequest>().await {
            let name = one.metadata.name.expect("a name");
            let status = ends::<ImagePullRequest>(&story, &name).await;
            assert_eq!(reason(&status), "Completed", "{status:?}");
            assert_eq!(status.digest.as_deref(), Some("sha256:7"));
            let progress = status.progress.expect("it was told");
            assert_eq!(
                (progress.layers, progress.bytes, progress.total_bytes),
                (2, 12, 20)
            );
        }
        assert_eq!(calls(&story, "pull"), 6);
        asked::<ImagePullRequest>(&story, "none", json!({"repoTag": "none:1"})).await;
        let status = ends::<ImagePullRequest>(&story, "none").await;
        assert_eq!(reason(&status), "PullFailed");
        assert!(
            status.conditions[0].message.contains("manifest for none:1"),
            "{status:?}"
        );
    });
}

#[test]
fn a_tag_is_pushed_by_the_name_of_its_image() {
    story(|story| async move {
        story.engine.put_image(image("5", &[]), "untag");
        eventually("both are mirrored", || async {
            let count = story.all::<rdd_api::Image>().await.len();
            if count == 3 { Ok(()) } else { Err(count) }
        })
        .await;
        for mirror in story.all::<rdd_api::Image>().await {
            let name = mirror.metadata.name.expect("a name");
            let request = format!("push-{}", &name[..20]);
            asked::<ImagePushRequest>(&story, &request, json!({"imageRef": name})).await;
            let status = ends::<ImagePushRequest>(&story, &request).await;
            match mirror.status.unwrap_or_default().repo_tag {
                Some(tag) => {
                    assert_eq!(reason(&status), "Completed");
                    assert_eq!(calls(&story, &format!("push {tag}")), 1);
                }
                None => assert_eq!(reason(&status), "ImageNotFound"),
            }
        }
        asked::<ImagePushRequest>(&story, "none", json!({"imageRef": "img-none"})).await;
        let status = ends::<ImagePushRequest>(&story, "none").await;
        assert_eq!(reason(&status), "ImageNotFound");
    });
}

/// Ends the controllers without a word and starts them again.
async fn crash(story: &mut Story, start: &str) {
    drop(story.manager.take());
    story.lab.begin(start).await;
    let started = rdd_manager::start(story.lab.options("*", start)).await;
    story.manager = Some(started.expect("it starts"));
}

#[test]
fn a_lost_answer_is_made_up_for_by_looking_for_what_was_made() {
    story(|story| async move {
        story.engine.fault(|faults| faults.lose_answers = true);
        let spec = json!({"image": "box:1", "name": "lost"});
        asked::<ContainerCreateRequest>(&story, "c", spec).await;
        let status = ends::<ContainerCreateRequest>(&story, "c").await;
        assert_eq!(reason(&status), "Completed", "{status:?}");
        let there = story
            .engine
            .look(&status.name.expect("found"))
            .expect("there");
        assert_eq!(
            (there.state.as_str(), calls(&story, "create lost")),
            ("running", 1)
        );
        asked::<VolumeCreateRequest>(&story, "v", json!({"name": "lost"})).await;
        let status = ends::<VolumeCreateRequest>(&story, "v").await;
        assert_eq!(status.name.as_deref(), Some("lost"));
        assert_eq!(calls(&story, "create volume lost"), 1);
    });
}

#[test]
fn a_crash_at_any_step_never_carries_a_request_out_twice() {
    story(|mut story| async move {
        story.engine.offer("app:1", "sha256:7");
        for (round, fault) in ["hang", "hang_transfers", "writes"].into_iter().enumerate() {
            let set = |story: &Story, on: bool| match fault {
                "hang" => story.engine.fault(|faults| faults.hang = on),
                "hang_transfers" => story.engine.fault(|faults| faults.hang_transfers = on),
                _ => story.lab.store.fail_one_write_in(if on { 2 } else { 0 }),
            };
            let container = format!("c{round}");
            let spec = json!({"image": "box:1", "name": container});
            asked::<ContainerCreateRequest>(&story, &container, spec).await;
            asked::<VolumeCreateRequest>(&story, &container, json!({"name": container})).await;
            asked::<ImagePullRequest>(&story, &container, json!({"repoTag": "app:1"})).await;
            set(&story, true);
            tokio::task::yield_now().await;
            set(&story, false);
            crash(&mut story, &format!("again-{round}")).await;
            let made = ends::<ContainerCreateRequest>(&story, &container).await;
            if reason(&made) == "Completed" {
                assert!(story.engine.look(&made.name.expect("named")).is_some());
            } else {
                assert_eq!(reason(&made), "Interrupted");
            }
            ends::<VolumeCreateRequest>(&story, &container).await;
            ends::<ImagePullRequest>(&story, &container).await;
            assert!(
                calls(&story, &format!("create {container}")) <= 1,
                "{:?}",
                story.calls()
            );
            assert!(calls(&story, &format!("create volume {container}")) <= 1);
            assert!(calls(&story, "pull app:1") <= round + 1);
        }
    });
}

#[test]
fn a_request_waits_for_the_engine_and_says_so() {
    story(|story| async move {
        story.set(json!({"running": false})).await;
        story.ready("False/Stopped").await;
        asked::<VolumeCreateRequest>(&story, "early", json!({"name": "early"})).await;
        let status =
            becomes::<VolumeCreateRequest>(&story, "early", |status| reason(status) == "Pending")
                .await;
        assert_eq!(status.conditions.len(), 2, "both from the first write on");
        assert!(!holds(&status, condition::COMPLETE) && !holds(&status, condition::FAILED));
        let elsewhere: Api<VolumeCreateRequest> =
            Api::namespaced(story.lab.client.clone(), "kube-public");
        let object: VolumeCreateRequest = serde_json::from_value(json!({
            "apiVersion": "containers.rancherdesktop.io/v1alpha1", "kind": "VolumeCreateRequest",
            "metadata": {"name": "elsewhere"}, "spec": {"driver": "local"}}))
        .expect("it has the form");
        elsewhere
            .create(&PostParams::default(), &object)
            .await
            .expect("accepted");
        story.set(json!({"running": true})).await;
        let status = ends::<VolumeCreateRequest>(&story, "early").await;
        assert_eq!(reason(&status), "Completed");
        eventually("it says where requests are carried out", || async {
            let found = elsewhere.get("elsewhere").await.expect("it is there");
            let message = found
                .status
                .and_then(|status| Some(status.conditions.first()?.message.clone()));
            match message {
                Some(text) if text.contains("\"default\"") => Ok(()),
                other => Err(other),
            }
        })
        .await;
    });
}

#[test]
fn what_is_done_goes_after_its_time_and_leaves_what_it_made() {
    lab::run(|mut lab| async move {
        let mut world = World::clone(&lab.world);
        world.retain_requests = Duration::from_secs(2);
        lab.use_world(world);
        let story = Story::begin(lab).await;
        asked::<VolumeCreateRequest>(&story, "v", json!({"name": "made"})).await;
        ends::<VolumeCreateRequest>(&story, "v").await;
        eventually("the request goes", || async {
            let left = story.all::<VolumeCreateRequest>().await;
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
        eventually("the volume stays", || async {
            let volumes = story.all::<Volume>().await;
            if volumes.len() == 2 {
                Ok(())
            } else {
                Err(volumes)
            }
        })
        .await;
        let there = engine::Engine::volumes(&story.engine)
            .await
            .expect("it is up");
        assert_eq!(there.len(), 2);
    });
}

//! The mirror against an engine that fails on demand.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Resource as _, ResourceExt};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rdd_api::{Container, ContainerNamespace, ContainerState, Image, Volume, names};
use rdd_engine as engine;
use serde_json::json;

use crate::model::{shown, there};
use crate::story::{Story, container, eventually, id, image, story, volume};

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

/// What must agree after every few changes.
async fn agree(story: &Story) {
    eventually("mirrors and engine agree", || async {
        let (shown, there) = (shown(story).await, there(&story.engine).await);
        let differ = |one: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
            one.difference(other).cloned().collect()
        };
        let difference = (differ(&shown, &there), differ(&there, &shown));
        if shown == there {
            Ok(())
        } else {
            Err(difference)
        }
    })
    .await;
}

/// Changes that follow each other faster than the watch tells what was written of the
/// ones before. Nothing but events corrects a mirror here.
#[test]
fn changes_that_overtake_the_watch_leave_nothing_behind() {
    const BURSTS: usize = 150;
    story(|story| async move {
        let mut dice = StdRng::seed_from_u64(7);
        for _ in 0..BURSTS {
            for _ in 0..dice.random_range(2..6) {
                let number = dice.random_range(2..4).to_string();
                match dice.random_range(0..12) {
                    0 => story.engine.take_image(&format!("sha256:{number}")),
                    1 => story.engine.take_volume(&number),
                    2 => story.engine.put_volume(volume(&number)),
                    3 => story.engine.take_container(&id(&number)),
                    4 => {
                        let run = container(&number, "running");
                        story.engine.put_container(run, "start");
                    }
                    _ => {
                        let tags = ["a:1", "b:1", "c:1"].into_iter();
                        let tags: Vec<&str> = tags.filter(|_| dice.random_bool(0.4)).collect();
                        let event = if dice.random_bool(0.5) {
                            "tag"
                        } else {
                            "untag"
                        };
                        story.engine.put_image(image(&number, &tags), event);
                    }
                }
                let pause = Duration::from_micros(dice.random_range(0..6_000));
                tokio::time::sleep(pause).await;
            }
            agree(&story).await;
        }
        assert!(story.calls().is_empty(), "the engine was told nothing");
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
        // And so does what its images are told to be used by.
        eventually("the use of the images shows", || async {
            let images = story.all::<Image>().await;
            let used = |image: &Image| image.status.as_ref().is_some_and(|status| status.in_use);
            if images.iter().all(used) {
                Ok(())
            } else {
                Err(images)
            }
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

/// What a crash leaves behind that struck after a restart was taken up.
async fn crash_in_restart(story: &mut Story, annotated: bool) {
    story.end().await;
    if annotated {
        story.ask("web", "restart").await;
    }
    let status = json!({"status": {"lastAction": {"action": "restart",
        "state": "InProgress", "before": "7 2030-01-01T00:00:00Z"}}});
    let written = story
        .api::<Container>()
        .patch_status(&id("web"), &PatchParams::default(), &Patch::Merge(&status))
        .await;
    written.expect("it is accepted");
}

fn run_of_web(pid: i64) -> engine::Container {
    engine::Container {
        pid,
        started_at: Some("2030-01-01T00:00:00Z".to_owned()),
        ..container("web", "running")
    }
}

#[test]
fn a_restart_that_was_done_before_a_crash_is_not_done_again() {
    story(|mut story| async move {
        crash_in_restart(&mut story, true).await;
        // Within the same second, as far as the engine tells.
        story.engine.put_container(run_of_web(8), "restart");
        story.manager = Some(story.lab.start("*").await);
        let (state, error) = story.outcome("web", "restart").await;
        assert_eq!((state.as_str(), error), ("Succeeded", None));
        assert!(story.calls().is_empty(), "{:?}", story.calls());
    });
}

#[test]
fn a_restart_that_a_crash_prevented_is_done_once() {
    story(|mut story| async move {
        crash_in_restart(&mut story, true).await;
        story.engine.put_container(run_of_web(7), "update");
        story.manager = Some(story.lab.start("*").await);
        let (state, error) = story.outcome("web", "restart").await;
        assert_eq!((state.as_str(), error), ("Succeeded", None));
        assert_eq!(story.calls(), [format!("restart {}", id("web"))]);
    });
}

#[test]
fn a_restart_that_was_withdrawn_is_not_taken_for_the_next_one() {
    story(|mut story| async move {
        crash_in_restart(&mut story, false).await;
        story.engine.put_container(run_of_web(8), "restart");
        story.manager = Some(story.lab.start("*").await);
        let (state, _) = story.outcome("web", "restart").await;
        assert_eq!(state, "Failed");
        story.ask("web", "restart").await;
        let (state, error) = story.outcome("web", "restart").await;
        assert_eq!((state.as_str(), error), ("Succeeded", None));
        assert_eq!(story.calls(), [format!("restart {}", id("web"))]);
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
fn what_changes_while_the_connection_is_made_is_not_missed_whatever_its_clock_says() {
    const HOUR: i64 = 3600;
    for clock_ahead in [0, HOUR, -HOUR] {
        story(move |story| changes_while_connecting(story, clock_ahead));
    }
}

async fn changes_while_connecting(story: Story, clock_ahead: i64) {
    let engine = story.engine.clone();
    engine.fault(|faults| faults.clock_ahead = clock_ahead);
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
}

/// Deletes a ContainerNamespace; gives the warnings of the answer.
async fn warned(story: &Story, name: &str, query: &str) -> Vec<String> {
    let path = ContainerNamespace::url_path(&(), Some("default"));
    let request = http::Request::delete(format!("{path}/{name}{query}"));
    let request = request
        .body(kube::client::Body::empty())
        .expect("a request");
    let answer = story.lab.client.send(request).await.expect("an answer");
    assert!(answer.status().is_success(), "{answer:?}");
    let warnings = answer.headers().get_all(http::header::WARNING);
    let text = |warning: &http::HeaderValue| warning.to_str().expect("text").to_owned();
    warnings.iter().map(text).collect()
}

#[test]
fn a_namespace_that_is_needed_is_back_after_its_deletion_which_warns() {
    story(|story| async move {
        let job = engine::Container {
            name: "/ci/job".to_owned(),
            ..container("job", "running")
        };
        story.engine.put_container(job, "start");
        let uid_of = |name: &'static str| {
            let api = story.api::<ContainerNamespace>();
            async move {
                let found = api.get_opt(name).await.expect("the server answers");
                found.and_then(|found| found.uid())
            }
        };
        for name in [names::MOBY, "ci"] {
            let before = eventually("it is there", || async { uid_of(name).await.ok_or(()) }).await;
            let wanted = format!(
                r#"299 - "ContainerNamespace \"{name}\" is made again while the engine is mirrored""#
            );
            for query in ["?dryRun=All", ""] {
                let warnings = warned(&story, name, query).await;
                assert_eq!(warnings, [wanted.as_str()], "{query}");
            }
            eventually("it is another one", || async {
                match uid_of(name).await {
                    Some(uid) if uid != before => Ok(()),
                    other => Err(other),
                }
            })
            .await;
        }
        let free = json!({"apiVersion": "containers.rancherdesktop.io/v1alpha1",
            "kind": "ContainerNamespace", "metadata": {"name": "free"}});
        let free: ContainerNamespace = serde_json::from_value(free).expect("it is one");
        let made = story.api().create(&PostParams::default(), &free).await;
        made.expect("it is accepted");
        assert_eq!(warned(&story, "free", "").await, [""; 0]);
        assert_eq!(uid_of("free").await, None);
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
        let before = story.lab.store.calls();
        story.set(json!({"running": false})).await;
        story.ready("False/Stopped").await;
        assert!(story.uids().await.is_empty());
        // Sweeping anew for every deletion that is told would take 600 times 600.
        let calls = story.lab.store.calls() - before;
        assert!(calls < 600 * 30, "{calls}");
    });
}

//! Engines that answer late, wrongly or not at all, and whatever they may legally say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rdd_api::{Container, Image, Volume};
use rdd_controllers::World;
use rdd_engine as engine;
use rdd_manager::Passthroughs;
use serde_json::json;

use crate::lab;
use crate::story::{Story, container, eventually, id, image, story, volume};

/// Runs a test whose engine is asked for a sign of life this often.
fn watchful_story<F: Future<Output = ()> + Send + 'static>(
    silence: Duration,
    test: impl FnOnce(Story) -> F + Send + 'static,
) {
    lab::run(move |mut lab| async move {
        let mut world = World::clone(&lab.world);
        world.silence = silence;
        lab.use_world(world);
        test(Story::begin(lab).await).await;
    });
}

#[test]
fn an_engine_that_hangs_is_noticed_without_an_event_and_caught_up_when_it_is_back() {
    watchful_story(Duration::from_millis(50), |story| async move {
        let before = story.uids().await;
        story.engine.fault(|faults| faults.hang = true);
        story.ready("False/ConnectFailed").await;
        assert_eq!(story.uids().await, before, "everything stays");
        // Told to a socket that nobody reads any more.
        story.engine.fault(|faults| faults.drop_events = true);
        story
            .engine
            .put_container(container("web", "exited"), "die");
        story
            .engine
            .fault(|faults| *faults = engine::Faults::default());
        story.state("web", rdd_api::ContainerState::Exited).await;
        story.ready("True/Connected").await;
        assert_eq!(story.uids().await, before);
    });
}

#[test]
fn an_engine_that_hangs_from_the_start_is_told_as_such_and_holds_no_end_up() {
    lab::run(|lab| async move {
        lab.engine.fault(|faults| faults.hang = true);
        let manager = lab.start("*").await;
        let mut story = Story {
            engine: lab.engine.clone(),
            lab,
            manager: Some(manager),
        };
        story.set(json!({"running": true})).await;
        story.ready("False/ConnectFailed").await;
        assert!(story.all::<Container>().await.is_empty());
        // The next attempt hangs as well.
        story.end().await;

        // Whoever comes next finds nothing in its way.
        story.lab.begin("start-2").await;
        let again = rdd_manager::start(story.lab.options("*", "start-2")).await;
        story.manager = Some(again.expect("it starts"));
        story
            .engine
            .put_container(container("web", "running"), "start");
        story
            .engine
            .fault(|faults| *faults = engine::Faults::default());
        story.ready("True/Connected").await;
        story.state("web", rdd_api::ContainerState::Running).await;
        story.end().await;
    });
}

#[test]
fn a_silent_engine_that_answers_stays_connected() {
    watchful_story(Duration::from_millis(20), |story| async move {
        let since = |engine: &rdd_api::EngineStatus| engine.connected_since.clone();
        let told = story
            .told("it is connected", |engine| engine.connected)
            .await;
        let pings = story.engine.pings();
        eventually("it was asked often", || async {
            let now = story.engine.pings();
            if now > pings + 20 { Ok(()) } else { Err(now) }
        })
        .await;
        let later = story.told("it still is", |engine| engine.connected).await;
        assert_eq!(since(&told), since(&later), "and was all the time");
    });
}

/// The mirrors of one of each kind that nothing else needs.
async fn one_of_each(story: &Story) -> [(String, &'static str); 3] {
    story
        .engine
        .put_container(container("free", "exited"), "die");
    story.engine.put_image(image("9", &["free:1"]), "tag");
    story
        .mirror("free", |mirror| {
            mirror.is_some_and(|mirror| mirror.status.is_some())
        })
        .await;
    let image = eventually("the image is mirrored", || async {
        let all = story.all::<Image>().await;
        let found = all.iter().find(|image| {
            let status = image.status.as_ref();
            status.is_some_and(|status| status.id == "sha256:9")
        });
        found.map(|image| image.name_any()).ok_or(all.len())
    })
    .await;
    let volume = story.all::<Volume>().await[0].name_any();
    [
        (id("free"), "Container"),
        (image, "Image"),
        (volume, "Volume"),
    ]
}

async fn raw(story: &Story, kind: &str, name: &str) -> Option<kube::core::DynamicObject> {
    let resource = match kind {
        "Container" => kube::core::ApiResource::erase::<Container>(&()),
        "Image" => kube::core::ApiResource::erase::<Image>(&()),
        _ => kube::core::ApiResource::erase::<Volume>(&()),
    };
    let api: Api<kube::core::DynamicObject> =
        Api::namespaced_with(story.lab.client.clone(), "default", &resource);
    api.get_opt(name).await.expect("the server answers")
}

async fn delete(story: &Story, kind: &str, name: &str) {
    match kind {
        "Container" => story.delete::<Container>(name).await,
        "Image" => story.delete::<Image>(name).await,
        _ => story.delete::<Volume>(name).await,
    }
}

#[test]
fn whatever_the_refusal_it_shows_holds_nothing_up_and_ends_by_itself() {
    for status in [403, 409, 500] {
        story(move |story| async move {
            let objects = one_of_each(&story).await;
            story
                .engine
                .fault(|faults| faults.refuse_removals = Some(status));
            for (name, kind) in &objects {
                delete(&story, kind, name).await;
            }
            for (name, kind) in &objects {
                eventually("the refusal shows in the engine's words", || async {
                    let found = raw(&story, kind, name)
                        .await
                        .expect("its finalizer holds it");
                    assert!(found.metadata.deletion_timestamp.is_some());
                    let conditions = found.data["status"]["conditions"].clone();
                    let shows = conditions
                        .as_array()
                        .into_iter()
                        .flatten()
                        .any(|condition| {
                            condition["type"] == "DeletionBlocked"
                                && condition["message"]
                                    .as_str()
                                    .is_some_and(|text| text.starts_with("refused to remove"))
                        });
                    if shows { Ok(()) } else { Err(conditions) }
                })
                .await;
            }
            // Other kinds and other objects go on meanwhile.
            story.engine.put_volume(volume("meanwhile"));
            story.ask("web", "pause").await;
            assert_eq!(story.outcome("web", "pause").await.0, "Succeeded");
            // Retries come later and later: far fewer than there was time for.
            let tries = story.calls();
            let most = objects.iter().map(|(name, _)| {
                tries
                    .iter()
                    .filter(|call| call.ends_with(name.as_str()))
                    .count()
            });
            assert!(most.max() < Some(8), "{tries:?}");
            // Without any event, as soon as the engine relents.
            story.engine.fault(|faults| faults.refuse_removals = None);
            for (name, kind) in &objects {
                eventually("it goes by itself", || async {
                    match raw(&story, kind, name).await {
                        None => Ok(()),
                        Some(found) => Err(found),
                    }
                })
                .await;
            }
        });
    }
}

#[test]
fn an_engine_that_wrongly_says_gone_is_believed_only_until_it_is_looked_at() {
    story(|story| async move {
        let objects = one_of_each(&story).await;
        let before = story.uids().await;
        story
            .engine
            .fault(|faults| faults.refuse_removals = Some(404));
        for (name, kind) in &objects {
            delete(&story, kind, name).await;
        }
        for (name, _) in &objects {
            eventually("it is shown again, as another object", || async {
                let now = story.uids().await;
                match now.get(name) {
                    Some(uid) if Some(uid) != before.get(name) => Ok(()),
                    other => Err(other.cloned()),
                }
            })
            .await;
        }
        assert!(story.engine.look(&id("free")).is_some());
    });
}

fn pick(dice: &mut StdRng, letters: &str, length: usize) -> String {
    let letters: Vec<char> = letters.chars().collect();
    (0..length)
        .map(|_| *letters.choose(dice).expect("some"))
        .collect()
}

/// Names that an engine accepts and Kubernetes does not.
fn odd_name(dice: &mut StdRng) -> String {
    const LETTERS: &str = "abzABZ019_.-";
    let first = pick(dice, "aZ0", 1);
    let length = *[0, 1, 5, 62, 63, 64, 200, 254].choose(dice).expect("some");
    let rest = pick(dice, LETTERS, length);
    match dice.random_range(0..8) {
        0 => "a/b/C".to_owned() + &rest,
        1 => format!("{first}..{rest}.."),
        2 => format!("ü{rest}/日本"),
        3 => format!("{first}{rest}--"),
        _ => first + &rest,
    }
}

#[test]
fn every_name_that_an_engine_accepts_is_mirrored_under_a_name_of_its_own() {
    const NAMES: usize = 150;
    story(|story| async move {
        let mut dice = StdRng::seed_from_u64(11);
        let mut names = BTreeSet::from(["My_Volume".to_owned()]);
        // Two that differ only in what object names fold.
        names.extend(["case", "Case", "CASE", "c.ase", "c_ase", "-", "_", "."].map(str::to_owned));
        while names.len() < NAMES {
            names.insert(odd_name(&mut dice));
        }
        for (number, name) in names.iter().enumerate() {
            story.engine.put_volume(volume(name));
            let reference = format!("Reg.example:5000/{name}:1");
            story
                .engine
                .put_image(image(&format!("n{number}"), &[reference.as_str()]), "tag");
            let run = engine::Container {
                name: format!("/{name}"),
                ..container(&format!("n{number}"), "created")
            };
            story.engine.put_container(run, "create");
        }
        eventually("everything is mirrored", || async {
            let (volumes, images, containers) = (
                story.all::<Volume>().await,
                story.all::<Image>().await,
                story.all::<Container>().await,
            );
            let seen: BTreeSet<String> = volumes
                .iter()
                .filter_map(|volume| Some(volume.status.as_ref()?.name.clone()))
                .collect();
            let complete = containers.iter().all(|mirror| mirror.status.is_some())
                && images.iter().all(|mirror| mirror.status.is_some());
            let found = (seen.len(), images.len(), containers.len(), complete);
            if seen == names && found == (NAMES, NAMES + 2, NAMES + 1, true) {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
        let mut dice = StdRng::seed_from_u64(12);
        let all: Vec<&String> = names.iter().collect();
        for _ in 0..10 {
            let name = *all.choose(&mut dice).expect("some");
            let only = ListParams::default().fields(&format!("status.name={name}"));
            let found = story.api::<Volume>().list(&only).await.expect("selectable");
            assert_eq!(found.items.len(), 1, "{name}");
            // And back again: the engine's own name is what it is asked with.
            story.delete::<Volume>(&found.items[0].name_any()).await;
            eventually("it is gone from the engine", || async {
                let left = engine::Engine::volume(&story.engine, name).await;
                match left.expect("it is up") {
                    None => Ok(()),
                    Some(left) => Err(left),
                }
            })
            .await;
            story.engine.put_volume(volume(name));
            eventually("and here again", || async {
                let found = story.api::<Volume>().list(&only).await.expect("selectable");
                if found.items.len() == 1 {
                    Ok(())
                } else {
                    Err(found.items.len())
                }
            })
            .await;
        }
    });
}

/// Everything that may be missing, is missing; everything that may be odd, is odd.
fn odd_containers() -> Vec<engine::Container> {
    let base = |number: usize| engine::Container {
        id: id(&format!("odd{number}")),
        ..engine::Container::default()
    };
    let port = |name: &str, bindings: Vec<engine::Binding>| engine::Port {
        name: name.to_owned(),
        bindings,
    };
    let mount = |destination: &str| engine::Mount {
        destination: destination.to_owned(),
        ..engine::Mount::default()
    };
    let label = |name: &str, value: String| (name.to_owned(), value);
    vec![
        base(0),
        engine::Container {
            pid: i64::MIN,
            exit_code: i64::MAX,
            restart_count: -1,
            state: "RUNNING ".to_owned(),
            health: "zombie".to_owned(),
            ..base(1)
        },
        engine::Container {
            ports: vec![
                port("53/udp", vec![]),
                port("", vec![engine::Binding::default()]),
            ],
            mounts: vec![mount("/a"), mount("/b")],
            networks: vec![engine::Network::default()],
            ..base(2)
        },
        engine::Container {
            labels: BTreeMap::from([
                label("", String::new()),
                label("a b/c\n\"d", "x".repeat(70_000)),
                label("com.docker.compose.project", "ünï".to_owned()),
            ]),
            error: "\u{1b}[31mred\u{0}".to_owned(),
            args: vec![String::new(), "a\nb".to_owned()],
            ..base(3)
        },
    ]
}

#[test]
fn whatever_an_engine_may_report_can_be_stored() {
    story(|story| async move {
        let odd = odd_containers();
        for run in &odd {
            story.engine.put_container(run.clone(), "create");
        }
        story.engine.put_image(
            engine::Image {
                id: "sha256:odd".to_owned(),
                size: -1,
                ..engine::Image::default()
            },
            "import",
        );
        story.engine.put_volume(engine::Volume {
            name: "odd".to_owned(),
            ..engine::Volume::default()
        });
        for run in &odd {
            let shown = eventually("it is mirrored", || async {
                let found = story
                    .api::<Container>()
                    .get_opt(&run.id)
                    .await
                    .expect("it answers");
                match found.and_then(|found| found.status) {
                    Some(status) => Ok(status),
                    None => Err(run.id.clone()),
                }
            })
            .await;
            assert_eq!(shown.labels, run.labels);
            assert_eq!(shown.error, run.error);
        }
        eventually("so are image and volume", || async {
            let images = story.all::<Image>().await;
            let volumes = story.all::<Volume>().await;
            let complete = images.iter().all(|image| image.status.is_some())
                && volumes.iter().all(|volume| volume.status.is_some());
            let found = (images.len(), volumes.len(), complete);
            if found == (3, 2, true) {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
    });
}

/// Asks for a container's log without an upgrade; its status, and the open answer.
async fn log(passthroughs: &Passthroughs, name: &str) -> (StatusCode, Option<rdd_manager::Body>) {
    let path = format!("/passthrough/engine/logs/{}", id(name));
    let Some((endpoint, rest)) = passthroughs.find(&path) else {
        return (StatusCode::NOT_IMPLEMENTED, None);
    };
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get(format!("{path}?follow=true")).body(body);
    let answer = endpoint.serve(rest, request.expect("a request")).await;
    (answer.status(), Some(answer.into_body()))
}

#[test]
fn readers_that_vanish_leave_nothing_open_and_a_stopped_engine_is_told_as_such() {
    const READERS: usize = 1000;
    const CYCLES: usize = 30;
    lab::run(|lab| async move {
        let passthroughs = Passthroughs::default();
        let engine = lab.engine.clone();
        engine.put_container(container("web", "running"), "start");
        let mut options = lab.options("*", "start-1");
        options.passthroughs = passthroughs.clone();
        let manager = rdd_manager::start(options).await.expect("it starts");
        let story = Story {
            lab,
            engine,
            manager: Some(manager),
        };
        story.set(json!({"running": true})).await;
        story.ready("True/Connected").await;
        let tasks = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        let before = tasks();
        for _ in 0..READERS / 50 {
            let opened = join_all((0..50).map(|_| log(&passthroughs, "web"))).await;
            assert!(opened.iter().all(|(status, _)| *status == StatusCode::OK));
            assert!(story.engine.open_logs() > 0);
        }
        eventually("nothing is left of them", || async {
            let left = (story.engine.open_logs(), tasks());
            if left.0 == 0 && left.1 <= before + 5 {
                Ok(())
            } else {
                Err((left, before))
            }
        })
        .await;
        // While it stops and starts there is a log, or a reason why there is none.
        for _ in 0..CYCLES {
            for running in [false, true] {
                story.set(json!({"running": running})).await;
                let wanted = if running {
                    "True/Connected"
                } else {
                    "False/Stopped"
                };
                while story.condition().await != wanted {
                    let (status, _) = log(&passthroughs, "web").await;
                    assert!(
                        matches!(
                            status,
                            StatusCode::OK
                                | StatusCode::NOT_FOUND
                                | StatusCode::SERVICE_UNAVAILABLE
                        ),
                        "{status}"
                    );
                }
            }
        }
        eventually("starting and stopping leaves no task", || async {
            let left = tasks();
            if left <= before + 5 {
                Ok(())
            } else {
                Err((left, before))
            }
        })
        .await;
        let mut story = story;
        story.end().await;
        assert!(
            passthroughs.names().is_empty(),
            "no route without its controller"
        );
    });
}

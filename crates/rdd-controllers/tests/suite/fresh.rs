//! What the App tells about how current the mirrors are, and comparisons that put right
//! what no event announced.

use std::time::Duration;

use rdd_api::{Container, ContainerNamespace, Image, Volume};
use rdd_engine as engine;
use serde_json::json;

use crate::story::{Story, container, eventually, id, image, story, verified_story, volume};

/// So often that a test sees it, so seldom that events come first.
const EVERY: Duration = Duration::from_millis(300);

#[test]
fn what_no_event_announced_is_put_right_and_counted() {
    verified_story(EVERY, |story| async move {
        let before = story.uids().await;
        story.engine.fault(|faults| faults.drop_events = true);
        story
            .engine
            .put_container(container("new", "running"), "start");
        story
            .engine
            .put_container(container("web", "exited"), "die");
        story.engine.put_image(image("2", &["box:2"]), "tag");
        story.engine.take_volume("My_Volume");
        story.mirror("new", |mirror| mirror.is_some()).await;
        story.state("web", rdd_api::ContainerState::Exited).await;
        story
            .tags(&[("1", Some("box:1")), ("2", Some("box:2"))])
            .await;
        eventually("the volume is gone", || async {
            let found = story.all::<Volume>().await;
            if found.is_empty() { Ok(()) } else { Err(found) }
        })
        .await;
        let told = story
            .told("drift is counted", |engine| engine.drift_repaired >= 4)
            .await;
        assert!(told.last_verified.is_some(), "{told:?}");
        assert_eq!((told.containers, told.images, told.volumes), (2, 2, 0));
        let after = story.uids().await;
        assert_eq!(before.get(&id("web")), after.get(&id("web")));
    });
}

#[test]
fn comparisons_of_what_is_right_count_nothing_and_write_only_when_they_were_done() {
    verified_story(EVERY, |story| async move {
        story
            .engine
            .put_container(container("db", "running"), "start");
        // The conditions of a new mirror follow its first state.
        for name in ["web", "db"] {
            story
                .mirror(name, |mirror| {
                    let status = mirror.and_then(|mirror| mirror.status.as_ref());
                    status.is_some_and(|status| !status.conditions.is_empty())
                })
                .await;
        }
        let before = story.all::<Container>().await;
        let first = story
            .told("one is complete", |engine| engine.last_verified.is_some())
            .await;
        let later = story
            .told("another one is complete", |engine| {
                engine.last_verified > first.last_verified
            })
            .await;
        assert_eq!(later.drift_repaired, 0);
        let versions = |objects: &[Container]| -> Vec<Option<String>> {
            let version = |object: &Container| object.metadata.resource_version.clone();
            objects.iter().map(version).collect()
        };
        let after = story.all::<Container>().await;
        assert_eq!(versions(&before), versions(&after));
    });
}

#[test]
fn an_object_that_cannot_be_read_leaves_the_comparison_open() {
    verified_story(EVERY, |story| async move {
        story
            .told("one is complete", |engine| engine.last_verified.is_some())
            .await;
        story.engine.fault(|faults| {
            faults.unreadable.insert(id("web"));
        });
        story.engine.fault(|faults| faults.drop_events = true);
        story.engine.put_volume(volume("late"));
        eventually("the rest is compared", || async {
            let found = story.all::<Volume>().await;
            if found.len() == 2 { Ok(()) } else { Err(found) }
        })
        .await;
        story.mirror("web", |mirror| mirror.is_some()).await;
    });
}

#[test]
fn a_lost_engine_is_told_with_what_was_known_last() {
    story(|story| async move {
        let there = story
            .told("it is connected", |engine| {
                engine.connected && (engine.containers, engine.images) == (1, 2)
            })
            .await;
        assert_eq!(there.id, "engine-1");
        story.engine.fault(|faults| faults.down = true);
        story.engine.cut_streams();
        story.ready("False/ConnectFailed").await;
        let lost = story.told("it is lost", |engine| !engine.connected).await;
        assert_eq!((lost.containers, lost.images), (1, 2));
        story.engine.fault(|faults| faults.down = false);
        story.told("it is back", |engine| engine.connected).await;
        story.set(json!({"running": false})).await;
        story.ready("False/Stopped").await;
        let app = story.lab.apps().get("app").await.expect("it is there");
        assert_eq!(app.status.and_then(|status| status.engine), None);
    });
}

async fn in_use(story: &Story, images: &[bool], volumes: &[bool]) {
    eventually("use shows", || async {
        let mut found_images: Vec<bool> = story
            .all::<Image>()
            .await
            .into_iter()
            .map(|image| image.status.unwrap_or_default().in_use)
            .collect();
        found_images.sort_unstable();
        let found_volumes: Vec<bool> = story
            .all::<Volume>()
            .await
            .into_iter()
            .map(|volume| volume.status.unwrap_or_default().in_use)
            .collect();
        if found_images == images && found_volumes == volumes {
            Ok(())
        } else {
            Err((found_images, found_volumes))
        }
    })
    .await;
}

#[test]
fn what_containers_use_shows_on_images_volumes_and_namespaces() {
    story(|story| async move {
        // `web` was made from the image with two tags.
        in_use(&story, &[true, true], &[false]).await;
        story.engine.put_image(image("9", &["other:1"]), "tag");
        in_use(&story, &[false, true, true], &[false]).await;
        let user = engine::Container {
            name: "/ci/job".to_owned(),
            image: "sha256:9".to_owned(),
            mounts: vec![engine::Mount {
                destination: "/data".to_owned(),
                kind: "volume".to_owned(),
                name: "My_Volume".to_owned(),
                ..engine::Mount::default()
            }],
            ..container("job", "running")
        };
        story.engine.put_container(user, "start");
        in_use(&story, &[true, true, true], &[true]).await;
        let namespaces = |wanted: &'static [&str]| {
            let story = &story;
            async move {
                eventually("the namespaces are as wanted", || async {
                    let found = story.all::<ContainerNamespace>().await;
                    let found: Vec<String> =
                        found.iter().map(kube::ResourceExt::name_any).collect();
                    if found == wanted { Ok(()) } else { Err(found) }
                })
                .await;
            }
        };
        namespaces(&["ci", "moby"]).await;
        story.engine.take_container(&id("job"));
        in_use(&story, &[false, true, true], &[false]).await;
        namespaces(&["moby"]).await;
        assert!(story.calls().is_empty(), "the engine was told nothing");
    });
}

#[test]
fn volumes_are_measured_and_keep_their_size_over_a_reconnect() {
    verified_story(EVERY, |story| async move {
        let size = |wanted: i64| {
            let story = &story;
            async move {
                eventually("the size shows", || async {
                    let found = story.all::<Volume>().await;
                    let size = found[0].status.as_ref().and_then(|status| status.size);
                    if size == Some(wanted) {
                        Ok(())
                    } else {
                        Err(size)
                    }
                })
                .await;
            }
        };
        story.engine.fill_volume("My_Volume", 4096);
        size(4096).await;
        story.engine.fill_volume("My_Volume", 8192);
        size(8192).await;
        let before = story.all::<Volume>().await[0]
            .metadata
            .resource_version
            .clone();
        story.engine.cut_streams();
        story.ready("False/ConnectFailed").await;
        story.ready("True/Connected").await;
        let after = story.all::<Volume>().await[0]
            .metadata
            .resource_version
            .clone();
        assert_eq!(before, after);
    });
}

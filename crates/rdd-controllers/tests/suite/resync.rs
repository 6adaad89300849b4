//! Looking at everything again changes nothing that is right, and nothing of the users.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use rdd_api::{Container, DesiredState, Image, Volume, condition, names};
use rdd_engine as engine;
use serde_json::json;

use crate::story::{Story, container, eventually, id, story};

/// Connects anew so often, and waits each time until everything was looked at.
async fn resync(story: &Story, times: usize) {
    for _ in 0..times {
        let looks = story.engine.inspections();
        story.engine.cut_streams();
        story.ready("False/ConnectFailed").await;
        story.ready("True/Connected").await;
        assert!(story.engine.inspections() > looks);
    }
}

async fn versions(story: &Story) -> BTreeMap<String, String> {
    fn of<K: kube::Resource>(objects: Vec<K>) -> Vec<(String, String)> {
        let version = |object: &K| object.resource_version().unwrap_or_default();
        objects
            .iter()
            .map(|object| (object.name_any(), version(object)))
            .collect()
    }
    let mut all = of(story.all::<Container>().await);
    all.extend(of(story.all::<Image>().await));
    all.extend(of(story.all::<Volume>().await));
    all.into_iter().collect()
}

/// Who owns which fields of the first container.
async fn owners(story: &Story) -> Vec<(String, serde_json::Value)> {
    let web = story
        .api::<Container>()
        .get(&id("web"))
        .await
        .expect("it is mirrored");
    let mut all: Vec<_> = web
        .metadata
        .managed_fields
        .unwrap_or_default()
        .into_iter()
        .filter_map(|entry| Some((entry.manager?, entry.fields_v1?.0)))
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

#[test]
fn the_wishes_of_users_survive_every_look_and_a_stripped_finalizer_comes_back() {
    story(|story| async move {
        let wish = json!({"spec": {"state": "running"}});
        story.patch("web", wish).await.expect("it is accepted");
        story
            .mirror("web", |mirror| {
                let status = mirror.and_then(|mirror| mirror.status.as_ref());
                status.is_some_and(|status| !status.conditions.is_empty())
            })
            .await;
        let before = owners(&story).await;
        resync(&story, 10).await;
        let web = story
            .api::<Container>()
            .get(&id("web"))
            .await
            .expect("it is mirrored");
        assert_eq!(web.spec.state, DesiredState::Running);
        assert_eq!(owners(&story).await, before, "nobody took anything over");
        let (_, finalizer) = before
            .iter()
            .find(|(manager, _)| manager == names::field_manager::ENGINE_FINALIZER)
            .expect("it has a manager of its own");
        let name = format!("v:{:?}", names::MIRROR_FINALIZER);
        assert!(
            finalizer["f:metadata"]["f:finalizers"].get(&name).is_some(),
            "{finalizer}"
        );
        assert!(finalizer.get("f:spec").is_none(), "{finalizer}");

        story
            .patch("web", json!({"metadata": {"finalizers": null}}))
            .await
            .expect("it is accepted");
        let back = story
            .mirror("web", |mirror| {
                mirror.is_some_and(|mirror| mirror.finalizers() == [names::MIRROR_FINALIZER])
            })
            .await;
        assert_eq!(back.expect("it was just seen").uid(), web.uid());
        assert!(story.calls().is_empty(), "{:?}", story.calls());
    });
}

#[test]
fn a_hundred_looks_at_what_is_right_write_nothing_and_tell_the_engine_nothing() {
    story(|story| async move {
        let many = engine::Container {
            ports: ["80/tcp", "443/tcp", "53/udp"]
                .map(|name| engine::Port {
                    name: name.to_owned(),
                    bindings: vec![],
                })
                .to_vec(),
            image: "sha256:1".to_owned(),
            ..container("web", "exited")
        };
        story.engine.put_container(many, "die");
        // A wish that is reached asks for nothing any more.
        let wish = json!({"spec": {"state": "created"}});
        story.patch("web", wish).await.expect("it is accepted");
        story
            .mirror("web", |mirror| {
                let status = mirror.and_then(|mirror| mirror.status.as_ref());
                let generation = mirror.and_then(|mirror| mirror.metadata.generation);
                // The conditions follow the state, and the wish.
                let ended = |status: &rdd_api::ContainerStatus| {
                    let running = condition::find(&status.conditions, "Running");
                    running.is_some_and(|running| {
                        running.status == "False" && running.observed_generation == generation
                    })
                };
                status.is_some_and(|status| ended(status) && status.ports.len() == 3)
            })
            .await;
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
        let before = versions(&story).await;
        let calls = story.calls();
        for _ in 0..100 {
            // Each leads to a look at the container, its image and its volume.
            let now = story.engine.look(&id("web")).expect("it is there");
            story.engine.put_container(now, "exec_start");
            story.engine.put_volume(crate::story::volume("My_Volume"));
        }
        resync(&story, 3).await;
        assert_eq!(versions(&story).await, before);
        assert_eq!(story.calls(), calls);
    });
}

#[test]
fn what_users_write_while_a_mirror_is_made_is_never_lost() {
    const MIRRORS: usize = 25;
    story(|story| async move {
        let patches = (0..MIRRORS).map(|number| {
            let story = &story;
            async move {
                let name = format!("new{number}");
                let patch = json!({"metadata": {"annotations": {"mine": "stays"}},
                    "spec": {"state": "running"}});
                // From before it is made until it is there, as fast as can be.
                eventually("a patch is accepted", || async {
                    let patched = story
                        .api::<Container>()
                        .patch(&id(&name), &PatchParams::default(), &Patch::Merge(&patch))
                        .await;
                    match patched {
                        Ok(_) => Ok(()),
                        Err(kube::Error::Api(status)) if status.code == 404 => Err(0),
                        Err(other) => panic!("{other}"),
                    }
                })
                .await;
            }
        });
        let made = async {
            for number in 0..MIRRORS {
                let run = container(&format!("new{number}"), "running");
                story.engine.put_container(run, "start");
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(futures::future::join_all(patches), made);
        for number in 0..MIRRORS {
            let name = format!("new{number}");
            let mirror = story
                .mirror(&name, |mirror| {
                    let status = mirror.and_then(|mirror| mirror.status.as_ref());
                    status.is_some_and(|status| !status.conditions.is_empty())
                })
                .await
                .expect("it was just seen");
            assert_eq!(mirror.spec.state, DesiredState::Running, "{name}");
            assert_eq!(mirror.annotations()["mine"], "stays", "{name}");
        }
        resync(&story, 1).await;
        for mirror in story.all::<Container>().await {
            if mirror.name_any() != id("web") {
                assert_eq!(mirror.spec.state, DesiredState::Running);
            }
        }
    });
}

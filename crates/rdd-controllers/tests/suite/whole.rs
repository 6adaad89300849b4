//! Mirrors are seen whole, or not at all; and they are the same on a server that cannot
//! write them in one go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use kube::ResourceExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::client::Body;
use kube::core::NamespaceResourceScope;
use rdd_api::{Container, ContainerState, Image, Volume, condition, names};
use rdd_apiserver::Identity;
use rdd_apiserver::http::body;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::lab;
use crate::model::{shown, there};
use crate::story::{LIMIT, Story, container, eventually, id, image, story, volume};

/// The media type of several applies in one request.
const PARTS: &str = "application/vnd.rancherdesktop.apply-parts+json";

/// Every object as each change since a version left it, until one of this name is gone.
async fn changes<K>(story: &Story, since: &str, last: &str) -> Vec<K>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let watch = story.api::<K>().watch(&WatchParams::default(), since).await;
    let seen = watch
        .expect("it is watched")
        .map(|event| event.expect("it is readable"));
    let seen = seen.take_while(|event| {
        let ends = matches!(event, WatchEvent::Deleted(object) if object.name_any() == last);
        std::future::ready(!ends)
    });
    let all = seen.filter_map(|event| {
        std::future::ready(match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(object),
            _ => None,
        })
    });
    timeout(LIMIT, all.collect())
        .await
        .expect("it goes in time")
}

fn is_marked<K: kube::Resource>(mirror: &K) -> bool {
    mirror.labels().contains_key(names::ENGINE_LABEL)
        && mirror.finalizers() == [names::MIRROR_FINALIZER]
}

#[test]
fn nobody_ever_sees_half_a_mirror() {
    story(|story| async move {
        let before = story.api::<Container>().list(&ListParams::default()).await;
        let before = before.expect("a list").metadata.resource_version;
        let before = before.expect("it has a version");
        for number in 0..20 {
            let name = format!("c{number}");
            story
                .engine
                .put_container(container(&name, "running"), "start");
            story
                .engine
                .put_image(image(&name, &[&format!("{name}:1")]), "tag");
            story.engine.put_volume(volume(&name));
        }
        for number in 0..20 {
            story
                .state(&format!("c{number}"), ContainerState::Running)
                .await;
        }
        for word in ["paused", "exited", "running"] {
            story.engine.put_container(container("c3", word), "die");
            let state = serde_json::from_value(json!(word)).expect("a state");
            story.state("c3", state).await;
        }
        eventually("all are mirrored", || async {
            let (shown, there) = (shown(&story).await, there(&story.engine).await);
            if shown == there { Ok(()) } else { Err(shown) }
        })
        .await;
        story.engine.take_container(&id("c3"));
        story.mirror("c3", |mirror| mirror.is_none()).await;
        let mirrors = changes::<Container>(&story, &before, &id("c3")).await;
        assert!(mirrors.len() >= 24, "{} changes", mirrors.len());
        // Whoever takes one away takes its finalizer off first.
        for mirror in mirrors
            .iter()
            .filter(|mirror| !mirror.finalizers().is_empty())
        {
            assert!(is_marked(mirror), "{mirror:?}");
            let status = mirror.status.as_ref().expect("it has a status");
            for (kind, state) in [
                ("Running", ContainerState::Running),
                ("Paused", ContainerState::Paused),
            ] {
                let found = condition::find(&status.conditions, kind);
                let found = found.unwrap_or_else(|| panic!("no {kind}: {mirror:?}"));
                assert_eq!(
                    found.is_true(),
                    status.status == state,
                    "{kind}: {mirror:?}"
                );
                assert_eq!(found.observed_generation, mirror.metadata.generation);
            }
        }
        for image in story.all::<Image>().await {
            assert!(is_marked(&image) && image.status.is_some(), "{image:?}");
        }
        for volume in story.all::<Volume>().await {
            assert!(is_marked(&volume) && volume.status.is_some(), "{volume:?}");
        }
    });
}

#[test]
fn a_server_that_takes_one_apply_at_a_time_has_the_same_mirrors() {
    lab::run(|mut lab| async move {
        let refused = Arc::new(AtomicUsize::new(0));
        let router = lab.server.router().acting_as(Identity::system("test"));
        let counted = Arc::clone(&refused);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (router, counted) = (router.clone(), Arc::clone(&counted));
            async move {
                let form = request.headers().get(CONTENT_TYPE);
                if form.is_some_and(|form| form.as_bytes() == PARTS.as_bytes()) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                        "status": "Failure", "message": "not this form",
                        "reason": "UnsupportedMediaType", "code": 415});
                    let mut answer = Response::new(body::full(status.to_string()));
                    *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                    return Ok(answer);
                }
                router.oneshot(request).await
            }
        });
        lab.client = kube::Client::new(service, "default");
        let story = Story::begin(lab).await;
        for word in ["paused", "exited", "running"] {
            story.engine.put_container(container("more", word), "start");
            let state = serde_json::from_value(json!(word)).expect("a state");
            let wanted = |mirror: Option<&Container>| {
                let status = mirror.and_then(|mirror| mirror.status.as_ref());
                status.is_some_and(|status| {
                    let running = condition::find(&status.conditions, "Running");
                    status.status == state
                        && running.is_some_and(|found| found.is_true() == (word == "running"))
                })
            };
            story.mirror("more", wanted).await;
        }
        story.engine.put_image(image("2", &["more:1"]), "tag");
        story.engine.put_volume(volume("more"));
        eventually("mirrors and engine agree", || async {
            let (shown, there) = (shown(&story).await, there(&story.engine).await);
            if shown == there {
                Ok(())
            } else {
                Err((shown, there))
            }
        })
        .await;
        let refused = refused.load(Ordering::Relaxed);
        assert!((1..=16).contains(&refused), "asked {refused} times in vain");
    });
}

//! One-shot actions that overtake each other, and those that must never be carried out.

use http_body_util::BodyExt as _;
use kube::Resource as _;
use kube::api::{Patch, PatchParams, PostParams};
use rdd_admission::AdmissionChain;
use rdd_api::{Container, ContainerState, names};
use serde_json::{Value, json};

use crate::story::{Story, eventually, id, story};

/// Waits until the engine was asked for so many things.
async fn called(story: &Story, count: usize) {
    eventually("the engine is asked", || async {
        let calls = story.calls();
        if calls.len() == count {
            Ok(())
        } else {
            Err(calls)
        }
    })
    .await;
}

#[test]
fn another_action_that_is_asked_for_meanwhile_is_carried_out_next() {
    story(|story| async move {
        story.engine.fault(|faults| faults.hang_actions = true);
        story.ask("web", "stop").await;
        called(&story, 1).await;
        // The same one collapses, and of those that follow the last one stays.
        story.ask("web", "stop").await;
        story.ask("web", "restart").await;
        story.ask("web", "start").await;
        story.engine.fault(|faults| faults.hang_actions = false);
        assert_eq!(story.outcome("web", "start").await.0, "Succeeded");
        let web = id("web");
        assert_eq!(
            story.calls(),
            [format!("stop {web}"), format!("start {web}")]
        );
        // Once it is over, the same one acts again.
        story.ask("web", "stop").await;
        assert_eq!(story.outcome("web", "stop").await.0, "Succeeded");
        called(&story, 3).await;
    });
}

#[test]
fn an_action_whose_container_goes_meanwhile_is_over() {
    story(|story| async move {
        story.engine.fault(|faults| faults.hang_actions = true);
        story.ask("web", "stop").await;
        called(&story, 1).await;
        story.engine.take_container(&id("web"));
        story.mirror("web", |mirror| mirror.is_none()).await;
        story.engine.fault(|faults| faults.hang_actions = false);
        // One of the same identifier is another container, and nobody asked it anything.
        let again = crate::story::container("web", "running");
        story.engine.put_container(again, "start");
        let web = story
            .mirror("web", |mirror| {
                mirror.is_some_and(|mirror| mirror.status.is_some())
            })
            .await
            .expect("it was just seen");
        assert_eq!(web.status.expect("it was just seen").last_action, None);
        called(&story, 1).await;
    });
}

#[test]
fn an_unknown_field_is_refused_to_who_asks_for_it_and_else_changes_nothing() {
    story(|story| async move {
        let path = Container::url_path(&(), Some("default"));
        let send = async |method: http::Method, path: String, object: &Value| {
            let body = serde_json::to_vec(object).expect("JSON");
            let request = http::Request::builder().method(method).uri(path);
            let request = request.header(http::header::CONTENT_TYPE, "application/json");
            let request = request.body(body.into()).expect("a request");
            let answer = story.lab.client.send(request).await.expect("an answer");
            let (parts, body) = answer.into_parts();
            let bytes = body.collect().await.expect("a body").to_bytes();
            let answer: Value = serde_json::from_slice(&bytes).expect("JSON");
            (parts.status.as_u16(), answer)
        };
        let web = story.state("web", ContainerState::Running).await;
        let web = serde_json::to_value(web).expect("JSON");
        let one = format!("{path}/{}", id("web"));
        let mut changed = web.clone();
        changed["spec"]["image"] = json!("sha256:2");
        let made = json!({
            "apiVersion": web["apiVersion"], "kind": "Container",
            "metadata": {"name": id("mine")}, "spec": changed["spec"],
        });
        for (method, path, object) in [
            (http::Method::PUT, &one, &changed),
            (http::Method::POST, &path, &made),
        ] {
            let strict = format!("{path}?fieldValidation=Strict");
            let (code, refused) = send(method, strict, object).await;
            assert_eq!((code, &refused["reason"]), (400, &json!("BadRequest")));
            let message = refused["message"].as_str().expect("a message");
            assert!(
                message.contains(r#"unknown field "spec.image""#),
                "{message}"
            );
        }
        story.mirror("mine", |mirror| mirror.is_none()).await;
        let put = async |query: &str, spec: &Value| {
            // Conditions are written meanwhile.
            eventually("it is accepted", || async {
                let mut read =
                    serde_json::to_value(story.state("web", ContainerState::Running).await)
                        .expect("JSON");
                read["spec"] = spec.clone();
                match send(http::Method::PUT, format!("{one}{query}"), &read).await {
                    (200, kept) => Ok(kept),
                    other => Err(other),
                }
            })
            .await
        };
        for query in ["", "?fieldValidation=Ignore", "?fieldValidation=Warn"] {
            let kept = put(query, &changed["spec"]).await;
            assert_eq!(kept["spec"], web["spec"], "{query}");
            let generation = &kept["metadata"]["generation"];
            assert_eq!(generation, &web["metadata"]["generation"], "{query}");
        }
        // The one field that may be changed still is, beside what is unknown.
        let kept = put("", &json!({"state": "created", "image": "sha256:2"})).await;
        assert_eq!(kept["spec"], json!({"state": "created"}));
    });
}

#[test]
fn what_is_no_action_and_what_is_no_mirror_never_reaches_the_engine() {
    story(|story| async move {
        // As if it had been written while nobody judged it.
        story.lab.server.set_admission(AdmissionChain::default());
        story.ask("web", "explode").await;
        let web = story
            .mirror("web", |mirror| {
                mirror.is_some_and(|mirror| {
                    let annotations = mirror.metadata.annotations.as_ref();
                    annotations.is_none_or(|all| !all.contains_key(names::ACTION_ANNOTATION))
                })
            })
            .await
            .expect("it was just seen");
        assert_eq!(web.status.expect("it is mirrored").last_action, None);

        let by_hand: Container = serde_json::from_value(json!({
            "apiVersion": "containers.rancherdesktop.io/v1alpha1", "kind": "Container",
            "metadata": {"name": id("mine")}, "spec": {"state": "running"},
        }))
        .expect("a Container");
        let api = story.api::<Container>();
        let made = api.create(&PostParams::default(), &by_hand).await;
        made.expect("it is accepted");
        let asked = json!({"metadata": {"annotations": {names::ACTION_ANNOTATION: "stop"}}});
        let patched = api
            .patch(&id("mine"), &PatchParams::default(), &Patch::Merge(&asked))
            .await;
        patched.expect("it is accepted");
        // Behind it in every queue.
        story.ask("web", "pause").await;
        assert_eq!(story.outcome("web", "pause").await.0, "Succeeded");
        story.delete::<Container>(&id("mine")).await;
        story.mirror("mine", |mirror| mirror.is_none()).await;
        assert_eq!(story.calls(), [format!("pause {}", id("web"))]);
    });
}

//! What may stand behind `/scale`, and what may be sent to it.

use http::Method;
use serde_json::{Value, json};

use super::bed::{Bed, MERGE, widget};
use crate::lab::WIDGETS;

async fn scaled() -> Bed {
    let bed = Bed::start().await;
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "properties": {"spec": open, "status": open}});
    let scale = json!({"specReplicasPath": ".spec.r", "statusReplicasPath": ".status.r"});
    bed.serve_widgets(schema, json!({"subresources": {"scale": scale}}))
        .await;
    bed
}

#[tokio::test]
async fn an_object_that_no_scale_can_show_is_refused() {
    let bed = scaled().await;
    let made = bed
        .ask(Method::POST, WIDGETS, &[], &widget("a", r#"{"r":1}"#))
        .await;
    assert_eq!(made.code, 201);
    for (spec, text) in [
        (
            r#"{"r":"x"}"#,
            "0: .spec.r accessor error: x is of the type string, expected int64",
        ),
        (r#"{"r":-1}"#, "-1: should be a non-negative integer"),
    ] {
        let expect =
            format!("Widget.example.com \"NAME\" is invalid: .spec.r: Invalid value: {text}");
        let refused = bed
            .ask(Method::POST, WIDGETS, &[], &widget("b", spec))
            .await;
        assert_eq!(refused.refusal(), (422, &*expect.replace("NAME", "b")));
        let patch = format!(r#"{{"spec":{spec}}}"#);
        let refused = bed.patch(MERGE, &format!("{WIDGETS}/a"), &patch).await;
        assert_eq!(refused.refusal(), (422, &*expect.replace("NAME", "a")));
    }
    let reported = json!({"status": {"r": 1.5}}).to_string();
    let refused = bed.patch(MERGE, &format!("{WIDGETS}/a"), &reported).await;
    assert_eq!(refused.code, 422, "{refused:?}");
}

#[tokio::test]
async fn a_scale_has_the_types_of_a_scale() {
    let bed = scaled().await;
    bed.ask(Method::POST, WIDGETS, &[], &widget("a", r#"{"r":1}"#))
        .await;
    let path = format!("{WIDGETS}/a/scale");
    let put = async |query: &str, change: Value| {
        let mut body = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"},
            "spec": {"replicas": 2},
        });
        for (key, value) in change.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let path = format!("{path}{query}");
        bed.ask(Method::PUT, &path, &[], &body.to_string()).await
    };
    for change in [
        json!({"spec": 0}),
        json!({"spec": {"replicas": "2"}}),
        json!({"spec": {"replicas": 2_147_483_648_u64}}),
        json!({"metadata": {"name": "a", "labels": {"a": 1}}}),
    ] {
        let refused = put("", change.clone()).await;
        let expect = "no kind is registered for the type v1.Scale";
        assert!(
            refused.message().starts_with(expect),
            "{change}: {refused:?}"
        );
        assert_eq!(refused.code, 400);
    }
    let more = json!({"spec": {"replicas": 2, "more": 1}});
    assert_eq!(put("?fieldValidation=Strict", more.clone()).await.code, 400);
    assert_eq!(put("?fieldValidation=Ignore", more).await.code, 200);
    let foreign = json!({"metadata": {"name": "a", "uid": "other"}});
    assert_eq!(put("", foreign).await.code, 409);
    let patch = async |query: &str, body: Value| {
        let path = format!("{path}{query}");
        bed.patch(MERGE, &path, &body.to_string()).await
    };
    let refused = patch("", json!({"spec": 0})).await;
    assert_eq!(refused.code, 422);
    let text = "cannot unmarshal number into Go struct field Scale.spec of type v1.ScaleSpec";
    assert!(refused.message().ends_with(text), "{refused:?}");
    let refused = patch("", json!({"kind": "Other"})).await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let refused = patch("", json!({"metadata": {"name": "b"}})).await;
    assert_eq!(refused.code, 400, "{refused:?}");
    let refused = patch("?fieldValidation=Strict", json!({"more": 1})).await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let scale = bed.get(&path).await;
    assert_eq!(scale.body["spec"], json!({"replicas": 2}));
}

#[tokio::test]
async fn a_scale_is_tracked_while_somebody_owns_its_replicas() {
    let bed = scaled().await;
    let path = format!("{WIDGETS}/a/scale");
    let scale = async |count: u32| {
        let body = json!({"spec": {"replicas": count}}).to_string();
        let scaled = bed.patch(MERGE, &path, &body).await;
        assert_eq!(scaled.code, 200, "{scaled:?}");
        let widget = bed.get(&format!("{WIDGETS}/a")).await;
        let entries = widget.body["metadata"]["managedFields"].clone();
        let entries = entries.as_array().cloned().unwrap_or_default();
        let scales = |entry: &&Value| entry["subresource"] == "scale";
        entries.iter().filter(scales).count()
    };
    bed.ask(Method::POST, WIDGETS, &[], &widget("a", r#"{"r":1}"#))
        .await;
    assert_eq!(scale(3).await, 1);
    assert_eq!(scale(0).await, 0);
    assert_eq!(scale(4).await, 0);
}

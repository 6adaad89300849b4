//! What deletions answer and leave behind.

use http::Method;
use serde_json::json;

use super::bed::{ACCOUNTS, Bed, widget};
use crate::lab::{CONFIG_MAPS, DEFINITIONS, WIDGETS};

#[tokio::test]
async fn preconditions_hold_or_nothing_is_deleted() {
    let bed = Bed::start().await;
    bed.make_map("a", json!({})).await;
    let path = format!("{CONFIG_MAPS}/a");
    let made = bed.get(&path).await;
    let uid = made.body["metadata"]["uid"].as_str().expect("an identity");
    let delete = async |preconditions: serde_json::Value| {
        let body = json!({"preconditions": preconditions}).to_string();
        bed.ask(Method::DELETE, &path, &[], &body).await
    };
    let other = delete(json!({"uid": "other"})).await;
    assert_eq!(
        other.refusal(),
        (
            409,
            format!(
                "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition \
                 (other) does not match the UID in record ({uid}). The object might have been \
                 deleted and then recreated"
            )
            .as_str()
        )
    );
    assert_eq!(delete(json!({"resourceVersion": "1"})).await.code, 409);
    let right = json!({"uid": uid, "resourceVersion": made.revision()});
    let gone = delete(right).await;
    assert_eq!((gone.code, &gone.body["status"]), (200, &json!("Success")));
    assert_eq!(bed.get(&path).await.code, 404);
}

#[tokio::test]
async fn policies_become_finalizers_and_bad_ones_are_refused() {
    let bed = Bed::start().await;
    let held = json!({"metadata": {"name": "a", "finalizers": ["example.com/held"]}});
    assert_eq!(bed.post(CONFIG_MAPS, held).await.code, 201);
    let refused = bed
        .delete(&format!("{CONFIG_MAPS}/a?propagationPolicy=Bogus"))
        .await;
    assert_eq!(refused.code, 422);
    let deleted = bed
        .delete(&format!("{CONFIG_MAPS}/a?propagationPolicy=Orphan"))
        .await;
    let metadata = &deleted.body["metadata"];
    assert_eq!(metadata["deletionGracePeriodSeconds"], 0);
    let finalizers = metadata["finalizers"].as_array().expect("a list");
    assert_eq!(finalizers.len(), 2, "{deleted:?}");
}

#[tokio::test]
async fn an_object_that_comes_back_from_its_deletion_has_the_revision_of_its_end() {
    let bed = Bed::start().await;
    let made = bed.post(ACCOUNTS, json!({"metadata": {"name": "a"}})).await;
    let revision = |text: &str| text.parse::<u64>().expect("a number");
    let tried = bed.delete(&format!("{ACCOUNTS}/a?dryRun=All")).await;
    assert_eq!(tried.revision(), made.revision());
    let deleted = bed.delete(&format!("{ACCOUNTS}/a")).await;
    assert_eq!(deleted.body["kind"], "ServiceAccount");
    assert!(revision(deleted.revision()) > revision(made.revision()));
}

#[tokio::test]
async fn the_first_deletion_of_a_definition_only_marks_it() {
    let bed = Bed::start().await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    bed.serve_widgets(schema, json!({})).await;
    let held = widget("a", "{}").replace(
        "\"name\":\"a\"",
        "\"name\":\"a\",\"finalizers\":[\"example.com/held\"]",
    );
    assert_eq!(bed.ask(Method::POST, WIDGETS, &[], &held).await.code, 201);
    let path = format!("{DEFINITIONS}/widgets.example.com?propagationPolicy=Orphan");
    let first = bed.delete(&path).await;
    let cleanup = "customresourcecleanup.apiextensions.k8s.io";
    assert_eq!(first.body["metadata"]["finalizers"], json!([cleanup]));
    let again = bed.delete(&path).await;
    let metadata = &again.body["metadata"];
    assert_eq!(metadata["deletionGracePeriodSeconds"], 0, "{again:?}");
    assert_eq!(metadata["finalizers"], json!([cleanup, "orphan"]));
}

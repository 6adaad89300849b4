//! Selectors, pages, revisions and views of lists.

use serde_json::json;

use super::bed::{Bed, PARTIAL, PARTIAL_LIST, TABLE};
use crate::lab::CONFIG_MAPS;

#[tokio::test]
async fn selectors_choose_by_labels_and_fields() {
    let bed = Bed::start().await;
    bed.make_map("a", json!({"tier": "1", "zone": "x"})).await;
    bed.make_map("b", json!({"tier": "2"})).await;
    bed.make_map("c", json!({})).await;
    for (query, names) in [
        ("labelSelector=tier%3D1", &["a"][..]),
        ("labelSelector=tier%3D%3D2", &["b"]),
        ("labelSelector=tier", &["a", "b"]),
        ("labelSelector=tier+in+(1,2),zone", &["a"]),
        ("labelSelector=tier+in+(),tier", &[]),
        ("labelSelector=zone+notin+(x),tier", &["b"]),
        ("labelSelector=tier%3E1", &["b"]),
        ("labelSelector=tier%3C2", &["a"]),
        ("labelSelector=tier,fieldSelector", &[]),
        ("fieldSelector=metadata.name%3Dc", &["c"]),
        (
            "fieldSelector=metadata.name!%3Da,metadata.namespace%3Ddefault&labelSelector=tier",
            &["b"],
        ),
        ("fieldSelector=metadata.namespace%3Dother", &[]),
    ] {
        let list = bed.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!((list.code, list.names()), (200, names.to_vec()), "{query}");
    }
    // What is not there is not equal, either.
    let list = bed
        .get(&format!("{CONFIG_MAPS}?labelSelector=tier!%3D1"))
        .await;
    assert!(list.names().contains(&"c"), "{list:?}");
    for (query, message) in [
        (
            "labelSelector=a+b",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        ),
        (
            "fieldSelector=data.x%3Dy",
            "\"data.x\" is not a known field selector: only \"metadata.name\", \
             \"metadata.namespace\"",
        ),
    ] {
        let refused = bed.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!(refused.refusal(), (400, message), "{query}");
    }
}

#[tokio::test]
async fn pages_come_by_token_and_a_broken_token_is_told() {
    let bed = Bed::start().await;
    for name in ["a", "b", "c"] {
        bed.make_map(name, json!({"page": ""})).await;
    }
    let path = format!("{CONFIG_MAPS}?labelSelector=page&limit=2");
    let first = bed.get(&path).await;
    assert_eq!(first.names(), ["a", "b"]);
    // With a selector nobody counts what is left.
    assert_eq!(first.body["metadata"].get("remainingItemCount"), None);
    let token = first.body["metadata"]["continue"]
        .as_str()
        .expect("a token");
    let second = bed.get(&format!("{path}&continue={token}")).await;
    assert_eq!(second.names(), ["c"]);
    let both = bed
        .get(&format!("{path}&continue={token}&resourceVersion=1"))
        .await;
    assert_eq!(
        both.refusal(),
        (
            400,
            "specifying resource version is not allowed when using continue"
        )
    );
    let broken = bed.get(&format!("{path}&continue=nonsense")).await;
    assert_eq!(
        broken.refusal(),
        (
            400,
            "invalid continue token: continue key is not valid: invalid character '\\x9e' \
             looking for beginning of value"
        )
    );
}

#[tokio::test]
async fn how_a_revision_is_to_match_needs_a_revision() {
    let bed = Bed::start().await;
    for (query, code) in [
        ("resourceVersion=0", 200),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan", 200),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422),
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersion=1&resourceVersionMatch=Bogus", 422),
        ("resourceVersion=x", 400),
    ] {
        let answer = bed.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!(answer.code, code, "{query}: {answer:?}");
    }
}

#[tokio::test]
async fn a_deleted_collection_is_answered_in_the_view_that_was_asked_for() {
    let bed = Bed::start().await;
    let collection = format!("{CONFIG_MAPS}?labelSelector=gone");
    let delete = async |query: &str, accept: &str| {
        let path = format!("{collection}{query}");
        bed.ask(http::Method::DELETE, &path, &[("accept", accept)], "")
            .await
    };
    bed.make_map("a", json!({"gone": ""})).await;
    let table = delete("&dryRun=All", TABLE).await;
    assert_eq!(table.body["kind"], "Table");
    assert_eq!(table.body["rows"][0]["cells"][0], "a");
    let partial = delete("&dryRun=All", PARTIAL_LIST).await;
    assert_eq!(partial.body["kind"], "PartialObjectMetadataList");
    let refused = delete("&dryRun=All", PARTIAL).await;
    assert_eq!(
        refused.refusal(),
        (
            406,
            "you requested PartialObjectMetadata, but the requested object is a list \
             (*core.ConfigMapList)"
        )
    );
    let list = delete("", "application/json").await;
    assert_eq!(list.names(), ["a"]);
    let nothing = delete("", PARTIAL_LIST).await;
    assert_eq!(nothing.body["items"], serde_json::Value::Null);
}

#[tokio::test]
async fn the_table_of_what_was_not_stored_has_no_revision() {
    let bed = Bed::start().await;
    let body = json!({"metadata": {"name": "a"}}).to_string();
    let create = async |query: &str| {
        let path = format!("{CONFIG_MAPS}{query}");
        bed.ask(http::Method::POST, &path, &[("accept", TABLE)], &body)
            .await
            .body["metadata"]
            .clone()
    };
    assert_eq!(create("?dryRun=All").await, json!({}));
    assert!(create("").await["resourceVersion"].is_string());
}

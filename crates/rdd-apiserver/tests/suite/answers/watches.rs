//! Options of watches.

use http::Method;
use serde_json::json;

use super::bed::{Bed, PARTIAL_LIST, TABLE};
use crate::lab::CONFIG_MAPS;

/// A watch that ends by itself after a second.
fn watch(query: &str) -> String {
    format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&labelSelector=seen&{query}")
}

fn seen(kinds: &[(&str, &str)]) -> Vec<(String, String)> {
    kinds
        .iter()
        .map(|(kind, name)| ((*kind).to_owned(), (*name).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_watch_begins_where_it_is_told_to() {
    let bed = Bed::start().await;
    bed.make_map("a", json!({"seen": ""})).await;
    let list = bed.get(CONFIG_MAPS).await;
    let revision = list.revision().to_owned();
    bed.make_map("b", json!({"seen": ""})).await;
    let (a, b) = (("ADDED", "a"), ("ADDED", "b"));
    assert_eq!(bed.events(&watch("")).await, seen(&[a, b]));
    assert_eq!(bed.events(&watch("resourceVersion=0")).await, seen(&[a, b]));
    let later = format!("resourceVersion={revision}");
    assert_eq!(bed.events(&watch(&later)).await, seen(&[b]));
    let none = "sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    assert_eq!(bed.events(&watch(none)).await, seen(&[]));
    let first = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    assert_eq!(
        bed.events(&watch(first)).await,
        seen(&[a, b, ("BOOKMARK", "")])
    );
}

#[tokio::test]
async fn options_that_do_not_go_together_are_refused() {
    let bed = Bed::start().await;
    for (query, code) in [
        ("sendInitialEvents=true", 422),
        ("sendInitialEvents=true&resourceVersionMatch=Exact", 422),
        ("resourceVersionMatch=NotOlderThan", 422),
        ("resourceVersion=x", 500),
        ("timeoutSeconds=x", 400),
        ("fieldSelector=data%3Dx", 400),
    ] {
        let answer = bed.get(&format!("{CONFIG_MAPS}?watch=true&{query}")).await;
        assert_eq!(answer.code, code, "{query}: {answer:?}");
    }
    let exact = bed
        .get(&format!(
            "{CONFIG_MAPS}?watch=true&resourceVersion=1&resourceVersionMatch=Exact"
        ))
        .await;
    let causes = exact.body["details"]["causes"].as_array().map(Vec::len);
    assert_eq!(causes, Some(2), "{exact:?}");
    // The older prefix watches whatever the method, and only GET may.
    let older = CONFIG_MAPS.replace("/api/v1/", "/api/v1/watch/");
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let answer = bed.ask(method, &older, &[], "").await;
        assert_eq!(answer.code, 405);
    }
    let refused = bed.ask_as_alice(Method::POST, &older, &[], "").await;
    assert!(
        refused.message().contains("cannot watch resource"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_bookmark_as_a_table_shows_an_object_in_which_nothing_is_set() {
    let bed = Bed::start().await;
    let unknown = "<unknown>";
    for (path, cells) in [
        (CONFIG_MAPS, json!(["", 0, unknown])),
        (
            "/apis/coordination.k8s.io/v1/leases",
            json!(["", "", unknown]),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/rolebindings",
            json!(["", "/", unknown, "", "", ""]),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/roles",
            json!(["", "0001-01-01T00:00:00Z"]),
        ),
        (
            "/api/v1/events",
            json!([unknown, "", "", "", "", "", "", unknown, 1, ""]),
        ),
        (
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
            json!(["", 0, "<unset>", unknown]),
        ),
        (
            "/apis/apiregistration.k8s.io/v1/apiservices",
            json!(["", "Local", "Unknown", unknown]),
        ),
    ] {
        let path = format!(
            "{path}?watch=true&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true\
             &resourceVersionMatch=NotOlderThan&fieldSelector=metadata.name%3Dnone"
        );
        let lines = bed.lines(&path, TABLE).await;
        assert_eq!(lines[0]["type"], "BOOKMARK", "{path}");
        assert_eq!(lines[0]["object"]["rows"][0]["cells"], cells, "{path}");
    }
}

#[tokio::test]
async fn a_watch_of_lists_of_metadata_breaks_off_at_the_first_event() {
    let bed = Bed::start().await;
    bed.make_map("a", json!({"seen": ""})).await;
    let lines = bed.lines(&watch("resourceVersion=0"), PARTIAL_LIST).await;
    assert_eq!(lines, Vec::<serde_json::Value>::new());
    let unknown = "application/json;as=Other;v=v1;g=meta.k8s.io";
    let refused = bed.get_as(&watch(""), unknown).await;
    assert_eq!(
        refused.refusal(),
        (
            406,
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        )
    );
}

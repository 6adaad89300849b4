//! A definition with two versions that differ in more than their name.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    bed::{Bed, Reply},
    server::Server,
};

const V1: &str = "/apis/example.com/v1/namespaces/default/boxes";
const V2: &str = "/apis/example.com/v2/namespaces/default/boxes";

fn definition(bed: &Bed, path: &str) -> Value {
    let version = |name: &str, storage: bool, field: &str, r#type: &str| {
        json!({
            "name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {field: {"type": r#type}}},
            }}},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "boxes", "kind": "Box"},
            "versions": [
                version("v1", true, "size", "integer"),
                version("v2", false, "text", "string"),
            ],
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": bed.client(path), "conversionReviewVersions": ["v1"],
            }},
        },
    })
}

/// Size ⇄ text, and a trace of the way in the labels.
fn converted(review: &Value) -> Vec<Value> {
    let desired = &review["request"]["desiredAPIVersion"];
    let objects = review["request"]["objects"].as_array().expect("objects");
    objects
        .iter()
        .map(|object| {
            let mut object = object.clone();
            object["apiVersion"] = desired.clone();
            object["metadata"]["generation"] = json!(77);
            let spec = &object["spec"];
            object["spec"] = if desired == "example.com/v2" {
                json!({"text": spec["size"].to_string(), "unknown": true})
            } else {
                let size: i64 = spec["text"].as_str().unwrap_or("0").parse().unwrap_or(0);
                json!({"size": size})
            };
            object
        })
        .collect()
}

fn answer(review: &Value, objects: &[Value]) -> Reply {
    Reply::Json(json!({
        "apiVersion": review["apiVersion"], "kind": review["kind"],
        "response": {
            "uid": review["request"]["uid"], "convertedObjects": objects,
            "result": {"status": "Success"},
        },
    }))
}

fn converter(path: &str, review: &Value) -> Reply {
    let mut objects = converted(review);
    match path {
        "/few" => {
            objects.pop();
            answer(review, &objects)
        }
        "/many" => {
            objects.push(objects[0].clone());
            answer(review, &objects)
        }
        // The last of several is the bad one.
        "/other" => {
            let last = objects.len() - 1;
            objects[last]["metadata"]["name"] = json!("other");
            answer(review, &objects)
        }
        "/place" => {
            objects[0]["metadata"]["namespace"] = json!("elsewhere");
            answer(review, &objects)
        }
        "/uid" => {
            objects[0]["metadata"]["uid"] = json!("u");
            answer(review, &objects)
        }
        "/kind" => {
            objects[0]["kind"] = json!("Crate");
            answer(review, &objects)
        }
        "/bare" => {
            objects[0]["metadata"]["labels"] = json!("none");
            answer(review, &objects)
        }
        "/number" => {
            objects[0]["metadata"]["annotations"] = json!({"a": 1});
            answer(review, &objects)
        }
        "/label" => {
            objects[0]["metadata"]["labels"] = json!({"a": "-"});
            answer(review, &objects)
        }
        "/marked" => {
            for object in &mut objects {
                object["metadata"]["labels"] = json!({"from": "afar"});
                object["metadata"]["annotations"] = json!({"by": "the webhook"});
                object["metadata"]["finalizers"] = json!(["a.b/c"]);
                object["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
                object["metadata"]["managedFields"] = json!([]);
            }
            answer(review, &objects)
        }
        "/review" => Reply::Json(json!({
            "apiVersion": review["apiVersion"], "kind": review["kind"],
            "response": {"uid": "x", "result": {"status": "Success"}},
        })),
        "/silent" => Reply::Json(json!({
            "apiVersion": review["apiVersion"], "kind": review["kind"],
        })),
        "/text" => Reply::Typed("text/plain", "converted"),
        "/garbage" => Reply::Garbage,
        "/hang" => Reply::Hang,
        "/version" => {
            objects[0]["apiVersion"] = json!("example.com/v9");
            answer(review, &objects)
        }
        "/failed" => Reply::Json(json!({
            "apiVersion": review["apiVersion"], "kind": review["kind"],
            "response": {
                "uid": review["request"]["uid"],
                "result": {"status": "Failure", "message": "cannot"},
            },
        })),
        "/500" => Reply::Code(500, "boom"),
        _ => answer(review, &objects),
    }
}

fn sized(name: &str, size: i64) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": name},
        "spec": {"size": size},
    })
}

fn texted(name: &str, text: &str) -> Value {
    json!({
        "apiVersion": "example.com/v2", "kind": "Box", "metadata": {"name": name},
        "spec": {"text": text},
    })
}

#[tokio::test]
async fn every_verb_speaks_the_version_that_it_was_asked_in() {
    let bed = Bed::start(converter).await;
    let server = Server::start().await;
    let made = server.define(definition(&bed, "/convert")).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);

    let made = server.post(V2, texted("a", "3")).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    assert_eq!(made.body["spec"], json!({"text": "3"}));
    assert_eq!(made.body["metadata"]["generation"], 1);

    bed.paths();
    let read = server.get(&format!("{V1}/a")).await;
    assert_eq!(read.body["spec"], json!({"size": 3}));
    assert!(bed.paths().is_empty(), "it is stored in this version");
    let read = server.get(&format!("{V2}/a")).await;
    assert_eq!(read.body["apiVersion"], "example.com/v2");
    assert_eq!(read.body["spec"], json!({"text": "3"}));

    for size in 4..8 {
        server.post(V1, sized(&format!("b{size}"), size)).await;
    }
    bed.paths();
    let listed = server.get(V2).await;
    let texts: Vec<&Value> = listed.body["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| &item["spec"]["text"])
        .collect();
    assert_eq!(texts, ["3", "4", "5", "6", "7"]);
    assert_eq!(bed.paths().len(), 1, "a list is one question");

    let change = json!({"spec": {"text": "30"}});
    let path = format!("{V2}/a");
    let changed = server.send(Method::PATCH, &path, change.clone()).await;
    assert_eq!(changed.body["spec"], json!({"text": "30"}));
    assert_eq!(changed.body["metadata"]["generation"], 2);
    let same = server.send(Method::PATCH, &path, change).await;
    assert_eq!(
        same.body["metadata"]["resourceVersion"],
        changed.body["metadata"]["resourceVersion"]
    );
    let read = server.get(&format!("{V1}/a")).await;
    assert_eq!(read.body["spec"], json!({"size": 30}));

    let applied = server
        .apply(
            &format!("{V2}/a?fieldManager=m&force=true"),
            texted("a", "31"),
        )
        .await;
    assert_eq!(
        applied.body["spec"],
        json!({"text": "31"}),
        "{:?}",
        applied.body
    );
    let gone = server.send(Method::DELETE, &path, Value::Null).await;
    assert_eq!(gone.code, StatusCode::OK, "{:?}", gone.body);
}

#[tokio::test]
async fn a_watch_speaks_its_version_before_and_after_changes() {
    let bed = Bed::start(converter).await;
    let server = Server::start().await;
    server.define(definition(&bed, "/convert")).await;
    server.post(V1, sized("a", 1)).await;
    let mut first = server.watch(&format!("{V2}?watch=true")).await;
    let mut second = server.watch(&format!("{V2}?watch=true")).await;
    for watch in [&mut first, &mut second] {
        let event = watch.next().await.expect("the watch goes on");
        assert_eq!(event["type"], "ADDED");
        assert_eq!(event["object"]["spec"], json!({"text": "1"}));
    }
    bed.paths();
    let path = format!("{V1}/a");
    server
        .send(Method::PATCH, &path, json!({"spec": {"size": 2}}))
        .await;
    for watch in [&mut first, &mut second] {
        let event = watch.next().await.expect("the watch goes on");
        assert_eq!(event["type"], "MODIFIED");
        assert_eq!(event["object"]["apiVersion"], "example.com/v2");
        assert_eq!(event["object"]["spec"], json!({"text": "2"}));
    }
    assert_eq!(bed.paths().len(), 1, "watchers share a conversion");
    server.send(Method::DELETE, &path, Value::Null).await;
    for watch in [&mut first, &mut second] {
        let event = watch.next().await.expect("the watch goes on");
        assert_eq!(event["type"], "DELETED");
        assert_eq!(event["object"]["spec"], json!({"text": "2"}));
    }
}

#[tokio::test]
async fn a_webhook_that_converts_badly_fails_the_request() {
    let bed = Bed::start(converter).await;
    for (path, expect) in [
        ("/few", "returned 0 objects, expected 1"),
        ("/many", "returned 2 objects, expected 1"),
        (
            "/other",
            "returned invalid object: must have the same name: a != other",
        ),
        (
            "/place",
            "returned invalid object: must have the same namespace: default != elsewhere",
        ),
        (
            "/version",
            "returned invalid object at index 0: invalid groupVersion (expected example.com/v2, \
             received example.com/v9)",
        ),
        (
            "/kind",
            "returned invalid object at index 0: invalid kind (expected Box, received Crate)",
        ),
        (
            "/bare",
            "returned invalid metadata: invalid metadata.labels of type string in converted object",
        ),
        (
            "/number",
            "returned invalid metadata: metadata.annotations[a] must be a string, but is int64 in \
             converted object",
        ),
        (
            "/label",
            "returned invalid metadata: metadata.labels: Invalid value: \"-\": a valid label must \
             be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
             '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        ("/failed", "failed: cannot"),
        (
            "/500",
            "failed: an error on the server (\"boom\") has prevented the request from succeeding",
        ),
        ("/silent", "failed: no response provided"),
        ("/text", "failed: serializer for text/plain doesn't exist"),
    ] {
        let server = Server::start().await;
        server.define(definition(&bed, path)).await;
        let made = server.post(V1, sized("a", 1)).await;
        assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
        for url in [format!("{V2}/a"), V2.to_owned()] {
            let read = server.get(&url).await;
            assert_eq!(read.code, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
            assert_eq!(
                read.message(),
                format!("conversion webhook for example.com/v1, Kind=Box {expect}")
            );
        }
    }
}

/// Only the beginning of these texts is sure, since they hold an id or come from a parser.
#[tokio::test]
async fn a_conversion_that_is_no_answer_fails_the_request() {
    let bed = Bed::start(converter).await;
    for (path, expect) in [
        ("/uid", "returned invalid object: must have the same UID: "),
        ("/review", "failed: expected response.uid=\""),
        (
            "/garbage",
            "failed: couldn't get version/kind; json parse error: ",
        ),
    ] {
        let server = Server::start().await;
        server.define(definition(&bed, path)).await;
        server.post(V1, sized("a", 1)).await;
        let read = server.get(&format!("{V2}/a")).await;
        assert_eq!(read.code, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        let start = format!("conversion webhook for example.com/v1, Kind=Box {expect}");
        assert!(read.message().starts_with(&start), "{}", read.message());
    }
}

#[tokio::test]
async fn one_bad_object_of_several_is_named() {
    let bed = Bed::start(converter).await;
    let server = Server::start().await;
    server.define(definition(&bed, "/other")).await;
    for name in ["a", "b", "c"] {
        server.post(V1, sized(name, 1)).await;
    }
    let read = server.get(V2).await;
    assert_eq!(
        read.message(),
        "conversion webhook for example.com/v1, Kind=Box returned invalid converted object at \
         index 2: must have the same name: c != other"
    );
    // What needs no conversion is there.
    assert_eq!(server.get(V1).await.code, StatusCode::OK);
}

#[tokio::test]
async fn a_conversion_may_change_labels_and_annotations_and_no_other_metadata() {
    let bed = Bed::start(converter).await;
    let server = Server::start().await;
    server.define(definition(&bed, "/marked")).await;
    let made = server.post(V1, sized("a", 1)).await;
    let read = server.get(&format!("{V2}/a")).await;
    assert_eq!(read.code, StatusCode::OK, "{:?}", read.body);
    let mut expect = made.body["metadata"].clone();
    expect["labels"] = json!({"from": "afar"});
    expect["annotations"] = json!({"by": "the webhook"});
    assert_eq!(read.body["metadata"], expect);
}

#[tokio::test]
async fn a_conversion_that_hangs_costs_the_time_of_the_request_and_nothing_else() {
    let bed = Bed::start(converter).await;
    let server = Server::start().await;
    server.define(definition(&bed, "/hang")).await;
    server.post(V1, sized("a", 1)).await;
    let path = format!("{V2}/a?timeout=1s");
    let stuck = server.get(&path);
    let others = async {
        for round in 0..20 {
            let made = server.post(V1, sized(&format!("b{round}"), round)).await;
            assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
            assert_eq!(server.get(V1).await.code, StatusCode::OK);
        }
    };
    let (read, ()) = tokio::join!(stuck, others);
    assert!(read.code.is_server_error(), "{:?}", read.body);
    assert!(
        read.message().contains("context deadline exceeded"),
        "{}",
        read.message()
    );
}

#[tokio::test]
async fn two_versions_agree_under_concurrent_reads_lists_watches_and_applies() {
    const OBJECTS: usize = 4;
    const ROUNDS: i64 = 15;
    let bed = Bed::start(converter).await;
    let server = Server::start().await;
    server.define(definition(&bed, "/convert")).await;
    for name in 0..OBJECTS {
        server.post(V1, sized(&format!("b{name}"), 0)).await;
    }
    let mut watch = server.watch(&format!("{V2}?watch=true")).await;
    // Every other write is an apply in the version that is not stored.
    let writers = futures::future::join_all((0..OBJECTS).map(|name| {
        let server = &server;
        async move {
            let name = format!("b{name}");
            for round in 1..=ROUNDS {
                let written = if round % 2 == 0 {
                    let path = format!("{V1}/{name}");
                    let change = json!({"spec": {"size": round}});
                    server.send(Method::PATCH, &path, change).await
                } else {
                    let path = format!("{V2}/{name}?fieldManager=m&force=true");
                    server.apply(&path, texted(&name, &round.to_string())).await
                };
                assert_eq!(written.code, StatusCode::OK, "{:?}", written.body);
            }
        }
    }));
    let readers = async {
        for _ in 0..ROUNDS {
            let (first, second) = tokio::join!(server.get(V1), server.get(V2));
            for (list, field) in [(first, "size"), (second, "text")] {
                let items = list.body["items"].as_array().expect("items");
                assert_eq!(items.len(), OBJECTS);
                for item in items {
                    assert!(!item["spec"][field].is_null(), "{item}");
                }
            }
        }
    };
    let watcher = async {
        let mut ended = 0;
        let mut last: std::collections::BTreeMap<String, i64> = Default::default();
        while ended < OBJECTS {
            let event = watch.next().await.expect("the watch goes on");
            let name = event["object"]["metadata"]["name"].to_string();
            let text = event["object"]["spec"]["text"].as_str().expect("a text");
            let size: i64 = text.parse().expect("a number");
            let before = last.insert(name, size).unwrap_or(-1);
            assert_eq!(size, before + 1, "no change is left out: {event}");
            ended += usize::from(size == ROUNDS);
        }
    };
    tokio::join!(writers, readers, watcher);
}

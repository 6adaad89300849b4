//! A definition with two versions that differ in more than their name.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    bed::{Bed, Reply},
    server::Server,
};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
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
        "/other" => {
            objects[0]["metadata"]["name"] = json!("other");
            answer(review, &objects)
        }
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
    let made = server.post(DEFINITIONS, definition(&bed, "/convert")).await;
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
    server.post(DEFINITIONS, definition(&bed, "/convert")).await;
    server.post(V1, sized("a", 1)).await;
    let mut first = server.watch(&format!("{V2}?watch=true")).await;
    let mut second = server.watch(&format!("{V2}?watch=true")).await;
    for watch in [&mut first, &mut second] {
        let event = watch.next().await;
        assert_eq!(event["type"], "ADDED");
        assert_eq!(event["object"]["spec"], json!({"text": "1"}));
    }
    bed.paths();
    let path = format!("{V1}/a");
    server
        .send(Method::PATCH, &path, json!({"spec": {"size": 2}}))
        .await;
    for watch in [&mut first, &mut second] {
        let event = watch.next().await;
        assert_eq!(event["type"], "MODIFIED");
        assert_eq!(event["object"]["apiVersion"], "example.com/v2");
        assert_eq!(event["object"]["spec"], json!({"text": "2"}));
    }
    assert_eq!(bed.paths().len(), 1, "watchers share a conversion");
    server.send(Method::DELETE, &path, Value::Null).await;
    for watch in [&mut first, &mut second] {
        let event = watch.next().await;
        assert_eq!(event["type"], "DELETED");
        assert_eq!(event["object"]["spec"], json!({"text": "2"}));
    }
}

#[tokio::test]
async fn a_webhook_that_converts_badly_fails_the_request() {
    let bed = Bed::start(converter).await;
    for (path, expect) in [
        (
            "/few",
            "conversion webhook for example.com/v1, Kind=Box returned 0 objects, expected 1",
        ),
        (
            "/other",
            "conversion webhook for example.com/v1, Kind=Box returned invalid converted object at \
             index 0: must have the same name: a != other",
        ),
        (
            "/version",
            "conversion webhook for example.com/v1, Kind=Box returned invalid converted object at \
             index 0: invalid groupVersion (expected example.com/v2, received example.com/v9)",
        ),
        (
            "/failed",
            "conversion webhook for example.com/v1, Kind=Box failed: cannot",
        ),
        (
            "/500",
            "conversion webhook for example.com/v1, Kind=Box failed: an error on the server \
             (\"boom\") has prevented the request from succeeding",
        ),
    ] {
        let server = Server::start().await;
        server.post(DEFINITIONS, definition(&bed, path)).await;
        let made = server.post(V1, sized("a", 1)).await;
        assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
        for url in [format!("{V2}/a"), V2.to_owned()] {
            let read = server.get(&url).await;
            assert_eq!(read.code, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
            assert_eq!(read.message(), expect);
        }
    }
}

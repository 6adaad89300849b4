//! One script of requests on every kind of store: the answers must not tell them apart.

mod answers;
mod bed;
mod protobuf;

use std::sync::Arc;

use bed::{Bed, Step};
use rdd_store::{MemoryStore, SqliteOptions, SqliteStore, Store};
use serde_json::{Value, json};

use crate::lab::{self, CONFIG_MAPS, DEFINITIONS, WIDGETS};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn map(name: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"script": "yes"}}, "data": data,
    })
}

fn lease(metadata: Value, holder: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
        "spec": {"holderIdentity": holder},
    })
}

fn widget(spec: Value) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec,
    })
}

fn definition() -> Value {
    let tags =
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"});
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "default": 1}, "tags": tags,
    }});
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    lab::definition(schema, json!({"subresources": {"status": {}}}))
}

/// Creates, changes, conflicts, lists in pages, watches and deletes.
fn script() -> Vec<Step> {
    let at = |base: &str, rest: &str| format!("{base}{rest}");
    let chosen = "?labelSelector=script%3Dyes";
    vec![
        Step::watch(
            &at(
                CONFIG_MAPS,
                &format!("{chosen}&watch=true&resourceVersion=0"),
            ),
            "z",
        ),
        Step::post(CONFIG_MAPS, map("a", json!({"k": "1"}))),
        Step::post(CONFIG_MAPS, map("a", json!({}))),
        Step::post(CONFIG_MAPS, map("A", json!({}))),
        Step::post(&at(CONFIG_MAPS, "?dryRun=All"), map("dry", json!({}))),
        Step::post(CONFIG_MAPS, map("b", json!({"k": "1"}))),
        Step::post(CONFIG_MAPS, map("c", json!({"k": "1"}))),
        Step::merge(&at(CONFIG_MAPS, "/a"), json!({"data": {"k": "2"}})),
        Step::merge(&at(CONFIG_MAPS, "/a"), json!({"data": {"k": "2"}})),
        Step::merge(
            &at(CONFIG_MAPS, "/a"),
            json!({"metadata": {"resourceVersion": "1"}}),
        ),
        Step::json_patch(
            &at(CONFIG_MAPS, "/a"),
            json!([{"op": "test", "path": "/data/k", "value": "2"}, {"op": "add", "path": "/data/l", "value": "x"}]),
        ),
        Step::json_patch(
            &at(CONFIG_MAPS, "/a"),
            json!([{"op": "test", "path": "/data/k", "value": "9"}]),
        ),
        Step::strategic(
            &at(CONFIG_MAPS, "/a"),
            json!({"metadata": {"finalizers": ["example.com/f"]}}),
        ),
        Step::apply(
            &at(CONFIG_MAPS, "/a?fieldManager=one"),
            map("a", json!({"k": "2", "m": "3"})),
        ),
        Step::apply(
            &at(CONFIG_MAPS, "/a?fieldManager=two"),
            map("a", json!({"m": "4"})),
        ),
        Step::apply(
            &at(CONFIG_MAPS, "/a?fieldManager=two&force=true"),
            map("a", json!({"m": "4"})),
        ),
        Step::apply(
            &at(CONFIG_MAPS, "/new?fieldManager=one"),
            map("new", json!({"m": "4"})),
        ),
        Step::get(&at(CONFIG_MAPS, &format!("{chosen}&limit=2"))),
        Step::get(&at(
            CONFIG_MAPS,
            &format!("{chosen}&limit=2&continue={{continue}}"),
        )),
        Step::get(&at(
            CONFIG_MAPS,
            &format!("{chosen}&resourceVersion=999999"),
        )),
        Step::delete(&at(CONFIG_MAPS, "/a")),
        Step::merge(
            &at(CONFIG_MAPS, "/a"),
            json!({"metadata": {"finalizers": ["other.example.com/f"]}}),
        ),
        Step::merge(
            &at(CONFIG_MAPS, "/a"),
            json!({"metadata": {"finalizers": null}}),
        ),
        Step::get(&at(CONFIG_MAPS, "/a")),
        Step::delete(&at(CONFIG_MAPS, "/missing")),
        Step::put(&at(LEASES, "/l"), lease(json!({"name": "l"}), "me")),
        Step::put(&at(LEASES, "/l"), lease(json!({"name": "l"}), "you")),
        Step::put(
            &at(LEASES, "/l"),
            lease(json!({"name": "l", "resourceVersion": "{version}"}), "you"),
        ),
        Step::post(DEFINITIONS, definition()),
        Step::until(WIDGETS),
        Step::post(WIDGETS, widget(json!({"tags": ["x", "x"]}))),
        Step::post(WIDGETS, widget(json!({"tags": ["x"]}))),
        Step::apply(
            &at(WIDGETS, "/w?fieldManager=one"),
            widget(json!({"tags": ["y"]})),
        ),
        Step::merge(&at(WIDGETS, "/w"), json!({"spec": {"size": "large"}})),
        Step::merge(&at(WIDGETS, "/w"), json!({"spec": {"size": 2}})),
        Step::get(WIDGETS),
        Step::delete(WIDGETS),
        Step::post(CONFIG_MAPS, map("z", json!({}))),
        Step::events(),
        Step::delete(&at(CONFIG_MAPS, chosen)),
        Step::get(&at(CONFIG_MAPS, chosen)),
    ]
}

async fn transcript(store: Arc<dyn Store>) -> Vec<Value> {
    let bed = Bed::start(store).await;
    let transcript = bed.play(script()).await;
    bed.end().await;
    transcript
}

#[tokio::test]
async fn the_memory_and_the_file_answer_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = SqliteStore::open(folder.path(), SqliteOptions::default()).expect("a new file");
    let from_memory = transcript(Arc::new(MemoryStore::new())).await;
    let from_file = transcript(Arc::new(file)).await;
    assert_eq!(from_memory.len(), from_file.len());
    for (memory, file) in from_memory.iter().zip(&from_file) {
        assert_eq!(memory, file);
    }
}

//! A whole server over any store, and scripts of requests to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::{HeaderMap, Method, StatusCode};
use rdd_apiserver::http::body::Body;
use rdd_store::Store;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::lab::{AGAIN, DEADLINE, Events, Lab, exchange, whole};

/// One request of a script, or what is done with its watch.
pub(crate) struct Step {
    method: &'static str,
    path: String,
    content_type: &'static str,
    body: Value,
}

impl Step {
    fn new(method: &'static str, path: &str, content_type: &'static str, body: Value) -> Self {
        Self {
            method,
            path: path.to_owned(),
            content_type,
            body,
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path, "", Value::Null)
    }

    pub(crate) fn delete(path: &str) -> Self {
        Self::new("DELETE", path, "", Value::Null)
    }

    pub(crate) fn post(path: &str, body: Value) -> Self {
        Self::new("POST", path, "application/json", body)
    }

    pub(crate) fn put(path: &str, body: Value) -> Self {
        Self::new("PUT", path, "application/json", body)
    }

    pub(crate) fn merge(path: &str, body: Value) -> Self {
        Self::new("PATCH", path, "application/merge-patch+json", body)
    }

    pub(crate) fn json_patch(path: &str, body: Value) -> Self {
        Self::new("PATCH", path, "application/json-patch+json", body)
    }

    pub(crate) fn strategic(path: &str, body: Value) -> Self {
        let content_type = "application/strategic-merge-patch+json";
        Self::new("PATCH", path, content_type, body)
    }

    pub(crate) fn apply(path: &str, body: Value) -> Self {
        Self::new("PATCH", path, "application/apply-patch+yaml", body)
    }

    /// Asks until the path is served.
    pub(crate) fn until(path: &str) -> Self {
        Self::new("UNTIL", path, "", Value::Null)
    }

    /// Opens the script's watch, which ends with an object of this name.
    pub(crate) fn watch(path: &str, last: &str) -> Self {
        Self::new("WATCH", path, "", json!(last))
    }

    /// Takes what the watch saw.
    pub(crate) fn events() -> Self {
        Self::new("EVENTS", "", "", Value::Null)
    }
}

/// A running server.
pub(crate) struct Bed {
    lab: Lab,
}

impl Bed {
    pub(crate) async fn start(store: Arc<dyn Store>) -> Self {
        Self {
            lab: Lab::start_on(store, |_| {}).await,
        }
    }

    pub(crate) async fn end(self) {
        self.lab.end().await;
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (StatusCode, HeaderMap, Body) {
        let answer = exchange(self.lab.admin(), method, path, headers, body).await;
        let (parts, body) = answer.into_parts();
        (parts.status, parts.headers, body)
    }

    /// Runs a script; the answers come without what differs from run to run.
    pub(crate) async fn play(&self, script: Vec<Step>) -> Vec<Value> {
        let mut transcript = Vec::new();
        let mut watch: Option<JoinHandle<Vec<Value>>> = None;
        let mut known: BTreeMap<&str, String> = BTreeMap::new();
        for step in script {
            let fill = |text: &str| {
                known.iter().fold(text.to_owned(), |text, (name, value)| {
                    text.replace(&format!("{{{name}}}"), value)
                })
            };
            let path = fill(&step.path);
            let entry = match step.method {
                "WATCH" => {
                    let (status, _, body) = self.send(Method::GET, &path, &[], Vec::new()).await;
                    let last = step.body.as_str().unwrap_or_default().to_owned();
                    watch = Some(tokio::spawn(events(Events::of(body), last)));
                    json!({"watch": path, "code": status.as_u16()})
                }
                "EVENTS" => {
                    let seen = watch.take().expect("a watch is open").await;
                    json!({"events": seen.expect("the watch is read")})
                }
                "UNTIL" => {
                    self.served(&path).await;
                    continue;
                }
                method => {
                    let method = Method::from_bytes(method.as_bytes()).expect("a method");
                    let body = match &step.body {
                        Value::Null => Vec::new(),
                        body => fill(&body.to_string()).into_bytes(),
                    };
                    let types = [("content-type", step.content_type)];
                    let headers = if body.is_empty() { &[][..] } else { &types };
                    let shown = format!("{method} {}", step.path);
                    let (status, headers, body) = self.send(method, &path, headers, body).await;
                    let answer: Value = serde_json::from_slice(&whole(body).await)
                        .expect("every answer of the script is JSON");
                    for (name, pointer) in [
                        ("continue", "/metadata/continue"),
                        ("version", "/metadata/resourceVersion"),
                    ] {
                        let value = answer.pointer(pointer).and_then(Value::as_str);
                        known.extend(value.map(|value| (name, value.to_owned())));
                    }
                    let warnings: Vec<_> = headers.get_all("warning").iter().collect();
                    let warnings = format!("{warnings:?}");
                    json!({"step": shown, "code": status.as_u16(), "warnings": warnings, "answer": answer})
                }
            };
            transcript.push(entry);
        }
        masked(transcript)
    }

    pub(crate) async fn served(&self, path: &str) {
        let asked = async {
            while self.send(Method::GET, path, &[], Vec::new()).await.0 != StatusCode::OK {
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::time::timeout(DEADLINE, asked)
            .await
            .expect("the path is served in time");
    }
}

/// What a watch tells up to an object of this name.
async fn events(mut watch: Events, last: String) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let event = watch.next().await.expect("the watch goes on");
        let ends = event["object"]["metadata"]["name"] == last.as_str();
        events.push(event);
        if ends {
            return events;
        }
    }
}

/// Without times and uids, with revisions by their rank.
fn masked(transcript: Vec<Value>) -> Vec<Value> {
    let mut revisions = BTreeSet::new();
    for entry in &transcript {
        collect(entry, &mut revisions);
    }
    let ranks: BTreeMap<u64, usize> = revisions.into_iter().zip(1..).collect();
    transcript
        .into_iter()
        .map(|mut entry| {
            mask(&mut entry, &ranks);
            entry
        })
        .collect()
}

fn revision(name: &str, value: &Value) -> Option<u64> {
    let text = value.as_str().filter(|_| name == "resourceVersion")?;
    text.parse().ok()
}

fn collect(value: &Value, revisions: &mut BTreeSet<u64>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                revisions.extend(revision(name, value));
                collect(value, revisions);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, revisions)),
        _ => {}
    }
}

fn mask(value: &mut Value, ranks: &BTreeMap<u64, usize>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let rank = revision(name, value).and_then(|revision| ranks.get(&revision));
                match name.as_str() {
                    "uid" | "creationTimestamp" | "deletionTimestamp" | "time"
                    | "lastTransitionTime" => *value = json!("masked"),
                    "continue" if value != "" => *value = json!("masked"),
                    // The revision that lies in the future is told beside the current one.
                    "message"
                        if value
                            .as_str()
                            .is_some_and(|text| text.contains("current: ")) =>
                    {
                        *value = json!("masked");
                    }
                    _ => match rank {
                        Some(rank) => *value = json!(format!("revision {rank}")),
                        None => mask(value, ranks),
                    },
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, ranks)),
        _ => {}
    }
}

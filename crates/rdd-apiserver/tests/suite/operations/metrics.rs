//! `/metrics`.

use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use rdd_apiserver::http::body::Body;
use serde_json::{Value, json};

use super::bed::{ALICE, ROOT, Server};
use crate::lab::DEADLINE;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

async fn figures(server: &Server) -> String {
    let (status, text) = server
        .call(ROOT, Method::GET, "/metrics", &Value::Null)
        .await;
    assert_eq!(status, 200, "{text}");
    text
}

/// The value of a sample whose labels contain all of these.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    text.lines()
        .filter(|line| {
            line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "))
        })
        .find(|line| labels.iter().all(|label| line.contains(label)))
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
}

async fn event(body: &mut Body) {
    let frame = tokio::time::timeout(DEADLINE, body.frame()).await;
    let frame = frame.expect("an event comes in time");
    frame.expect("the watch goes on").expect("and unbroken");
}

#[tokio::test]
async fn requests_are_counted_by_what_they_ask_for_and_how_they_end() {
    let server = Server::start().await;
    let object = json!({"metadata": {"name": "a"}});
    for _ in 0..2 {
        server.call(ROOT, Method::POST, SECRETS, &object).await;
    }
    server.call(ALICE, Method::GET, SECRETS, &Value::Null).await;
    let apply: HeaderMap = [(
        http::header::CONTENT_TYPE,
        "application/apply-patch+yaml".parse().expect("a header"),
    )]
    .into_iter()
    .collect();
    let path = format!("{SECRETS}/b?fieldManager=m");
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}});
    server.send(ROOT, Method::PATCH, &path, apply, &body).await;
    server
        .call(ROOT, Method::GET, "/no/such/path", &Value::Null)
        .await;
    let text = figures(&server).await;
    let total = |labels: &[&str]| value(&text, "apiserver_request_total", labels);
    let secrets = "resource=\"secrets\"";
    let post = ["verb=\"POST\"", secrets, "scope=\"namespace\""];
    assert_eq!(total(&[&post[..], &["code=\"201\""]].concat()), Some(1.0));
    assert_eq!(total(&[&post[..], &["code=\"409\""]].concat()), Some(1.0));
    assert_eq!(
        total(&["verb=\"LIST\"", secrets, "code=\"403\""]),
        Some(1.0)
    );
    assert_eq!(
        total(&[
            "verb=\"APPLY\"",
            secrets,
            "scope=\"resource\"",
            "code=\"201\""
        ]),
        Some(1.0)
    );
    assert_eq!(total(&["subresource=\"other\"", "code=\"404\""]), Some(1.0));
    let objects = value(&text, "apiserver_resource_objects", &[secrets]);
    assert_eq!(objects, Some(2.0));
    for name in [
        "apiserver_request_duration_seconds_count",
        "apiserver_current_inflight_requests",
        "apiserver_storage_size_bytes",
        "rdd_store_commits_total",
        "rdd_store_commit_duration_seconds_count",
        "workqueue_depth",
        "process_start_time_seconds",
    ] {
        assert!(value(&text, name, &[]).is_some(), "{name}:\n{text}");
    }
}

#[tokio::test]
async fn a_watch_runs_until_its_reader_goes_and_its_events_are_counted() {
    let server = Server::start().await;
    let path = format!("{SECRETS}?watch=true&fieldSelector=metadata.name%3Da");
    let answer = server
        .send(ROOT, Method::GET, &path, HeaderMap::new(), &Value::Null)
        .await;
    let mut watch = answer.into_body();
    let object = json!({"metadata": {"name": "a"}});
    server.call(ROOT, Method::POST, SECRETS, &object).await;
    event(&mut watch).await;
    let labels = ["verb=\"WATCH\"", "resource=\"secrets\""];
    let text = figures(&server).await;
    let figure = |text: &str, name: &str| value(text, name, &labels);
    assert_eq!(figure(&text, "apiserver_longrunning_requests"), Some(1.0));
    assert_eq!(figure(&text, "apiserver_watch_events_total"), Some(1.0));
    assert_eq!(figure(&text, "apiserver_request_total"), None);
    drop(watch);
    let text = figures(&server).await;
    assert_eq!(figure(&text, "apiserver_longrunning_requests"), Some(0.0));
    assert_eq!(figure(&text, "apiserver_request_total"), Some(1.0));
}

#[tokio::test]
async fn figures_are_for_those_who_may_read_them() {
    let server = Server::start().await;
    server.api.metrics().add(|figures| {
        figures.family("plugged_in", "gauge", "From outside.");
        figures.sample("plugged_in", &[], 7);
    });
    let (status, _) = server
        .call(ALICE, Method::GET, "/metrics", &Value::Null)
        .await;
    assert_eq!(status, 403);
    assert_eq!(value(&figures(&server).await, "plugged_in", &[]), Some(7.0));
}

//! Webhooks that misbehave below HTTP, and how little that costs others.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    bed::{Bed, Reply, Shown, allow, respond},
    raw::{Blackhole, Habit, Raw},
    server::{Server, config_map},
};
use crate::lab::CONFIG_MAPS;

/// The time of the webhooks here, and what a starved machine may add to it.
const TIMEOUT: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(8);

fn webhook(client: Value, policy: &str) -> Value {
    json!({
        "clientConfig": client, "failurePolicy": policy, "timeoutSeconds": TIMEOUT.as_secs(),
    })
}

/// Asks the webhook at `client`, as both kinds and by both policies.
async fn judge(what: &str, client: Value, expect: &str) {
    for mutating in [true, false] {
        let server = Server::start().await;
        let ignored = webhook(client.clone(), "Ignore");
        server.configure(mutating, "a", &[ignored]).await;
        let begun = Instant::now();
        let answer = server.post(CONFIG_MAPS, config_map("a")).await;
        assert_eq!(
            answer.code,
            StatusCode::CREATED,
            "{what}: {:?}",
            answer.body
        );
        assert!(
            begun.elapsed() < TIMEOUT + SLACK,
            "{what}: {:?}",
            begun.elapsed()
        );
        let minded = webhook(client.clone(), "Fail");
        server.configure(mutating, "b", &[minded]).await;
        let answer = server.post(CONFIG_MAPS, config_map("b")).await;
        assert_eq!(answer.code.as_u16(), 500, "{what}");
        assert_eq!(answer.body["reason"], "InternalError");
        let start = "Internal error occurred: failed calling webhook \"w.example.com\": failed to \
                     call webhook: ";
        assert!(
            answer.message().starts_with(start) && answer.message().contains(expect),
            "{what}: {}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn whatever_is_behind_the_port_costs_its_timeout_at_most() {
    for (habit, expect) in [
        (Habit::Mute, "context deadline exceeded"),
        (Habit::SlowHeaders, "context deadline exceeded"),
        (Habit::SlowBody, "context deadline exceeded"),
        (Habit::Plain, ""),
        (Habit::Noise, ""),
        (Habit::EndlessBody, "the answer is larger than"),
        (Habit::EndlessHeaders, ""),
        // What was sent before may be lost.
        (Habit::Reset, "read: connection reset by peer"),
        (
            Habit::Short,
            "unexpected error when reading response body. Please retry. Original error: \
             unexpected EOF",
        ),
        (Habit::Gone, "EOF"),
    ] {
        let raw = Raw::start(habit).await;
        let client = json!({
            "url": format!("https://{}/x", raw.address), "caBundle": raw.bundle,
        });
        judge(&format!("{habit:?}"), client, expect).await;
    }
}

#[tokio::test]
async fn a_connection_that_is_not_taken_costs_the_timeout() {
    let hole = Blackhole::start().await;
    let client = json!({"url": format!("https://{}/x", hole.address)});
    judge("blackhole", client, "context deadline exceeded").await;
}

#[tokio::test]
async fn a_certificate_holds_for_its_time() {
    for (shown, expect) in [
        (
            Shown::Expired,
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
        ),
        (
            Shown::NotYet,
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
        ),
    ] {
        let bed = Bed::showing(shown, |_, review| allow(review)).await;
        judge(&format!("{shown:?}"), bed.client("/x"), expect).await;
        assert!(bed.paths().is_empty(), "nobody was asked");
    }
}

#[tokio::test]
async fn answers_that_say_something_else_are_told_apart() {
    let review = |change: fn(&mut Value)| {
        move |review: &Value| {
            let mut answer = json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": {"uid": review["request"]["uid"], "allowed": true},
            });
            change(&mut answer);
            Reply::Json(answer)
        }
    };
    let version = review(|answer| answer["apiVersion"] = json!("admission.k8s.io/v2"));
    let kind = review(|answer| answer["kind"] = json!("Review"));
    let allowed = review(|answer| answer["response"]["allowed"] = json!("yes"));
    let response = review(|answer| answer["response"] = json!([]));
    let patch = review(|answer| {
        answer["response"]["patchType"] = json!("JSONPatch");
        answer["response"]["patch"] = json!("!!!");
    });
    let bed = Bed::start(move |path, review| match path {
        "/version" => version(review),
        "/kind" => kind(review),
        "/allowed" => allowed(review),
        "/response" => response(review),
        "/patch" => patch(review),
        "/text" => Reply::Typed("text/plain", "{}"),
        "/html" => Reply::Typed("text/html; charset=utf-8", "<html>"),
        "/empty" => Reply::Typed("application/json", ""),
        "/503" => Reply::Code(503, "busy"),
        "/301" => Reply::Code(301, ""),
        "/status" => Reply::Code(400, r#"{"kind":"Status","message":"mm"}"#),
        _ => allow(review),
    })
    .await;
    for (path, expect) in [
        (
            "/allowed",
            "json: cannot unmarshal string into Go struct field AdmissionResponse.response.allowed of type bool",
        ),
        (
            "/response",
            "json: cannot unmarshal array into Go struct field AdmissionReview.response of type v1.AdmissionResponse",
        ),
        ("/patch", "illegal base64 data at input byte 0"),
        ("/text", "serializer for text/plain doesn't exist"),
        (
            "/html",
            "serializer for text/html; charset=utf-8 doesn't exist",
        ),
        ("/empty", "0-length response with status code: 200"),
        (
            "/503",
            "the server is currently unable to handle the request",
        ),
        ("/301", "the server responded with the status code 301"),
        (
            "/status",
            "the server rejected our request for an unknown reason",
        ),
    ] {
        judge(path, bed.client(path), expect).await;
    }
    for (path, expect) in [
        ("/version", "got admission.k8s.io/v2, Kind=AdmissionReview"),
        ("/kind", "got admission.k8s.io/v1, Kind=Review"),
    ] {
        let server = Server::start().await;
        let minded = webhook(bed.client(path), "Fail");
        server.configure(false, "v", &[minded]).await;
        let answer = server.post(CONFIG_MAPS, config_map("a")).await;
        assert!(answer.message().ends_with(expect), "{}", answer.message());
    }
}

#[tokio::test]
async fn a_permission_with_a_status_is_one_and_warnings_are_bounded() {
    let bed = Bed::start(|_, review| {
        let many: Vec<String> = (0..5000)
            .map(|at| format!("{at} {}", "w".repeat(500)))
            .collect();
        respond(
            review,
            json!({
                "allowed": true, "warnings": many,
                "status": {"code": 403, "message": "never mind", "reason": "Forbidden"},
            }),
        )
    })
    .await;
    let server = Server::start().await;
    server
        .configure(false, "v", &[json!({"clientConfig": bed.client("/v")})])
        .await;
    let answer = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{:?}", answer.body);
    let bytes: usize = answer.warnings.iter().map(String::len).sum();
    assert!(!answer.warnings.is_empty() && bytes < 8192, "{bytes} bytes");
}

#[tokio::test]
async fn a_webhook_that_hangs_delays_nobody_else_under_load() {
    let bed = Bed::start(|path, review| match path {
        "/hang" => Reply::Hang,
        _ => allow(review),
    })
    .await;
    let server = Server::start().await;
    // It would hang for longer than the test may take.
    let rules = |resource: &str| {
        json!([{
            "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": [resource],
        }])
    };
    let webhooks = [
        json!({
            "name": "hang.example.com", "clientConfig": bed.client("/hang"),
            "rules": rules("secrets"), "timeoutSeconds": 30,
        }),
        json!({
            "name": "quick.example.com", "clientConfig": bed.client("/quick"),
            "rules": rules("configmaps"), "timeoutSeconds": 30,
        }),
    ];
    server.configure(false, "v", &webhooks).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let stuck = futures::future::join_all((0..50).map(|number| {
        let secret = json!({"metadata": {"name": format!("s{number}")}});
        server.post(secrets, secret)
    }));
    let others = async {
        let begun = Instant::now();
        for round in 0..20 {
            let asked = server.post(CONFIG_MAPS, config_map(&format!("c{round}")));
            let account = json!({"metadata": {"name": format!("a{round}")}});
            let unasked = server.post("/api/v1/namespaces/default/serviceaccounts", account);
            let (asked, unasked) = tokio::join!(asked, unasked);
            assert_eq!(asked.code, StatusCode::CREATED, "{:?}", asked.body);
            assert_eq!(unasked.code, StatusCode::CREATED, "{:?}", unasked.body);
        }
        begun.elapsed()
    };
    // The first to end is what does not hang.
    tokio::select! {
        _ = stuck => panic!("nothing that hangs may end first"),
        took = others => assert!(took < Duration::from_secs(25), "{took:?}"),
    }
    let paths = bed.paths();
    let quick = paths.iter().filter(|path| *path == "/quick").count();
    assert_eq!(quick, 20, "who is not meant is not asked");
}

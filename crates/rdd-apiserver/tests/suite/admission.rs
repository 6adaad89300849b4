//! Webhooks that behave, and webhooks that misbehave in every way that the protocol allows for.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

mod bed;
mod conversion;
mod hostile;
mod mutations;
mod pairs;
mod policies;
mod raw;
mod requests;
mod server;

use crate::lab::CONFIG_MAPS;
use bed::{Bed, Reply, Shown, allow, patch, respond};
use rdd_admission::AdmissionChain;
use rdd_apiserver::Services;
use server::{Server, config_map};

#[tokio::test]
async fn a_validating_webhook_sees_the_write_and_may_refuse_it() {
    let bed = Bed::start(|_, review| match review["request"]["name"].as_str() {
        Some("bad") => respond(
            review,
            json!({"allowed": false, "status": {"code": 418, "message": "nope", "reason": "Teapot"}}),
        ),
        Some("mute") => respond(review, json!({"allowed": false})),
        Some("low") => respond(
            review,
            json!({"allowed": false, "status": {"code": 200, "reason": "Because"}}),
        ),
        _ => respond(review, json!({"allowed": true, "warnings": ["careful"]})),
    })
    .await;
    let server = Server::start().await;
    server
        .configure(false, "v", &[json!({"clientConfig": bed.client("/v")})])
        .await;
    let path = format!("{CONFIG_MAPS}?fieldManager=me");
    let good = server.post(&path, config_map("good")).await;
    assert_eq!(good.code, StatusCode::CREATED);
    assert_eq!(good.warnings, ["299 - \"careful\""]);
    let (path, review) = bed.questions().remove(0);
    assert_eq!(path, "/v");
    assert_eq!(review["kind"], "AdmissionReview");
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    let request = &review["request"];
    let config_maps = json!({"group": "", "version": "v1", "resource": "configmaps"});
    for (field, expect) in [
        ("operation", json!("CREATE")),
        ("name", json!("good")),
        ("namespace", json!("default")),
        ("dryRun", json!(false)),
        ("oldObject", Value::Null),
        ("resource", config_maps.clone()),
        ("requestResource", config_maps),
        (
            "kind",
            json!({"group": "", "version": "v1", "kind": "ConfigMap"}),
        ),
        (
            "options",
            json!({
                "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me",
            }),
        ),
    ] {
        assert_eq!(request[field], expect, "{field}");
    }
    assert_eq!(request["userInfo"]["username"], "admin");
    assert_eq!(request["object"]["kind"], "ConfigMap");
    assert_eq!(request["object"]["data"], json!({"k": "v"}));
    assert!(request["object"]["metadata"]["managedFields"].is_array());

    let said = |text: &str| format!("admission webhook \"w.example.com\" denied the request{text}");
    for (name, code, text, reason) in [
        ("bad", 418, said(": nope"), json!("Teapot")),
        ("mute", 400, said(" without explanation"), Value::Null),
        ("low", 400, said(": Because"), json!("Because")),
    ] {
        let answer = server.post(CONFIG_MAPS, config_map(name)).await;
        assert_eq!(answer.code.as_u16(), code, "{name}");
        assert_eq!(answer.message(), text);
        assert_eq!(answer.body["reason"], reason);
    }
}

#[tokio::test]
async fn a_listed_webhook_that_is_a_rule_of_this_server_is_not_asked_as_well() {
    let bed = Bed::start(|_, review| allow(review)).await;
    let url = bed.client("/own")["url"].clone();
    let url = url.as_str().expect("a URL");
    let rules = AdmissionChain::default().listed([("w.example.com".to_owned(), url.to_owned())]);
    let server = Server::with(rules, Services::default()).await;
    let own = json!({"clientConfig": bed.client("/own")});
    let elsewhere = json!({"clientConfig": bed.client("/other")});
    server
        .configure(false, "v", std::slice::from_ref(&own))
        .await;
    server.configure(true, "m", &[own]).await;
    let made = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(made.code, StatusCode::CREATED);
    assert_eq!(bed.paths(), [""; 0]);
    // Another one of that name is somebody else's.
    server.configure(false, "w", &[elsewhere]).await;
    server.post(CONFIG_MAPS, config_map("b")).await;
    assert_eq!(bed.paths(), ["/other"]);
}

#[tokio::test]
async fn updates_and_deletions_are_put_before_webhooks_too() {
    let bed = Bed::start(|_, review| allow(review)).await;
    let server = Server::start().await;
    server.post(CONFIG_MAPS, config_map("a")).await;
    server
        .configure(false, "v", &[json!({"clientConfig": bed.client("/v")})])
        .await;
    let path = format!("{CONFIG_MAPS}/a");
    let change = json!({"data": {"k": "w"}});
    server.send(Method::PATCH, &path, change).await;
    server.send(Method::DELETE, &path, Value::Null).await;
    server.post(CONFIG_MAPS, config_map("b")).await;
    server.send(Method::DELETE, CONFIG_MAPS, Value::Null).await;
    let seen: Vec<Value> = bed
        .questions()
        .into_iter()
        .map(|(_, review)| {
            let request = &review["request"];
            json!([
                request["operation"],
                request["name"],
                request["options"]["kind"],
                request["object"]["data"]["k"],
                request["oldObject"]["data"]["k"],
            ])
        })
        .collect();
    assert_eq!(
        seen,
        [
            json!(["UPDATE", "a", "UpdateOptions", "w", "v"]),
            json!(["DELETE", "a", "DeleteOptions", null, "w"]),
            json!(["CREATE", "b", "CreateOptions", "v", null]),
            json!(["DELETE", null, "DeleteOptions", null, "v"]),
        ]
    );
}

#[tokio::test]
async fn mutating_webhooks_run_by_name_and_those_that_ask_for_it_run_again() {
    let bed = Bed::start(|path, review| {
        let data = &review["request"]["object"]["data"];
        let add = |key: &str| json!([{"op": "add", "path": format!("/data/{key}"), "value": "1"}]);
        match path {
            "/first" if data.get("third").is_some() => patch(review, &add("again")),
            "/first" => patch(review, &add("first")),
            "/second" => patch(review, &add("second")),
            _ => patch(review, &add("third")),
        }
    })
    .await;
    let server = Server::start().await;
    let webhook = |path: &str, reinvocation: &str| {
        json!({
            "name": format!("{}.example.com", &path[1..]), "clientConfig": bed.client(path),
            "reinvocationPolicy": reinvocation,
        })
    };
    server
        .configure(true, "b", &[webhook("/third", "Never")])
        .await;
    server
        .configure(
            true,
            "a",
            &[webhook("/first", "IfNeeded"), webhook("/second", "Never")],
        )
        .await;
    let made = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(bed.paths(), ["/first", "/second", "/third", "/first"]);
    assert_eq!(
        made.body["data"],
        json!({"k": "v", "first": "1", "second": "1", "third": "1", "again": "1"})
    );
    let fields = made.body["metadata"]["managedFields"].to_string();
    assert!(!fields.contains("first"), "{fields}");
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_properly_is_a_refusal_or_is_ignored() {
    let bed = Bed::start(|path, review| match path {
        "/uid" => Reply::Json(json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": "x", "allowed": true},
        })),
        "/kind" => {
            let uid = &review["request"]["uid"];
            Reply::Json(json!({"response": {"uid": uid, "allowed": true}}))
        }
        "/absent" => Reply::Json(json!({})),
        "/500" => Reply::Code(500, "boom"),
        "/404" => Reply::Code(404, ""),
        "/redirect" => Reply::Code(302, ""),
        "/garbage" => Reply::Garbage,
        "/endless" => Reply::Endless,
        "/hang" => Reply::Hang,
        "/close" => Reply::Close,
        "/type" => respond(
            review,
            json!({"allowed": true, "patchType": "Merge", "patch": "W3t9XQ=="}),
        ),
        "/half" => respond(review, json!({"allowed": true, "patch": "W3t9XQ=="})),
        _ => allow(review),
    })
    .await;
    let post = |path: &str, text: &str| {
        format!(
            "failed to call webhook: Post \"https://{}{path}?timeout=1s\": {text}",
            bed.address
        )
    };
    for (path, expect) in [
        (
            "/uid",
            "received invalid webhook response: expected response.uid=".to_owned(),
        ),
        (
            "/kind",
            "received invalid webhook response: expected webhook response of \
             admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="
                .to_owned(),
        ),
        (
            "/absent",
            "received invalid webhook response: webhook response was absent".to_owned(),
        ),
        (
            "/500",
            "failed to call webhook: an error on the server (\"boom\") has prevented the request \
             from succeeding"
                .to_owned(),
        ),
        (
            "/404",
            "failed to call webhook: the server could not find the requested resource".to_owned(),
        ),
        (
            "/redirect",
            "failed to call webhook: the server responded with the status code 302 but did not \
             return more information"
                .to_owned(),
        ),
        (
            "/garbage",
            "failed to call webhook: couldn't get version/kind; json parse error: ".to_owned(),
        ),
        ("/endless", post("/endless", "the answer is larger than")),
        ("/hang", post("/hang", "context deadline exceeded")),
        ("/close", post("/close", "EOF")),
        ("/type", "unsupported patch type \"Merge\"".to_owned()),
        (
            "/half",
            "received invalid webhook response: webhook returned response.patch but not \
             response.patchType"
                .to_owned(),
        ),
    ] {
        let server = Server::start().await;
        let webhook = |policy: &str| {
            json!({
                "clientConfig": bed.client(path), "failurePolicy": policy, "timeoutSeconds": 1,
            })
        };
        server.configure(true, "m", &[webhook("Ignore")]).await;
        let answer = server.post(CONFIG_MAPS, config_map("ignored")).await;
        assert_eq!(
            answer.code,
            StatusCode::CREATED,
            "{path}: {:?}",
            answer.body
        );
        server.configure(true, "n", &[webhook("Fail")]).await;
        let answer = server.post(CONFIG_MAPS, config_map("refused")).await;
        assert_eq!(answer.code.as_u16(), 500, "{path}");
        assert_eq!(answer.body["reason"], "InternalError");
        let start =
            format!("Internal error occurred: failed calling webhook \"w.example.com\": {expect}");
        assert!(
            answer.message().starts_with(&start),
            "{path}: {}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn a_patch_that_does_not_fit_is_never_excused() {
    let bed = Bed::start(|path, review| match path {
        "/broken" => patch(
            review,
            &json!([{"op": "replace", "path": "/no/such", "value": 1}]),
        ),
        "/malformed" => patch(review, &json!({"op": "add"})),
        "/typed" => patch(
            review,
            &json!([{"op": "replace", "path": "/data", "value": "text"}]),
        ),
        "/kind" => patch(
            review,
            &json!([{"op": "replace", "path": "/kind", "value": "Secret"}]),
        ),
        "/untyped" => patch(review, &json!([{"op": "remove", "path": "/kind"}])),
        "/renamed" => {
            let rename = json!([{"op": "replace", "path": "/metadata/name", "value": "other"}]);
            patch(review, &rename)
        }
        _ => patch(
            review,
            &json!([{"op": "add", "path": "/data/x", "value": "y"}]),
        ),
    })
    .await;
    for (path, code) in [
        ("/broken", 500),
        // What is no patch at all is a failed call.
        ("/malformed", 201),
        ("/typed", 500),
        ("/kind", 500),
        ("/untyped", 201),
        // A new object may be given another name.
        ("/renamed", 201),
    ] {
        let server = Server::start().await;
        let webhook = json!({"clientConfig": bed.client(path), "failurePolicy": "Ignore"});
        server.configure(true, "m", &[webhook]).await;
        let answer = server.post(CONFIG_MAPS, config_map("a")).await;
        assert_eq!(answer.code.as_u16(), code, "{path}: {:?}", answer.body);
    }
    let server = Server::start().await;
    server.post(CONFIG_MAPS, config_map("a")).await;
    server
        .configure(true, "m", &[json!({"clientConfig": bed.client("/delete")})])
        .await;
    let path = format!("{CONFIG_MAPS}/a");
    let answer = server.send(Method::DELETE, &path, Value::Null).await;
    assert_eq!(
        answer.message(),
        "Internal error occurred: admission webhook \"w.example.com\" attempted to modify the \
         object, which is not supported for this operation"
    );
}

#[tokio::test]
async fn who_is_not_trusted_or_not_there_is_not_asked() {
    let server = Server::start().await;
    let other = Bed::start(|_, review| allow(review)).await;
    let misnamed = Bed::showing(Shown::ForAnotherName, |_, review| allow(review)).await;
    let closed = {
        let bed = Bed::start(|_, review| allow(review)).await;
        bed.client("/x")
    };
    let untrusted = json!({
        "url": format!("https://{}/x", other.address), "caBundle": misnamed.bundle,
    });
    let service = json!({"service": {"name": "s", "namespace": "n", "path": "/x", "port": 8443}});
    let bad_bundle = json!({"url": "https://127.0.0.1:1/x", "caBundle": "Cg=="});
    for (name, client, expect) in [
        ("closed", closed, "connect: connection refused"),
        (
            "untrusted",
            untrusted,
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        (
            "misnamed",
            misnamed.client("/x"),
            "tls: failed to verify certificate: x509: certificate is valid for \
             elsewhere.example.com, not 127.0.0.1",
        ),
        (
            "service",
            service,
            "Post \"https://s.n.svc:8443/x?timeout=5s\": service \"s\" not found",
        ),
        (
            "bundle",
            bad_bundle,
            "could not get REST client: unable to load root certificates: unable to parse bytes \
             as PEM block",
        ),
    ] {
        server
            .configure(false, name, &[json!({"clientConfig": client})])
            .await;
        let answer = server.post(CONFIG_MAPS, config_map("a")).await;
        assert_eq!(answer.code.as_u16(), 500, "{name}");
        assert!(
            answer.message().ends_with(expect),
            "{name}: {}",
            answer.message()
        );
        let path =
            format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{name}");
        server.send(Method::DELETE, &path, Value::Null).await;
    }
}

#[tokio::test]
async fn a_service_is_found_where_the_server_was_told_it_is() {
    let bed = Bed::start(|_, review| allow(review)).await;
    let services = Services::default().with("tools", "hook", &bed.address.to_string());
    let server = Server::with(AdmissionChain::default(), services).await;
    let client = json!({
        "service": {"namespace": "tools", "name": "hook", "path": "/deep/er"},
        "caBundle": bed.bundle,
    });
    server
        .configure(false, "v", &[json!({"clientConfig": client})])
        .await;
    let answer = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{:?}", answer.body);
    assert_eq!(bed.paths(), ["/deep/er"]);
}

#[tokio::test]
async fn a_certificate_that_signs_for_itself_is_taken_when_it_is_in_the_bundle() {
    let bed = Bed::showing(Shown::ItsOwn, |_, review| allow(review)).await;
    let server = Server::start().await;
    server
        .configure(false, "v", &[json!({"clientConfig": bed.client("/v")})])
        .await;
    let answer = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{:?}", answer.body);
}

#[tokio::test]
async fn connections_are_kept_and_what_is_not_meant_is_not_asked() {
    let bed = Bed::start(|_, review| allow(review)).await;
    let server = Server::start().await;
    let client = bed.client("/v");
    let webhooks = [
        json!({"name": "a.example.com", "clientConfig": client}),
        json!({
            "name": "b.example.com", "clientConfig": client,
            "objectSelector": {"matchLabels": {"l": "other"}},
        }),
        json!({
            "name": "c.example.com", "clientConfig": client,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}},
        }),
        json!({
            "name": "d.example.com", "clientConfig": client,
            "rules": [{
                "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
                "resources": ["*/*"], "scope": "Cluster",
            }],
        }),
    ];
    server.configure(false, "v", &webhooks).await;
    for name in ["a", "b", "c"] {
        server.post(CONFIG_MAPS, config_map(name)).await;
    }
    assert_eq!(bed.paths().len(), 3);
    assert_eq!(bed.connections(), 1);
    // No webhook is asked about webhooks.
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/v";
    let gone = server.send(Method::DELETE, path, Value::Null).await;
    assert_eq!(gone.code, StatusCode::OK);
    assert_eq!(bed.paths().len(), 0);
}

#[tokio::test]
async fn a_dry_run_asks_only_those_that_have_no_side_effects_then() {
    let bed = Bed::start(|_, review| allow(review)).await;
    let server = Server::start().await;
    let webhook = json!({"clientConfig": bed.client("/v"), "sideEffects": "NoneOnDryRun"});
    server.configure(false, "v", &[webhook]).await;
    let path = format!("{CONFIG_MAPS}?dryRun=All");
    let answer = server.post(&path, config_map("a")).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    let (_, review) = bed.questions().remove(0);
    assert_eq!(review["request"]["dryRun"], true);
    assert_eq!(review["request"]["options"]["dryRun"], json!(["All"]));
}

#[tokio::test]
async fn a_webhook_that_hangs_costs_its_timeout_and_nothing_else() {
    let bed = Bed::start(|path, review| match path {
        "/hang" => Reply::Hang,
        _ => allow(review),
    })
    .await;
    let server = Server::start().await;
    let webhook = |path: &str| {
        json!({
            "name": format!("{}.example.com", &path[1..]), "clientConfig": bed.client(path),
            "timeoutSeconds": 1, "failurePolicy": "Ignore",
        })
    };
    server
        .configure(false, "v", &[webhook("/hang"), webhook("/quick")])
        .await;
    let begun = Instant::now();
    let slow = server.post(CONFIG_MAPS, config_map("a"));
    let other = server.post("/api/v1/namespaces", json!({"metadata": {"name": "free"}}));
    let (slow, other) = tokio::join!(slow, async {
        let other = other.await;
        (other, begun.elapsed())
    });
    assert_eq!(slow.code, StatusCode::CREATED);
    assert_eq!(other.0.code, StatusCode::CREATED);
    assert!(other.1 < Duration::from_millis(900), "{:?}", other.1);
}

#[tokio::test]
async fn a_generated_name_is_not_known_to_mutating_webhooks() {
    let bed = Bed::start(|_, review| allow(review)).await;
    let server = Server::start().await;
    let client = bed.client("/w");
    server
        .configure(true, "m", &[json!({"clientConfig": client})])
        .await;
    server
        .configure(false, "v", &[json!({"clientConfig": client})])
        .await;
    let made = server
        .post(CONFIG_MAPS, json!({"metadata": {"generateName": "g-"}}))
        .await;
    let name = made.body["metadata"]["name"].as_str().expect("a name");
    assert!(name.starts_with("g-"), "{name}");
    let questions = bed.questions();
    assert!(questions[0].1["request"].get("name").is_none());
    assert_eq!(questions[1].1["request"]["name"], name);
}

#[tokio::test]
async fn another_version_of_the_resource_is_put_in_the_words_of_the_rule() {
    let bed = Bed::start(|_, review| {
        let add = json!([{"op": "add", "path": "/note", "value": "changed"}]);
        patch(review, &add)
    })
    .await;
    let server = Server::start().await;
    let rules = json!([{
        "operations": ["CREATE"], "apiGroups": ["events.k8s.io"], "apiVersions": ["v1"],
        "resources": ["events"],
    }]);
    let webhook = |name: &str, policy: &str| {
        json!({
            "name": name, "clientConfig": bed.client("/w"), "rules": rules, "matchPolicy": policy,
        })
    };
    server
        .configure(
            true,
            "m",
            &[
                webhook("exact.example.com", "Exact"),
                webhook("equivalent.example.com", "Equivalent"),
            ],
        )
        .await;
    let event = json!({
        "metadata": {"name": "e"}, "message": "m", "reason": "R",
        "involvedObject": {"kind": "ConfigMap", "name": "a", "namespace": "default"},
    });
    let made = server
        .post("/api/v1/namespaces/default/events", event)
        .await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    assert_eq!(made.body["message"], "changed");
    let questions = bed.questions();
    assert_eq!(questions.len(), 1);
    let request = &questions[0].1["request"];
    assert_eq!(request["kind"]["group"], "events.k8s.io");
    assert_eq!(request["requestKind"]["group"], "");
    assert_eq!(request["object"]["apiVersion"], "events.k8s.io/v1");
    assert_eq!(request["object"]["note"], "m");
}

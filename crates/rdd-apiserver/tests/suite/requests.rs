//! Whole requests: objects, lists, watches, patches, and what is refused.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use rdd_admission::{
    AdmissionChain, AdmissionRequest, Admit, Admitted, Denial, Frame, Matches, Operation, Phase,
};
use serde_json::{Value, json};

use crate::lab::{CONFIG_MAPS, DEFINITIONS, Lab, WIDGETS, definition, read, whole};

fn config_map(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": label}}, "data": {"k": "v"}})
}

fn widgets_definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    definition(schema, json!({"subresources": {"status": {}}}))
}

#[tokio::test]
async fn an_object_lives_and_a_watch_sees_every_step() {
    let server = Lab::start(|_| {}).await;
    let mut watch = server
        .watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=l%3D1"))
        .await;
    let (status, made) = server
        .call(Method::POST, CONFIG_MAPS, config_map("a", "1"))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("{CONFIG_MAPS}/a");
    let relabel = json!({"metadata": {"labels": {"l": "2"}}});
    watch.expect("ADDED", "a").await;
    server
        .call(Method::PATCH, &path, json!({"data": {"k": "w"}}))
        .await;
    watch.expect("MODIFIED", "a").await;
    // Leaving the selector looks like a deletion: the old object, the new revision.
    let (_, moved) = server.call(Method::PATCH, &path, relabel).await;
    let gone = watch.expect("DELETED", "a").await;
    assert_eq!(gone["object"]["metadata"]["labels"]["l"], "1");
    assert_eq!(
        gone["object"]["metadata"]["resourceVersion"],
        moved["metadata"]["resourceVersion"]
    );
    let (status, answer) = server.call(Method::DELETE, &path, Value::Null).await;
    assert_eq!(
        (status, &answer["status"]),
        (StatusCode::OK, &json!("Success"))
    );
    let (status, _) = server.call(Method::GET, &path, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_write_that_changes_nothing_takes_no_revision() {
    let server = Lab::start(|_| {}).await;
    let (_, made) = server
        .call(Method::POST, CONFIG_MAPS, config_map("a", "1"))
        .await;
    let path = format!("{CONFIG_MAPS}/a");
    let (status, same) = server
        .call(Method::PATCH, &path, json!({"data": {"k": "v"}}))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(same, made);
    let (status, same) = server.call(Method::PUT, &path, made.clone()).await;
    assert_eq!((status, &same), (StatusCode::OK, &made));
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_to_resume_from() {
    let server = Lab::start(|_| {}).await;
    server
        .call(Method::POST, CONFIG_MAPS, config_map("a", "1"))
        .await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                 &allowWatchBookmarks=true&labelSelector=l";
    let mut watch = server.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    watch.expect("ADDED", "a").await;
    let bookmark = watch.next().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    let metadata = &bookmark["object"]["metadata"];
    assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
    let revision = metadata["resourceVersion"]
        .as_str()
        .expect("a revision")
        .to_owned();
    server
        .call(Method::POST, CONFIG_MAPS, config_map("b", "1"))
        .await;
    let path = format!("{CONFIG_MAPS}?watch=true&labelSelector=l&resourceVersion={revision}");
    server.watch(&path).await.expect("ADDED", "b").await;
    watch.expect("ADDED", "b").await;
}

#[tokio::test]
async fn concurrent_patches_without_a_version_never_conflict() {
    let server = Arc::new(Lab::start(|_| {}).await);
    server
        .call(Method::POST, CONFIG_MAPS, config_map("a", "1"))
        .await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..16 {
        let server = Arc::clone(&server);
        tasks.spawn(async move {
            let patch = json!({"data": {format!("k{index}"): "v"}});
            server
                .call(Method::PATCH, &format!("{CONFIG_MAPS}/a"), patch)
                .await
                .0
        });
    }
    while let Some(status) = tasks.join_next().await {
        assert_eq!(status.expect("no panic"), StatusCode::OK);
    }
    let (_, object) = server
        .call(Method::GET, &format!("{CONFIG_MAPS}/a"), Value::Null)
        .await;
    assert_eq!(
        object["data"].as_object().map(serde_json::Map::len),
        Some(17)
    );
}

#[tokio::test]
async fn pages_show_one_moment() {
    let server = Lab::start(|_| {}).await;
    for name in ["a", "b", "c"] {
        server
            .call(Method::POST, CONFIG_MAPS, config_map(name, "1"))
            .await;
    }
    let base = format!("{CONFIG_MAPS}?limit=2");
    let (_, first) = server.call(Method::GET, &base, Value::Null).await;
    assert_eq!(first["items"].as_array().map(Vec::len), Some(2));
    server
        .call(Method::DELETE, &format!("{CONFIG_MAPS}/c"), Value::Null)
        .await;
    let token = first["metadata"]["continue"]
        .as_str()
        .expect("there is more");
    let (_, second) = server
        .call(
            Method::GET,
            &format!("{base}&continue={token}"),
            Value::Null,
        )
        .await;
    assert_eq!(second["items"][0]["metadata"]["name"], "c");
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn a_definition_is_served_when_its_create_returns_and_ends_its_watches_when_it_changes() {
    let server = Lab::start(|_| {}).await;
    let (status, answer) = server
        .call(Method::POST, DEFINITIONS, widgets_definition())
        .await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "w"}, "spec": {"size": 1, "extra": true}, "status": {"x": 1}});
    let (status, made) = server.call(Method::POST, WIDGETS, widget).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(
        (&made["spec"], made.get("status")),
        (&json!({"size": 1}), None)
    );
    let mut widgets = server.watch(&format!("{WIDGETS}?watch=true")).await;
    let mut others = server
        .watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=l"))
        .await;
    widgets.expect("ADDED", "w").await;
    let column = json!([{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]);
    let mut version = widgets_definition()["spec"]["versions"][0].clone();
    version["additionalPrinterColumns"] = column;
    let patch = json!({"spec": {"versions": [version]}});
    let (status, answer) = server
        .call(
            Method::PATCH,
            &format!("{DEFINITIONS}/widgets.example.com"),
            patch,
        )
        .await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        widgets.next().await,
        None,
        "the watch of the changed resource ends"
    );
    server
        .call(Method::POST, CONFIG_MAPS, config_map("a", "1"))
        .await;
    others.expect("ADDED", "a").await;
}

#[tokio::test]
async fn a_timeout_is_read_before_all_else() {
    let server = Lab::start(|_| {}).await;
    for path in ["/nowhere", "/version", "/api/v1/nowhere", CONFIG_MAPS] {
        let path = format!("{path}?timeout=soon");
        let (code, status) = server.call(Method::GET, &path, Value::Null).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(
            status["message"],
            "invalid timeout specified in the request URL - time: invalid duration \"soon\""
        );
    }
    let path = format!("{CONFIG_MAPS}?watch=1&timeout=soon&timeoutSeconds=1");
    let (code, _) = server.call(Method::GET, &path, Value::Null).await;
    assert_eq!(code, StatusCode::OK);
}

#[tokio::test]
async fn a_list_of_any_length_holds_every_object_once() {
    let server = Lab::start(|_| {}).await;
    let long = "x".repeat(2_000);
    for number in 100..220 {
        let mut object = config_map(&format!("c{number}"), "a");
        object["data"]["k"] = json!(long);
        let (code, _) = server.call(Method::POST, CONFIG_MAPS, object).await;
        assert_eq!(code, StatusCode::CREATED);
        let (_, list) = server.call(Method::GET, CONFIG_MAPS, Value::Null).await;
        let items = list["items"].as_array().expect("a list");
        let names = items.iter().map(|item| &item["metadata"]["name"]);
        let wanted = (100..=number).map(|number| json!(format!("c{number}")));
        let ours = names.filter(|name| *name != "kube-root-ca.crt");
        assert!(ours.eq(&wanted.collect::<Vec<_>>()), "after {number}");
    }
    // The long ones count as well, whose size is not known before they are sent.
    let sent: usize = (1..=120).map(|count| count * long.len()).sum();
    let answer = server
        .send(Method::GET, "/metrics", "text/plain", Bytes::new())
        .await;
    let text = whole(answer.into_body()).await;
    let text = String::from_utf8(text.to_vec()).expect("text");
    let counted = text.lines().find(|line| {
        line.starts_with("apiserver_response_sizes_sum")
            && line.contains("LIST")
            && line.contains("configmaps")
    });
    let counted = counted.and_then(|line| line.rsplit(' ').next());
    let counted: f64 = counted.expect("a figure").parse().expect("a number");
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    let least = sent as f64;
    assert!(counted > least, "{counted} of {least}");
}

#[tokio::test]
async fn the_last_finalizer_takes_the_object_with_it() {
    let server = Lab::start(|_| {}).await;
    let held = json!({"metadata": {"name": "a", "finalizers": ["example.com/f"]}});
    server.call(Method::POST, CONFIG_MAPS, held).await;
    let path = format!("{CONFIG_MAPS}/a");
    let (status, object) = server.call(Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert!(object["metadata"]["deletionTimestamp"].is_string());
    let more = json!({"metadata": {"finalizers": ["example.com/f", "example.com/g"]}});
    let (status, _) = server.call(Method::PATCH, &path, more).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, _) = server
        .call(
            Method::PATCH,
            &path,
            json!({"metadata": {"finalizers": null}}),
        )
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = server.call(Method::GET, &path, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn server_side_apply_tells_whose_field_it_is() {
    let server = Lab::start(|_| {}).await;
    let path = format!("{CONFIG_MAPS}/a");
    let apply = async |manager: &str, value: &str| {
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
            "data": {"k": value}});
        let path = format!("{path}?fieldManager={manager}");
        let body = config.to_string();
        read(
            server
                .send(Method::PATCH, &path, "application/apply-patch+yaml", body)
                .await,
        )
        .await
    };
    assert_eq!(apply("m1", "1").await.0, StatusCode::CREATED);
    let (status, answer) = apply("m2", "2").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        answer["message"],
        "Apply failed with 1 conflict: conflict with \"m1\": .data.k"
    );
}

#[tokio::test]
async fn applying_a_part_of_an_object_that_does_not_exist_makes_none() {
    let server = Lab::start(|_| {}).await;
    server
        .call(Method::POST, DEFINITIONS, widgets_definition())
        .await;
    for (path, config) in [
        (
            format!("{WIDGETS}/gone/status"),
            json!({"apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": "gone"}, "status": {"x": 1}}),
        ),
        (
            "/api/v1/namespaces/gone/status".to_owned(),
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "gone"}, "status": {"phase": "Active"}}),
        ),
    ] {
        let full = format!("{path}?fieldManager=m&force=true");
        let body = config.to_string();
        let applied = server
            .send(Method::PATCH, &full, "application/apply-patch+yaml", body)
            .await;
        assert_eq!(read(applied).await.0, StatusCode::NOT_FOUND, "{path}");
        let object = path.trim_end_matches("/status");
        let (status, _) = server.call(Method::GET, object, Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// Denies deletes, and writes a label into everything that is created.
struct Rule(Frame);

#[async_trait::async_trait]
impl Admit for Rule {
    fn frame(&self) -> &Frame {
        &self.0
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        if request.operation == Operation::Delete {
            return Err(Denial::forbidden(self.name(), "not this one"));
        }
        let mut object = request.object.clone();
        object["metadata"]["labels"]["seen"] = json!("yes");
        Ok(Admitted {
            object: Some(object),
            warnings: vec!["looked at".to_owned()],
        })
    }
}

#[tokio::test]
async fn rules_in_process_speak_like_the_webhooks_they_stand_for() {
    let rule = |phase, operation| -> Arc<dyn Admit> {
        let matches = [Matches::resource("", "configmaps", vec![operation])];
        Arc::new(Rule(Frame::new("rule.example.com", phase, matches)))
    };
    let chain = AdmissionChain::new([
        rule(Phase::Mutating, Operation::Create),
        rule(Phase::Validating, Operation::Delete),
    ]);
    let server = Lab::start(|options| options.admission = chain).await;
    let body = config_map("a", "1").to_string();
    let answer = server
        .send(Method::POST, CONFIG_MAPS, "application/json", body)
        .await;
    assert_eq!(answer.headers()["warning"], "299 - \"looked at\"");
    assert_eq!(read(answer).await.1["metadata"]["labels"]["seen"], "yes");
    let (status, answer) = server
        .call(Method::DELETE, &format!("{CONFIG_MAPS}/a"), Value::Null)
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        answer["message"],
        "admission webhook \"rule.example.com\" denied the request: not this one"
    );
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_depth() {
    let server = Lab::start(|_| {}).await;
    let big = Bytes::from(vec![b' '; 3 * 1024 * 1024 + 1]);
    let (status, answer) = read(
        server
            .send(Method::POST, CONFIG_MAPS, "application/json", big)
            .await,
    )
    .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        answer["message"],
        "Request entity too large: limit is 3145728"
    );
    let deep = Bytes::from("[".repeat(12_000));
    let (status, _) = read(
        server
            .send(Method::POST, CONFIG_MAPS, "application/json", deep)
            .await,
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_kind_that_may_be_on_its_way_is_not_called_unknown() {
    let server = Lab::start(|_| {}).await;
    let get = async |path: &str| server.call(Method::GET, path, Value::Null).await;
    let paths = ["/apis/example.com/v1/widgets", "/apis/example.com/v1"];
    server.api.set_rising(true);
    for path in paths {
        let answer = server
            .send(Method::GET, path, "application/json", Bytes::new())
            .await;
        assert_eq!(answer.headers()["retry-after"], "1", "{path}");
        let (status, body) = read(answer).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        let text = body["message"].as_str().unwrap_or_default();
        assert!(text.ends_with("please retry"), "{path}: {text}");
    }
    let (status, _) = get("/api/v1/namespaces").await;
    assert_eq!(status, StatusCode::OK, "what is known is served");
    server.api.set_rising(false);
    for path in paths {
        assert_eq!(get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_dry_run_creates_with_a_revision_and_the_real_thing_does_not() {
    let server = Lab::start(|_| {}).await;
    let object = |version: &str| json!({"metadata": {"name": "a", "resourceVersion": version}});
    for (query, version, expected) in [
        ("?dryRun=All", "1", StatusCode::CREATED),
        ("", "1", StatusCode::INTERNAL_SERVER_ERROR),
        ("", "0", StatusCode::CREATED),
    ] {
        let path = format!("{CONFIG_MAPS}{query}");
        let (status, answer) = server.call(Method::POST, &path, object(version)).await;
        assert_eq!(status, expected, "{query} {version}: {answer}");
    }
}

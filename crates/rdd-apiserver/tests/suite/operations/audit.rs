//! The audit log.

use std::fs;
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, Method};
use rdd_apiserver::audit::{AuditLog, AuditOptions};
use serde_json::{Value, json};

use super::bed::{ALICE, ROOT, Server};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// A log in a folder of its own.
struct Log {
    folder: PathBuf,
    log: AuditLog,
}

impl Drop for Log {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.folder);
    }
}

impl Log {
    fn attach(server: &Server) -> Self {
        let name = format!("rdd-audit-test-{}", uuid::Uuid::new_v4());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a new folder");
        let log = AuditLog::open(AuditOptions {
            path: folder.join("audit.log"),
            bytes_max: 1024 * 1024,
            keep: 1,
        })
        .expect("opened");
        server.api.set_audit(log.clone());
        Self { folder, log }
    }

    /// What was recorded of requests from outside, after the log is closed.
    async fn read(&self) -> (String, Vec<Value>) {
        self.log.close().await;
        let text = fs::read_to_string(self.folder.join("audit.log")).expect("there");
        let events = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("an event"))
            .filter(|event: &Value| event["userAgent"] == "test/1.0")
            .collect();
        (text, events)
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            let value = value.parse().expect("a value");
            (HeaderName::from_static(name), value)
        })
        .collect()
}

#[tokio::test]
async fn a_write_is_recorded_with_who_what_and_how_it_ended_and_without_its_body() {
    let server = Server::start().await;
    let log = Log::attach(&server);
    let object = json!({
        "metadata": {"generateName": "s-"},
        "stringData": {"password": "hunter2"},
    });
    let path = format!("{SECRETS}?token=hunter2&fieldManager=m");
    let more = headers(&[("audit-id", "my-id"), ("x-forwarded-for", "10.0.0.9")]);
    let answer = server.send(ROOT, Method::POST, &path, more, &object).await;
    assert_eq!(answer.status(), 201);
    let (text, events) = log.read().await;
    assert!(!text.contains("hunter2") && !text.contains(ROOT), "{text}");
    let [event] = events.as_slice() else {
        panic!("{events:?}");
    };
    let name = event["objectRef"]["name"].as_str().unwrap_or_default();
    assert!(name.starts_with("s-") && name.len() > 2, "{event}");
    for (field, expect) in [
        ("/kind", json!("Event")),
        ("/apiVersion", json!("audit.k8s.io/v1")),
        ("/level", json!("Metadata")),
        ("/stage", json!("ResponseComplete")),
        ("/auditID", json!("my-id")),
        ("/verb", json!("create")),
        (
            "/requestURI",
            json!(format!("{SECRETS}?token=REDACTED&fieldManager=m")),
        ),
        ("/user/username", json!("root")),
        (
            "/user/groups",
            json!(["system:masters", "system:authenticated"]),
        ),
        ("/sourceIPs", json!(["10.0.0.9"])),
        ("/objectRef/resource", json!("secrets")),
        ("/objectRef/namespace", json!("default")),
        ("/objectRef/apiVersion", json!("v1")),
        ("/responseStatus/code", json!(201)),
        (
            "/annotations/authorization.k8s.io~1decision",
            json!("allow"),
        ),
    ] {
        assert_eq!(event.pointer(field), Some(&expect), "{field} of {event}");
    }
    for field in ["requestReceivedTimestamp", "stageTimestamp"] {
        let time = event[field].as_str().unwrap_or_default();
        assert_eq!(time.len(), "2026-01-01T00:00:00.000000Z".len(), "{time}");
        assert!(time.ends_with('Z'), "{time}");
    }
}

#[tokio::test]
async fn refusals_and_impersonations_are_recorded() {
    let server = Server::start().await;
    let log = Log::attach(&server);
    let none = &Value::Null;
    server.call("wrong", Method::GET, SECRETS, none).await;
    server.call(ALICE, Method::GET, SECRETS, none).await;
    let as_bob = headers(&[("impersonate-user", "bob")]);
    let path = format!("{SECRETS}/none");
    server.send(ROOT, Method::GET, &path, as_bob, none).await;
    let (_, events) = log.read().await;
    let seen: Vec<Value> = events
        .iter()
        .map(|event| {
            json!([
                event["user"]["username"],
                event["impersonatedUser"]["username"],
                event["verb"],
                event["objectRef"]["name"],
                event["responseStatus"]["reason"],
                event["responseStatus"]["code"],
                event["annotations"]["authorization.k8s.io/decision"],
            ])
        })
        .collect();
    let expect = [
        json!([null, null, "list", null, "Unauthorized", 401, null]),
        json!(["alice", null, "list", null, "Forbidden", 403, "forbid"]),
        json!(["root", "bob", "get", "none", "Forbidden", 403, "forbid"]),
    ];
    assert_eq!(seen, expect);
}

#[tokio::test]
async fn a_watch_is_recorded_when_it_starts_and_when_it_ends() {
    let server = Server::start().await;
    let log = Log::attach(&server);
    let path = format!("{SECRETS}?watch=true&timeoutSeconds=600");
    let watch = server
        .send(ROOT, Method::GET, &path, HeaderMap::new(), &Value::Null)
        .await;
    drop(watch);
    let (_, events) = log.read().await;
    let stages: Vec<&Value> = events.iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, ["ResponseStarted", "ResponseComplete"]);
    assert_eq!(events[0]["auditID"], events[1]["auditID"]);
    assert_eq!(events[1]["verb"], "watch");
}

#[tokio::test]
async fn a_policy_that_audits_leaves_its_word() {
    let server = Server::start().await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({
        "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["secrets"],
            }]},
            "validations": [{"expression": "true"}, {"expression": "false", "message": "never"}],
        },
    });
    let binding = json!({
        "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": ["Audit"]},
    });
    for (plural, object) in [
        ("validatingadmissionpolicies", policy),
        ("validatingadmissionpolicybindings", binding),
    ] {
        let path = format!("{group}/{plural}");
        let (status, text) = server.call(ROOT, Method::POST, &path, &object).await;
        assert_eq!(status, 201, "{text}");
    }
    let log = Log::attach(&server);
    let object = json!({"metadata": {"name": "a"}});
    let (status, text) = server.call(ROOT, Method::POST, SECRETS, &object).await;
    assert_eq!(status, 201, "{text}");
    let (_, events) = log.read().await;
    let failure =
        &events[0]["annotations"]["validation.policy.admission.k8s.io/validation_failure"];
    let failure: Value = serde_json::from_str(failure.as_str().expect("text")).expect("JSON");
    assert_eq!(
        failure,
        json!([{
            "message": "never", "policy": "p", "binding": "b", "expressionIndex": 1,
            "validationActions": ["Audit"],
        }])
    );
}

#[tokio::test]
async fn a_policy_annotates_what_it_judges() {
    let server = Server::start().await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({
        "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["secrets"],
            }]},
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [{"name": "name", "expression": "string(object.metadata.name)"}],
            "auditAnnotations": [
                {"key": "name", "valueExpression": "' ' + variables.name + ' '"},
                {"key": "param", "valueExpression": "string(params.data.word)"},
                {"key": "nothing", "valueExpression": "null"},
                {"key": "blank", "valueExpression": "' '"},
                {"key": "long", "valueExpression": "'é'.replace('é', string(params.data.long))"},
                {"key": "label", "valueExpression": "string(object.metadata.?labels['a'].orValue(''))"},
                {"key": "type", "valueExpression": "variables.name == 'b' ? string(object.nope) : ''"},
            ],
        },
    });
    let binding = |name: &str, param: &str| {
        json!({
            "metadata": {"name": name},
            "spec": {
                "policyName": "p", "validationActions": ["Warn"],
                "paramRef": {"name": param, "parameterNotFoundAction": "Deny"},
            },
        })
    };
    let long = "é".repeat(6000);
    let param = |name: &str, word: &str| json!({"metadata": {"name": name}, "data": {"word": word, "long": long}});
    let maps = "/api/v1/namespaces/default/configmaps";
    let bindings = &format!("{group}/validatingadmissionpolicybindings");
    for (path, object) in [
        (maps, param("one", "1")),
        (maps, param("two", "2")),
        (&format!("{group}/validatingadmissionpolicies"), policy),
        (bindings, binding("b1", "one")),
        (bindings, binding("b2", "two")),
    ] {
        let (status, text) = server.call(ROOT, Method::POST, path, &object).await;
        assert_eq!(status, 201, "{text}");
    }
    let log = Log::attach(&server);
    for (name, code) in [("a", 201), ("b", 422)] {
        let object = json!({"metadata": {"name": name}});
        let (status, text) = server.call(ROOT, Method::POST, SECRETS, &object).await;
        assert_eq!(status, code, "{text}");
        let denies = text.contains(
            "ValidatingAdmissionPolicy 'p' with binding 'b1' denied request: expression \
             'variables.name == 'b' ? string(object.nope) : ''' resulted in error: no such key: nope",
        );
        assert_eq!(denies, code == 422, "{text}");
    }
    let (_, events) = log.read().await;
    let annotations = |event: &Value| -> Vec<(String, String)> {
        let all = event["annotations"].as_object().expect("annotations");
        all.iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("p/")?, value.as_str()?)))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let expect = |name: &str| {
        [
            ("long", "é".repeat(5120).as_str()),
            ("name", name),
            ("param", "1, 2"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    assert_eq!(annotations(&events[0]), expect("a"));
    assert_eq!(annotations(&events[1]), expect("b"));
}

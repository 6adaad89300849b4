//! The server's own workers, over a whole server on a memory store.

use rdd_apiserver::Identity;
use rdd_store::Revision;
use serde_json::{Value, json};

use crate::lab::{DEADLINE, DEFINITIONS, Lab, WIDGETS, definition, sent, usual_type};

struct Server {
    lab: Lab,
    client: kube::Client,
}

impl Server {
    async fn start() -> Self {
        let lab = Lab::start(|_| {}).await;
        let client = lab.api.client(Identity::system("test"));
        Self { lab, client }
    }

    /// A server that does nothing on its own behalf.
    async fn start_idle() -> Self {
        let mut server = Self::start().await;
        server.lab.stop_workers().await;
        server
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Result<Value, u16> {
        let method: http::Method = method.parse().expect("a method");
        let request = http::Request::builder()
            .method(method.clone())
            .uri(path)
            .header("content-type", usual_type(&method))
            .body(sent(&body).to_vec())
            .expect("the request is well-formed");
        match self.client.request(request).await {
            Ok(answer) => Ok(answer),
            Err(kube::Error::Api(status)) => Err(status.code),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    async fn get(&self, path: &str) -> Result<Value, u16> {
        self.send("GET", path, Value::Null).await
    }

    /// Looks at a path after every write until it is as it should be.
    async fn until(&self, path: &str, good: impl Fn(&Result<Value, u16>) -> bool) {
        let mut changes = self
            .lab
            .store
            .changes(Revision::default())
            .expect("a young store remembers everything");
        let waited = tokio::time::timeout(DEADLINE, async {
            while !good(&self.get(path).await) {
                changes.next().await;
            }
        });
        if waited.await.is_err() {
            panic!("{path} stays {:?}", self.get(path).await);
        }
    }

    async fn gone(&self, path: &str) {
        self.until(path, |answer| answer == &Err(404)).await;
    }

    async fn config_map(&self, namespace: &str, name: &str, metadata: Value) -> String {
        let mut object = json!({"metadata": metadata});
        object["metadata"]["name"] = name.into();
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let made = self.send("POST", &path, object).await.expect("it is new");
        made["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    async fn define_widgets(&self) -> Value {
        self.send("POST", DEFINITIONS, widgets())
            .await
            .expect("the definition is valid")
    }

    async fn finish(self) {
        self.lab.end().await;
    }
}

fn widgets() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    definition(schema, json!({}))
}

fn owned_by(uid: &str, blocks: bool) -> Value {
    json!({"ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid,
        "blockOwnerDeletion": blocks,
    }]})
}

#[tokio::test]
async fn a_namespace_is_furnished_and_what_is_taken_away_comes_back() {
    let server = Server::start().await;
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    let bundle = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";
    server.until(account, Result::is_ok).await;
    let is_root = |answer: &Result<Value, u16>| {
        answer
            .as_ref()
            .is_ok_and(|one| one["data"]["ca.crt"] == "the root")
    };
    server.until(bundle, is_root).await;
    server
        .send("DELETE", bundle, Value::Null)
        .await
        .expect("it is there");
    server.until(bundle, is_root).await;
    let wrong = json!({"data": {"ca.crt": "another"}});
    server
        .send("PATCH", bundle, wrong)
        .await
        .expect("it is there");
    server.until(bundle, is_root).await;
    server.finish().await;
}

#[tokio::test]
async fn a_namespace_waits_for_the_finalizers_in_it_and_says_so() {
    let server = Server::start().await;
    let namespace = json!({"metadata": {"name": "n"}});
    server
        .send("POST", "/api/v1/namespaces", namespace)
        .await
        .expect("it is new");
    let held = json!({"finalizers": ["example.com/f"]});
    server.config_map("n", "held", held).await;
    server.config_map("n", "free", json!({})).await;
    let path = "/api/v1/namespaces/n";
    server
        .send("DELETE", path, Value::Null)
        .await
        .expect("it is there");
    server
        .until(path, |answer| {
            answer.as_ref().is_ok_and(|namespace| {
                namespace["status"]["conditions"][4]["message"]
                    == "Some content in the namespace has finalizers remaining: example.com/f in 1 resource instances"
            })
        })
        .await;
    assert_eq!(
        server.get("/api/v1/namespaces/n/configmaps/free").await,
        Err(404)
    );
    let release = json!({"metadata": {"finalizers": null}});
    server
        .send("PATCH", "/api/v1/namespaces/n/configmaps/held", release)
        .await
        .expect("it is there");
    server.gone(path).await;
    server.finish().await;
}

#[tokio::test]
async fn a_definition_is_served_when_its_creation_is_answered() {
    let server = Server::start().await;
    server.define_widgets().await;
    let widget = json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"},
    });
    server
        .send("POST", WIDGETS, widget)
        .await
        .expect("widgets are served");
    server.finish().await;
}

#[tokio::test]
async fn a_definition_is_not_served_before_its_status_says_so() {
    let server = Server::start_idle().await;
    let mut created = server.define_widgets().await;
    assert_eq!(server.get(WIDGETS).await, Err(404));
    created["status"]["conditions"] = json!([{
        "type": "Established", "status": "True", "reason": "R", "message": "",
    }]);
    let path = format!("{DEFINITIONS}/widgets.example.com/status");
    let written = server.send("PUT", &path, created).await;
    written.expect("nobody wrote since");
    assert!(server.get(WIDGETS).await.is_ok());
    server.finish().await;
}

#[tokio::test]
async fn a_definition_is_not_written_again_once_its_creation_is_answered() {
    let server = Server::start().await;
    for _ in 0..20 {
        server.define_widgets().await;
        let path = format!("{DEFINITIONS}/widgets.example.com");
        let mut seen = server.get(&path).await.expect("it is there");
        assert_eq!(
            seen["status"]["conditions"][1]["reason"],
            "InitialNamesAccepted"
        );
        tokio::task::yield_now().await;
        seen["metadata"]["labels"] = json!({"a": "b"});
        let changed = server.send("PUT", &path, seen).await;
        changed.expect("nobody wrote since");
        let deleted = server.send("DELETE", &path, Value::Null).await;
        deleted.expect("it is there");
        server.gone(&path).await;
    }
    server.finish().await;
}

#[tokio::test]
async fn watchers_see_every_step_of_a_definition() {
    let server = Server::start().await;
    let created = server.define_widgets().await;
    assert_eq!(created["status"]["conditions"], Value::Null);
    let path = format!("{DEFINITIONS}?watch=true&timeoutSeconds=1&resourceVersion=1");
    let request = http::Request::get(path).body(Vec::new());
    let lines = server
        .client
        .request_text(request.expect("the request is well-formed"))
        .await
        .expect("it ends by itself");
    let steps: Vec<(Value, Value)> = lines
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).expect("a line is an event");
            let reason = event["object"]["status"]["conditions"][1]["reason"].clone();
            (event["type"].clone(), reason)
        })
        .collect();
    assert_eq!(
        steps,
        [
            (json!("ADDED"), Value::Null),
            (json!("MODIFIED"), json!("Installing")),
            (json!("MODIFIED"), json!("InitialNamesAccepted")),
        ]
    );
    server.finish().await;
}

#[tokio::test]
async fn a_definition_takes_its_objects_along_and_comes_back_empty() {
    let server = Server::start().await;
    server.define_widgets().await;
    let widget = json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "w", "finalizers": ["example.com/f"]},
    });
    server
        .send("POST", WIDGETS, widget.clone())
        .await
        .expect("it is new");
    let path = format!("{DEFINITIONS}/widgets.example.com");
    server
        .send("DELETE", &path, Value::Null)
        .await
        .expect("it is there");
    assert_eq!(server.send("POST", WIDGETS, widget).await, Err(403));
    let one = format!("{WIDGETS}/w");
    server
        .until(&one, |answer| {
            answer
                .as_ref()
                .is_ok_and(|widget| widget["metadata"]["deletionTimestamp"].is_string())
        })
        .await;
    let release = json!({"metadata": {"finalizers": null}});
    server
        .send("PATCH", &one, release)
        .await
        .expect("it is there");
    server.gone(&path).await;
    server.define_widgets().await;
    let widgets = server.get(WIDGETS).await.expect("widgets are served again");
    assert_eq!(widgets["items"], json!([]));
    server.finish().await;
}

#[tokio::test]
async fn dependents_follow_their_owner_unless_they_are_orphaned() {
    let server = Server::start().await;
    let owner = "/api/v1/namespaces/default/configmaps/owner";
    let child = "/api/v1/namespaces/default/configmaps/child";
    for policy in ["Background", "Foreground"] {
        let uid = server.config_map("default", "owner", json!({})).await;
        server
            .config_map("default", "child", owned_by(&uid, true))
            .await;
        let options = json!({"propagationPolicy": policy});
        server
            .send("DELETE", owner, options)
            .await
            .expect("it is there");
        server.gone(child).await;
        server.gone(owner).await;
    }
    let uid = server.config_map("default", "owner", json!({})).await;
    server
        .config_map("default", "child", owned_by(&uid, true))
        .await;
    let options = json!({"propagationPolicy": "Orphan"});
    server
        .send("DELETE", owner, options)
        .await
        .expect("it is there");
    server.gone(owner).await;
    let orphan = server.get(child).await.expect("the orphan stays");
    assert_eq!(orphan["metadata"].get("ownerReferences"), None);
    server.finish().await;
}

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";

fn policy(rule: Value, rest: Value) -> Value {
    let mut spec = rest;
    spec["matchConstraints"] = json!({"resourceRules": [rule]});
    json!({"metadata": {"name": "p"}, "spec": spec})
}

impl Server {
    /// The status of the policy once its generation is observed.
    async fn observed(&self, generation: i64) -> Value {
        let path = format!("{POLICIES}/p");
        self.until(&path, |answer| {
            answer
                .as_ref()
                .is_ok_and(|policy| policy["status"]["observedGeneration"] == generation)
        })
        .await;
        self.get(&path).await.expect("it is there")
    }
}

fn warnings(policy: &Value) -> Vec<(&str, &str)> {
    let warnings = policy["status"]["typeChecking"]["expressionWarnings"].as_array();
    let pair = |warning| -> Option<(&str, &str)> {
        let warning: &Value = warning;
        Some((warning["fieldRef"].as_str()?, warning["warning"].as_str()?))
    };
    warnings.into_iter().flatten().filter_map(pair).collect()
}

#[tokio::test]
async fn a_policy_is_told_which_expressions_do_not_fit_its_kinds() {
    let server = Server::start().await;
    let rule = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"],
        "resources": ["secrets", "configmaps", "nothings", "namespaces/status"],
    });
    let rules = json!({
        "variables": [
            {"name": "labels", "expression": "object.metadata.labels"},
            {"name": "object", "expression": "object"},
        ],
        "validations": [
            {"expression": "object.data.x == 1"},
            {
                "expression": "has(object.immutable)",
                "messageExpression": "object.metadata.nme + 'x'",
            },
            {"expression": "variables.labels == 1 || variables.object.nope == 1"},
            {"expression": "authorizer.requestResource.check('get').allowed()"},
        ],
    });
    server
        .send("POST", POLICIES, policy(rule.clone(), rules))
        .await
        .expect("the policy is valid");
    let seen = server.observed(1).await;
    assert_eq!(
        warnings(&seen),
        [
            (
                "spec.validations[0].expression",
                "/v1, Kind=ConfigMap: ERROR: <input>:1:15: found no matching overload for '_==_' \
                 applied to '(string, int)'\n | object.data.x == 1\n | ..............^\n\n\
                 /v1, Kind=Secret: ERROR: <input>:1:15: found no matching overload for '_==_' \
                 applied to '(bytes, int)'\n | object.data.x == 1\n | ..............^\n",
            ),
            (
                "spec.validations[1].messageExpression",
                "/v1, Kind=ConfigMap: ERROR: <input>:1:16: undefined field 'nme'\n | \
                 object.metadata.nme + 'x'\n | ...............^\n\n\
                 /v1, Kind=Secret: ERROR: <input>:1:16: undefined field 'nme'\n | \
                 object.metadata.nme + 'x'\n | ...............^\n",
            ),
            (
                "spec.validations[2].expression",
                "/v1, Kind=ConfigMap: ERROR: <input>:1:18: found no matching overload for '_==_' \
                 applied to '(map(string, string), int)'\n | variables.labels == 1 || \
                 variables.object.nope == 1\n | .................^\n\n\
                 /v1, Kind=Secret: ERROR: <input>:1:18: found no matching overload for '_==_' \
                 applied to '(map(string, string), int)'\n | variables.labels == 1 || \
                 variables.object.nope == 1\n | .................^\n",
            ),
        ]
    );
    let owner = &seen["metadata"]["managedFields"];
    let owner = owner.as_array().into_iter().flatten();
    let owner: Vec<&Value> = owner
        .filter(|entry| entry["subresource"] == "status")
        .collect();
    assert_eq!(owner.len(), 1, "{owner:?}");
    assert_eq!(owner[0]["manager"], "validatingadmissionpolicy-status");
    let good = json!({"spec": {
        "variables": null, "validations": [{"expression": "object.data.size() == 1"}],
    }});
    server
        .send("PATCH", &format!("{POLICIES}/p"), good)
        .await
        .expect("it is there");
    let seen = server.observed(2).await;
    assert_eq!(seen["status"]["typeChecking"], json!({}));
    server.finish().await;
}

#[tokio::test]
async fn a_policy_of_custom_resources_is_checked_by_their_schema() {
    let server = Server::start().await;
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer"}, "port": {"x-kubernetes-int-or-string": true},
    }});
    let widgets = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            }],
        },
    });
    server
        .send("POST", DEFINITIONS, widgets)
        .await
        .expect("the definition is valid");
    let rules = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [
            {"expression": "object.spec.size == 'a'"},
            {"expression": "object.spec.port == 1.5 || oldObject.metadata.generateName == ''"},
            {"expression": "params.data == 2"},
        ],
    });
    let rule = |group: &str| {
        json!({
            "apiGroups": [group], "apiVersions": ["v1"], "operations": ["*"],
            "resources": ["widgets"],
        })
    };
    server
        .send("POST", POLICIES, policy(rule("example.com"), rules))
        .await
        .expect("the policy is valid");
    let seen = server.observed(1).await;
    let texts: Vec<&str> = warnings(&seen).iter().map(|(_, text)| *text).collect();
    assert_eq!(
        texts,
        [
            "example.com/v1, Kind=Widget: ERROR: <input>:1:18: found no matching overload for \
             '_==_' applied to '(int, string)'\n | object.spec.size == 'a'\n | \
             .................^\n",
            "example.com/v1, Kind=Widget: ERROR: <input>:1:13: found no matching overload for \
             '_==_' applied to '(map(string, string), int)'\n | params.data == 2\n | \
             ............^\n",
        ]
    );
    let any_group = json!({"spec": {"matchConstraints": {"resourceRules": [rule("*")]}}});
    server
        .send("PATCH", &format!("{POLICIES}/p"), any_group)
        .await
        .expect("it is there");
    let seen = server.observed(2).await;
    assert_eq!(seen["status"]["typeChecking"], json!({}));
    let revision = seen["metadata"]["resourceVersion"].clone();
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = server
        .send("PATCH", &format!("{POLICIES}/p"), labelled)
        .await
        .expect("it is there");
    assert_ne!(labelled["metadata"]["resourceVersion"], revision);
    assert_eq!(labelled["status"], seen["status"]);
    server.finish().await;
}

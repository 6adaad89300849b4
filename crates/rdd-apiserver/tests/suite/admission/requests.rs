//! What webhooks and policies hear of a request.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    bed::{Bed, allow, patch},
    server::{Server, config_map},
};
use crate::lab::{CONFIG_MAPS, DEFINITIONS};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

fn rules(groups: &str, resources: &str) -> Value {
    json!([{
        "operations": ["*"], "apiGroups": [groups], "apiVersions": ["*"],
        "resources": [resources],
    }])
}

/// A policy over these resources that refuses what this expression is not true for.
async fn enforce(server: &Server, groups: &str, resources: &str, rule: Value) {
    let spec = json!({
        "matchConstraints": {"resourceRules": rules(groups, resources)},
        "validations": [rule],
    });
    let binding = json!({"policyName": "p", "validationActions": ["Deny"]});
    for (plural, spec) in [
        ("validatingadmissionpolicies", spec),
        ("validatingadmissionpolicybindings", binding),
    ] {
        let object = json!({"metadata": {"name": "p"}, "spec": spec});
        let made = server.post(&format!("{GROUP}/{plural}"), object).await;
        assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    }
}

#[tokio::test]
async fn who_writes_over_anything_is_shown_to_write_over_what_there_is() {
    let bed = Bed::start(|_, review| allow(review)).await;
    let server = Server::start().await;
    let made = server.post(CONFIG_MAPS, config_map("a")).await;
    for mutating in [true, false] {
        let name = if mutating { "m" } else { "v" };
        let webhook = json!({"clientConfig": bed.client(&format!("/{name}"))});
        server.configure(mutating, name, &[webhook]).await;
    }
    let path = format!("{CONFIG_MAPS}/a");
    let mut body = config_map("a");
    body["data"]["k"] = json!("w");
    let put = server.send(Method::PUT, &path, body).await;
    assert_eq!(put.code, StatusCode::OK, "{:?}", put.body);
    let seen: Vec<(String, Value)> = bed
        .questions()
        .into_iter()
        .map(|(path, review)| {
            let metadata = &review["request"]["object"]["metadata"];
            (path, metadata["resourceVersion"].clone())
        })
        .collect();
    let before = made.body["metadata"]["resourceVersion"].clone();
    assert_eq!(
        seen,
        [("/m".to_owned(), Value::Null), ("/v".to_owned(), before)]
    );
}

#[tokio::test]
async fn reviews_are_for_webhooks_and_not_for_policies() {
    let bed = Bed::start(|_, review| allow(review)).await;
    let server = Server::start().await;
    let webhook = json!({
        "clientConfig": bed.client("/v"), "rules": rules("authorization.k8s.io", "*"),
    });
    server.configure(false, "v", &[webhook]).await;
    enforce(&server, "*", "*", json!({"expression": "false"})).await;
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let asked = server.post(path, review).await;
    assert_eq!(asked.code, StatusCode::CREATED, "{:?}", asked.body);
    assert_eq!(bed.paths(), ["/v"]);
    let refused = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_token_of_an_account_is_asked_about() {
    let bed = Bed::start(|_, review| {
        let longer = json!([{"op": "add", "path": "/spec/expirationSeconds", "value": 1200}]);
        patch(review, &longer)
    })
    .await;
    let server = Server::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server
        .post(accounts, json!({"metadata": {"name": "robot"}}))
        .await;
    let webhook = json!({
        "clientConfig": bed.client("/m"), "rules": rules("", "serviceaccounts/token"),
    });
    server.configure(true, "m", &[webhook]).await;
    let rule = json!({
        "expression": "false",
        "messageExpression":
            "request.kind.kind + ' ' + request.name + ' ' + string(object.spec.expirationSeconds)",
    });
    enforce(&server, "", "*/*", rule).await;
    let answer = server
        .post(&format!("{accounts}/robot/token"), json!({"spec": {}}))
        .await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer.message().ends_with("TokenRequest robot 1200"),
        "{}",
        answer.message()
    );
    let (_, review) = bed.questions().remove(0);
    let request = &review["request"];
    assert_eq!(request["subResource"], "token");
    assert_eq!(request["resource"]["resource"], "serviceaccounts");
    assert_eq!(request["kind"]["group"], "authentication.k8s.io");
}

#[tokio::test]
async fn a_namespace_is_in_itself_but_not_for_expressions() {
    let bed = Bed::start(|_, review| allow(review)).await;
    let server = Server::start().await;
    let webhook = json!({"clientConfig": bed.client("/v"), "rules": rules("", "namespaces")});
    server.configure(false, "v", &[webhook]).await;
    let rule = json!({
        "expression": "namespaceObject == null && (request.operation == 'DELETE' || \
                       request.namespace == object.metadata.name)",
    });
    enforce(&server, "", "namespaces", rule).await;
    let path = "/api/v1/namespaces";
    let named = json!({"metadata": {"name": "n"}});
    let made = server.post(path, named).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    let gone = server
        .send(Method::DELETE, &format!("{path}/n"), Value::Null)
        .await;
    assert_eq!(gone.code, StatusCode::OK, "{:?}", gone.body);
    let questions = bed.questions();
    assert_eq!(questions[0].1["request"]["namespace"], "n");
    // A Namespace is deleted in steps, all of which are about this one.
    assert_eq!(
        questions[1].1["request"]["options"]["preconditions"]["uid"],
        made.body["metadata"]["uid"]
    );
}

#[tokio::test]
async fn conditions_of_a_policy_see_no_namespace() {
    let server = Server::start().await;
    let condition = "namespaceObject.metadata.name == 'default'";
    let spec = json!({
        "matchConstraints": {"resourceRules": rules("", "configmaps")},
        "matchConditions": [{"name": "c", "expression": condition}],
        "validations": [{"expression": "namespaceObject.metadata.name == 'default'"}],
    });
    let binding = json!({"policyName": "p", "validationActions": ["Deny"]});
    for (plural, spec) in [
        ("validatingadmissionpolicies", spec),
        ("validatingadmissionpolicybindings", binding),
    ] {
        let object = json!({"metadata": {"name": "p"}, "spec": spec});
        server.post(&format!("{GROUP}/{plural}"), object).await;
    }
    let answer = server.post(CONFIG_MAPS, config_map("a")).await;
    assert!(
        answer.message().ends_with(&format!(
            "expression '{condition}' resulted in error: no such key: metadata"
        )),
        "{}",
        answer.message()
    );
}

fn boxes(schema: &Value) -> Value {
    let version = |name: &str, more: Value| {
        let mut schema = schema.clone();
        if let (Some(into), Value::Object(more)) = (
            schema["properties"]["spec"]["properties"].as_object_mut(),
            more,
        ) {
            into.extend(more);
        }
        json!({
            "name": name, "served": true, "storage": name == "v1",
            "schema": {"openAPIV3Schema": schema},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "boxes", "kind": "Box"},
            "versions": [
                version("v1", json!({"old": {"type": "string"}})),
                version("v2", json!({"new": {"type": "string"}})),
            ],
        },
    })
}

const BOXES: &str = "/apis/example.com/v1/namespaces/default/boxes";

fn spec(properties: &Value) -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": properties},
    }})
}

#[tokio::test]
async fn nothing_is_lost_on_the_way_through_another_version() {
    let bed = Bed::start(|_, review| {
        let add = json!([{"op": "add", "path": "/spec/a", "value": "changed"}]);
        patch(review, &add)
    })
    .await;
    let server = Server::start().await;
    let schema = spec(&json!({"a": {"type": "string"}}));
    let made = server.define(boxes(&schema)).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    let webhook = json!({
        "clientConfig": bed.client("/m"),
        "rules": [{
            "operations": ["*"], "apiGroups": ["example.com"], "apiVersions": ["v2"],
            "resources": ["boxes"],
        }],
    });
    server.configure(true, "m", &[webhook]).await;
    let body = json!({
        "apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": "a"},
        "spec": {"old": "kept"},
    });
    let made = server.post(BOXES, body).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    assert_eq!(made.body["spec"], json!({"old": "kept", "a": "changed"}));
    let (_, review) = bed.questions().remove(0);
    let object = &review["request"]["object"];
    assert_eq!(object["apiVersion"], "example.com/v2");
    assert_eq!(object["spec"], json!({"old": "kept"}));
}

#[tokio::test]
async fn what_was_wrong_before_is_told_even_of_a_write_that_is_refused() {
    let server = Server::start().await;
    let ruled = |rules: bool| {
        let field = |message: &str| {
            let rules = if rules {
                json!([{"rule": "self == 'ok'", "message": message}])
            } else {
                json!([])
            };
            json!({"type": "string", "maxLength": 9, "x-kubernetes-validations": rules})
        };
        boxes(&spec(&json!({"a": field("bad a"), "b": field("bad b")})))
    };
    server.define(ruled(false)).await;
    let body = json!({
        "apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": "a"},
        "spec": {"a": "x", "b": "x"},
    });
    let made = server.post(BOXES, body).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    let path = format!("{DEFINITIONS}/boxes.example.com");
    let rules = json!({"spec": ruled(true)["spec"]});
    let changed = server.send(Method::PATCH, &path, rules).await;
    assert_eq!(changed.code, StatusCode::OK, "{:?}", changed.body);
    let change = json!({"spec": {"b": "y"}});
    let refused = server
        .send(Method::PATCH, &format!("{BOXES}/a"), change)
        .await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        refused.message(),
        "Box.example.com \"a\" is invalid: spec.b: Invalid value: \"y\": bad b"
    );
    assert_eq!(
        refused.warnings,
        ["299 - \"spec.a: Invalid value: \\\"x\\\": bad a\""]
    );
}

#[tokio::test]
async fn a_default_that_breaks_a_rule_refuses_the_definition() {
    let server = Server::start().await;
    let field = json!({
        "type": "string", "maxLength": 9, "default": "bad",
        "x-kubernetes-validations": [{"rule": "self == 'ok'", "message": "must be ok"}],
    });
    let answer = server
        .post(DEFINITIONS, boxes(&spec(&json!({"a": field}))))
        .await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        answer.body["details"]["causes"][0]["field"],
        "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[a].default"
    );
    assert_eq!(
        answer.body["details"]["causes"][0]["message"],
        "Invalid value: \"bad\": must be ok"
    );
}

//! Admission policies, which are in force as soon as they are written.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    bed::{Bed, allow},
    server::{Server, config_map},
};
use crate::lab::CONFIG_MAPS;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// A policy over ConfigMaps with its binding, each changed by a merge.
async fn enforce(server: &Server, policy: Value, binding: Value) {
    let mut spec = json!({
        "matchConstraints": {"resourceRules": [{
            "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["configmaps"],
        }]},
    });
    merge(&mut spec, policy);
    let made = server
        .post(
            &format!("{GROUP}/validatingadmissionpolicies"),
            json!({"metadata": {"name": "p"}, "spec": spec}),
        )
        .await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    let mut spec = json!({"policyName": "p", "validationActions": ["Deny"]});
    merge(&mut spec, binding);
    let made = server
        .post(
            &format!("{GROUP}/validatingadmissionpolicybindings"),
            json!({"metadata": {"name": "b"}, "spec": spec}),
        )
        .await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
}

fn merge(into: &mut Value, change: Value) {
    if let Value::Object(change) = change {
        for (key, value) in change {
            into[key] = value;
        }
    }
}

fn denied(name: &str, text: &str) -> String {
    format!(
        "configmaps \"{name}\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' \
         denied request: {text}"
    )
}

#[tokio::test]
async fn a_policy_is_in_force_from_its_binding_to_its_end() {
    let server = Server::start().await;
    let policy = json!({"validations": [
        {"expression": "object.metadata.name != 'bad'", "message": "no bad ones"},
        {"expression": "object.metadata.name != 'shown'"},
        {
            "expression": "object.metadata.name != 'made'", "reason": "Forbidden",
            "messageExpression": "'not ' + object.metadata.name",
        },
    ]});
    enforce(&server, policy, json!({})).await;
    for (name, code, text) in [
        ("bad", 422, "no bad ones"),
        (
            "shown",
            422,
            "failed expression: object.metadata.name != 'shown'",
        ),
        ("made", 403, "not made"),
    ] {
        let answer = server.post(CONFIG_MAPS, config_map(name)).await;
        assert_eq!(answer.code.as_u16(), code, "{:?}", answer.body);
        assert_eq!(answer.message(), denied(name, text));
    }
    let good = server.post(CONFIG_MAPS, config_map("good")).await;
    assert_eq!(good.code, StatusCode::CREATED);
    let path = format!("{GROUP}/validatingadmissionpolicybindings/b");
    server.send(Method::DELETE, &path, Value::Null).await;
    let free = server.post(CONFIG_MAPS, config_map("bad")).await;
    assert_eq!(free.code, StatusCode::CREATED);
}

#[tokio::test]
async fn variables_are_evaluated_when_they_are_named_and_say_why_they_cannot_be() {
    let server = Server::start().await;
    let policy = json!({
        "variables": [
            {"name": "broken", "expression": "object.no.such"},
            {"name": "count", "expression": "size(object.data)"},
            {"name": "twice", "expression": "variables.count * 2"},
        ],
        "validations": [
            {"expression": "variables.twice < 6", "messageExpression": "string(variables.count)"},
            {"expression": "object.metadata.name != 'ask' || variables.broken"},
        ],
    });
    enforce(&server, policy, json!({})).await;
    let three = json!({"metadata": {"name": "a"}, "data": {"a": "1", "b": "2", "c": "3"}});
    let answer = server.post(CONFIG_MAPS, three).await;
    assert_eq!(answer.message(), denied("a", "3"));
    let answer = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{:?}", answer.body);
    let answer = server.post(CONFIG_MAPS, config_map("ask")).await;
    assert_eq!(
        answer.message(),
        denied(
            "ask",
            "expression 'object.metadata.name != 'ask' || variables.broken' resulted in error: \
             composited variable \"broken\" fails to evaluate: no such key: no"
        )
    );
}

#[tokio::test]
async fn params_are_read_as_they_are_now() {
    let server = Server::start().await;
    let policy = json!({
        "paramKind": {"apiVersion": "v1", "kind": "Secret"},
        "validations": [{
            "expression": "object.metadata.name != params.metadata.labels.forbidden",
            "messageExpression": "'not ' + object.metadata.name",
        }],
    });
    let binding = json!({"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}});
    enforce(&server, policy, binding).await;
    let answer = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(
        answer.message(),
        denied(
            "a",
            "failed to configure binding: no params found for policy binding with `Deny` \
             parameterNotFoundAction"
        )
    );
    let secrets = "/api/v1/namespaces/default/secrets";
    let limits =
        |name: &str| json!({"metadata": {"name": "limits", "labels": {"forbidden": name}}});
    server.post(secrets, limits("a")).await;
    for round in 0..20 {
        let name = format!("n{round}");
        let path = format!("{secrets}/limits");
        server.send(Method::PATCH, &path, limits(&name)).await;
        let answer = server.post(CONFIG_MAPS, config_map(&name)).await;
        assert_eq!(answer.message(), denied(&name, &format!("not {name}")));
    }
}

#[tokio::test]
async fn a_binding_may_warn_only() {
    let server = Server::start().await;
    let policy = json!({"validations": [{"expression": "false", "message": "m"}]});
    let binding = json!({"validationActions": ["Warn", "Audit"]});
    enforce(&server, policy, binding).await;
    let answer = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    assert_eq!(
        answer.warnings,
        ["299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': m\""]
    );
}

#[tokio::test]
async fn conditions_decide_whether_a_webhook_is_asked() {
    let bed = Bed::start(|_, review| allow(review)).await;
    let server = Server::start().await;
    let webhook = |condition: &str, policy: &str| {
        json!({
            "clientConfig": bed.client("/v"), "failurePolicy": policy,
            "matchConditions": [{"name": "c", "expression": condition}],
        })
    };
    let on_name = webhook("object.metadata.name == 'asked'", "Fail");
    server.configure(false, "a", &[on_name]).await;
    server.post(CONFIG_MAPS, config_map("a")).await;
    assert!(bed.paths().is_empty());
    server.post(CONFIG_MAPS, config_map("asked")).await;
    assert_eq!(bed.paths().len(), 1);
    let broken = webhook("object.no.such == 1", "Ignore");
    server.configure(false, "b", &[broken]).await;
    let answer = server.post(CONFIG_MAPS, config_map("b")).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    let broken = webhook("object.no.such == 1", "Fail");
    server.configure(false, "c", &[broken]).await;
    let answer = server.post(CONFIG_MAPS, config_map("c")).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
    assert_eq!(
        answer.message(),
        "configmaps \"c\" is forbidden: expression 'object.no.such == 1' resulted in error: no \
         such key: no"
    );
    // A collection has no name.
    let answer = server.send(Method::DELETE, CONFIG_MAPS, Value::Null).await;
    assert_eq!(
        answer.message(),
        "configmaps is forbidden: expression 'object.metadata.name == 'asked'' resulted in error: \
         no such key: metadata"
    );
}

#[tokio::test]
async fn expressions_are_checked_when_they_are_written() {
    let server = Server::start().await;
    let spec = json!({
        "matchConstraints": {"resourceRules": [{
            "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["x"],
        }]},
        "validations": [{"expression": "1"}, {"expression": "nobody"}],
    });
    let answer = server
        .post(
            &format!("{GROUP}/validatingadmissionpolicies"),
            json!({"metadata": {"name": "p"}, "spec": spec}),
        )
        .await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    let causes = &answer.body["details"]["causes"];
    assert_eq!(
        causes[0]["message"],
        "Invalid value: \"1\": must evaluate to bool but got int"
    );
    assert_eq!(causes[1]["field"], "spec.validations[1].expression");
    let text = causes[1]["message"].as_str().unwrap_or_default();
    assert!(text.contains("undeclared reference to 'nobody'"), "{text}");
}

#[tokio::test]
async fn expressions_ask_what_somebody_else_may_do() {
    let server = Server::start().await;
    let policy = json!({
        "matchConditions": [{
            "name": "may", "expression": "authorizer.requestResource.check('create').allowed()",
        }],
        "variables": [{
            "name": "account",
            "expression": "authorizer.serviceAccount('default', 'robot').group('apps')",
        }],
        "validations": [
            {"expression":
                "authorizer.group('').resource('secrets').namespace('x').name('y')\
                 .check('get').allowed()"},
            {"expression": "!authorizer.path('/healthz').check('get').errored()"},
            {"expression":
                "variables.account.resource('deployments').subresource('scale')\
                 .fieldSelector('a=b').check('patch').allowed()",
             "message": "the robot may not"},
            {"expression": "object.metadata.name != 'blank' || \
                 authorizer.path(' ').check('get').allowed()"},
        ],
    });
    enforce(&server, policy, json!({})).await;
    let answer = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(answer.message(), denied("a", "the robot may not"));
    // A message is made without the authorizer.
    let broken = json!({
        "metadata": {"name": "q"},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["configmaps"],
            }]},
            "variables": [{"name": "some", "expression": "1"}],
            "validations": [{
                "expression": "int('x') == 1 || variables.none == 1",
                "messageExpression": "authorizer.path('/').check('get').reason()",
            }],
        },
    });
    let path = format!("{GROUP}/validatingadmissionpolicies");
    let answer = server.post(&path, broken).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    for text in [
        "undefined field 'none'",
        "undeclared reference to 'authorizer'",
    ] {
        assert!(answer.message().contains(text), "{}", answer.message());
    }
}

#[tokio::test]
async fn a_question_without_an_end_runs_out_of_budget() {
    let server = Server::start().await;
    let check = "authorizer.path('/a').check('get').allowed()";
    let policy = json!({"validations": [{
        "expression": format!("{check} && {check} && {check}"),
    }]});
    enforce(&server, policy, json!({})).await;
    let answer = server.post(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer.message().ends_with("actual cost limit exceeded"),
        "{}",
        answer.message()
    );
}

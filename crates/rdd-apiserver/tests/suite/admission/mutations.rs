//! Mutating admission policies, which are in force as soon as they are written.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    bed::{Bed, patch},
    server::{Answer, Server, config_map},
};
use crate::lab::CONFIG_MAPS;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn json_patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

/// A policy over ConfigMaps, changed by a merge.
async fn policy(server: &Server, name: &str, mutations: &[Value], change: Value) -> Answer {
    let mut spec = json!({
        "matchConstraints": {"resourceRules": [{
            "operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["configmaps"],
        }]},
        "reinvocationPolicy": "Never",
        "mutations": mutations,
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let path = format!("{GROUP}/mutatingadmissionpolicies");
    let object = json!({"metadata": {"name": name}, "spec": spec});
    server.post(&path, object).await
}

async fn bind(server: &Server, name: &str, policy: &str, change: Value) {
    let mut spec = json!({"policyName": policy});
    for (key, value) in change.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let path = format!("{GROUP}/mutatingadmissionpolicybindings");
    let object = json!({"metadata": {"name": name}, "spec": spec});
    let made = server.post(&path, object).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
}

/// A policy with a binding of its name.
async fn enforce(server: &Server, name: &str, mutations: &[Value], change: Value) {
    let made = policy(server, name, mutations, change).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    bind(server, name, name, Value::Null).await;
}

/// What one mutation makes of a ConfigMap with `a: 1`, or why it does not.
async fn outcome(mutation: Value) -> Result<Value, String> {
    let server = Server::start().await;
    enforce(&server, "p", &[mutation], Value::Null).await;
    let mut object = config_map("x");
    object["data"] = json!({"a": "1"});
    let answer = server.post(CONFIG_MAPS, object).await;
    match answer.code {
        StatusCode::CREATED => Ok(answer.body["data"].clone()),
        _ => Err(answer.message().to_owned()),
    }
}

#[tokio::test]
async fn a_policy_changes_objects_from_its_binding_to_its_end() {
    let server = Server::start().await;
    let mutation = apply("Object{metadata: Object.metadata{labels: {'team': 'a'}}}");
    let made = policy(&server, "p", &[mutation], Value::Null).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    let labels = async |name: &str| {
        let answer = server.post(CONFIG_MAPS, config_map(name)).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{:?}", answer.body);
        answer.body["metadata"]["labels"]["team"].clone()
    };
    assert_eq!(labels("before").await, Value::Null);
    bind(&server, "b", "p", Value::Null).await;
    assert_eq!(labels("within").await, "a");
    let gone = server
        .send(
            Method::DELETE,
            &format!("{GROUP}/mutatingadmissionpolicybindings/b"),
            Value::Null,
        )
        .await;
    assert_eq!(gone.code, StatusCode::OK);
    assert_eq!(labels("after").await, Value::Null);
}

#[tokio::test]
async fn configurations_are_laid_over_the_object() {
    let check = async |expression: &str, expect: Result<Value, &str>| {
        let expect = expect.map_err(|text| {
            format!("policy 'p' with binding 'p' denied request: error applying patch: {text}")
        });
        assert_eq!(outcome(apply(expression)).await, expect, "{expression}");
    };
    check("Object{data: {'b': '2'}}", Ok(json!({"a": "1", "b": "2"}))).await;
    check("Object{data: Object.data{a: '2'}}", Ok(json!({"a": "2"}))).await;
    check(
        "Object{?data: has(object.data.z) ? optional.of(object.data) : optional.none()}",
        Ok(json!({"a": "1"})),
    )
    .await;
    check(
        "Object{unknown: 1}",
        Err("failed to convert patch object to typed object: .unknown: field not declared in schema"),
    )
    .await;
    check(
        "Object{data: {'a': null}}",
        Err(
            "failed to convert patch object to typed object: .data.a: expected string, got \
             &value.valueUnstructured{Value:0}",
        ),
    )
    .await;
    let wrong = outcome(apply("Object{data: Object.wrong{a: '1'}}")).await;
    assert_eq!(
        wrong.expect_err("the type is another field's"),
        "policy 'p' with binding 'p' denied request: type mismatch: unexpected type name \
         \"Object.wrong\", expected \"Object.data\", which matches field name path from root Object \
         type"
    );
}

#[tokio::test]
async fn json_patches_are_made_of_values() {
    let check = async |expression: &str, expect: Result<Value, &str>| {
        let expect = expect.map_err(str::to_owned);
        assert_eq!(
            outcome(json_patch(expression)).await,
            expect,
            "{expression}"
        );
    };
    check(
        "[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('b~c'), value: '2'}]",
        Err("ConfigMap \"x\" is invalid: data[b~c]: Invalid value: \"b~c\": a valid config key must \
             consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  \
             or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"),
    )
    .await;
    check(
        "[JSONPatch{op: 'replace', path: '/data', value: Object.data{b: '2'}}]",
        Ok(json!({"b": "2"})),
    )
    .await;
    // A test that does not hold takes the whole patch back, and refuses nothing.
    check(
        "[JSONPatch{op: 'add', path: '/data/b', value: '2'}, \
         JSONPatch{op: 'test', path: '/data/a', value: '2'}]",
        Ok(json!({"a": "1"})),
    )
    .await;
    check(
        "[JSONPatch{op: 'remove', path: '/data/b'}]",
        Err(
            "policy 'p' with binding 'p' denied request: JSON Patch: error in remove for path: \
             '/data/b': Unable to remove nonexistent key: b: missing value",
        ),
    )
    .await;
    check(
        "[JSONPatch{op: 'add', path: '/unknown', value: 1}]",
        Err("Internal error occurred: strict decoding error: unknown field \"unknown\""),
    )
    .await;
}

#[tokio::test]
async fn a_failure_is_a_refusal_that_names_all() {
    let server = Server::start().await;
    let broken = [
        apply("Object{data: {'b': object.data.z}}"),
        apply("Object{data: {'c': '3'}}"),
        apply("Object{z: 1}"),
    ];
    enforce(&server, "p", &broken, Value::Null).await;
    let mut object = config_map("x");
    object["data"] = json!({"a": "1"});
    let answer = server.post(CONFIG_MAPS, object.clone()).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
    assert_eq!(answer.body["reason"], "Invalid");
    assert_eq!(
        answer.message(),
        "policy 'p' with binding 'p' denied request: expression 'Object{data: {'b': \
         object.data.z}}' resulted in error: no such key: z"
    );
    let causes = answer.body["details"]["causes"].as_array().cloned();
    assert_eq!(causes.unwrap_or_default().len(), 2, "{:?}", answer.body);

    let server = Server::start().await;
    enforce(&server, "p", &broken, json!({"failurePolicy": "Ignore"})).await;
    let answer = server.post(CONFIG_MAPS, object).await;
    assert_eq!(answer.body["data"], json!({"a": "1", "c": "3"}));
}

#[tokio::test]
async fn who_wants_to_see_later_changes_is_asked_once_more() {
    let count = |field: &str| {
        json_patch(&format!(
            "[JSONPatch{{op: 'add', path: '/data/{field}', \
             value: (has(object.data.{field}) ? object.data.{field} : '') + 'i'}}]"
        ))
    };
    let bed = Bed::start(|_, review| {
        patch(
            review,
            &json!([{"op": "add", "path": "/data/hook", "value": "1"}]),
        )
    })
    .await;
    let check = async |first: &str, hook: bool, expect: Value| {
        let server = Server::start().await;
        let policy = json!({"reinvocationPolicy": first});
        enforce(&server, "a", &[count("x")], policy).await;
        if hook {
            let webhook = json!({"clientConfig": bed.client("/hook")});
            server.configure(true, "m", &[webhook]).await;
        } else {
            enforce(&server, "b", &[count("y")], Value::Null).await;
        }
        let mut object = config_map("x");
        object["data"] = json!({"a": "1"});
        let answer = server.post(CONFIG_MAPS, object).await;
        assert_eq!(answer.body["data"], expect, "{first} {hook}");
    };
    check("Never", false, json!({"a": "1", "x": "i", "y": "i"})).await;
    check("IfNeeded", false, json!({"a": "1", "x": "ii", "y": "i"})).await;
    check("Never", true, json!({"a": "1", "x": "i", "hook": "1"})).await;
    check("IfNeeded", true, json!({"a": "1", "x": "ii", "hook": "1"})).await;
}

#[tokio::test]
async fn params_variables_and_conditions_are_those_of_validating_policies() {
    let server = Server::start().await;
    for (name, value) in [("one", "1"), ("two", "2")] {
        let mut param = config_map(name);
        param["data"] = json!({"v": value});
        param["metadata"]["labels"] = json!({"param": "yes"});
        server.post(CONFIG_MAPS, param).await;
    }
    let made = policy(
        &server,
        "p",
        &[apply(
            "Object{data: {'p' + variables.v: namespaceObject.metadata.name}}",
        )],
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [{"name": "v", "expression": "params.data.v"}],
            "matchConditions": [{"name": "c", "expression": "request.name != 'left'"}],
        }),
    )
    .await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    let all =
        json!({"selector": {"matchLabels": {"param": "yes"}}, "parameterNotFoundAction": "Deny"});
    bind(&server, "b", "p", json!({"paramRef": all})).await;
    let made = server.post(CONFIG_MAPS, config_map("x")).await;
    assert_eq!(made.body["data"]["p1"], "default");
    assert_eq!(made.body["data"]["p2"], "default");
    let made = server.post(CONFIG_MAPS, config_map("left")).await;
    assert_eq!(made.body["data"]["p1"], Value::Null);
    let none = json!({"name": "none", "parameterNotFoundAction": "Deny"});
    bind(&server, "c", "p", json!({"paramRef": none})).await;
    let made = server.post(CONFIG_MAPS, config_map("y")).await;
    assert_eq!(made.code, StatusCode::FORBIDDEN);
    assert_eq!(
        made.message(),
        "policy 'p' with binding 'c' denied request: failed to configure binding: no params found \
         for policy binding with `Deny` parameterNotFoundAction"
    );
}

#[tokio::test]
async fn a_name_may_be_chosen_for_what_is_new_only() {
    let server = Server::start().await;
    let rename = json_patch("[JSONPatch{op: 'replace', path: '/metadata/name', value: 'other'}]");
    enforce(&server, "p", &[rename], Value::Null).await;
    let made = server.post(CONFIG_MAPS, config_map("x")).await;
    assert_eq!(made.body["metadata"]["name"], "other", "{:?}", made.body);
    let again = server.post(CONFIG_MAPS, config_map("y")).await;
    assert_eq!(again.message(), "configmaps \"other\" already exists");
    let stored = server.get(&format!("{CONFIG_MAPS}/other")).await;
    assert_eq!(stored.code, StatusCode::OK);
    enforce(
        &server,
        "p2",
        &[json_patch(
            "[JSONPatch{op: 'replace', path: '/metadata/name', value: 'z'}]",
        )],
        Value::Null,
    )
    .await;
    let path = format!("{CONFIG_MAPS}/other");
    let changed = server
        .send(Method::PATCH, &path, json!({"data": {"a": "2"}}))
        .await;
    assert_eq!(
        changed.message(),
        "ConfigMap \"z\" is invalid: metadata.name: Invalid value: \"z\": field is immutable"
    );
}

#[tokio::test]
async fn managed_fields_that_nobody_can_read_are_put_back() {
    let server = Server::start().await;
    let broken = json_patch(
        "[JSONPatch{op: 'add', path: '/metadata/managedFields', \
         value: [{'manager': 'x', 'operation': 'Update'}]}]",
    );
    enforce(&server, "p", &[broken], Value::Null).await;
    let made = server.post(CONFIG_MAPS, config_map("x")).await;
    let manager = &made.body["metadata"]["managedFields"][0]["manager"];
    assert_eq!(manager, "unknown", "{:?}", made.body);
    assert_eq!(
        made.warnings,
        [
            "299 - \".metadata.managedFields was in an invalid state after admission; this could be \
          caused by an outdated mutating admission controller; please fix your requests: apiVersion \
          must not be empty\""
        ]
    );
}

#[tokio::test]
async fn policies_are_judged_when_they_are_written() {
    let server = Server::start().await;
    let check = async |mutations: &[Value], change: Value, expect: &str| {
        let answer = policy(&server, "p", mutations, change).await;
        let message = answer.message();
        let prefix = "MutatingAdmissionPolicy.admissionregistration.k8s.io \"p\" is invalid: ";
        assert_eq!(message.strip_prefix(prefix), Some(expect));
    };
    let fine = [apply("Object{}")];
    check(
        &[],
        Value::Null,
        "spec.mutations: Required value: mutations must contain at least one item",
    )
    .await;
    check(
        &fine,
        json!({"reinvocationPolicy": "Often"}),
        "spec.reinvocationPolicy: Unsupported value: \"Often\": supported values: \"IfNeeded\", \
         \"Never\"",
    )
    .await;
    check(
        &fine,
        json!({"matchConstraints": {"resourceRules": [{
            "operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["configmaps"],
        }]}}),
        "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported \
         values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
    )
    .await;
    check(
        &[json!({"patchType": "JSONPatch"})],
        Value::Null,
        "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
    )
    .await;
    check(
        &[json_patch("Object{}")],
        Value::Null,
        "spec.mutations[0].jsonPatch.expression: Invalid value: \"Object{}\": must evaluate to \
         list(JSONPatch) but got Object",
    )
    .await;
    check(
        &[apply("Object{a: variables.x}")],
        Value::Null,
        "spec.mutations[0].applyConfiguration.expression: Invalid value: \"Object{a: \
         variables.x}\": compilation failed: ERROR: <input>:1:20: undefined field 'x'\n | Object{a: \
         variables.x}\n | ...................^",
    )
    .await;
}

#[tokio::test]
async fn a_value_that_grows_without_end_runs_out_of_budget() {
    let server = Server::start().await;
    // Each variable holds the one before ten times: small to make, endless to write.
    let mut variables = vec![json!({"name": "v0", "expression": "['x']"})];
    for level in 1..12 {
        let before = format!("variables.v{}", level - 1);
        let ten = vec![before; 10].join(", ");
        variables.push(json!({"name": format!("v{level}"), "expression": format!("[{ten}]")}));
    }
    enforce(
        &server,
        "p",
        &[json_patch(
            "[JSONPatch{op: 'add', path: '/data', value: variables.v11}]",
        )],
        json!({"variables": variables}),
    )
    .await;
    let answer = server.post(CONFIG_MAPS, config_map("x")).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN, "{:?}", answer.body);
    assert!(
        answer.message().contains("cost"),
        "the budget ends it: {}",
        answer.message()
    );
}

#[tokio::test]
async fn policies_judge_webhooks_but_not_policies() {
    let server = Server::start().await;
    enforce(
        &server,
        "p",
        &[apply(
            "Object{metadata: Object.metadata{labels: {'seen': 'yes'}}}",
        )],
        json!({"matchConstraints": {"resourceRules": [{
            "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"],
        }]}}),
    )
    .await;
    let path = format!("{GROUP}/validatingwebhookconfigurations");
    let made = server.post(&path, json!({"metadata": {"name": "w"}})).await;
    assert_eq!(made.body["metadata"]["labels"]["seen"], "yes");
    let made = policy(&server, "q", &[apply("Object{}")], Value::Null).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    assert_eq!(made.body["metadata"]["labels"], Value::Null);
}

#[tokio::test]
async fn variables_do_not_stand_on_each_other_without_end() {
    let server = Server::start().await;
    let variables = |count: usize| -> Value {
        (0..count)
            .map(|level| match level {
                0 => json!({"name": "v0", "expression": "[1]"}),
                _ => json!({
                    "name": format!("v{level}"),
                    "expression": format!("[[variables.v{}]]", level - 1),
                }),
            })
            .collect()
    };
    let mutation = |last: usize| {
        json_patch(&format!(
            "[JSONPatch{{op: 'add', path: '/data/x', value: string(size(variables.v{last}))}}]"
        ))
    };
    let high = policy(
        &server,
        "high",
        &[mutation(4999)],
        json!({"variables": variables(5000)}),
    )
    .await;
    assert_eq!(high.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        high.message()
            .contains("expression recursion limit exceeded: 1000"),
        "{}",
        high.message()
    );
    enforce(
        &server,
        "p",
        &[mutation(40)],
        json!({"variables": variables(41)}),
    )
    .await;
    let mut object = config_map("x");
    object["data"] = json!({"a": "1"});
    let made = server.post(CONFIG_MAPS, object).await;
    assert_eq!(made.body["data"]["x"], "1", "{:?}", made.body);
}

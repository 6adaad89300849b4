//! Tokens, reviews and acting as somebody else.

use http::Method;
use serde_json::{Value, json};

use super::bed::{ACCOUNTS, Answer, Bed, PARTIAL, TABLE};
use crate::lab::CONFIG_MAPS;

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

#[tokio::test]
async fn a_token_request_comes_back_whole() {
    let bed = Bed::start().await;
    assert_eq!(
        bed.post(ACCOUNTS, json!({"metadata": {"name": "robot"}}))
            .await
            .code,
        201
    );
    let path = format!("{ACCOUNTS}/robot/token");
    let answer = bed.post(&path, json!({"spec": {"audiences": ["x"]}})).await;
    assert_eq!(answer.code, 201, "{answer:?}");
    let metadata = &answer.body["metadata"];
    assert_eq!(
        (&metadata["name"], &metadata["namespace"]),
        (&json!("robot"), &json!("default"))
    );
    assert!(metadata["uid"].is_string() && metadata["creationTimestamp"].is_string());
    let entry = &metadata["managedFields"][0];
    assert_eq!(entry["subresource"], "token");
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:spec": {"f:audiences": {}, "f:expirationSeconds": {}}})
    );
    assert_eq!(answer.body["spec"]["expirationSeconds"], 3600);
    let ask = |accept: &'static str| {
        let headers = [("accept", accept)];
        let path = &path;
        let bed = &bed;
        async move { bed.ask(Method::POST, path, &headers, "{}").await }
    };
    assert_eq!(ask(TABLE).await.code, 406);
    assert_eq!(ask(PARTIAL).await.body["kind"], "PartialObjectMetadata");
    let strict = bed
        .post(&format!("{path}?fieldValidation=Strict"), json!({"foo": 1}))
        .await;
    assert_eq!(
        strict.refusal(),
        (
            400,
            "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: strict decoding \
             error: unknown field \"foo\""
        )
    );
    let other = bed.post(&path, json!({"metadata": {"uid": "u"}})).await;
    assert_eq!(other.code, 409);
    assert_eq!(other.body["details"]["kind"], "TokenRequest");
}

#[tokio::test]
async fn a_question_about_oneself_keeps_nothing_of_what_was_sent() {
    let bed = Bed::start().await;
    let named = json!({"metadata": {"name": "x", "labels": {"a": "b"}}});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = bed.post(path, named.clone()).await;
    let metadata = answer.body["metadata"].as_object().expect("metadata");
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["creationTimestamp"]);
    let mut rules = named;
    rules["spec"] = json!({"namespace": "default"});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let answer = bed.post(path, rules).await;
    assert_eq!(answer.body["metadata"], json!({}));
    assert_eq!(answer.body["status"]["incomplete"], false);
    let local = "/apis/authorization.k8s.io/v1/localsubjectaccessreviews";
    assert_eq!(bed.post(local, json!({})).await.code, 404);
}

#[tokio::test]
async fn selectors_in_a_review_are_checked() {
    let bed = Bed::start().await;
    let ask = async |selector: Value| {
        let spec = json!({
            "user": "bob",
            "resourceAttributes": {"verb": "list", "resource": "pods", "labelSelector": selector},
        });
        bed.post(REVIEWS, json!({"spec": spec})).await
    };
    let empty = ask(json!({})).await;
    assert_eq!(
        empty.refusal(),
        (
            422,
            ".authorization.k8s.io \"\" is invalid: \
             spec.resourceAttributes.labelSelector.requirements: Required value: when \
             spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is \
             required"
        )
    );
    let later = json!({"requirements": [{"key": "a", "operator": "Like", "values": ["b"]}]});
    let answer = ask(later).await;
    assert_eq!(
        answer.body["status"]["evaluationError"],
        "spec.resourceAttributes.labelSelector ignored due to parse error"
    );
}

async fn as_bob(bed: &Bed) -> Answer {
    let headers = [("impersonate-user", "bob")];
    bed.ask_as_alice(Method::GET, CONFIG_MAPS, &headers, "")
        .await
}

#[tokio::test]
async fn the_mode_in_which_somebody_may_act_is_the_one_whose_refusal_is_told() {
    let bed = Bed::start().await;
    assert_eq!(
        as_bob(&bed).await.refusal(),
        (
            403,
            "configmaps is forbidden: User \"alice\" cannot impersonate-on:user-info:list \
             resource \"configmaps\" in API group \"\" in the namespace \"default\""
        )
    );
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({
        "metadata": {"name": "act"},
        "rules": [{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}],
    });
    let binding = json!({
        "metadata": {"name": "act"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "act"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    });
    assert_eq!(
        bed.post(&format!("{rbac}/clusterroles"), role).await.code,
        201
    );
    let bindings = format!("{rbac}/clusterrolebindings");
    assert_eq!(bed.post(&bindings, binding).await.code, 201);
    // Now she may, and it is bob who may not list.
    assert_eq!(
        as_bob(&bed).await.message(),
        "configmaps is forbidden: User \"bob\" cannot list resource \"configmaps\" in API group \
         \"\" in the namespace \"default\""
    );
    assert_eq!(bed.delete(&format!("{bindings}/act")).await.code, 200);
    assert_eq!(
        as_bob(&bed).await.message(),
        "users \"bob\" is forbidden: User \"alice\" cannot impersonate resource \"users\" in API \
         group \"\" at the cluster scope"
    );
}

#[tokio::test]
async fn the_constrained_modes_need_both_rights_and_never_make_masters() {
    let bed = Bed::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let users = "authentication.k8s.io";
    let role = json!({
        "metadata": {"name": "act"},
        "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["impersonate-on:user-info:list", "list"]},
            {"apiGroups": [users], "resources": ["users", "groups"], "verbs": ["impersonate:user-info"]},
        ],
    });
    let subject =
        |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
    let binding = json!({
        "metadata": {"name": "act"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "act"},
        "subjects": [subject("alice"), subject("bob")],
    });
    assert_eq!(
        bed.post(&format!("{rbac}/clusterroles"), role).await.code,
        201
    );
    let bindings = format!("{rbac}/clusterrolebindings");
    assert_eq!(bed.post(&bindings, binding).await.code, 201);
    assert_eq!(as_bob(&bed).await.code, 200);
    let headers = [
        ("impersonate-user", "bob"),
        ("impersonate-group", "system:masters"),
    ];
    let masters = bed
        .ask_as_alice(Method::GET, CONFIG_MAPS, &headers, "")
        .await;
    assert_eq!(
        masters.refusal(),
        (
            403,
            "groups.authentication.k8s.io \"system:masters\" is forbidden: User \"alice\" cannot \
             impersonate:user-info resource \"groups\" in API group \"authentication.k8s.io\" at \
             the cluster scope: impersonating the system:masters group is not allowed"
        )
    );
    let headers = [("impersonate-user", "bob")];
    let get = bed
        .ask_as_alice(Method::GET, &format!("{CONFIG_MAPS}/x"), &headers, "")
        .await;
    assert_eq!(get.code, 403, "another verb needs another right");
}

#[tokio::test]
async fn an_escaped_slash_separates_for_who_decides_too() {
    let bed = Bed::start().await;
    let path = format!("{CONFIG_MAPS}/a%2fb");
    let refused = bed.ask_as_alice(Method::GET, &path, &[], "").await;
    assert_eq!(
        refused.message(),
        "configmaps \"a\" is forbidden: User \"alice\" cannot get resource \"configmaps/b\" in \
         API group \"\" in the namespace \"default\""
    );
    assert_eq!(bed.get(&path).await.code, 404);
}

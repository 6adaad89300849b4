//! Who may do what, and as whom.

use std::sync::Arc;

use http::{Method, StatusCode};
use rdd_apiserver::{Identity, auth::Rbac};
use serde_json::{Value, json};

use crate::lab::{AGAIN, CONFIG_MAPS, DEADLINE, Lab, exchange, read, sent, usual_type};

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";

fn role(name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name}, "rules": rules,
    })
}

fn binding(name: &str, kind: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    })
}

/// A server that knows alice by the token `good`.
async fn start() -> Lab {
    let lab = Lab::start(|options| {
        let alice = Identity::new("alice", "", ["devs"]);
        options.authenticator.add_token("good", alice);
        options.authorizer = Arc::new(Rbac::new(Arc::clone(&options.store)));
    });
    lab.await
}

impl Lab {
    /// As alice, who has no rights of her own; `headers` come in pairs.
    async fn as_alice(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> (StatusCode, Value) {
        let mut all = vec![
            ("content-type", usual_type(&method)),
            ("authorization", "Bearer good"),
        ];
        all.extend_from_slice(headers);
        read(exchange(self.api.router(), method, path, &all, sent(&body)).await).await
    }
}

#[tokio::test]
async fn a_right_counts_from_the_answer_to_its_creation_to_that_to_its_deletion() {
    let server = start().await;
    let reads = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    for _ in 0..20 {
        let list = server.as_alice(Method::GET, CONFIG_MAPS, &[], Value::Null);
        assert_eq!(list.await.0, StatusCode::FORBIDDEN);
        server
            .call(Method::POST, ROLES, role("r", reads.clone()))
            .await;
        server
            .call(Method::POST, BINDINGS, binding("b", "Role", "r"))
            .await;
        let list = server.as_alice(Method::GET, CONFIG_MAPS, &[], Value::Null);
        assert_eq!(list.await.0, StatusCode::OK);
        server
            .call(Method::DELETE, &format!("{ROLES}/r"), Value::Null)
            .await;
        let list = server
            .as_alice(Method::GET, CONFIG_MAPS, &[], Value::Null)
            .await;
        assert_eq!(
            list.1["message"],
            "configmaps is forbidden: User \"alice\" cannot list resource \"configmaps\" in API \
             group \"\" in the namespace \"default\": RBAC: role.rbac.authorization.k8s.io \"r\" \
             not found"
        );
        server
            .call(Method::DELETE, &format!("{BINDINGS}/b"), Value::Null)
            .await;
    }
}

#[tokio::test]
async fn the_roles_that_kubernetes_brings_are_put_together_and_can_be_bound() {
    let server = start().await;
    let begin = std::time::Instant::now();
    loop {
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin";
        let (_, admin) = server.call(Method::GET, path, Value::Null).await;
        let rules = admin["rules"].to_string();
        if rules.contains("configmaps") && rules.contains("rolebindings") {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "{admin}");
        tokio::time::sleep(AGAIN).await;
    }
    let (status, _) = server
        .call(Method::POST, BINDINGS, binding("b", "ClusterRole", "admin"))
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let list = server.as_alice(Method::GET, CONFIG_MAPS, &[], Value::Null);
    assert_eq!(list.await.0, StatusCode::OK);
    // What she holds she may give on; more she may not.
    let secrets = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    let given = server.as_alice(Method::POST, ROLES, &[], role("mine", secrets));
    assert_eq!(given.await.0, StatusCode::CREATED);
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let (status, refused) = server
        .as_alice(Method::POST, ROLES, &[], role("all", all))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        refused["message"]
            .to_string()
            .contains("permissions not currently held"),
        "{refused}"
    );
    let elsewhere = "/api/v1/namespaces/kube-system/configmaps";
    let list = server.as_alice(Method::GET, elsewhere, &[], Value::Null);
    assert_eq!(list.await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn nobody_acts_as_somebody_else_without_the_right_to() {
    let server = start().await;
    let list = |headers: &'static [(&str, &str)]| {
        server.as_alice(Method::GET, CONFIG_MAPS, headers, Value::Null)
    };
    let (status, refused) = list(&[("impersonate-user", "bob")]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        refused["message"],
        "configmaps is forbidden: User \"alice\" cannot impersonate-on:user-info:list resource \
         \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    let masters = &[
        ("impersonate-user", "alice"),
        ("impersonate-group", "system:masters"),
    ];
    assert_eq!(list(masters).await.0, StatusCode::FORBIDDEN);
    let (status, refused) = list(&[("impersonate-group", "system:masters")]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(
        message.ends_with("without impersonating a user name"),
        "{refused}"
    );
}

#[tokio::test]
async fn who_is_no_master_is_told_what_they_may_not() {
    let server = start().await;
    let ask = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        read(exchange(server.api.router(), Method::GET, CONFIG_MAPS, &headers, "").await).await
    };
    assert_eq!(ask("bad").await.0, StatusCode::UNAUTHORIZED);
    let (status, answer) = ask("good").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        answer["message"],
        "configmaps is forbidden: User \"alice\" cannot list resource \"configmaps\" in API group \
         \"\" in the namespace \"default\""
    );
}

#[tokio::test]
async fn a_token_bound_to_an_empty_reference_is_refused() {
    let server = start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": "bound"}});
    let (status, _) = server.call(Method::POST, accounts, account).await;
    assert_eq!(status, StatusCode::CREATED);
    let request = json!({"spec": {"boundObjectRef": {}}});
    let path = format!("{accounts}/bound/token");
    let (status, refused) = server.call(Method::POST, &path, request).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    assert_eq!(
        refused["message"],
        "cannot bind token to object of type /, Kind="
    );
}

#[tokio::test]
async fn public_paths_are_for_the_groups_that_every_caller_is_in() {
    let server = start().await;
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (path, groups, expected) in [
        ("/healthz", json!([]), false),
        ("/healthz", json!(["system:unauthenticated"]), true),
        ("/healthz", json!(["system:authenticated"]), true),
        ("/api", json!(["system:unauthenticated"]), false),
        ("/api", json!(["system:authenticated"]), true),
    ] {
        let spec = json!({
            "user": "bob", "groups": groups,
            "nonResourceAttributes": {"path": path, "verb": "get"},
        });
        let (_, review) = server
            .call(Method::POST, reviews, json!({"spec": spec}))
            .await;
        assert_eq!(review["status"]["allowed"], expected, "{review}");
    }
}

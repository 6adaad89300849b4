//! The roles and bindings that every control plane begins with.

use serde_json::{Value, json};

/// A rule on resources.
fn on(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": groups, "resources": resources})
}

fn paths(paths: &[&str]) -> Value {
    json!({"verbs": ["get"], "nonResourceURLs": paths})
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

fn cluster_role(name: &str, labels: Value, rest: Value) -> Value {
    let mut labels = labels;
    labels["kubernetes.io/bootstrapping"] = json!("rbac-defaults");
    let mut role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
    });
    if let (Some(role), Value::Object(rest)) = (role.as_object_mut(), rest) {
        role.extend(rest);
    }
    role
}

/// ClusterRoles, those that others are put together from included.
#[must_use]
pub fn cluster_roles() -> Vec<Value> {
    let part_of = |role: &str| {
        let key = format!("rbac.authorization.k8s.io/aggregate-to-{role}");
        json!({ key: "true" })
    };
    let made_of = |role: &str| json!({"clusterRoleSelectors": [{"matchLabels": part_of(role)}]});
    let plain = |name: &str, rules: Value| cluster_role(name, json!({}), json!({"rules": rules}));
    let mut edit_labels = part_of("admin");
    edit_labels["rbac.authorization.k8s.io/aggregate-to-admin"] = json!("true");
    let together = |name: &str, labels: Value| {
        let aggregation = json!({"aggregationRule": made_of(name), "rules": []});
        cluster_role(name, labels, aggregation)
    };
    let part = |role: &str, rules: Value| {
        let name = format!("system:aggregate-to-{role}");
        cluster_role(&name, part_of(role), json!({"rules": rules}))
    };
    vec![
        plain(
            "cluster-admin",
            json!([
                on(&["*"], &["*"], &["*"]),
                {"verbs": ["*"], "nonResourceURLs": ["*"]},
            ]),
        ),
        together("admin", json!({})),
        together("edit", edit_labels),
        together("view", part_of("edit")),
        part(
            "admin",
            json!([
                on(
                    &["create"],
                    &["authorization.k8s.io"],
                    &["localsubjectaccessreviews"]
                ),
                on(
                    &[READ, WRITE].concat(),
                    &["rbac.authorization.k8s.io"],
                    &["roles", "rolebindings"],
                ),
            ]),
        ),
        part(
            "edit",
            json!([
                on(READ, &[""], &["secrets"]),
                on(&["impersonate"], &[""], &["serviceaccounts"]),
                on(&["create"], &[""], &["serviceaccounts/token"]),
                on(
                    WRITE,
                    &[""],
                    &["configmaps", "events", "secrets", "serviceaccounts"]
                ),
                on(
                    &[READ, WRITE].concat(),
                    &["coordination.k8s.io"],
                    &["leases"],
                ),
            ]),
        ),
        part(
            "view",
            json!([on(
                READ,
                &[""],
                &[
                    "configmaps",
                    "events",
                    "namespaces",
                    "namespaces/status",
                    "serviceaccounts"
                ],
            )]),
        ),
        plain(
            "system:discovery",
            json!([paths(&[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ])]),
        ),
        plain(
            "system:public-info-viewer",
            json!([paths(&[
                "/healthz",
                "/livez",
                "/readyz",
                "/version",
                "/version/"
            ])]),
        ),
        plain(
            "system:monitoring",
            json!([paths(&[
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/metrics/slis",
                "/readyz",
                "/readyz/*",
            ])]),
        ),
        plain(
            "system:basic-user",
            json!([
                on(
                    &["create"],
                    &["authorization.k8s.io"],
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                ),
                on(
                    &["create"],
                    &["authentication.k8s.io"],
                    &["selfsubjectreviews"]
                ),
            ]),
        ),
        plain(
            "system:service-account-issuer-discovery",
            json!([paths(&[
                "/.well-known/openid-configuration",
                "/.well-known/openid-configuration/",
                "/openid/v1/jwks",
                "/openid/v1/jwks/",
            ])]),
        ),
    ]
}

/// Who holds them.
#[must_use]
pub fn cluster_role_bindings() -> Vec<Value> {
    [
        ("cluster-admin", &["system:masters"][..]),
        ("system:basic-user", &["system:authenticated"]),
        ("system:discovery", &["system:authenticated"]),
        ("system:monitoring", &["system:monitoring"]),
        (
            "system:public-info-viewer",
            &["system:authenticated", "system:unauthenticated"],
        ),
        (
            "system:service-account-issuer-discovery",
            &["system:serviceaccounts"],
        ),
    ]
    .into_iter()
    .map(|(name, groups)| {
        let subjects: Vec<Value> = groups
            .iter()
            .map(|group| {
                json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group})
            })
            .collect();
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {
                "name": name,
                "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            },
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": subjects,
        })
    })
    .collect()
}

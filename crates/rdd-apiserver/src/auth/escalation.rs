//! Nobody gives others more than they have: writes to roles and bindings.
//!
//! As in Kubernetes, a role may only be written by who holds all its rules or the verb
//! `escalate` on it, and a binding by who holds all rules of its role or the verb `bind`.

use http::Method;
use serde::Deserialize as _;
use serde_json::Value;

use crate::{
    auth::{
        Attributes, Decision,
        authenticate::MASTERS,
        authorize::Rights,
        rbac::rules::{Rule, uncovered},
    },
    catalog::Resource,
    http::request_info::{RequestInfo, ResourceRequest},
    object,
    status::{ApiError, ApiResult},
    verbs::call::Call,
};

/// The API group of roles.
const GROUP: &str = "rbac.authorization.k8s.io";

/// Lets a write to a role or a binding through, or answers its refusal. Other writes
/// cost nothing.
pub(crate) async fn check(call: &Call, new: &Value, old: Option<&Value>) -> ApiResult<()> {
    let resource = &call.resource;
    if resource.group != GROUP || resource.is_custom() || call.identity.is_in(MASTERS) {
        return Ok(());
    }
    if old.is_some_and(|old| same_but_for_owners(new, old)) {
        return Ok(());
    }
    match resource.plural.as_str() {
        "roles" | "clusterroles" => role(call, new, old).await,
        "rolebindings" | "clusterrolebindings" => binding(call, new).await,
        _ => Ok(()),
    }
}

/// Whether a write changes only what garbage collection reads.
fn same_but_for_owners(new: &Value, old: &Value) -> bool {
    let without = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object::metadata_mut(&mut object) {
            for field in [
                "ownerReferences",
                "finalizers",
                "managedFields",
                "resourceVersion",
            ] {
                metadata.remove(field);
            }
        }
        object
    };
    without(new) == without(old)
}

async fn may(call: &Call, verb: &str, plural: &str, name: &str) -> bool {
    let request = RequestInfo::Resource(ResourceRequest {
        method: Method::POST,
        verb: None,
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        namespace: call.namespace().unwrap_or_default().to_owned(),
        plural: plural.to_owned(),
        subresource: String::new(),
        name: name.to_owned(),
        too_deep: false,
    });
    let attributes = Attributes {
        identity: &call.identity,
        request: &request,
        verb,
        selected_name: None,
    };
    matches!(
        call.server.authorizer().authorize(&attributes).await,
        Decision::Allow(_)
    )
}

async fn role(call: &Call, new: &Value, old: Option<&Value>) -> ApiResult<()> {
    let name = object::meta(new, "name");
    if may(call, "escalate", &call.resource.plural, name).await {
        return Ok(());
    }
    let rights = rights(call).await;
    let aggregation = |role: &Value| role.get("aggregationRule").cloned().unwrap_or_default();
    let aggregates = aggregation(new);
    if !aggregates.is_null() && old.is_none_or(|old| aggregation(old) != aggregates) {
        let everything = ["*".to_owned()];
        let all = Rule {
            verbs: everything.to_vec(),
            api_groups: everything.to_vec(),
            resources: everything.to_vec(),
            non_resource_urls: everything.to_vec(),
            ..Rule::default()
        };
        if !uncovered(&rights.rules, &[all]).is_empty() {
            let text = "must have cluster-admin privileges to use the aggregationRule";
            return Err(ApiError::forbidden(&call.resource, name, text));
        }
    }
    let rules = new
        .get("rules")
        .and_then(|rules| Vec::<Rule>::deserialize(rules).ok())
        .unwrap_or_default();
    judge(call, &call.resource, name, &rights, &rules)
}

async fn binding(call: &Call, new: &Value) -> ApiResult<()> {
    let text = |field: &str| new["roleRef"][field].as_str().unwrap_or_default();
    let (kind, role) = (text("kind"), text("name"));
    let plural = if kind == "Role" {
        "roles"
    } else {
        "clusterroles"
    };
    if may(call, "bind", plural, role).await {
        return Ok(());
    }
    let namespace = call.namespace().unwrap_or_default();
    let Some(rules) = call.server.authorizer().role(namespace, kind, role).await else {
        return Err(ApiError::not_found(&call.resource, role));
    };
    let rights = rights(call).await;
    judge(
        call,
        &call.resource,
        object::meta(new, "name"),
        &rights,
        &rules,
    )
}

async fn rights(call: &Call) -> Rights {
    let namespace = call.namespace().unwrap_or_default();
    let authorizer = call.server.authorizer();
    authorizer.rights(&call.identity, namespace).await
}

fn judge(
    call: &Call,
    resource: &Resource,
    name: &str,
    rights: &Rights,
    rules: &[Rule],
) -> ApiResult<()> {
    let missing = uncovered(&rights.rules, rules);
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = call
        .identity
        .groups
        .iter()
        .map(|group| format!("{group:?}"))
        .collect();
    let mut text = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        call.identity.name,
        groups.join(" "),
        missing.join("\n")
    );
    if !rights.problems.is_empty() {
        text.push_str(&format!(
            "; resolution errors: [{}]",
            rights.problems.join(", ")
        ));
    }
    Err(ApiError::forbidden(resource, name, &text))
}

//! Questions to the server: access reviews, and whose token a token is.
//!
//! The answer is the question with its `status` filled in; nothing is stored.

use std::sync::Arc;

use http::{Method, Response};
use rdd_admission::{Operation, Phase};
use rdd_schema::FieldError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    auth::{Attributes, Decision, Identity, rbac::rules::Rule, service_account::AUDIENCE},
    catalog::Resource,
    encoding::negotiate::content_type,
    http::{
        body::{self, Body},
        request_info::{RequestInfo, ResourceRequest},
    },
    options::{WriteKind, WriteOptions},
    status::{ApiError, ApiResult},
    verbs::{call::Call, decode, managed},
};

mod selectors;

/// Whether creating one is asking.
pub(crate) fn is_review(resource: &Resource) -> bool {
    !resource.is_custom()
        && matches!(
            resource.group.as_str(),
            "authorization.k8s.io" | "authentication.k8s.io"
        )
}

pub(crate) async fn create(call: &mut Call, body: Body) -> ApiResult<Response<Body>> {
    let bytes = body::read(body).await?;
    let options = WriteOptions::parse(&call.query, WriteKind::Create)?;
    let content_type = content_type(&call.headers);
    let mut review = decode::object(call, &bytes, content_type, options.field_validation)?;
    call.resource
        .strategy
        .default(&call.write_context(), &mut review);
    decode::fit_namespace(call, &mut review)?;
    let operation = Operation::Create;
    let given = &options.given;
    call.admit(Phase::Mutating, operation, &mut review, None, given)
        .await?;
    let status = match call.resource.plural.as_str() {
        "subjectaccessreviews" => access(call, &review, Whose::Named, None).await?,
        "localsubjectaccessreviews" => {
            let namespace = call.namespace().unwrap_or_default().to_owned();
            access(call, &review, Whose::Named, Some(&namespace)).await?
        }
        "selfsubjectaccessreviews" => access(call, &review, Whose::Own, None).await?,
        "selfsubjectrulesreviews" => {
            let status = rules(call, &review).await?;
            // As kube-apiserver, which does not repeat the question.
            review = json!({
                "apiVersion": call.resource.api_version(),
                "kind": call.resource.kind,
                "metadata": {},
                "spec": {},
            });
            status
        }
        "selfsubjectreviews" => {
            // Nothing but the answer comes back.
            review = json!({
                "apiVersion": call.resource.api_version(),
                "kind": call.resource.kind,
                "metadata": {"creationTimestamp": call.now.to_string()},
            });
            json!({"userInfo": user_info(&call.identity)})
        }
        _ => token(call, &review).await?,
    };
    managed::track(call, &options, None, &mut review);
    call.admit(Phase::Validating, operation, &mut review, None, given)
        .await?;
    review["status"] = status;
    call.resource
        .strategy
        .default(&call.write_context(), &mut review);
    call.answer_object(201, &review)
}

fn user_info(identity: &Identity) -> Value {
    json!({
        "username": identity.name,
        "uid": identity.uid,
        "groups": identity.groups,
        "extra": identity.extra,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Named,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Question {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<PathAttributes>,
    user: String,
    groups: Option<Vec<String>>,
    uid: String,
    extra: Option<std::collections::BTreeMap<String, Vec<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PathAttributes {
    path: String,
    verb: String,
}

async fn access(
    call: &Call,
    review: &Value,
    whose: Whose,
    namespace: Option<&str>,
) -> ApiResult<Value> {
    let question = Question::deserialize(&review["spec"]).unwrap_or_default();
    let errors = access_errors(review, &question, whose, namespace);
    if !errors.is_empty() {
        let group = &call.resource.group;
        return Err(ApiError::invalid_kind("", group, "", &errors));
    }
    let named = Identity {
        name: question.user,
        uid: question.uid,
        groups: question.groups.unwrap_or_default(),
        extra: question.extra.unwrap_or_default(),
    };
    let identity = match whose {
        Whose::Own => &*call.identity,
        Whose::Named => &named,
    };
    let (request, verb) = match (
        question.resource_attributes,
        question.non_resource_attributes,
    ) {
        (Some(asked), _) => {
            let request = RequestInfo::Resource(ResourceRequest {
                method: Method::GET,
                verb: None,
                group: asked.group,
                version: asked.version,
                namespace: asked.namespace,
                plural: asked.resource,
                subresource: asked.subresource,
                name: asked.name,
                too_deep: false,
            });
            (request, asked.verb)
        }
        (None, asked) => {
            let asked = asked.unwrap_or_default();
            let request = RequestInfo::Path {
                verb: asked.verb.clone(),
                path: asked.path,
            };
            (request, asked.verb)
        }
    };
    let attributes = Attributes {
        identity,
        request: &request,
        verb: &verb,
        selected_name: None,
    };
    let mut status = match call.server.authorizer().authorize(&attributes).await {
        Decision::Allow(reason) => json!({"allowed": true, "reason": reason}),
        Decision::Deny(reason) => json!({"allowed": false, "reason": reason}),
    };
    let asked = &review["spec"]["resourceAttributes"];
    let ignored = [selectors::Kind::Field, selectors::Kind::Label]
        .into_iter()
        .filter_map(|kind| kind.ignored(asked, "spec.resourceAttributes"));
    let ignored: Vec<String> = ignored.collect();
    if !ignored.is_empty() {
        status["evaluationError"] = json!(ignored.join("; "));
    }
    Ok(status)
}

fn access_errors(
    review: &Value,
    question: &Question,
    whose: Whose,
    namespace: Option<&str>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = question
        .non_resource_attributes
        .as_ref()
        .map(|asked| json!({"Path": asked.path, "Verb": asked.verb}));
    match (&question.resource_attributes, &path) {
        (Some(_), Some(path)) => errors.push(FieldError::invalid(
            "spec.nonResourceAttributes",
            path.clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(FieldError::invalid(
            "spec.resourceAttributes",
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let nobody = question.user.is_empty() && question.groups.as_ref().is_none_or(Vec::is_empty);
    if whose == Whose::Named && nobody {
        errors.push(FieldError::invalid(
            "spec.user",
            "",
            "at least one of user or group must be specified",
        ));
    }
    let asked = &review["spec"]["resourceAttributes"];
    for kind in [selectors::Kind::Field, selectors::Kind::Label] {
        errors.extend(kind.errors(asked, "spec.resourceAttributes"));
    }
    let mut metadata = review["metadata"].clone();
    if let Some(members) = metadata.as_object_mut() {
        members.remove("managedFields");
        if namespace.is_some() {
            members.remove("namespace");
        }
        if !members.is_empty() {
            let problem = match namespace {
                Some(_) => "must be empty except for namespace",
                None => "must be empty",
            };
            errors.push(FieldError::invalid("metadata", metadata, problem));
        }
    }
    if let Some(namespace) = namespace {
        if let Some(asked) = &question.resource_attributes
            && asked.namespace != namespace
        {
            errors.push(FieldError::invalid(
                "spec.resourceAttributes.namespace",
                asked.namespace.as_str(),
                "must match metadata.namespace",
            ));
        }
        if let Some(path) = path {
            errors.push(FieldError::invalid(
                "spec.nonResourceAttributes",
                path,
                "disallowed on this kind of request",
            ));
        }
    }
    errors
}

async fn rules(call: &Call, review: &Value) -> ApiResult<Value> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let authorizer = call.server.authorizer();
    let rights = authorizer.rights(&call.identity, namespace).await;
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in rights.rules {
        let Rule {
            verbs,
            api_groups,
            resources: kinds,
            resource_names,
            non_resource_urls,
        } = rule;
        if !kinds.is_empty() {
            resources.push(json!({
                "verbs": verbs, "apiGroups": api_groups, "resources": kinds,
                "resourceNames": resource_names,
            }));
        }
        if !non_resource_urls.is_empty() {
            paths.push(json!({"verbs": verbs, "nonResourceURLs": non_resource_urls}));
        }
    }
    let mut status = json!({
        "resourceRules": resources,
        "nonResourceRules": paths,
        // What roles say is said, whatever they could not say.
        "incomplete": false,
    });
    if !rights.problems.is_empty() {
        status["evaluationError"] = json!(rights.problems.join(", "));
    }
    Ok(status)
}

async fn token(call: &Call, review: &Value) -> ApiResult<Value> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked: Vec<String> = review["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let asked = if asked.is_empty() {
        vec![AUDIENCE.to_owned()]
    } else {
        asked
    };
    let server = &call.server;
    let held = server.authenticator.holder(token, &server.store, call.now);
    let (holder, audiences): (Arc<Identity>, Vec<String>) = match held.await {
        Some((holder, audiences)) => (holder, audiences),
        None => return Ok(json!({"user": {}, "error": "invalid bearer token"})),
    };
    let meant: Vec<&String> = asked.iter().filter(|one| audiences.contains(one)).collect();
    if meant.is_empty() {
        return Ok(json!({"user": {}, "error": "invalid bearer token"}));
    }
    Ok(json!({"authenticated": true, "user": user_info(&holder), "audiences": meant}))
}

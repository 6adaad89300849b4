//! What validating and mutating policies have in common: whom they are about, what their
//! expressions may name, and where their params are.

use std::{cell::RefCell, sync::Arc};

use rdd_admission::AdmissionRequest;
use rdd_cel::Environment;
use rdd_store::ReadAt;
use serde_json::Value;

use super::{
    expressions::{self, Conditions, Expression, Purse, Scope},
    is_namespace,
    matching::{Criteria, LabelSelector, Subject, items, labels},
};
use crate::{
    catalog::Resource,
    status::{ApiError, ApiResult},
    verbs::{call::Call, convert, served, store_error},
};

/// A kind of policy.
pub(super) trait Policy {
    /// Reads and compiles one.
    fn read(object: &Value) -> Self;

    /// What it has in common with other kinds.
    fn frame(&self) -> &Frame;
}

/// What every policy has.
pub(super) struct Frame {
    pub(super) name: String,
    pub(super) criteria: Criteria,
    pub(super) fails_closed: bool,
    param_kind: Option<(String, String)>,
    conditions: Conditions,
    variables: Vec<(String, Expression)>,
}

/// A policy with its bindings.
pub(super) struct InForce<P> {
    pub(super) policy: Arc<P>,
    pub(super) bindings: Vec<Arc<Binding>>,
}

/// One binding.
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    pub(super) criteria: Option<Criteria>,
    params: Option<ParamRef>,
    pub(super) denies: bool,
    pub(super) warns: bool,
    pub(super) audits: bool,
}

struct ParamRef {
    name: String,
    namespace: String,
    selector: LabelSelector,
    /// That there is none is a refusal.
    required: bool,
}

pub(super) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

impl Frame {
    /// Reads the frame of a policy. The environments are those of its other expressions, of
    /// which each comes back with the variables.
    pub(super) fn read(object: &Value, environments: &mut [Environment]) -> Self {
        let spec = &object["spec"];
        let kind = &spec["paramKind"];
        let param_kind = kind
            .is_object()
            .then(|| (text(kind, "apiVersion"), text(kind, "kind")));
        let mut environment = expressions::of_policies(param_kind.is_some());
        let conditions = Conditions::read(&environment, spec);
        if items(spec, "variables").next().is_some() {
            environment = expressions::with_variables(environment);
            for one in environments.iter_mut() {
                *one = expressions::with_variables(std::mem::take(one));
            }
        }
        let mut variables = Vec::new();
        for variable in items(spec, "variables") {
            let name = format!("variables.{}", text(variable, "name"));
            let expression = Expression::new(&environment, &text(variable, "expression"), &[]);
            environment = expression.declare(environment, &name);
            for one in environments.iter_mut() {
                *one = expression.declare(std::mem::take(one), &name);
            }
            variables.push((name, expression));
        }
        Self {
            name: text(&object["metadata"], "name"),
            criteria: Criteria::read(&spec["matchConstraints"], "resourceRules"),
            fails_closed: spec["failurePolicy"] != "Ignore",
            param_kind,
            conditions,
            variables,
        }
    }

    /// What the policy cannot be used without, if that is not there.
    pub(super) fn lacks(&self, call: &Call) -> Option<String> {
        let (api_version, kind) = self.param_kind.as_ref()?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let catalog = call.server.catalog.load();
        catalog
            .resource_of_kind(group, version, kind)
            .is_none()
            .then(|| {
                format!(
                    "failed to find resource referenced by paramKind: '{group}/{version}, \
                     Kind={kind}'"
                )
            })
    }

    /// Whether the match conditions hold. They see no Namespace and no variables, as in
    /// kube-apiserver.
    ///
    /// # Errors
    /// What failed, where none is false.
    pub(super) fn holds(&self, scope: &Scope<'_>) -> Result<bool, String> {
        let scope = Scope {
            object: scope.object,
            old_object: scope.old_object,
            request: scope.request,
            namespace: &Value::Null,
            params: scope.params,
            authority: scope.authority,
            resource: scope.resource,
            variables: &[],
            known: RefCell::default(),
        };
        self.conditions.hold(&scope, &mut Purse::of_conditions())
    }

    /// The scope with the variables of the policy, none of which is known yet. Made anew, so
    /// that what expressions borrow lives as long as the policy.
    pub(super) fn scope<'a, 'b: 'a>(&'a self, scope: &Scope<'b>) -> Scope<'a> {
        Scope {
            object: scope.object,
            old_object: scope.old_object,
            request: scope.request,
            namespace: scope.namespace,
            params: scope.params,
            authority: scope.authority,
            resource: scope.resource,
            variables: &self.variables,
            known: RefCell::default(),
        }
    }
}

impl Binding {
    pub(super) fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let acts = |action: &str| items(spec, "validationActions").any(|one| one == action);
        let reference = &spec["paramRef"];
        Self {
            name: text(&object["metadata"], "name"),
            policy: text(spec, "policyName"),
            criteria: spec
                .get("matchResources")
                .map(|matching| Criteria::read(matching, "resourceRules")),
            params: reference.is_object().then(|| ParamRef {
                name: text(reference, "name"),
                namespace: text(reference, "namespace"),
                selector: LabelSelector::read(&reference["selector"]),
                required: reference["parameterNotFoundAction"] == "Deny",
            }),
            denies: acts("Deny"),
            warns: acts("Warn"),
            audits: acts("Audit"),
        }
    }
}

/// `request` as expressions see it: without the objects.
pub(super) fn described(request: &AdmissionRequest) -> Value {
    let mut described = serde_json::to_value(request).unwrap_or_default();
    if let Some(members) = described.as_object_mut() {
        for field in ["object", "oldObject", "uid"] {
            members.remove(field);
        }
        if !request.sub_resource.is_empty() {
            let subresource = request.sub_resource.as_str().into();
            members.insert("requestSubResource".to_owned(), subresource);
        }
    }
    described
}

/// The Namespace that expressions see. A Namespace is in itself, but not as far as this goes.
pub(super) async fn namespace_of<'s>(subject: &'s Subject<'_>) -> ApiResult<Option<&'s Value>> {
    match is_namespace(&subject.request.resource) {
        true => Ok(None),
        false => subject.namespace().await,
    }
}

/// The params of a binding: null where the policy or the binding has none.
pub(super) async fn params(
    subject: &Subject<'_>,
    policy: &Frame,
    binding: &Binding,
) -> ApiResult<Vec<Value>> {
    let (Some((api_version, kind)), Some(reference)) = (&policy.param_kind, &binding.params) else {
        return Ok(vec![Value::Null]);
    };
    let call = subject.call;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let catalog = call.server.catalog.load();
    let resource = catalog
        .resource_of_kind(group, version, kind)
        .cloned()
        .ok_or_else(|| {
            let described = format!("{api_version}, Kind={kind}");
            ApiError::bare(format!("paramKind kind `{described}` not known"))
        })?;
    let namespace = place(&resource, reference, &subject.request.namespace)?;
    let found = find(call, &resource, reference, namespace).await?;
    if found.is_empty() && reference.required {
        return Err(ApiError::bare(
            "no params found for policy binding with `Deny` parameterNotFoundAction",
        ));
    }
    Ok(found)
}

/// The Namespace in which params are looked for.
fn place<'a>(
    resource: &Resource,
    reference: &'a ParamRef,
    request: &'a str,
) -> ApiResult<Option<&'a str>> {
    match (resource.is_namespaced(), reference.namespace.as_str()) {
        (false, "") => Ok(None),
        (false, _) => Err(ApiError::bare(
            "paramRef.namespace must not be provided for a cluster-scoped `paramKind`",
        )),
        (true, "") if request.is_empty() => Err(ApiError::bare(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped \
             resources",
        )),
        (true, "") => Ok(Some(request)),
        (true, namespace) => Ok(Some(namespace)),
    }
}

/// Read from the store as of now: a param that was just written counts.
async fn find(
    call: &Call,
    resource: &Resource,
    reference: &ParamRef,
    namespace: Option<&str>,
) -> ApiResult<Vec<Value>> {
    let store = &call.server.store;
    let mut entries = if reference.name.is_empty() {
        let range = resource.range(namespace);
        let page = store.list(&range, ReadAt::Latest, None).await;
        page.map_err(store_error)?.entries
    } else {
        let key = resource.key(namespace, &reference.name);
        let entry = store.get(&key).await.map_err(store_error)?;
        entry.into_iter().collect()
    };
    convert::entries(&call.server, resource, &mut entries, call.deadline).await?;
    let mut found = Vec::new();
    for entry in &entries {
        let object = served::value(resource, entry)?;
        if !reference.name.is_empty() || reference.selector.accepts(labels(&object)) {
            found.push(object);
        }
    }
    Ok(found)
}

//! MutatingAdmissionPolicies: changes that expressions make to objects, where bindings put
//! them into force.
//!
//! Which policies, bindings and params a write is about is decided before the first change;
//! match conditions and expressions see what the changes before them made.

use std::{cell::RefCell, collections::BTreeSet, sync::LazyLock};

use rdd_admission::{GroupVersionResource, Operation};
use rdd_apply::{
    json_patch::{Decoder, JsonPatch, JsonPatchError},
    overlay::{Odd, overlay},
};
use rdd_cel::{Budget, Made, Type, Value as Cel, Whole};
use rdd_schema::Schema;
use serde_json::{Map, Value, json};

use super::{
    Question,
    authority::{self, Checks},
    expressions::{self, Expression, Purse, Scope},
    frame::{Binding, Frame, InForce, Policy, described, namespace_of, params, text},
    keep_type,
    matching::{Subject, items},
    settle,
    webhooks::{converted, is_foreign, seen_as, served},
};
use crate::{
    catalog::{Resource, Subresource},
    status::{ApiError, ApiResult},
    verbs::{call::Call, decode, token::TOKEN_REQUEST},
};

/// One policy.
pub(super) struct Mutating {
    frame: Frame,
    mutations: Vec<Mutation>,
    /// It is asked again when others changed the object after it.
    reinvoked: bool,
}

/// One change.
enum Mutation {
    Apply(Expression),
    Patch(Expression),
}

impl Policy for Mutating {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let mut environments = [expressions::of_mutations(spec["paramKind"].is_object())];
        let frame = Frame::read(object, &mut environments);
        let [environment] = environments;
        let mutations = items(spec, "mutations").filter_map(|one| {
            let compiled = |field: &str, wanted: Type| {
                let source = text(&one[field], "expression");
                Expression::new(&environment, &source, &[wanted])
            };
            match one["patchType"].as_str()? {
                "ApplyConfiguration" => Some(Mutation::Apply(compiled(
                    "applyConfiguration",
                    expressions::CONFIGURATION.clone(),
                ))),
                "JSONPatch" => Some(Mutation::Patch(compiled(
                    "jsonPatch",
                    expressions::PATCHES.clone(),
                ))),
                _ => None,
            }
        });
        Self {
            mutations: mutations.collect(),
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
            frame,
        }
    }
}

/// A policy under one of its bindings, with one param.
struct Invocation<'a> {
    policy: &'a Mutating,
    binding: &'a Binding,
    /// The version of the resource in which the policy sees the object.
    resource: GroupVersionResource,
    params: Value,
}

impl<'a> Invocation<'a> {
    fn key(&self) -> Key<'a> {
        let param = |field: &str| text(&self.params["metadata"], field);
        Key {
            policy: &self.policy.frame.name,
            binding: &self.binding.name,
            param: (param("namespace"), param("name")),
        }
    }

    fn problem(&self, text: &str, invalid: bool) -> Problem {
        Problem {
            fails_closed: self.policy.frame.fails_closed,
            invalid,
            text: format!(
                "policy '{}' with binding '{}' denied request: {text}",
                self.policy.frame.name, self.binding.name
            ),
        }
    }
}

/// What tells invocations for one write apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    policy: &'a str,
    binding: &'a str,
    param: (String, String),
}

/// Why a policy could not do its work.
struct Problem {
    fails_closed: bool,
    /// An expression failed; else the policy or its binding is no good.
    invalid: bool,
    text: String,
}

/// Who has been asked, and who has to be asked again.
#[derive(Default)]
pub(super) struct Reinvocation<'a> {
    /// All that there was to ask has been asked once.
    again: bool,
    asked: BTreeSet<Key<'a>>,
    required: BTreeSet<Key<'a>>,
    /// The object as it was when all had been asked.
    left: Value,
}

impl Reinvocation<'_> {
    /// Everybody who was asked so far is asked again.
    fn require(&mut self) {
        self.required.append(&mut self.asked);
    }
}

/// Lets every policy that is meant change the object; called a second time, only those that
/// want to see what others made of it. The answer is whether there is anything to see.
pub(super) async fn mutate<'a>(
    question: &mut Question<'_>,
    policies: &'a [InForce<Mutating>],
    again: &mut Reinvocation<'a>,
) -> ApiResult<bool> {
    let call = question.call;
    if question.request.operation == Operation::Delete {
        return Ok(false);
    }
    let mut problems = Vec::new();
    let invocations = invocations(question, policies, &mut problems).await?;
    let mut changed = false;
    if !invocations.is_empty() {
        changed = invoke(question, &invocations, again, &mut problems).await?;
    }
    again.again = true;
    problems.retain(|problem| problem.fails_closed);
    let Some(first) = problems.first() else {
        return Ok(changed);
    };
    let invalid = first.invalid;
    let texts = problems.into_iter().map(|problem| problem.text).collect();
    let request = &question.request;
    let name = [
        request.name.as_str(),
        crate::object::meta(&request.object, "name"),
        crate::object::meta(&request.object, "generateName"),
        "Unknown",
    ];
    let name = name.into_iter().find(|name| !name.is_empty());
    Err(ApiError::mutation_denied(
        &call.resource,
        name.unwrap_or_default(),
        texts,
        invalid,
    ))
}

/// Whom the write is about, as it is before any of them changes it.
async fn invocations<'a>(
    question: &Question<'_>,
    policies: &'a [InForce<Mutating>],
    problems: &mut Vec<Problem>,
) -> ApiResult<Vec<Invocation<'a>>> {
    let subject = Subject::new(question.call, &question.request);
    let mut invocations = Vec::new();
    for InForce { policy, bindings } in policies {
        let frame = policy.frame();
        let unusable = |text: &str| Problem {
            fails_closed: frame.fails_closed,
            invalid: false,
            text: format!(
                "policy {:?} denied request: failed to configure policy: {text}",
                frame.name
            ),
        };
        let resource = match frame.criteria.meant(&subject).await {
            Ok(None) => continue,
            Ok(Some(resource)) => resource,
            Err(error) => {
                problems.push(unusable(&error.to_string()));
                continue;
            }
        };
        if let Some(text) = frame.lacks(question.call) {
            problems.push(unusable(&text));
            continue;
        }
        for binding in bindings {
            let invocation = |params: Value| Invocation {
                policy,
                binding,
                resource: resource.clone(),
                params,
            };
            match bound(&subject, frame, binding).await {
                Ok(params) => invocations.extend(params.into_iter().map(invocation)),
                Err(error) => problems.push(
                    invocation(Value::Null)
                        .problem(&format!("failed to configure binding: {error}"), false),
                ),
            }
        }
    }
    Ok(invocations)
}

/// The params with which a binding is about the write; none where it is not.
async fn bound(subject: &Subject<'_>, frame: &Frame, binding: &Binding) -> ApiResult<Vec<Value>> {
    if let Some(criteria) = &binding.criteria
        && criteria.narrowed(subject).await?.is_none()
    {
        return Ok(Vec::new());
    }
    params(subject, frame, binding).await
}

async fn invoke<'a>(
    question: &mut Question<'_>,
    invocations: &[Invocation<'a>],
    again: &mut Reinvocation<'a>,
    problems: &mut Vec<Problem>,
) -> ApiResult<bool> {
    let call = question.call;
    let namespace = {
        let subject = Subject::new(call, &question.request);
        let found = namespace_of(&subject).await?.cloned();
        let wanted = &question.request.namespace;
        if found.is_none() && !wanted.is_empty() && call.namespace().is_some() {
            return Err(ApiError::named_not_found("namespaces", "", wanted));
        }
        found.unwrap_or_default()
    };
    if again.again && question.request.object != again.left {
        again.require();
    }
    let mut touched = false;
    for invocation in invocations {
        let policy = invocation.policy;
        let mut asked = seen_as(call, &question.request, &invocation.resource).await?;
        let check = authority::of_request(&asked);
        let mut checks = Checks::default();
        let holds = loop {
            let holds = policy.frame.holds(&Scope {
                object: &asked.object,
                old_object: &asked.old_object,
                request: &described(&asked),
                namespace: &Value::Null,
                params: &invocation.params,
                authority: &checks,
                resource: &check,
                variables: &[],
                known: RefCell::default(),
            });
            if !checks.answer(call).await {
                break holds;
            }
        };
        match holds {
            Ok(true) => {}
            Ok(false) => continue,
            Err(text) => {
                problems.push(invocation.problem(&text, true));
                continue;
            }
        }
        if again.again && !again.required.contains(&invocation.key()) {
            continue;
        }
        let request = described(&asked);
        let before = asked.object.clone();
        for mutation in &policy.mutations {
            if asked.object.is_null() {
                continue;
            }
            let made = loop {
                let scope = policy.frame.scope(&Scope {
                    object: &asked.object,
                    old_object: &asked.old_object,
                    request: &request,
                    namespace: &namespace,
                    params: &invocation.params,
                    authority: &checks,
                    resource: &check,
                    variables: &[],
                    known: RefCell::default(),
                });
                let made = mutation.make(&scope);
                if !checks.answer(call).await {
                    break made;
                }
            };
            let made = match made {
                Ok(change) => changed(call, &invocation.resource, &asked.object, change)?,
                Err(text) => Err(text),
            };
            match made {
                Ok(object) => {
                    asked.object = object;
                    touched = true;
                }
                Err(text) => problems.push(invocation.problem(&text, true)),
            }
        }
        if asked.object != before {
            again.require();
            let own = &question.request.resource;
            let mut object = converted(call, &asked.resource, own, asked.object).await?;
            if asked.resource != *own && !is_foreign(call) {
                settle(call, &call.resource, &mut object).map_err(ApiError::internal)?;
            }
            question.request.object = object;
        }
        if policy.reinvoked {
            again.asked.insert(invocation.key());
        }
    }
    if touched {
        // As in kube-apiserver, also where nothing is different in the end.
        again.require();
    }
    again.left = question.request.object.clone();
    Ok(touched)
}

/// What an expression wants of the object.
enum Change {
    /// A configuration, and what in it is no JSON.
    Apply(Value, Vec<Odd>),
    Patch(Value),
}

impl Mutation {
    /// Evaluates the expression.
    ///
    /// # Errors
    /// The text that a denial shows.
    fn make<'a>(&'a self, scope: &Scope<'a>) -> Result<Change, String> {
        let mut purse = Purse::of_policy();
        match self {
            Self::Apply(expression) => {
                let value = expression.evaluate(scope, &mut purse)?;
                let (misplaced, odd, config) = purse.convert(|budget| {
                    Ok((
                        value.misplaced(budget)?,
                        value.odd(budget)?,
                        value.to_json(Whole::Number, budget),
                    ))
                })?;
                mismatch(&misplaced)?;
                let odd = odd.into_iter().map(|odd| Odd {
                    path: odd.path,
                    shown: odd.shown,
                    syntax: odd.syntax,
                    go_type: odd.go_type.to_owned(),
                });
                let config =
                    config.map_err(|_| "invalid return type: *dynamic.ObjectVal".to_owned())?;
                Ok(Change::Apply(config, odd.collect()))
            }
            Self::Patch(expression) => {
                let value = expression.evaluate(scope, &mut purse)?;
                let Cel::List(list) = value else {
                    return Err(
                        "type mismatch: JSONPatchType.expression should evaluate to array"
                            .to_owned(),
                    );
                };
                let mut operations = Vec::with_capacity(list.len());
                for item in list.iter() {
                    let Cel::Made(made) = item else {
                        return Err(
                            "type mismatch: JSONPatchType.expression should evaluate to array of \
                             JSONPatch"
                                .to_owned(),
                        );
                    };
                    operations.push(operation(&made, &mut purse)?);
                }
                Ok(Change::Patch(Value::Array(operations)))
            }
        }
    }
}

fn mismatch(misplaced: &[String]) -> Result<(), String> {
    if misplaced.is_empty() {
        return Ok(());
    }
    Err(format!("type mismatch: {}", misplaced.join("\n")))
}

fn operation(made: &Made<'_>, purse: &mut Purse) -> Result<Value, String> {
    let mut members = Map::new();
    for field in ["op", "path", "from"] {
        let text = made.text(field);
        if field != "from" || !text.is_empty() {
            members.insert(field.to_owned(), text.into());
        }
    }
    if let Some(value) = made.field("value") {
        let (misplaced, odd, json) = purse.convert(|budget: &mut Budget| {
            let odd = match value {
                Cel::Made(_) => value.odd(budget)?,
                _ => Vec::new(),
            };
            let json = value.to_json(Whole::Text, budget);
            Ok((value.misplaced(budget)?, odd, json))
        })?;
        mismatch(&misplaced)?;
        let failed = |error: &dyn std::fmt::Display| {
            format!(
                "JSONPath valueExpression evaluated to a type that could not marshal to JSON: \
                 {error}"
            )
        };
        let fits = |odd: &&rdd_cel::Odd| !matches!(odd.go_type, "[]uint8" | "uint64");
        if let Some(odd) = odd.iter().find(fits) {
            return Err(failed(&format_args!(
                "proto: invalid type: {}",
                odd.go_type
            )));
        }
        let json = json.map_err(|error| failed(&error))?;
        members.insert("value".to_owned(), json);
    }
    Ok(Value::Object(members))
}

/// The object with the change made, decoded and defaulted like a body. The inner error is
/// for the failure policy; the outer one is not excused.
fn changed(
    call: &Call,
    resource: &GroupVersionResource,
    object: &Value,
    change: Change,
) -> ApiResult<Result<Value, String>> {
    let own = served(call, resource);
    let is_config = matches!(change, Change::Apply(..));
    let mut after = match change {
        Change::Apply(mut config, odd) => {
            if let Some(members) = config.as_object_mut() {
                for field in ["apiVersion", "kind"] {
                    members.insert(field.to_owned(), object[field].clone());
                }
            }
            let schema = schema(call, own.as_deref());
            let Some(schema) = schema else {
                return Ok(Err(format!(
                    "error applying patch: no corresponding type for {}",
                    object["kind"]
                )));
            };
            match overlay(schema, object, &config, &odd) {
                Ok(after) => after,
                Err(text) => return Ok(Err(format!("error applying patch: {text}"))),
            }
        }
        Change::Patch(operations) => match patched(object, &operations) {
            Ok(Some(after)) => after,
            // A test that does not hold: the whole patch is not made.
            Ok(None) => return Ok(Ok(object.clone())),
            Err(text) => return Ok(Err(format!("JSON Patch: {text}"))),
        },
    };
    keep_type(own.as_deref(), "a mutation", object, &mut after).map_err(ApiError::internal)?;
    let Some(own) = own.filter(|_| !is_foreign(call)) else {
        return Ok(Ok(after));
    };
    match (decoded(call, &own, &mut after), is_config) {
        (Ok(()), _) => Ok(Ok(after)),
        (Err(text), true) => Ok(Err(format!(
            "unable to convert unstructured object to {}/{}, Kind={}: {text}",
            own.group, own.version, own.kind
        ))),
        (Err(text), false) => Err(ApiError::internal(text)),
    }
}

/// Gives the object the types and the defaults of its resource. Fields that a built-in
/// resource does not have are errors; those of others are dropped.
fn decoded(call: &Call, own: &Resource, object: &mut Value) -> Result<(), String> {
    if !own.is_custom() {
        let unknown = decode::typed_text(own, object)?;
        if !unknown.is_empty() {
            let unknown: Vec<String> = unknown
                .iter()
                .map(|path| format!("unknown field {path:?}"))
                .collect();
            return Err(format!("strict decoding error: {}", unknown.join(", ")));
        }
    }
    settle(call, own, object)
}

/// The object with the operations applied; none when one of their tests does not hold.
fn patched(object: &Value, operations: &Value) -> Result<Option<Value>, String> {
    let read = JsonPatch::parse(operations, Decoder::Made);
    let (patch, _) = read.map_err(|error| error.to_string())?;
    let mut after = object.clone();
    match patch.apply(&mut after) {
        Ok(()) => Ok(Some(after)),
        Err(JsonPatchError::TestFailed(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// What a Scale looks like, which no resource of its own has.
static SCALE: LazyLock<Option<Schema>> = LazyLock::new(|| {
    let document = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
        "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        "status": {"type": "object", "properties": {
            "replicas": {"type": "integer"}, "selector": {"type": "string"},
        }},
    }});
    Schema::parse(&document).ok()
});

/// The schema of what the request is about.
fn schema<'a>(call: &Call, own: Option<&'a Resource>) -> Option<&'a Schema> {
    match call.subresource {
        Some(Subresource::Scale) => SCALE.as_ref(),
        Some(Subresource::Token) => Some(&TOKEN_REQUEST.schema),
        _ => own.map(|own| &*own.schema),
    }
}

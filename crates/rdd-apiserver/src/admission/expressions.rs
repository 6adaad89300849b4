//! The CEL expressions of admission: what they may name, and how they are evaluated.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use rdd_cel::{
    Authority, Budget, Check, Declared, Environment, Error, Field, ObjectType, Program, Resolve,
    Type, Value,
};
use rdd_schema::{FieldError, Schema};
use serde_json::{Value as Json, json};

use super::matching::items;

/// What all expressions of one policy and one param may cost together.
const POLICY_BUDGET: u64 = 10_000_000;

/// What the conditions of one webhook may cost together.
pub(super) const CONDITIONS_BUDGET: u64 = 2_500_000;

/// The type of `request`. Its fields keep their names, although one of them is a word
/// that CEL reserves.
static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let text = || json!({"type": "string"});
    let named = |last: &str| {
        json!({"type": "object", "properties": {
            "group": text(), "version": text(), last: text(),
        }})
    };
    let user = json!({"type": "object", "properties": {
        "username": text(), "uid": text(),
        "groups": {"type": "array", "items": text()},
        "extra": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": text()},
        },
    }});
    object(
        "AdmissionRequest",
        [
            ("kind", "GroupVersionKind", named("kind")),
            ("requestKind", "GroupVersionKind", named("kind")),
            ("resource", "GroupVersionResource", named("resource")),
            ("requestResource", "GroupVersionResource", named("resource")),
            ("subResource", "", text()),
            ("requestSubResource", "", text()),
            ("name", "", text()),
            ("namespace", "", text()),
            ("operation", "", text()),
            ("dryRun", "", json!({"type": "boolean"})),
            // The one schema whose values may be anything.
            ("options", "", json!({"x-kubernetes-int-or-string": true})),
            ("userInfo", "UserInfo", user),
        ],
    )
});

/// The type of `namespaceObject`.
static NAMESPACE: LazyLock<Type> = LazyLock::new(|| {
    let text = || json!({"type": "string"});
    let time = || json!({"type": "string", "format": "date-time"});
    let texts = || json!({"type": "array", "items": text()});
    let map = || json!({"type": "object", "additionalProperties": text()});
    let metadata = json!({"type": "object", "properties": {
        "name": text(), "generateName": text(), "namespace": text(), "labels": map(),
        "annotations": map(), "UID": text(), "creationTimestamp": time(),
        "deletionGracePeriodSeconds": {"type": "integer"}, "deletionTimestamp": time(),
        "generation": {"type": "integer"}, "resourceVersion": text(), "finalizers": texts(),
    }});
    let condition = json!({"type": "object", "properties": {
        "status": text(), "type": text(), "lastTransitionTime": time(), "message": text(),
        "reason": text(),
    }});
    let status = json!({"type": "object", "properties": {
        "conditions": {"type": "array", "items": condition}, "phase": text(),
    }});
    let spec = json!({"type": "object", "properties": {"finalizers": texts()}});
    object(
        "Namespace",
        [
            ("metadata", "NamespaceMetadata", metadata),
            ("spec", "NamespaceSpec", spec),
            ("status", "NamespaceStatus", status),
        ],
    )
});

/// A type with fields, each with the name of its own type, if that has fields too.
fn object<const N: usize>(name: &str, fields: [(&str, &str, Json); N]) -> Type {
    let field = |(name, of, document): (&str, &str, Json)| {
        let schema = Schema::parse(&document).ok()?;
        let declared = Declared::of_schema(&schema, false, &format!("kubernetes.{of}"))?;
        let name = name.to_owned();
        Some((name.clone(), Field { name, declared }))
    };
    Type::Object(Arc::new(ObjectType {
        name: format!("kubernetes.{name}"),
        fields: fields.into_iter().filter_map(field).collect(),
    }))
}

/// The schema by which values of `namespaceObject` get their types.
static NAMESPACE_VALUES: LazyLock<Option<Schema>> = LazyLock::new(|| {
    let time = || json!({"type": "string", "format": "date-time"});
    let document = json!({"type": "object", "properties": {
        "metadata": {"type": "object", "properties": {
            "creationTimestamp": time(), "deletionTimestamp": time(),
        }},
    }});
    Schema::parse(&document).ok()
});

/// What the conditions of a webhook may name.
pub(crate) fn of_webhooks() -> Environment {
    with_authorizer(of_requests())
}

fn of_requests() -> Environment {
    Environment::new()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("request", REQUEST.clone())
}

/// What the messages of a policy may name, apart from its variables.
pub(crate) fn of_messages(has_params: bool) -> Environment {
    let environment = of_requests().with("namespaceObject", NAMESPACE.clone());
    if has_params {
        environment.with("params", Type::Dyn)
    } else {
        environment
    }
}

/// What the expressions of a policy may name, apart from its variables.
pub(crate) fn of_policies(has_params: bool) -> Environment {
    with_authorizer(of_messages(has_params))
}

/// What the mutations of a policy may name, apart from its variables.
pub(crate) fn of_mutations(has_params: bool) -> Environment {
    of_policies(has_params).with_patches()
}

/// The type of a configuration that is laid over an object.
pub(crate) static CONFIGURATION: LazyLock<Type> = LazyLock::new(|| Type::Made("Object".into()));

/// The type of the operations of a JSON patch.
pub(crate) static PATCHES: LazyLock<Type> =
    LazyLock::new(|| Type::list(Type::Made("JSONPatch".into())));

/// What later expressions of a policy may name as well: its variables, of which each is
/// declared as a whole name.
pub(crate) fn with_variables(environment: Environment) -> Environment {
    let variables = ObjectType {
        name: "kubernetes.variables".to_owned(),
        fields: BTreeMap::new(),
    };
    environment.with("variables", Type::Object(Arc::new(variables)))
}

/// What later expressions know of a variable: simple types, and lists and maps of them.
fn of_variable(result: &Type) -> Type {
    match result {
        Type::Bool
        | Type::Bytes
        | Type::Double
        | Type::Duration
        | Type::Int
        | Type::Null
        | Type::String
        | Type::Timestamp
        | Type::Uint => result.clone(),
        Type::List(item) => Type::list(of_variable(item)),
        Type::Map(key, value) => Type::Map(of_variable(key).into(), of_variable(value).into()),
        _ => Type::Dyn,
    }
}

/// The environment with a variable that has the values of a program, or of one that cannot
/// be compiled.
pub(crate) fn declare(
    environment: Environment,
    name: &str,
    program: Option<&Program>,
) -> Environment {
    match program {
        Some(program) => {
            environment.with_computed(name, of_variable(program.result()), program.height())
        }
        None => environment.with(name, Type::Dyn),
    }
}

fn with_authorizer(environment: Environment) -> Environment {
    environment
        .with(AUTHORIZER, Type::AUTHORIZER)
        .with(REQUEST_RESOURCE, Type::RESOURCE_CHECK)
}

const AUTHORIZER: &str = "authorizer";

const REQUEST_RESOURCE: &str = "authorizer.requestResource";

/// Compiles an expression whose value must be of one of these types; of any when none
/// is given.
///
/// # Errors
/// The text that a field error shows.
pub(crate) fn compile(
    environment: &Environment,
    source: &str,
    wanted: &[Type],
) -> Result<Program, String> {
    let program = environment
        .compile(source)
        .map_err(|error| format!("compilation failed: {error}"))?;
    let found = program.result();
    if !wanted.is_empty() && !wanted.contains(found) {
        let found = found.name();
        let names: Vec<String> = wanted.iter().map(Type::name).collect();
        return Err(match names.as_slice() {
            [one] => format!("must evaluate to {one} but got {found}"),
            several => format!(
                "must evaluate to one of [{}] but got {found}",
                several.join(" ")
            ),
        });
    }
    Ok(program)
}

/// Adds what is wrong with an expression at the path `at`, if it is there at all.
pub(crate) fn check(
    environment: &Environment,
    source: &str,
    wanted: &[Type],
    at: &str,
    errors: &mut Vec<FieldError>,
) -> Option<Program> {
    if source.trim().is_empty() {
        return None;
    }
    match compile(environment, source, wanted) {
        Ok(program) => {
            if let Some(error) = program.failure() {
                let text = format!("program instantiation failed: {error}");
                errors.push(FieldError::internal(at, text));
            }
            Some(program)
        }
        Err(text) => {
            errors.push(FieldError::invalid(at, source, text));
            None
        }
    }
}

/// A compiled expression, or why it is none.
pub(super) struct Expression {
    source: String,
    program: Result<Program, String>,
}

impl Expression {
    pub(super) fn new(environment: &Environment, source: &str, wanted: &[Type]) -> Self {
        Self {
            source: source.to_owned(),
            program: compile(environment, source, wanted),
        }
    }

    pub(super) fn source(&self) -> &str {
        self.source.trim()
    }

    /// The environment with a variable that has the values of this expression.
    pub(super) fn declare(&self, environment: Environment, name: &str) -> Environment {
        declare(environment, name, self.program.as_ref().ok())
    }

    /// # Errors
    /// The text that a denial shows.
    pub(super) fn evaluate<'a>(
        &'a self,
        scope: &Scope<'a>,
        purse: &mut Purse,
    ) -> Result<Value<'a>, String> {
        let failed = |text: &dyn std::fmt::Display| {
            format!("expression '{}' resulted in error: {text}", self.source)
        };
        let program = self.program.as_ref().map_err(|text| failed(text))?;
        purse
            .pay(|budget| program.evaluate(scope, budget))
            .map_err(|error| match error {
                Overspent::One(error) => failed(&error),
                Overspent::All => EXHAUSTED.to_owned(),
            })
    }
}

const EXHAUSTED: &str = "validation failed due to running out of cost budget, no further \
                         validation rules will be run";

/// What several expressions may cost together.
pub(super) struct Purse(u64);

enum Overspent {
    One(Error),
    All,
}

impl Purse {
    pub(super) fn of_policy() -> Self {
        Self(POLICY_BUDGET)
    }

    pub(super) fn of_conditions() -> Self {
        Self(CONDITIONS_BUDGET)
    }

    /// Takes a value apart, at the same cost as evaluating it.
    ///
    /// # Errors
    /// That the purse is empty.
    pub(super) fn convert<T>(
        &mut self,
        work: impl FnOnce(&mut Budget) -> Result<T, Error>,
    ) -> Result<T, String> {
        self.pay(work).map_err(|error| match error {
            Overspent::One(error) => error.to_string(),
            Overspent::All => EXHAUSTED.to_owned(),
        })
    }

    fn pay<T>(
        &mut self,
        work: impl FnOnce(&mut Budget) -> Result<T, Error>,
    ) -> Result<T, Overspent> {
        let mut budget = Budget::new(self.0.min(Budget::PER_EXPRESSION));
        let done = work(&mut budget);
        let ended = matches!(done, Err(Error::Budget));
        let exhausted = ended && self.0 <= Budget::PER_EXPRESSION;
        self.0 = self.0.saturating_sub(budget.spent());
        if exhausted {
            return Err(Overspent::All);
        }
        done.map_err(Overspent::One)
    }
}

/// What expressions see of one write.
pub(super) struct Scope<'a> {
    pub(super) object: &'a Json,
    pub(super) old_object: &'a Json,
    pub(super) request: &'a Json,
    pub(super) namespace: &'a Json,
    pub(super) params: &'a Json,
    pub(super) authority: &'a dyn Authority,
    /// The object of the request, without a verb.
    pub(super) resource: &'a Check,
    /// By their whole name, in order: each may name the ones before.
    pub(super) variables: &'a [(String, Expression)],
    /// Variables are evaluated when they are named first.
    pub(super) known: RefCell<BTreeMap<usize, Result<Value<'a>, Error>>>,
}

impl<'a> Resolve<'a> for Scope<'a> {
    fn resolve(&self, name: &str, budget: &mut Budget) -> Result<Option<Value<'a>>, Error> {
        let value = match name {
            "object" => self.object,
            "oldObject" => self.old_object,
            "request" => self.request,
            "namespaceObject" => {
                return Ok(Some(Value::json(self.namespace, NAMESPACE_VALUES.as_ref())));
            }
            "params" => self.params,
            AUTHORIZER => return Ok(Some(Value::authorizer(self.authority))),
            REQUEST_RESOURCE => {
                let check = self.resource.clone();
                return Ok(Some(Value::resource_check(self.authority, check)));
            }
            _ => return self.variable(name, budget),
        };
        Ok(Some(Value::json(value, None)))
    }
}

impl<'a> Scope<'a> {
    fn variable(&self, name: &str, budget: &mut Budget) -> Result<Option<Value<'a>>, Error> {
        let variables = self.variables;
        let Some(index) = variables.iter().position(|(known, _)| known == name) else {
            return Ok(None);
        };
        if let Some(known) = self.known.borrow().get(&index) {
            return known.clone().map(Some);
        }
        let (name, expression) = &variables[index];
        let value = match &expression.program {
            Ok(program) => program.evaluate(self, budget),
            Err(text) => Err(Error::Evaluation(text.clone())),
        };
        let value = value.map_err(|error| match error {
            Error::Budget | Error::Undecided => error,
            Error::Evaluation(text) => {
                let name = name.trim_start_matches("variables.");
                let text = format!("composited variable {name:?} fails to evaluate: {text}");
                Error::Evaluation(text)
            }
        });
        self.known.borrow_mut().insert(index, value.clone());
        value.map(Some)
    }
}

/// The conditions of a webhook or a policy.
pub(super) struct Conditions(Vec<Expression>);

impl Conditions {
    pub(super) fn read(environment: &Environment, owner: &Json) -> Self {
        let expressions = items(owner, "matchConditions").map(|condition| {
            let source = condition["expression"].as_str().unwrap_or_default();
            Expression::new(environment, source, &[Type::Bool])
        });
        Self(expressions.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of them hold. One that is false decides, whatever fails beside it.
    ///
    /// # Errors
    /// What failed, where none is false.
    pub(super) fn hold<'a>(&'a self, scope: &Scope<'a>, purse: &mut Purse) -> Result<bool, String> {
        let mut problems = Vec::new();
        for expression in &self.0 {
            match expression.evaluate(scope, purse) {
                Ok(value) if value.is_true() => {}
                Ok(_) => return Ok(false),
                Err(text) => problems.push(text),
            }
        }
        match problems.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }
}

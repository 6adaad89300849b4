//! `x-kubernetes-validations`: the rules of a schema, judged when a definition is
//! written and run when an object is.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use rdd_schema::{AdditionalProperties, FieldError, FieldErrorKind, KeyedItems, Schema, is_same};
use serde_json::Value as Json;

mod definition;
mod field_path;

pub use definition::problems;

use crate::{
    budget::{Budget, Error},
    environment::{Bindings, Environment, Program},
    types::{Declared, Type},
    value::Value,
};

/// The most bytes of a text that a `messageExpression` gives.
const MESSAGE_MAX: usize = 5120;

const SELF: &str = "self";
const OLD_SELF: &str = "oldSelf";

/// The compiled rules of a schema and of everything below it.
#[derive(Clone, Debug, Default)]
pub struct RuleTree {
    rules: Vec<Rule>,
    properties: BTreeMap<String, RuleTree>,
    items: Option<Box<RuleTree>>,
    values: Option<Box<RuleTree>>,
    /// Rules of `allOf`, over the same values.
    all_of: Vec<RuleTree>,
}

/// One rule as written.
#[derive(Clone, Debug)]
struct Written {
    rule: String,
    message: String,
    message_expression: String,
    reason: Option<String>,
    field_path: String,
    optional_old_self: Option<bool>,
}

impl Written {
    fn of(rule: &Json) -> Self {
        let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
        Self {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: rule["reason"].as_str().map(str::to_owned),
            field_path: text("fieldPath"),
            optional_old_self: rule["optionalOldSelf"].as_bool(),
        }
    }

    /// How errors call it.
    fn name(&self) -> &str {
        if self.message.is_empty() {
            self.rule.trim()
        } else {
            self.message.trim()
        }
    }

    fn message(&self) -> String {
        if self.message.is_empty() {
            format!("failed rule: {}", self.rule.trim())
        } else {
            self.message.trim().to_owned()
        }
    }
}

/// One rule, compiled.
#[derive(Clone, Debug)]
struct Rule {
    written: Written,
    program: std::result::Result<Arc<Program>, String>,
    message: Option<Arc<Program>>,
    /// What is appended to the path of the value.
    field_path: Option<String>,
    uses_old_self: bool,
}

fn environment(declared: &Arc<Declared>, optional_old_self: bool) -> Environment {
    let environment = Environment::new().with_declared(SELF, declared);
    if optional_old_self {
        environment.with_optional(OLD_SELF, declared)
    } else {
        environment.with_declared(OLD_SELF, declared)
    }
}

impl Rule {
    fn compile(rule: &Json, declared: &Arc<Declared>, schema: &Schema) -> Self {
        let written = Written::of(rule);
        let environment = environment(declared, written.optional_old_self == Some(true));
        let program = match environment.compile(&written.rule) {
            Err(error) => Err(format!("compilation failed: {error}")),
            Ok(program) if *program.result() != Type::Bool && *program.result() != Type::Dyn => {
                Err("cel expression must evaluate to a bool".to_owned())
            }
            Ok(program) => Ok(Arc::new(program)),
        };
        let message = Some(written.message_expression.trim())
            .filter(|text| !text.is_empty())
            .and_then(|text| environment.compile(text).ok())
            .map(Arc::new);
        Self {
            uses_old_self: program.as_ref().is_ok_and(|program| program.uses(OLD_SELF)),
            field_path: field_path::normalise(&written.field_path, schema)
                .filter(|path| !path.is_empty()),
            program,
            message,
            written,
        }
    }
}

/// What the rules say about an object.
#[derive(Debug, Default)]
pub struct Findings {
    /// Why it is refused.
    pub errors: Vec<FieldError>,
    /// Failures of values that did not change, which are only told.
    pub warnings: Vec<String>,
}

impl RuleTree {
    /// Compiles every rule of a schema; none if there are none. A rule that does not
    /// compile, which definitions are checked for, fails every value.
    #[must_use]
    pub fn compile(schema: &Schema) -> Option<Self> {
        if !has_rules(schema) {
            return None;
        }
        Self::of(schema, true)
    }

    /// `whole` says that values are objects of the resource.
    fn of(schema: &Schema, whole: bool) -> Option<Self> {
        let declared = Declared::of_schema(schema, whole, "selfType");
        Self::node(schema, schema, declared.as_ref())
    }

    /// The rules of `written`, over values that look like `schema`: the same schema, or
    /// one that encloses a part of `allOf`.
    fn node(written: &Schema, schema: &Schema, declared: Option<&Arc<Declared>>) -> Option<Self> {
        let declared = declared?;
        let mut tree = Self {
            rules: written
                .rules
                .iter()
                .filter(|rule| !rule["rule"].as_str().unwrap_or_default().trim().is_empty())
                .map(|rule| Rule::compile(rule, declared, schema))
                .collect(),
            ..Self::default()
        };
        for (name, child) in &written.properties {
            let Some(shape) = schema.properties.get(name) else {
                continue;
            };
            if !has_rules(child) {
                continue;
            }
            let inner = declared.property(name, shape);
            if let Some(child) = Self::node(child, shape, inner.as_ref()) {
                tree.properties.insert(name.clone(), child);
            }
        }
        if let (Some(items), Some(shape)) = (&written.items, &schema.items) {
            tree.items = Self::node(items, shape, declared.item.as_ref()).map(Box::new);
        }
        if let (
            Some(AdditionalProperties::Schema(values)),
            Some(AdditionalProperties::Schema(shape)),
        ) = (
            &written.additional_properties,
            &schema.additional_properties,
        ) {
            tree.values = Self::node(values, shape, declared.item.as_ref()).map(Box::new);
        }
        for part in written.checks.iter().flat_map(|checks| &checks.all_of) {
            tree.all_of.extend(Self::node(part, schema, Some(declared)));
        }
        let is_empty = tree.rules.is_empty()
            && tree.properties.is_empty()
            && tree.items.is_none()
            && tree.values.is_none()
            && tree.all_of.is_empty();
        (!is_empty).then_some(tree)
    }

    /// Runs the rules over an object; `old` is what it was before, absent on create.
    #[must_use]
    pub fn validate(&self, schema: &Schema, new: &Json, old: Option<&Json>) -> Findings {
        let mut run = Run {
            left: Budget::PER_OBJECT,
            findings: Findings::default(),
        };
        let whole = old.map(|old| Correlated::new(new, old, schema));
        let excuse = Excuse {
            own: whole.as_ref(),
            around: None,
        };
        run.node(self, schema, "", new, old, excuse);
        run.findings
    }
}

/// Judges the defaults of one schema by its rules, all of them within the budget of an
/// object.
#[derive(Debug)]
pub struct OfDefaults {
    left: u64,
}

impl Default for OfDefaults {
    fn default() -> Self {
        Self {
            left: Budget::PER_OBJECT,
        }
    }
}

impl OfDefaults {
    /// Which rules a default at `path` breaks, where it stood before or, if there it
    /// breaks none, where it is new. `whole` says that it is an object of the resource.
    pub fn judge(
        &mut self,
        default: &Json,
        schema: &Schema,
        whole: bool,
        path: &str,
    ) -> Vec<FieldError> {
        if self.left == 0 || !has_rules(schema) {
            return Vec::new();
        }
        let Some(tree) = RuleTree::of(schema, whole || schema.embedded_resource) else {
            return Vec::new();
        };
        let before = self.left;
        for old in [Some(default), None] {
            let mut run = Run {
                left: before,
                findings: Findings::default(),
            };
            run.node(&tree, schema, path, default, old, Excuse::default());
            self.left = self.left.min(run.left);
            if !run.findings.errors.is_empty() {
                return run.findings.errors;
            }
        }
        Vec::new()
    }
}

pub(crate) fn has_rules(schema: &Schema) -> bool {
    let values = match &schema.additional_properties {
        Some(AdditionalProperties::Schema(values)) => Some(&**values),
        _ => None,
    };
    !schema.rules.is_empty()
        || schema.properties.values().any(has_rules)
        || schema.items.as_deref().is_some_and(has_rules)
        || values.is_some_and(has_rules)
        || schema
            .checks
            .as_deref()
            .is_some_and(|checks| checks.all_of.iter().any(has_rules))
}

/// A value and the one that it continues; whether they differ is looked at only when a
/// rule fails.
struct Correlated<'a> {
    new: &'a Json,
    old: &'a Json,
    schema: &'a Schema,
    unchanged: Cell<Option<bool>>,
}

impl<'a> Correlated<'a> {
    fn new(new: &'a Json, old: &'a Json, schema: &'a Schema) -> Self {
        Self {
            new,
            old,
            schema,
            unchanged: Cell::new(None),
        }
    }

    fn unchanged(&self) -> bool {
        let known = self.unchanged.get();
        let unchanged = known.unwrap_or_else(|| is_same(self.new, self.old, self.schema));
        self.unchanged.set(Some(unchanged));
        unchanged
    }
}

/// What failures of a value are excused by, if that did not change.
#[derive(Clone, Copy, Default)]
struct Excuse<'a> {
    /// The value itself, if it continues another one.
    own: Option<&'a Correlated<'a>>,
    /// The closest one around it that does.
    around: Option<&'a Correlated<'a>>,
}

impl<'a> Excuse<'a> {
    fn holds(self) -> bool {
        self.own.or(self.around).is_some_and(Correlated::unchanged)
    }

    /// For a part of the value, which `own` is about if it continues another one.
    fn below(self, own: Option<&'a Correlated<'a>>) -> Self {
        match self.own {
            Some(_) => Self {
                own,
                around: self.own,
            },
            None => self,
        }
    }

    /// For a field. Type and version of the whole are never excused: they are seen as the
    /// request has them.
    fn field(self, name: &str, own: Option<&'a Correlated<'a>>) -> Self {
        if self.own.is_some() && self.around.is_none() && matches!(name, "apiVersion" | "kind") {
            return Self::default();
        }
        self.below(own)
    }

    /// For a part of `allOf`.
    fn part(self) -> Self {
        Self { own: None, ..self }
    }
}

struct Run {
    /// What all rules together may still cost.
    left: u64,
    findings: Findings,
}

/// The budget of the object is used up: nothing more is said.
struct Exhausted;

impl Run {
    fn error(&mut self, error: FieldError) {
        self.findings.errors.push(error);
    }

    /// Returns whether there is budget left. `old` is what `oldSelf` is.
    fn node(
        &mut self,
        tree: &RuleTree,
        schema: &Schema,
        path: &str,
        new: &Json,
        old: Option<&Json>,
        excuse: Excuse<'_>,
    ) -> bool {
        if new.is_null() {
            return true;
        }
        for rule in &tree.rules {
            if self.rule(rule, schema, path, new, old, excuse).is_err() {
                return false;
            }
        }
        for part in &tree.all_of {
            if !self.node(part, schema, path, new, old, excuse.part()) {
                return false;
            }
        }
        match new {
            Json::Object(members) => {
                for (name, value) in members {
                    let before = old.and_then(|old| old.get(name));
                    let (tree, path) = if let Some(child) = tree.properties.get(name) {
                        let path = if path.is_empty() {
                            name.clone()
                        } else {
                            format!("{path}.{name}")
                        };
                        (child, path)
                    } else if let Some(child) = &tree.values {
                        (&**child, format!("{path}[{name}]"))
                    } else {
                        continue;
                    };
                    let Some(schema) = schema.field(name) else {
                        continue;
                    };
                    let continued = excuse.own.and_then(|own| own.old.get(name));
                    let own = continued.map(|old| Correlated::new(value, old, schema));
                    let excuse = excuse.field(name, own.as_ref());
                    if !self.node(tree, schema, &path, value, before, excuse) {
                        return false;
                    }
                }
                true
            }
            Json::Array(items) => {
                let (Some(child), Some(shape)) = (&tree.items, &schema.items) else {
                    return true;
                };
                let before = old
                    .and_then(Json::as_array)
                    .and_then(|old| KeyedItems::of(old, schema));
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    let before = before.as_ref().and_then(|before| before.get(item));
                    // Where there is an excuse of its own, `old` is what it is about.
                    let own = excuse
                        .own
                        .and(before)
                        .map(|old| Correlated::new(item, old, shape));
                    let excuse = excuse.below(own.as_ref());
                    if !self.node(child, shape, &path, item, before, excuse) {
                        return false;
                    }
                }
                true
            }
            _ => true,
        }
    }

    fn rule(
        &mut self,
        rule: &Rule,
        schema: &Schema,
        path: &str,
        new: &Json,
        old: Option<&Json>,
        excuse: Excuse<'_>,
    ) -> std::result::Result<(), Exhausted> {
        let here = if path.is_empty() { "<nil>" } else { path };
        let of_type = |detail: String| {
            let name = schema.r#type.map_or("", rdd_schema::Type::as_str);
            FieldError::invalid(here, name, detail)
        };
        let program = match &rule.program {
            Ok(program) => program,
            Err(error) => {
                self.error(of_type(format!("rule compile error: {error}")));
                return Ok(());
            }
        };
        let old = old.filter(|old| !old.is_null());
        let optional = rule.written.optional_old_self == Some(true);
        if rule.uses_old_self && old.is_none() && !optional {
            return Ok(());
        }
        let of_value = Bindings::new().with(SELF, Value::json(new, Some(schema)));
        let before = old.map(|old| Value::json(old, Some(schema)));
        let plain = match &before {
            Some(before) => of_value.clone().with(OLD_SELF, before.clone()),
            None => of_value.clone(),
        };
        let bindings = if optional {
            of_value.with(OLD_SELF, Value::Optional(before.map(Arc::new)))
        } else {
            plain.clone()
        };
        let mut budget = Budget::new(Budget::PER_EXPRESSION);
        let result = program.evaluate(&bindings, &mut budget);
        let name = rule.written.name();
        if let Err(Error::Budget) = result {
            self.left = 0;
            self.error(of_type(format!(
                "'{}': no further validation rules will be run due to call cost exceeds limit for \
                 rule: {name}",
                Error::Budget
            )));
            return Err(Exhausted);
        }
        self.take(budget.spent()).inspect_err(|_| {
            self.error(of_type(
                "validation failed due to running out of cost budget, no further validation rules \
                 will be run"
                    .to_owned(),
            ));
        })?;
        match result {
            Ok(value) if value.is_true() => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                let text = error.to_string();
                let detail = if text.starts_with("no such overload") {
                    format!(
                        "'{text}': call arguments did not match a supported operator, function or \
                         macro signature for rule: {name}"
                    )
                } else {
                    format!("{text} evaluating rule: {name}")
                };
                self.error(of_type(detail));
                return Ok(());
            }
        }
        // As in kube-apiserver, `oldSelf` is never an optional value in a message.
        let detail = match self.message(rule, &plain) {
            Ok(message) => message.unwrap_or_else(|| rule.written.message()),
            Err(exhausted) => {
                self.error(of_type(format!(
                    "no further validation rules will be run due to call cost exceeds limit for \
                     messageExpression: {:?}",
                    rule.written.message_expression
                )));
                return Err(exhausted);
            }
        };
        let field = match &rule.field_path {
            Some(inner) if path.is_empty() => inner.clone(),
            Some(inner) => format!("{path}.{inner}"),
            None => here.to_owned(),
        };
        let error = failure(rule, field, new, detail);
        if !rule.uses_old_self && excuse.holds() {
            self.findings.warnings.push(error.to_string());
        } else {
            self.error(error);
        }
        Ok(())
    }

    fn take(&mut self, cost: u64) -> std::result::Result<(), Exhausted> {
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(0);
        left.map(|_| ()).ok_or(Exhausted)
    }

    /// What the `messageExpression` gives, if that is a text that can be shown.
    fn message(
        &mut self,
        rule: &Rule,
        bindings: &Bindings<'_>,
    ) -> std::result::Result<Option<String>, Exhausted> {
        let Some(program) = rule.message.as_deref() else {
            return Ok(None);
        };
        let mut budget = Budget::new(Budget::PER_EXPRESSION);
        let result = program.evaluate(bindings, &mut budget);
        if let Err(Error::Budget) = result {
            self.left = 0;
            return Err(Exhausted);
        }
        self.take(budget.spent())?;
        let text = match &result {
            Ok(value) => value.as_str().unwrap_or_default().trim(),
            Err(_) => "",
        };
        let fits = !text.is_empty() && text.len() <= MESSAGE_MAX && !text.contains('\n');
        Ok(fits.then(|| text.to_owned()))
    }
}

/// The error of a rule that is not fulfilled. Only scalars are shown.
fn failure(rule: &Rule, field: String, value: &Json, detail: String) -> FieldError {
    let shown = Some(value)
        .filter(|value| !value.is_object() && !value.is_array())
        .cloned();
    match rule.written.reason.as_deref() {
        Some("FieldValueForbidden") => FieldError::forbidden(field, detail),
        Some("FieldValueRequired") => FieldError::required(field, detail),
        Some("FieldValueDuplicate") => FieldError::new(FieldErrorKind::Duplicate, field, shown, ""),
        _ => FieldError::new(FieldErrorKind::Invalid, field, shown, detail),
    }
}

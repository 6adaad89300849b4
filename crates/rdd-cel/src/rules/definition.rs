//! What is wrong with the rules that a definition brings.

use std::sync::Arc;

use rdd_schema::{AdditionalProperties, FieldError, FieldErrorKind, ListType, Schema};
use serde_json::Value as Json;

use super::{OLD_SELF, Written, environment, field_path, has_rules};
use crate::{
    environment::{Environment, Program},
    types::{Declared, REQUEST_MAX, Type},
};

/// The most that one rule may cost, for all values together.
const RULE_MAX: u64 = 10_000_000;

/// The most that all rules of a schema may cost.
const SCHEMA_MAX: u64 = 100_000_000;

/// How many rules are blamed for a total that is too high.
const BLAMED_MAX: usize = 4;

/// What contributes less is not blamed.
const BLAMED_MIN: u64 = SCHEMA_MAX / 100;

const REASONS: &[&str] = &[
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// Everything that is wrong with the rules in a schema document at `path`; the rest of
/// the document must be in order.
#[must_use]
pub fn problems(schema: &Schema, path: &str) -> Vec<FieldError> {
    if !has_rules(schema) {
        return Vec::new();
    }
    let mut judge = Judge {
        errors: Vec::new(),
        costs: Vec::new(),
        total: 0,
    };
    let place = Place {
        path: path.to_owned(),
        count: Some(1),
        uncorrelatable: None,
    };
    let declared = Declared::of_schema(schema, true, "selfType");
    judge.node(schema, schema, declared.as_ref(), &place);
    judge.finish(path)
}

/// Where a schema stands.
#[derive(Clone)]
struct Place {
    path: String,
    /// How many values there can be; unknown if nothing bounds them.
    count: Option<u64>,
    /// The list in which old and new items cannot be told to be the same.
    uncorrelatable: Option<String>,
}

impl Place {
    fn below(&self, step: &str, most: Option<u64>) -> Self {
        let count = self.count.zip(most);
        Self {
            path: format!("{}.{step}", self.path),
            count: count.map(|(count, most)| count.saturating_mul(most)),
            uncorrelatable: self.uncorrelatable.clone(),
        }
    }
}

struct Judge {
    errors: Vec<FieldError>,
    costs: Vec<(u64, String)>,
    total: u64,
}

impl Judge {
    /// Judges what is below, then the rules here. The answer is whether their form is in
    /// order; expressions are compiled only where it is.
    fn node(
        &mut self,
        written: &Schema,
        schema: &Schema,
        declared: Option<&Arc<Declared>>,
        place: &Place,
    ) -> bool {
        if !has_rules(written) {
            return true;
        }
        let mut fine = true;
        let item = declared.and_then(|declared| declared.item.as_ref());
        let checks = schema.checks.as_deref();
        if let Some(AdditionalProperties::Schema(values)) = &written.additional_properties {
            let most = checks.and_then(|checks| checks.max_properties);
            let inner = place.below("additionalProperties", most);
            fine &= self.node(values, values, item, &inner);
        }
        for (name, child) in &written.properties {
            let inner = place.below(&format!("properties[{name}]"), Some(1));
            let shape = schema.properties.get(name).unwrap_or(child);
            let field = declared.and_then(|declared| declared.property(name, shape));
            fine &= self.node(child, shape, field.as_ref(), &inner);
        }
        if let Some(items) = &written.items {
            let most = checks.and_then(|checks| checks.max_items);
            let mut inner = place.below("items", most);
            if schema.list_type != Some(ListType::Map) && inner.uncorrelatable.is_none() {
                inner.uncorrelatable = Some(place.path.clone());
            }
            fine &= self.node(items, items, item, &inner);
        }
        for (index, part) in written
            .checks
            .iter()
            .flat_map(|checks| &checks.all_of)
            .enumerate()
        {
            let inner = Place {
                path: format!("{}.allOf[{index}]", place.path),
                ..place.clone()
            };
            fine &= self.node(part, schema, declared, &inner);
        }
        let before = self.errors.len();
        for (index, rule) in written.rules.iter().enumerate() {
            let path = format!("{}.x-kubernetes-validations[{index}]", place.path);
            self.form(&Written::of(rule), schema, &path);
        }
        fine &= self.errors.len() == before;
        if !fine || written.rules.is_empty() {
            return fine;
        }
        let Some(declared) = declared else {
            self.errors.push(FieldError::internal(
                format!("{}.x-kubernetes-validations", place.path),
                "internal error: failed to construct type information for \
                 x-kubernetes-validations rules: unable to convert structural schema to CEL \
                 declarations",
            ));
            return true;
        };
        for (index, rule) in written.rules.iter().enumerate() {
            let path = format!("{}.x-kubernetes-validations[{index}]", place.path);
            self.compile(&Written::of(rule), declared, place, &path);
        }
        true
    }

    fn form(&mut self, rule: &Written, schema: &Schema, path: &str) {
        let at = |field: &str| format!("{path}.{field}");
        let message = rule.message.trim();
        let lines = |text: &str| text.contains(['\n', '\r']);
        let refuse = |field: &str, value: &str, problem: &str| {
            FieldError::invalid(at(field), value, problem)
        };
        if rule.rule.trim().is_empty() {
            let problem = "rule is not specified";
            self.errors.push(FieldError::required(at("rule"), problem));
        } else if !rule.message.is_empty() && message.is_empty() {
            let problem = "must be non-empty if specified";
            self.errors.push(refuse("message", &rule.message, problem));
        } else if lines(message) {
            let problem = "must not contain line breaks";
            self.errors.push(refuse("message", &rule.message, problem));
        } else if lines(rule.rule.trim()) && message.is_empty() {
            let problem = "message must be specified if rule contains line breaks";
            self.errors
                .push(FieldError::required(at("message"), problem));
        }
        if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
            let problem = "messageExpression must be non-empty if specified";
            self.errors
                .push(FieldError::required(at("messageExpression"), problem));
        }
        if let Some(reason) = &rule.reason
            && !REASONS.contains(&reason.as_str())
        {
            let error = FieldError::not_supported(at("reason"), reason.as_str(), REASONS);
            self.errors.push(error);
        }
        let field_path = rule.field_path.as_str();
        if field_path.is_empty() {
            return;
        }
        if field_path.trim().is_empty() {
            let problem = "must be non-empty if specified";
            self.errors.push(refuse("fieldPath", field_path, problem));
        }
        if lines(field_path) {
            let problem = "must not contain line breaks";
            self.errors.push(refuse("fieldPath", field_path, problem));
        }
        if field_path::normalise(field_path, schema).is_none() {
            let problem = "must be a valid path";
            self.errors.push(refuse("fieldPath", field_path, problem));
        }
    }

    fn compile(&mut self, rule: &Written, declared: &Arc<Declared>, place: &Place, path: &str) {
        let environment = environment(declared, rule.optional_old_self == Some(true));
        let mut uses_old_self = false;
        match Self::rule(rule, &environment) {
            Err(problem) => self.refuse(&format!("{path}.rule"), rule, &problem),
            Ok(program) => {
                uses_old_self = program.uses(OLD_SELF);
                if let Some(error) = program.failure() {
                    let problem = format!("program instantiation failed: {error}");
                    self.refuse(&format!("{path}.rule"), rule, &problem);
                } else {
                    let fits = REQUEST_MAX / declared.bytes_min.saturating_add(1);
                    let cost = program
                        .cost_max()
                        .saturating_mul(place.count.unwrap_or(fits));
                    self.cost(&format!("{path}.rule"), "rule", cost);
                    self.message(rule, &environment, path);
                }
            }
        }
        let field = format!("{path}.rule");
        if uses_old_self {
            if let Some(list) = &place.uncorrelatable {
                let problem = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within \
                     {list}"
                );
                let error = FieldError::invalid(field, rule.rule.as_str(), problem);
                self.errors.push(error);
            }
        } else if let Some(given) = rule.optional_old_self {
            self.errors.push(FieldError::invalid(
                format!("{path}.optionalOldSelf"),
                given,
                "may not be set if oldSelf is not used in rule",
            ));
        }
    }

    fn rule(rule: &Written, environment: &Environment) -> Result<Program, String> {
        match environment.compile(&rule.rule) {
            Err(error) => Err(format!("compilation failed: {error}")),
            Ok(program) if !matches!(program.result(), Type::Bool) => {
                Err("cel expression must evaluate to a bool".to_owned())
            }
            Ok(program) => Ok(program),
        }
    }

    fn message(&mut self, rule: &Written, environment: &Environment, path: &str) {
        if rule.message_expression.trim().is_empty() {
            return;
        }
        let field = format!("{path}.messageExpression");
        let problem = match environment.compile(&rule.message_expression) {
            Err(error) => format!("messageExpression compilation failed: {error}"),
            Ok(program) if !matches!(program.result(), Type::String) => {
                "messageExpression must evaluate to a string".to_owned()
            }
            Ok(program) => match program.failure() {
                Some(error) => format!("messageExpression instantiation failed: {error}"),
                None => return self.cost(&field, "messageExpression", program.cost_max()),
            },
        };
        self.refuse(&field, rule, &problem);
    }

    /// The rule is shown as Go prints the whole of it, fields in their order.
    fn refuse(&mut self, field: &str, rule: &Written, problem: &str) {
        let text = |text: &str| {
            let quoted = Json::from(text).to_string();
            // As Go escapes text for HTML.
            quoted
                .replace('<', "\\u003c")
                .replace('>', "\\u003e")
                .replace('&', "\\u0026")
                .replace('\u{2028}', "\\u2028")
                .replace('\u{2029}', "\\u2029")
        };
        let or_null = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
        let shown = format!(
            "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\
             \"OptionalOldSelf\":{}}}",
            text(&rule.rule),
            text(&rule.message),
            text(&rule.message_expression),
            or_null(rule.reason.as_deref().map(text)),
            text(&rule.field_path),
            or_null(rule.optional_old_self.map(|given| given.to_string())),
        );
        self.errors.push(FieldError::new(
            FieldErrorKind::Invalid,
            field,
            None,
            format!("{shown}: {problem}"),
        ));
    }

    fn cost(&mut self, field: &str, what: &str, cost: u64) {
        if cost > RULE_MAX {
            let problem = excess(&format!("estimated {what} cost"), cost, RULE_MAX);
            self.errors.push(FieldError::forbidden(field, problem));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= BLAMED_MIN {
            self.costs.push((cost, field.to_owned()));
        }
    }

    fn finish(mut self, path: &str) -> Vec<FieldError> {
        if self.total > SCHEMA_MAX {
            self.costs.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            for (_, field) in self.costs.iter().take(BLAMED_MAX) {
                self.errors.push(FieldError::forbidden(
                    field,
                    "contributed to estimated rule cost total exceeding cost limit for entire \
                     OpenAPIv3 schema",
                ));
            }
            let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 \
                        schema";
            let problem = excess(what, self.total, SCHEMA_MAX);
            self.errors.push(FieldError::forbidden(path, problem));
        }
        self.errors
    }
}

fn excess(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding \
         maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

//! MutatingAdmissionPolicies and their bindings.

use std::sync::Arc;

use rdd_cel::Environment;
use rdd_schema::FieldError;
use serde_json::{Value, json};

use super::{
    policies::{default_matching, matching_errors, param_kind_errors, variable_errors},
    rules::{self, FAILURE_POLICIES, bump_generation, fill, list, one_of, text, texts},
    zero::Form,
};
use crate::{
    admission::expressions,
    catalog::{Strategy, WriteContext},
};

/// Objects that go are not changed before.
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
const PATCH_TYPES: &[&str] = &["ApplyConfiguration", "JSONPatch"];
const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];

/// Changes in CEL.
pub(super) struct MutationStrategy(pub(super) Arc<Form>);

impl Strategy for MutationStrategy {
    fn blank(&self) -> Value {
        self.0.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.0.apply(object);
        if let Some(spec) = object["spec"].as_object_mut() {
            fill(spec, "failurePolicy", json!("Fail"));
        }
        default_matching(&mut object["spec"], "matchConstraints");
    }

    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        bump_generation(object, old, "spec");
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        policy_errors(object)
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        policy_errors(object)
    }
}

fn policy_errors(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    one_of(spec, "failurePolicy", "spec", FAILURE_POLICIES, &mut errors);
    if let Some(kind) = spec.get("paramKind") {
        param_kind_errors(kind, &mut errors);
    }
    let at = "spec.matchConstraints";
    match spec.get("matchConstraints") {
        None => errors.push(FieldError::required(at, "")),
        Some(matching) => {
            matching_errors(matching, at, &mut errors);
            if list(matching, "resourceRules").next().is_none() {
                errors.push(FieldError::required(format!("{at}.resourceRules"), ""));
            }
            operation_errors(matching, at, &mut errors);
        }
    }
    let has_params = spec.get("paramKind").is_some();
    let mut environment = expressions::of_policies(has_params);
    rules::condition_errors(spec, "spec.matchConditions", &environment, &mut errors);
    environment = expressions::with_variables(environment);
    let mut of_mutations = expressions::with_variables(expressions::of_mutations(has_params));
    for (index, variable) in list(spec, "variables").enumerate() {
        let base = format!("spec.variables[{index}]");
        let program = variable_errors(variable, &base, &environment, &mut errors);
        let name = format!("variables.{}", text(variable, "name"));
        environment = expressions::declare(environment, &name, program.as_ref());
        of_mutations = expressions::declare(of_mutations, &name, program.as_ref());
    }
    if list(spec, "mutations").next().is_none() {
        errors.push(FieldError::required(
            "spec.mutations",
            "mutations must contain at least one item",
        ));
    }
    for (index, mutation) in list(spec, "mutations").enumerate() {
        let base = format!("spec.mutations[{index}]");
        mutation_errors(mutation, &base, &of_mutations, &mut errors);
    }
    closed(
        spec,
        "reinvocationPolicy",
        "spec",
        REINVOCATION_POLICIES,
        &mut errors,
    );
    errors
}

/// A text that must be there, out of a closed list.
fn closed(value: &Value, field: &str, base: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    if text(value, field).is_empty() {
        errors.push(FieldError::required(format!("{base}.{field}"), ""));
    } else {
        one_of(value, field, base, allowed, errors);
    }
}

fn operation_errors(matching: &Value, base: &str, errors: &mut Vec<FieldError>) {
    for rule in list(matching, "resourceRules") {
        for operation in texts(rule, "operations") {
            if !OPERATIONS.contains(&operation) {
                let at = format!("{base}.resourceRules.operations");
                errors.push(FieldError::not_supported(at, operation, OPERATIONS));
            }
        }
    }
}

fn mutation_errors(
    mutation: &Value,
    base: &str,
    environment: &Environment,
    errors: &mut Vec<FieldError>,
) {
    let patch_type = text(mutation, "patchType");
    let (wanted, other, r#type) = match patch_type {
        "ApplyConfiguration" => (
            "applyConfiguration",
            "jsonPatch",
            expressions::CONFIGURATION.clone(),
        ),
        "JSONPatch" => (
            "jsonPatch",
            "applyConfiguration",
            expressions::PATCHES.clone(),
        ),
        _ => return closed(mutation, "patchType", base, PATCH_TYPES, errors),
    };
    let at = format!("{base}.{wanted}");
    match mutation.get(wanted) {
        None => errors.push(FieldError::required(
            at,
            format!("must be specified when patchType is {patch_type}"),
        )),
        Some(form) => {
            let at = format!("{at}.expression");
            let source = text(form, "expression").trim();
            if source.is_empty() {
                errors.push(FieldError::required(at, ""));
            } else {
                expressions::check(environment, source, &[r#type], &at, errors);
            }
        }
    }
    if mutation.get(other).is_some() {
        errors.push(FieldError::invalid(
            format!("{base}.{other}"),
            format!("{{{other}}}"),
            format!("must not be specified when patchType is {patch_type}"),
        ));
    }
}

/// Where a mutating policy cannot be bound.
pub(super) fn place_errors(spec: &Value, errors: &mut Vec<FieldError>) {
    if let Some(matching) = spec.get("matchResources") {
        operation_errors(matching, "spec.matchResources", errors);
    }
}

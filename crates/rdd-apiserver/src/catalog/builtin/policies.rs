//! ValidatingAdmissionPolicies and their bindings.

use std::{collections::HashSet, sync::Arc};

use rdd_cel::{Environment, Program, Type};
use rdd_schema::{FieldError, names};
use serde_json::{Value, json};

use super::{
    rules::{
        self, FAILURE_POLICIES, MATCH_POLICIES, bump_generation, default_match, fill, list, one_of,
        rule_errors, selector_errors, text, texts,
    },
    zero::Form,
};
use crate::{
    admission::expressions,
    catalog::{Strategy, Subresource, WriteContext, crd::label_problems},
};

/// The reasons that a broken rule may give.
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const CONDITION_STATUSES: &[&str] = &["False", "True", "Unknown"];
const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const NOT_FOUND_ACTIONS: &[&str] = &["Deny", "Allow"];
const ANNOTATIONS_MAX: usize = 20;

/// Rules in CEL.
pub(super) struct PolicyStrategy(pub(super) Arc<Form>);

impl Strategy for PolicyStrategy {
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

    fn prepare_create(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        object["status"] = json!({});
    }

    fn prepare_update(&self, cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        let kept = match cx.subresource {
            Some(Subresource::Status) => "spec",
            _ => "status",
        };
        object[kept] = old[kept].clone();
        bump_generation(object, old, "spec");
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        policy_errors(object)
    }

    fn validate_update(
        &self,
        cx: &WriteContext<'_>,
        object: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        match cx.subresource {
            Some(Subresource::Status) => status_errors(object),
            _ => policy_errors(object),
        }
    }
}

/// Where a policy is in force, and how.
pub(super) struct BindingStrategy {
    pub(super) form: Arc<Form>,
    /// What else is wrong with a spec: bindings differ by the kind of their policies.
    pub(super) further: fn(&Value, &mut Vec<FieldError>),
}

impl Strategy for BindingStrategy {
    fn blank(&self) -> Value {
        self.form.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.form.apply(object);
        default_matching(&mut object["spec"], "matchResources");
    }

    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        bump_generation(object, old, "spec");
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        self.errors(object)
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        self.errors(object)
    }
}

impl BindingStrategy {
    fn errors(&self, object: &Value) -> Vec<FieldError> {
        let spec = &object["spec"];
        let mut errors = Vec::new();
        let policy = text(spec, "policyName");
        if policy.is_empty() {
            errors.push(FieldError::required("spec.policyName", ""));
        } else {
            for problem in names::dns1123_subdomain(policy) {
                errors.push(FieldError::invalid("spec.policyName", policy, problem));
            }
        }
        if let Some(reference) = spec.get("paramRef") {
            param_ref_errors(reference, &mut errors);
        }
        if let Some(matching) = spec.get("matchResources") {
            matching_errors(matching, "spec.matchResources", &mut errors);
        }
        (self.further)(spec, &mut errors);
        errors
    }
}

pub(super) fn default_matching(spec: &mut Value, field: &str) {
    if let Some(matching) = spec.get_mut(field).and_then(Value::as_object_mut) {
        default_match(matching, &["resourceRules", "excludeResourceRules"]);
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
        }
    }
    let has_params = spec.get("paramKind").is_some();
    let mut environment = expressions::of_policies(has_params);
    let mut of_messages = expressions::of_messages(has_params);
    rules::condition_errors(spec, "spec.matchConditions", &environment, &mut errors);
    if list(spec, "variables").next().is_some() {
        environment = expressions::with_variables(environment);
        of_messages = expressions::with_variables(of_messages);
    }
    for (index, variable) in list(spec, "variables").enumerate() {
        let base = format!("spec.variables[{index}]");
        let program = variable_errors(variable, &base, &environment, &mut errors);
        let name = format!("variables.{}", text(variable, "name"));
        environment = expressions::declare(environment, &name, program.as_ref());
        of_messages = expressions::declare(of_messages, &name, program.as_ref());
    }
    let empty = |field: &str| list(spec, field).next().is_none();
    if empty("validations") && empty("auditAnnotations") {
        for field in ["validations", "auditAnnotations"] {
            errors.push(FieldError::required(
                format!("spec.{field}"),
                "validations or auditAnnotations must contain at least one item",
            ));
        }
        return errors;
    }
    for (index, validation) in list(spec, "validations").enumerate() {
        let base = format!("spec.validations[{index}]");
        validation_errors(validation, &base, &environment, &of_messages, &mut errors);
    }
    annotation_errors(object, &environment, &mut errors);
    errors
}

pub(super) fn param_kind_errors(kind: &Value, errors: &mut Vec<FieldError>) {
    let at = "spec.paramKind.apiVersion";
    let api_version = text(kind, "apiVersion");
    if api_version.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if api_version.matches('/').count() > 1 {
        let text = format!("unexpected GroupVersion string: {api_version}");
        errors.push(FieldError::invalid(at, api_version, text));
    } else {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let problems = names::dns1123_subdomain(group);
        if !group.is_empty() && !problems.is_empty() {
            errors.push(FieldError::invalid(at, group, problems.join(",")));
        }
        let problems = label_problems(version);
        if version.is_empty() {
            errors.push(FieldError::invalid(
                at,
                api_version,
                "version must be specified",
            ));
        } else if !problems.is_empty() {
            errors.push(FieldError::invalid(at, version, problems.join(",")));
        }
    }
    let at = "spec.paramKind.kind";
    let kind = text(kind, "kind");
    let problems = label_problems(&kind.to_lowercase());
    if kind.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if !problems.is_empty() {
        let text = format!(
            "may have mixed case, but should otherwise match: {}",
            problems.join(",")
        );
        errors.push(FieldError::invalid(at, kind, text));
    }
}

pub(super) fn matching_errors(matching: &Value, base: &str, errors: &mut Vec<FieldError>) {
    one_of(matching, "matchPolicy", base, MATCH_POLICIES, errors);
    for field in ["namespaceSelector", "objectSelector"] {
        selector_errors(&matching[field], &format!("{base}.{field}"), errors);
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (index, rule) in list(matching, field).enumerate() {
            let base = format!("{base}.{field}[{index}]");
            let mut seen = HashSet::new();
            for (index, name) in texts(rule, "resourceNames").into_iter().enumerate() {
                let at = format!("{base}.resourceNames[{index}]");
                for problem in names::path_segment(name) {
                    errors.push(FieldError::invalid(at.as_str(), name, problem));
                }
                if !seen.insert(name) {
                    errors.push(FieldError::duplicate(at, name));
                }
            }
            rule_errors(rule, &base, errors);
        }
    }
}

/// The expression of a variable, beside what is wrong with it.
pub(super) fn variable_errors(
    variable: &Value,
    base: &str,
    environment: &Environment,
    errors: &mut Vec<FieldError>,
) -> Option<Program> {
    let name = text(variable, "name");
    let at = format!("{base}.name");
    if name.trim().is_empty() {
        errors.push(FieldError::required(at, "name is not specified"));
    } else if !is_identifier(name) {
        errors.push(FieldError::invalid(
            at,
            name,
            "must be a valid CEL identifier",
        ));
    }
    expression_given(variable, "expression", base, errors);
    let at = format!("{base}.expression");
    let source = text(variable, "expression");
    expressions::check(environment, source, &[], &at, errors)
}

/// Whether CEL takes the word as an identifier.
fn is_identifier(word: &str) -> bool {
    const RESERVED: &[&str] = &[
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ];
    let first = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    word.as_bytes().first().is_some_and(first)
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !RESERVED.contains(&word)
}

fn expression_given(owner: &Value, field: &str, base: &str, errors: &mut Vec<FieldError>) {
    if text(owner, field).trim().is_empty() {
        errors.push(FieldError::required(
            format!("{base}.{field}"),
            format!("{field} is not specified"),
        ));
    }
}

fn validation_errors(
    validation: &Value,
    base: &str,
    environment: &Environment,
    of_messages: &Environment,
    errors: &mut Vec<FieldError>,
) {
    let blank = |field: &str| {
        let given = text(validation, field);
        !given.is_empty() && given.trim().is_empty()
    };
    expression_given(validation, "expression", base, errors);
    for (field, wanted, environment) in [
        ("expression", Type::Bool, environment),
        ("messageExpression", Type::String, of_messages),
    ] {
        let (source, at) = (text(validation, field), format!("{base}.{field}"));
        expressions::check(environment, source, &[wanted], &at, errors);
    }
    for field in ["messageExpression", "message"] {
        if blank(field) {
            errors.push(FieldError::invalid(
                format!("{base}.{field}"),
                text(validation, field),
                "must be non-empty if specified",
            ));
        }
    }
    let message = text(validation, "message");
    if message.trim().contains(['\n', '\r']) {
        errors.push(FieldError::invalid(
            format!("{base}.message"),
            message,
            "must not contain line breaks",
        ));
    }
    one_of(validation, "reason", base, REASONS, errors);
}

fn annotation_errors(object: &Value, environment: &Environment, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let policy = text(&object["metadata"], "name");
    let count = list(spec, "auditAnnotations").count();
    if count > ANNOTATIONS_MAX {
        errors.push(FieldError::invalid(
            "spec.auditAnnotations",
            spec["auditAnnotations"].clone(),
            format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations"),
        ));
    }
    let mut seen = HashSet::new();
    for (index, annotation) in list(spec, "auditAnnotations").enumerate() {
        let base = format!("spec.auditAnnotations[{index}]");
        let key = text(annotation, "key");
        let full = format!("{policy}/{key}");
        for problem in names::qualified_name(&full) {
            let at = format!("{base}.key");
            errors.push(FieldError::invalid(at, full.as_str(), problem));
        }
        expression_given(annotation, "valueExpression", &base, errors);
        let source = text(annotation, "valueExpression");
        let at = format!("{base}.valueExpression");
        let wanted = [Type::String, Type::Null];
        expressions::check(environment, source, &wanted, &at, errors);
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(format!("{base}.key"), key));
        }
    }
}

fn status_errors(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let warnings = list(&object["status"]["typeChecking"], "expressionWarnings");
    for (index, warning) in warnings.enumerate() {
        for field in ["warning", "fieldRef"] {
            if text(warning, field).is_empty() {
                let at = format!("status.typeChecking.expressionWarnings[{index}].{field}");
                errors.push(FieldError::required(at, ""));
            }
        }
    }
    let mut seen = HashSet::new();
    for (index, condition) in list(&object["status"], "conditions").enumerate() {
        let base = format!("status.conditions[{index}]");
        condition_errors(condition, &base, &mut errors);
        let r#type = text(condition, "type");
        if !seen.insert(r#type) {
            errors.push(FieldError::duplicate(format!("{base}.type"), r#type));
        }
    }
    errors
}

/// What is wrong with a condition of a status.
fn condition_errors(condition: &Value, base: &str, errors: &mut Vec<FieldError>) {
    const REASON_MAX: usize = 1024;
    const MESSAGE_MAX: usize = 32 * 1024;
    let at = |field: &str| format!("{base}.{field}");
    let r#type = text(condition, "type");
    for problem in names::qualified_name(r#type) {
        errors.push(FieldError::invalid(at("type"), r#type, problem));
    }
    let status = text(condition, "status");
    if !CONDITION_STATUSES.contains(&status) {
        errors.push(FieldError::not_supported(
            at("status"),
            status,
            CONDITION_STATUSES,
        ));
    }
    if let Some(generation) = condition["observedGeneration"].as_i64()
        && generation < 0
    {
        errors.push(FieldError::invalid(
            at("observedGeneration"),
            generation,
            "must be greater than or equal to zero",
        ));
    }
    if text(condition, "lastTransitionTime").is_empty() {
        errors.push(FieldError::required(at("lastTransitionTime"), ""));
    }
    let reason = text(condition, "reason");
    if reason.is_empty() {
        errors.push(FieldError::required(at("reason"), ""));
    } else if !is_reason(reason) {
        errors.push(FieldError::invalid(
            at("reason"),
            reason,
            "a condition reason must start with alphabetic character, optionally followed by a \
             string of alphanumeric characters or '_,:', and must end with an alphanumeric \
             character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB', \
              or 'ReasonA:ReasonB', regex used for validation is \
             '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
        ));
    }
    for (field, most) in [("reason", REASON_MAX), ("message", MESSAGE_MAX)] {
        if text(condition, field).len() > most {
            errors.push(FieldError::too_long(at(field), most));
        }
    }
}

fn is_reason(reason: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = reason.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|byte| word(*byte))
        && bytes
            .iter()
            .all(|byte| word(*byte) || matches!(byte, b',' | b':'))
}

/// What a validating binding does.
pub(super) fn effect_errors(spec: &Value, errors: &mut Vec<FieldError>) {
    action_errors(&texts(spec, "validationActions"), errors);
}

pub(super) fn param_ref_errors(reference: &Value, errors: &mut Vec<FieldError>) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let at = |field: &str| format!("spec.paramRef.{field}");
    let name = text(reference, "name");
    let selector = reference.get("selector");
    if !name.is_empty() {
        for problem in names::path_segment(name) {
            errors.push(FieldError::invalid(at("name"), name, problem));
        }
        if selector.is_some() {
            errors.push(FieldError::forbidden(at("name"), EXCLUSIVE));
        }
    }
    match selector {
        Some(selector) => {
            selector_errors(selector, &at("selector"), errors);
            if !name.is_empty() {
                errors.push(FieldError::forbidden(at("selector"), EXCLUSIVE));
            }
        }
        None if name.is_empty() => errors.push(FieldError::required(
            "spec.paramRef",
            "one of name or selector must be specified",
        )),
        None => {}
    }
    let action = at("parameterNotFoundAction");
    match text(reference, "parameterNotFoundAction") {
        "" => errors.push(FieldError::required(action, "")),
        given if !NOT_FOUND_ACTIONS.contains(&given) => {
            errors.push(FieldError::not_supported(action, given, NOT_FOUND_ACTIONS));
        }
        _ => {}
    }
}

fn action_errors(actions: &[&str], errors: &mut Vec<FieldError>) {
    let at = "spec.validationActions";
    if actions.is_empty() {
        errors.push(FieldError::required(
            at,
            "at least one validation action is required",
        ));
    }
    let mut seen = HashSet::new();
    for (index, action) in actions.iter().enumerate() {
        let at = format!("{at}[{index}]");
        if !ACTIONS.contains(action) {
            errors.push(FieldError::not_supported(at.as_str(), *action, ACTIONS));
        }
        if !seen.insert(*action) {
            errors.push(FieldError::duplicate(at, *action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.push(FieldError::invalid(
            at,
            json!(actions),
            "must not contain both Deny and Warn (repeating the same validation failure \
             information in the API response and headers serves no purpose)",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts_of(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_binding_names_a_policy_and_what_follows() {
        let bindings = BindingStrategy {
            form: Arc::new(Form::of(&json!({}))),
            further: effect_errors,
        };
        let check = |spec: Value, expect: &[&str]| {
            let errors = bindings.errors(&json!({"spec": spec}));
            assert_eq!(texts_of(&errors), expect);
        };
        check(
            json!({"policyName": "p", "validationActions": ["Deny"]}),
            &[],
        );
        check(
            json!({"policyName": "p", "validationActions": ["Deny", "Warn"]}),
            &[
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both \
               Deny and Warn (repeating the same validation failure information in the API \
               response and headers serves no purpose)",
            ],
        );
        check(
            json!({"policyName": "p", "validationActions": ["Deny", "Deny"], "paramRef": {}}),
            &[
                "spec.paramRef: Required value: one of name or selector must be specified",
                "spec.paramRef.parameterNotFoundAction: Required value",
                "spec.validationActions[1]: Duplicate value: \"Deny\"",
            ],
        );
    }

    #[test]
    fn a_param_kind_is_a_kind_of_a_version() {
        let check = |kind: Value, expect: &[&str]| {
            let mut errors = Vec::new();
            param_kind_errors(&kind, &mut errors);
            assert_eq!(texts_of(&errors), expect);
        };
        check(json!({"apiVersion": "v1", "kind": "ConfigMap"}), &[]);
        check(
            json!({"apiVersion": "example.com/v1", "kind": "Limit"}),
            &[],
        );
        check(
            json!({"apiVersion": "a/b/c"}),
            &[
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion \
                 string: a/b/c",
                "spec.paramKind.kind: Required value",
            ],
        );
    }

    #[test]
    fn a_variable_is_an_identifier_of_cel() {
        for (name, fits) in [("a_1", true), ("1a", false), ("in", false), ("a-b", false)] {
            assert_eq!(is_identifier(name), fits, "{name}");
        }
    }
}

//! The parts that webhook configurations and admission policies share: rules that name
//! requests, label selectors and match conditions. Texts are those of kube-apiserver.

use std::collections::HashSet;

use rdd_cel::{Environment, Type};
use rdd_schema::{FieldError, names};
use serde_json::{Map, Value, json};

use crate::admission::expressions;

/// The most match conditions of one webhook or policy.
const CONDITIONS_MAX: usize = 64;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];

/// What may become of a request that cannot be judged.
pub(super) const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
/// How a rule treats the other versions of a resource.
pub(super) const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The texts of a list.
pub(super) fn texts<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    list(value, field).filter_map(Value::as_str).collect()
}

/// Sets a field that is not given.
pub(super) fn fill(members: &mut Map<String, Value>, field: &str, value: Value) {
    let absent = members.get(field).is_none_or(Value::is_null);
    if absent {
        members.insert(field.to_owned(), value);
    }
}

/// The defaults of the fields by which requests are matched.
pub(super) fn default_match(members: &mut Map<String, Value>, rule_lists: &[&str]) {
    fill(members, "matchPolicy", json!("Equivalent"));
    fill(members, "namespaceSelector", json!({}));
    fill(members, "objectSelector", json!({}));
    for field in rule_lists {
        let rules = members.get_mut(*field).and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
            fill(rule, "scope", json!("*"));
        }
    }
}

/// A value out of a closed list; with `required`, it must be there.
pub(super) fn one_of(
    value: &Value,
    field: &str,
    base: &str,
    allowed: &[&str],
    errors: &mut Vec<FieldError>,
) {
    if let Some(given) = value.get(field).and_then(Value::as_str)
        && !allowed.contains(&given)
    {
        let at = format!("{base}.{field}");
        errors.push(FieldError::not_supported(at, given, allowed));
    }
}

/// What is wrong with one rule at the path `base`.
pub(super) fn rule_errors(rule: &Value, base: &str, errors: &mut Vec<FieldError>) {
    let operations = starred(rule, "operations", base, "operations", errors);
    for (index, operation) in operations.iter().enumerate() {
        if !OPERATIONS.contains(operation) {
            let at = format!("{base}.operations[{index}]");
            errors.push(FieldError::not_supported(at, *operation, OPERATIONS));
        }
    }
    starred(rule, "apiGroups", base, "API groups", errors);
    let versions = starred(rule, "apiVersions", base, "API versions", errors);
    for (index, version) in versions.iter().enumerate() {
        if version.is_empty() {
            let at = format!("{base}.apiVersions[{index}]");
            errors.push(FieldError::required(at, ""));
        }
    }
    resource_errors(rule, &format!("{base}.resources"), errors);
    one_of(rule, "scope", base, SCOPES, errors);
}

/// A list that is not empty, and holds nothing else beside `*`.
fn starred<'a>(
    rule: &'a Value,
    field: &str,
    base: &str,
    what: &str,
    errors: &mut Vec<FieldError>,
) -> Vec<&'a str> {
    let values = texts(rule, field);
    let at = format!("{base}.{field}");
    if values.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if values.len() > 1 && values.contains(&"*") {
        errors.push(FieldError::invalid(
            at,
            json!(values),
            format!("if '*' is present, must not specify other {what}"),
        ));
    }
    values
}

fn resource_errors(rule: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let resources = texts(rule, "resources");
    if resources.is_empty() {
        errors.push(FieldError::required(at, ""));
        return;
    }
    let mut every_subresource_of = HashSet::new();
    let mut of_every_resource = HashSet::new();
    let mut plain = false;
    for (index, full) in resources.iter().enumerate() {
        if full.is_empty() {
            errors.push(FieldError::required(format!("{at}[{index}]"), ""));
            continue;
        }
        let Some((resource, subresource)) = full.split_once('/') else {
            plain |= *full != "*";
            continue;
        };
        let mut refuse = |rest: String| {
            errors.push(FieldError::invalid(
                format!("{at}[{index}]"),
                *full,
                format!("if '{rest}' is present, must not specify {full}"),
            ));
        };
        if every_subresource_of.contains(resource) {
            refuse(format!("{resource}/*"));
        }
        if of_every_resource.contains(subresource) {
            refuse(format!("*/{subresource}"));
        }
        if subresource == "*" {
            every_subresource_of.insert(resource);
        }
        if resource == "*" {
            of_every_resource.insert(subresource);
        }
    }
    if resources.len() > 1 && resources.contains(&"*/*") {
        errors.push(FieldError::invalid(
            at,
            json!(resources),
            "if '*/*' is present, must not specify other resources",
        ));
    }
    if plain && resources.contains(&"*") {
        errors.push(FieldError::invalid(
            at,
            json!(resources),
            "if '*' is present, must not specify other resources without subresources",
        ));
    }
}

/// What is wrong with a label selector at the path `base`.
pub(super) fn selector_errors(selector: &Value, base: &str, errors: &mut Vec<FieldError>) {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let at = format!("{base}.matchLabels");
    for (key, value) in labels.into_iter().flatten() {
        for problem in names::qualified_name(key) {
            errors.push(FieldError::invalid(&at, key.as_str(), problem));
        }
        let value = value.as_str().unwrap_or_default();
        for problem in names::label_value(value) {
            errors.push(FieldError::invalid(&at, value, problem));
        }
    }
    for (index, requirement) in list(selector, "matchExpressions").enumerate() {
        let at = |field: &str| format!("{base}.matchExpressions[{index}].{field}");
        let values = texts(requirement, "values");
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                at("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                at("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                at("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        let key = text(requirement, "key");
        for problem in names::qualified_name(key) {
            errors.push(FieldError::invalid(at("key"), key, problem));
        }
        for (place, value) in values.iter().enumerate() {
            for problem in names::label_value(value) {
                let at = format!("{}[{place}]", at("values"));
                errors.push(FieldError::invalid(at, *value, problem));
            }
        }
    }
}

/// What is wrong with the match conditions at the path `base`; their expressions may
/// name what `environment` knows.
pub(super) fn condition_errors(
    owner: &Value,
    base: &str,
    environment: &Environment,
    errors: &mut Vec<FieldError>,
) {
    let count = list(owner, "matchConditions").count();
    if count > CONDITIONS_MAX {
        errors.push(FieldError::too_many(base, count, CONDITIONS_MAX));
    }
    let mut seen = HashSet::new();
    for (index, condition) in list(owner, "matchConditions").enumerate() {
        let at = |field: &str| format!("{base}[{index}].{field}");
        let expression = text(condition, "expression");
        if expression.trim().is_empty() {
            errors.push(FieldError::required(at("expression"), ""));
        }
        let place = at("expression");
        expressions::check(environment, expression, &[Type::Bool], &place, errors);
        let name = text(condition, "name");
        if name.is_empty() {
            errors.push(FieldError::required(at("name"), ""));
            continue;
        }
        for problem in names::qualified_name(name) {
            errors.push(FieldError::invalid(at("name"), name, problem));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(at("name"), name));
        }
    }
}

/// Raises `metadata.generation` when the desired state under `field` changed.
pub(super) fn bump_generation(object: &mut Value, old: &Value, field: &str) {
    let before = old["metadata"]["generation"].as_i64().unwrap_or_default();
    let changed = object.get(field) != old.get(field);
    let generation = if changed { before + 1 } else { before };
    object["metadata"]["generation"] = generation.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts_of(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_star_stands_alone() {
        let check = |resources: &[&str], expect: &[&str]| {
            let rule = json!({
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": resources,
            });
            let mut errors = Vec::new();
            rule_errors(&rule, "r", &mut errors);
            assert_eq!(texts_of(&errors), expect);
        };
        check(&["pods", "pods/status", "*/scale"], &[]);
        check(&["*", "pods/status"], &[]);
        check(
            &["pods/*", "pods/status"],
            &[
                "r.resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not \
               specify pods/status",
            ],
        );
        check(
            &["*/*", "pods"],
            &[
                "r.resources: Invalid value: [\"*/*\",\"pods\"]: if '*/*' is present, must not \
               specify other resources",
            ],
        );
        check(&[], &["r.resources: Required value"]);
    }

    #[test]
    fn a_selector_compares_with_values_or_does_not() {
        let mut errors = Vec::new();
        let selector = json!({"matchExpressions": [
            {"key": "a", "operator": "In"},
            {"key": "a", "operator": "Exists", "values": ["x"]},
            {"key": "a", "operator": "Like"},
        ]});
        selector_errors(&selector, "s", &mut errors);
        assert_eq!(
            texts_of(&errors),
            [
                "s.matchExpressions[0].values: Required value: must be specified when `operator` \
                 is 'In' or 'NotIn'",
                "s.matchExpressions[1].values: Forbidden: may not be specified when `operator` is \
                 'Exists' or 'DoesNotExist'",
                "s.matchExpressions[2].operator: Invalid value: \"Like\": not a valid selector \
                 operator",
            ]
        );
    }
}

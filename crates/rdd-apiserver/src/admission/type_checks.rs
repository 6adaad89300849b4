//! Which expressions of a policy cannot be right for the kinds that it names, although
//! they are in order where nothing is known of the kinds.

use std::{collections::BTreeSet, sync::Arc};

use rdd_cel::{Declared, Environment};
use rdd_schema::Schema;
use serde_json::{Value, json};

use super::{expressions, matching::items};
use crate::{
    catalog::{Catalog, Resource},
    openapi,
};

/// How many kinds a rule of a policy is checked for at most.
const KINDS_MAX: usize = 10;

/// The `expressionWarnings` of a policy: for each rule and each message the kinds that it
/// does not fit, and why. Kinds are those that `matchConstraints` name without wildcards
/// and the catalog serves.
pub(crate) fn warnings(catalog: &Catalog, policy: &Value) -> Vec<Value> {
    let spec = &policy["spec"];
    let param = spec.get("paramKind").map(|kind| {
        let api_version = kind["apiVersion"].as_str().unwrap_or_default();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = kind["kind"].as_str().unwrap_or_default();
        let resource = catalog.resource_of_kind(group, version, kind);
        resource.and_then(|resource| declared(resource, 2))
    });
    let environments: Vec<(String, Environment)> = kinds(catalog, spec)
        .into_iter()
        .filter_map(|(group, version, kind)| {
            let resource = catalog.resource_of_kind(&group, &version, &kind)?;
            let object = declared(resource, 1)?;
            let environment = environment(spec, &object, param.as_ref().map(Option::as_ref));
            Some((format!("{group}/{version}, Kind={kind}"), environment))
        })
        .collect();
    let mut warnings = Vec::new();
    for (index, validation) in items(spec, "validations").enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = validation[field].as_str().unwrap_or_default();
            if source.is_empty() {
                continue;
            }
            let texts: Vec<String> = environments
                .iter()
                .filter_map(|(kind, environment)| {
                    let error = environment.compile(source).err()?;
                    Some(format!("{kind}: {error}\n"))
                })
                .collect();
            if !texts.is_empty() {
                warnings.push(json!({
                    "fieldRef": format!("spec.validations[{index}].{field}"),
                    "warning": texts.join("\n"),
                }));
            }
        }
    }
    warnings
}

/// The kinds, as group, version and kind, that the rules name exactly.
fn kinds(catalog: &Catalog, spec: &Value) -> BTreeSet<(String, String, String)> {
    let mut kinds = BTreeSet::new();
    for rule in items(&spec["matchConstraints"], "resourceRules") {
        let words = |field: &str| -> Vec<&str> {
            let mut words: Vec<&str> = items(rule, field).filter_map(Value::as_str).collect();
            words.sort_unstable();
            words
        };
        let (groups, versions) = (words("apiGroups"), words("apiVersions"));
        if groups
            .iter()
            .chain(&versions)
            .any(|word| word.contains('*'))
        {
            continue;
        }
        let mut resources = words("resources");
        resources.retain(|resource| !resource.contains(['*', '/']));
        let mut count = 0;
        for group in &groups {
            for version in &versions {
                for plural in &resources {
                    let Some(resource) = catalog.resource(group, version, plural) else {
                        continue;
                    };
                    kinds.insert((
                        resource.group.clone(),
                        resource.version.clone(),
                        resource.kind.clone(),
                    ));
                    count += 1;
                    if count == KINDS_MAX {
                        return kinds;
                    }
                }
            }
        }
    }
    kinds
}

/// The type of objects of a resource. The number in its name tells objects and params of
/// kinds with one name apart; Kubernetes shows such numbers too.
fn declared(resource: &Resource, number: u8) -> Option<Arc<Declared>> {
    let schema = Schema::parse(&openapi::whole_schema(resource)).ok()?;
    Declared::of_schema(&schema, false, &format!("{}{number}", resource.kind))
}

/// What the rules of a policy may name, with the types of this kind. Params are absent
/// where the policy takes none, and have no type where their kind is not served.
fn environment(
    spec: &Value,
    object: &Arc<Declared>,
    params: Option<Option<&Arc<Declared>>>,
) -> Environment {
    let mut environment = expressions::of_policies(params.is_some())
        .with_declared("object", object)
        .with_declared("oldObject", object);
    if let Some(Some(params)) = params {
        environment = environment.with_declared("params", params);
    }
    environment = expressions::with_variables(environment);
    for variable in items(spec, "variables") {
        let name = variable["name"].as_str().unwrap_or_default();
        let source = variable["expression"].as_str().unwrap_or_default();
        let program = environment.compile(source).ok();
        let name = format!("variables.{name}");
        environment = expressions::declare(environment, &name, program.as_ref());
    }
    environment
}

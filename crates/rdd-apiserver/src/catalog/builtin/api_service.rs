//! APIServices: who serves which version of which API group. Those of this server's own
//! versions are made by a worker; it proxies to no other server.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use rdd_schema::{FieldError, names};
use serde_json::{Value, json};

use super::{
    rules::{fill, text},
    zero::Form,
};
use crate::catalog::{
    Strategy, Subresource, WriteContext,
    client_config::{SERVICE_PORT, port_problem},
    crd::label_problems,
};

/// A version of a group, and its server.
pub(super) struct ApiServiceStrategy(pub(super) Arc<Form>);

impl Strategy for ApiServiceStrategy {
    fn blank(&self) -> Value {
        self.0.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.0.apply(object);
        let service = object["spec"]
            .get_mut("service")
            .and_then(Value::as_object_mut);
        if let Some(service) = service {
            fill(service, "port", json!(SERVICE_PORT));
        }
    }

    fn prepare_create(&self, cx: &WriteContext<'_>, object: &mut Value) {
        object["status"] = if object["spec"].get("service").is_none() {
            json!({"conditions": [{
                "type": "Available", "status": "True",
                "lastTransitionTime": cx.now.to_string(),
                "reason": "Local", "message": "Local APIServices are always available",
            }]})
        } else {
            json!({})
        };
    }

    fn prepare_update(&self, cx: &WriteContext<'_>, object: &mut Value, old: &Value) {
        let kept = match cx.subresource {
            Some(Subresource::Status) => "spec",
            _ => "status",
        };
        object[kept] = old[kept].clone();
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        validate(object)
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        validate(object)
    }

    fn name_errors(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment(name)
    }
}

fn validate(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &object["spec"];
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let name = text(&object["metadata"], "name");
    let wanted = format!("{version}.{group}");
    if name != wanted {
        errors.push(FieldError::invalid(
            "metadata.name",
            name,
            format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"),
        ));
    }
    if group.is_empty() {
        if version != "v1" {
            errors.push(FieldError::required(
                "spec.group",
                "only v1 may have an empty group and it better be legacy kube",
            ));
        }
    } else {
        for problem in names::dns1123_subdomain(group) {
            errors.push(FieldError::invalid("spec.group", group, problem));
        }
    }
    for problem in label_problems(version) {
        errors.push(FieldError::invalid("spec.version", version, problem));
    }
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let value = spec[field].as_i64().unwrap_or_default();
        if !(1..=most).contains(&value) {
            errors.push(FieldError::invalid(
                format!("spec.{field}"),
                value,
                format!("must be positive and less than {most}"),
            ));
        }
    }
    let bundle = STANDARD
        .decode(text(spec, "caBundle"))
        .map_or(0, |bytes| bytes.len());
    let insecure = spec["insecureSkipTLSVerify"] == true;
    let Some(service) = spec.get("service") else {
        if bundle > 0 {
            errors.push(FieldError::invalid(
                "spec.caBundle",
                format!("{bundle} bytes"),
                "local APIServices may not have a caBundle",
            ));
        }
        if insecure {
            errors.push(FieldError::invalid(
                "spec.insecureSkipTLSVerify",
                true,
                "local APIServices may not have insecureSkipTLSVerify",
            ));
        }
        return errors;
    };
    for field in ["namespace", "name"] {
        if text(service, field).is_empty() {
            errors.push(FieldError::required(format!("spec.service.{field}"), ""));
        }
    }
    let port = service["port"].as_i64().unwrap_or(SERVICE_PORT);
    if let Some(problem) = port_problem(port) {
        errors.push(FieldError::invalid("spec.service.port", port, problem));
    }
    if insecure && bundle > 0 {
        errors.push(FieldError::invalid(
            "spec.insecureSkipTLSVerify",
            true,
            "may not be true if caBundle is present",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_version_and_the_group() {
        let check = |object: &Value, expect: &[&str]| {
            let texts: Vec<String> = validate(object).iter().map(ToString::to_string).collect();
            assert_eq!(texts, expect);
        };
        let object = |name: &str, priority: i64| {
            json!({"metadata": {"name": name}, "spec": {
                "group": "example.com", "version": "v1", "groupPriorityMinimum": priority,
                "versionPriority": 15,
            }})
        };
        check(&object("v1.example.com", 1000), &[]);
        check(
            &object("v2.example.com", 20_001),
            &[
                "metadata.name: Invalid value: \"v2.example.com\": must be \
                 `spec.version+\".\"+spec.group`: \"v1.example.com\"",
                "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than \
                 20000",
            ],
        );
    }
}

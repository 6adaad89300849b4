//! What an App may ask for, judged when it is written.
//!
//! The first two rules also stand in the App's definition, for servers that
//! evaluate those; the words are the definition's and the server's own.

use std::sync::Arc;

use async_trait::async_trait;
use rdd_admission::{AdmissionRequest, Admit, Admitted, Denial, Matches, Operation, Phase};
use rdd_api::names::{self, group};
use serde_json::Value;

/// The webhook that the rules go by.
const VALIDATOR: &str = "app-validator.app.rancherdesktop.io";

/// The schemes of an engine's endpoint.
const SCHEMES: [&str; 3] = ["unix://", "tcp://", "ssh://"];

/// The longest name of a namespace, by RFC 1123.
const LABEL_MAX: usize = 63;

/// The App's rules.
pub(super) fn rules() -> Vec<Arc<dyn Admit>> {
    vec![Arc::new(Validator {
        matches: [Matches::resource(
            group::APP,
            "apps",
            [Operation::Create, Operation::Update],
        )],
    })]
}

struct Validator {
    matches: [Matches; 1],
}

#[async_trait]
impl Admit for Validator {
    fn name(&self) -> &str {
        VALIDATOR
    }

    fn phase(&self) -> Phase {
        Phase::Validating
    }

    fn matches(&self) -> &[Matches] {
        &self.matches
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        judge(&request.name, &request.object, &request.old_object)?;
        Ok(Admitted::default())
    }
}

fn judge(name: &str, object: &Value, old: &Value) -> Result<(), Denial> {
    if name != names::APP {
        return Err(invalid(
            name,
            "<nil>: Invalid value: App resource must be named 'app'",
        ));
    }
    let namespace = text(object, "/spec/namespace");
    let old_namespace = text(old, "/spec/namespace");
    if let (Some(new), Some(old)) = (namespace, old_namespace)
        && new != old
    {
        return Err(invalid(
            name,
            &format!("spec.namespace: Invalid value: {new:?}: spec.namespace is immutable"),
        ));
    }
    if let Some(namespace) = namespace.filter(|namespace| !is_label(namespace)) {
        return Err(Denial::forbidden(
            VALIDATOR,
            format!(
                "spec.namespace {namespace:?} is not a namespace name: it takes at most 63 lower-case letters, digits and '-', and starts and ends with a letter or digit"
            ),
        ));
    }
    let endpoint = text(object, "/spec/containerEngine/endpoint");
    if let Some(endpoint) = endpoint.filter(|endpoint| !is_endpoint(endpoint)) {
        return Err(Denial::forbidden(
            VALIDATOR,
            format!(
                "spec.containerEngine.endpoint {endpoint:?} is not supported: it must start with {} and name a place",
                SCHEMES.join(", ")
            ),
        ));
    }
    Ok(())
}

/// A text that is there and not empty.
fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

fn is_endpoint(endpoint: &str) -> bool {
    SCHEMES
        .iter()
        .filter_map(|scheme| endpoint.strip_prefix(scheme))
        .any(|place| !place.is_empty() && place != "/")
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= LABEL_MAX
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The server's own answer to an object that breaks a rule of its definition.
fn invalid(name: &str, detail: &str) -> Denial {
    Denial {
        webhook: String::new(),
        code: 422,
        reason: "Invalid".to_owned(),
        message: format!("App.{} {name:?} is invalid: {detail}", group::APP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_app_is_judged_when_it_is_written() {
        let check = |name: &str, spec: Value, old: Value, expect: Result<(), &str>| {
            let object = json!({"spec": spec});
            let verdict = judge(name, &object, &old).map_err(|denial| denial.to_string());
            assert_eq!(verdict, expect.map_err(str::to_owned), "{object} {old}");
        };
        let new = Value::Null;
        check("app", json!({"running": true}), new.clone(), Ok(()));
        check(
            "other",
            json!({"running": true}),
            new.clone(),
            Err(
                "App.app.rancherdesktop.io \"other\" is invalid: <nil>: Invalid value: App resource must be named 'app'",
            ),
        );
        let old = json!({"spec": {"namespace": "default"}});
        check("app", json!({"namespace": "default"}), old.clone(), Ok(()));
        check(
            "app",
            json!({"namespace": "b"}),
            old,
            Err(
                "App.app.rancherdesktop.io \"app\" is invalid: spec.namespace: Invalid value: \"b\": spec.namespace is immutable",
            ),
        );
        check("app", json!({"namespace": "b"}), new.clone(), Ok(()));
        check(
            "app",
            json!({"namespace": "B_"}),
            new.clone(),
            Err(
                "admission webhook \"app-validator.app.rancherdesktop.io\" denied the request: spec.namespace \"B_\" is not a namespace name: it takes at most 63 lower-case letters, digits and '-', and starts and ends with a letter or digit",
            ),
        );
        let engine =
            |endpoint: &str| json!({"containerEngine": {"name": "moby", "endpoint": endpoint}});
        for good in [
            "",
            "unix:///var/run/docker.sock",
            "tcp://host:2376",
            "ssh://me@host",
        ] {
            check("app", engine(good), new.clone(), Ok(()));
        }
        for bad in ["/var/run/docker.sock", "http://host", "unix://", "unix:///"] {
            let text = format!(
                "admission webhook \"app-validator.app.rancherdesktop.io\" denied the request: spec.containerEngine.endpoint {bad:?} is not supported: it must start with unix://, tcp://, ssh:// and name a place"
            );
            check("app", engine(bad), new.clone(), Err(&text));
        }
    }

    #[test]
    fn status_writes_are_not_judged() {
        let rules = rules();
        assert!(rules.iter().all(|rule| {
            rule.matches()
                .iter()
                .all(|matches| matches.subresource.is_empty())
        }));
    }
}

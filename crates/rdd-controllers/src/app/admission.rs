//! What an App may ask for, judged when it is written.
//!
//! The first two rules also stand in the App's definition, for servers that
//! evaluate those; the words are the definition's and the server's own.

use std::sync::Arc;

use async_trait::async_trait;
use rdd_admission::{AdmissionRequest, Admit, Admitted, Denial, Frame, Matches, Operation, Phase};
use rdd_api::names::{self, group};
use serde_json::Value;

use super::k3s::Releases;

/// The webhook that the rules go by.
const VALIDATOR: &str = "app-validator.app.rancherdesktop.io";

/// The schemes of an engine's endpoint.
const SCHEMES: [&str; 3] = ["unix://", "tcp://", "ssh://"];

/// The longest name of a namespace, by RFC 1123.
const LABEL_MAX: usize = 63;

/// The webhook that completes an App.
const DEFAULTER: &str = "app-defaulter.app.rancherdesktop.io";

/// The App's rules. There are none when the bundled releases cannot be read: the start of
/// the controller fails by that before any rule is asked.
pub(super) fn rules() -> Vec<Arc<dyn Admit>> {
    let Ok(releases) = Releases::bundled() else {
        return Vec::new();
    };
    let releases = Arc::new(releases);
    let matches = [Matches::resource(
        group::APP,
        "apps",
        [Operation::Create, Operation::Update],
    )];
    let rule = |frame: Frame, configuration| Rule {
        frame: frame.listed(configuration, names::VERSION, "app"),
        releases: Arc::clone(&releases),
    };
    vec![
        Arc::new(rule(
            Frame::mutating(DEFAULTER, matches.clone()),
            "app-defaulter",
        )),
        Arc::new(rule(Frame::validating(VALIDATOR, matches), "app-validator")),
    ]
}

/// Either half.
struct Rule {
    frame: Frame,
    releases: Arc<Releases>,
}

#[async_trait]
impl Admit for Rule {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        if self.phase() == Phase::Mutating {
            return Ok(Admitted {
                object: complete(&request.object, &self.releases),
                ..Admitted::default()
            });
        }
        judge(&request.name, &request.object, &request.old_object)?;
        judge_kubernetes(&request.object, &self.releases)?;
        Ok(Admitted::default())
    }
}

/// The App with a version in place of a channel, or of nothing where one is needed. `None`
/// leaves it as it is.
fn complete(object: &Value, releases: &Releases) -> Option<Value> {
    let kubernetes = object.pointer("/spec/kubernetes")?.as_object()?;
    let enabled = kubernetes.get("enabled") == Some(&Value::Bool(true));
    let version = match kubernetes.get("version") {
        None | Some(Value::Null) => "",
        Some(version) => version.as_str()?,
    };
    let resolved = releases.resolve(enabled, version)?;
    let mut object = object.clone();
    object["spec"]["kubernetes"]["version"] = resolved.into();
    Some(object)
}

fn judge_kubernetes(object: &Value, releases: &Releases) -> Result<(), Denial> {
    let enabled = object.pointer("/spec/kubernetes/enabled") == Some(&Value::Bool(true));
    let refused = |text: String| Err(Denial::forbidden(VALIDATOR, text));
    match text(object, "/spec/kubernetes/version") {
        None if enabled => refused(
            "spec.kubernetes.version must not be empty when spec.kubernetes.enabled is true"
                .to_owned(),
        ),
        Some(version) if releases.tag(version).is_none() => refused(format!(
            "spec.kubernetes.version {version:?} is not supported; see the bundled k3s-versions.json for valid versions"
        )),
        _ => Ok(()),
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
    fn versions_of_kubernetes_are_completed_then_judged() {
        let releases = Releases::bundled().expect("it is well formed");
        let stable = releases.resolve(true, "").expect("a version").to_owned();
        let check = |kubernetes: Value, completed: Option<&str>, expect: Result<(), &str>| {
            let object = json!({"spec": {"running": true, "kubernetes": kubernetes}});
            let changed = complete(&object, &releases);
            let version = changed
                .as_ref()
                .and_then(|object| object["spec"]["kubernetes"]["version"].as_str());
            assert_eq!(version, completed, "{object}");
            let verdict = judge_kubernetes(&changed.unwrap_or(object.clone()), &releases);
            let verdict = verdict.map_err(|denial| denial.message);
            assert_eq!(verdict, expect.map_err(str::to_owned), "{object}");
        };
        let unknown = |version: &str| {
            format!(
                "spec.kubernetes.version {version:?} is not supported; see the bundled k3s-versions.json for valid versions"
            )
        };
        check(Value::Null, None, Ok(()));
        check(json!({}), None, Ok(()));
        check(json!({"enabled": false}), None, Ok(()));
        check(json!({"enabled": false, "version": ""}), None, Ok(()));
        check(json!({"enabled": true}), Some(&stable), Ok(()));
        check(
            json!({"enabled": true, "version": ""}),
            Some(&stable),
            Ok(()),
        );
        check(
            json!({"enabled": true, "version": null}),
            Some(&stable),
            Ok(()),
        );
        check(
            json!({"enabled": false, "version": "latest"}),
            Some("1.32.0"),
            Ok(()),
        );
        check(
            json!({"enabled": true, "version": "1.30"}),
            Some("1.30.8"),
            Ok(()),
        );
        check(
            json!({"enabled": true, "version": "v1.30"}),
            Some("1.30.8"),
            Ok(()),
        );
        check(json!({"enabled": true, "version": "1.30.2"}), None, Ok(()));
        for version in ["1.99.0", "v1.32.0", "1.32.0+k3s1", "newest", " "] {
            for enabled in [true, false] {
                let wish = json!({"enabled": enabled, "version": version});
                check(wish, None, Err(&unknown(version)));
            }
        }
        // What the first rule cannot complete, the second one refuses.
        let empty = json!({"spec": {"kubernetes": {"enabled": true}}});
        let refused = judge_kubernetes(&empty, &releases).expect_err("no version");
        assert_eq!(
            refused.message,
            "spec.kubernetes.version must not be empty when spec.kubernetes.enabled is true"
        );
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

//! Secrets.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use rdd_schema::FieldError;
use serde_json::{Map, Value};

use super::{config_map::frozen, data_keys, texts, zero::Form};
use crate::{
    catalog::{Strategy, WriteContext},
    encoding::json,
};

/// What is printed in the place of a Secret's contents.
const REDACTED: &str = "<secret contents redacted>";

const ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";

/// `stringData`, types and the keys they need, size, immutability.
pub(super) struct SecretStrategy(pub(super) Arc<Form>);

impl Strategy for SecretStrategy {
    fn blank(&self) -> Value {
        self.0.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.0.apply(object);
        let Some(members) = object.as_object_mut() else {
            return;
        };
        if let Some(Value::Object(texts)) = members.remove("stringData") {
            let data = members
                .entry("data")
                .or_insert_with(|| Value::Object(Map::new()));
            if let Some(data) = data.as_object_mut() {
                for (key, text) in texts {
                    let encoded = STANDARD.encode(text.as_str().unwrap_or_default());
                    data.insert(key, Value::String(encoded));
                }
            }
        }
        members
            .entry("type")
            .or_insert_with(|| Value::String("Opaque".to_owned()));
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        validate(object)
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if object.get("type") != old.get("type") {
            let value = object.get("type").cloned().unwrap_or_default();
            errors.push(FieldError::invalid("type", value, "field is immutable"));
        }
        errors.extend(frozen(object, old, &["data"]));
        errors.extend(validate(object));
        errors
    }

    fn warnings(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        _old: Option<&Value>,
    ) -> Vec<String> {
        let is_tls = type_of(object) == "kubernetes.io/tls";
        let has_pem = |key| {
            decoded(object, key).is_some_and(|bytes| {
                bytes
                    .windows(b"-----BEGIN".len())
                    .any(|window| window == b"-----BEGIN")
            })
        };
        if is_tls && !has_pem("tls.crt") {
            vec!["tls: failed to find any PEM data in certificate input".to_owned()]
        } else if is_tls && !has_pem("tls.key") {
            vec!["tls: failed to find any PEM data in key input".to_owned()]
        } else {
            Vec::new()
        }
    }
}

fn type_of(object: &Value) -> &str {
    object
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn data_of<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("data")?.get(key)?.as_str()
}

fn decoded(object: &Value, key: &str) -> Option<Vec<u8>> {
    STANDARD.decode(data_of(object, key)?).ok()
}

fn validate(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    let data = object.get("data").and_then(Value::as_object);
    for (key, value) in data.into_iter().flatten() {
        errors.extend(data_keys::errors("data", key));
        size += value.as_str().map_or(0, data_keys::decoded_len);
    }
    if size > data_keys::VALUES_MAX {
        errors.push(FieldError::too_long("data", data_keys::VALUES_MAX));
    }
    let needs = |key: &str| FieldError::required(format!("data[{key}]"), "");
    match type_of(object) {
        "kubernetes.io/service-account-token" => {
            let annotations = texts(object, "annotations");
            if annotations
                .get(ACCOUNT_ANNOTATION)
                .is_none_or(String::is_empty)
            {
                let field = format!("metadata.annotations[{ACCOUNT_ANNOTATION}]");
                errors.push(FieldError::required(field, ""));
            }
        }
        "kubernetes.io/dockercfg" => errors.extend(docker_errors(object, ".dockercfg")),
        "kubernetes.io/dockerconfigjson" => {
            errors.extend(docker_errors(object, ".dockerconfigjson"));
        }
        "kubernetes.io/basic-auth" => {
            let keys = ["username", "password"];
            if keys.iter().all(|key| data_of(object, key).is_none()) {
                errors.extend(keys.into_iter().map(needs));
            }
        }
        "kubernetes.io/ssh-auth" if data_of(object, "ssh-privatekey").is_none_or(str::is_empty) => {
            errors.push(needs("ssh-privatekey"));
        }
        "kubernetes.io/tls" => {
            let keys = ["tls.crt", "tls.key"];
            let absent = keys
                .into_iter()
                .filter(|key| data_of(object, key).is_none());
            errors.extend(absent.map(needs));
        }
        _ => {}
    }
    errors
}

/// A Docker configuration must be there and be a JSON object.
fn docker_errors(object: &Value, key: &str) -> Option<FieldError> {
    let field = format!("data[{key}]");
    let Some(bytes) = decoded(object, key) else {
        return Some(FieldError::required(field, ""));
    };
    let problem = match json::parse(&bytes) {
        Err(error) => error.to_string(),
        Ok(parsed) => {
            let found = match parsed.value {
                Value::Object(_) | Value::Null => return None,
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "bool",
            };
            format!(
                "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
            )
        }
    };
    Some(FieldError::invalid(field, REDACTED, problem))
}

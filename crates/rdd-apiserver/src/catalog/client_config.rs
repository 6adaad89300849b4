//! How a webhook is reached: the `clientConfig` of webhook configurations and of
//! conversions, which share one form.

use rdd_schema::{FieldError, names};
use serde_json::Value;

/// The port of a Service where none is given.
pub(crate) const SERVICE_PORT: i64 = 443;

/// What is wrong with a `clientConfig` at the path `base`.
pub(super) fn errors(client: &Value, base: &str, errors: &mut Vec<FieldError>) {
    let service = client.get("service").filter(|service| !service.is_null());
    match (client.get("url").and_then(Value::as_str), service) {
        (Some(url), None) => url_errors(url, &format!("{base}.url"), errors),
        (None, Some(service)) => service_errors(service, &format!("{base}.service"), errors),
        _ => errors.push(FieldError::required(
            base,
            "exactly one of url or service is required",
        )),
    }
}

fn service_errors(service: &Value, base: &str, errors: &mut Vec<FieldError>) {
    for field in ["name", "namespace"] {
        let given = service.get(field).and_then(Value::as_str);
        if given.unwrap_or_default().is_empty() {
            errors.push(FieldError::required(
                format!("{base}.{field}"),
                format!("service {field} is required"),
            ));
        }
    }
    let port = service["port"].as_i64().unwrap_or(SERVICE_PORT);
    if let Some(problem) = port_problem(port) {
        errors.push(FieldError::invalid(format!("{base}.port"), port, problem));
    }
    if let Some(path) = service.get("path").and_then(Value::as_str) {
        path_errors(path, &format!("{base}.path"), errors);
    }
}

/// Why a number is no port.
pub(super) fn port_problem(port: i64) -> Option<&'static str> {
    let valid = (1..=65_535).contains(&port);
    (!valid).then_some("port is not valid: must be between 1 and 65535, inclusive")
}

fn path_errors(path: &str, field: &str, errors: &mut Vec<FieldError>) {
    let mut refuse = |problem: String| {
        errors.push(FieldError::invalid(field, path, problem));
    };
    match path {
        "" | "/" => return,
        "//" => return refuse("segment[0] may not be empty".to_owned()),
        _ => {}
    }
    if !path.starts_with('/') {
        refuse("must start with a '/'".to_owned());
    }
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (index, segment) in inner.split('/').enumerate() {
        if segment.is_empty() {
            refuse(format!("segment[{index}] may not be empty"));
            continue;
        }
        for problem in names::dns1123_subdomain(segment) {
            refuse(format!("segment[{index}]: {problem}"));
        }
    }
}

fn url_errors(url: &str, field: &str, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let host = rest.split('/').next().unwrap_or_default();
    let (user, host) = host.split_once('@').unwrap_or(("", host));
    let mut refuse = |value: &str, problem: String| {
        errors.push(FieldError::invalid(field, value, problem));
    };
    if scheme != "https" {
        refuse(
            scheme,
            format!("'https' is the only allowed URL scheme{FORM}"),
        );
    }
    if host.is_empty() {
        refuse(host, format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        refuse(
            user,
            "user information is not permitted in the URL".to_owned(),
        );
    }
    if !fragment.is_empty() {
        refuse(
            fragment,
            "fragments are not permitted in the URL".to_owned(),
        );
    }
    if !query.is_empty() {
        refuse(
            query,
            "query parameters are not permitted in the URL".to_owned(),
        );
    }
}

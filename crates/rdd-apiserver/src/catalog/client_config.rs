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
    // kube-apiserver takes the one for the other: a name that is missing is told as the
    // namespace.
    for (field, told) in [("namespace", "name"), ("name", "namespace")] {
        let given = service.get(field).and_then(Value::as_str);
        if given.unwrap_or_default().is_empty() {
            errors.push(FieldError::required(format!("{base}.{told}"), ""));
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
    // What stands in the place of the slash is not looked at.
    let mut inner = path.chars();
    inner.next();
    let inner = inner.as_str();
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

fn url_errors(text: &str, field: &str, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(problem) => {
            let quoted = Value::String(text.to_owned());
            let text = format!("url must be a valid URL: parse {quoted}: {problem}{FORM}");
            errors.push(FieldError::required(field, text));
            return;
        }
    };
    let mut refuse = |value: &str, problem: &str| {
        errors.push(FieldError::invalid(field, value, problem));
    };
    if url.scheme != "https" {
        refuse(
            &url.scheme,
            &format!("'https' is the only allowed URL scheme{FORM}"),
        );
    }
    if url.host.is_empty() {
        refuse(url.host, &format!("host must be specified{FORM}"));
    }
    if let Some(user) = url.user {
        refuse(user, "user information is not permitted in the URL");
    }
    if !url.fragment.is_empty() {
        refuse(url.fragment, "fragments are not permitted in the URL");
    }
    if !url.query.is_empty() {
        refuse(url.query, "query parameters are not permitted in the URL");
    }
}

/// The parts of a URL as Go's `net/url` tells them apart.
struct Url<'a> {
    scheme: String,
    user: Option<&'a str>,
    host: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> Url<'a> {
    /// # Errors
    /// Why it is no URL, in Go's words.
    fn parse(text: &'a str) -> Result<Self, String> {
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (scheme, rest) = scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Self {
            scheme: scheme.to_ascii_lowercase(),
            user: None,
            host: "",
            query,
            fragment,
        };
        if !rest.starts_with('/') {
            let segment = rest.split('/').next().unwrap_or_default();
            return match scheme {
                "" if segment.contains(':') => {
                    Err("first path segment in URL cannot contain colon".to_owned())
                }
                "" => escapes(rest).map(|()| url),
                _ => Ok(url),
            };
        }
        let mut path = rest;
        if let Some(authority) = rest.strip_prefix("//")
            && (!scheme.is_empty() || !authority.starts_with('/'))
        {
            let end = authority.find('/').unwrap_or(authority.len());
            let (authority, after) = authority.split_at(end);
            path = after;
            (url.user, url.host) = match authority.rsplit_once('@') {
                Some((user, host)) => (Some(user), host),
                None => (None, authority),
            };
            host(url.host)?;
        }
        escapes(path)?;
        Ok(url)
    }
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.find(':').map_or("", |at| &host[at..])
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if !port.is_empty() && (digits == port || !digits.bytes().all(|byte| byte.is_ascii_digit())) {
        let port = Value::String(port.to_owned());
        return Err(format!("invalid port {port} after host"));
    }
    if let Some(odd) = host.chars().find(|one| " <>\"\\^`{|}".contains(*one)) {
        let odd = Value::String(odd.to_string());
        return Err(format!("invalid character {odd} in host name"));
    }
    escapes(host)
}

/// A `%` begins two hexadecimal digits.
fn escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let escape = text.get(at..at + 3);
        let good = escape.is_some_and(|one| one.bytes().skip(1).all(|b| b.is_ascii_hexdigit()));
        if !good {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {}", Value::String(shown)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(client: Value, wanted: &[&str]) {
        let mut found = Vec::new();
        errors(&client, "c", &mut found);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, wanted, "{client}");
    }

    #[test]
    fn a_url_is_read_as_go_reads_it() {
        let url = |text: &str| json!({"url": text});
        let form = "; desired format: https://host[/path]";
        let no_url = |text: &str, why: &str| {
            let quoted = json!(text);
            format!("c.url: Required value: url must be a valid URL: parse {quoted}: {why}{form}")
        };
        check(url("https://h/x"), &[]);
        for (text, why) in [
            (":", "missing protocol scheme"),
            ("1:2", "first path segment in URL cannot contain colon"),
            ("https://[::1/x", "missing ']' in host"),
            ("https://h:x/", "invalid port \":x\" after host"),
            ("https://a b/", "invalid character \" \" in host name"),
            ("https://h/%zz", "invalid URL escape \"%zz\""),
            (
                "https://h/\u{7f}",
                "net/url: invalid control character in URL",
            ),
        ] {
            check(url(text), &[&no_url(text, why)]);
        }
        check(
            url("HTTP:x"),
            &[
                &format!(
                    "c.url: Invalid value: \"http\": 'https' is the only allowed URL scheme{form}"
                ),
                &format!("c.url: Invalid value: \"\": host must be specified{form}"),
            ],
        );
        check(
            url("https://u:p@h?q#f"),
            &[
                "c.url: Invalid value: \"u:p\": user information is not permitted in the URL",
                "c.url: Invalid value: \"f\": fragments are not permitted in the URL",
                "c.url: Invalid value: \"q\": query parameters are not permitted in the URL",
            ],
        );
    }

    #[test]
    fn a_service_has_a_name_a_port_and_a_path() {
        check(
            json!({"service": {"port": 0, "path": "x"}}),
            &[
                "c.service.name: Required value",
                "c.service.namespace: Required value",
                "c.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "c.service.path: Invalid value: \"x\": must start with a '/'",
                "c.service.path: Invalid value: \"x\": segment[0] may not be empty",
            ],
        );
    }
}

//! The options of a request: query parameters and `DeleteOptions` bodies.

use std::time::Duration;

use rdd_schema::{FieldError, FieldErrorKind};
use serde_json::{Value, json};

use crate::{
    admission::Given,
    http::request_info::{Query, is_true},
    object::{self, quote},
    status::{ApiError, ApiResult},
};

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and send Warning headers.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// The options as admission sees them.
    pub(crate) given: Given,
    /// Who owns what the request sets; empty when not given.
    pub field_manager: String,
    /// What to do about unknown and duplicate fields.
    pub field_validation: FieldValidation,
    /// Take over what others own (apply).
    pub force: bool,
}

/// Which write the options belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH other than apply.
    Patch,
    /// Server-side apply.
    Apply,
}

impl WriteOptions {
    /// Reads and checks the query.
    ///
    /// # Errors
    /// 422 with every complaint.
    pub fn parse(query: &Query, kind: WriteKind) -> ApiResult<Self> {
        let mut errors = Vec::new();
        let manager = query.get("fieldManager").unwrap_or_default();
        let force = query.get("force");
        match kind {
            WriteKind::Apply if manager.is_empty() => {
                errors.push(FieldError::required(
                    "fieldManager",
                    "is required for apply patch",
                ));
            }
            WriteKind::Patch if force.is_some() => {
                errors.push(FieldError::forbidden(
                    "force",
                    "may not be specified for non-apply patch",
                ));
            }
            _ => {}
        }
        check_manager(manager, &mut errors);
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let validation = query.get("fieldValidation").unwrap_or_default();
        let field_validation = match validation {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                errors.push(FieldError::not_supported(
                    "fieldValidation",
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                ));
                FieldValidation::Warn
            }
        };
        let name = match kind {
            WriteKind::Create => "CreateOptions",
            WriteKind::Update => "UpdateOptions",
            WriteKind::Patch | WriteKind::Apply => "PatchOptions",
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid_kind(name, "meta.k8s.io", "", &errors));
        }
        let mut document = json!({"kind": name, "apiVersion": "meta.k8s.io/v1"});
        if dry_run {
            document["dryRun"] = json!(["All"]);
        }
        if let Some(force) = force {
            document["force"] = json!(is_true(force));
        }
        for (field, text) in [("fieldManager", manager), ("fieldValidation", validation)] {
            if !text.is_empty() {
                document[field] = json!(text);
            }
        }
        Ok(Self {
            given: Given { dry_run, document },
            field_manager: manager.to_owned(),
            field_validation,
            force: force.is_some_and(is_true),
        })
    }

    /// The same for an apply that says itself whose it is.
    ///
    /// # Errors
    /// 422 with every complaint.
    pub(crate) fn owned_by(&self, manager: &str, force: bool) -> ApiResult<Self> {
        let mut errors = Vec::new();
        if manager.is_empty() {
            errors.push(FieldError::required(
                "fieldManager",
                "is required for apply patch",
            ));
        }
        check_manager(manager, &mut errors);
        if !errors.is_empty() {
            return Err(ApiError::invalid_kind(
                "PatchOptions",
                "meta.k8s.io",
                "",
                &errors,
            ));
        }
        let mut options = self.clone();
        options.given.document["force"] = json!(force);
        options.given.document["fieldManager"] = json!(manager);
        manager.clone_into(&mut options.field_manager);
        options.force = force;
        Ok(options)
    }

    /// The manager's name: as given, else the user agent's first part.
    #[must_use]
    pub fn manager(&self, user_agent: &str) -> String {
        if !self.field_manager.is_empty() {
            return self.field_manager.clone();
        }
        let prefix: String = user_agent
            .split('/')
            .next()
            .unwrap_or_default()
            .chars()
            .filter(|character| !character.is_control())
            .take(128)
            .collect();
        if prefix.is_empty() {
            "unknown".to_owned()
        } else {
            prefix
        }
    }
}

fn check_manager(manager: &str, errors: &mut Vec<FieldError>) {
    if manager.len() > 128 {
        errors.push(FieldError::too_long("fieldManager", 128));
    }
    for (index, character) in manager.char_indices() {
        let separator = character.is_whitespace() && character != ' ';
        if character.is_control() || separator {
            let detail = format!(
                "invalid character {} (at position {index})",
                unicode_name(character)
            );
            errors.push(FieldError::invalid("fieldManager", manager, detail));
        }
    }
}

/// Go's `%#U`: `U+0009` and, where it can be printed, the character.
fn unicode_name(character: char) -> String {
    format!("U+{:04X}", character as u32)
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = values.collect();
    if values.iter().any(|value| *value != "All") {
        errors.push(FieldError::new(
            FieldErrorKind::NotSupported,
            "dryRun",
            Some(json!(values)),
            "supported values: \"All\"",
        ));
    }
    !values.is_empty()
}

/// What happens to the objects that an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

/// Options of delete and deletecollection.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// The options as admission sees them.
    pub(crate) given: Given,
    /// Explicit policy.
    pub propagation: Option<Propagation>,
    /// The caller used the old `orphanDependents: false`, which changes the answer's code.
    pub orphan_dependents_false: bool,
    /// The object must have this uid.
    pub uid: Option<String>,
    /// The object must be at this resourceVersion.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads the body, or the query when there is no body.
    ///
    /// # Errors
    /// 400 when the body is no `DeleteOptions`, 422 with every complaint.
    pub fn parse(query: &Query, body: Option<&Value>) -> ApiResult<Self> {
        let from_query;
        let options = match body {
            Some(body) => body,
            None => {
                from_query = query_options(query)?;
                &from_query
            }
        };
        let Value::Object(members) = options else {
            return Err(ApiError::bad_request(object::typeless(options)));
        };
        check_shape(options)?;
        if let Some(kind) = members.get("kind").and_then(Value::as_str)
            && !kind.is_empty()
            && kind != "DeleteOptions"
        {
            let version = members
                .get("apiVersion")
                .and_then(Value::as_str)
                .unwrap_or_default();
            return Err(ApiError::bad_request(format!(
                "no kind \"{kind}\" is registered for version \"{version}\" in scheme \
                 \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
            )));
        }
        let mut errors = Vec::new();
        let values = members.get("dryRun").and_then(Value::as_array);
        let orphan = members.get("orphanDependents").and_then(Value::as_bool);
        let policy = members.get("propagationPolicy").and_then(Value::as_str);
        let mut propagation = match policy {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                if orphan.is_none() {
                    errors.push(FieldError::not_supported(
                        "propagationPolicy",
                        other,
                        &["Foreground", "Background", "Orphan", "nil"],
                    ));
                }
                None
            }
        };
        if let (Some(policy), Some(_)) = (policy, orphan) {
            errors.push(FieldError::invalid(
                "propagationPolicy",
                policy,
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        let dry_run = dry_run(
            values.into_iter().flatten().filter_map(Value::as_str),
            &mut errors,
        );
        if !errors.is_empty() {
            return Err(ApiError::invalid_kind(
                "DeleteOptions",
                "meta.k8s.io",
                "",
                &errors,
            ));
        }
        match orphan {
            Some(true) => propagation = Some(Propagation::Orphan),
            Some(false) => propagation = Some(Propagation::Background),
            None => {}
        }
        let precondition = |name: &str| {
            let value = members.get("preconditions")?.get(name)?.as_str()?;
            Some(value.to_owned())
        };
        let mut document = options.clone();
        document["kind"] = json!("DeleteOptions");
        document["apiVersion"] = json!("meta.k8s.io/v1");
        Ok(Self {
            given: Given { dry_run, document },
            propagation,
            orphan_dependents_false: orphan == Some(false),
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
        })
    }
}

fn query_options(query: &Query) -> ApiResult<Value> {
    let mut options = json!({});
    let dry_run: Vec<&str> = query.all("dryRun").collect();
    if !dry_run.is_empty() {
        options["dryRun"] = json!(dry_run);
    }
    if let Some(seconds) = query.get("gracePeriodSeconds") {
        options["gracePeriodSeconds"] = json!(parse_int(seconds)?);
    }
    if let Some(orphan) = query.get("orphanDependents") {
        options["orphanDependents"] = json!(is_true(orphan));
    }
    if let Some(policy) = query.get("propagationPolicy") {
        options["propagationPolicy"] = json!(policy);
    }
    for name in ["uid", "resourceVersion"] {
        if let Some(value) = query.get(name).filter(|value| !value.is_empty()) {
            options["preconditions"][name] = json!(value);
        }
    }
    Ok(options)
}

/// The Go types of the members that matter.
fn check_shape(options: &Value) -> ApiResult<()> {
    let wrong = |value: &Value, field: &str, go_type: &str| {
        let found = match value {
            Value::Number(number) if go_type == "int64" => format!("number {number}"),
            value => object::go_kind(value).to_owned(),
        };
        ApiError::bad_request(format!(
            "json: cannot unmarshal {found} into Go struct field DeleteOptions.{field} of type {go_type}"
        ))
    };
    type Fits = fn(&Value) -> bool;
    let checks: [(&str, &str, Fits); 6] = [
        ("gracePeriodSeconds", "int64", Value::is_i64),
        ("orphanDependents", "bool", Value::is_boolean),
        (
            "propagationPolicy",
            "v1.DeletionPropagation",
            Value::is_string,
        ),
        ("dryRun", "[]string", Value::is_array),
        ("preconditions", "v1.Preconditions", Value::is_object),
        ("kind", "string", Value::is_string),
    ];
    for (field, go_type, fits) in checks {
        if let Some(value) = options
            .get(field)
            .filter(|value| !value.is_null() && !fits(value))
        {
            return Err(wrong(value, field, go_type));
        }
    }
    Ok(())
}

/// Go's `strconv.ParseInt`.
///
/// # Errors
/// 400 in its words.
pub fn parse_int(text: &str) -> ApiResult<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("strconv.ParseInt: parsing {}: invalid syntax", quote(text));
        return Err(ApiError::bad_request(message));
    }
    text.parse().map_err(|_| {
        let message = format!(
            "strconv.ParseInt: parsing {}: value out of range",
            quote(text)
        );
        ApiError::bad_request(message)
    })
}

/// The request's own timeout: at most `most`; absent, empty and zero mean that.
///
/// # Errors
/// 400 when the text is no Go duration.
pub fn timeout(query: &Query, most: Duration) -> ApiResult<Duration> {
    let Some(text) = query.get("timeout").filter(|text| !text.is_empty()) else {
        return Ok(most);
    };
    let wanted = parse_duration(text).map_err(|error| {
        ApiError::bad_request(format!(
            "invalid timeout specified in the request URL - time: {error}"
        ))
    })?;
    Ok(if wanted.is_zero() {
        most
    } else {
        wanted.min(most)
    })
}

/// Go's `time.ParseDuration`; negative durations become zero.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration {}", quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = tail
            .find(|character: char| character.is_ascii_digit() || character == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "" => return Err(format!("missing unit in duration {}", quote(text))),
            unit => {
                return Err(format!(
                    "unknown unit {} in duration {}",
                    quote(unit),
                    quote(text)
                ));
            }
        };
        total += number * seconds;
        rest = tail;
    }
    let total = if negative { 0.0 } else { total };
    Duration::try_from_secs_f64(total).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_write_option_is_reported() {
        let query = Query::parse("dryRun=x&force=true&fieldValidation=y");
        let error = WriteOptions::parse(&query, WriteKind::Patch).expect_err("three bad options");
        assert_eq!(
            error.message(),
            "PatchOptions.meta.k8s.io \"\" is invalid: [force: Forbidden: may not be specified for \
             non-apply patch, dryRun: Unsupported value: [\"x\"]: supported values: \"All\", \
             fieldValidation: Unsupported value: \"y\": supported values: \"\", \"Ignore\", \
             \"Strict\", \"Warn\"]"
        );
    }

    #[test]
    fn a_body_hides_the_query_of_a_delete() {
        let query = Query::parse("dryRun=All&propagationPolicy=Foo");
        let options = DeleteOptions::parse(&query, Some(&json!({}))).expect("an empty body");
        assert!(!options.given.dry_run && options.propagation.is_none());
        assert!(DeleteOptions::parse(&query, None).is_err());
    }

    #[test]
    fn durations_are_those_of_go() {
        let check = |text: &str, expect: Result<u64, &str>| {
            let seen = parse_duration(text).map(|duration| duration.as_secs());
            assert_eq!(seen, expect.map_err(str::to_owned), "{text}");
        };
        check("1m30s", Ok(90));
        check("0", Ok(0));
        check("-5s", Ok(0));
        check("10", Err("missing unit in duration \"10\""));
        check("xx", Err("invalid duration \"xx\""));
        check("5d", Err("unknown unit \"d\" in duration \"5d\""));
    }

    #[test]
    fn the_manager_defaults_to_the_agent() {
        let options = WriteOptions::default();
        assert_eq!(options.manager("kubectl/v1.32 (linux)"), "kubectl");
        assert_eq!(options.manager(""), "unknown");
    }
}

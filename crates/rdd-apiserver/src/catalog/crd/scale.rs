//! What the scale subresource asks of a custom resource: counts that a Scale can hold.

use rdd_schema::{FieldError, FieldErrorKind};
use serde_json::Value;

use crate::catalog::ScalePaths;

const COUNT_MAX: i64 = i32::MAX as i64;

/// What is wrong with the wanted count.
pub(super) fn spec_errors(object: &Value, paths: &ScalePaths) -> Option<FieldError> {
    count_error(object, &paths.spec_replicas)
}

/// What is wrong with the count that there is, and with the selector.
pub(super) fn status_errors(object: &Value, paths: &ScalePaths) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = count_error(object, &paths.status_replicas)
        .into_iter()
        .collect();
    if let Some(path) = &paths.label_selector {
        let problem = match at(object, path) {
            Ok(None | Some(Value::String(_))) => None,
            Ok(Some(other)) => Some(accessor(path, other, "string")),
            Err(text) => Some(text),
        };
        errors.extend(problem.map(|text| error(path, "".into(), text)));
    }
    errors
}

fn count_error(object: &Value, path: &[String]) -> Option<FieldError> {
    let found = match at(object, path) {
        Ok(found) => found?,
        Err(text) => return Some(error(path, 0.into(), text)),
    };
    let Some(count) = found.as_i64() else {
        return Some(error(path, 0.into(), accessor(path, found, "int64")));
    };
    let text = match count {
        ..0 => "should be a non-negative integer".to_owned(),
        0..=COUNT_MAX => return None,
        _ => format!("should be less than or equal to {COUNT_MAX}"),
    };
    Some(error(path, count.into(), text))
}

fn error(path: &[String], value: Value, text: String) -> FieldError {
    let at = format!(".{}", path.join("."));
    FieldError::new(FieldErrorKind::Invalid, at, Some(value), text)
}

/// What is at a path: nothing where a part of it is absent.
///
/// # Errors
/// That something on the way has no fields, in the words of kube-apiserver.
fn at<'a>(object: &'a Value, path: &[String]) -> Result<Option<&'a Value>, String> {
    let mut at = object;
    for (index, name) in path.iter().enumerate() {
        at = match at {
            Value::Null => return Ok(None),
            Value::Object(fields) => match fields.get(name) {
                Some(value) => value,
                None => return Ok(None),
            },
            other => return Err(accessor(&path[..=index], other, "map[string]interface{}")),
        };
    }
    Ok(Some(at))
}

fn accessor(path: &[String], found: &Value, wanted: &str) -> String {
    format!(
        ".{} accessor error: {} is of the type {}, expected {wanted}",
        path.join("."),
        rdd_apply::go(found),
        rdd_apply::go_type(found)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_are_those_of_a_scale() {
        let path = |text: &str| -> Vec<String> { text.split('.').map(str::to_owned).collect() };
        let paths = ScalePaths {
            spec_replicas: path("spec.n"),
            status_replicas: path("status.n"),
            label_selector: Some(path("status.s")),
        };
        let check = |object: Value, expect: &[&str]| {
            let mut errors: Vec<FieldError> = spec_errors(&object, &paths).into_iter().collect();
            errors.extend(status_errors(&object, &paths));
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(texts, expect, "{object}");
        };
        check(json!({"spec": {"n": 3}, "status": {"s": "a=b"}}), &[]);
        check(json!({"spec": null}), &[]);
        check(
            json!({"spec": {"n": null}}),
            &[
                ".spec.n: Invalid value: 0: .spec.n accessor error: <nil> is of the type <nil>, expected int64",
            ],
        );
        check(
            json!({"spec": {"n": 5.0}}),
            &[
                ".spec.n: Invalid value: 0: .spec.n accessor error: 5 is of the type float64, \
                 expected int64",
            ],
        );
        check(
            json!({"spec": {"n": -1}, "status": {"n": 2_147_483_648_u32, "s": 1}}),
            &[
                ".spec.n: Invalid value: -1: should be a non-negative integer",
                ".status.n: Invalid value: 2147483648: should be less than or equal to 2147483647",
                ".status.s: Invalid value: \"\": .status.s accessor error: 1 is of the type int64, \
                 expected string",
            ],
        );
        check(
            json!({"spec": {"n": "x"}, "status": 5}),
            &[
                ".spec.n: Invalid value: 0: .spec.n accessor error: x is of the type string, \
                 expected int64",
                ".status.n: Invalid value: 0: .status.n accessor error: 5 is of the type int64, \
                 expected map[string]interface{}",
                ".status.s: Invalid value: \"\": .status.s accessor error: 5 is of the type int64, \
                 expected map[string]interface{}",
            ],
        );
    }
}

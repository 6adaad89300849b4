//! Judging a value by a schema, in the words of Kubernetes' validator.

use serde_json::{Number, Value};

use crate::field_error::{FieldError, FieldErrorKind};
use crate::format;
use crate::structural::{AdditionalProperties, Checks, ListType, Schema, Type};

/// Everything that is wrong with a value. `path` is where it lies: empty for a
/// whole object, `status` for that part of one.
#[must_use]
pub fn validate(value: &Value, schema: &Schema, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    node(value, schema, &mut path.to_owned(), &mut errors);
    lists(value, schema, &mut path.to_owned(), &mut errors);
    errors
}

/// As [`validate`] with an empty path, without looking for duplicates in lists.
pub(crate) fn validate_values(value: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    node(value, schema, &mut String::new(), &mut errors);
    errors
}

/// What is wrong with a changed value and was not before: errors inside parts that
/// did not change are tolerated, so that a stricter schema does not block unrelated
/// updates.
#[must_use]
pub fn validate_update(new: &Value, old: &Value, schema: &Schema, path: &str) -> Vec<FieldError> {
    if new == old {
        return Vec::new();
    }
    let errors = validate(new, schema, path);
    if errors.is_empty() {
        return errors;
    }
    errors
        .into_iter()
        .filter(|error| !unchanged(error, new, old, schema, path))
        .collect()
}

/// Whether the value that an error is about is the same as before.
fn unchanged(error: &FieldError, new: &Value, old: &Value, schema: &Schema, base: &str) -> bool {
    let Some(rest) = error.field().strip_prefix(base) else {
        return false;
    };
    let (mut new, mut old, mut schema) = (new, old, Some(schema));
    for step in steps(rest.trim_start_matches('.')) {
        let (next_new, next_old) = match step {
            Step::Field(name) => {
                // A field that is required and missing belongs to its parent.
                let Some(value) = new.get(name) else {
                    return false;
                };
                schema = schema.and_then(|schema| schema.field(name));
                (value, old.get(name))
            }
            Step::Index(index) => {
                let Some(value) = new.get(index) else {
                    return false;
                };
                let list = schema;
                schema = list.and_then(|schema| schema.items.as_deref());
                (value, list.and_then(|list| correlate(list, value, old)))
            }
        };
        let Some(next_old) = next_old else {
            return false;
        };
        if next_new == next_old {
            return true;
        }
        (new, old) = (next_new, next_old);
    }
    false
}

/// The old item that a list item continues; only map lists know.
fn correlate<'a>(list: &Schema, item: &Value, old: &'a Value) -> Option<&'a Value> {
    if list.list_type != Some(ListType::Map) {
        return None;
    }
    old.as_array()?.iter().find(|candidate| {
        list.list_map_keys
            .iter()
            .all(|key| candidate.get(key) == item.get(key))
    })
}

enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split('.')
        .filter(|part| !part.is_empty())
        .flat_map(|part| {
            let (name, indexes) = part.split_once('[').unwrap_or((part, ""));
            let field = (!name.is_empty()).then_some(Step::Field(name));
            let indexes = indexes
                .split('[')
                .filter_map(|text| text.trim_end_matches(']').parse().ok().map(Step::Index));
            field.into_iter().chain(indexes)
        })
}

/// The name of a JSON value's type.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if is_integer(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The largest integer below which JSON numbers are exact.
const EXACT_MAX: f64 = 9_007_199_254_740_991.0;

/// What Kubernetes takes for an integer: what fits 64 bits, or a float without fraction
/// that JSON can still tell from its neighbours.
fn is_integer(number: &Number) -> bool {
    number.is_i64()
        || number
            .as_f64()
            .is_some_and(|float| float.fract() == 0.0 && float.abs() <= EXACT_MAX)
}

fn wrong_type(value: &Value, expected: &str, path: &str) -> FieldError {
    let found = type_name(value);
    FieldError::type_invalid(
        path,
        found,
        format!("{path} in body must be of type {expected}: {found:?}"),
    )
}

fn node(value: &Value, schema: &Schema, path: &mut String, errors: &mut Vec<FieldError>) {
    if value.is_null()
        && schema.nullable
        && schema
            .checks
            .as_ref()
            .is_none_or(|checks| checks.words.is_empty())
    {
        return;
    }
    let fits = match (schema.r#type, value) {
        _ if schema.int_or_string => {
            matches!(value, Value::String(_))
                || matches!(value, Value::Number(number) if is_integer(number))
        }
        (None, _)
        | (Some(Type::Object), Value::Object(_))
        | (Some(Type::Array), Value::Array(_))
        | (Some(Type::String), Value::String(_))
        | (Some(Type::Boolean), Value::Bool(_))
        | (Some(Type::Number), Value::Number(_)) => true,
        (Some(Type::Integer), Value::Number(number)) => is_integer(number),
        _ => value.is_null() && schema.nullable,
    };
    if let (false, Some(Type::Integer), Value::Number(number)) = (fits, schema.r#type, value) {
        // Named by its format where there is one, and judged by its range as well.
        let format = schema
            .checks
            .as_ref()
            .and_then(|checks| checks.format.as_deref());
        let (expected, found) = format.map_or(("integer", "number"), |format| (format, "float64"));
        errors.push(FieldError::type_invalid(
            path.as_str(),
            found,
            format!("{path} in body must be of type {expected}: {found:?}"),
        ));
        if let Some(checks) = &schema.checks {
            enumeration(value, checks, path, errors);
        }
        if let Some(text) = format::number(number, schema.r#type, format) {
            errors.push(nowhere(format!("{text} in {path}")));
        }
        return;
    }
    if !fits {
        let expected = if schema.int_or_string {
            "integer,string"
        } else {
            schema.r#type.map_or("", Type::as_str)
        };
        errors.push(wrong_type(value, expected, path));
        if let Some(checks) = &schema.checks {
            enumeration(value, checks, path, errors);
        }
        return;
    }
    if let Some(checks) = &schema.checks {
        self::checks(value, schema, checks, path, errors);
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(child) = schema.field(name) {
                    if value.is_null() && child.r#type.is_none() && !child.int_or_string {
                        continue;
                    }
                    within(path, &format!(".{name}"), |path| {
                        node(value, child, path, errors)
                    });
                } else if matches!(
                    schema.additional_properties,
                    Some(AdditionalProperties::None)
                ) {
                    let place = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    errors.push(FieldError::forbidden(place, "unknown field"));
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = &schema.items {
                for (index, value) in items.iter().enumerate() {
                    within(path, &format!("[{index}]"), |path| {
                        node(value, item, path, errors)
                    });
                }
            }
        }
        _ => {}
    }
}

/// Runs something one step further down.
fn within(path: &mut String, step: &str, work: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(if path.is_empty() {
        step.trim_start_matches('.')
    } else {
        step
    });
    work(path);
    path.truncate(length);
}

fn checks(
    value: &Value,
    schema: &Schema,
    checks: &Checks,
    path: &mut String,
    errors: &mut Vec<FieldError>,
) {
    junctors(value, checks, path, errors);
    enumeration(value, checks, path, errors);
    match value {
        Value::Number(number) => self::number(number, schema, checks, path, errors),
        Value::String(text) => string(text, checks, path, errors),
        Value::Array(items) => {
            let have = items.len() as u64;
            if let Some(max) = checks.max_items.filter(|max| have > *max) {
                errors.push(too_many(path, have, max));
            }
            if let Some(min) = checks.min_items.filter(|min| have < *min) {
                errors.push(FieldError::invalid(
                    path.clone(),
                    have,
                    format!("{path} in body should have at least {min} items"),
                ));
            }
        }
        Value::Object(fields) => {
            let have = fields.len() as u64;
            if let Some(max) = checks.max_properties.filter(|max| have > *max) {
                errors.push(too_many(path, have, max));
            }
            if let Some(min) = checks.min_properties.filter(|min| have < *min) {
                errors.push(FieldError::invalid(
                    path.clone(),
                    have,
                    format!("{path} in body should have at least {min} properties"),
                ));
            }
            for name in &checks.required {
                if !fields.contains_key(name) {
                    within(path, &format!(".{name}"), |path| {
                        errors.push(FieldError::required(path.clone(), ""))
                    });
                }
            }
        }
        _ => {}
    }
}

fn too_many(path: &str, have: u64, max: u64) -> FieldError {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    FieldError::too_many(path, count(have), count(max))
}

/// Errors of combined schemas have no place of their own.
fn nowhere(detail: String) -> FieldError {
    FieldError::invalid("<nil>", "", detail)
}

fn junctors(value: &Value, checks: &Checks, path: &mut String, errors: &mut Vec<FieldError>) {
    let judge = |schema: &Schema, path: &mut String| {
        let mut errors = Vec::new();
        node(value, schema, path, &mut errors);
        errors
    };
    if !checks.any_of.is_empty() {
        let mut best: Option<Vec<FieldError>> = None;
        let mut valid = false;
        for schema in &checks.any_of {
            let found = judge(schema, path);
            if found.is_empty() {
                valid = true;
                break;
            }
            best.get_or_insert(found);
        }
        if !valid {
            errors.push(nowhere(format!(
                "{path:?} must validate at least one schema (anyOf)"
            )));
            errors.extend(best.into_iter().flatten());
        }
    }
    if !checks.one_of.is_empty() {
        let mut first: Option<Vec<FieldError>> = None;
        let mut valid = 0;
        for schema in &checks.one_of {
            let found = judge(schema, path);
            if found.is_empty() {
                valid += 1;
            } else {
                first.get_or_insert(found);
            }
        }
        match valid {
            1 => {}
            0 => {
                errors.push(nowhere(format!("{path:?} must validate one and only one schema (oneOf). Found none valid")));
                errors.extend(first.into_iter().flatten());
            }
            many => errors.push(nowhere(format!("{path:?} must validate one and only one schema (oneOf). Found {many} valid alternatives"))),
        }
    }
    if !checks.all_of.is_empty() {
        let found: Vec<Vec<FieldError>> = checks
            .all_of
            .iter()
            .map(|schema| judge(schema, path))
            .collect();
        if found.iter().any(|errors| !errors.is_empty()) {
            errors.extend(found.into_iter().flatten());
            errors.push(nowhere(format!(
                "{path:?} must validate all the schemas (allOf)"
            )));
        }
    }
    if let Some(not) = &checks.not
        && judge(not, path).is_empty()
    {
        errors.push(nowhere(format!(
            "{path:?} must not validate the schema (not)"
        )));
    }
}

fn enumeration(value: &Value, checks: &Checks, path: &str, errors: &mut Vec<FieldError>) {
    // Null is never one of the words, not even where it is listed.
    if checks.words.is_empty() || (!value.is_null() && checks.words.contains(value)) {
        return;
    }
    let words: Vec<String> = checks
        .words
        .iter()
        .map(|word| {
            word.as_str()
                .map_or_else(|| word.to_string(), str::to_owned)
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    errors.push(FieldError::not_supported(path, value.clone(), &words));
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

fn number(
    number: &Number,
    schema: &Schema,
    checks: &Checks,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    if let Some(text) = format::number(number, schema.r#type, checks.format.as_deref()) {
        errors.push(nowhere(format!("{text} in {path}")));
        return;
    }
    let value = Value::Number(number.clone());
    let mut refuse = |detail: String| {
        errors.push(FieldError::invalid(
            path,
            value.clone(),
            format!("{path} in body should be {detail}"),
        ));
    };
    if let Some(factor) = &checks.multiple_of {
        let quotient = float(number) / float(factor);
        if (quotient - quotient.round()).abs() > 1e-9 {
            refuse(format!("a multiple of {factor}"));
        }
    }
    if let Some((bound, exclusive)) = &checks.maximum {
        let (is, limit) = (float(number), float(bound));
        if is > limit || (*exclusive && is >= limit) {
            refuse(if *exclusive {
                format!("less than {bound}")
            } else {
                format!("less than or equal to {bound}")
            });
        }
    }
    if let Some((bound, exclusive)) = &checks.minimum {
        let (is, limit) = (float(number), float(bound));
        if is < limit || (*exclusive && is <= limit) {
            refuse(if *exclusive {
                format!("greater than {bound}")
            } else {
                format!("greater than or equal to {bound}")
            });
        }
    }
}

fn string(text: &str, checks: &Checks, path: &str, errors: &mut Vec<FieldError>) {
    // Of length and pattern, Kubernetes names the first that is wrong.
    let length = text.chars().count() as u64;
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        errors.push(FieldError::too_long(path, max));
    } else if let Some(min) = checks.min_length.filter(|min| length < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        errors.push(FieldError::invalid(path, text, detail));
    } else if let Some(pattern) = checks
        .pattern
        .as_ref()
        .filter(|pattern| !pattern.regex.is_match(text))
    {
        let detail = format!("{path} in body should match '{}'", pattern.text);
        errors.push(FieldError::invalid(path, text, detail));
    }
    if let Some(name) = &checks.format
        && !format::fits(name, text)
    {
        errors.push(FieldError::type_invalid(
            path,
            text,
            format!("{path} in body must be of type {name}: {text:?}"),
        ));
    }
}

/// Duplicates in set and map lists.
fn lists(value: &Value, schema: &Schema, path: &mut String, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(child) = schema.field(name) {
                    within(path, &format!(".{name}"), |path| {
                        lists(value, child, path, errors)
                    });
                }
            }
        }
        Value::Array(items) => {
            duplicates(items, schema, path, errors);
            if let Some(item) = &schema.items {
                for (index, value) in items.iter().enumerate() {
                    within(path, &format!("[{index}]"), |path| {
                        lists(value, item, path, errors)
                    });
                }
            }
        }
        _ => {}
    }
}

/// What makes two items of a list the same; items without it are never doubles.
type Identity<'a> = Box<dyn Fn(&Value) -> Option<Value> + 'a>;

fn duplicates(items: &[Value], schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let identity: Identity<'_> = match schema.list_type {
        Some(ListType::Set) => Box::new(|item| Some(item.clone())),
        Some(ListType::Map) => Box::new(|item| {
            let fields = item.as_object()?;
            let keys = schema.list_map_keys.iter();
            Some(
                keys.filter_map(|key| Some((key.clone(), fields.get(key)?.clone())))
                    .collect(),
            )
        }),
        _ => return,
    };
    let mut seen = std::collections::HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let Some(identity) = identity(item) else {
            continue;
        };
        // Each duplicated value is named once, at its second place.
        let count = seen.entry(identity.to_string()).or_insert(0_u32);
        *count += 1;
        if *count == 2 {
            errors.push(FieldError::duplicate(format!("{path}[{index}]"), identity));
        }
    }
}

/// Whether rules beyond the schema cannot be judged because the value is broken.
#[must_use]
pub fn blocks_rules(errors: &[FieldError]) -> bool {
    errors.iter().any(|error| {
        matches!(
            error.kind(),
            FieldErrorKind::NotSupported
                | FieldErrorKind::Required
                | FieldErrorKind::TooLong
                | FieldErrorKind::TooMany
                | FieldErrorKind::TypeInvalid
        )
    })
}

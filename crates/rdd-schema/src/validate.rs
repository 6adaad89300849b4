//! Judging a value by a schema, in the words of Kubernetes' validator.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use crate::correlate::{KeyedItems, is_same};
use crate::field_error::{FieldError, FieldErrorKind};
use crate::format;
use crate::go_number::{go_integer, go_number};
use crate::structural::{AdditionalProperties, Checks, ListType, Schema, Type};

/// Everything that is wrong with a value, but for doubles in lists ([`duplicates`]).
#[must_use]
pub fn validate(value: &Value, schema: &Schema) -> Vec<FieldError> {
    judge(value, schema, None, "").errors
}

/// What is wrong with a changed value and was not before: errors inside parts that
/// did not change are tolerated, so that a stricter schema does not block unrelated
/// updates.
#[must_use]
pub fn validate_update(new: &Value, old: &Value, schema: &Schema) -> Vec<FieldError> {
    judge(new, schema, Some(old), "").errors
}

/// As [`validate`], for a default: Kubernetes does not know the types of int-or-string there.
pub(crate) fn validate_default(value: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = validate(value, schema);
    if schema.int_or_string {
        errors.retain(|error| error.kind() != FieldErrorKind::TypeInvalid);
    }
    errors
}

/// What a schema makes of a value.
#[derive(Default)]
struct Verdict {
    errors: Vec<FieldError>,
    /// How many checks were made and passed: of several failed alternatives, the one with
    /// the most is told.
    passed: usize,
}

impl Verdict {
    /// Adds an error, unless the same was told already.
    fn refuse(&mut self, error: FieldError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        for error in other.errors {
            self.refuse(error);
        }
    }
}

/// The field at a path: `spec.a`, and no field at all for the root.
fn field_at(path: &str) -> &str {
    match path {
        "" | "." => NOWHERE,
        _ => path.strip_prefix('.').unwrap_or(path),
    }
}

/// Judges a value by its own schema. Where `old` is the same, nothing is wrong.
fn node(value: &Value, schema: &Schema, old: Option<&Value>, path: &str) -> Verdict {
    if old.is_some_and(|old| is_same(value, old, schema)) {
        return Verdict::default();
    }
    judge(value, schema, old, path)
}

/// As [`node`]; an unchanged value is judged all the same, but not the parts of it.
fn judge(value: &Value, schema: &Schema, old: Option<&Value>, path: &str) -> Verdict {
    let mut verdict = Verdict::default();
    let none = Checks::default();
    let checks = schema.checks.as_deref().unwrap_or(&none);
    let kinds = kinds_of(schema);
    if value.is_null() {
        if !kinds.is_empty() && !schema.nullable {
            verdict.refuse(wrong_type(path, &kinds.join(","), "null"));
        } else {
            verdict.passed += 1;
        }
        enumeration(value, checks, path, &mut verdict);
        return verdict;
    }
    let kind = match kinds.as_slice() {
        [kind] => kind,
        _ => "",
    };
    let format = checks
        .format
        .as_deref()
        .filter(|name| format::belongs(name, kind));
    if !kinds.is_empty() || format.is_some() {
        match type_problem(value, &kinds, format, path) {
            Some(error) => verdict.refuse(error),
            None => verdict.passed += 1,
        }
        verdict.passed += 1;
    }
    verdict.add(junctors(value, checks, old, path));
    match value {
        Value::String(text) => {
            string(text, checks, path, &mut verdict);
            verdict.passed += 1;
            if let Some(name) = format.filter(|name| format::is_text(name)) {
                if !format::fits(name, text) {
                    verdict.refuse(FieldError::type_invalid(
                        field_at(path),
                        text.as_str(),
                        format!("{path} in body must be of type {name}: {}", quoted(text)),
                    ));
                }
                verdict.passed += 1;
            }
        }
        Value::Number(number) => {
            self::number(number, &kinds, format, checks, path, &mut verdict);
            verdict.passed += 2;
        }
        Value::Array(items) => {
            array(items, schema, checks, old, path, &mut verdict);
            verdict.passed += 2;
        }
        _ => {}
    }
    enumeration(value, checks, path, &mut verdict);
    verdict.passed += 1;
    if let Value::Object(fields) = value {
        object(fields, schema, checks, old, path, &mut verdict);
        verdict.passed += 1;
    }
    verdict.passed += 1;
    verdict
}

/// The names of the types that a schema allows.
fn kinds_of(schema: &Schema) -> Vec<&'static str> {
    if schema.int_or_string {
        return vec!["integer", "string"];
    }
    schema.r#type.map(Type::as_str).into_iter().collect()
}

/// Where errors of combined schemas, and of the whole object, are.
const NOWHERE: &str = "<nil>";

fn nowhere(detail: String) -> FieldError {
    FieldError::invalid(NOWHERE, "", detail)
}

/// The name of a JSON value's type, and the format that it has by nature.
fn nature(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

fn wrong_type(path: &str, expected: &str, found: &str) -> FieldError {
    FieldError::type_invalid(
        field_at(path),
        found,
        format!("{path} in body must be of type {expected}: {found:?}"),
    )
}

/// Why a value is not of the type, if it is not.
fn type_problem(
    value: &Value,
    kinds: &[&str],
    format: Option<&str>,
    path: &str,
) -> Option<FieldError> {
    let (kind, natural) = nature(value);
    let numeric = kinds.contains(&"number") || kinds.contains(&"integer");
    let fits = kinds.contains(&kind)
        || (kind == "integer" && kinds.contains(&"number"))
        || (kinds.contains(&"integer")
            && matches!(value, Value::Number(number) if is_integer(float(number))));
    let textual = matches!(value, Value::String(_) | Value::Array(_));
    match format {
        Some(format) if !textual && !fits && natural != format => {
            Some(wrong_type(path, format, natural))
        }
        Some(_) if textual && !numeric => None,
        _ if fits => None,
        _ => Some(wrong_type(path, &kinds.join(","), kind)),
    }
}

fn junctors(value: &Value, checks: &Checks, old: Option<&Value>, path: &str) -> Verdict {
    let mut verdict = Verdict::default();
    let judged = |schema: &Schema| judge(value, schema, old, path);
    if !checks.any_of.is_empty() {
        let mut told: Option<Verdict> = None;
        for schema in &checks.any_of {
            let found = judged(schema);
            let valid = found.errors.is_empty();
            if valid || told.as_ref().is_none_or(|best| found.passed > best.passed) {
                told = Some(found);
            }
            if valid {
                break;
            }
        }
        let told = told.unwrap_or_default();
        if !told.errors.is_empty() {
            verdict.refuse(nowhere(format!(
                "{path:?} must validate at least one schema (anyOf)"
            )));
        }
        verdict.add(told);
    }
    if !checks.one_of.is_empty() {
        let mut valid = 0;
        let mut first = Verdict::default();
        let mut best: Option<Verdict> = None;
        for schema in &checks.one_of {
            let found = judged(schema);
            if found.errors.is_empty() {
                if valid == 0 {
                    first = found;
                }
                valid += 1;
            } else if valid == 0 && best.as_ref().is_none_or(|best| found.passed > best.passed) {
                best = Some(found);
            }
        }
        let problem = match valid {
            0 => Some("Found none valid".to_owned()),
            1 => None,
            many => Some(format!("Found {many} valid alternatives")),
        };
        match problem {
            Some(problem) => {
                verdict.refuse(nowhere(format!(
                    "{path:?} must validate one and only one schema (oneOf). {problem}"
                )));
                if valid == 0 {
                    verdict.add(best.unwrap_or_default());
                }
            }
            None => verdict.add(first),
        }
    }
    if !checks.all_of.is_empty() {
        let mut valid = 0;
        for schema in &checks.all_of {
            let found = judged(schema);
            valid += usize::from(found.errors.is_empty());
            verdict.add(found);
        }
        if valid < checks.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            verdict.refuse(nowhere(format!(
                "{path:?} must validate all the schemas (allOf){none}"
            )));
        }
    }
    if let Some(not) = &checks.not
        && judged(not).errors.is_empty()
    {
        verdict.refuse(nowhere(format!(
            "{path:?} must not validate the schema (not)"
        )));
    }
    verdict.passed += 2;
    verdict
}

fn enumeration(value: &Value, checks: &Checks, path: &str, verdict: &mut Verdict) {
    // Null is never one of the words, not even where it is listed.
    let is = |word: &Value| match (word, value) {
        (_, Value::Null) => false,
        (Value::Number(word), Value::Number(number)) => {
            if word.is_i64() {
                word.as_i64() == Some(as_integer(number))
            } else {
                float(word) == float(number)
            }
        }
        _ => word == value,
    };
    if checks.words.is_empty() || checks.words.iter().any(is) {
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
    verdict.refuse(FieldError::not_supported(
        field_at(path),
        value.clone(),
        &words,
    ));
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

/// The largest integer below which JSON numbers are exact.
const EXACT_MAX: f64 = 9_007_199_254_740_991.0;

/// Whether a float is a whole number, or so near to one that the difference is rounding.
fn is_integer(float: f64) -> bool {
    if !float.is_finite() || float.abs() > EXACT_MAX {
        return false;
    }
    let whole = float.trunc();
    let off = (float - whole).abs();
    // Go turns a negative float into an unsigned one for this, which is off by far.
    off == 0.0 || (whole > 0.0 && off / (float.abs() + whole.abs()) < 1e-9)
}

fn as_integer(number: &Number) -> i64 {
    number.as_i64().unwrap_or_else(|| go_integer(float(number)))
}

fn number(
    number: &Number,
    kinds: &[&str],
    format: Option<&str>,
    checks: &Checks,
    path: &str,
    verdict: &mut Verdict,
) {
    let kind = match kinds {
        [kind] => kind,
        _ => "",
    };
    let range = |value: &Number, what: &str| format::range(value, kind, format, what);
    if let Some(text) = range(number, "Checked value") {
        verdict.refuse(nowhere(format!("{text} in {path}")));
    }
    let whole = number.is_i64();
    let value = Value::Number(number.clone());
    let should = |detail: String| {
        let detail = format!("{path} in body should be {detail}");
        FieldError::invalid(field_at(path), value.clone(), detail)
    };
    if let Some(factor) = &checks.multiple_of {
        let problem = range(factor, "MultipleOf value");
        // A factor that is no integer is cut to one for integers.
        let cut = as_integer(factor);
        let by_integer = problem.is_none() && whole;
        if let Some(text) = problem {
            verdict.refuse(nowhere(format!("{text} in {path}")));
        }
        let (positive, shown) = if by_integer {
            (cut > 0, Value::from(cut))
        } else {
            (float(factor) > 0.0, Value::Number(factor.clone()))
        };
        if !positive {
            verdict.refuse(FieldError::invalid(
                field_at(path),
                shown.clone(),
                format!("factor MultipleOf declared for {path} must be positive: {shown}"),
            ));
        } else {
            let fits = if by_integer {
                as_integer(number) % cut == 0
            } else {
                let factor = float(factor);
                let quotient = if factor < 1.0 {
                    1.0 / factor * float(number)
                } else {
                    float(number) / factor
                };
                is_integer(quotient)
            };
            if !fits {
                verdict.refuse(should(format!("a multiple of {}", go_number(&shown))));
            }
        }
    }
    for (bound, name, words, below) in [
        (
            &checks.minimum,
            "Minimum boundary value",
            "greater than",
            true,
        ),
        (
            &checks.maximum,
            "Maximum boundary value",
            "less than",
            false,
        ),
    ] {
        let Some((bound, exclusive)) = bound else {
            continue;
        };
        let problem = range(bound, name);
        let by_integer = problem.is_none() && whole;
        if let Some(text) = problem {
            verdict.refuse(nowhere(format!("{text} in {path}")));
        }
        let (order, shown) = if by_integer {
            let cut = as_integer(bound);
            (Some(as_integer(number).cmp(&cut)), Value::from(cut))
        } else {
            let order = float(number).partial_cmp(&float(bound));
            (order, Value::Number(bound.clone()))
        };
        let beyond = if below {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        if order == Some(beyond) || (*exclusive && order == Some(Ordering::Equal)) {
            let equal = if *exclusive { "" } else { " or equal to" };
            verdict.refuse(should(format!("{words}{equal} {}", go_number(&shown))));
        }
    }
}

/// Text in Go's `%q`.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    crate::field_error::quote(text, &mut quoted);
    quoted
}

fn string(text: &str, checks: &Checks, path: &str, verdict: &mut Verdict) {
    // Of length and pattern, Kubernetes names the first that is wrong.
    let length = text.chars().count() as u64;
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        verdict.refuse(FieldError::too_long(field_at(path), max));
    } else if let Some(min) = checks.min_length.filter(|min| length < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        verdict.refuse(FieldError::invalid(field_at(path), text, detail));
    } else if let Some(pattern) = checks
        .pattern
        .as_ref()
        .filter(|pattern| !pattern.regex.is_match(text))
    {
        let detail = format!("{path} in body should match '{}'", pattern.text);
        verdict.refuse(FieldError::invalid(field_at(path), text, detail));
    }
}

fn array(
    items: &[Value],
    schema: &Schema,
    checks: &Checks,
    old: Option<&Value>,
    path: &str,
    verdict: &mut Verdict,
) {
    if let Some(item) = &schema.items {
        let old = old
            .and_then(Value::as_array)
            .and_then(|old| KeyedItems::of(old, schema));
        for (index, value) in items.iter().enumerate() {
            let old = old.as_ref().and_then(|old| old.get(value));
            verdict.add(node(value, item, old, &format!("{path}[{index}]")));
        }
    }
    let have = items.len() as u64;
    if let Some(min) = checks.min_items.filter(|min| have < *min) {
        verdict.refuse(FieldError::invalid(
            field_at(path),
            have,
            format!("{path} in body should have at least {min} items"),
        ));
    }
    if let Some(max) = checks.max_items.filter(|max| have > *max) {
        verdict.refuse(too_many(path, have, max));
    }
}

fn object(
    fields: &Map<String, Value>,
    schema: &Schema,
    checks: &Checks,
    old: Option<&Value>,
    path: &str,
    verdict: &mut Verdict,
) {
    let have = fields.len() as u64;
    if let Some(min) = checks.min_properties.filter(|min| have < *min) {
        verdict.refuse(FieldError::invalid(
            field_at(path),
            have,
            format!("{path} in body should have at least {min} properties"),
        ));
    }
    if let Some(max) = checks.max_properties.filter(|max| have > *max) {
        verdict.refuse(too_many(path, have, max));
    }
    let old_of = |name: &str| {
        // What the root says it is, is judged always.
        let is_type = path.is_empty() && matches!(name, "apiVersion" | "kind");
        old.filter(|_| !is_type).and_then(|old| old.get(name))
    };
    let free = fields
        .iter()
        .filter(|(name, _)| !schema.properties.contains_key(*name));
    for (name, value) in free {
        match &schema.additional_properties {
            Some(AdditionalProperties::Schema(child)) => {
                let below = format!("{path}.{name}");
                verdict.add(node(value, child, old_of(name), &below));
            }
            Some(AdditionalProperties::None) => verdict.refuse(FieldError::invalid(
                field_at(path),
                name.as_str(),
                format!("{path}.{name} in body is a forbidden property"),
            )),
            _ => {}
        }
    }
    for (name, child) in &schema.properties {
        if let Some(value) = fields.get(name) {
            let below = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            verdict.add(node(value, child, old_of(name), &below));
        }
    }
    for name in &checks.required {
        if !fields.contains_key(name) {
            let below = format!("{path}.{name}");
            verdict.refuse(FieldError::required(field_at(&below), ""));
        }
    }
}

fn too_many(path: &str, have: u64, max: u64) -> FieldError {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    FieldError::too_many(field_at(path), count(have), count(max))
}

/// Doubles in set and map lists.
#[must_use]
pub fn duplicates(value: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    lists(value, schema, &mut String::new(), &mut errors);
    errors
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

fn lists(value: &Value, schema: &Schema, path: &mut String, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let (child, step) = match schema.properties.get(name) {
                    Some(child) => (child, format!(".{name}")),
                    None => match schema.field(name) {
                        Some(child) => (child, format!("[{name}]")),
                        None => continue,
                    },
                };
                within(path, &step, |path| lists(value, child, path, errors));
            }
        }
        Value::Array(items) => {
            doubles(items, schema, path, errors);
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

/// What makes an item of a list the same as another.
type Identity<'a> = Box<dyn Fn(&Value) -> Value + 'a>;

fn doubles(items: &[Value], schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let identity: Identity<'_> = match schema.list_type {
        Some(ListType::Set) => Box::new(Value::clone),
        Some(ListType::Map) => Box::new(|item| {
            let keys = schema.list_map_keys.iter();
            keys.filter_map(|key| Some((key.clone(), item.get(key)?.clone())))
                .collect()
        }),
        _ => return,
    };
    if schema.list_type == Some(ListType::Map)
        && let Some((index, item)) = items
            .iter()
            .enumerate()
            .find(|(_, item)| !item.is_object() && !item.is_null())
    {
        errors.push(FieldError::invalid(
            format!("{path}[{index}]"),
            item.clone(),
            "must be an object for an array of list-type map",
        ));
        return;
    }
    let mut seen = std::collections::HashMap::new();
    for (index, item) in items.iter().enumerate() {
        // Each duplicated value is named once, at its second place.
        let identity = identity(item);
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

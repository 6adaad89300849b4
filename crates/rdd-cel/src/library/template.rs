//! `format`: templates with clauses like `%d`, and what they print.

use crate::{
    budget::{Budget, Error, Result, size, traversal},
    library::{standard::shown, strings::quote, time},
    types::Type,
    value::{List, Value},
};

/// The most digits after the point that are printed.
const PRECISION_MAX: usize = 1000;

const PRECISION: usize = 6;

/// A part of a template.
pub(crate) enum Piece<'t> {
    /// Printed as it is.
    Text(&'t str),
    /// An argument.
    Clause(Clause),
    /// A percent sign with nothing after it.
    End,
}

/// How an argument is printed.
#[derive(Clone, Copy)]
pub(crate) struct Clause {
    /// One of `s`, `d`, `f`, `e`, `b`, `x`, `X` and `o`.
    pub(crate) kind: char,
    precision: usize,
}

/// The parts of a template, until the first that cannot be read.
pub(crate) struct Pieces<'t> {
    rest: &'t str,
}

impl<'t> Pieces<'t> {
    pub(crate) fn new(template: &'t str) -> Self {
        Self { rest: template }
    }

    fn clause(&mut self) -> std::result::Result<Clause, String> {
        let failed = |why: &str| format!("could not parse formatting clause: {why}");
        let mut precision = PRECISION;
        if let Some(after) = self.rest.strip_prefix('.') {
            let wrong = |why: &str| failed(&format!("error while parsing precision: {why}"));
            let end = after
                .find(|one: char| !one.is_ascii_digit())
                .ok_or_else(|| wrong("could not find end of precision specifier"))?;
            let digits = &after[..end];
            precision = digits
                .parse()
                .ok()
                .filter(|precision| *precision <= PRECISION_MAX)
                .ok_or_else(|| {
                    let why = if digits.is_empty() {
                        "invalid syntax"
                    } else {
                        "value out of range"
                    };
                    wrong(&format!(
                        "error while converting precision to integer: strconv.Atoi: parsing \
                         {digits:?}: {why}"
                    ))
                })?;
            self.rest = &after[end..];
        }
        let kind = self.rest.chars().next().unwrap_or_default();
        if !matches!(kind, 's' | 'd' | 'f' | 'e' | 'b' | 'x' | 'X' | 'o') {
            // Only its first byte is looked at.
            let shown = char::from(self.rest.as_bytes().first().copied().unwrap_or_default());
            return Err(failed(&format!(
                "unrecognized formatting clause \"{shown}\""
            )));
        }
        self.rest = &self.rest[1..];
        Ok(Clause { kind, precision })
    }
}

impl<'t> Iterator for Pieces<'t> {
    type Item = std::result::Result<Piece<'t>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(at) = self.rest.find('%') else {
            return Some(Ok(Piece::Text(std::mem::take(&mut self.rest))));
        };
        if at > 0 {
            let (text, rest) = self.rest.split_at(at);
            self.rest = rest;
            return Some(Ok(Piece::Text(text)));
        }
        if self.rest.starts_with("%%") {
            let percent = &self.rest[..1];
            self.rest = &self.rest[2..];
            return Some(Ok(Piece::Text(percent)));
        }
        self.rest = &self.rest[1..];
        if self.rest.is_empty() {
            return Some(Ok(Piece::End));
        }
        Some(self.clause().map(Piece::Clause).inspect_err(|_| {
            self.rest = "";
        }))
    }
}

/// Whether a clause other than `%s` prints values of a type.
pub(crate) fn takes(kind: char, r#type: &Type) -> bool {
    match (kind, r#type) {
        (_, Type::Dyn) => true,
        ('d' | 'o' | 'b' | 'x' | 'X', Type::Int | Type::Uint)
        | ('b', Type::Bool)
        | ('x' | 'X', Type::String | Type::Bytes)
        // Texts, as there is no other way to write what is not a number.
        | ('f' | 'e', Type::Double | Type::String) => true,
        _ => false,
    }
}

/// What is said about an argument of the wrong type.
pub(crate) fn refusal(kind: char, type_name: &str) -> String {
    let takes = match kind {
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'o' => "octal clause can only be used on integers",
        'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
        _ => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, \
             types, durations, and timestamps"
        }
    };
    format!("error during formatting: {takes}, was given {type_name}")
}

/// Prints a template with its arguments.
pub(crate) fn format<'a>(
    template: &str,
    args: &List<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>> {
    let mut printed = String::new();
    let mut next = 0;
    for piece in Pieces::new(template) {
        let clause = match piece {
            Ok(Piece::Text(text)) => {
                printed.push_str(text);
                continue;
            }
            Ok(Piece::Clause(clause)) => Ok(clause),
            Ok(Piece::End) => Err("unexpected end of string".to_owned()),
            Err(text) => Err(text),
        };
        let Some(value) = args.get(next) else {
            return Err(Error::new(format!("index {next} out of range")));
        };
        next += 1;
        let from = printed.len();
        print(clause.map_err(Error::new)?, &value, &mut printed, budget)?;
        budget.spend(traversal(size(printed.len() - from)))?;
    }
    Ok(printed.into())
}

fn print(
    clause: Clause,
    value: &Value<'_>,
    printed: &mut String,
    budget: &mut Budget,
) -> Result<()> {
    let wrong = || Error::new(refusal(clause.kind, value.type_name()));
    let precision = clause.precision;
    let text = match (clause.kind, value) {
        ('s', value) => return plain(value, printed, budget),
        ('d', Value::Int(_) | Value::Uint(_)) => shown(value),
        ('f', value) => fixed(number(value).ok_or_else(wrong)?, precision),
        ('e', value) => scientific(number(value).ok_or_else(wrong)?),
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('b', Value::Int(number)) => signed(*number, |number| format!("{number:b}")),
        ('b', Value::Uint(number)) => format!("{number:b}"),
        ('o', Value::Int(number)) => signed(*number, |number| format!("{number:o}")),
        ('o', Value::Uint(number)) => format!("{number:o}"),
        ('x', Value::Int(number)) => signed(*number, |number| format!("{number:x}")),
        ('X', Value::Int(number)) => signed(*number, |number| format!("{number:X}")),
        ('x', Value::Uint(number)) => format!("{number:x}"),
        ('X', Value::Uint(number)) => format!("{number:X}"),
        ('x' | 'X', Value::String(_) | Value::Bytes(_)) => {
            let bytes: &[u8] = match value {
                Value::String(text) => text.as_str().as_bytes(),
                Value::Bytes(bytes) => bytes,
                _ => return Err(wrong()),
            };
            budget.spend(traversal(size(bytes.len())))?;
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            if clause.kind == 'X' {
                digits.to_uppercase()
            } else {
                digits
            }
        }
        _ => return Err(wrong()),
    };
    printed.push_str(&text);
    Ok(())
}

fn signed(number: i64, digits: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", digits(number.unsigned_abs()))
}

/// A double, or the name of one that has no digits.
fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// What `%s` prints.
fn plain(value: &Value<'_>, printed: &mut String, budget: &mut Budget) -> Result<()> {
    budget.spend(1)?;
    match value {
        Value::Null => printed.push_str("null"),
        Value::List(_) | Value::Map(_) => inner(value, printed, budget)?,
        Value::Type(name) => printed.push_str(name),
        Value::Duration(nanos) => printed.push_str(&time::duration_shown(*nanos)),
        Value::String(text) => {
            budget.spend(traversal(size(text.as_str().len())))?;
            printed.push_str(text.as_str());
        }
        Value::Bytes(bytes) => {
            budget.spend(traversal(size(bytes.len())))?;
            match std::str::from_utf8(bytes) {
                Ok(text) => printed.push_str(text),
                Err(_) => return Err(Error::new(NOT_TEXT)),
            }
        }
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Timestamp(_) => printed.push_str(&shown(value)),
        other => return Err(Error::new(refusal('s', other.type_name()))),
    }
    Ok(())
}

const NOT_TEXT: &str = "error during formatting: could not convert argument \"invalid UTF-8 in \
                        bytes, cannot convert to string\" to string";

/// A value within a list or a map, as CEL itself would write it.
fn inner(value: &Value<'_>, printed: &mut String, budget: &mut Budget) -> Result<()> {
    budget.spend(1)?;
    match value {
        Value::List(list) => {
            printed.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    printed.push_str(", ");
                }
                inner(&item, printed, budget)?;
            }
            printed.push(']');
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for (key, value) in map.entries() {
                let mut name = String::new();
                inner(&key, &mut name, budget)?;
                budget.spend(traversal(size(name.len())))?;
                entries.push((name, value));
            }
            entries.sort_by(|(left, _), (right, _)| left.cmp(right));
            printed.push('{');
            for (index, (name, value)) in entries.iter().enumerate() {
                if index > 0 {
                    printed.push_str(", ");
                }
                printed.push_str(name);
                printed.push(':');
                inner(value, printed, budget)?;
            }
            printed.push('}');
        }
        Value::String(text) => {
            budget.spend(traversal(size(text.as_str().len())))?;
            printed.push_str(&quote(text.as_str()));
        }
        Value::Bytes(_) => {
            let mut text = String::new();
            plain(value, &mut text, budget)?;
            printed.push('b');
            printed.push_str(&quote(&text));
        }
        Value::Timestamp(_) => printed.push_str(&format!("timestamp(\"{}\")", shown(value))),
        Value::Duration(nanos) => {
            printed.push_str(&format!("duration(\"{}\")", time::duration_shown(*nanos)));
        }
        Value::Double(number) if number.is_finite() => printed.push_str(&format!("{number:.6}")),
        Value::Double(_) => printed.push_str(&format!("\"{}\"", shown(value))),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Type(_) => {
            plain(value, printed, budget)?;
        }
        other => {
            return Err(Error::new(format!(
                "error during formatting: no formatting function for {}",
                other.type_name()
            )));
        }
    }
    Ok(())
}

fn fixed(number: f64, precision: usize) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    if number.is_infinite() {
        return format!("{sign}∞");
    }
    let digits = format!("{:.precision$}", number.abs());
    let (whole, fraction) = match digits.find('.') {
        Some(at) => digits.split_at(at),
        None => (digits.as_str(), ""),
    };
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

/// As people write it: `1.500000×10⁰³`.
fn scientific(number: f64) -> String {
    if !number.is_finite() {
        return fixed(number, PRECISION);
    }
    let text = format!("{number:.PRECISION$e}");
    let Some((digits, power)) = text.split_once('e') else {
        return text;
    };
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ("⁻", power),
        None => ("", power),
    };
    let raised: String = format!("{power:0>2}")
        .chars()
        .filter_map(|digit| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(digit.to_digit(10)? as usize))
        .collect();
    format!("{digits}×10{sign}{raised}")
}

//! Strings: of the specification, and version 2 of cel-go's extension.

use crate::{
    budget::{Budget, Error, Result, size, traversal},
    library::{standard::count, template},
    value::Value,
};

pub(crate) const DECLARATIONS: &str = "
startsWith starts_with_string string . string : bool
endsWith ends_with_string string . string : bool
contains contains_string string . string : bool
charAt string_char_at_int string . int : string
indexOf string_index_of_string string . string : int
indexOf string_index_of_string_int string . string int : int
lastIndexOf string_last_index_of_string string . string : int
lastIndexOf string_last_index_of_string_int string . string int : int
lowerAscii string_lower_ascii string . : string
upperAscii string_upper_ascii string . : string
trim string_trim string . : string
replace string_replace_string_string string . string string : string
replace string_replace_string_string_int string . string string int : string
split string_split_string string . string : list<string>
split string_split_string_int string . string int : list<string>
substring string_substring_int string . int : string
substring string_substring_int_int string . int int : string
join list_join list<string> . : string
join list_join_string list<string> . string : string
format string_format string . list<dyn> : string
strings.quote strings_quote string : string
jsonpatch.escapeKey string_jsonpatch_escapeKey_string string : string
";

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>> {
    if matches!(name, "indexOf" | "lastIndexOf") && matches!(args.first(), Some(Value::List(_))) {
        return super::collections::call(name, args, budget);
    }
    if name == "join" {
        return join(args, budget);
    }
    let Some(text) = args.first().and_then(Value::as_str) else {
        return Err(Error::overload());
    };
    match (name, &args[1..]) {
        ("startsWith", [Value::String(part)]) => Ok(Value::Bool(text.starts_with(part.as_str()))),
        ("endsWith", [Value::String(part)]) => Ok(Value::Bool(text.ends_with(part.as_str()))),
        ("contains", [Value::String(part)]) => Ok(Value::Bool(text.contains(part.as_str()))),
        ("charAt", [Value::Int(index)]) => {
            let length = text.chars().count();
            match usize::try_from(*index) {
                Ok(index) if index < length => {
                    Ok(text.chars().skip(index).take(1).collect::<String>().into())
                }
                Ok(index) if index == length => Ok("".into()),
                _ => Err(out_of_range(*index)),
            }
        }
        ("indexOf", [Value::String(part)]) => Ok(index_of(text, part.as_str(), 0)),
        ("indexOf", [Value::String(part), Value::Int(from)]) => {
            let length = text.chars().count();
            match usize::try_from(*from) {
                // An empty text is found anywhere.
                _ if part.as_str().is_empty() => Ok(Value::Int(*from)),
                Ok(from) if from < length => Ok(index_of(text, part.as_str(), from)),
                Ok(_) => Ok(Value::Int(-1)),
                Err(_) => Err(out_of_range(*from)),
            }
        }
        ("lastIndexOf", [Value::String(part)]) => {
            Ok(last_index_of(text, part.as_str(), usize::MAX))
        }
        ("lastIndexOf", [Value::String(part), Value::Int(from)]) => {
            let length = text.chars().count();
            match usize::try_from(*from) {
                _ if part.as_str().is_empty() => Ok(Value::Int(*from)),
                Ok(from) if from < length => Ok(last_index_of(text, part.as_str(), from)),
                Ok(_) => Ok(Value::Int(-1)),
                Err(_) => Err(out_of_range(*from)),
            }
        }
        ("jsonpatch.escapeKey", []) => Ok(text.replace('~', "~0").replace('/', "~1").into()),
        ("lowerAscii", []) => Ok(text.to_ascii_lowercase().into()),
        ("upperAscii", []) => Ok(text.to_ascii_uppercase().into()),
        ("trim", []) => Ok(text.trim().into()),
        ("replace", [Value::String(from), Value::String(to), rest @ ..]) => {
            let most = match rest {
                [] => usize::MAX,
                [Value::Int(most)] => usize::try_from(*most).unwrap_or(usize::MAX),
                _ => return Err(Error::overload()),
            };
            let (from, to) = (from.as_str(), to.as_str());
            // The result is paid for before it is made.
            let places = if from.is_empty() {
                text.chars().count() + 1
            } else {
                text.len() / from.len()
            };
            budget.spend(traversal(
                size(places.min(most)).saturating_mul(size(to.len())),
            ))?;
            Ok(text.replacen(from, to, most).into())
        }
        ("split", [Value::String(separator), rest @ ..]) => {
            let most = match rest {
                [] => -1,
                [Value::Int(most)] => *most,
                _ => return Err(Error::overload()),
            };
            budget.spend(traversal(size(text.len()) * 4))?;
            Ok(split(text, separator.as_str(), most).into())
        }
        ("substring", [Value::Int(from)]) => substring(text, *from, None),
        ("substring", [Value::Int(from), Value::Int(to)]) => substring(text, *from, Some(*to)),
        ("format", [Value::List(list)]) => template::format(text, list, budget),
        ("strings.quote", []) => Ok(quote(text).into()),
        _ => Err(Error::overload()),
    }
}

fn out_of_range(index: i64) -> Error {
    Error::new(format!("index out of range: {index}"))
}

fn index_of<'a>(text: &str, part: &str, from: usize) -> Value<'a> {
    let start = text
        .char_indices()
        .nth(from)
        .map_or(text.len(), |(at, _)| at);
    match text[start..].find(part) {
        Some(at) => count(from + text[start..start + at].chars().count()),
        None => Value::Int(-1),
    }
}

/// The last place at or before character `from`.
fn last_index_of<'a>(text: &str, part: &str, from: usize) -> Value<'a> {
    let start = text
        .char_indices()
        .nth(from)
        .map_or(text.len(), |(at, _)| at);
    let mut end = start.saturating_add(part.len()).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    match text[..end].rfind(part) {
        Some(at) => count(text[..at].chars().count()),
        None => Value::Int(-1),
    }
}

fn substring<'a>(text: &str, from: i64, to: Option<i64>) -> Result<Value<'a>> {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let end = to.unwrap_or(length);
    for index in [from, end] {
        if !(0..=length).contains(&index) {
            return Err(out_of_range(index));
        }
    }
    if from > end {
        return Err(Error::new(format!(
            "invalid substring range. start: {from}, end: {end}"
        )));
    }
    let skip = usize::try_from(from).unwrap_or_default();
    let take = usize::try_from(end - from).unwrap_or_default();
    Ok(text
        .chars()
        .skip(skip)
        .take(take)
        .collect::<String>()
        .into())
}

fn split<'a>(text: &str, separator: &str, most: i64) -> Vec<Value<'a>> {
    let most = match usize::try_from(most) {
        Ok(0) => return Vec::new(),
        Ok(most) => most,
        Err(_) => usize::MAX,
    };
    if !separator.is_empty() {
        return text.splitn(most, separator).map(Value::from).collect();
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if parts.len() + 1 == most {
            parts.push(Value::from(rest));
            break;
        }
        let (one, after) = rest.split_at(first.len_utf8());
        parts.push(Value::from(one));
        rest = after;
    }
    parts
}

fn join<'a>(args: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, separator.as_str()),
        _ => return Err(Error::overload()),
    };
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        let part = item.as_str().ok_or_else(Error::overload)?;
        budget.spend(traversal(2 * size(part.len() + separator.len())))?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(part);
    }
    Ok(joined.into())
}

pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for one in text.chars() {
        match one {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A double as Go prints it with as few digits as needed.
pub(crate) fn double(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if number != 0.0 && !(1e-4..1e6).contains(&number.abs()) {
        exponent(&format!("{number:e}"))
    } else {
        number.to_string()
    }
}

/// `1e5` as Go writes it: `1e+05`.
fn exponent(text: &str) -> String {
    let Some((digits, power)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', power),
    };
    format!("{digits}e{sign}{power:0>2}")
}

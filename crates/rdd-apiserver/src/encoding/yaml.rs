//! YAML as Go's sigs.k8s.io/yaml reads and writes it: the first document only,
//! YAML 1.1 scalars (`yes` is a boolean), keys turned into strings, answers in
//! block style with sorted keys.

use std::{borrow::Cow, collections::HashMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Number, Value};

mod complaint;
mod plain;

use self::complaint::complaint;
use crate::encoding::json::{DEPTH_MAX, Parsed, SyntaxError};

/// Values that aliases may expand to in one document: an alias of an alias of …
/// grows exponentially, and no manifest needs more.
const ALIASED_MAX: usize = 100_000;

/// A YAML document, with duplicates worded as Go's YAML parser words them.
///
/// # Errors
/// The first syntax error.
pub fn parse(bytes: &[u8]) -> Result<Parsed, SyntaxError> {
    if let Some(value) = plain::json(bytes) {
        return Ok(Parsed {
            value,
            duplicates: Vec::new(),
        });
    }
    read(bytes)
}

fn read(bytes: &[u8]) -> Result<Parsed, SyntaxError> {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader {
        parser: Parser::new_from_str(&text),
        source: &text,
        open: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        duplicates: Vec::new(),
    };
    let value = reader.document()?;
    Ok(Parsed {
        value,
        duplicates: reader.duplicates,
    })
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    source: &'a str,
    /// The lines, from one, on which the open maps and lists began.
    open: Vec<usize>,
    anchors: HashMap<usize, Value>,
    aliased: usize,
    duplicates: Vec<String>,
}

type Read<T> = Result<T, SyntaxError>;

impl<'a> Reader<'a> {
    fn next(&mut self) -> Read<(Event<'a>, usize)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(complaint(&error, self.source, self.open.last().copied())),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn document(&mut self) -> Read<Value> {
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(Value::Null),
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                event => return self.node(event, line),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize) -> Read<Value> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| tag.suffix.clone());
                let value = scalar(&text, style, tag.as_deref())?;
                self.anchor(anchor, &value);
                Ok(value)
            }
            Event::Alias(anchor) => {
                let value = self
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or_else(|| SyntaxError("yaml: unknown anchor referenced".to_owned()))?;
                self.aliased += count(&value);
                if self.aliased > ALIASED_MAX {
                    return Err(SyntaxError(
                        "yaml: document contains excessive aliasing".to_owned(),
                    ));
                }
                Ok(value)
            }
            Event::SequenceStart(anchor, _) => {
                self.enter(line)?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, line) => items.push(self.node(event, line)?),
                    }
                }
                self.open.pop();
                let value = Value::Array(items);
                self.anchor(anchor, &value);
                Ok(value)
            }
            Event::MappingStart(anchor, _) => {
                self.enter(line)?;
                let value = Value::Object(self.mapping()?);
                self.open.pop();
                self.anchor(anchor, &value);
                Ok(value)
            }
            _ => Err(SyntaxError(
                "yaml: did not find expected node content".to_owned(),
            )),
        }
    }

    fn mapping(&mut self) -> Read<Map<String, Value>> {
        let mut members = Map::new();
        let mut merged: Vec<Value> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let merge = matches!(
                &event,
                Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<"
            );
            let key = self.node(event, line)?;
            let (event, value_line) = self.next()?;
            let value = self.node(event, value_line)?;
            if key.is_null() {
                return Err(SyntaxError(format!(
                    "unsupported map key of type: %!s(<nil>), key: <nil>, value: {value}"
                )));
            }
            let key = self::key(&key)?;
            if merge {
                merged.push(value);
                continue;
            }
            if members.contains_key(&key) {
                self.duplicates
                    .push(format!("line {line}: key {key:?} already set in map"));
            }
            members.insert(key, value);
        }
        // What stands in the map itself wins over what is merged into it.
        for value in merged {
            let sources = match value {
                Value::Array(items) => items,
                other => vec![other],
            };
            for source in sources {
                let Value::Object(source) = source else {
                    return Err(SyntaxError(
                        "yaml: map merge requires map or sequence of maps as the value".to_owned(),
                    ));
                };
                for (key, value) in source {
                    members.entry(key).or_insert(value);
                }
            }
        }
        Ok(members)
    }

    fn enter(&mut self, line: usize) -> Read<()> {
        self.open.push(line);
        if self.open.len() > DEPTH_MAX {
            return Err(SyntaxError("yaml: exceeded max depth".to_owned()));
        }
        Ok(())
    }

    fn anchor(&mut self, anchor: usize, value: &Value) {
        // The parser numbers anchors from one; zero means none.
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

fn key(value: &Value) -> Read<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) | Value::Null => Ok(value.to_string()),
        Value::Array(_) | Value::Object(_) => Err(SyntaxError("yaml: invalid map key".to_owned())),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&str>) -> Read<Value> {
    match tag {
        Some("str") => return Ok(Value::String(text.to_owned())),
        Some("binary") => {
            let bytes = STANDARD.decode(text).map_err(|_| {
                SyntaxError("yaml: !!binary value contains invalid base64 data".to_owned())
            })?;
            return Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        }
        _ if style != ScalarStyle::Plain && tag.is_none() => {
            return Ok(Value::String(text.to_owned()));
        }
        _ => {}
    }
    // Numbers that JSON does not have.
    let odd = match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some("+Inf"),
        "-.inf" | "-.Inf" | "-.INF" => Some("-Inf"),
        ".nan" | ".NaN" | ".NAN" => Some("NaN"),
        _ => None,
    };
    if let Some(number) = odd {
        return Err(SyntaxError(format!("json: unsupported value: {number}")));
    }
    Ok(resolve(text).unwrap_or_else(|| Value::String(text.to_owned())))
}

/// What a plain scalar means in YAML 1.1; `None` for a string.
fn resolve(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Some(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Some(Value::Bool(false));
        }
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return None;
    }
    let plain: Cow<'_, str> = if text.contains('_') {
        text.replace('_', "").into()
    } else {
        text.into()
    };
    integer(&plain).or_else(|| float(&plain))
}

fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = if let Some(digits) = digits.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = digits.strip_prefix("0b") {
        (2, digits)
    } else if let Some(digits) = digits.strip_prefix("0o") {
        (8, digits)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -magnitude } else { magnitude };
    if let Ok(value) = i64::try_from(value) {
        return Some(Value::from(value));
    }
    // Beyond int64 a number is a float, as in JSON.
    #[expect(clippy::cast_precision_loss, reason = "that is what Go does")]
    let value = value as f64;
    Number::from_f64(value).map(Value::Number)
}

fn float(text: &str) -> Option<Value> {
    let shape = text.strip_prefix(['+', '-']).unwrap_or(text);
    let numeric = shape
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if !numeric || !shape.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = text.parse::<f64>().ok().and_then(Number::from_f64)?;
    Some(Value::Number(whole(number)))
}

/// As JSON spells it: a number without a fraction is an integer.
pub(crate) fn whole(number: Number) -> Number {
    // Beyond this not every integer is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.trunc() == float && float.abs() <= EXACT => {
            #[expect(clippy::cast_possible_truncation, reason = "it is a small integer")]
            let integer = float as i64;
            integer.into()
        }
        _ => number,
    }
}

/// A document in block style.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => write_members(members, 0, &mut out),
        Value::Array(items) if !items.is_empty() => write_items(items, 0, &mut out),
        scalar => {
            write_inline(scalar, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

fn write_members(members: &Map<String, Value>, indent: usize, out: &mut String) {
    let mut first = true;
    for (key, value) in members {
        if !std::mem::replace(&mut first, false) {
            pad(indent, out);
        }
        write_text(key, None, out);
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                pad(indent + 2, out);
                write_members(inner, indent + 2, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                pad(indent, out);
                write_items(items, indent, out);
            }
            scalar => {
                out.push(' ');
                write_inline(scalar, indent + 2, out);
                out.push('\n');
            }
        }
    }
}

fn write_items(items: &[Value], indent: usize, out: &mut String) {
    let mut first = true;
    for item in items {
        if !std::mem::replace(&mut first, false) {
            pad(indent, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => write_members(inner, indent + 2, out),
            Value::Array(inner) if !inner.is_empty() => write_items(inner, indent + 2, out),
            scalar => {
                write_inline(scalar, indent + 2, out);
                out.push('\n');
            }
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn write_inline(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(text) => write_text(text, Some(indent), out),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => {
            // Writing to a String does not fail.
            let _ = write!(out, "{other}");
        }
    }
}

/// The column beyond which a value is continued on another line, at a blank.
const WIDTH: usize = 80;

/// Writes a text without line breaks; blanks far to the right become some where the
/// text is a value, which goes on at this column.
fn write_folded(text: &str, indent: Option<usize>, out: &mut String) {
    let Some(indent) = indent else {
        out.push_str(text);
        return;
    };
    let line = out.rfind('\n').map_or(0, |at| at + 1);
    let mut column = out[line..].chars().count();
    let mut before = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let alone = letter == ' '
            && before.is_some_and(|before| before != ' ')
            && letters.peek().is_some_and(|next| *next != ' ');
        if alone && column > WIDTH {
            out.push('\n');
            pad(indent, out);
            column = indent;
        } else {
            out.push(letter);
            column += 1;
        }
        before = Some(letter);
    }
}

/// Without an indent the text is a key.
fn write_text(text: &str, indent: Option<usize>, out: &mut String) {
    if resolve(text).is_some() || text == "<<" || looks_like_date(text) {
        let _ = write!(out, "{text:?}");
    } else if indent.is_some()
        && text.contains('\n')
        && text.chars().all(|c| c == '\n' || !c.is_control())
    {
        let body = text.trim_end_matches('\n');
        let ends = text.len() - body.len();
        let chomp = match ends {
            0 => "-",
            1 => "",
            _ => "+",
        };
        let hint = if text.starts_with([' ', '\n']) {
            "2"
        } else {
            ""
        };
        let _ = write!(out, "|{hint}{chomp}");
        let lines = if ends > 1 {
            text.strip_suffix('\n').unwrap_or(text)
        } else {
            body
        };
        for line in lines.split('\n') {
            out.push('\n');
            if !line.is_empty() {
                pad(indent.unwrap_or_default(), out);
                out.push_str(line);
            }
        }
    } else if text.chars().any(char::is_control) {
        out.push_str(&Value::String(text.to_owned()).to_string());
    } else if is_plain(text) {
        write_folded(text, indent, out);
    } else {
        out.push('\'');
        write_folded(&text.replace('\'', "''"), indent, out);
        out.push('\'');
    }
}

fn looks_like_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[5].is_ascii_digit()
}

/// Whether block YAML takes the text without quotes.
fn is_plain(text: &str) -> bool {
    let special_start = text.starts_with([
        '#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ',
    ]);
    let indicator = text.starts_with(['-', '?', ':'])
        && text[1..].chars().next().is_none_or(|next| next == ' ');
    !(special_start
        || indicator
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #")
        || text.starts_with("---")
        || text.starts_with("..."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_mean_what_yaml_1_1_says() {
        let check = |text: &str, expect: Value| {
            let parsed = parse(format!("a: {text}").as_bytes()).expect(text);
            assert_eq!(parsed.value["a"], expect, "{text}");
        };
        check("yes", json!(true));
        check("off", json!(false));
        check("\"yes\"", json!("yes"));
        check("~", Value::Null);
        check("0x10", json!(16));
        check("010", json!(8));
        check("1_000", json!(1000));
        check("1.5", json!(1.5));
        check("1.2.3", json!("1.2.3"));
        check("2024-01-01", json!("2024-01-01"));
        check("!!str 5", json!("5"));
    }

    #[test]
    fn documents_read_like_their_json() {
        let parsed =
            parse(b"a: &x {b: 1}\nc:\n- *x\n- d\non: 2\ne:\n  <<: *x\n  f: 3\n---\nz: 1\n");
        let expect = json!({"a": {"b": 1}, "c": [{"b": 1}, "d"], "true": 2, "e": {"b": 1, "f": 3}});
        assert_eq!(parsed.expect("valid").value, expect);
    }

    #[test]
    fn duplicates_are_named_by_line() {
        let parsed = parse(b"a: 1\nb: 2\na: 3\n").expect("valid");
        assert_eq!(parsed.duplicates, ["line 3: key \"a\" already set in map"]);
    }

    #[test]
    fn aliases_do_not_explode() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let refs = vec![format!("*a{}", level - 1); 9].join(",");
            let _ = writeln!(text, "a{level}: &a{level} [{refs}]");
        }
        assert!(parse(text.as_bytes()).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = json!({
            "apiVersion": "v1", "code": 406, "details": {}, "list": [1, {"a": "b", "c": []}, [2]],
            "message": "406: Not\n\nAvailable: x", "quoted": "1", "bool": "yes", "colon": "a: b",
            "empty": "", "date": "2024-01-01T00:00:00Z", "single": "it's", "dash": "- a"
        });
        let text = write(&value);
        assert_eq!(parse(text.as_bytes()).expect(&text).value, value, "{text}");
        assert!(
            text.contains("message: |-\n  406: Not\n\n  Available: x\n"),
            "{text}"
        );
    }
}

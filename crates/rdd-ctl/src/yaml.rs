//! YAML: reading manifests, and writing what kubectl would write.

use serde_json::{Map, Value};

/// Reads every document of a text; JSON is YAML.
///
/// # Errors
/// What the parser says, with the place.
pub fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

/// Writes one document in block style, keys as they come, two blanks a level.
#[must_use]
pub fn to_string(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => object(fields, 0, &mut text),
        Value::Array(items) if !items.is_empty() => array(items, 0, &mut text),
        other => {
            text.push_str(&scalar(other, 0));
            text.push('\n');
        }
    }
    text
}

fn indent(level: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", level));
}

fn object(fields: &Map<String, Value>, level: usize, text: &mut String) {
    for (index, (name, value)) in fields.iter().enumerate() {
        // The first field of a list item stands behind its dash.
        if index > 0 || !text.ends_with("- ") {
            indent(level, text);
        }
        text.push_str(&plain(name));
        text.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                object(fields, level + 1, text);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                array(items, level, text);
            }
            other => {
                text.push(' ');
                text.push_str(&scalar(other, level + 1));
                text.push('\n');
            }
        }
    }
}

fn array(items: &[Value], level: usize, text: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !text.ends_with("- ") {
            indent(level, text);
        }
        text.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => object(fields, level + 1, text),
            Value::Array(items) if !items.is_empty() => array(items, level + 1, text),
            other => {
                text.push_str(&scalar(other, level + 1));
                text.push('\n');
            }
        }
    }
}

fn scalar(value: &Value, level: usize) -> String {
    match value {
        Value::String(text) if text.contains('\n') && is_block(text) => block(text, level),
        Value::String(text) => plain(text),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// Whether a literal block shows the text as it is.
fn is_block(text: &str) -> bool {
    !text.starts_with([' ', '\n', '\t'])
        && text
            .chars()
            .all(|letter| letter == '\n' || letter == '\t' || !letter.is_control())
        && !text.lines().any(|line| line.ends_with(' '))
}

fn block(text: &str, level: usize) -> String {
    let body = text.strip_suffix('\n');
    let mark = match body {
        None => "|-",
        Some(body) if body.ends_with('\n') => "|+",
        Some(_) => "|",
    };
    let mut out = String::from(mark);
    for line in body.unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(level, &mut out);
            out.push_str(line);
        }
    }
    out
}

/// The text without quotes where it cannot be mistaken for anything else.
fn plain(text: &str) -> String {
    let special = text.is_empty()
        || text.starts_with([
            '-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%',
            '@', '`', ' ', '=',
        ]) && !(text.starts_with(['-', ':'])
            && text.len() > 1
            && text.as_bytes()[1].is_ascii_alphabetic())
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #")
        || text.chars().any(char::is_control)
        || looks_typed(text);
    if !special {
        return text.to_owned();
    }
    if text.chars().any(|letter| letter.is_control()) {
        return Value::from(text).to_string();
    }
    if looks_typed(text) || text.is_empty() {
        return format!("\"{text}\"");
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether a reader would take the text for something else than text.
fn looks_typed(text: &str) -> bool {
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "null"
            | "~"
            | "true"
            | "false"
            | "yes"
            | "no"
            | "on"
            | "off"
            | "y"
            | "n"
            | ".inf"
            | "-.inf"
            | ".nan"
            | "nan"
    );
    let number = text.parse::<f64>().is_ok()
        || text.replace('_', "").parse::<i64>().is_ok()
        || text.starts_with("0x")
        || text.starts_with("0o");
    let time = text.len() >= 10
        && text.as_bytes()[4] == b'-'
        && text[..4].bytes().all(|byte| byte.is_ascii_digit());
    let sexagesimal = text.contains(':')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b':' || byte == b'.');
    word || number || time || sexagesimal
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_written_as_kubectl_writes_them() {
        let value = json!({
            "a": {"b": [1, {"c": "x", "d": null}], "e": {}, "f": []},
            "g": "true", "h": "12", "i": "plain text", "j": "", "k": "a: b", "l": "one\ntwo\n",
            "m": "2026-01-02T03:04:05Z", "n": true, "o": "-x", ".": {}, "p": "unix:///a", "q": [[1]],
        });
        let wanted = ".: {}\na:\n  b:\n  - 1\n  - c: x\n    d: null\n  e: {}\n  f: []\ng: \"true\"\nh: \"12\"\ni: plain text\nj: \"\"\n\
            k: 'a: b'\nl: |\n  one\n  two\nm: \"2026-01-02T03:04:05Z\"\n\"n\": true\no: -x\np: unix:///a\nq:\n- - 1\n";
        assert_eq!(to_string(&value), wanted);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "",
            " x",
            "x ",
            "a: b",
            "# no",
            "- no",
            "yes",
            "1",
            "1e3",
            "~",
            "a\nb",
            "a\n\nb\n\n",
            "\tx",
            "'q'",
            "\"q\"",
            "0x10",
            "12:30:45",
            "@x",
            "{x",
            ".5",
            ":x",
            "-",
        ] {
            let value = json!({"k": text, "l": [text, {"m": text}]});
            let back = parse(&to_string(&value)).expect(text);
            assert_eq!(
                back,
                [value],
                "{text:?} in\n{}",
                to_string(&json!({"k": text}))
            );
        }
    }
}

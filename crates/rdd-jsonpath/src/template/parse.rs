//! From a template's text to its nodes.

use serde_json::Value;

use super::{DEPTH_MAX, Node, Operand, ParseError, Result, Step};

pub(super) fn bad(text: &str) -> ParseError {
    ParseError(text.to_owned())
}

pub(super) fn nodes(rest: &mut &str, depth: usize) -> Result<Vec<Node>> {
    let inside = depth > 0;
    check_depth(depth)?;
    let mut nodes = Vec::new();
    loop {
        let Some(start) = rest.find('{') else {
            if inside {
                return Err(bad("range without end"));
            }
            if !rest.is_empty() {
                nodes.push(Node::Text(unescape(rest)));
            }
            *rest = "";
            return Ok(nodes);
        };
        if start > 0 {
            nodes.push(Node::Text(unescape(&rest[..start])));
        }
        let end = closing(&rest[start..]).ok_or_else(|| bad("unclosed action"))? + start;
        let action = rest[start + 1..end].trim();
        *rest = &rest[end + 1..];
        if action == "end" {
            return if inside {
                Ok(nodes)
            } else {
                Err(bad("end without range"))
            };
        }
        let range = action.strip_prefix("range");
        if let Some(path) = range.filter(|rest| rest.starts_with([' ', '.', '[', '$', '@'])) {
            let steps = steps(path.trim(), 0)?;
            nodes.push(Node::Range(steps, self::nodes(rest, depth + 1)?));
        } else if let Some(quote) = action
            .chars()
            .next()
            .filter(|first| matches!(first, '"' | '\''))
        {
            nodes.push(Node::Text(unescape(action.trim_matches(quote))));
        } else {
            nodes.push(Node::Path(steps(action, 0)?));
        }
    }
}

fn check_depth(depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(bad("nested too deeply"));
    }
    Ok(())
}

/// Where the action ends, quotes respected.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (index, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '}') => return Some(index),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

fn steps(text: &str, depth: usize) -> Result<Vec<Step>> {
    check_depth(depth)?;
    let mut steps = Vec::new();
    let mut rest = text;
    if let Some(behind) = rest.strip_prefix('$') {
        steps.push(Step::Root);
        rest = behind;
    }
    while let Some(first) = rest.chars().next() {
        match first {
            ' ' | '@' | '$' => rest = &rest[1..],
            '.' => {
                let behind = match rest.strip_prefix("..") {
                    Some(behind) => {
                        steps.push(Step::Recursive);
                        behind
                    }
                    None => &rest[1..],
                };
                rest = field(behind, &mut steps);
            }
            '[' => {
                let end = bracket(rest).ok_or_else(|| bad("unterminated array"))?;
                subscript(&rest[1..end], depth, &mut steps)?;
                rest = &rest[end + 1..];
            }
            word if word.is_alphanumeric() || word == '_' => {
                // A bare word is an identifier, of which there are none.
                let end = rest.find(is_terminator).unwrap_or(rest.len());
                steps.push(Step::Union(Vec::new()));
                rest = &rest[end..];
            }
            other => {
                return Err(ParseError(format!(
                    "unrecognized character in action: U+{:04X} '{other}'",
                    u32::from(other)
                )));
            }
        }
    }
    Ok(steps)
}

/// What ends a name.
fn is_terminator(letter: char) -> bool {
    matches!(
        letter,
        ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}'
    )
}

/// A name up to what ends it; a backslash makes that part of it.
fn field<'a>(text: &'a str, steps: &mut Vec<Step>) -> &'a str {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '\\' => {
                if let Some((_, next)) = letters.next() {
                    name.push(next);
                }
            }
            other if is_terminator(other) => {
                push_field(name, steps);
                return &text[index..];
            }
            other => name.push(other),
        }
    }
    push_field(name, steps);
    ""
}

fn push_field(name: String, steps: &mut Vec<Step>) {
    match name.as_str() {
        "" => {}
        "*" => steps.push(Step::Every),
        _ => steps.push(Step::Field(name)),
    }
}

fn bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (index, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// Calls back at every character outside quotes, with the brackets open there.
fn outside_quotes(text: &str, mut each: impl FnMut(usize, usize) -> bool) {
    let (mut depth, mut quote) = (0_usize, None);
    for (index, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => continue,
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => depth = depth.saturating_sub(1),
            (None, _) => {
                if each(index, depth) {
                    return;
                }
            }
        }
    }
}

/// The parts between commas that stand outside quotes and brackets.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    outside_quotes(text, |index, depth| {
        if depth == 0 && text[index..].starts_with(',') {
            parts.push(&text[start..index]);
            start = index + 1;
        }
        false
    });
    parts.push(&text[start..]);
    parts
}

fn filter(text: &str, depth: usize) -> Result<Step> {
    let mut found = None;
    outside_quotes(text, |index, depth| {
        if depth == 0 {
            found = ["==", "!=", "<=", ">=", "<", ">"]
                .into_iter()
                .find(|operator| text[index..].starts_with(operator))
                .map(|operator| (index, operator));
        }
        found.is_some()
    });
    let Some((index, operator)) = found else {
        return Ok(Step::Filter(steps(text.trim(), depth + 1)?, None));
    };
    let left = steps(text[..index].trim(), depth + 1)?;
    let right = text[index + operator.len()..].trim();
    let right = if right.starts_with(['@', '$', '.']) {
        Operand::Path(steps(right, depth + 1)?)
    } else if right.contains("&&") && !right.ends_with(['"', '\'']) || right.contains("||") {
        return Err(bad("unrecognized character in action"));
    } else {
        Operand::Literal(literal(right))
    };
    Ok(Step::Filter(left, Some((operator, right))))
}

fn subscript(text: &str, depth: usize, steps: &mut Vec<Step>) -> Result<()> {
    check_depth(depth)?;
    if let Some(test) = text
        .strip_prefix("?(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        steps.push(filter(test, depth)?);
        return Ok(());
    }
    let parts = parts(text);
    if parts.len() > 1 {
        let mut union = Vec::new();
        for part in parts {
            let mut steps = Vec::new();
            subscript(part.trim_matches(' '), depth + 1, &mut steps)?;
            // A name with dots is a path, of which a union takes the end for the whole.
            union.extend(steps);
        }
        steps.push(Step::Union(union));
        return Ok(());
    }
    if text == "*" {
        steps.push(Step::Every);
        return Ok(());
    }
    let quoted = text
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .filter(|name| !name.contains('\''));
    if let Some(name) = quoted {
        // Quotes do not protect dots: one in a name needs its backslash here as well.
        for part in undotted(name) {
            push_field(part, steps);
        }
        return Ok(());
    }
    let number = |part: &str| -> Result<Option<i64>> {
        if part.is_empty() {
            return Ok(None);
        }
        let digits = part.strip_prefix('-').unwrap_or(part);
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = part.parse().ok().filter(|_| plain);
        number
            .map(Some)
            .ok_or_else(|| bad(&format!("invalid array index {text}")))
    };
    steps.push(match text.split_once(':') {
        Some((from, to)) => {
            let (to, by) = to.split_once(':').unwrap_or((to, ""));
            number(by)?;
            Step::Index(number(from)?, number(to)?, true)
        }
        None => Step::Index(number(text)?, None, false),
    });
    Ok(())
}

/// The parts of a name between dots without a backslash.
fn undotted(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '.' => parts.push(String::new()),
            letter => {
                let letter = match letter {
                    '\\' => letters.next(),
                    letter => Some(letter),
                };
                if let Some(part) = parts.last_mut() {
                    part.extend(letter);
                }
            }
        }
    }
    parts
}

fn literal(text: &str) -> Value {
    if text.starts_with(['"', '\'']) {
        return Value::from(text.trim_matches(['"', '\'']));
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

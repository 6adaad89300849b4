//! kubectl's JSONPath templates: text with `{…}` in it.
//!
//! Fields, `['…']`, indexes, slices, `[*]`, `..`, filters `[?(@.a=="b")]`, unions,
//! quoted text and `{range …}{end}`.

use serde_json::Value;

/// The crate's results.
type Result<T, E = ParseError> = std::result::Result<T, E>;

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing jsonpath: {0}")]
pub struct ParseError(String);

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template(Vec<Node>);

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Clone, Debug)]
enum Step {
    Field(String),
    Every,
    Recursive,
    Index(Option<i64>, Option<i64>, bool),
    Union(Vec<Step>),
    Filter(Vec<Step>, Option<(String, Value)>),
}

impl Template {
    /// Finds nothing anywhere.
    #[must_use]
    pub fn nothing() -> Self {
        Self(Vec::new())
    }

    /// Reads `{.a.b}`, and also `.a.b` and `a.b` as kubectl does.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self> {
        let text = if text.contains('{') {
            text.to_owned()
        } else if text.starts_with(['.', '[', '$']) {
            format!("{{{text}}}")
        } else {
            format!("{{.{text}}}")
        };
        let mut rest = text.as_str();
        let nodes = nodes(&mut rest, false)?;
        Ok(Self(nodes))
    }

    /// The template filled from a document.
    #[must_use]
    pub fn render(&self, document: &Value) -> String {
        let mut out = String::new();
        render(&self.0, document, document, &mut out);
        out
    }

    /// What a template of one path finds.
    #[must_use]
    pub fn find<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        match self.0.as_slice() {
            [Node::Path(steps)] => walk(steps, vec![document]),
            _ => Vec::new(),
        }
    }
}

fn render(nodes: &[Node], root: &Value, current: &Value, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(steps) => {
                let start = if matches!(steps.first(), Some(Step::Field(name)) if name == "$") {
                    root
                } else {
                    current
                };
                let steps = match steps.first() {
                    Some(Step::Field(name)) if name == "$" => &steps[1..],
                    _ => steps,
                };
                let found: Vec<String> = walk(steps, vec![start]).into_iter().map(show).collect();
                out.push_str(&found.join(" "));
            }
            Node::Range(steps, body) => {
                for item in walk(steps, vec![current]) {
                    render(body, root, item, out);
                }
            }
        }
    }
}

/// Text as it is, everything else as JSON.
#[must_use]
pub fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn walk<'a>(steps: &[Step], mut values: Vec<&'a Value>) -> Vec<&'a Value> {
    for step in steps {
        values = values
            .into_iter()
            .flat_map(|value| apply(step, value))
            .collect();
    }
    values
}

fn apply<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    let children = |value: &'a Value| -> Vec<&'a Value> {
        match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        }
    };
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Every => children(value),
        Step::Recursive => {
            let mut all = vec![value];
            for child in children(value) {
                all.extend(apply(&Step::Recursive, child));
            }
            all
        }
        Step::Index(from, to, slice) => {
            let Value::Array(items) = value else {
                return Vec::new();
            };
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let absolute =
                |index: i64| if index < 0 { index + length } else { index }.clamp(0, length);
            if *slice {
                let (from, to) = (absolute(from.unwrap_or(0)), absolute(to.unwrap_or(length)));
                let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
                return items.get(range).unwrap_or_default().iter().collect();
            }
            let index = from.unwrap_or(0);
            let index = if index < 0 { index + length } else { index };
            usize::try_from(index)
                .ok()
                .and_then(|index| items.get(index))
                .into_iter()
                .collect()
        }
        Step::Union(steps) => steps.iter().flat_map(|step| apply(step, value)).collect(),
        Step::Filter(path, test) => children(value)
            .into_iter()
            .filter(|item| {
                let found = walk(path, vec![item]);
                match test {
                    None => !found.is_empty(),
                    Some((operator, wanted)) => found
                        .first()
                        .is_some_and(|found| compare(found, operator, wanted)),
                }
            })
            .collect(),
    }
}

fn compare(found: &Value, operator: &str, wanted: &Value) -> bool {
    let order = match (found.as_f64(), wanted.as_f64()) {
        (Some(found), Some(wanted)) => found.partial_cmp(&wanted),
        _ => Some(show(found).cmp(&show(wanted))),
    };
    match operator {
        "==" => order.is_some_and(std::cmp::Ordering::is_eq),
        "!=" => order.is_some_and(std::cmp::Ordering::is_ne),
        "<" => order.is_some_and(std::cmp::Ordering::is_lt),
        "<=" => order.is_some_and(std::cmp::Ordering::is_le),
        ">" => order.is_some_and(std::cmp::Ordering::is_gt),
        _ => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

fn bad(text: &str) -> ParseError {
    ParseError(text.to_owned())
}

fn nodes(rest: &mut &str, inside: bool) -> Result<Vec<Node>> {
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
        if let Some(path) = action.strip_prefix("range ") {
            let steps = steps(path.trim())?;
            nodes.push(Node::Range(steps, self::nodes(rest, true)?));
        } else if let Some(quote) = action
            .chars()
            .next()
            .filter(|first| matches!(first, '"' | '\''))
        {
            nodes.push(Node::Text(unescape(action.trim_matches(quote))));
        } else {
            nodes.push(Node::Path(steps(action)?));
        }
    }
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

fn steps(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text;
    if let Some(behind) = rest.strip_prefix('$') {
        steps.push(Step::Field("$".to_owned()));
        rest = behind;
    }
    rest = rest.strip_prefix('@').unwrap_or(rest);
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix("..") {
            steps.push(Step::Recursive);
            rest = behind;
            if !rest.starts_with(['.', '[']) {
                rest = field(rest, &mut steps);
            }
        } else if let Some(behind) = rest.strip_prefix('.') {
            rest = field(behind, &mut steps);
        } else if rest.starts_with('[') {
            let end = bracket(rest).ok_or_else(|| bad("unterminated array"))?;
            steps.push(subscript(&rest[1..end])?);
            rest = &rest[end + 1..];
        } else {
            rest = field(rest, &mut steps);
        }
    }
    Ok(steps)
}

/// A name up to the next dot or bracket; a backslash makes either part of it.
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
            '.' | '[' => {
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

fn subscript(text: &str) -> Result<Step> {
    let text = text.trim();
    if let Some(filter) = text
        .strip_prefix("?(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        for operator in ["==", "!=", "<=", ">=", "<", ">"] {
            if let Some((left, right)) = filter.split_once(operator) {
                return Ok(Step::Filter(
                    steps(left.trim())?,
                    Some((operator.to_owned(), literal(right.trim()))),
                ));
            }
        }
        return Ok(Step::Filter(steps(filter.trim())?, None));
    }
    if text == "*" {
        return Ok(Step::Every);
    }
    if text.starts_with(['"', '\'']) {
        let names = text.split(',').map(|name| {
            let name = name.trim();
            // Backslashes are as good as inside plain names.
            Step::Field(name.trim_matches(['"', '\'']).replace('\\', ""))
        });
        let mut names: Vec<Step> = names.collect();
        return Ok(if names.len() == 1 {
            names.remove(0)
        } else {
            Step::Union(names)
        });
    }
    if text.contains(',') {
        return text
            .split(',')
            .map(subscript)
            .collect::<Result<_>>()
            .map(Step::Union);
    }
    let number = |text: &str| -> Result<Option<i64>> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| bad(&format!("invalid array index {text}")))
    };
    match text.split_once(':') {
        Some((from, to)) => Ok(Step::Index(
            number(from)?,
            number(to.split(':').next().unwrap_or_default())?,
            true,
        )),
        None => Ok(Step::Index(number(text)?, None, false)),
    }
}

fn literal(text: &str) -> Value {
    if text.starts_with(['"', '\'']) {
        return Value::from(text.trim_matches(['"', '\'']));
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_are_filled_as_kubectl_fills_them() {
        let document = json!({
            "metadata": {"name": "a", "annotations": {"x.y/z": "v"}},
            "items": [{"n": 1, "s": "one", "t": {"k": true}}, {"n": 2, "s": "two"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}],
        });
        for (template, wanted) in [
            ("{.metadata.name}", "a"),
            (".metadata.name", "a"),
            ("metadata.name", "a"),
            ("{.metadata.annotations.x\\.y/z}", "v"),
            ("{.metadata.annotations['x.y/z']}", "v"),
            ("{.metadata.annotations['x\\.y/z']}", "v"),
            ("{.items[*].s}", "one two"),
            ("{.items[0].s}", "one"),
            ("{.items[-1].s}", "two"),
            ("{.items[0:1].s}", "one"),
            ("{.items[?(@.n==2)].s}", "two"),
            ("{.items[?(@.n>1)].s}", "two"),
            ("{.items[?(@.t)].s}", "one"),
            ("{.conditions[?(@.type==\"Ready\")].status}", "True"),
            ("{range .items[*]}{.s}={.n}{\"\\n\"}{end}", "one=1\ntwo=2\n"),
            ("name: {.metadata.name}!", "name: a!"),
            ("{.items[0].t}", "{\"k\":true}"),
            ("{.missing}", ""),
            ("{..status}", "True False"),
            ("{.items[0]['n','s']}", "1 one"),
        ] {
            let rendered = Template::parse(template).map(|parsed| parsed.render(&document));
            assert_eq!(rendered.ok().as_deref(), Some(wanted), "{template}");
        }
        assert!(Template::parse("{.a").is_err());
        assert!(Template::parse("{range .a}").is_err());
    }
}

//! kubectl's JSONPath templates: text with `{…}` in it.
//!
//! Fields, `['…']`, indexes, slices, `[*]`, `..`, filters `[?(@.a=="b")]`, unions,
//! quoted text and `{range …}{end}`.

use std::{cell::Cell, collections::HashSet};

use serde_json::Value;

mod parse;

use parse::{bad, nodes};

/// Longest text that is read, in bytes.
pub const TEXT_MAX: usize = 64 * 1024;

/// Ranges and filters that may stand in one another.
pub const DEPTH_MAX: usize = 16;

/// Values that [`Template::find`] visits at most; what lies beyond is not found.
const FIND_VISITS: usize = 100_000;

/// Values that [`Template::render`] visits at most; what lies beyond is not shown.
const RENDER_VISITS: usize = 10_000_000;

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
    Root,
    Field(String),
    Every,
    Recursive,
    Index(Option<i64>, Option<i64>, bool),
    Union(Vec<Step>),
    Filter(Vec<Step>, Option<(&'static str, Operand)>),
}

#[derive(Clone, Debug)]
enum Operand {
    Literal(Value),
    Path(Vec<Step>),
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
    /// What is wrong with the text, also when it is longer than [`TEXT_MAX`] or nested
    /// deeper than [`DEPTH_MAX`].
    pub fn parse(text: &str) -> Result<Self> {
        let text = if text.contains('{') {
            text.to_owned()
        } else if text.starts_with(['.', '[', '$']) {
            format!("{{{text}}}")
        } else {
            format!("{{.{text}}}")
        };
        if text.len() > TEXT_MAX {
            return Err(bad("the text is too long"));
        }
        let mut rest = text.as_str();
        let nodes = nodes(&mut rest, 0)?;
        Ok(Self(nodes))
    }

    /// Reads the one path of a printer column, without its braces: `.a.b`.
    ///
    /// # Errors
    /// As [`Self::parse`], and when the text does not begin with a path.
    pub fn parse_path(text: &str) -> Result<Self> {
        let mut template = Self::parse(&format!("{{{text}}}"))?;
        // What follows the first path is read, but not shown.
        template.0.truncate(1);
        match template.0.as_slice() {
            [Node::Path(steps)] if steps.is_empty() => Ok(Self::nothing()),
            [Node::Path(_)] => Ok(template),
            _ => Err(bad("not a single path")),
        }
    }

    /// The template filled from a document.
    #[must_use]
    pub fn render(&self, document: &Value) -> String {
        let mut out = String::new();
        Walk::new(document, RENDER_VISITS).render(&self.0, document, &mut out);
        out
    }

    /// What a template of one path finds.
    #[must_use]
    pub fn find<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        match self.0.as_slice() {
            [Node::Path(steps)] => Walk::new(document, FIND_VISITS).walk(steps, document),
            _ => Vec::new(),
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

/// One evaluation. It ends after a number of visits: unions, ranges and filters in
/// one another multiply, and whoever may write a definition may write those.
struct Walk<'a> {
    root: &'a Value,
    visits: Cell<usize>,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Value, visits: usize) -> Self {
        Self {
            root,
            visits: Cell::new(visits),
        }
    }

    /// Whether one more value may be looked at.
    fn visit(&self) -> bool {
        let left = self.visits.get();
        self.visits.set(left.saturating_sub(1));
        left > 0
    }

    fn render(&self, nodes: &[Node], current: &'a Value, out: &mut String) {
        for node in nodes {
            if !self.visit() {
                return;
            }
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Path(steps) => {
                    let found = self.walk(steps, current);
                    let found: Vec<String> = found.into_iter().map(show).collect();
                    out.push_str(&found.join(" "));
                }
                Node::Range(steps, body) => {
                    for item in self.walk(steps, current) {
                        self.render(body, item, out);
                    }
                }
            }
        }
    }

    fn walk(&self, steps: &[Step], start: &'a Value) -> Vec<&'a Value> {
        let mut values = vec![start];
        for step in steps {
            let mut found = Vec::new();
            if matches!(step, Step::Recursive) {
                self.descend(values, &mut found);
            } else {
                for value in values {
                    self.apply(step, value, &mut found);
                }
            }
            values = found;
        }
        values
    }

    /// The containers here and below that hold something, parents first, each once.
    fn descend(&self, mut stack: Vec<&'a Value>, found: &mut Vec<&'a Value>) {
        let mut seen = HashSet::new();
        stack.reverse();
        while let Some(value) = stack.pop() {
            if !self.visit() {
                return;
            }
            let below = children(value);
            if below.is_empty() || !seen.insert(std::ptr::from_ref(value)) {
                continue;
            }
            found.push(value);
            stack.extend(below.into_iter().rev());
        }
    }

    fn apply(&self, step: &Step, value: &'a Value, found: &mut Vec<&'a Value>) {
        if !self.visit() {
            return;
        }
        match step {
            Step::Root => found.push(self.root),
            Step::Field(name) => found.extend(value.get(name)),
            Step::Every => found.extend(children(value).into_iter().take_while(|_| self.visit())),
            Step::Recursive => self.descend(vec![value], found),
            Step::Index(from, to, slice) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                found.extend(
                    indexed(items, *from, *to, *slice)
                        .iter()
                        .take_while(|_| self.visit()),
                );
            }
            Step::Union(steps) => {
                for step in steps {
                    self.apply(step, value, found);
                }
            }
            Step::Filter(path, test) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                for item in items {
                    if !self.visit() {
                        return;
                    }
                    if self.passes(item, path, test.as_ref()) {
                        found.push(item);
                    }
                }
            }
        }
    }

    fn passes(
        &self,
        item: &'a Value,
        path: &[Step],
        test: Option<&(&'static str, Operand)>,
    ) -> bool {
        let left = self.walk(path, item);
        let Some(left) = left.first() else {
            return false;
        };
        match test {
            None => true,
            Some((operator, Operand::Literal(right))) => compare(left, operator, right),
            Some((operator, Operand::Path(right))) => {
                let right = self.walk(right, item);
                right
                    .first()
                    .is_some_and(|right| compare(left, operator, right))
            }
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn indexed(items: &[Value], from: Option<i64>, to: Option<i64>, slice: bool) -> &[Value] {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let absolute = |index: i64| {
        if index < 0 {
            index.saturating_add(length)
        } else {
            index
        }
    };
    let (from, to) = if slice {
        let clamped = |index: i64| absolute(index).clamp(0, length);
        (clamped(from.unwrap_or(0)), clamped(to.unwrap_or(length)))
    } else {
        let from = absolute(from.unwrap_or(0));
        (from, from.saturating_add(1))
    };
    match (usize::try_from(from), usize::try_from(to)) {
        (Ok(from), Ok(to)) => items.get(from..to).unwrap_or_default(),
        _ => &[],
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
            ("{.metadata.annotations['x.y/z']}", ""),
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
        for broken in [
            "{.a[}",
            "{.a[x]}",
            "{.a[\"b\"]}",
            "{.a[(@.length-1)]}",
            "{.a[?(@.b==1 && @.c==2)]}",
            "{.a[?(!@.b)]}",
        ] {
            assert!(Template::parse(broken).is_err(), "{broken}");
        }
        assert!(Template::parse("{.a").is_err());
        assert!(Template::parse("{range .a}").is_err());
    }

    #[test]
    fn quotes_protect_operators_and_commas() {
        let document = json!({
            "items": [{"a": "x==y", "n": 1}, {"a": "z", "n": 2}],
            "names": {"a,b": "both", "c": "one"},
            "want": "z",
        });
        for (template, wanted) in [
            ("{.items[?(@.a!=\"x==y\")].n}", "2"),
            ("{.items[?(@.a==\"x==y\")].n}", "1"),
            ("{.items[?(@['a']=='z')].n}", "2"),
            ("{.items[?(@.a==$.want)].n}", "2"),
            ("{.names['a,b']}", "both"),
            ("{.names['a,b','c']}", "both one"),
            ("{.items[0,1].n}", "1 2"),
            ("{.names[?(@.x)]}", ""),
        ] {
            let rendered = Template::parse(template).map(|parsed| parsed.render(&document));
            assert_eq!(rendered.ok().as_deref(), Some(wanted), "{template}");
        }
    }

    #[test]
    fn the_root_is_the_document_wherever_a_path_is_looked_for() {
        let document = json!({"a": {"b": 1}});
        let template = Template::parse("{$.a.b}").expect("a path");
        assert_eq!(template.find(&document), [&json!(1)]);
        assert_eq!(template.render(&document), "1");
    }

    #[test]
    fn a_descent_finds_every_container_once() {
        let document = json!({"status": "up", "a": {"status": "down", "a": {"status": "off"}}});
        let found = |text: &str| {
            let template = Template::parse(text).expect("a path");
            template.find(&document).len()
        };
        assert_eq!(found("{..status}"), 3);
        assert_eq!(found("{..a..status}"), 2);
        assert_eq!(found("{........status}"), 3);
    }

    #[test]
    fn a_column_is_one_single_path() {
        assert!(Template::parse_path(".spec.size").is_ok());
        assert!(Template::parse_path(".conditions[?(@.type==\"Ready\")].status").is_ok());
        let document = json!({"a": 1, "b": 2});
        for text in [".a}{.b", ".a} and {.b", ".a}{range .b}{.c}{end}{.d"] {
            // Kubernetes shows the first and says nothing of the rest.
            let path = Template::parse_path(text).expect(text);
            assert_eq!(path.find(&document), [&json!(1)], "{text}");
        }
        assert!(Template::parse_path("range .a}{end").is_err());
    }

    #[test]
    fn nesting_and_length_are_bounded() {
        let many = 20_000;
        let ranges = format!("{{.a}}{}", "{range .b}".repeat(many / 4));
        let filters = format!("{{.a{}", "[?(@.b".repeat(many / 3));
        let closed = format!("{{.a{}{}}}", "[?(@.b".repeat(500), ")]".repeat(500));
        let long = format!("{{{}}}", ".a".repeat(TEXT_MAX));
        for text in [ranges, filters, closed, long] {
            assert!(Template::parse(&text).is_err());
        }
    }

    #[test]
    fn what_multiplies_ends() {
        let mut document = json!([1]);
        for _ in 0..60 {
            document = json!([document, 1]);
        }
        let unions = format!("{{{}}}", "[0,0,0,0]".repeat(50));
        let descents = format!("{{{}}}", "..[0,1]".repeat(60));
        let filters = format!("{{..{}{}}}", "[?(@..".repeat(10), "*)]".repeat(10));
        for text in [unions, descents, filters] {
            if let Ok(template) = Template::parse(&text) {
                assert!(template.find(&document).len() <= FIND_VISITS, "{text}");
            }
        }
    }

    #[test]
    fn random_texts_are_read_or_refused() {
        const WORDS: &[&str] = &[
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            "?(",
            "@",
            "$",
            ".",
            "..",
            "*",
            "a",
            "b",
            "0",
            "-1",
            ":",
            ",",
            "'",
            "\"",
            "\\",
            "==",
            "<",
            "range ",
            "{end}",
            "\u{e4}",
            " ",
            "{range .a}",
            "[?(@.a==1)]",
            "9223372036854775807",
            "-9223372036854775808",
        ];
        let document = json!({"a": [1, {"b": [[], {}, "c"]}], "b": {"a": null}});
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let count = u64::try_from(WORDS.len()).unwrap_or(1);
                text.push_str(WORDS[usize::try_from(state % count).unwrap_or(0)]);
            }
            if let Ok(template) = Template::parse(&text) {
                let _ = (template.find(&document), template.render(&document));
            }
        }
    }
}

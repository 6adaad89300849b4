//! JSON as Go's `encoding/json` reads it, with the errors it gives.
//!
//! A parser of our own, because `serde_json` can neither report duplicate keys nor
//! bound the depth where we want it, and because clients grep Go's error texts.

use std::fmt;

use serde_json::{Map, Number, Value};

/// Nesting that a body may have. Go stops at 10,000; every tree walk of ours is
/// recursive, and a thousand levels fit on a worker's stack in unoptimised builds.
pub const DEPTH_MAX: usize = 1_000;

/// A parsed document.
#[derive(Debug)]
pub struct Parsed {
    /// The document; of duplicate keys the last one.
    pub value: Value,
    /// The paths of keys that came twice: `data.a`, `spec.items[0].x`.
    pub duplicates: Vec<String>,
}

/// Why bytes are no JSON document, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(pub String);

/// Parses one document.
///
/// # Errors
/// The first syntax error.
pub fn parse(bytes: &[u8]) -> Result<Parsed, SyntaxError> {
    let mut parser = Parser {
        bytes,
        at: 0,
        depth: 0,
        duplicates: Vec::new(),
        paths: None,
    };
    let value = parser.document()?;
    Ok(Parsed {
        value,
        duplicates: parser.duplicates,
    })
}

/// The paths of all members in the order in which the document names them.
///
/// # Errors
/// The first syntax error.
pub fn member_paths(bytes: &[u8]) -> Result<Vec<String>, SyntaxError> {
    let mut parser = Parser {
        bytes,
        at: 0,
        depth: 0,
        duplicates: Vec::new(),
        paths: Some(Vec::new()),
    };
    parser.document()?;
    Ok(parser.paths.unwrap_or_default())
}

/// Parses a document that we wrote ourselves.
///
/// # Errors
/// The first syntax error.
pub fn parse_trusted(bytes: &[u8]) -> Result<Value, SyntaxError> {
    parse(bytes).map(|parsed| parsed.value)
}

/// The way from the root to the value being parsed.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => {
                let dot = self
                    .parent
                    .is_some_and(|parent| !matches!(parent.step, Step::Root));
                write!(f, "{}{key}", if dot { "." } else { "" })
            }
        }
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    duplicates: Vec<String>,
    /// Where the paths of members are kept, if somebody wants them.
    paths: Option<Vec<String>>,
}

type Parse<T> = Result<T, SyntaxError>;

impl Parser<'_> {
    fn document(&mut self) -> Parse<Value> {
        let value = self.value(&Place {
            parent: None,
            step: Step::Root,
        })?;
        self.blanks();
        match self.peek() {
            None => Ok(value),
            Some(_) => Err(self.unexpected("after top-level value")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The error about the byte here, or about the end.
    fn unexpected(&self, context: &str) -> SyntaxError {
        match self.peek() {
            None => SyntaxError("unexpected end of JSON input".to_owned()),
            Some(byte) => SyntaxError(format!("invalid character {} {context}", quoted(byte))),
        }
    }

    fn value(&mut self, place: &Place<'_>) -> Parse<Value> {
        self.blanks();
        match self.peek() {
            Some(b'{') => self.nested(|parser| parser.object(place)),
            Some(b'[') => self.nested(|parser| parser.array(place)),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Parse<Value>) -> Parse<Value> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(SyntaxError("exceeded max depth".to_owned()));
        }
        self.at += 1;
        let value = parse(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self, place: &Place<'_>) -> Parse<Value> {
        let mut members = Map::new();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.blanks();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            let here = Place {
                parent: Some(place),
                step: Step::Key(&key),
            };
            if let Some(paths) = &mut self.paths {
                paths.push(here.to_string());
            }
            let value = self.value(&here)?;
            if members.contains_key(&key) {
                let path = here.to_string();
                if !self.duplicates.contains(&path) {
                    self.duplicates.push(path);
                }
            }
            members.insert(key, value);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(members));
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
    }

    fn array(&mut self, place: &Place<'_>) -> Parse<Value> {
        let mut items = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            let here = Place {
                parent: Some(place),
                step: Step::Index(items.len()),
            };
            let item = self.value(&here)?;
            items.push(item);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                _ => return Err(self.unexpected("after array element")),
            }
        }
    }

    fn literal(&mut self, word: &str, value: Value) -> Parse<Value> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                let context = format!("in literal {word} (expecting {})", quoted(expected));
                return Err(self.unexpected(&context));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Parse<Value> {
        let start = self.at;
        let mut integral = true;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else if self.digits() == 0 {
            return Err(self.unexpected("in numeric literal"));
        }
        if self.peek() == Some(b'.') {
            integral = false;
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.unexpected("after decimal point in numeric literal"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integral = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.unexpected("in exponent of numeric literal"));
            }
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default();
        if integral && let Ok(number) = text.parse::<i64>() {
            return Ok(Value::Number(number.into()));
        }
        text.parse::<f64>()
            .ok()
            .and_then(Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| {
                SyntaxError(format!(
                    "json: cannot unmarshal number {text} into Go value of type float64"
                ))
            })
    }

    fn string(&mut self) -> Parse<String> {
        self.at += 1;
        let mut out: Vec<u8> = Vec::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.extend_from_slice(&self.bytes[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(match String::from_utf8(out) {
                        Ok(text) => text,
                        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
                    });
                }
                Some(b'\\') => {
                    self.at += 1;
                    let character = self.escape()?;
                    let mut buffer = [0; 4];
                    out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                }
                _ => return Err(self.unexpected("in string")),
            }
        }
    }

    fn escape(&mut self) -> Parse<char> {
        let character = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(character)
    }

    fn hex4(&mut self) -> Parse<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn unicode_escape(&mut self) -> Parse<char> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            // A lone surrogate: the second escape stands for itself.
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

/// A byte as Go's scanner quotes it.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        b'\t' => "'\\t'".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        0x07 => "'\\a'".to_owned(),
        0x08 => "'\\b'".to_owned(),
        0x0b => "'\\v'".to_owned(),
        0x0c => "'\\f'".to_owned(),
        0..=0x1f | 0x7f => format!("'\\x{byte:02x}'"),
        // What is not printed, and the soft hyphen.
        0x80..=0xa0 | 0xad => format!("'\\u00{byte:02x}'"),
        _ => format!("'{}'", byte as char),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_go_quotes_runes() {
        for (byte, expect) in [
            (b'a', "'a'"),
            (b'\'', r"'\''"),
            (0x07, r"'\a'"),
            (0x01, r"'\x01'"),
            (0x7f, r"'\x7f'"),
            (0x9e, r"'\u009e'"),
            (0xad, r"'\u00ad'"),
            (0xe9, "'é'"),
        ] {
            assert_eq!(quoted(byte), expect);
        }
    }

    #[test]
    fn members_are_listed_as_the_document_has_them() {
        let paths = member_paths(br#"{"z":{"b":[{"y":1},{"x":2}]},"a":1}"#);
        assert_eq!(
            paths.expect("JSON"),
            ["z", "z.b", "z.b[0].y", "z.b[1].x", "a"]
        );
    }

    #[test]
    fn documents_read_like_serde_json_reads_them() {
        for text in [
            "{}",
            "[]",
            " { \"a\" : [ 1 , -2.5e3, true , false, null, \"x\\n\\u00e4\\ud83d\\ude00\" ] } ",
            "9223372036854775807",
        ] {
            let expect: Value = serde_json::from_str(text).expect("valid");
            assert_eq!(
                parse(text.as_bytes()).expect("valid").value,
                expect,
                "{text}"
            );
        }
    }

    #[test]
    fn errors_are_those_of_go() {
        let check = |text: &str, expect: &str| {
            let error = parse(text.as_bytes()).expect_err(text);
            assert_eq!(error.0, expect, "{text}");
        };
        check("", "unexpected end of JSON input");
        check(
            "plain",
            "invalid character 'p' looking for beginning of value",
        );
        check("{\"a\" 1}", "invalid character '1' after object key");
        check(
            "{\"a\":1 \"b\"}",
            "invalid character '\"' after object key:value pair",
        );
        check(
            "{a:1}",
            "invalid character 'a' looking for beginning of object key string",
        );
        check("[1 2]", "invalid character '2' after array element");
        check("{} {}", "invalid character '{' after top-level value");
        check("tru", "unexpected end of JSON input");
        check(
            "trux",
            "invalid character 'x' in literal true (expecting 'e')",
        );
        check(&"[".repeat(DEPTH_MAX + 1), "exceeded max depth");
    }

    #[test]
    fn duplicates_are_named_by_their_path() {
        let parsed = parse(br#"{"a":1,"b":{"c":1,"c":2},"a":2,"l":[{"x":1,"x":1}],"a":3}"#);
        let parsed = parsed.expect("valid");
        assert_eq!(parsed.duplicates, ["b.c", "a", "l[0].x"]);
        assert_eq!(parsed.value["a"], 3);
    }
}

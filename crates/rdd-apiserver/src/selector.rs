//! Label and field selectors.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    catalog::{Resource, SelectableField},
    status::{ApiError, ApiResult},
};

/// What a list or watch is narrowed to; an empty selector takes everything.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<LabelRequirement>,
    name: Vec<FieldRequirement<()>>,
    namespace: Vec<FieldRequirement<()>>,
    fields: Vec<FieldRequirement<SelectableField>>,
}

#[derive(Clone, Debug)]
struct LabelRequirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug)]
enum Operator {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    NotExists,
    GreaterThan(i64),
    LessThan(i64),
}

#[derive(Clone, Debug)]
struct FieldRequirement<F> {
    field: F,
    equal: bool,
    value: String,
}

impl<F> FieldRequirement<F> {
    fn accepts(&self, value: &str) -> bool {
        (self.value == value) == self.equal
    }
}

impl Selector {
    /// Parses both selectors for a resource.
    ///
    /// # Errors
    /// 400 with the parser's words, or for a field that cannot be selected by.
    pub fn parse(
        resource: &Resource,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> ApiResult<Self> {
        let mut selector = Self::default();
        if let Some(labels) = labels {
            selector.labels = parse_labels(labels).map_err(ApiError::bad_request)?;
        }
        for (field, equal, value) in
            parse_fields(fields.unwrap_or_default()).map_err(ApiError::bad_request)?
        {
            match field.as_str() {
                "metadata.name" => {
                    selector.name.push(FieldRequirement {
                        field: (),
                        equal,
                        value,
                    });
                }
                // Of the built-ins of the cluster, only Namespaces know that they have none.
                "metadata.namespace"
                    if resource.is_namespaced()
                        || !(resource.is_custom() || resource.selects_fields()) =>
                {
                    selector.namespace.push(FieldRequirement {
                        field: (),
                        equal,
                        value,
                    });
                }
                other => {
                    let known = resource
                        .selectable_fields
                        .iter()
                        .find(|one| one.label == other);
                    let field = known
                        .cloned()
                        .ok_or_else(|| unknown_field(resource, other))?;
                    selector.fields.push(FieldRequirement {
                        field,
                        equal,
                        value,
                    });
                }
            }
        }
        Ok(selector)
    }

    /// The one name that the field selector fixes; such a request is about that object.
    #[must_use]
    pub fn fixed_name(&self) -> Option<&str> {
        self.name
            .iter()
            .find(|one| one.equal)
            .map(|one| one.value.as_str())
    }

    /// Restricts to one name, as the legacy watch path does.
    pub fn fix_name(&mut self, name: &str) {
        self.name.push(FieldRequirement {
            field: (),
            equal: true,
            value: name.to_owned(),
        });
    }

    /// Whether it takes everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.takes_all_keys() && !self.reads_labels() && !self.reads_fields()
    }

    fn takes_all_keys(&self) -> bool {
        self.name.is_empty() && self.namespace.is_empty()
    }

    /// Whether labels decide.
    #[must_use]
    pub fn reads_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Whether fields of the object beyond its name and namespace decide.
    #[must_use]
    pub fn reads_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Whether the place of an object, `name` or `namespace/name`, is acceptable.
    #[must_use]
    pub fn accepts_place(&self, place: &str) -> bool {
        if self.takes_all_keys() {
            return true;
        }
        let (namespace, name) = place.split_once('/').unwrap_or(("", place));
        self.name.iter().all(|one| one.accepts(name))
            && self.namespace.iter().all(|one| one.accepts(namespace))
    }

    /// Whether labels are acceptable.
    pub fn accepts_labels<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.labels.iter().all(|one| {
            let value = get(&one.key);
            match &one.operator {
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Operator::Exists => value.is_some(),
                Operator::NotExists => value.is_none(),
                Operator::GreaterThan(than) => number(value).is_some_and(|value| value > *than),
                Operator::LessThan(than) => number(value).is_some_and(|value| value < *than),
            }
        })
    }

    /// Whether the selectable fields of an object (in the resource's version) are acceptable.
    #[must_use]
    pub fn accepts_fields(&self, resource: &Resource, object: &Value) -> bool {
        self.fields
            .iter()
            .all(|one| one.accepts(&resource.strategy.field_value(&one.field, object)))
    }

    /// Whether labels and fields of a parsed object are acceptable.
    #[must_use]
    pub fn accepts_object(&self, resource: &Resource, object: &Value) -> bool {
        let labels = object
            .get("metadata")
            .and_then(|metadata| metadata.get("labels"));
        self.accepts_labels(|key| labels?.get(key)?.as_str())
            && self.accepts_fields(resource, object)
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

fn unknown_field(resource: &Resource, field: &str) -> ApiError {
    if resource.is_custom() || resource.selects_fields() {
        return ApiError::bad_request(format!("field label not supported: {field}"));
    }
    ApiError::bad_request(format!(
        "\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    ))
}

/// The requirements of a field selector: field, whether equal, value.
/// Whether a text is a field selector, whatever it selects by.
pub(crate) fn reads_as_fields(text: &str) -> bool {
    parse_fields(text).is_ok()
}

/// Whether a text is a label selector.
pub(crate) fn reads_as_labels(text: &str) -> bool {
    parse_labels(text).is_ok()
}

fn parse_fields(text: &str) -> Result<Vec<(String, bool, String)>, String> {
    let mut requirements = Vec::new();
    let mut terms = split_unescaped(text);
    terms.sort_unstable();
    for term in terms {
        if term.is_empty() {
            continue;
        }
        let bytes = term.as_bytes();
        let mut at = 0;
        let operator = loop {
            match bytes.get(at) {
                None => {
                    return Err(format!(
                        "invalid selector: '{text}'; can't understand '{term}'"
                    ));
                }
                Some(b'\\') => at += 2,
                Some(b'!') if bytes.get(at + 1) == Some(&b'=') => break (false, 2),
                Some(b'=') if bytes.get(at + 1) == Some(&b'=') => break (true, 2),
                Some(b'=') => break (true, 1),
                Some(_) => at += 1,
            }
        };
        let (equal, width) = operator;
        let value = unescape(&term[at + width..])?;
        requirements.push((term[..at].to_owned(), equal, value));
    }
    Ok(requirements)
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(next) => {
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: \\{next}"
                    ));
                }
                None => {
                    return Err("invalid field selector: invalid escape sequence: \\".to_owned());
                }
            },
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(character)
                ));
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

// === label selectors ===

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Identifier(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn literal(&self) -> &str {
        match self {
            Self::Identifier(text) => text,
            Self::Symbol(symbol) => symbol,
            Self::End => "",
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl Tokens<'_> {
    fn next(&mut self) -> Token {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        for symbol in ["==", "!=", "=", "!", "(", ")", ",", "<", ">"] {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                self.rest = rest;
                return Token::Symbol(symbol);
            }
        }
        let end = self
            .rest
            .find(|character: char| " \t\r\n=!(),<>".contains(character))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "" => Token::End,
            "in" => Token::Symbol("in"),
            "notin" => Token::Symbol("notin"),
            word => Token::Identifier(word.to_owned()),
        }
    }

    fn peek(&self) -> Token {
        Tokens { rest: self.rest }.next()
    }

    /// The next token where a value is expected: there `in` is a word like any other.
    fn peek_value(&self) -> Token {
        match self.peek() {
            Token::Symbol(word @ ("in" | "notin")) => Token::Identifier(word.to_owned()),
            other => other,
        }
    }
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, String> {
    let mut tokens = Tokens { rest: text };
    let mut requirements = Vec::new();
    loop {
        match tokens.peek_value() {
            Token::Identifier(_) | Token::Symbol("!") => {
                let requirement = parse_requirement(&mut tokens)
                    .map_err(|error| format!("unable to parse requirement: {error}"))?;
                requirements.push(requirement);
                match tokens.next() {
                    Token::End => return Ok(requirements),
                    Token::Symbol(",") => {
                        let next = tokens.peek_value();
                        if !matches!(next, Token::Identifier(_) | Token::Symbol("!")) {
                            return Err(format!(
                                "found '{}', expected: identifier after ','",
                                next.literal()
                            ));
                        }
                    }
                    other => {
                        return Err(format!(
                            "found '{}', expected: ',' or 'end of string'",
                            other.literal()
                        ));
                    }
                }
            }
            Token::End => return Ok(requirements),
            other => {
                return Err(format!(
                    "found '{}', expected: !, identifier, or 'end of string'",
                    other.literal()
                ));
            }
        }
    }
}

fn parse_requirement(tokens: &mut Tokens<'_>) -> Result<LabelRequirement, String> {
    let negated = tokens.peek() == Token::Symbol("!");
    if negated {
        tokens.next();
    }
    let key = match tokens.peek_value() {
        Token::Identifier(key) => {
            tokens.next();
            key
        }
        other => return Err(format!("found '{}', expected: identifier", other.literal())),
    };
    check_key(&key)?;
    if negated {
        return Ok(LabelRequirement {
            key,
            operator: Operator::NotExists,
        });
    }
    let operator = match tokens.peek() {
        Token::End | Token::Symbol(",") => {
            return Ok(LabelRequirement {
                key,
                operator: Operator::Exists,
            });
        }
        Token::Symbol(symbol @ ("in" | "notin" | "=" | "==" | "!=" | ">" | "<")) => symbol,
        other => {
            return Err(format!(
                "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                other.literal()
            ));
        }
    };
    tokens.next();
    let values = match operator {
        "in" | "notin" => parse_values(tokens)?,
        _ => BTreeSet::from([parse_exact_value(tokens)?]),
    };
    let operator = match operator {
        "in" | "=" | "==" => {
            check_values(&key, &values)?;
            Operator::In(values)
        }
        "notin" | "!=" => {
            check_values(&key, &values)?;
            Operator::NotIn(values)
        }
        greater_or_less => {
            let text = values.iter().next().map(String::as_str).unwrap_or_default();
            let number = text.parse().map_err(|_| {
                format!(
                    "values[0]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                    crate::object::quote(text)
                )
            })?;
            check_values(&key, &values)?;
            if greater_or_less == ">" {
                Operator::GreaterThan(number)
            } else {
                Operator::LessThan(number)
            }
        }
    };
    Ok(LabelRequirement { key, operator })
}

fn check_values(key: &str, values: &BTreeSet<String>) -> Result<(), String> {
    for (index, value) in values.iter().enumerate() {
        if let Some(wrong) = rdd_schema::names::label_value(value).first() {
            return Err(format!(
                "values[{index}][{key}]: Invalid value: {}: {wrong}",
                crate::object::quote(value)
            ));
        }
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), String> {
    match rdd_schema::names::qualified_name(key).as_slice() {
        [] => Ok(()),
        wrong => Err(format!(
            "<nil>: Invalid value: {}: {}",
            crate::object::quote(key),
            wrong.join("; ")
        )),
    }
}

fn parse_values(tokens: &mut Tokens<'_>) -> Result<BTreeSet<String>, String> {
    let open = tokens.next();
    if open != Token::Symbol("(") {
        return Err(format!("found '{}' expected: '('", open.literal()));
    }
    let mut values = BTreeSet::new();
    loop {
        match tokens.peek_value() {
            Token::Identifier(value) => {
                tokens.next();
                values.insert(value);
                match tokens.next() {
                    Token::Symbol(")") => return Ok(values),
                    Token::Symbol(",") => {
                        if tokens.peek() == Token::Symbol(")") {
                            tokens.next();
                            values.insert(String::new());
                            return Ok(values);
                        }
                    }
                    other => {
                        return Err(format!("found '{}', expected: ',' or ')'", other.literal()));
                    }
                }
            }
            Token::Symbol(")") => {
                tokens.next();
                values.insert(String::new());
                return Ok(values);
            }
            Token::Symbol(",") => {
                tokens.next();
                values.insert(String::new());
                if tokens.peek() == Token::Symbol(")") {
                    tokens.next();
                    return Ok(values);
                }
            }
            other => {
                return Err(format!(
                    "found '{}', expected: ',', ')' or identifier",
                    other.literal()
                ));
            }
        }
    }
}

fn parse_exact_value(tokens: &mut Tokens<'_>) -> Result<String, String> {
    match tokens.peek_value() {
        Token::End | Token::Symbol(",") => Ok(String::new()),
        Token::Identifier(value) => {
            tokens.next();
            Ok(value)
        }
        other => Err(format!("found '{}', expected: identifier", other.literal())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector = Selector {
            labels: parse_labels(selector).expect(selector),
            ..Selector::default()
        };
        selector.accepts_labels(|key| {
            labels
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| *value)
        })
    }

    #[test]
    fn label_selectors_select() {
        let labels = &[("a", "b"), ("n", "5")];
        for selector in [
            "a=b",
            "a==b",
            "a in (b,c)",
            "a",
            "!x",
            "x!=1",
            "x notin (1)",
            "n>4",
            "n<6",
            "",
            "a=b,n",
        ] {
            assert!(accepts(selector, labels), "{selector}");
        }
        for selector in [
            "a=c",
            "a!=b",
            "a notin (b)",
            "x",
            "!a",
            "n>5",
            "x in (1)",
            "a=b,x",
        ] {
            assert!(!accepts(selector, labels), "{selector}");
        }
    }

    #[test]
    fn broken_label_selectors_are_refused_in_the_words_of_kubernetes() {
        let check = |selector: &str, expect: &str| {
            assert_eq!(parse_labels(selector).expect_err(selector), expect);
        };
        check(
            "=",
            "found '=', expected: !, identifier, or 'end of string'",
        );
        check("a=b=c", "found '=', expected: ',' or 'end of string'");
        check(
            "a in",
            "unable to parse requirement: found '' expected: '('",
        );
        check(
            "a in (b",
            "unable to parse requirement: found '', expected: ',' or ')'",
        );
        check(
            "a b",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        );
    }

    #[test]
    fn field_selectors_parse() {
        let terms = parse_fields("metadata.name=a,x!=b\\,c,y==d").expect("valid");
        assert_eq!(
            terms,
            [
                ("metadata.name".to_owned(), true, "a".to_owned()),
                ("x".to_owned(), false, "b,c".to_owned()),
                ("y".to_owned(), true, "d".to_owned()),
            ]
        );
        assert!(parse_fields("nope").is_err());
    }
}

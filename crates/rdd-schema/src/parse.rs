//! From a document to a [`Schema`].

use regex::RegexBuilder;
use serde_json::{Map, Number, Value};

use crate::go_regexp;
use crate::structural::{
    AdditionalProperties, Checks, ListType, MapType, PatchStrategy, Pattern, Schema, Type,
};

/// Memory that one compiled pattern may take.
const PATTERN_BYTES: usize = 1 << 20;

/// Levels of nesting beyond which a document is refused.
pub const DEPTH_MAX: usize = 512;

/// Why a document is no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A `pattern` does not compile, for this reason.
    #[error("error parsing regexp: {0}")]
    Pattern(String),
    /// The document is nested too deeply.
    #[error("the schema is nested deeper than {DEPTH_MAX} levels")]
    Depth,
}

impl Schema {
    /// Reads an `openAPIV3Schema`. Keywords of the wrong type are taken as absent:
    /// definitions are judged by [`crate::crd`] before.
    ///
    /// # Errors
    /// When a pattern does not compile or the nesting has no end.
    pub fn parse(document: &Value) -> Result<Self, ParseError> {
        node(document, 0)
    }

    /// Whether the node is a map with free keys.
    #[must_use]
    pub fn is_map(&self) -> bool {
        self.additional_properties.is_some()
    }

    /// The schema of one field, by property or as a value of a map.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        match (self.properties.get(name), &self.additional_properties) {
            (Some(field), _) => Some(field),
            (None, Some(AdditionalProperties::Schema(value))) => Some(value),
            _ => None,
        }
    }
}

/// Compiles a pattern within bounds.
pub(crate) fn pattern(text: &str) -> Result<Pattern, ParseError> {
    let translated = go_regexp::read(text).map_err(ParseError::Pattern)?;
    let regex = RegexBuilder::new(&translated)
        .size_limit(PATTERN_BYTES)
        .build();
    match regex {
        Ok(regex) => Ok(Pattern {
            text: text.to_owned(),
            regex,
        }),
        Err(_) => Err(ParseError::Pattern(format!(
            "expression too large: `{text}`"
        ))),
    }
}

fn node(document: &Value, depth: usize) -> Result<Schema, ParseError> {
    if depth > DEPTH_MAX {
        return Err(ParseError::Depth);
    }
    let empty = Map::new();
    let fields = document.as_object().unwrap_or(&empty);
    let word = |name: &str| fields.get(name).and_then(Value::as_str);
    let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut schema = Schema {
        r#type: word("type").and_then(Type::parse),
        nullable: flag("nullable"),
        preserve_unknown_fields: flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: flag("x-kubernetes-embedded-resource"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        description: word("description").map(str::to_owned),
        default: fields
            .get("default")
            .filter(|value| !value.is_null())
            .cloned(),
        ..Schema::default()
    };
    if schema.nullable && fields.get("default").is_some_and(Value::is_null) {
        schema.default = Some(Value::Null);
    }
    schema.list_type = match word("x-kubernetes-list-type") {
        Some("atomic") => Some(ListType::Atomic),
        Some("set") => Some(ListType::Set),
        Some("map") => Some(ListType::Map),
        _ => None,
    };
    schema.map_type = match word("x-kubernetes-map-type") {
        Some("granular") => Some(MapType::Granular),
        Some("atomic") => Some(MapType::Atomic),
        _ => None,
    };
    schema.list_map_keys = words(fields.get("x-kubernetes-list-map-keys"));
    schema.patch = match word("x-kubernetes-patch-strategy") {
        Some(strategy) if strategy.contains("merge") => {
            Some(match word("x-kubernetes-patch-merge-key") {
                Some(key) => PatchStrategy::MergeObjects(key.to_owned()),
                None => PatchStrategy::MergeScalars,
            })
        }
        _ => None,
    };
    for (name, child) in fields
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        schema
            .properties
            .insert(name.clone(), node(child, depth + 1)?);
    }
    schema.additional_properties = match fields.get("additionalProperties") {
        Some(Value::Bool(true)) => Some(AdditionalProperties::Any),
        Some(Value::Bool(false)) => Some(AdditionalProperties::None),
        Some(child @ Value::Object(_)) => Some(AdditionalProperties::Schema(Box::new(node(
            child,
            depth + 1,
        )?))),
        _ => None,
    };
    if let Some(child @ Value::Object(_)) = fields.get("items") {
        schema.items = Some(Box::new(node(child, depth + 1)?));
    }
    schema.rules = match fields.get("x-kubernetes-validations") {
        Some(Value::Array(rules)) => rules.clone(),
        _ => Vec::new(),
    };
    let checks = checks(fields, depth)?;
    schema.checks = (checks != Checks::default()).then(|| Box::new(checks));
    Ok(schema)
}

fn checks(fields: &Map<String, Value>, depth: usize) -> Result<Checks, ParseError> {
    let number = |name: &str| match fields.get(name) {
        Some(Value::Number(number)) => Some(number.clone()),
        _ => None,
    };
    let count = |name: &str| fields.get(name).and_then(Value::as_u64);
    let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
    let bound = |name: &str, exclusive: &str| -> Option<(Number, bool)> {
        Some((number(name)?, flag(exclusive)))
    };
    let junctor = |name: &str| -> Result<Vec<Schema>, ParseError> {
        let list = fields.get(name).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .map(|child| node(child, depth + 1))
            .collect()
    };
    Ok(Checks {
        format: fields
            .get("format")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
        minimum: bound("minimum", "exclusiveMinimum"),
        maximum: bound("maximum", "exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern: match fields.get("pattern").and_then(Value::as_str) {
            Some(text) if !text.is_empty() => Some(pattern(text)?),
            _ => None,
        },
        min_items: count("minItems"),
        max_items: count("maxItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        words: match fields.get("enum") {
            Some(Value::Array(words)) => words.clone(),
            _ => Vec::new(),
        },
        required: words(fields.get("required")),
        all_of: junctor("allOf")?,
        any_of: junctor("anyOf")?,
        one_of: junctor("oneOf")?,
        not: match fields.get("not") {
            Some(child @ Value::Object(_)) => Some(Box::new(node(child, depth + 1)?)),
            _ => None,
        },
    })
}

fn words(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|word| word.as_str().map(str::to_owned))
        .collect()
}

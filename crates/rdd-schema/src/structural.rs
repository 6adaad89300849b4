//! The parsed form of a structural schema.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Number, Value};

/// One node of a structural schema.
///
/// Absent keywords are `None`, `false` or empty. A node without any keyword
/// accepts everything and is treated as `x-kubernetes-preserve-unknown-fields`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// `type`; absent for int-or-string and for untyped preserve-unknown nodes.
    pub r#type: Option<Type>,
    /// `nullable`: an explicit `null` is kept and not replaced by the default.
    pub nullable: bool,
    /// `properties`, by field name.
    pub properties: BTreeMap<String, Schema>,
    /// `additionalProperties`: the node is a map with free keys.
    pub additional_properties: Option<AdditionalProperties>,
    /// `items`: the schema of every element of an array.
    pub items: Option<Box<Schema>>,
    /// `default`, already free of fields that the schema would prune.
    pub default: Option<Value>,
    /// `x-kubernetes-preserve-unknown-fields: true`.
    pub preserve_unknown_fields: bool,
    /// `x-kubernetes-embedded-resource: true`.
    pub embedded_resource: bool,
    /// `x-kubernetes-int-or-string: true`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`; absent means atomic.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-list-map-keys`, for [`ListType::Map`].
    pub list_map_keys: Vec<String>,
    /// `x-kubernetes-map-type`; absent means granular.
    pub map_type: Option<MapType>,
    /// Strategic-merge-patch behaviour of the list; built-in types only.
    pub patch: Option<PatchStrategy>,
    /// What a value must fulfil beyond its type; absent for most nodes.
    pub checks: Option<Box<Checks>>,
    /// `x-kubernetes-validations`, as written; kept as data.
    pub rules: Vec<Value>,
    /// `description`.
    pub description: Option<String>,
    /// The source document of this node, published through OpenAPI as it was written.
    pub document: Option<std::sync::Arc<Value>>,
}

/// What a value must fulfil beyond its type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checks {
    /// `format`.
    pub format: Option<String>,
    /// `minimum`, and whether it is excluded.
    pub minimum: Option<(Number, bool)>,
    /// `maximum`, and whether it is excluded.
    pub maximum: Option<(Number, bool)>,
    /// `multipleOf`.
    pub multiple_of: Option<Number>,
    /// `minLength`, in characters.
    pub min_length: Option<u64>,
    /// `maxLength`, in characters.
    pub max_length: Option<u64>,
    /// `pattern`.
    pub pattern: Option<Pattern>,
    /// `minItems`.
    pub min_items: Option<u64>,
    /// `maxItems`.
    pub max_items: Option<u64>,
    /// `minProperties`.
    pub min_properties: Option<u64>,
    /// `maxProperties`.
    pub max_properties: Option<u64>,
    /// `enum`; empty allows everything.
    pub words: Vec<Value>,
    /// `required`.
    pub required: Vec<String>,
    /// `allOf`.
    pub all_of: Vec<Schema>,
    /// `anyOf`.
    pub any_of: Vec<Schema>,
    /// `oneOf`.
    pub one_of: Vec<Schema>,
    /// `not`.
    pub not: Option<Box<Schema>>,
}

/// A compiled `pattern`. Matching takes linear time, as Go's RE2 does.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As written.
    pub text: String,
    /// Compiled.
    pub regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// A JSON type as OpenAPI v3 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A JSON object.
    Object,
    /// A JSON array.
    Array,
    /// A JSON string.
    String,
    /// A JSON number without fraction.
    Integer,
    /// A JSON number.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl Type {
    /// The word in a document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// The type of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Object,
            Self::Array,
            Self::String,
            Self::Integer,
            Self::Number,
            Self::Boolean,
        ]
        .into_iter()
        .find(|one| one.as_str() == word)
    }
}

/// `additionalProperties`: either a schema for every value, or anything.
#[derive(Clone, Debug, PartialEq)]
pub enum AdditionalProperties {
    /// `true`: any value.
    Any,
    /// `false`: no other key.
    None,
    /// Every value follows this schema.
    Schema(Box<Schema>),
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    Atomic,
    /// Scalars without duplicates, merged by value.
    Set,
    /// Objects, merged by [`Schema::list_map_keys`].
    Map,
}

/// `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    /// Merged key by key.
    Granular,
    /// Replaced as a whole.
    Atomic,
}

/// How strategic merge patch treats a list of a built-in type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchStrategy {
    /// Objects merged by this key.
    MergeObjects(String),
    /// Scalars united as a set.
    MergeScalars,
}

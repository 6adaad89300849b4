//! Values while an expression runs. Objects stay JSON until somebody looks into them.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use rdd_schema::{ListType, Schema};
use serde_json::Value as Json;

pub(crate) mod made;

use made::Made;

use crate::{
    budget::{Budget, Error, Result, size},
    library::{
        authorizer::{Asking, Authority, Check, Ruling},
        instant::Instant,
        quantity::Quantity,
        semver::Version,
        time,
        url::Url,
    },
    syntax::Literal,
};

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A list.
    List(List<'a>),
    /// A map, or an object.
    Map(Map<'a>),
    /// An object of a named type.
    Made(Arc<Made<'a>>),
    /// A point in time.
    Timestamp(Instant),
    /// Nanoseconds.
    Duration(i64),
    /// A type, by its name.
    Type(Arc<str>),
    /// Something or nothing.
    Optional(Option<Arc<Value<'a>>>),
    /// A URL.
    Url(Arc<Url>),
    /// An IP address.
    Ip(IpAddr),
    /// An address and the length of its prefix.
    Cidr(IpAddr, u8),
    /// A Kubernetes quantity.
    Quantity(Quantity),
    /// A semantic version.
    Semver(Arc<Version>),
    /// A named format.
    Format(&'static str),
    /// An authorizer, or a question to it that is not complete.
    Asking(Asking<'a>),
    /// What an authorizer has answered.
    Ruling(Arc<Ruling>),
}

/// Text, borrowed from JSON or shared.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Part of the bound JSON.
    Json(&'a str),
    /// A constant or a result.
    Shared(Arc<str>),
}

impl Text<'_> {
    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Json(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// A list; with a schema it may be a set or a map in disguise.
#[derive(Clone, Debug)]
pub struct List<'a> {
    items: Items<'a>,
    schema: Option<&'a Schema>,
}

#[derive(Clone, Debug)]
enum Items<'a> {
    Json(&'a [Json]),
    Owned(Arc<Vec<Value<'a>>>),
}

impl<'a> List<'a> {
    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.items {
            Items::Json(items) => items.len(),
            Items::Owned(items) => items.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One item.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match &self.items {
            Items::Json(items) => {
                let schema = self.schema.and_then(|schema| schema.items.as_deref());
                items.get(index).map(|item| Value::json(item, schema))
            }
            Items::Owned(items) => items.get(index).cloned(),
        }
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Whether an expression made it: what is JSON holds nothing but JSON.
    fn is_made(&self) -> bool {
        matches!(self.items, Items::Owned(_))
    }

    fn list_type(&self) -> Option<(ListType, &'a [String])> {
        let schema = self.schema?;
        Some((schema.list_type?, schema.list_map_keys.as_slice()))
            .filter(|(list_type, _)| *list_type != ListType::Atomic)
    }

    /// `self + other`: sets and maps are united, other lists are joined.
    pub(crate) fn joined(&self, other: &Self, budget: &mut Budget) -> Result<Value<'a>> {
        // Each item takes memory as well.
        budget.spend(size(self.len() + other.len()) / 2)?;
        let mut items: Vec<Value<'a>> = self.iter().collect();
        if let Some((_, keys)) = self.list_type() {
            let mut places = HashMap::new();
            for (index, item) in items.iter().enumerate() {
                places.insert(identity(item, keys, budget)?, index);
            }
            for item in other.iter() {
                match places.get(&identity(&item, keys, budget)?) {
                    Some(index) => items[*index] = item,
                    None => items.push(item),
                }
            }
        } else {
            items.extend(other.iter());
        }
        Ok(Value::List(List {
            items: Items::Owned(Arc::new(items)),
            schema: self.schema,
        }))
    }
}

/// What tells items of a set or of a map apart.
fn identity(item: &Value<'_>, keys: &[String], budget: &mut Budget) -> Result<String> {
    let mut text = String::new();
    if keys.is_empty() {
        item.print(&mut text, budget)?;
        return Ok(text);
    }
    for key in keys {
        if let Value::Map(map) = item
            && let Some(value) = map.get(&Key::from(key.as_str()))
        {
            value.print(&mut text, budget)?;
        }
        text.push('\0');
    }
    Ok(text)
}

/// A map, or an object with the fields of its schema.
#[derive(Clone, Debug)]
pub struct Map<'a> {
    entries: Entries<'a>,
    schema: Option<&'a Schema>,
}

#[derive(Clone, Debug)]
enum Entries<'a> {
    Json(&'a serde_json::Map<String, Json>),
    Owned(Arc<BTreeMap<Key, Value<'a>>>),
}

/// A key of a map. Numbers that are equal are one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `true` or `false`.
    Bool(bool),
    /// A number within the range of `int`.
    Int(i64),
    /// A larger one.
    Uint(u64),
    /// Text.
    String(Arc<str>),
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl Key {
    /// The key that a value is, if it can be one.
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Uint(value) => i64::try_from(*value).map_or(Self::Uint(*value), Self::Int),
            Value::Double(value) => Self::Int(exact(*value)?),
            Value::String(text) => Self::String(text.as_str().into()),
            _ => return None,
        })
    }

    fn value<'a>(&self) -> Value<'a> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(text) => Value::String(Text::Shared(Arc::clone(text))),
        }
    }
}

/// The integer that a double is.
pub(crate) fn exact(value: f64) -> Option<i64> {
    let whole = value.fract() == 0.0;
    // Up to here, every integer is a double of its own.
    (whole && value.abs() <= 9_007_199_254_740_992.0).then_some(value as i64)
}

impl<'a> Map<'a> {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.entries {
            Entries::Json(entries) => entries.len(),
            Entries::Owned(entries) => entries.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One value.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Value<'a>> {
        match (&self.entries, key) {
            (Entries::Json(_), Key::String(name)) => self.field(name),
            (Entries::Json(_), _) => None,
            (Entries::Owned(entries), key) => entries.get(key).cloned(),
        }
    }

    /// Whether there is a textual key.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match &self.entries {
            Entries::Json(entries) => entries.get(name).is_some_and(|value| self.shows(value)),
            Entries::Owned(entries) => entries.contains_key(&Key::from(name)),
        }
    }

    /// Whether an expression made it.
    fn is_made(&self) -> bool {
        matches!(self.entries, Entries::Owned(_))
    }

    /// Whether an entry is seen: a field that is null is none, other than in a map.
    fn shows(&self, value: &Json) -> bool {
        let fields = |schema: &Schema| schema.embedded_resource || !schema.properties.is_empty();
        !value.is_null() || !self.schema.is_some_and(fields)
    }

    /// The value of a textual key.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        match &self.entries {
            Entries::Json(entries) => {
                let value = entries.get(name).filter(|value| self.shows(value))?;
                let schema = self.schema.and_then(|schema| schema.field(name));
                Some(Value::json(value, schema))
            }
            Entries::Owned(entries) => entries.get(&Key::from(name)).cloned(),
        }
    }

    /// All entries, in the order of their keys.
    pub(crate) fn entries(&self) -> Vec<(Value<'a>, Value<'a>)> {
        match &self.entries {
            Entries::Json(entries) => {
                let pair = |(name, value): (&'a String, &'a Json)| {
                    let schema = self.schema.and_then(|schema| schema.field(name));
                    (Value::String(Text::Json(name)), Value::json(value, schema))
                };
                entries.iter().map(pair).collect()
            }
            Entries::Owned(entries) => entries
                .iter()
                .map(|(key, value)| (key.value(), value.clone()))
                .collect(),
        }
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(items: Vec<Value<'a>>) -> Self {
        Self::List(List {
            items: Items::Owned(Arc::new(items)),
            schema: None,
        })
    }
}

impl<'a> From<BTreeMap<Key, Value<'a>>> for Value<'a> {
    fn from(entries: BTreeMap<Key, Value<'a>>) -> Self {
        Self::Map(Map {
            entries: Entries::Owned(Arc::new(entries)),
            schema: None,
        })
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::String(Text::Shared(text.into()))
    }
}

impl From<&str> for Value<'_> {
    fn from(text: &str) -> Self {
        Self::String(Text::Shared(text.into()))
    }
}

impl<'a> Value<'a> {
    /// What `authorizer` stands for.
    #[must_use]
    pub fn authorizer(authority: &'a dyn Authority) -> Self {
        Self::Asking(Asking::about_anything(authority))
    }

    /// What `authorizer.requestResource` stands for: everything but the verb is known.
    #[must_use]
    pub fn resource_check(authority: &'a dyn Authority, check: Check) -> Self {
        Self::Asking(Asking::about_resource(authority, check))
    }

    /// A constant of an expression.
    pub(crate) fn of_literal(literal: &Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(value) => Self::Bool(*value),
            Literal::Int(value) => Self::Int(*value),
            Literal::Uint(value) => Self::Uint(*value),
            Literal::Double(value) => Self::Double(*value),
            Literal::String(text) => Self::String(Text::Shared(Arc::clone(text))),
            Literal::Bytes(bytes) => Self::Bytes(Arc::clone(bytes)),
        }
    }

    /// JSON as a value. Without a schema, numbers without fraction are `int`.
    #[must_use]
    pub fn json(json: &'a Json, schema: Option<&'a Schema>) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => {
                let is_double =
                    schema.is_some_and(|schema| schema.r#type == Some(rdd_schema::Type::Number));
                match number.as_i64() {
                    Some(value) if !is_double => Self::Int(value),
                    _ => Self::Double(number.as_f64().unwrap_or_default()),
                }
            }
            Json::String(text) => {
                let checks = schema.and_then(|schema| schema.checks.as_deref());
                let format = checks.and_then(|checks| checks.format.as_deref());
                let typed = match format {
                    Some("byte") => time::base64(text).map(|bytes| Self::Bytes(bytes.into())),
                    Some("date") => Instant::of_date(text).map(Self::Timestamp),
                    Some("date-time") => time::date_time(text).map(Self::Timestamp),
                    Some("duration") => time::long_duration(text).map(Self::Duration),
                    _ => None,
                };
                typed.unwrap_or(Self::String(Text::Json(text)))
            }
            Json::Array(items) => Self::List(List {
                items: Items::Json(items),
                schema,
            }),
            Json::Object(entries) => Self::Map(Map {
                entries: Entries::Json(entries),
                schema,
            }),
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Whether it is `true`.
    #[must_use]
    pub fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    /// The name of its type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Made(made) => made.type_name(),
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Asking(asking) => asking.type_name(),
            Self::Ruling(_) => "kubernetes.authorization.Decision",
        }
    }

    /// The name of its type in Go, which some errors of cel-go show.
    pub(crate) fn go_type(&self) -> &'static str {
        match self {
            Self::Null => "types.Null",
            Self::Bool(_) => "types.Bool",
            Self::Int(_) => "types.Int",
            Self::Uint(_) => "types.Uint",
            Self::Double(_) => "types.Double",
            Self::String(_) => "types.String",
            Self::Bytes(_) => "types.Bytes",
            Self::List(_) | Self::Map(_) => "traits.Iterable",
            Self::Made(_) => "*dynamic.ObjectVal",
            Self::Timestamp(_) => "types.Timestamp",
            Self::Duration(_) => "types.Duration",
            Self::Type(_) => "*types.Type",
            Self::Optional(_) => "*types.Optional",
            Self::Url(_) => "cel.URL",
            Self::Ip(_) => "cel.IP",
            Self::Cidr(..) => "cel.CIDR",
            Self::Quantity(_) => "cel.Quantity",
            Self::Semver(_) => "cel.Semver",
            Self::Format(_) => "*cel.Format",
            Self::Asking(_) | Self::Ruling(_) => "library.authorizerReceiverVal",
        }
    }

    /// Whether it can be compared with its own kind only.
    pub(crate) fn insists(&self) -> bool {
        matches!(
            self,
            Self::Url(_)
                | Self::Ip(_)
                | Self::Cidr(..)
                | Self::Quantity(_)
                | Self::Semver(_)
                | Self::Format(_)
        )
    }

    /// Whether both are of one type.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Characters, bytes, items or entries; one for everything else. This is what costs
    /// are counted by. Text counts its bytes, so that knowing it costs nothing.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::String(text) => size(text.as_str().len()),
            Self::Bytes(bytes) => size(bytes.len()),
            Self::List(list) => size(list.len()),
            Self::Map(map) => size(map.len()),
            Self::Url(url) => size(url.len()),
            Self::Cidr(IpAddr::V4(_), _) | Self::Ip(IpAddr::V4(_)) => 4,
            Self::Cidr(IpAddr::V6(_), _) | Self::Ip(IpAddr::V6(_)) => 16,
            _ => 1,
        }
    }

    /// Whether two values are the same. What it looks at below the first level is paid for.
    pub(crate) fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool> {
        Ok(match (self, other) {
            (Self::List(left), Self::List(right)) => lists_equal(left, right, budget)?,
            (Self::Map(left), Self::Map(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                budget.spend(size(left.len()) / 5)?;
                for (key, value) in left.entries() {
                    budget.spend(value.depth())?;
                    let same = Key::of(&key).and_then(|key| right.get(&key));
                    match same {
                        Some(other) if value.equals(&other, budget)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Self::Made(left), Self::Made(right)) => left.equals(right, budget)?,
            (Self::Optional(Some(left)), Self::Optional(Some(right))) => {
                left.equals(right, budget)?
            }
            (Self::Optional(left), Self::Optional(right)) => left.is_none() && right.is_none(),
            (Self::String(left), Self::String(right)) => {
                budget.spend(size(left.as_str().len().min(right.as_str().len())) / 100)?;
                left.as_str() == right.as_str()
            }
            (Self::Null, Self::Null) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::Bytes(left), Self::Bytes(right)) => {
                budget.spend(size(left.len().max(right.len())) / 10)?;
                left == right
            }
            (Self::Timestamp(left), Self::Timestamp(right)) => left == right,
            (Self::Duration(left), Self::Duration(right)) => left == right,
            (Self::Type(left), Self::Type(right)) => left == right,
            (Self::Url(left), Self::Url(right)) => left == right,
            (Self::Ip(left), Self::Ip(right)) => left == right,
            (Self::Cidr(left, bits), Self::Cidr(right, other)) => left == right && bits == other,
            (Self::Quantity(left), Self::Quantity(right)) => left == right,
            (Self::Semver(left), Self::Semver(right)) => left.cmp(right).is_eq(),
            (Self::Format(left), Self::Format(right)) => left == right,
            (Self::Asking(left), Self::Asking(right)) => left == right,
            (Self::Ruling(left), Self::Ruling(right)) => left == right,
            _ => self
                .compare_numbers(other)
                .is_some_and(std::cmp::Ordering::is_eq),
        })
    }

    /// The order of two numbers of any types.
    pub(crate) fn compare_numbers(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let whole = |value: &Self| match value {
            Self::Int(value) => Some(i128::from(*value)),
            Self::Uint(value) => Some(i128::from(*value)),
            _ => None,
        };
        let float = |value: &Self| match value {
            Self::Double(value) => Some(*value),
            _ => whole(value).map(|value| value as f64),
        };
        match (whole(self), whole(other)) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => float(self)?.partial_cmp(&float(other)?),
        }
    }

    /// What going down into the value costs, however little there is.
    fn depth(&self) -> u64 {
        match self {
            Self::List(_) | Self::Map(_) | Self::Made(_) => 3,
            _ => 0,
        }
    }

    /// Prints the value as a text that equal values have in common.
    fn print(&self, text: &mut String, budget: &mut Budget) -> Result<()> {
        use std::fmt::Write as _;
        budget.spend(1)?;
        match self {
            Self::String(inner) => {
                budget.spend(size(inner.as_str().len()) / 10)?;
                text.push('"');
                text.push_str(inner.as_str());
                text.push('"');
            }
            Self::List(list) => {
                for item in list.iter() {
                    item.print(text, budget)?;
                    text.push('\0');
                }
            }
            Self::Map(map) => {
                for (key, value) in map.entries() {
                    key.print(text, budget)?;
                    value.print(text, budget)?;
                }
            }
            Self::Made(made) => made.print(text, budget)?,
            Self::Double(value) => match exact(*value) {
                Some(whole) => write!(text, "{whole}").map_err(|_| Error::overload())?,
                None => write!(text, "{value}").map_err(|_| Error::overload())?,
            },
            Self::Int(value) => write!(text, "{value}").map_err(|_| Error::overload())?,
            other => {
                budget.spend(other.size())?;
                write!(text, "{other:?}").map_err(|_| Error::overload())?;
            }
        }
        Ok(())
    }
}

fn lists_equal(left: &List<'_>, right: &List<'_>, budget: &mut Budget) -> Result<bool> {
    if left.len() != right.len() {
        return Ok(false);
    }
    budget.spend(size(left.len()) / 4)?;
    if let Some((_, keys)) = left.list_type().or(right.list_type()) {
        let mut others = HashMap::new();
        for item in right.iter() {
            others.insert(identity(&item, keys, budget)?, item);
        }
        for item in left.iter() {
            match others.get(&identity(&item, keys, budget)?) {
                Some(other) if item.equals(other, budget)? => {}
                _ => return Ok(false),
            }
        }
        return Ok(true);
    }
    for (item, other) in left.iter().zip(right.iter()) {
        budget.spend(item.depth())?;
        if !item.equals(&other, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

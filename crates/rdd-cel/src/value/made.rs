//! Objects of named types, which expressions write out, and what becomes of values when
//! mutations are made of them.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map as Fields, Value as Json};

use super::{Value, exact};
use crate::{
    budget::{Budget, Error, Result, size, traversal},
    library::time,
    syntax::Access,
};

const PATCH: &str = "JSONPatch";

/// Up to here, every integer is a number of its own in JSON.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// An object that an expression wrote out.
#[derive(Clone, Debug)]
pub struct Made<'a> {
    name: Arc<str>,
    fields: BTreeMap<Arc<str>, Value<'a>>,
}

impl<'a> From<Made<'a>> for Value<'a> {
    fn from(made: Made<'a>) -> Self {
        Self::Made(Arc::new(made))
    }
}

impl<'a> Made<'a> {
    pub(crate) fn new(name: Arc<str>, fields: BTreeMap<Arc<str>, Value<'a>>) -> Result<Self> {
        if &*name == PATCH {
            let known = |field: &str| matches!(field, "op" | "path" | "from" | "value");
            if let Some(field) = fields.keys().find(|field| !known(field)) {
                return Err(Error::new(format!(
                    "unexpected JSONPatchType field: {field}"
                )));
            }
            for field in ["op", "path", "from"] {
                if let Some(value) = fields.get(field)
                    && value.as_str().is_none()
                {
                    return Err(Error::new(format!(
                        "unexpected type {} for JSONPatchType '{field}' field",
                        go_type(value)
                    )));
                }
            }
        }
        Ok(Self { name, fields })
    }

    /// The name of its type.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value<'a>> {
        self.fields.get(name)
    }

    /// The text of a field; empty when there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        let text = self.fields.get(name).and_then(Value::as_str);
        text.unwrap_or_default()
    }

    pub(super) fn type_name(&self) -> &'static str {
        if &*self.name == PATCH {
            PATCH
        } else {
            "Object"
        }
    }

    /// Reads a field.
    pub(crate) fn select(&self, name: &str, how: Access, optional: bool) -> Result<Value<'a>> {
        if &*self.name != PATCH {
            let found = self.fields.get(name).cloned();
            return match how {
                Access::Test => Ok(Value::Bool(found.is_some())),
                Access::Read if !optional => {
                    found.ok_or_else(|| Error::new(format!("no such key: {name}")))
                }
                _ => Ok(Value::Optional(found.map(Arc::new))),
            };
        }
        if !matches!(name, "op" | "path" | "from" | "value") {
            return Err(Error::new(match how {
                Access::Test => format!("unsupported field: {name}"),
                _ => format!("unsupported indexer: {name}"),
            }));
        }
        let value = self.fields.get(name).cloned();
        if how == Access::Test {
            let is_set = value.is_some_and(|value| name == "value" || value.size() > 0);
            return Ok(Value::Bool(is_set));
        }
        let value = match (value, name) {
            (Some(value), _) => value,
            (None, "value") => Value::Null,
            (None, _) => Value::from(""),
        };
        Ok(match how {
            Access::Read if !optional => value,
            _ => Value::Optional(Some(Arc::new(value))),
        })
    }

    pub(super) fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool> {
        if self.name != other.name || self.fields.len() != other.fields.len() {
            return Ok(false);
        }
        budget.spend(size(self.fields.len()))?;
        for (name, value) in &self.fields {
            budget.spend(1)?;
            match other.fields.get(name) {
                Some(other) if value.equals(other, budget)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    pub(super) fn print(&self, text: &mut String, budget: &mut Budget) -> Result<()> {
        text.push_str(&self.name);
        for (name, value) in &self.fields {
            budget.spend(1)?;
            write!(text, "{name}\0").map_err(|_| Error::overload())?;
            value.print(text, budget)?;
        }
        Ok(())
    }
}

/// The name in Go of what a value holds.
fn go_type(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "structpb.NullValue",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Uint(_) => "uint64",
        Value::Double(_) => "float64",
        Value::Bytes(_) => "[]uint8",
        Value::List(list) if !list.is_made() => "[]interface {}",
        Value::Map(map) if !map.is_made() => "map[string]interface {}",
        Value::List(_) => "[]ref.Val",
        Value::Map(_) => "map[ref.Val]ref.Val",
        other => other.go_type(),
    }
}

/// A value that no JSON stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odd {
    /// Names of fields and indexes of items, from the root.
    pub path: Vec<String>,
    /// The value as Go's `%v` prints it.
    pub shown: String,
    /// The value as Go's `%#v` prints it.
    pub syntax: String,
    /// The name of its type in Go.
    pub go_type: &'static str,
}

/// What becomes of an integer that JSON readers may not know exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// It stays a number.
    Number,
    /// It becomes a text.
    Text,
}

impl Value<'_> {
    /// The value as JSON: what a mutation sets. Times and durations become texts, bytes become
    /// base64. All of it is paid for.
    ///
    /// # Errors
    /// [`Error::Budget`], or that there is no such JSON.
    pub fn to_json(&self, whole: Whole, budget: &mut Budget) -> Result<Json> {
        budget.spend(1)?;
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) if value.unsigned_abs() > INTEGER_MAX && whole == Whole::Text => {
                value.to_string().into()
            }
            Self::Uint(value) if *value > INTEGER_MAX && whole == Whole::Text => {
                value.to_string().into()
            }
            Self::Int(value) => (*value).into(),
            Self::Uint(value) => (*value).into(),
            Self::Double(value) => match (exact(*value), serde_json::Number::from_f64(*value)) {
                (Some(whole), _) => whole.into(),
                (None, Some(number)) => Json::Number(number),
                (None, None) => {
                    let name = match value {
                        value if value.is_nan() => "NaN",
                        value if value.is_sign_negative() => "-Inf",
                        _ => "+Inf",
                    };
                    return Err(Error::new(format!(
                        "json: error calling MarshalJSON for type *structpb.Value: proto: \
                         google.protobuf.Value.number_value: invalid {name} value"
                    )));
                }
            },
            Self::String(text) => {
                budget.spend(traversal(self.size()))?;
                text.as_str().into()
            }
            Self::Bytes(bytes) => {
                budget.spend(traversal(self.size()))?;
                STANDARD.encode(bytes).into()
            }
            Self::List(list) => {
                let mut items = Vec::new();
                for item in list.iter() {
                    items.push(item.to_json(whole, budget)?);
                }
                Json::Array(items)
            }
            Self::Map(map) => {
                let mut fields = Fields::new();
                for (key, value) in map.entries() {
                    budget.spend(1 + key.size() / 10)?;
                    let Some(key) = key.as_str() else {
                        return Err(Error::new(format!(
                            "unsupported type conversion from '{}' to string",
                            key.type_name()
                        )));
                    };
                    fields.insert(key.to_owned(), value.to_json(whole, budget)?);
                }
                Json::Object(fields)
            }
            Self::Made(made) if &*made.name == PATCH => {
                return Err(Error::new("cannot convert to native type: *structpb.Value"));
            }
            Self::Made(made) => {
                let mut fields = Fields::new();
                for (name, value) in &made.fields {
                    fields.insert((**name).to_owned(), value.to_json(whole, budget)?);
                }
                Json::Object(fields)
            }
            Self::Timestamp(time) => time.to_string().into(),
            Self::Duration(nanos) => time::duration_shown(*nanos).into(),
            Self::Optional(Some(inner)) => inner.to_json(whole, budget)?,
            Self::Optional(None) if whole == Whole::Number => Json::Null,
            Self::Optional(None) => return Err(Error::new("optional.none() dereference")),
            Self::Type(name) if whole == Whole::Number => (**name).into(),
            Self::Type(_) => return Err(Error::new("type conversion not supported for 'type'")),
            other => {
                let name = other.type_name();
                let name = name.rsplit('.').next().unwrap_or(name);
                return Err(Error::new(format!(
                    "type conversion error from '{name}' to '*structpb.Value'"
                )));
            }
        })
    }

    /// What of the value no JSON stands for as such: nulls, bytes, times, durations and
    /// unsigned numbers, and lists and maps inside of lists and maps, where the expression
    /// itself made them. Kubernetes takes them for nothing that an object may hold.
    ///
    /// # Errors
    /// [`Error::Budget`].
    pub fn odd(&self, budget: &mut Budget) -> Result<Vec<Odd>> {
        let mut found = Vec::new();
        self.odd_at(&mut Vec::new(), budget, &mut found)?;
        Ok(found)
    }

    /// A list or a map that an expression made within another one.
    fn nested_odd(
        &self,
        path: &mut Vec<String>,
        budget: &mut Budget,
        found: &mut Vec<Odd>,
    ) -> Result<()> {
        let (shown, go_type) = match self {
            Self::List(list) if list.is_made() => {
                let mut items = Vec::new();
                for item in list.iter() {
                    let mut text = String::new();
                    item.show(&mut text, budget)?;
                    items.push(text);
                }
                (format!("[{}]", items.join(" ")), "[]ref.Val")
            }
            Self::Map(map) if map.is_made() => {
                let mut items = Vec::new();
                for (key, value) in map.entries() {
                    let mut text = String::new();
                    key.show(&mut text, budget)?;
                    text.push(':');
                    value.show(&mut text, budget)?;
                    items.push(text);
                }
                (format!("map[{}]", items.join(" ")), "map[ref.Val]ref.Val")
            }
            _ => return self.odd_at(path, budget, found),
        };
        budget.spend(size(path.len()))?;
        found.push(Odd {
            path: path.clone(),
            syntax: shown.clone(),
            shown,
            go_type,
        });
        Ok(())
    }

    /// As cel-go prints values inside of others.
    fn show(&self, text: &mut String, budget: &mut Budget) -> Result<()> {
        budget.spend(1)?;
        match self {
            Self::List(list) => {
                text.push('[');
                for (index, item) in list.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { ", " });
                    item.show(text, budget)?;
                }
                text.push(']');
            }
            Self::Map(map) => {
                text.push('{');
                for (index, (key, value)) in map.entries().into_iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { ", " });
                    key.show(text, budget)?;
                    text.push_str(": ");
                    value.show(text, budget)?;
                }
                text.push('}');
            }
            Self::String(inner) => {
                budget.spend(traversal(self.size()))?;
                text.push_str(inner.as_str());
            }
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => text.push_str(&value.to_string()),
            Self::Uint(value) => text.push_str(&value.to_string()),
            Self::Double(value) => text.push_str(&value.to_string()),
            other => text.push_str(other.type_name()),
        }
        Ok(())
    }

    fn odd_at(
        &self,
        path: &mut Vec<String>,
        budget: &mut Budget,
        found: &mut Vec<Odd>,
    ) -> Result<()> {
        budget.spend(1)?;
        let shown = match self {
            Self::Null => (
                "NULL_VALUE".to_owned(),
                "0".to_owned(),
                "structpb.NullValue",
            ),
            Self::Bytes(bytes) => {
                budget.spend(self.size())?;
                let plain: Vec<String> = bytes.iter().map(ToString::to_string).collect();
                let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:#x}")).collect();
                (
                    format!("[{}]", plain.join(" ")),
                    format!("[]uint8{{{}}}", hex.join(", ")),
                    "[]uint8",
                )
            }
            Self::Uint(number) => (number.to_string(), format!("{number:#x}"), "uint64"),
            Self::Duration(nanos) => (
                time::duration_shown(*nanos),
                nanos.to_string(),
                "time.Duration",
            ),
            Self::Timestamp(time) => (time.to_string(), time.to_string(), "time.Time"),
            Self::Made(made) => {
                for (name, value) in &made.fields {
                    path.push((**name).to_owned());
                    value.odd_at(path, budget, found)?;
                    path.pop();
                }
                return Ok(());
            }
            Self::List(list) if list.is_made() => {
                for (index, item) in list.iter().enumerate() {
                    path.push(index.to_string());
                    item.nested_odd(path, budget, found)?;
                    path.pop();
                }
                return Ok(());
            }
            Self::Map(map) if map.is_made() => {
                for (key, value) in map.entries() {
                    path.push(key.as_str().unwrap_or_default().to_owned());
                    value.nested_odd(path, budget, found)?;
                    path.pop();
                }
                return Ok(());
            }
            Self::Optional(Some(inner)) => return inner.odd_at(path, budget, found),
            _ => return Ok(()),
        };
        budget.spend(size(path.len()))?;
        let (shown, syntax, go_type) = shown;
        found.push(Odd {
            path: path.clone(),
            shown,
            syntax,
            go_type,
        });
        Ok(())
    }

    /// Every object within the value whose type is not the one of its place: below `Object`
    /// in the field `spec`, it is `Object.spec`. Lists and maps have no name of their own.
    ///
    /// # Errors
    /// [`Error::Budget`].
    pub fn misplaced(&self, budget: &mut Budget) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if let Self::Made(made) = self {
            self.misplaced_at(&mut made.name.to_string(), budget, &mut found)?;
        }
        Ok(found)
    }

    fn misplaced_at(
        &self,
        path: &mut String,
        budget: &mut Budget,
        found: &mut Vec<String>,
    ) -> Result<()> {
        budget.spend(1)?;
        match self {
            Self::Made(made) => {
                if *made.name != **path {
                    budget.spend(traversal(size(path.len())))?;
                    found.push(format!(
                        "unexpected type name {:?}, expected {path:?}, which matches field name \
                         path from root Object type",
                        made.name
                    ));
                }
                let length = path.len();
                for (name, value) in &made.fields {
                    path.push('.');
                    path.push_str(name);
                    value.misplaced_at(path, budget, found)?;
                    path.truncate(length);
                }
            }
            Self::List(list) if list.is_made() => {
                for item in list.iter() {
                    item.misplaced_at(path, budget, found)?;
                }
            }
            Self::Map(map) if map.is_made() => {
                for (_, value) in map.entries() {
                    value.misplaced_at(path, budget, found)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

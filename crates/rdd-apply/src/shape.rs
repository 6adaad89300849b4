//! What a schema says about merging: the part of a [`Schema`] that matters here.
//!
//! The rules are those by which Kubernetes turns OpenAPI into the schemas of
//! structured-merge-diff.

use std::{collections::BTreeMap, sync::LazyLock};

use rdd_schema::{AdditionalProperties, ListType, MapType, Schema, Type};
use serde_json::Value;

use crate::field_set::{key_step, value_step};

/// The type of one place in an object.
#[derive(Clone, Copy)]
pub(crate) enum Place<'s> {
    /// As its schema says.
    Typed(&'s Schema),
    /// As a schema says, with `apiVersion`, `kind` and `metadata` of an object.
    Object(&'s Schema),
    /// Unknown: maps are granular, lists atomic.
    Deduced,
}

/// How a value at a place merges.
#[derive(Clone, Copy)]
pub(crate) enum Shape<'s> {
    Scalar(Scalar),
    List(List<'s>),
    Map(Fields<'s>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    String,
    Numeric,
    Boolean,
    Any,
}

/// A list and how its items are told apart.
#[derive(Clone, Copy)]
pub(crate) struct List<'s> {
    pub items: Place<'s>,
    pub kind: ListKind<'s>,
}

#[derive(Clone, Copy)]
pub(crate) enum ListKind<'s> {
    Atomic,
    Set,
    Map(&'s [String]),
}

/// A map or struct.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'s> {
    place: Place<'s>,
    pub atomic: bool,
}

impl<'s> Place<'s> {
    fn of(schema: &'s Schema) -> Self {
        if schema.embedded_resource {
            return Self::Object(schema);
        }
        let untyped = schema.r#type.is_none()
            && schema.properties.is_empty()
            && schema.additional_properties.is_none()
            && schema.items.is_none();
        if schema.int_or_string || untyped {
            Self::Deduced
        } else {
            Self::Typed(schema)
        }
    }

    /// How the value merges here. An untyped place takes the form of the value,
    /// a map for null.
    pub(crate) fn shape(self, value: &Value) -> Shape<'s> {
        let schema = match self {
            Self::Deduced => {
                return match value {
                    Value::Array(_) => Shape::List(List {
                        items: Self::Deduced,
                        kind: ListKind::Atomic,
                    }),
                    Value::Object(_) | Value::Null => Shape::Map(Fields {
                        place: self,
                        atomic: false,
                    }),
                    _ => Shape::Scalar(Scalar::Any),
                };
            }
            Self::Typed(schema) | Self::Object(schema) => schema,
        };
        match schema.r#type {
            Some(Type::String) => Shape::Scalar(Scalar::String),
            Some(Type::Integer | Type::Number) => Shape::Scalar(Scalar::Numeric),
            Some(Type::Boolean) => Shape::Scalar(Scalar::Boolean),
            Some(Type::Array) => Shape::List(List::of(schema)),
            None if schema.items.is_some() => Shape::List(List::of(schema)),
            Some(Type::Object) | None => Shape::Map(Fields {
                place: self,
                atomic: schema.map_type == Some(MapType::Atomic),
            }),
        }
    }

    /// How a value that may not be there merges; null stands for absent.
    pub(crate) fn shape_of_any(self) -> Shape<'s> {
        self.shape(&Value::Null)
    }
}

impl<'s> List<'s> {
    fn of(schema: &'s Schema) -> Self {
        Self {
            items: schema.items.as_deref().map_or(Place::Deduced, Place::of),
            kind: match schema.list_type {
                Some(ListType::Set) => ListKind::Set,
                Some(ListType::Map) => ListKind::Map(&schema.list_map_keys),
                Some(ListType::Atomic) | None => ListKind::Atomic,
            },
        }
    }

    pub(crate) fn is_atomic(&self) -> bool {
        matches!(self.kind, ListKind::Atomic)
    }

    /// The step to an item.
    ///
    /// # Errors
    /// Why the item has no step, in the words of structured-merge-diff.
    pub(crate) fn step(&self, item: &Value) -> Result<Box<str>, String> {
        match self.kind {
            ListKind::Atomic => Err("invalid indexing into atomic list".to_owned()),
            ListKind::Set => match item {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".to_owned())
                }
                Value::Array(_) => {
                    Err("not supported: associative list with lists as elements".to_owned())
                }
                Value::Null => Err(
                    "associative list without keys has an element that's an explicit null"
                        .to_owned(),
                ),
                _ => Ok(value_step(item)),
            },
            ListKind::Map(keys) => self.key_step(keys, item),
        }
    }

    fn key_step(&self, keys: &'s [String], item: &Value) -> Result<Box<str>, String> {
        let fields = match item {
            Value::Object(fields) => fields,
            Value::Null => {
                return Err("associative list with keys may not have a null element".to_owned());
            }
            _ => {
                return Err("associative list with keys may not have non-map elements".to_owned());
            }
        };
        let default = |key: &str| match self.items {
            Place::Typed(schema) | Place::Object(schema) => {
                schema.properties.get(key)?.default.as_ref()
            }
            Place::Deduced => None,
        };
        let mut found: Vec<(&str, &Value)> = keys
            .iter()
            .filter_map(|key| {
                let value = fields.get(key).or_else(|| default(key))?;
                Some((key.as_str(), value))
            })
            .collect();
        if found.is_empty() {
            let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] \
                 (and doesn't have default values for any key fields)",
                keys.join(" ")
            ));
        }
        Ok(key_step(&mut found))
    }
}

impl<'s> Fields<'s> {
    /// The place of a declared field.
    pub(crate) fn declared(&self, name: &str) -> Option<Place<'s>> {
        let schema = match self.place {
            Place::Deduced => return None,
            Place::Typed(schema) => schema,
            Place::Object(schema) => match name {
                "metadata" => return Some(Place::Typed(&OBJECT_META)),
                "apiVersion" | "kind" => return Some(Place::Typed(&STRING)),
                _ => schema,
            },
        };
        schema.properties.get(name).map(Place::of)
    }

    /// The place of a field; `None` when the schema does not know it.
    pub(crate) fn field(&self, name: &str) -> Option<Place<'s>> {
        self.declared(name).or_else(|| self.others())
    }

    fn others(&self) -> Option<Place<'s>> {
        let (Place::Typed(schema) | Place::Object(schema)) = self.place else {
            return Some(Place::Deduced);
        };
        match &schema.additional_properties {
            Some(AdditionalProperties::Schema(schema)) => Some(Place::of(schema)),
            Some(AdditionalProperties::Any) => Some(Place::Deduced),
            _ if schema.preserve_unknown_fields => Some(Place::Deduced),
            Some(AdditionalProperties::None) | None => None,
        }
    }
}

/// The schema of `metadata`, wherever an object carries it.
pub(crate) static OBJECT_META: LazyLock<Schema> = LazyLock::new(|| {
    let of = |r#type| Schema {
        r#type: Some(r#type),
        ..Schema::default()
    };
    let strings = || Schema {
        additional_properties: Some(AdditionalProperties::Schema(Box::new(of(Type::String)))),
        ..of(Type::Object)
    };
    let object = |fields: &[(&str, Schema)]| Schema {
        properties: fields
            .iter()
            .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
            .collect::<BTreeMap<_, _>>(),
        ..of(Type::Object)
    };
    let list = |items: Schema, list_type: ListType, keys: &[&str]| Schema {
        items: Some(Box::new(items)),
        list_type: Some(list_type),
        list_map_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..of(Type::Array)
    };
    let owner = Schema {
        map_type: Some(MapType::Atomic),
        ..object(&[
            ("apiVersion", of(Type::String)),
            ("blockOwnerDeletion", of(Type::Boolean)),
            ("controller", of(Type::Boolean)),
            ("kind", of(Type::String)),
            ("name", of(Type::String)),
            (
                "uid",
                // What is missing is the zero value of Go, by which validation refuses it.
                Schema {
                    default: Some(Value::String(String::new())),
                    ..of(Type::String)
                },
            ),
        ])
    };
    let mut owners = list(owner, ListType::Map, &["uid"]);
    owners.patch = Some(rdd_schema::PatchStrategy::MergeObjects("uid".to_owned()));
    let mut finalizers = list(of(Type::String), ListType::Set, &[]);
    finalizers.patch = Some(rdd_schema::PatchStrategy::MergeScalars);
    object(&[
        ("annotations", strings()),
        ("creationTimestamp", Schema::default()),
        ("deletionGracePeriodSeconds", of(Type::Integer)),
        ("deletionTimestamp", Schema::default()),
        ("finalizers", finalizers),
        ("generateName", of(Type::String)),
        ("generation", of(Type::Integer)),
        ("labels", strings()),
        (
            "managedFields",
            list(Schema::default(), ListType::Atomic, &[]),
        ),
        ("name", of(Type::String)),
        ("namespace", of(Type::String)),
        ("ownerReferences", owners),
        ("resourceVersion", of(Type::String)),
        ("selfLink", of(Type::String)),
        ("uid", of(Type::String)),
    ])
});

static STRING: LazyLock<Schema> = LazyLock::new(|| Schema {
    r#type: Some(Type::String),
    ..Schema::default()
});

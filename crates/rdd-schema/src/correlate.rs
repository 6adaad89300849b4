//! Which old value a new one continues, and whether it changed.

use std::collections::HashMap;

use serde_json::Value;

use crate::{ListType, Schema};

/// The items of a map list by what tells them apart. Of several alike the first counts.
#[derive(Debug)]
pub struct KeyedItems<'a> {
    keys: &'a [String],
    items: HashMap<String, &'a Value>,
}

impl<'a> KeyedItems<'a> {
    /// Reads a list; none if its schema is not that of a map list.
    #[must_use]
    pub fn of(items: &'a [Value], list: &'a Schema) -> Option<Self> {
        if list.list_type != Some(ListType::Map) {
            return None;
        }
        let mut keyed = Self {
            keys: &list.list_map_keys,
            items: HashMap::with_capacity(items.len()),
        };
        for item in items {
            keyed.items.entry(keyed.key(item)).or_insert(item);
        }
        Some(keyed)
    }

    /// The one with the keys of `item`.
    #[must_use]
    pub fn get(&self, item: &Value) -> Option<&'a Value> {
        self.items.get(&self.key(item)).copied()
    }

    fn key(&self, item: &Value) -> String {
        let mut text = String::new();
        for key in self.keys {
            if let Some(value) = item.get(key) {
                text.push_str(&value.to_string());
            }
            text.push('\0');
        }
        text
    }
}

/// Whether a value is the old one. Map lists may stand in another order; an object with
/// fields that the schema does not know is never the same.
#[must_use]
pub fn is_same(new: &Value, old: &Value, schema: &Schema) -> bool {
    match (new, old) {
        (Value::Array(new), Value::Array(old)) => {
            match (&schema.items, KeyedItems::of(old, schema)) {
                (Some(item), Some(keyed)) => {
                    new.len() == old.len()
                        && new.iter().all(|value| {
                            keyed
                                .get(value)
                                .is_some_and(|old| is_same(value, old, item))
                        })
                }
                _ => new == old,
            }
        }
        (Value::Object(new), Value::Object(old)) => {
            new.len() == old.len()
                && new
                    .iter()
                    .all(|(name, value)| match (schema.field(name), old.get(name)) {
                        (Some(schema), Some(old)) => is_same(value, old, schema),
                        _ => false,
                    })
        }
        _ => new == old,
    }
}

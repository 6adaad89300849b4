//! Filling in what is absent.

use serde_json::Value;

use crate::structural::{AdditionalProperties, Schema};

/// Fills defaults: where a key is absent, or null although the schema is not
/// nullable. Defaults inside an absent object appear only if that object has one.
pub fn default(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            for (name, child) in &schema.properties {
                let Some(default) = &child.default else {
                    continue;
                };
                match fields.get(name) {
                    None => {
                        fields.insert(name.clone(), default.clone());
                    }
                    Some(Value::Null) if !child.nullable => {
                        fields.insert(name.clone(), default.clone());
                    }
                    Some(_) => {}
                }
            }
            let each = match &schema.additional_properties {
                Some(AdditionalProperties::Schema(each)) => Some(each),
                _ => None,
            };
            for (name, value) in fields.iter_mut() {
                match (schema.properties.get(name), each) {
                    (Some(child), _) => self::default(value, child),
                    (None, Some(each)) => {
                        if value.is_null()
                            && !each.nullable
                            && let Some(default) = &each.default
                        {
                            *value = default.clone();
                        }
                        self::default(value, each);
                    }
                    (None, None) => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = &schema.items {
                for value in items {
                    if value.is_null()
                        && !item.nullable
                        && let Some(default) = &item.default
                    {
                        *value = default.clone();
                    }
                    self::default(value, item);
                }
            }
        }
        _ => {}
    }
}

//! A configuration laid over an object by the rules of server-side apply, without owners:
//! what a mutating policy does with the object that its expression makes.

use rdd_schema::Schema;
use serde_json::Value;

use crate::{
    field_set::step_text,
    shape::{Place, Scalar, Shape},
    typed::{self, check},
};

/// A value in a configuration that no JSON stands for, such as a time or a null that was
/// written out. It fits nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odd {
    /// Names of fields and indexes of items, from the root.
    pub path: Vec<String>,
    /// The value as Go's `%v` prints it.
    pub shown: String,
    /// The value as Go's `%#v` prints it.
    pub syntax: String,
    /// The name of its type in Go.
    pub go_type: String,
}

/// The object with the configuration over it. Fields that the configuration does not hold
/// stay as they are.
///
/// # Errors
/// That the configuration does not fit the schema, holds an odd value or anything that is
/// replaced as a whole; the texts are those of kube-apiserver.
pub fn overlay(
    schema: &Schema,
    object: &Value,
    config: &Value,
    odd: &[Odd],
) -> Result<Value, String> {
    let place = Place::Object(schema);
    let mut errors = check(place, config);
    errors.extend(odd.iter().filter_map(|odd| misfit(place, config, odd)));
    refuse("patch object", errors)?;
    let mut atomics = Vec::new();
    find_atomics(place, config, &mut String::new(), &mut atomics);
    if !atomics.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            atomics.join(", ")
        ));
    }
    let mut errors = check(place, object);
    errors.retain(|error| !error.contains(": duplicate entries for key "));
    refuse("original object", errors)?;
    Ok(typed::merge(place, object, config))
}

/// How an odd value does not fit; none where its place is not declared, which is told anyway.
fn misfit(place: Place<'_>, config: &Value, odd: &Odd) -> Option<String> {
    let (mut place, mut value, mut path) = (place, config, String::new());
    let last = odd.path.len().saturating_sub(1);
    for (index, step) in odd.path.iter().enumerate() {
        match place.shape(value) {
            Shape::Map(fields) => {
                place = fields.field(step)?;
                value = value.get(step)?;
                path.push('.');
                path.push_str(step);
            }
            Shape::List(list) if index == last && !list.is_atomic() => {
                let why = list.step(&Value::String(String::new())).err()?;
                return Some(format!("{path}: element {step}: {why}"));
            }
            Shape::List(list) => {
                value = value.get(step.parse::<usize>().ok()?)?;
                match list.step(value) {
                    Ok(step) => path.push_str(&step_text(&step)),
                    Err(_) => path.push_str(&format!("[{step}]")),
                }
                place = list.items;
            }
            Shape::Scalar(_) => return None,
        }
    }
    let Odd {
        shown,
        syntax,
        go_type,
        ..
    } = odd;
    let expected = match place.shape_of_any() {
        Shape::Scalar(Scalar::String) => {
            format!("string, got &value.valueUnstructured{{Value:{syntax}}}")
        }
        Shape::Scalar(Scalar::Numeric) => format!("numeric (int or float), got {go_type}"),
        Shape::Scalar(Scalar::Boolean) => format!("boolean, got &{{{shown}}}"),
        Shape::Scalar(Scalar::Any) => format!("any scalar, got &{{{shown}}}"),
        Shape::List(_) => format!("list, got &{{{shown}}}"),
        Shape::Map(_) => format!("map, got &{{{shown}}}"),
    };
    Some(format!("{path}: expected {expected}"))
}

fn refuse(what: &str, errors: Vec<String>) -> Result<(), String> {
    let errors = match errors.as_slice() {
        [] => return Ok(()),
        [error] => error.clone(),
        _ => format!("errors:\n  {}", errors.join("\n  ")),
    };
    Err(format!(
        "failed to convert {what} to typed object: {errors}"
    ))
}

/// Where a value is replaced as a whole: at the places that the schema declares. Entries of
/// free maps are not looked into.
fn find_atomics(place: Place<'_>, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match (place.shape(value), value) {
        (Shape::Map(fields), Value::Object(map)) => {
            if fields.atomic {
                found.push(path.clone());
            }
            for (name, value) in map {
                let Some(place) = fields.declared(name) else {
                    continue;
                };
                path.push('.');
                path.push_str(name);
                find_atomics(place, value, path, found);
                path.truncate(length);
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            if list.is_atomic() {
                found.push(path.clone());
            }
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                find_atomics(list.items, item, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::parse(&json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "free": {"type": "object", "additionalProperties": {"type": "string"}},
                "whole": {
                    "type": "object", "x-kubernetes-map-type": "atomic",
                    "properties": {"a": {"type": "string"}},
                },
                "parts": {
                    "type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {
                        "name": {"type": "string"}, "image": {"type": "string"},
                        "args": {"type": "array", "items": {"type": "string"}},
                    }},
                },
            },
        }}}))
        .expect("a schema")
    }

    #[test]
    fn what_is_not_named_stays() {
        let object = json!({"apiVersion": "e.com/v1", "kind": "E", "spec": {
            "size": 1, "tags": ["a"], "free": {"a": "1"},
            "parts": [{"name": "x", "image": "i", "args": ["-v"]}, {"name": "y"}],
        }});
        let config = json!({"apiVersion": "e.com/v1", "kind": "E", "spec": {
            "size": 2, "free": {"b": "2"},
            "parts": [{"name": "z"}, {"name": "x", "image": "j"}],
        }});
        let after = overlay(&schema(), &object, &config, &[]).expect("it fits");
        assert_eq!(
            after["spec"],
            json!({
                "size": 2, "tags": ["a"], "free": {"a": "1", "b": "2"},
                "parts": [{"name": "z"}, {"name": "x", "image": "j", "args": ["-v"]}, {"name": "y"}],
            })
        );
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let check = |spec: Value, expect: &str| {
            let refused = overlay(&schema(), &json!({}), &json!({"spec": spec}), &[]);
            assert_eq!(refused.expect_err("it is refused"), expect);
        };
        check(
            json!({"tags": ["b"]}),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.tags",
        );
        check(
            json!({"parts": [{"name": "x", "args": []}], "whole": {"a": "1"}}),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: \
             .spec.parts[0].args, .spec.whole",
        );
        check(
            json!({"other": 1}),
            "failed to convert patch object to typed object: .spec.other: field not declared in \
             schema",
        );
    }

    #[test]
    fn what_is_no_json_fits_nowhere() {
        let config = json!({"spec": {"size": null, "parts": [{"name": "x", "image": null}]}});
        let odd = |path: &[&str]| Odd {
            path: path.iter().map(|step| (*step).to_owned()).collect(),
            shown: "NULL_VALUE".to_owned(),
            syntax: "0".to_owned(),
            go_type: "structpb.NullValue".to_owned(),
        };
        let odd = [
            odd(&["spec", "size"]),
            odd(&["spec", "parts", "0", "image"]),
        ];
        assert_eq!(
            overlay(&schema(), &json!({}), &config, &odd),
            Err(
                "failed to convert patch object to typed object: errors:\n  \
                 .spec.size: expected numeric (int or float), got structpb.NullValue\n  \
                 .spec.parts[name=\"x\"].image: expected string, got \
                 &value.valueUnstructured{Value:0}"
                    .to_owned()
            )
        );
    }
}

//! Strategic merge patch.
//!
//! Maps merge, null deletes, lists are replaced unless their field has a merge
//! strategy. Directives (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…`,
//! `$setElementOrder/…`) are those of kube-apiserver.

use std::collections::BTreeSet;

use rdd_schema::{PatchStrategy, Schema};
use serde_json::{Map, Value};

use crate::{
    shape::{Fields, Place, Shape},
    typed::go,
    typed::go_type,
};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Why a patch is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// 400: a directive does not have its form.
    #[error("{0}")]
    BadRequest(String),
    /// 422: the patch does not fit the object.
    #[error("the strategic merge patch does not fit the object")]
    NotApplicable,
    /// 500 without a reason, as kube-apiserver answers what it did not expect.
    #[error("{0}")]
    Internal(String),
}

type Result<T> = std::result::Result<T, StrategicError>;

fn internal<T>(text: impl Into<String>) -> Result<T> {
    Err(StrategicError::Internal(text.into()))
}

/// Applies a patch. `null` is the patch that does nothing.
///
/// # Errors
/// See [`StrategicError`]; the object is then half-patched.
pub fn apply(object: &mut Value, patch: &Value, schema: &Schema) -> Result<()> {
    let patch = match patch {
        Value::Null => return Ok(()),
        Value::Object(patch) => patch,
        other => {
            let kind = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            return Err(StrategicError::BadRequest(format!(
                "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
            )));
        }
    };
    let Value::Object(live) = object else {
        return Err(StrategicError::NotApplicable);
    };
    merge_map(live, patch, Place::Object(schema))
}

fn merge_map(
    live: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    place: Place<'_>,
) -> Result<()> {
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::String(word)) if word == "delete" => {
            live.clear();
            return Ok(());
        }
        Some(Value::String(word)) if word == "replace" => {
            *live = patch.clone();
            live.remove(DIRECTIVE);
            return Ok(());
        }
        Some(word) => {
            return internal(format!(
                "unknown patch type: {} in map: {}",
                go(word),
                go(&Value::Object(patch.clone()))
            ));
        }
    }
    retain_keys(live, patch)?;
    let fields = match place.shape_of_any() {
        Shape::Map(fields) => Some(fields),
        _ => None,
    };
    let ordered = order_lists(live, patch, fields.as_ref())?;
    for (name, change) in patch {
        if name == RETAIN_KEYS || name.starts_with(ORDER_PREFIX) || ordered.contains(&**name) {
            continue;
        }
        if let Some(field) = name.strip_prefix(DELETE_PREFIX) {
            delete_scalars(live, field, change)?;
            continue;
        }
        if change.is_null() {
            live.remove(name);
            continue;
        }
        let child = fields.as_ref().and_then(|fields| fields.field(name));
        let child = child.unwrap_or(Place::Deduced);
        match (live.get_mut(name), change) {
            (Some(Value::Object(live)), Value::Object(change)) => {
                merge_map(live, change, child)?;
            }
            (Some(Value::Array(items)), Value::Array(changes)) => {
                merge_list(items, changes, child)?;
            }
            _ => match without_directives(&without_nulls(change)) {
                Some(value) => {
                    live.insert(name.clone(), value);
                }
                None => {
                    live.remove(name);
                }
            },
        }
    }
    Ok(())
}

/// A value that meets nothing live: nulls say nothing.
fn without_nulls(change: &Value) -> Value {
    match change {
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name.clone(), without_nulls(value)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

/// A value that meets nothing live, without the maps that hold a `$patch`.
fn without_directives(change: &Value) -> Option<Value> {
    match change {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(
            items.iter().filter_map(without_directives).collect(),
        )),
        other => Some(other.clone()),
    }
}

/// Whether a member says something about the list of the same name.
fn is_about_list(name: &str) -> bool {
    name.starts_with(DELETE_PREFIX) || name.starts_with(ORDER_PREFIX)
}

fn retain_keys(live: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<()> {
    let Some(keys) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad = || StrategicError::BadRequest("invalid patch format of retainKeys".to_owned());
    let keys: BTreeSet<&str> = keys
        .as_array()
        .ok_or_else(bad)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let stray = patch.iter().any(|(name, value)| {
        !value.is_null()
            && name != RETAIN_KEYS
            && !is_about_list(name)
            && !keys.contains(name.as_str())
    });
    if stray {
        return Err(bad());
    }
    live.retain(|name, _| keys.contains(name.as_str()));
    Ok(())
}

fn delete_scalars(live: &mut Map<String, Value>, field: &str, gone: &Value) -> Result<()> {
    match (live.get_mut(field), gone) {
        (Some(_), Value::Null) => {
            live.remove(field);
        }
        (Some(Value::Array(items)), Value::Array(gone)) => {
            check_alike(items, gone)?;
            items.retain(|item| !gone.contains(item));
        }
        _ => {}
    }
    Ok(())
}

/// Merges and orders the lists whose order the patch gives, and answers their names.
fn order_lists<'p>(
    live: &mut Map<String, Value>,
    patch: &'p Map<String, Value>,
    fields: Option<&Fields<'_>>,
) -> Result<BTreeSet<&'p str>> {
    let mut ordered = BTreeSet::new();
    for (name, order) in patch {
        let Some(field) = name.strip_prefix(ORDER_PREFIX) else {
            continue;
        };
        let order = list(order)?;
        let standing = live.get(field).map(list).transpose()?.cloned();
        let changes = patch.get(field).map(list).transpose()?;
        let Some(child) = fields.and_then(|fields| fields.field(field)) else {
            let of = live.get("kind").and_then(Value::as_str);
            return internal(format!(
                "unable to find api field in struct {} for the json field {field:?}",
                of.unwrap_or("ObjectMeta")
            ));
        };
        let Some(strategy) = strategy(child) else {
            continue;
        };
        if let Some(changes) = changes {
            check_order(strategy, changes, order)?;
        }
        let (merged, standing) = match (standing, changes) {
            (None, None) => continue,
            (Some(items), None) => (items.clone(), items),
            (None, Some(changes)) => {
                let merged = changes.iter().filter_map(without_directives).collect();
                (merged, Vec::new())
            }
            (Some(mut items), Some(changes)) => {
                let places = merge_list(&mut items, changes, child)?;
                (items, places)
            }
        };
        check_keys(strategy, order)?;
        check_keys(strategy, &merged)?;
        if standing.is_empty() && changes.is_none_or(Vec::is_empty) {
            return internal("no elements in any of the given slices");
        }
        let merged = in_order(strategy, merged, &standing, order);
        live.insert(field.to_owned(), Value::Array(merged));
        ordered.insert(field);
    }
    Ok(ordered)
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        other => internal(format!(
            "expected a []interface {{}}, but received a {}",
            go_type(other)
        )),
    }
}

fn strategy(place: Place<'_>) -> Option<&PatchStrategy> {
    match place {
        Place::Typed(schema) | Place::Object(schema) => schema.patch.as_ref(),
        Place::Deduced => None,
    }
}

/// What tells an item from others.
fn key_of<'v>(strategy: &PatchStrategy, item: &'v Value) -> Option<&'v Value> {
    match strategy {
        PatchStrategy::MergeObjects(key) => item.get(key),
        PatchStrategy::MergeScalars => Some(item),
    }
}

fn check_keys(strategy: &PatchStrategy, items: &[Value]) -> Result<()> {
    let PatchStrategy::MergeObjects(key) = strategy else {
        return Ok(());
    };
    for (at, item) in items.iter().enumerate() {
        match item {
            Value::Object(fields) if fields.contains_key(key) => {}
            Value::Object(_) => {
                return internal(format!(
                    "map: {} does not contain declared merge key: {key}",
                    go(item)
                ));
            }
            _ => return internal(format!("value for key {at} is not a map")),
        }
    }
    Ok(())
}

/// The changed items must stand in the order that the patch asks for.
fn check_order(strategy: &PatchStrategy, changes: &[Value], order: &[Value]) -> Result<()> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in changes.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        check_keys(strategy, std::slice::from_ref(item))?;
        let key = key_of(strategy, item);
        if !rest.any(|one| key_of(strategy, one) == key) {
            let dump = |items: &[Value]| items.iter().map(go).collect::<Vec<_>>().join(" ");
            return internal(format!(
                "The order in patch list:\n[{}]\n doesn't match $setElementOrder list:\n[{}]\n",
                dump(changes),
                dump(order)
            ));
        }
    }
    Ok(())
}

/// Lists merge when all their items are of one type, which is no list.
fn check_alike(items: &[Value], changes: &[Value]) -> Result<()> {
    let mut all = items.iter().chain(changes);
    let Some(first) = all.next() else {
        return Ok(());
    };
    if first.is_array() {
        return Err(StrategicError::NotApplicable);
    }
    if all.any(|item| go_type(item) != go_type(first)) {
        return internal(format!(
            "list element types are not identical: [{} {}]",
            go(&Value::Array(items.to_vec())),
            go(&Value::Array(changes.to_vec()))
        ));
    }
    Ok(())
}

/// Merges, and answers the places of the live items as [`in_order`] is to see them.
fn merge_list(items: &mut Vec<Value>, changes: &[Value], place: Place<'_>) -> Result<Vec<Value>> {
    let standing = items.clone();
    let Some(strategy) = strategy(place) else {
        *items = changes.to_vec();
        return Ok(standing);
    };
    check_alike(items, changes)?;
    match strategy {
        PatchStrategy::MergeScalars => {
            // A set: what stood twice stands once.
            let mut seen = BTreeSet::new();
            items.extend_from_slice(changes);
            items.retain(|item| seen.insert(item.to_string()));
            *items = in_order(strategy, std::mem::take(items), &standing, changes);
            Ok(standing)
        }
        PatchStrategy::MergeObjects(key) => merge_objects(items, changes, key, strategy, place),
    }
}

/// Merges item by item; an item with `$patch: replace` makes the others the whole list.
fn merge_objects(
    items: &mut Vec<Value>,
    changes: &[Value],
    key: &str,
    strategy: &PatchStrategy,
    place: Place<'_>,
) -> Result<Vec<Value>> {
    // kube-apiserver deletes in place: those behind move up, what is left over stays, and
    // new items take those places.
    let mut places = items.clone();
    let mut replaces = false;
    let mut plain = Vec::with_capacity(changes.len());
    for change in changes {
        match change.get(DIRECTIVE) {
            None => plain.push(change.clone()),
            Some(word) if word == "delete" => {
                check_keys(strategy, std::slice::from_ref(change))?;
                while let Some(at) = items.iter().position(|one| one.get(key) == change.get(key)) {
                    items.remove(at);
                    let moved = items.iter().skip(at).cloned();
                    for (place, item) in places.iter_mut().skip(at).zip(moved) {
                        *place = item;
                    }
                }
            }
            Some(word) if word == "replace" => replaces = true,
            Some(word) if word == "merge" => {
                return internal("merging lists cannot yet be specified in the patch");
            }
            Some(word) => {
                return internal(format!(
                    "unknown patch type: {} in map: {}",
                    go(word),
                    go(change)
                ));
            }
        }
    }
    if replaces {
        check_keys(strategy, &plain)?;
        *items = plain;
        return Ok(places);
    }
    let standing = items.clone();
    let item_place = match place.shape_of_any() {
        Shape::List(list) => list.items,
        _ => Place::Deduced,
    };
    for change in &plain {
        check_keys(strategy, std::slice::from_ref(change))?;
        let found = items
            .iter_mut()
            .find(|item| item.get(key) == change.get(key));
        match (found, change) {
            (Some(Value::Object(live)), Value::Object(change)) => {
                merge_map(live, change, item_place)?;
            }
            _ => {
                if let Some(place) = places.get_mut(items.len()) {
                    *place = change.clone();
                }
                items.push(change.clone());
            }
        }
    }
    check_keys(strategy, items)?;
    *items = in_order(strategy, std::mem::take(items), &standing, &plain);
    Ok(places)
}

/// Items that the order names, in that order; the others where they stood among the live ones.
fn in_order(
    strategy: &PatchStrategy,
    items: Vec<Value>,
    live: &[Value],
    order: &[Value],
) -> Vec<Value> {
    let rank = |item: &Value| {
        let key = key_of(strategy, item);
        order.iter().position(|one| key_of(strategy, one) == key)
    };
    let stood = |item: &Value| {
        let key = key_of(strategy, item);
        live.iter().position(|one| key_of(strategy, one) == key)
    };
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| rank(item).is_some());
    named.sort_by_key(&rank);
    // What did not stand goes in front of what it is compared with.
    for at in 1..others.len() {
        for at in (1..=at).rev() {
            let before = match (stood(&others[at]), stood(&others[at - 1])) {
                (Some(this), Some(that)) => this < that,
                _ => true,
            };
            if !before {
                break;
            }
            others.swap(at, at - 1);
        }
    }
    let mut ordered = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (named.peek(), others.peek()) {
            (None, None) => return ordered,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            // A new item goes in front of what was there.
            (Some(name), Some(other)) => match (stood(name), stood(other)) {
                (Some(name), Some(other)) => other < name,
                _ => false,
            },
        };
        ordered.extend(if other_first {
            others.next()
        } else {
            named.next()
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let mut schema = Schema::parse(&json!({"type": "object", "properties": {
            "data": {"type": "object", "additionalProperties": {"type": "string"}},
            "pull": {"type": "array", "items": {"type": "object"}},
            "secrets": {"type": "array", "items": {"type": "object", "properties": {
                "name": {"type": "string"}, "ns": {"type": "string"}}}},
            "none": {"type": "array", "items": {"type": "object"}}
        }}))
        .expect("the test's schema is valid");
        for name in ["secrets", "none"] {
            if let Some(list) = schema.properties.get_mut(name) {
                list.patch = Some(PatchStrategy::MergeObjects("name".to_owned()));
            }
        }
        schema
    }

    fn check(patch: Value, expected: std::result::Result<Value, &str>) {
        let mut object = json!({"kind": "Thing",
            "metadata": {"finalizers": ["f/a", "f/b"]},
            "data": {"a": "1", "b": "2"},
            "pull": [{"name": "p"}],
            "secrets": [{"name": "a"}, {"name": "b", "ns": "n"}]});
        let mut whole = object.clone();
        let answer = apply(&mut object, &patch, &schema()).map_err(|error| error.to_string());
        match expected {
            Ok(change) => {
                crate::merge::apply(&mut whole, &change);
                assert_eq!(answer, Ok(()), "{patch}");
                assert_eq!(object, whole, "{patch}");
            }
            Err(text) => assert_eq!(answer, Err(text.to_owned()), "{patch}"),
        }
    }

    #[test]
    fn maps_merge_and_lists_follow_their_strategy() {
        check(
            json!({"data": {"a": null, "c": "3"}}),
            Ok(json!({"data": {"a": null, "c": "3"}})),
        );
        check(
            json!({"pull": [{"name": "q"}]}),
            Ok(json!({"pull": [{"name": "q"}]})),
        );
        check(
            json!({"secrets": [{"name": "c"}]}),
            Ok(json!({"secrets": [{"name": "c"}, {"name": "a"}, {"name": "b", "ns": "n"}]})),
        );
        check(
            json!({"secrets": [{"name": "b", "ns": null}]}),
            Ok(json!({"secrets": [{"name": "a"}, {"name": "b"}]})),
        );
        check(
            json!({"metadata": {"finalizers": ["f/a", "f/d", "f/d"]}}),
            Ok(json!({"metadata": {"finalizers": ["f/a", "f/d", "f/b"]}})),
        );
        check(json!({"secrets": []}), Ok(json!({})));
        check(json!({"secrets": null}), Ok(json!({"secrets": null})));
        check(json!(null), Ok(json!({})));
    }

    #[test]
    fn directives_delete_replace_and_order() {
        check(
            json!({"data": {"$patch": "delete", "x": "1"}}),
            Ok(json!({"data": {"a": null, "b": null}})),
        );
        check(
            json!({"data": {"$patch": "replace", "x": "1"}}),
            Ok(json!({"data": {"a": null, "b": null, "x": "1"}})),
        );
        check(
            json!({"secrets": [{"$patch": "delete", "name": "b"}, {"name": "n"}]}),
            Ok(json!({"secrets": [{"name": "n"}, {"name": "a"}]})),
        );
        check(
            json!({"secrets": [{"name": "z"}, {"$patch": "replace"}]}),
            Ok(json!({"secrets": [{"name": "z"}]})),
        );
        check(
            json!({"$setElementOrder/secrets": [{"name": "b"}, {"name": "a"}]}),
            Ok(json!({"secrets": [{"name": "b", "ns": "n"}, {"name": "a"}]})),
        );
        check(
            json!({"$setElementOrder/secrets": [{"name": "b"}, {"name": "m"}], "secrets": [{"name": "m"}]}),
            Ok(json!({"secrets": [{"name": "a"}, {"name": "b", "ns": "n"}, {"name": "m"}]})),
        );
        check(
            json!({"metadata": {
                "finalizers": ["f/c"], "$setElementOrder/finalizers": ["f/c", "f/b"],
                "$deleteFromPrimitiveList/finalizers": ["f/a"],
            }}),
            Ok(json!({"metadata": {"finalizers": ["f/c", "f/b"]}})),
        );
        check(
            json!({"secrets": [{"name": "a"}], "$setElementOrder/secrets": []}),
            Ok(json!({})),
        );
        check(
            json!({"new": {"$retainKeys": ["a"], "b": {"$patch": "delete"}, "c": null}}),
            Ok(json!({"new": {"$retainKeys": ["a"]}})),
        );
        check(
            json!({"new": {"$patch": "replace", "a": "b"}}),
            Ok(json!({})),
        );
        check(
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": null}}),
            Ok(json!({"metadata": {"finalizers": null}})),
        );
        check(
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["f/a"]}}),
            Ok(json!({"metadata": {"finalizers": ["f/b"]}})),
        );
        check(
            json!({"data": {"$retainKeys": ["b", "n"], "n": "1"}}),
            Ok(json!({"data": {"a": null, "n": "1"}})),
        );
    }

    #[test]
    fn malformed_directives_are_refused_in_the_words_of_kubernetes() {
        check(
            json!({"data": {"$patch": "merge", "c": "3"}}),
            Err("unknown patch type: merge in map: map[$patch:merge c:3]"),
        );
        check(
            json!({"secrets": [{"ns": "x"}]}),
            Err("map: map[ns:x] does not contain declared merge key: name"),
        );
        check(
            json!({"secrets": [{"name": "a", "$patch": "merge"}]}),
            Err("merging lists cannot yet be specified in the patch"),
        );
        check(
            json!({"none": [], "$setElementOrder/none": []}),
            Err("no elements in any of the given slices"),
        );
        check(
            json!({"secrets": ["x"]}),
            Err("list element types are not identical: [[map[name:a] map[name:b ns:n]] [x]]"),
        );
        check(
            json!({"data": {"$retainKeys": "b"}}),
            Err("invalid patch format of retainKeys"),
        );
        check(
            json!({"$setElementOrder/secrets": "x"}),
            Err("expected a []interface {}, but received a string"),
        );
        check(
            json!({"$setElementOrder/nope": []}),
            Err("unable to find api field in struct Thing for the json field \"nope\""),
        );
        check(
            json!({"$setElementOrder/secrets": [{"name": "a"}], "secrets": [{"name": "b"}]}),
            Err(
                "The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
            ),
        );
        check(
            json!([]),
            Err("json: cannot unmarshal array into Go value of type map[string]interface {}"),
        );
    }
}

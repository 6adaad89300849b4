//! What can be done with values of a known shape: check, list the fields,
//! merge, compare, remove.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    field_set::{FieldSet, field_step, step_text},
    shape::{Fields, List, ListKind, Place, Scalar, Shape},
};

// === check ===

/// What does not fit the schema, each as `.path: reason`, in the words of
/// structured-merge-diff. Items that occur twice in a set or map list are errors.
pub(crate) fn check(place: Place<'_>, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    check_at(place, value, &mut String::new(), &mut errors);
    errors
}

fn check_at(place: Place<'_>, value: &Value, path: &mut String, errors: &mut Vec<String>) {
    match (place.shape(value), value) {
        (_, Value::Null) => {}
        (Shape::Scalar(scalar), _) => {
            if let Some(error) = check_scalar(scalar, value) {
                errors.push(format!("{path}: {error}"));
            }
        }
        (Shape::List(list), Value::Array(items)) => check_items(list, items, path, errors),
        (Shape::List(_), _) => {
            errors.push(format!("{path}: expected list, got &{{{}}}", go(value)))
        }
        (Shape::Map(fields), Value::Object(map)) => {
            let length = path.len();
            for (name, value) in map {
                path.push('.');
                path.push_str(name);
                let Some(place) = fields.field(name) else {
                    errors.push(format!("{path}: field not declared in schema"));
                    path.truncate(length);
                    return;
                };
                check_at(place, value, path, errors);
                path.truncate(length);
            }
        }
        (Shape::Map(_), _) => errors.push(format!("{path}: expected map, got &{{{}}}", go(value))),
    }
}

fn check_items(list: List<'_>, items: &[Value], path: &mut String, errors: &mut Vec<String>) {
    let length = path.len();
    let mut seen: BTreeMap<Box<str>, ()> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        if list.is_atomic() {
            path.push_str(&format!("[{at}]"));
        } else {
            let step = match list.step(item) {
                Ok(step) => step,
                Err(error) => {
                    errors.push(format!("{path}: element {at}: {error}"));
                    return;
                }
            };
            let text = step_text(&step);
            if seen.insert(step, ()).is_some() {
                errors.push(format!("{path}: duplicate entries for key {text}"));
            }
            path.push_str(&text);
        }
        check_at(list.items, item, path, errors);
        path.truncate(length);
    }
}

fn check_scalar(scalar: Scalar, value: &Value) -> Option<String> {
    match scalar {
        Scalar::String if !value.is_string() => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go_syntax(value)
        )),
        Scalar::Numeric if !value.is_number() => Some(format!(
            "expected numeric (int or float), got {}",
            go_type(value)
        )),
        Scalar::Boolean if !value.is_boolean() => {
            Some(format!("expected boolean, got &{{{}}}", go(value)))
        }
        _ => None,
    }
}

/// A value as Go's `%v` prints it.
#[must_use]
pub fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}:{}", go(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Number(number) if number.is_f64() => number
            .as_f64()
            .map_or_else(String::new, |number| number.to_string()),
        other => other.to_string(),
    }
}

/// A value as Go's `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", go_syntax(value)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// What Go calls the type of a decoded value.
#[must_use]
pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

// === fields ===

/// The fields that a configuration owns: leaves, items, keys of free maps, and
/// empty or null fields. Declared containers are not owned.
pub(crate) fn fields_of(place: Place<'_>, value: &Value) -> FieldSet {
    own_fields(place, value).1
}

/// Whether the value itself is owned, and what is owned below it.
fn own_fields(place: Place<'_>, value: &Value) -> (bool, FieldSet) {
    let mut set = FieldSet::default();
    let own = match (place.shape(value), value) {
        (Shape::Scalar(_), _) => true,
        (Shape::List(list), _) if list.is_atomic() => true,
        (Shape::Map(fields), _) if fields.atomic => true,
        (Shape::List(list), Value::Array(items)) => {
            for (step, items) in index(list, items).into_iter().flatten() {
                let below = match items[..] {
                    [item] => own_fields(list.items, item).1,
                    // Duplicates are owned as a whole.
                    _ => FieldSet::default(),
                };
                set.put(&step, true, below);
            }
            false
        }
        (Shape::Map(fields), Value::Object(map)) => {
            for (name, value) in map {
                let declared = fields.declared(name);
                let place = fields.field(name).unwrap_or(Place::Deduced);
                let (own, below) = own_fields(place, value);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                set.put(&field_step(name), own || empty || declared.is_none(), below);
            }
            false
        }
        _ => false,
    };
    (own, set)
}

type Indexed<'v> = Vec<(Box<str>, Vec<&'v Value>)>;

/// The items by their steps, in order of first appearance. `None` when an item has no step.
fn index<'v>(list: List<'_>, items: &'v [Value]) -> Option<Indexed<'v>> {
    let mut indexed: Indexed<'v> = Vec::with_capacity(items.len());
    let mut places: BTreeMap<Box<str>, usize> = BTreeMap::new();
    for item in items {
        let step = list.step(item).ok()?;
        if let Some(at) = places.get(&step) {
            indexed[*at].1.push(item);
        } else {
            places.insert(step.clone(), indexed.len());
            indexed.push((step, vec![item]));
        }
    }
    Some(indexed)
}

// === merge ===

/// The live value with the configuration merged over it.
pub(crate) fn merge(place: Place<'_>, live: &Value, config: &Value) -> Value {
    match (place.shape(config), live, config) {
        (Shape::Map(fields), _, _) if !fields.atomic => {
            let empty = Map::new();
            let theirs = live.as_object().unwrap_or(&empty);
            let ours = config.as_object().unwrap_or(&empty);
            if theirs.is_empty() && ours.is_empty() {
                return config.clone();
            }
            Value::Object(merge_maps(fields, theirs, ours))
        }
        (Shape::List(list), _, _) if !list.is_atomic() => {
            let theirs = live.as_array().map_or(&[][..], Vec::as_slice);
            let ours = config.as_array().map_or(&[][..], Vec::as_slice);
            if theirs.is_empty() && ours.is_empty() {
                return config.clone();
            }
            merge_lists(list, theirs, ours).map_or_else(|| config.clone(), Value::Array)
        }
        _ => config.clone(),
    }
}

fn merge_maps(
    fields: Fields<'_>,
    theirs: &Map<String, Value>,
    ours: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = theirs.clone();
    for (name, config) in ours {
        let value = match theirs.get(name) {
            Some(live) => merge(fields.field(name).unwrap_or(Place::Deduced), live, config),
            None => config.clone(),
        };
        merged.insert(name.clone(), value);
    }
    merged
}

/// Items of the configuration keep its order; others stay near their neighbours.
fn merge_lists(list: List<'_>, live: &[Value], config: &[Value]) -> Option<Vec<Value>> {
    let steps = |items: &[Value]| -> Option<Vec<Box<str>>> {
        items.iter().map(|item| list.step(item).ok()).collect()
    };
    let (left, right) = (steps(live)?, steps(config)?);
    // A duplicated live item has no value to merge with.
    let mut live_by_step: BTreeMap<&str, Option<&Value>> = BTreeMap::new();
    for (step, item) in left.iter().zip(live) {
        live_by_step
            .entry(step)
            .and_modify(|item| *item = None)
            .or_insert(Some(item));
    }
    let ours: BTreeMap<&str, ()> = right.iter().map(|step| (&**step, ())).collect();
    let mut shared = right
        .iter()
        .map(|step| &**step)
        .filter(|step| live_by_step.contains_key(step));
    let mut next_shared = shared.next();
    let mut done: BTreeMap<&str, ()> = BTreeMap::new();
    let mut merged = Vec::with_capacity(live.len().max(config.len()));
    let merge_item = |step: &str, item: &Value| match live_by_step.get(step) {
        Some(Some(live)) => merge(list.items, live, item),
        _ => item.clone(),
    };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            let step = &*left[l];
            if step == &*right[r] {
                done.insert(step, ());
                merged.push(merge_item(step, &config[r]));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if ours.contains_key(step) && next_shared.is_some_and(|next| next != step) {
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            let step = &*left[l];
            if !ours.contains_key(step) {
                merged.push(live[l].clone());
                l += 1;
                continue;
            } else if done.contains_key(step) {
                l += 1;
            }
        }
        if r < right.len() {
            let step = &*right[r];
            done.insert(step, ());
            merged.push(merge_item(step, &config[r]));
            r += 1;
            if next_shared == Some(step) {
                next_shared = shared.next();
            }
        }
    }
    Some(merged)
}

// === compare ===

/// How two objects differ, as paths. The order of set and map lists does not count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Comparison {
    pub removed: FieldSet,
    pub modified: FieldSet,
    pub added: FieldSet,
    /// A list had an item that nothing tells from the others.
    pub keyless: bool,
}

impl Comparison {
    pub(crate) fn between(place: Place<'_>, old: &Value, new: &Value) -> Self {
        let mut comparison = Self::default();
        comparison.compare(place, Some(old), Some(new), &mut Vec::new());
        comparison
    }

    /// Forgets the paths and everything below them.
    pub(crate) fn ignore(&mut self, paths: &FieldSet) {
        self.removed.remove_recursively(paths);
        self.modified.remove_recursively(paths);
        self.added.remove_recursively(paths);
    }

    /// What was given a new value.
    pub(crate) fn set(&self) -> FieldSet {
        let mut set = self.modified.clone();
        set.add(&self.added);
        set
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    fn compare<'a>(
        &mut self,
        place: Place<'_>,
        old: Option<&'a Value>,
        new: Option<&'a Value>,
        path: &mut Vec<Box<str>>,
    ) {
        if let (Some(old), Some(new)) = (old, new)
            && old == new
        {
            return;
        }
        let leaf = match (old, new) {
            (None, None) => return,
            (Some(one), None) | (None, Some(one)) => self.walk(place.shape(one), old, new, path),
            (Some(before), Some(after)) => {
                let (left, right) = (place.shape(before), place.shape(after));
                if std::mem::discriminant(&left) != std::mem::discriminant(&right) {
                    self.walk(left, old, new, path);
                }
                self.walk(right, old, new, path)
            }
        };
        if !leaf {
            match (old, new) {
                (None, _) => self.added.insert(path.iter().map(|step| &**step)),
                (_, None) => self.removed.insert(path.iter().map(|step| &**step)),
                _ => {}
            }
        }
    }

    /// Compares as one shape; tells whether it is a leaf.
    fn walk<'a>(
        &mut self,
        shape: Shape<'_>,
        old: Option<&'a Value>,
        new: Option<&'a Value>,
        path: &mut Vec<Box<str>>,
    ) -> bool {
        match shape {
            Shape::Map(fields) if !fields.atomic => {
                let left = old.and_then(Value::as_object);
                let right = new.and_then(Value::as_object);
                if left.is_none_or(Map::is_empty) && right.is_none_or(Map::is_empty) {
                    self.leaf(old, new, path);
                    return true;
                }
                let names = left.into_iter().flatten().map(|(name, _)| name).chain(
                    right
                        .into_iter()
                        .flatten()
                        .map(|(name, _)| name)
                        .filter(|name| left.is_none_or(|left| !left.contains_key(*name))),
                );
                for name in names {
                    let before = left.and_then(|map| map.get(name));
                    let after = right.and_then(|map| map.get(name));
                    if before == after {
                        continue;
                    }
                    path.push(field_step(name));
                    let place = fields.field(name).unwrap_or(Place::Deduced);
                    self.compare(place, before, after, path);
                    path.pop();
                }
                false
            }
            Shape::List(list) if !list.is_atomic() => {
                let left = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let right = new.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let (Some(left), Some(right)) = (index(list, left), index(list, right)) else {
                    self.keyless = true;
                    self.leaf(old, new, path);
                    return true;
                };
                if left.is_empty() && right.is_empty() {
                    self.leaf(old, new, path);
                    return true;
                }
                self.lists(list, &left, &right, path);
                false
            }
            _ => {
                self.leaf(old, new, path);
                true
            }
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>, path: &[Box<str>]) {
        let path = path.iter().map(|step| &**step);
        match (old, new) {
            (None, _) => self.added.insert(path),
            (_, None) => self.removed.insert(path),
            (Some(old), Some(new)) if !same(old, new) => self.modified.insert(path),
            _ => {}
        }
    }

    fn lists(
        &mut self,
        list: List<'_>,
        left: &Indexed<'_>,
        right: &Indexed<'_>,
        path: &mut Vec<Box<str>>,
    ) {
        let after: BTreeMap<&str, &[&Value]> = right
            .iter()
            .map(|(step, items)| (&**step, items.as_slice()))
            .collect();
        let before: BTreeMap<&str, ()> = left.iter().map(|(step, _)| (&**step, ())).collect();
        for (step, items) in left {
            let others = after.get(&**step).copied().unwrap_or_default();
            self.items(list, step, items, others, path);
        }
        for (step, items) in right {
            if !before.contains_key(&**step) {
                self.items(list, step, &[], items, path);
            }
        }
    }

    fn items(
        &mut self,
        list: List<'_>,
        step: &str,
        left: &[&Value],
        right: &[&Value],
        path: &mut Vec<Box<str>>,
    ) {
        path.push(step.into());
        match (left, right) {
            ([] | [_], [] | [_]) => {
                self.compare(
                    list.items,
                    left.first().copied(),
                    right.first().copied(),
                    path,
                );
            }
            // Duplicates change as a whole. An item that was or becomes the only one
            // goes or comes with its fields.
            (_, [] | [_]) => {
                self.compare(list.items, None, right.first().copied(), path);
                self.removed.insert(path.iter().map(|step| &**step));
            }
            ([] | [_], _) => {
                self.compare(list.items, left.first().copied(), None, path);
                self.added.insert(path.iter().map(|step| &**step));
            }
            _ if left != right => self.modified.insert(path.iter().map(|step| &**step)),
            _ => {}
        }
        path.pop();
    }
}

/// Equality in which `1` is `1.0`.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, l)| right.get(name).is_some_and(|r| same(l, r)))
        }
        _ => left == right,
    }
}

// === remove ===

/// The value without the given fields. A container that loses all it had stays, empty.
pub(crate) fn without(place: Place<'_>, value: &Value, remove: &FieldSet) -> Value {
    match (place.shape(value), value) {
        (Shape::Map(fields), Value::Object(map)) => {
            let mut kept = Map::new();
            for (name, value) in map {
                let step = field_step(name);
                if remove.has(&step) {
                    continue;
                }
                let value = match remove.below(&step) {
                    Some(below) => {
                        without(fields.field(name).unwrap_or(Place::Deduced), value, below)
                    }
                    None => value.clone(),
                };
                kept.insert(name.clone(), value);
            }
            Value::Object(kept)
        }
        (Shape::List(list), Value::Array(items)) if !list.is_atomic() => {
            let kept = items.iter().filter_map(|item| {
                let Ok(step) = list.step(item) else {
                    return Some(item.clone());
                };
                if remove.has(&step) {
                    return None;
                }
                Some(match remove.below(&step) {
                    Some(below) => without(list.items, item, below),
                    None => item.clone(),
                })
            });
            Value::Array(kept.collect())
        }
        _ => value.clone(),
    }
}

/// The set with every declared field on the way to one of its paths.
pub(crate) fn with_named_fields(place: Place<'_>, set: &FieldSet) -> FieldSet {
    let mut named = FieldSet::default();
    for (step, member, below) in set.steps() {
        let (child, declared) = child(place, step);
        named.put(
            step,
            member || (declared && !below.is_empty()),
            with_named_fields(child, below),
        );
    }
    named
}

/// A stored set fitted to the schema of today: what became atomic is owned as a whole.
pub(crate) fn reconciled(place: Place<'_>, set: &FieldSet) -> FieldSet {
    let mut fitted = FieldSet::default();
    for (step, member, below) in set.steps() {
        let (child, _) = child(place, step);
        let atomic = match child.shape_of_any() {
            Shape::List(list) => list.is_atomic(),
            Shape::Map(fields) => fields.atomic,
            Shape::Scalar(_) => false,
        };
        if atomic && !below.is_empty() {
            fitted.put(step, true, FieldSet::default());
        } else {
            fitted.put(step, member, reconciled(child, below));
        }
    }
    fitted
}

/// The place of a step, and whether it is a declared field.
fn child<'s>(place: Place<'s>, step: &str) -> (Place<'s>, bool) {
    match place.shape_of_any() {
        Shape::Map(fields) => match step.strip_prefix("f:") {
            Some(name) => {
                let declared = fields.declared(name);
                let place = declared.or_else(|| fields.field(name));
                (place.unwrap_or(Place::Deduced), declared.is_some())
            }
            None => (Place::Deduced, false),
        },
        Shape::List(list) if matches!(list.kind, ListKind::Map(_)) => (list.items, false),
        _ => (Place::Deduced, false),
    }
}

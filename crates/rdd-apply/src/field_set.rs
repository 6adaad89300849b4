//! Sets of fields and their FieldsV1 form.
//!
//! A path is a sequence of steps. A step is kept in the text form of FieldsV1
//! (`f:name`, `k:{"name":"a"}`, `v:"x"`, `i:0`), so that encoding and decoding
//! copy it. List steps are canonical: keys sorted, compact JSON.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write,
};

use serde_json::{Map, Value};

/// How deep a decoded set may nest.
const DEPTH_MAX: usize = 1000;

/// A set of paths, kept as a trie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    steps: BTreeMap<Box<str>, Node>,
}

/// One step and what is below it. Never both unowned and empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// The path that ends here is in the set.
    member: bool,
    below: FieldSet,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

/// FieldsV1 that does not have the form of FieldsV1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field set: {0}")]
pub struct DecodeError(String);

impl FieldSet {
    /// The set of the given paths of field names.
    #[must_use]
    pub fn of_fields(paths: &[Vec<String>]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let steps: Vec<Box<str>> = path.iter().map(|name| field_step(name)).collect();
            set.insert(steps.iter().map(|step| &**step));
        }
        set
    }

    /// Whether no path is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds the path. An empty path adds nothing.
    pub fn insert<'s>(&mut self, path: impl IntoIterator<Item = &'s str>) {
        let mut path = path.into_iter();
        if let Some(step) = path.next() {
            self.insert_rest(step, &mut path);
        }
    }

    fn insert_rest<'s>(&mut self, step: &str, rest: &mut impl Iterator<Item = &'s str>) {
        if !self.steps.contains_key(step) {
            self.steps.insert(step.into(), Node::default());
        }
        let Some(node) = self.steps.get_mut(step) else {
            return;
        };
        match rest.next() {
            Some(next) => node.below.insert_rest(next, rest),
            None => node.member = true,
        }
    }

    /// Whether the one-step path is in the set.
    #[must_use]
    pub fn has(&self, step: &str) -> bool {
        self.steps.get(step).is_some_and(|node| node.member)
    }

    /// What is below a step.
    #[must_use]
    pub fn below(&self, step: &str) -> Option<&Self> {
        self.steps
            .get(step)
            .map(|node| &node.below)
            .filter(|below| !below.is_empty())
    }

    /// Each step with whether it is a member and what is below.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (&str, bool, &Self)> {
        self.steps
            .iter()
            .map(|(step, node)| (&**step, node.member, &node.below))
    }

    /// Puts a subtree below a step, replacing what was there.
    pub(crate) fn put(&mut self, step: &str, member: bool, below: Self) {
        let node = Node { member, below };
        if node.is_empty() {
            self.steps.remove(step);
        } else {
            self.steps.insert(step.into(), node);
        }
    }

    /// Adds every path of the other set.
    pub fn add(&mut self, other: &Self) {
        for (step, theirs) in &other.steps {
            match self.steps.entry(step.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(theirs.clone());
                }
                Entry::Occupied(mut entry) => {
                    let ours = entry.get_mut();
                    ours.member |= theirs.member;
                    ours.below.add(&theirs.below);
                }
            }
        }
    }

    /// Removes exactly the paths of the other set; what is below them stays.
    pub fn remove(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.steps.retain(|step, node| {
            if let Some(theirs) = other.steps.get(step) {
                node.member &= !theirs.member;
                node.below.remove(&theirs.below);
            }
            !node.is_empty()
        });
    }

    /// Removes the paths of the other set and everything below them.
    pub fn remove_recursively(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.steps.retain(|step, node| {
            let Some(theirs) = other.steps.get(step) else {
                return true;
            };
            if theirs.member {
                return false;
            }
            node.below.remove_recursively(&theirs.below);
            !node.is_empty()
        });
    }

    /// The paths that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut set = Self::default();
        for (step, ours) in &self.steps {
            if let Some(theirs) = other.steps.get(step) {
                let member = ours.member && theirs.member;
                let below = ours.below.intersection(&theirs.below);
                set.put(step, member, below);
            }
        }
        set
    }

    /// The text of each path, what a container holds before what is below it:
    /// `.spec.ports[port=80,proto="TCP"].name`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut String, paths: &mut Vec<String>) {
        let length = prefix.len();
        for (step, _) in self.steps.iter().filter(|(_, node)| node.member) {
            paths.push(format!("{prefix}{}", step_text(step)));
        }
        for (step, node) in &self.steps {
            prefix.push_str(&step_text(step));
            node.below.collect_paths(prefix, paths);
            prefix.truncate(length);
        }
    }

    /// The FieldsV1 form.
    #[must_use]
    pub fn encode(&self) -> Value {
        Value::Object(self.encode_into(false))
    }

    fn encode_into(&self, member: bool) -> Map<String, Value> {
        let mut map = Map::new();
        if member && !self.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, node) in &self.steps {
            map.insert(
                step.to_string(),
                Value::Object(node.below.encode_into(node.member)),
            );
        }
        map
    }

    /// Reads the FieldsV1 form. Unknown kinds of steps are skipped, as their
    /// meaning may come with a later version.
    ///
    /// # Errors
    /// When it is no object of objects, or a step does not parse.
    pub fn decode(fields: &Value) -> Result<Self, DecodeError> {
        let Value::Object(map) = fields else {
            return Err(DecodeError("fieldsV1 must be an object".to_owned()));
        };
        let (node, _) = Self::decode_map(map, 0)?;
        Ok(node)
    }

    fn decode_map(map: &Map<String, Value>, depth: usize) -> Result<(Self, bool), DecodeError> {
        if depth > DEPTH_MAX {
            return Err(DecodeError("fieldsV1 is nested too deeply".to_owned()));
        }
        let mut set = Self::default();
        let mut own = false;
        for (key, value) in map {
            let Value::Object(children) = value else {
                return Err(DecodeError(format!("{key:?} must hold an object")));
            };
            if key == "." {
                own = true;
                continue;
            }
            let Some(step) = canonical_step(key)? else {
                continue;
            };
            let (below, dot) = Self::decode_map(children, depth + 1)?;
            let member = dot || below.is_empty();
            set.put(&step, member, below);
        }
        Ok((set, own))
    }
}

/// The step to a field.
pub(crate) fn field_step(name: &str) -> Box<str> {
    let mut step = String::with_capacity(name.len() + 2);
    step.push_str("f:");
    step.push_str(name);
    step.into_boxed_str()
}

/// The step to an item of a set.
pub(crate) fn value_step(value: &Value) -> Box<str> {
    format!("v:{}", canonical_number(value)).into_boxed_str()
}

/// The step to an item of a map list. The fields need not be sorted.
pub(crate) fn key_step(fields: &mut [(&str, &Value)]) -> Box<str> {
    fields.sort_by_key(|(name, _)| *name);
    let mut step = "k:{".to_owned();
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            step.push(',');
        }
        // Writing to a String does not fail.
        let _ = write!(
            step,
            "{}:{}",
            Value::String((*name).to_owned()),
            canonical_number(value)
        );
    }
    step.push('}');
    step.into_boxed_str()
}

/// Numbers without fraction are the same key whether written `1` or `1.0`.
fn canonical_number(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            if float.fract() == 0.0 && float.abs() < 1e15 {
                format!("{float:.0}")
            } else {
                value.to_string()
            }
        }
        _ => value.to_string(),
    }
}

fn canonical_step(key: &str) -> Result<Option<Box<str>>, DecodeError> {
    let Some((kind, rest)) = key.split_once(':') else {
        return Err(DecodeError(format!("missing colon in {key:?}")));
    };
    let malformed = |error: &dyn std::fmt::Display| DecodeError(format!("{key:?}: {error}"));
    match kind {
        "f" => Ok(Some(key.into())),
        "k" => {
            let fields: Map<String, Value> =
                serde_json::from_str(rest).map_err(|error| malformed(&error))?;
            let mut fields: Vec<(&str, &Value)> = fields
                .iter()
                .map(|(name, value)| (name.as_str(), value))
                .collect();
            Ok(Some(key_step(&mut fields)))
        }
        "v" => {
            let value: Value = serde_json::from_str(rest).map_err(|error| malformed(&error))?;
            Ok(Some(value_step(&value)))
        }
        "i" => {
            let index: i64 = rest.parse().map_err(|error| malformed(&error))?;
            Ok(Some(format!("i:{index}").into_boxed_str()))
        }
        _ => Ok(None),
    }
}

/// The step as it reads in a conflict.
pub(crate) fn step_text(step: &str) -> String {
    let (kind, rest) = step.split_at(2.min(step.len()));
    match kind {
        "f:" => format!(".{rest}"),
        "v:" => format!("[={rest}]"),
        "k:" => {
            let fields: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("[{}]", fields.join(","))
        }
        _ => format!("[{rest}]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(fields: Value) -> FieldSet {
        FieldSet::decode(&fields).expect("the test's set is well-formed")
    }

    #[test]
    fn a_set_survives_encoding() {
        for fields in [
            json!({}),
            json!({"f:data": {".": {}, "f:a": {}}}),
            json!({"f:data": {}}),
            json!({"f:l": {"k:{\"a\":1,\"b\":\"x\"}": {".": {}, "f:a": {}}, "v:\"t\"": {}, "i:0": {}}}),
        ] {
            assert_eq!(set(fields.clone()).encode(), fields);
        }
    }

    #[test]
    fn list_keys_are_sorted_and_compact() {
        let messy = set(json!({"f:l": {"k:{\"b\": \"x\", \"a\": 1.0}": {}}}));
        let tidy = set(json!({"f:l": {"k:{\"a\":1,\"b\":\"x\"}": {}}}));
        assert_eq!(messy, tidy);
        assert_eq!(tidy.paths(), [".l[a=1,b=\"x\"]"]);
    }

    #[test]
    fn malformed_sets_are_refused() {
        for fields in [
            json!(1),
            json!({"f:a": 1}),
            json!({"nope": {}}),
            json!({"k:{": {}}),
            json!({"i:x": {}}),
        ] {
            assert!(FieldSet::decode(&fields).is_err(), "{fields}");
        }
    }

    #[test]
    fn removing_a_container_keeps_what_is_below() {
        let mut all = set(json!({"f:data": {".": {}, "f:a": {}}}));
        all.remove(&set(json!({"f:data": {}})));
        assert_eq!(all.encode(), json!({"f:data": {"f:a": {}}}));
        all.remove_recursively(&set(json!({"f:data": {}})));
        assert!(all.is_empty());
    }

    #[test]
    fn union_and_intersection_go_by_path() {
        let mut left = set(json!({"f:data": {".": {}, "f:a": {}}}));
        let right = set(json!({"f:data": {"f:a": {}, "f:b": {}}}));
        assert_eq!(
            left.intersection(&right).encode(),
            json!({"f:data": {"f:a": {}}})
        );
        left.add(&right);
        assert_eq!(
            left.encode(),
            json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}})
        );
    }
}

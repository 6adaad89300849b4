//! The public suite of JSON patch, every case as it is; where kube-apiserver differs from
//! the standard, the case stands in a list with the reason, and must go on differing.

use std::collections::BTreeMap;

use rdd_apply::{
    json_patch::{Decoder, JsonPatch},
    merge,
};
use serde_json::{Value, json};

const SUITE: &str = include_str!("data/json-patch-tests.json");

/// What kube-apiserver does otherwise, by the case's name.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "tests.json 11: replace object document with array document?",
        ROOT,
    ),
    (
        "tests.json 12: replace array document with object document?",
        ROOT,
    ),
    (
        "tests.json 19: Out of bounds (lower)",
        "an index of -1 is the end",
    ),
    (
        "tests.json 63: replacing the root of the document is possible with add",
        ROOT,
    ),
    ("tests.json 77: missing 'value' parameter to add", NO_VALUE),
    (
        "tests.json 78: missing 'value' parameter to replace",
        NO_VALUE,
    ),
    ("tests.json 79: missing 'value' parameter to test", NO_VALUE),
    (
        "tests.json 82: missing from location to copy",
        "a missing key is copied as null",
    ),
    (
        "tests.json 87: test with bad array number that has leading zeros",
        ZEROS,
    ),
    (
        "tests.json 88: test with bad array number that has leading zeros",
        ZEROS,
    ),
];

const ROOT: &str = "the root is replaced by replace alone";
const NO_VALUE: &str = "no value is null";
const ZEROS: &str = "an index may have leading zeros";

fn patched(document: &Value, patch: &Value) -> Option<Value> {
    let (patch, _) = JsonPatch::parse(patch, Decoder::Lax).ok()?;
    let mut document = document.clone();
    patch.apply(&mut document).ok().map(|()| document)
}

#[test]
fn the_public_suite_ends_as_it_says() {
    let suite: Value = serde_json::from_str(SUITE).expect("the suite is JSON");
    let cases = suite["cases"].as_array().expect("a list of cases");
    assert!(cases.len() > 100);
    let mut different: BTreeMap<&str, &str> = DIFFERENT.iter().copied().collect();
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["name"].as_str().expect("a case has a name");
        let found = patched(&case["doc"], &case["patch"]);
        let as_written = match (&found, case.get("expected")) {
            (None, _) => case.get("fails").is_some(),
            (Some(found), Some(expected)) => found == expected,
            (Some(_), None) => case.get("fails").is_none(),
        };
        if as_written == different.remove(name).is_some() {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(different.is_empty(), "no such cases: {different:?}");
}

/// The examples at the end of RFC 7386, which Kubernetes leaves nulls in lists alone by.
#[test]
fn merge_patches_do_what_the_standard_shows() {
    let cases = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (
            json!({"a": "b"}),
            json!({"b": "c"}),
            json!({"a": "b", "b": "c"}),
        ),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (
            json!({"a": "b", "b": "c"}),
            json!({"a": null}),
            json!({"b": "c"}),
        ),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        ),
        (
            json!({"a": [{"b": "c"}]}),
            json!({"a": [1]}),
            json!({"a": [1]}),
        ),
        (
            json!({"e": null}),
            json!({"a": 1}),
            json!({"e": null, "a": 1}),
        ),
        (
            json!({}),
            json!({"a": {"bb": {"ccc": null}}}),
            json!({"a": {"bb": {}}}),
        ),
    ];
    for (mut document, patch, expected) in cases {
        merge::apply(&mut document, &patch);
        assert_eq!(document, expected, "{patch}");
    }
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % 1000).unwrap_or_default() % sides
    }

    /// A document of a few levels, without nulls.
    fn document(&mut self, depth: usize) -> Value {
        match self.roll(if depth == 0 { 2 } else { 5 }) {
            0 => json!(self.roll(3)),
            1 => json!(["a", "b"][self.roll(2)]),
            2 => {
                let length = self.roll(3);
                Value::Array((0..length).map(|_| self.document(depth - 1)).collect())
            }
            _ => self.object(depth - 1),
        }
    }

    fn object(&mut self, depth: usize) -> Value {
        let mut object = json!({});
        for name in ["a", "b", "c"] {
            if self.roll(2) == 0 {
                object[name] = self.document(depth);
            }
        }
        object
    }
}

/// The merge patch that makes one object of another.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        return to.clone();
    };
    let mut patch = json!({});
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch[name] = Value::Null;
    }
    for (name, value) in new {
        match old.get(name) {
            Some(before) if before == value => {}
            Some(before) if before.is_object() && value.is_object() => {
                patch[name] = difference(before, value);
            }
            _ => patch[name] = value.clone(),
        }
    }
    patch
}

#[test]
fn a_merge_patch_leads_from_any_object_to_any_other() {
    let mut dice = Dice(5);
    for round in 0..500 {
        let (from, to) = (dice.object(3), dice.object(3));
        let patch = difference(&from, &to);
        let mut once = from.clone();
        merge::apply(&mut once, &patch);
        assert_eq!(once, to, "round {round}: {from} {patch}");
        // What is there already is not changed by saying so again.
        merge::apply(&mut once, &patch);
        assert_eq!(once, to, "round {round}: {patch} a second time");
        merge::apply(&mut once, &json!({}));
        assert_eq!(once, to);
    }
}

#[test]
fn what_a_json_patch_adds_it_can_take_back() {
    let mut dice = Dice(9);
    for round in 0..500 {
        let document = dice.object(3);
        let value = dice.document(2);
        let add = json!([
            {"op": "add", "path": "/new", "value": value},
            {"op": "test", "path": "/new", "value": value},
        ]);
        let added = patched(&document, &add).expect("a new key can be added");
        assert_eq!(added["new"], value, "round {round}");
        let moved = json!([
            {"op": "copy", "from": "/new", "path": "/copy"},
            {"op": "move", "from": "/new", "path": "/moved"},
            {"op": "test", "path": "/moved", "value": value},
            {"op": "remove", "path": "/moved"},
            {"op": "remove", "path": "/copy"},
        ]);
        assert_eq!(patched(&added, &moved), Some(document), "round {round}");
        let other = json!([{"op": "test", "path": "/new", "value": {"no": "such"}}]);
        assert_eq!(patched(&added, &other), None, "round {round}");
    }
}

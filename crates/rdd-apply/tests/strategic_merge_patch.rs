//! The tables of Kubernetes' strategic merge patch, every patch as it is; where `rdd`
//! differs, the case stands in a list with the reason, and must go on differing.

use std::collections::BTreeMap;

use rdd_apply::strategic::{self, StrategicError};
use rdd_schema::{AdditionalProperties, PatchStrategy, Schema, Type};
use serde_json::Value;

const SUITE: &str = include_str!("data/strategic-merge-patch-tests.json");

/// What comes out otherwise, by the case's name.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "TestReplaceWithRawExtension: replace RawExtension field and merge list 1",
        NO_REPLACE,
    ),
    (
        "TestReplaceWithRawExtension: replace RawExtension field and merge list 2",
        NO_REPLACE,
    ),
    (
        "TestReplaceWithRawExtension: replace RawExtension field, rest unchanched 1",
        NO_REPLACE,
    ),
    (
        "TestReplaceWithRawExtension: replace RawExtension field, rest unchanched 2",
        NO_REPLACE,
    ),
];

const NO_REPLACE: &str = "no type that rdd serves has a map with the strategy replace";

/// How deep the types of the suite nest in themselves.
const DEPTH: usize = 4;

fn of(r#type: Type) -> Schema {
    Schema {
        r#type: Some(r#type),
        ..Schema::default()
    }
}

fn list(items: Schema, patch: Option<PatchStrategy>) -> Schema {
    Schema {
        items: Some(Box::new(items)),
        patch,
        ..of(Type::Array)
    }
}

fn structure(fields: impl IntoIterator<Item = (&'static str, Schema)>) -> Schema {
    Schema {
        properties: fields
            .into_iter()
            .map(|(name, schema)| (name.to_owned(), schema))
            .collect(),
        ..of(Type::Object)
    }
}

/// The fields that the suite's two types share.
fn shared_fields(depth: usize) -> Vec<(&'static str, Schema)> {
    let strings = Schema {
        additional_properties: Some(AdditionalProperties::Schema(Box::new(of(Type::String)))),
        ..of(Type::Object)
    };
    let mut fields = vec![
        ("name", of(Type::String)),
        ("value", of(Type::String)),
        ("other", of(Type::String)),
        ("simpleMap", strings),
        (
            "mergingIntList",
            list(of(Type::Integer), Some(PatchStrategy::MergeScalars)),
        ),
    ];
    if depth > 0 {
        let by_name = PatchStrategy::MergeObjects("name".to_owned());
        fields.extend([
            ("mergingList", list(merge_item(depth - 1), Some(by_name))),
            ("nonMergingList", list(merge_item(depth - 1), None)),
        ]);
    }
    fields
}

fn merge_item(depth: usize) -> Schema {
    let mut fields = shared_fields(depth);
    fields.extend([
        ("nonMergingIntList", list(of(Type::Integer), None)),
        ("replacingItem", Schema::default()),
        ("jsonItem", Schema::default()),
    ]);
    if depth > 0 {
        let by_name = PatchStrategy::MergeObjects("name".to_owned());
        fields.extend([
            (
                "mergeItemPtr",
                list(merge_item(depth - 1), Some(by_name.clone())),
            ),
            ("retainKeysMap", structure(shared_fields(depth - 1))),
            (
                "retainKeysMergingList",
                list(merge_item(depth - 1), Some(by_name)),
            ),
        ]);
    }
    structure(fields)
}

fn precision_item() -> Schema {
    structure([
        ("name", of(Type::String)),
        ("int32", of(Type::Integer)),
        ("int64", of(Type::Integer)),
        ("float32", of(Type::Number)),
        ("float64", of(Type::Number)),
    ])
}

fn as_written(case: &Value, found: &Result<Value, StrategicError>) -> bool {
    match (found, case.get("result"), case["fails"].as_str()) {
        (Ok(found), Some(expected), None) => found == expected,
        (Err(StrategicError::NotApplicable), None, Some(_)) => true,
        (Err(error), None, Some(expected)) => error.to_string() == expected,
        _ => false,
    }
}

#[test]
fn the_tables_of_strategic_merge_patch_end_as_they_say() {
    let suite: Value = serde_json::from_str(SUITE).expect("the suite is JSON");
    let cases = suite["cases"].as_array().expect("a list of cases");
    assert!(cases.len() >= 221);
    let (merge_item, precision_item) = (merge_item(DEPTH), precision_item());
    let mut different: BTreeMap<&str, &str> = DIFFERENT.iter().copied().collect();
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["name"].as_str().expect("a case has a name");
        let schema = match case["type"].as_str() {
            Some("MergeItem") => &merge_item,
            Some("PrecisionItem") => &precision_item,
            other => panic!("{name}: no such type: {other:?}"),
        };
        let mut object = case["original"].clone();
        let found = strategic::apply(&mut object, &case["patch"], schema).map(|()| object);
        if as_written(case, &found) == different.remove(name).is_some() {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(different.is_empty(), "no such cases: {different:?}");
}

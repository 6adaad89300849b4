//! Server-side apply seen from outside: what is promised for every object, and
//! the answers of a kube-apiserver in cases that are easy to get wrong.

use rdd_apply::{
    FieldSet,
    apply::{Apply, ApplyError, apply},
    managed_fields::{Update, track_update},
};
use rdd_schema::Schema;
use serde_json::{Value, json};

const API_VERSION: &str = "ex.com/v1";

struct World {
    schema: Schema,
    blank: Value,
    versions: Vec<String>,
}

impl World {
    fn new() -> Self {
        let document = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "string"},
            "n": {"type": "integer"},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "list": {"type": "array", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "sub": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}},
            "atom": {"type": "object", "x-kubernetes-map-type": "atomic",
                     "properties": {"x": {"type": "string"}, "y": {"type": "string"}}},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "items": {"type": "array", "x-kubernetes-list-type": "map",
                      "x-kubernetes-list-map-keys": ["name", "proto"],
                      "items": {"type": "object", "properties": {
                          "name": {"type": "string"}, "proto": {"type": "string", "default": "TCP"},
                          "val": {"type": "string"}, "other": {"type": "string"}}}}
        }}}});
        Self {
            schema: Schema::parse(&document).expect("the test's schema is valid"),
            blank: json!({}),
            versions: vec![API_VERSION.to_owned()],
        }
    }

    fn apply(
        &self,
        live: Option<&Value>,
        manager: &str,
        force: bool,
        spec: &Value,
    ) -> Result<Value, ApplyError> {
        let config = json!({"apiVersion": API_VERSION, "kind": "Widget",
                            "metadata": {"name": "w"}, "spec": spec});
        let request = Apply {
            schema: &self.schema,
            kind: "Widget",
            api_version: API_VERSION,
            manager,
            subresource: "",
            force,
            reset_fields: &[],
            api_versions: &self.versions,
            blank: &self.blank,
            now: "2024-01-01T00:00:00Z",
            custom: true,
            undeclared: &[],
            other_versions: &[],
        };
        apply(live, &config, &request)
    }

    fn applied(&self, live: Option<&Value>, manager: &str, spec: Value) -> Value {
        self.apply(live, manager, true, &spec)
            .expect("a forced apply of a fitting configuration succeeds")
    }

    fn update(&self, live: Option<&Value>, manager: &str, spec: Value) -> Value {
        let mut new = live.cloned().unwrap_or_else(
            || json!({"apiVersion": API_VERSION, "kind": "Widget", "metadata": {"name": "w"}}),
        );
        new["spec"] = spec;
        let update = Update {
            schema: &self.schema,
            manager,
            api_version: API_VERSION,
            subresource: "",
            reset_fields: &[],
            api_versions: &self.versions,
            blank: &self.blank,
            now: "2024-01-01T00:00:00Z",
            custom: true,
            other_versions: &[],
        };
        track_update(live, &mut new, &update);
        new
    }
}

fn fields_of(object: &Value, manager: &str) -> Value {
    object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|entry| entry["manager"] == manager)
        .map_or(Value::Null, |entry| entry["fieldsV1"].clone())
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

    fn word(&mut self) -> Value {
        json!(["a", "b", "c", "d"][self.roll(4)])
    }

    fn distinct(&mut self) -> Vec<Value> {
        let mut words: Vec<Value> = ["a", "b", "c", "d"].map(Value::from).to_vec();
        words.retain(|_| self.roll(2) == 0);
        words
    }

    /// A configuration; every field is there half of the time.
    fn spec(&mut self) -> Value {
        let mut spec = json!({"a": self.word(), "n": self.roll(3), "list": [self.word()],
            "tags": self.distinct(), "atom": {"x": self.word()},
            "map": {}, "sub": {}, "any": {}, "items": []});
        for name in ["map", "any"] {
            for key in self.distinct() {
                let key = key.as_str().unwrap_or_default().to_owned();
                spec[name][key] = self.word();
            }
        }
        for name in ["x", "y"] {
            if self.roll(2) == 0 {
                spec["sub"][name] = self.word();
            }
        }
        let items: Vec<Value> = self
            .distinct()
            .into_iter()
            .map(|name| {
                let leaf = ["val", "other"][self.roll(2)];
                let mut item = json!({"name": name});
                item[leaf] = self.word();
                item
            })
            .collect();
        spec["items"] = Value::Array(items);
        // Empty set and map lists are owned by nobody, so a repeated apply may bring
        // them back; kube-apiserver does the same.
        if let Value::Object(fields) = &mut spec {
            fields.retain(|_, value| {
                self.roll(2) == 0 && value.as_array().is_none_or(|items| !items.is_empty())
            });
        }
        spec
    }
}

#[test]
fn applying_twice_changes_nothing() {
    let world = World::new();
    let mut dice = Dice(7);
    let mut live: Option<Value> = None;
    for round in 0..500 {
        let spec = dice.spec();
        let manager = ["m1", "m2", "m3"][dice.roll(3)];
        let once = world.applied(live.as_ref(), manager, spec.clone());
        let twice = world.applied(Some(&once), manager, spec.clone());
        assert_eq!(once, twice, "round {round}: {spec}");
        live = Some(once);
    }
}

#[test]
fn what_is_applied_is_there_and_what_others_own_stays() {
    let world = World::new();
    let mut dice = Dice(11);
    for round in 0..500 {
        let (first, second) = (dice.spec(), dice.spec());
        let one = world.applied(None, "m1", first.clone());
        let Ok(both) = world.apply(Some(&one), "m2", false, &second) else {
            continue;
        };
        assert_eq!(
            fields_of(&both, "m1"),
            fields_of(&one, "m1"),
            "round {round}"
        );
        // Either may apply again what it did: nothing of it was lost.
        for (manager, spec) in [("m1", &first), ("m2", &second)] {
            let again = world.apply(Some(&both), manager, false, spec);
            let again = again.expect("a manager has no conflict with what it applied last");
            assert_eq!(
                fields_of(&again, manager),
                fields_of(&both, manager),
                "round {round}: {first} {second}"
            );
        }
    }
}

#[test]
fn what_the_last_owner_drops_disappears() {
    let world = World::new();
    let mut dice = Dice(13);
    for round in 0..500 {
        let (first, second) = (dice.spec(), dice.spec());
        let base = world.applied(None, "m1", first);
        let with = world.applied(Some(&base), "m2", second.clone());
        let alone = world.applied(Some(&with), "m2", json!({}));
        let owned = FieldSet::decode(&fields_of(&alone, "m1")).unwrap_or_default();
        for name in ["a", "n", "list", "atom"] {
            let field = format!("f:{name}");
            let kept = owned.below("f:spec").is_some_and(|spec| spec.has(&field));
            assert_eq!(
                alone["spec"].get(name).is_some(),
                kept,
                "round {round}: {name}"
            );
        }
    }
}

#[test]
fn an_item_that_only_an_update_extended_goes_with_its_applier() {
    let world = World::new();
    let live = world.applied(None, "m1", json!({"items": [{"name": "a", "val": "1"}]}));
    let live = world.update(
        Some(&live),
        "u",
        json!({"items": [{"name": "a", "val": "1", "other": "2"}]}),
    );
    let live = world.applied(Some(&live), "m1", json!({}));
    assert!(live.get("spec").is_none(), "{live}");
    assert_eq!(fields_of(&live, "m1"), json!({"f:spec": {}}));
}

#[test]
fn containers_that_another_manager_owns_stay_empty() {
    let world = World::new();
    let live = world.update(None, "u", json!({"map": {"k": "v"}, "n": 1}));
    let live = world.applied(Some(&live), "m1", json!({"map": {"k": "w"}}));
    let live = world.applied(Some(&live), "m1", json!({}));
    assert_eq!(live["spec"], json!({"map": {}, "n": 1}));
}

#[test]
fn conflicts_name_managers_and_paths() {
    let world = World::new();
    let live = world.applied(
        None,
        "m1",
        json!({"items": [{"name": "a", "val": "1"}], "a": "1"}),
    );
    let live = world.update(
        Some(&live),
        "upd",
        json!({"items": [{"name": "a", "val": "1"}], "a": "2", "n": 1}),
    );
    let spec = json!({"items": [{"name": "a", "val": "9"}], "a": "3", "n": 2});
    let Err(ApplyError::Conflict(conflicts)) = world.apply(Some(&live), "m2", false, &spec) else {
        panic!("values of other managers must conflict");
    };
    assert_eq!(
        conflicts.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"m1\":\n\
         - .spec.items[name=\"a\",proto=\"TCP\"].val\n\
         conflicts with \"upd\" using ex.com/v1:\n- .spec.a\n- .spec.n"
    );
    let fields: Vec<String> = conflicts.paths().map(|(_, field)| field).collect();
    assert_eq!(fields[0], ".spec.a");
}

#[test]
fn set_items_keep_the_order_of_the_last_applier() {
    let world = World::new();
    let live = world.applied(None, "m1", json!({"tags": ["a", "b", "c"]}));
    let live = world.applied(Some(&live), "m2", json!({"tags": ["x", "y"]}));
    let live = world.applied(Some(&live), "m1", json!({"tags": ["c", "b", "a"]}));
    assert_eq!(live["spec"]["tags"], json!(["c", "x", "y", "b", "a"]));
}

#[test]
fn what_does_not_fit_the_schema_is_named() {
    let world = World::new();
    let check = |spec: Value, expected: &str| {
        let prefix = "failed to create typed patch object (/w; ex.com/v1, Kind=Widget): ";
        assert_eq!(
            world.apply(None, "m", false, &spec),
            Err(ApplyError::Type(format!("{prefix}{expected}"))),
            "{spec}"
        );
    };
    check(json!({"foo": 1}), ".spec.foo: field not declared in schema");
    check(
        json!({"tags": ["a", "a"]}),
        ".spec.tags: duplicate entries for key [=\"a\"]",
    );
    check(
        json!({"a": 5}),
        ".spec.a: expected string, got &value.valueUnstructured{Value:5}",
    );
    check(
        json!({"n": "x"}),
        ".spec.n: expected numeric (int or float), got string",
    );
    check(json!({"list": "x"}), ".spec.list: expected list, got &{x}");
    check(json!({"sub": ["x"]}), ".spec.sub: expected map, got &{[x]}");
}

#[test]
fn an_untracked_object_belongs_to_before_first_apply() {
    let world = World::new();
    let live = json!({"apiVersion": API_VERSION, "kind": "Widget", "metadata": {"name": "w"},
                      "spec": {"a": "1"}});
    let updated = world.update(Some(&live), "u", json!({"a": "2"}));
    assert_eq!(updated.pointer("/metadata/managedFields"), None);
    let applied = world.applied(Some(&updated), "m1", json!({"a": "2"}));
    assert_eq!(
        fields_of(&applied, "before-first-apply"),
        json!({"f:spec": {".": {}, "f:a": {}}})
    );
}

#[test]
fn the_eleventh_updater_joins_the_ancient_changes() {
    let world = World::new();
    let mut live = world.update(None, "u0", json!({"map": {"k0": "v"}}));
    for at in 1..13 {
        let mut spec = live["spec"].clone();
        spec["map"][format!("k{at}")] = json!("v");
        live = world.update(Some(&live), &format!("u{at}"), spec);
    }
    let entries = live["metadata"]["managedFields"].as_array();
    assert_eq!(entries.map(Vec::len), Some(10));
    assert_ne!(fields_of(&live, "ancient-changes"), Value::Null);
}

#[test]
fn entries_of_a_removed_version_stop_applies_until_an_update_drops_them() {
    let world = World::new();
    let mut live = world.applied(None, "old", json!({"a": "1"}));
    live["metadata"]["managedFields"][0]["apiVersion"] = json!("ex.com/v1beta1");
    assert_eq!(
        world.apply(Some(&live), "m1", false, &json!({"n": 1})),
        Err(ApplyError::Type(
            "request to convert CR to an invalid group/version: ex.com/v1beta1".to_owned()
        ))
    );
    let live = world.update(Some(&live), "u", json!({"a": "2"}));
    assert_eq!(live.pointer("/metadata/managedFields"), None);
}

#[test]
fn kubectl_takes_over_what_its_client_side_apply_wrote() {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let world = World::new();
    let mut live = world.update(None, "kubectl-client-side-apply", json!({"a": "1", "n": 1}));
    live["metadata"]["annotations"][LAST_APPLIED] = json!(
        json!({"apiVersion": API_VERSION, "kind": "Widget", "metadata": {"name": "w"},
               "spec": {"a": "1"}})
        .to_string()
    );
    let foreign = world.apply(Some(&live), "kubectl", false, &json!({"a": "2", "n": 2}));
    assert!(
        matches!(&foreign, Err(ApplyError::Conflict(conflicts)) if conflicts.paths().count() == 1),
        "{foreign:?}"
    );
    let taken = world.apply(Some(&live), "kubectl", false, &json!({"a": "<2>"}));
    let taken = taken.expect("client-side apply wrote the field last");
    assert_eq!(
        taken["metadata"]["annotations"][LAST_APPLIED],
        "{\"apiVersion\":\"ex.com/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"w\"},\
         \"spec\":{\"a\":\"\\u003c2\\u003e\"}}\n"
    );
    assert!(
        world
            .apply(Some(&live), "other", false, &json!({"a": "2"}))
            .is_err()
    );
}

#[test]
fn an_equal_value_is_shared_without_a_time() {
    let world = World::new();
    let live = world.applied(None, "m1", json!({"a": "1"}));
    let live = world.applied(Some(&live), "m2", json!({"a": "1"}));
    let entries = &live["metadata"]["managedFields"];
    assert_eq!(entries[0]["manager"], "m2");
    assert_eq!(entries[0].get("time"), None);
    assert!(entries[1].get("time").is_some());
}

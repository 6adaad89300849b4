//! Rules in schemas: judged with the definition, run with the object.

use rdd_cel::rules::{self, Findings, OfDefaults, RuleTree};
use rdd_schema::Schema;
use serde_json::{Value as Json, json};

/// A schema of an object with one property `x`.
fn schema(x: &Json) -> Schema {
    let document = json!({"type": "object", "properties": {"x": x}});
    Schema::parse(&document).expect("the document is a schema")
}

fn run(x: &Json, new: &Json, old: Option<&Json>) -> Findings {
    let schema = schema(x);
    let tree = RuleTree::compile(&schema).expect("there is a rule");
    let object = |x: &Json| json!({"x": x});
    tree.validate(&schema, &object(new), old.map(object).as_ref())
}

fn texts(findings: &Findings) -> Vec<String> {
    findings.errors.iter().map(ToString::to_string).collect()
}

fn check(x: &Json, new: &Json, old: Option<&Json>, expect: &[&str]) {
    assert_eq!(texts(&run(x, new, old)), expect, "{x} {new} {old:?}");
}

fn judge(x: &Json, expect: &[&str]) {
    let problems = rules::problems(&schema(x), "S");
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, expect, "{x}");
}

fn with(mut x: Json, rules: Json) -> Json {
    x["x-kubernetes-validations"] = rules;
    x
}

#[test]
fn failures_say_where_what_and_why() {
    let text = |rule: Json| with(json!({"type": "string", "maxLength": 9}), json!([rule]));
    check(
        &text(json!({"rule": "self == 'ok'"})),
        &json!("no"),
        None,
        &["x: Invalid value: \"no\": failed rule: self == 'ok'"],
    );
    check(
        &text(json!({"rule": "self == 'ok'", "message": " say ok "})),
        &json!("no"),
        None,
        &["x: Invalid value: \"no\": say ok"],
    );
    check(
        &text(json!({"rule": "false", "messageExpression": "'got ' + self", "message": "m"})),
        &json!("no"),
        None,
        &["x: Invalid value: \"no\": got no"],
    );
    check(
        &text(json!({"rule": "false", "messageExpression": "'  '", "message": "m"})),
        &json!("no"),
        None,
        &["x: Invalid value: \"no\": m"],
    );
    check(
        &text(json!({"rule": "false", "reason": "FieldValueForbidden", "message": "m"})),
        &json!("no"),
        None,
        &["x: Forbidden: m"],
    );
    check(
        &text(json!({"rule": "1 / size(self) == 1", "message": "m"})),
        &json!(""),
        None,
        &["x: Invalid value: \"string\": division by zero evaluating rule: m"],
    );
    let object = json!({"type": "object", "properties": {
        "a": {"type": "string"}, "m": {"type": "object", "additionalProperties": {"type": "string"}},
    }});
    check(
        &with(
            object.clone(),
            json!([{"rule": "false", "message": "m", "fieldPath": ".m['k']"}]),
        ),
        &json!({}),
        None,
        &["x.m[k]: Invalid value: m"],
    );
    check(
        &with(object, json!([{"rule": "self.a == 'x'", "message": "m"}])),
        &json!({}),
        None,
        &["x: Invalid value: \"object\": no such key: a evaluating rule: m"],
    );
}

#[test]
fn transition_rules_run_where_there_was_a_value() {
    let fixed = with(
        json!({"type": "string"}),
        json!([{"rule": "self == oldSelf", "message": "fixed"}]),
    );
    let error = &["x: Invalid value: \"b\": fixed"][..];
    check(&fixed, &json!("b"), None, &[]);
    check(&fixed, &json!("b"), Some(&json!("b")), &[]);
    check(&fixed, &json!("b"), Some(&json!("a")), error);
    let optional = with(
        json!({"type": "string"}),
        json!([{
            "rule": "oldSelf.hasValue() ? self == oldSelf.value() : self == 'a'",
            "optionalOldSelf": true, "message": "fixed",
        }]),
    );
    check(&optional, &json!("a"), None, &[]);
    check(&optional, &json!("b"), None, error);
    let item = with(
        json!({"type": "object", "properties": {
            "k": {"type": "string"}, "v": {"type": "integer"},
        }}),
        json!([{"rule": "self.v >= oldSelf.v", "message": "shrank"}]),
    );
    let list = json!({
        "type": "array", "items": item,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
    });
    let (one, two) = (json!({"k": "a", "v": 1}), json!({"k": "b", "v": 2}));
    let lower = json!({"k": "b", "v": 1});
    check(&list, &json!([two, one]), Some(&json!([one, two])), &[]);
    check(
        &list,
        &json!([lower, one]),
        Some(&json!([one, two])),
        &["x[0]: Invalid value: shrank"],
    );
}

#[test]
fn what_did_not_change_is_only_told() {
    let x = with(
        json!({"type": "object", "properties": {"a": {"type": "integer"}}}),
        json!([{"rule": "self.a > 5", "message": "small"}]),
    );
    let findings = run(&x, &json!({"a": 1}), Some(&json!({"a": 1})));
    assert_eq!(texts(&findings), [""; 0]);
    assert_eq!(findings.warnings, ["x: Invalid value: small"]);
    let findings = run(&x, &json!({"a": 2}), Some(&json!({"a": 1})));
    assert_eq!(texts(&findings), ["x: Invalid value: small"]);
}

fn told(x: &Json, new: &Json, old: &Json, errors: &[&str], warnings: &[&str]) {
    let findings = run(x, new, Some(old));
    assert_eq!(texts(&findings), errors, "{x} {old} -> {new}");
    assert_eq!(findings.warnings, warnings, "{x} {old} -> {new}");
}

#[test]
fn parts_of_what_did_not_change_did_not_change() {
    let item = json!({"type": "object", "required": ["k"], "properties": {
        "k": {"type": "string", "maxLength": 9},
        "v": with(
            json!({"type": "string", "maxLength": 9}),
            json!([{"rule": "self == 'ok'", "message": "bad"}]),
        ),
    }});
    let list = json!({"type": "array", "maxItems": 9, "items": item});
    let (one, other) = (json!({"k": "a", "v": "x"}), json!({"k": "b", "v": "ok"}));
    let said = |index: usize| format!("x[{index}].v: Invalid value: \"x\": bad");
    // Which item is which cannot be told here: the list counts as a whole.
    let pair = json!([one, other]);
    told(&list, &pair, &pair, &[], &[&said(0)]);
    told(&list, &json!([one]), &pair, &[&said(0)], &[]);
    let mut keyed = list;
    keyed["x-kubernetes-list-type"] = json!("map");
    keyed["x-kubernetes-list-map-keys"] = json!(["k"]);
    told(&keyed, &json!([one]), &pair, &[], &[&said(0)]);
    told(&keyed, &json!([other, one]), &pair, &[], &[&said(1)]);
    let changed = json!([{"k": "b", "v": "x"}]);
    told(&keyed, &changed, &pair, &[&said(0)], &[]);
}

#[test]
fn an_object_with_unknown_fields_always_changed() {
    let x = with(
        json!({
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"a": {"type": "integer"}},
        }),
        json!([{"rule": "self.a > 5", "message": "small"}]),
    );
    let (known, unknown) = (json!({"a": 1}), json!({"a": 1, "b": 1}));
    let said = "x: Invalid value: small";
    told(&x, &known, &known, &[], &[said]);
    told(&x, &unknown, &unknown, &[said], &[]);
}

#[test]
fn a_field_that_is_null_is_none() {
    let x = |rule: &str| {
        with(
            json!({"type": "object", "properties": {
                "a": with(
                    json!({"type": "integer", "nullable": true}),
                    json!([{"rule": "self > oldSelf", "message": "shrank"}]),
                ),
                "m": {
                    "type": "object", "maxProperties": 9,
                    "additionalProperties": {"type": "integer", "nullable": true},
                },
            }}),
            json!([{"rule": rule}]),
        )
    };
    let null = json!({"a": null, "m": {"k": null}});
    check(&x("!has(self.a)"), &null, None, &[]);
    check(&x("!self.?a.hasValue()"), &null, None, &[]);
    check(
        &x("'k' in self.m && dyn(self.m['k']) == null"),
        &null,
        None,
        &[],
    );
    // There was no value to compare with.
    check(&x("true"), &json!({"a": 1}), Some(&null), &[]);
}

#[test]
fn old_self_is_not_optional_in_a_message() {
    let x = |message: &str| {
        with(
            json!({"type": "string", "maxLength": 9}),
            json!([{
                "rule": "!oldSelf.hasValue() || self == oldSelf.value()",
                "optionalOldSelf": true, "message": "differs", "messageExpression": message,
            }]),
        )
    };
    let (new, old) = (json!("b"), json!("a"));
    let said = "x: Invalid value: \"b\": ";
    check(
        &x("'was ' + oldSelf.value()"),
        &new,
        Some(&old),
        &[&format!("{said}differs")],
    );
    check(
        &x("'is ' + self"),
        &new,
        Some(&old),
        &[&format!("{said}is b")],
    );
}

#[test]
fn defaults_keep_to_the_rules_of_their_schemas() {
    let judged = |x: &Json, default: &Json| -> Vec<String> {
        let schema = Schema::parse(x).expect("the document is a schema");
        let errors = OfDefaults::default().judge(default, &schema, false, "d");
        errors.iter().map(ToString::to_string).collect()
    };
    let list = |rule: &str| {
        json!({
            "type": "array", "maxItems": 9,
            "items": with(json!({"type": "integer"}), json!([{"rule": rule}])),
        })
    };
    assert_eq!(judged(&list("self > 0"), &json!([1])), [""; 0]);
    assert_eq!(
        judged(&list("self > 0"), &json!([1, 0])),
        ["d[1]: Invalid value: 0: failed rule: self > 0"]
    );
    // It must be one that may be new, too.
    let new = json!([{"rule": "oldSelf.hasValue()", "optionalOldSelf": true}]);
    assert_eq!(
        judged(&with(json!({"type": "integer"}), new), &json!(1)),
        ["d: Invalid value: 1: failed rule: oldSelf.hasValue()"]
    );
}

#[test]
fn defaults_share_one_budget() {
    let x = with(
        json!({"type": "array", "items": {"type": "integer"}}),
        json!([{"rule": "self.all(a, self.all(b, a + b >= 0))"}]),
    );
    let schema = Schema::parse(&x).expect("the document is a schema");
    let default = json!((0..330).collect::<Vec<_>>());
    let mut judge = OfDefaults::default();
    let refused = (0..100)
        .filter(|_| !judge.judge(&default, &schema, false, "d").is_empty())
        .count();
    assert_eq!(refused, 1, "after that nothing is evaluated");
}

#[test]
fn sets_and_map_lists_are_compared_and_joined_as_such() {
    let set = |rule: &str| {
        with(
            json!({"type": "object", "properties": {
                "a": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "b": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            }}),
            json!([{"rule": rule}]),
        )
    };
    let value = json!({"a": ["x", "y"], "b": ["y", "x"]});
    check(&set("self.a == self.b"), &value, None, &[]);
    check(&set("size(self.a + self.b) == 2"), &value, None, &[]);
    check(&set("self.a == self.a + ['y']"), &value, None, &[]);
}

#[test]
fn an_object_has_one_budget_for_all_rules() {
    let x = with(
        json!({"type": "array", "items": {"type": "integer"}}),
        json!((0..20)
            .map(|index| json!({"rule": format!("self.all(x, self.all(y, x + y > -{index} - 1))")}))
            .collect::<Vec<_>>()),
    );
    let items: Vec<usize> = (0..330).collect();
    let findings = run(&x, &json!(items), None);
    assert_eq!(
        texts(&findings),
        [
            "x: Invalid value: \"array\": validation failed due to running out of cost budget, no \
             further validation rules will be run"
        ]
    );
}

#[test]
fn definitions_hear_what_is_wrong_with_their_rules() {
    let text = |rule: Json| with(json!({"type": "string", "maxLength": 9}), json!([rule]));
    let rule = "S.properties[x].x-kubernetes-validations[0]";
    judge(&text(json!({"rule": "self == 'a'"})), &[]);
    judge(
        &text(json!({"rule": "self"})),
        &[&format!(
            "{rule}.rule: Invalid value: {{\"Rule\":\"self\",\"Message\":\"\",\
             \"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}: \
             cel expression must evaluate to a bool"
        )],
    );
    judge(
        &text(json!({"rule": " "})),
        &[&format!(
            "{rule}.rule: Required value: rule is not specified"
        )],
    );
    judge(
        &text(json!({"rule": "true &&\ntrue"})),
        &[&format!(
            "{rule}.message: Required value: message must be specified if rule contains line breaks"
        )],
    );
    judge(
        &text(json!({"rule": "true", "message": " "})),
        &[&format!(
            "{rule}.message: Invalid value: \" \": must be non-empty if specified"
        )],
    );
    judge(
        &text(json!({"rule": "true", "message": "a\nb"})),
        &[&format!(
            "{rule}.message: Invalid value: \"a\\nb\": must not contain line breaks"
        )],
    );
    judge(
        &text(json!({"rule": "true", "message": "m".repeat(5000)})),
        &[],
    );
    judge(
        &text(json!({"rule": "true", "optionalOldSelf": true})),
        &[&format!(
            "{rule}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in \
             rule"
        )],
    );
    judge(
        &text(json!({"rule": "true", "reason": "Nope"})),
        &[&format!(
            "{rule}.reason: Unsupported value: \"Nope\": supported values: \"FieldValueDuplicate\", \
             \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\""
        )],
    );
    judge(
        &text(json!({"rule": "true", "fieldPath": ".x"})),
        &[&format!(
            "{rule}.fieldPath: Invalid value: \".x\": must be a valid path"
        )],
    );
    let list = json!({"type": "array", "maxItems": 1000, "items": {"type": "integer"}});
    let cure = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where \
                arrays, maps, and strings are declared)";
    judge(
        &with(
            list,
            json!([{"rule": "self.all(x, self.all(y, self.all(z, x + y + z > 0)))"}]),
        ),
        &[
            &format!(
                "{rule}.rule: Forbidden: estimated rule cost exceeds budget by factor of more than \
                 100x {cure}"
            ),
            &format!(
                "{rule}.rule: Forbidden: contributed to estimated rule cost total exceeding cost \
                 limit for entire OpenAPIv3 schema"
            ),
            &format!(
                "S: Forbidden: x-kubernetes-validations estimated rule cost total for entire \
                 OpenAPIv3 schema exceeds budget by factor of 90.1x {cure}"
            ),
        ],
    );
}

#[test]
fn names_that_are_no_identifiers_are_escaped() {
    let x = |rule: &str| {
        with(
            json!({"type": "object", "properties": {
                "a-b": {"type": "integer"}, "a.b": {"type": "integer"}, "a/b": {"type": "integer"},
                "a__b": {"type": "integer"}, "namespace": {"type": "integer"},
            }}),
            json!([{"rule": rule}]),
        )
    };
    let value = json!({"a-b": 1, "a.b": 2, "a/b": 3, "a__b": 4, "namespace": 5});
    for rule in [
        "self.a__dash__b == 1",
        "self.a__dot__b == 2 && has(self.a__dot__b)",
        "self.a__slash__b == 3",
        "self.a__underscores__b == 4",
        "self.__namespace__ == 5 && self.namespace == 5",
    ] {
        judge(&x(rule), &[]);
        check(&x(rule), &value, None, &[]);
    }
}

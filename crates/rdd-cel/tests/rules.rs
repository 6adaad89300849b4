//! Rules in schemas: judged with the definition, run with the object.

use rdd_cel::rules::{self, Findings, RuleTree};
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

//! What definitions are refused for.

use serde_json::{Value, json};

use super::bed::{APPLY, Answer, Bed, TABLE, widget};
use crate::lab::{CONFIG_MAPS, DEFINITIONS, WIDGETS, definition};

async fn define(bed: &Bed, spec: Value) -> Answer {
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let path = format!("{DEFINITIONS}?dryRun=All");
    bed.post(&path, definition(schema, json!({}))).await
}

#[tokio::test]
async fn a_default_keeps_the_rules_of_its_schema() {
    let bed = Bed::start().await;
    let prefix = "CustomResourceDefinition.apiextensions.k8s.io \"widgets.example.com\" is \
                  invalid: spec.validation.openAPIV3Schema.properties[spec]";
    let refused = async |spec: Value, expect: &str| {
        let answer = define(&bed, spec).await;
        assert_eq!(
            answer.refusal(),
            (422, format!("{prefix}{expect}").as_str())
        );
    };
    let object = |default: Value, rule: Value| {
        json!({
            "type": "object", "default": default, "properties": {"a": {"type": "integer"}},
            "x-kubernetes-validations": [rule],
        })
    };
    let more = json!({"rule": "self.a > 5"});
    refused(
        object(json!({"a": 1}), more.clone()),
        ".default: Invalid value: failed rule: self.a > 5",
    )
    .await;
    refused(
        object(json!({}), more.clone()),
        ".default: Invalid value: \"object\": no such key: a evaluating rule: self.a > 5",
    )
    .await;
    let placed = json!({
        "rule": "self.a > 5", "message": "too small", "reason": "FieldValueForbidden",
        "fieldPath": ".a",
    });
    refused(
        object(json!({"a": 1}), placed),
        ".default.a: Forbidden: too small",
    )
    .await;
    let list = json!({
        "type": "array", "maxItems": 3, "default": [7, 1],
        "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 5"}]},
    });
    refused(
        json!({"type": "object", "properties": {"l": list}}),
        ".properties[l].default[1]: Invalid value: 1: failed rule: self > 5",
    )
    .await;
    assert_eq!(define(&bed, object(json!({"a": 6}), more)).await.code, 201);
}

#[tokio::test]
async fn keywords_that_no_schema_has_are_dropped_or_refused_by_the_way_they_come() {
    let bed = Bed::start().await;
    let foreign = json!({"type": "object", "foo": 1});
    assert_eq!(define(&bed, foreign.clone()).await.code, 201);
    let schema = json!({"type": "object", "properties": {"spec": foreign}});
    let path = format!("{DEFINITIONS}/widgets.example.com?fieldManager=m");
    let body = definition(schema, json!({})).to_string();
    assert_eq!(
        bed.patch(APPLY, &path, &body).await.refusal(),
        (
            500,
            "failed to create typed patch object (/widgets.example.com; apiextensions.k8s.io/v1, \
             Kind=CustomResourceDefinition): \
             .spec.versions[0].schema.openAPIV3Schema.properties.spec.foo: field not declared in \
             schema"
        )
    );
    let refused = define(&bed, json!({"type": "object", "$schema": "x"})).await;
    assert!(
        refused
            .message()
            .ends_with("OpenAPIV3Schema 'schema' is not supported"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn versions_are_shown_as_they_were_written() {
    let bed = Bed::start().await;
    let mut body = definition(json!({"type": "object"}), json!({}));
    for (versions, shown) in [(json!([]), "[]"), (Value::Null, "null")] {
        body["spec"]["versions"] = versions;
        let path = format!("{DEFINITIONS}?dryRun=All");
        let answer = bed.post(&path, body.clone()).await;
        let expect = format!(
            "Invalid value: {shown}: must have exactly one version marked as storage version"
        );
        assert!(answer.message().contains(&expect), "{answer:?}");
    }
}

#[tokio::test]
async fn a_column_that_cannot_be_read_leaves_the_name_alone() {
    let bed = Bed::start().await;
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let columns = json!({"additionalPrinterColumns": [
        {"name": "Bad", "type": "string", "jsonPath": ".spec.l["},
        {"name": "Good", "type": "string", "jsonPath": ".spec.g"},
    ]});
    bed.serve_widgets(open, columns).await;
    let made = bed
        .ask(http::Method::POST, WIDGETS, &[], &widget("a", "{}"))
        .await;
    assert_eq!(made.code, 201);
    let table = bed.get_as(WIDGETS, TABLE).await;
    assert_eq!(table.body["rows"][0]["cells"], json!(["a"]));
}

#[tokio::test]
async fn the_path_names_no_new_object_and_nothing_behind_a_subresource() {
    let bed = Bed::start().await;
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    bed.serve_widgets(open, json!({"subresources": {"status": {}}}))
        .await;
    let post = async |name: &str, metadata: Value| {
        let body = json!({
            "apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata,
        });
        bed.post(&format!("{WIDGETS}/{name}"), body).await
    };
    let made = post("other", json!({"name": "a"})).await;
    assert_eq!(made.body["metadata"]["name"], "a");
    let made = post("other", json!({"generateName": "b-"})).await;
    let name = made.body["metadata"]["name"].as_str().unwrap_or_default();
    assert!(name.starts_with("b-") && name.len() > 2, "{made:?}");
    assert_eq!(
        post("other", json!({})).await.refusal(),
        (
            422,
            "Widget.example.com \"\" is invalid: metadata.name: Required value: name or \
             generateName is required"
        )
    );
    let status = bed.get(&format!("{WIDGETS}/a/status/more/still")).await;
    assert_eq!(status.body["metadata"]["name"], "a");
    let unknown = bed.get(&format!("{WIDGETS}/a/nothing/more")).await;
    assert_eq!(
        unknown.refusal(),
        (404, "widgets.example.com \"a\" not found")
    );
    let map = bed.get(&format!("{CONFIG_MAPS}/a/status/more")).await;
    assert_eq!(
        map.refusal(),
        (404, "the server could not find the requested resource")
    );
}

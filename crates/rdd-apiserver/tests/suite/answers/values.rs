//! How values are judged, and which writes change something.

use http::Method;
use serde_json::{Value, json};

use super::bed::{APPLY, Bed, MERGE, PARTIAL_LIST, widget};
use crate::lab::{CONFIG_MAPS, DEFINITIONS, WIDGETS};

fn schema(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

#[tokio::test]
async fn an_integer_and_a_float_of_the_same_value_are_two_values() {
    let bed = Bed::start().await;
    let spec = json!({"type": "object", "properties": {
        "n": {"type": "number"},
        "s": {"type": "string"},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "number"}},
    }});
    bed.serve_widgets(schema(spec), json!({})).await;
    let make = async |name: &str, spec: &str| {
        bed.ask(Method::POST, WIDGETS, &[], &widget(name, spec))
            .await
    };
    let made = make("a", r#"{"n":1}"#).await;
    let path = format!("{WIDGETS}/a");
    let patched = bed.patch(MERGE, &path, r#"{"spec":{"n":1.0}}"#).await;
    assert_ne!(patched.revision(), made.revision());
    assert_eq!(patched.body["metadata"]["generation"], 2);
    assert_eq!(
        patched.body["spec"]["n"].to_string(),
        "1",
        "it is kept as Go prints it"
    );
    let again = bed.patch(MERGE, &path, r#"{"spec":{"n":1}}"#).await;
    assert_eq!(again.revision(), patched.revision());
    // YAML, in which configurations are applied, knows no such difference.
    let applied = bed
        .patch(
            APPLY,
            &format!("{path}?fieldManager=m"),
            &widget("a", r#"{"n":1.0}"#),
        )
        .await;
    assert_eq!(applied.body["metadata"]["generation"], 2, "{applied:?}");

    let wrong = make("b", r#"{"s":1.0}"#).await;
    assert_eq!(
        wrong.message(),
        "Widget.example.com \"b\" is invalid: spec.s: Invalid value: \"number\": spec.s in body \
         must be of type string: \"number\""
    );
    assert_eq!(make("c", r#"{"set":[1,1.0]}"#).await.code, 201);
    assert_eq!(make("d", r#"{"set":[1,1]}"#).await.code, 422);
}

#[tokio::test]
async fn a_view_that_one_object_does_not_have_is_missed_after_the_write() {
    let bed = Bed::start().await;
    bed.serve_widgets(schema(json!({"type": "object"})), json!({}))
        .await;
    let headers = [("accept", PARTIAL_LIST)];
    let answer = bed
        .ask(Method::POST, WIDGETS, &headers, &widget("b", "{}"))
        .await;
    assert_eq!(answer.refusal(), (500, "content is not a list"));
    assert_eq!(bed.get(&format!("{WIDGETS}/b")).await.code, 200);
}

#[tokio::test]
async fn managed_fields_go_when_the_schema_no_longer_fits_what_they_are_about() {
    let bed = Bed::start().await;
    let of_type =
        |kind: &str| schema(json!({"type": "object", "properties": {"x": {"type": kind}}}));
    bed.serve_widgets(of_type("string"), json!({})).await;
    let made = bed
        .ask(Method::POST, WIDGETS, &[], &widget("a", r#"{"x":"1"}"#))
        .await;
    assert!(made.body["metadata"]["managedFields"].is_array());
    let versions = json!([{
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": of_type("integer")},
    }]);
    let change = json!({"spec": {"versions": versions}}).to_string();
    let path = format!("{DEFINITIONS}/widgets.example.com");
    assert_eq!(bed.patch(MERGE, &path, &change).await.code, 200);
    let labelled = bed
        .patch(
            MERGE,
            &format!("{WIDGETS}/a"),
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
        )
        .await;
    assert_eq!(labelled.code, 200, "{labelled:?}");
    assert_eq!(labelled.body["metadata"].get("managedFields"), None);
}

#[tokio::test]
async fn no_webhooks_and_an_empty_list_of_them_are_two_generations() {
    let bed = Bed::start().await;
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let made = bed.post(path, json!({"metadata": {"name": "a"}})).await;
    assert_eq!(made.body["metadata"]["generation"], 1);
    let patched = bed
        .patch(MERGE, &format!("{path}/a"), r#"{"webhooks":[]}"#)
        .await;
    assert_eq!(patched.body["metadata"]["generation"], 2);
    assert_eq!(patched.body.get("webhooks"), None);
    let made = bed
        .post(path, json!({"metadata": {"name": "b"}, "webhooks": []}))
        .await;
    assert_eq!(made.body["metadata"]["managedFields"], Value::Null);
    let label = r#"{"metadata":{"labels":{"a":"b"}}}"#;
    let labelled = bed.patch(MERGE, &format!("{path}/a"), label).await;
    assert_eq!(labelled.body["metadata"]["generation"], 2);
}

#[tokio::test]
async fn what_is_refused_first_is_told_first() {
    let bed = Bed::start().await;
    let scale = json!({"subresources": {"scale": {
        "specReplicasPath": ".spec.r", "statusReplicasPath": ".status.r",
    }}});
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    bed.serve_widgets(open, scale).await;
    let other = r#"{"apiVersion":"example.com/v1","kind":"Gadget","metadata":"x"}"#;
    assert_eq!(
        bed.ask(Method::POST, WIDGETS, &[], other).await.refusal(),
        (
            400,
            "Gadget in version \"v1\" cannot be handled as a Widget: json: cannot unmarshal \
             string into Go value of type v1.ObjectMeta"
        )
    );
    let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":"x"}"#;
    let secrets = "/api/v1/namespaces/default/secrets";
    assert_eq!(
        bed.ask(Method::POST, secrets, &[], map).await.refusal(),
        (
            400,
            "ConfigMap in version \"v1\" cannot be handled as a Secret: json: cannot unmarshal \
             string into Go struct field ConfigMap.data of type map[string]string"
        )
    );
    assert_eq!(bed.patch("text/plain", WIDGETS, "{}").await.code, 415);
    assert_eq!(
        bed.patch(MERGE, WIDGETS, "{}").await.refusal(),
        (400, "name must be provided")
    );
    assert_eq!(
        bed.ask(Method::POST, WIDGETS, &[], &widget("a", r#"{"r":1}"#))
            .await
            .code,
        201
    );
    let refused = bed
        .patch(
            MERGE,
            &format!("{WIDGETS}/a/scale"),
            r#"{"spec":{"replicas":{}}}"#,
        )
        .await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let expect = "json: cannot unmarshal object into Go struct field ScaleSpec.spec.replicas of \
                  type int32";
    assert!(refused.message().ends_with(expect), "{refused:?}");
}

#[tokio::test]
async fn an_object_cannot_be_made_its_own_owner() {
    let bed = Bed::start().await;
    bed.make_map("a", json!({})).await;
    let path = "/api/v1/namespaces/default/configmaps/a";
    let made = bed.get(path).await;
    let owner = |uid: &Value| {
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": uid});
        json!({"metadata": {"ownerReferences": [owner]}}).to_string()
    };
    let form = "application/merge-patch+json";
    let own = bed
        .patch(form, path, &owner(&made.body["metadata"]["uid"]))
        .await;
    let (code, message) = own.refusal();
    assert_eq!(code, 422, "{message}");
    assert!(
        message.contains("metadata.ownerReferences.uid")
            && message.contains("an object cannot own itself"),
        "{message}"
    );
    let other = bed.patch(form, path, &owner(&json!("other"))).await;
    assert_eq!(other.code, 200, "{:?}", other.body);
}

#[tokio::test]
async fn metadata_is_checked_as_often_as_its_type_does_it() {
    let bed = Bed::start().await;
    let rules = json!([]);
    for (path, body, bad_label, bad_uid, plain_finalizer) in [
        (
            "/api/v1/namespaces/default/configmaps",
            json!({}),
            4,
            2,
            422,
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
            json!({"rules": rules}),
            4,
            2,
            422,
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            json!({}),
            3,
            2,
            200,
        ),
        (
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            json!({}),
            3,
            1,
            200,
        ),
        (
            "/api/v1/namespaces/default/events",
            json!({"involvedObject": {"namespace": "default"}}),
            2,
            1,
            200,
        ),
    ] {
        let mut made = body;
        made["metadata"] = json!({"name": "a"});
        assert_eq!(bed.post(path, made).await.code, 201, "{path}");
        let object = format!("{path}/a");
        let patch = async |metadata: Value| {
            let body = json!({"metadata": metadata}).to_string();
            bed.patch(MERGE, &object, &body).await
        };
        let causes = async |metadata: Value| {
            let answer = patch(metadata).await;
            let causes = answer.body["details"]["causes"].as_array().map(Vec::len);
            causes.unwrap_or_default()
        };
        assert_eq!(
            causes(json!({"labels": {"x": "a b"}})).await,
            bad_label,
            "{path}"
        );
        assert_eq!(causes(json!({"uid": "z"})).await, bad_uid, "{path}");
        let plain = patch(json!({"finalizers": ["foo"]})).await;
        assert_eq!(plain.code, plain_finalizer, "{path}: {plain:?}");
    }
}

#[tokio::test]
async fn unknown_fields_are_told_in_the_order_of_the_document() {
    let bed = Bed::start().await;
    let path = format!("{}?fieldValidation=Strict", CONFIG_MAPS);
    let body = r#"{"zz":1,"metadata":{"nope":true,"name":"q","abc":1},"spec":{"x":"1"},"aaa":2}"#;
    let refused = bed.ask(Method::POST, &path, &[], body).await;
    assert_eq!(
        refused.message(),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         unknown field \"zz\", unknown field \"metadata.nope\", unknown field \"metadata.abc\", \
         unknown field \"spec\", unknown field \"aaa\""
    );
}

#[tokio::test]
async fn an_object_that_another_version_cannot_hold_is_not_applied_and_not_tracked() {
    let bed = Bed::start().await;
    let text = json!({"type": "string"});
    let version = |name: &str, storage: bool, field: &str| {
        let spec = json!({"type": "object", "properties": {"a": text, field: text}});
        json!({
            "name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": schema(spec)},
        })
    };
    let mut definition = crate::lab::definition(json!({}), json!({}));
    definition["spec"]["versions"] = json!([version("v1", true, "b"), version("v2", false, "c")]);
    assert_eq!(bed.post(DEFINITIONS, definition).await.code, 201);
    let path = format!("{WIDGETS}/w");
    let second = path.replace("/v1/", "/v2/");
    let applied = async |path: &str, version: &str, manager: &str, spec: &str| {
        let body = widget("w", spec).replace("/v1", version);
        let path = format!("{path}?fieldManager={manager}");
        bed.patch(APPLY, &path, &body).await
    };
    let made = applied(&second, "/v2", "m1", r#"{"a":"1","c":"2"}"#).await;
    assert_eq!(made.code, 201, "{made:?}");
    let refused = applied(&path, "/v1", "m2", r#"{"a":"1","b":"2"}"#).await;
    assert_eq!(
        refused.refusal(),
        (
            500,
            "failed to convert new object: .spec.b: field not declared in schema"
        )
    );
    let same = applied(&path, "/v1", "m2", r#"{"a":"1"}"#).await;
    assert_eq!(same.code, 200, "{same:?}");
    assert_ne!(same.body["metadata"]["managedFields"], Value::Null);
    let patched = bed.patch(MERGE, &path, r#"{"spec":{"b":"3"}}"#).await;
    assert_eq!(patched.code, 200, "{patched:?}");
    assert_eq!(patched.body["metadata"]["managedFields"], Value::Null);
}

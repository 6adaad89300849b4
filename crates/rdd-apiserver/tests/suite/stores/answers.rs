//! Answers that are easy to get wrong, as a kube-apiserver gave them.

use std::sync::Arc;

use http::Method;
use rdd_store::MemoryStore;
use serde_json::{Value, json};

use super::{bed::Bed, definition, map, widget};
use crate::lab::{CONFIG_MAPS, DEFINITIONS, WIDGETS, whole};

const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

struct Asked<'a> {
    bed: &'a Bed,
}

impl Asked<'_> {
    /// The code, the message or `null`, and the warnings.
    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> (u16, Value, Vec<String>) {
        let headers = [("content-type", content_type)];
        let (status, headers, answer) = self
            .bed
            .send(method, path, &headers, body.as_bytes().to_vec())
            .await;
        let warnings = headers.get_all("warning").iter();
        let warnings = warnings.map(|one| one.to_str().expect("a text").to_owned());
        let answer: Value = serde_json::from_slice(&whole(answer).await).expect("JSON");
        (
            status.as_u16(),
            answer["message"].clone(),
            warnings.collect(),
        )
    }

    async fn refused(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &str,
        wanted: (u16, &str),
    ) {
        let (code, message, _) = self.send(method, path, content_type, body).await;
        assert_eq!(
            (code, message),
            (wanted.0, json!(wanted.1)),
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn patches_tell_first_what_kube_apiserver_tells_first() {
    let bed = Bed::start(Arc::new(MemoryStore::new())).await;
    let asked = Asked { bed: &bed };
    let one = format!("{CONFIG_MAPS}/a");
    let missing = "configmaps \"a\" not found";
    for (form, body) in [(MERGE, "[]"), (JSON_PATCH, "{"), (MERGE, "nonsense")] {
        asked
            .refused(Method::PATCH, &one, form, body, (404, missing))
            .await;
    }
    let (code, ..) = asked
        .send(
            Method::POST,
            CONFIG_MAPS,
            "application/json",
            &map("a", json!({})).to_string(),
        )
        .await;
    assert_eq!(code, 201);
    let go = "json: cannot unmarshal array into Go value of type map[string]interface {}";
    let refusal = format!("error decoding patch: {go}");
    asked
        .refused(Method::PATCH, &one, MERGE, "[]", (400, &refusal))
        .await;
    let lax = format!("{one}?fieldValidation=Ignore");
    let refusal = "json: cannot unmarshal object into Go value of type jsonpatch.Patch";
    asked
        .refused(Method::PATCH, &lax, JSON_PATCH, "{}", (400, refusal))
        .await;

    let patch = r#"[{"op": "add", "path": "/data", "value": {}, "values": 1}]"#;
    let (code, _, warnings) = asked.send(Method::PATCH, &one, JSON_PATCH, patch).await;
    let warning = r#"299 - "json patch unknown field \"[0].values\"""#;
    assert_eq!((code, warnings), (200, vec![warning.to_owned()]));

    let owner = json!({"apiVersion": "v1", "kind": "Odd", "name": "o", "uid": "u"});
    let patch = json!({"metadata": {"ownerReferences": [owner, owner]}}).to_string();
    let (code, _, warnings) = asked.send(Method::PATCH, &one, MERGE, &patch).await;
    assert_eq!(code, 200);
    assert!(
        warnings[0].contains("after mutating admission happens"),
        "{warnings:?}"
    );
    assert!(
        warnings[0].ends_with("duplicate UID(s) observed: u\""),
        "{warnings:?}"
    );

    let refusal = "invalid object type: /, Kind=";
    let apply = format!("{CONFIG_MAPS}/b?fieldManager=m&fieldValidation=Strict");
    let config = "metadata: {uid: x}\ndata: {a: x, a: y}";
    asked
        .refused(Method::PATCH, &apply, APPLY, config, (400, refusal))
        .await;
    bed.end().await;
}

#[tokio::test]
async fn revisions_that_are_no_numbers_stop_an_upsert_but_no_create() {
    let bed = Bed::start(Arc::new(MemoryStore::new())).await;
    let asked = Asked { bed: &bed };
    let config = |name: &str| {
        let mut map = map(name, json!({}));
        map["metadata"]["resourceVersion"] = json!("x");
        map.to_string()
    };
    let (code, ..) = asked
        .send(Method::POST, CONFIG_MAPS, "application/json", &config("a"))
        .await;
    assert_eq!(code, 201);
    let refusal = "strconv.ParseUint: parsing \"x\": invalid syntax";
    let apply = format!("{CONFIG_MAPS}/b?fieldManager=m");
    asked
        .refused(Method::PATCH, &apply, APPLY, &config("b"), (500, refusal))
        .await;

    let delete = format!("{CONFIG_MAPS}?resourceVersion=x");
    let refusal =
        format!("invalid resource version: resourceVersion: Invalid value: \"x\": {refusal}");
    asked
        .refused(
            Method::DELETE,
            &delete,
            "application/json",
            "",
            (400, &refusal),
        )
        .await;
    let delete = format!("{CONFIG_MAPS}/a?uid=x");
    let (code, ..) = asked
        .send(Method::DELETE, &delete, "application/json", "")
        .await;
    assert_eq!(code, 409);
    bed.end().await;
}

#[tokio::test]
async fn a_custom_resource_keeps_its_type_and_its_whole_numbers() {
    let bed = Bed::start(Arc::new(MemoryStore::new())).await;
    let asked = Asked { bed: &bed };
    let (code, ..) = asked
        .send(
            Method::POST,
            DEFINITIONS,
            "application/json",
            &definition().to_string(),
        )
        .await;
    assert_eq!(code, 201);
    bed.served(WIDGETS).await;
    let body = widget(json!({"size": 2})).to_string().replace(":2", ":2.0");
    let (code, ..) = asked
        .send(Method::POST, WIDGETS, "application/json", &body)
        .await;
    assert_eq!(code, 201);
    let one = format!("{WIDGETS}/w");
    let (_, _, answer) = bed.send(Method::GET, &one, &[], Vec::new()).await;
    let text = String::from_utf8(whole(answer).await.to_vec()).expect("a text");
    assert!(text.contains("\"size\":2}"), "{text}");

    let missing = "Internal error occurred: Object 'apiVersion' is missing in 'object has no apiVersion field'";
    asked
        .refused(
            Method::PATCH,
            &one,
            MERGE,
            r#"{"apiVersion": ""}"#,
            (500, missing),
        )
        .await;
    let both = "Secret \"w\" is invalid: [kind: Invalid value: \"Secret\": must be Widget, \
                apiVersion: Invalid value: \"v1\": must be example.com/v1]";
    let patch = r#"{"kind": "Secret", "apiVersion": "v1"}"#;
    asked
        .refused(Method::PATCH, &one, MERGE, patch, (422, both))
        .await;
    bed.end().await;
}

#[tokio::test]
async fn a_namespace_is_active_and_carries_its_generated_name() {
    let bed = Bed::start(Arc::new(MemoryStore::new())).await;
    let asked = Asked { bed: &bed };
    let namespaces = "/api/v1/namespaces";
    let status = format!("{namespaces}/default/status");
    let (code, ..) = asked
        .send(Method::PATCH, &status, MERGE, r#"{"status": null}"#)
        .await;
    assert_eq!(code, 200);
    let body = r#"{"metadata": {"generateName": "n-"}}"#;
    let headers = [("content-type", "application/json")];
    let (_, _, answer) = bed
        .send(Method::POST, namespaces, &headers, body.as_bytes().to_vec())
        .await;
    let made: Value = serde_json::from_slice(&whole(answer).await).expect("JSON");
    let label = &made["metadata"]["labels"]["kubernetes.io/metadata.name"];
    assert_eq!(label, &made["metadata"]["name"]);
    let body = r#"{"metadata": {"name": "n"}, "spec": {"finalizers": ["odd"]}}"#;
    let refusal = "Namespace \"n\" is invalid: spec.finalizers: Invalid value: \"odd\": name is \
                   neither a standard finalizer name nor is it fully qualified";
    asked
        .refused(
            Method::POST,
            namespaces,
            "application/json",
            body,
            (422, refusal),
        )
        .await;
    bed.end().await;
}

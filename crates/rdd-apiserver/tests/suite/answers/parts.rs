//! Several applies in one request: as if each had come alone, and one write.

use http::Method;
use serde_json::{Value, json};

use super::bed::{APPLY, Answer, Bed};
use crate::lab::{CONFIG_MAPS, WIDGETS};

const PARTS: &str = "application/vnd.rancherdesktop.apply-parts+json";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";

async fn bed() -> Bed {
    let bed = Bed::start().await;
    let size = json!({"type": "object", "properties": {
        "size": {"type": "integer", "maximum": 9}, "color": {"type": "string"}}});
    let schema = json!({"type": "object", "properties": {"spec": size, "status": size}});
    bed.serve_widgets(schema, json!({"subresources": {"status": {}}}))
        .await;
    bed
}

fn object(more: &Value) -> Value {
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "w"}});
    for (name, value) in more.as_object().expect("an object") {
        object[name] = value.clone();
    }
    object
}

fn main_part(spec: &Value) -> Value {
    json!({"fieldManager": "maker", "object": object(&json!({"spec": spec}))})
}

fn status_part(manager: &str, status: &Value) -> Value {
    json!({"subresource": "status", "fieldManager": manager,
        "object": object(&json!({"status": status}))})
}

async fn apply(bed: &Bed, parts: &[Value]) -> Answer {
    let path = format!("{WIDGETS}/w");
    bed.patch(PARTS, &path, &json!(parts).to_string()).await
}

/// What distinguishes objects that were made in the same way at another time.
fn without_times(object: &Value) -> Value {
    let mut object = object.clone();
    for name in ["uid", "creationTimestamp", "resourceVersion"] {
        object["metadata"][name] = Value::Null;
    }
    for entry in object["metadata"]["managedFields"]
        .as_array_mut()
        .expect("a list")
    {
        entry["time"] = Value::Null;
    }
    object
}

#[tokio::test]
async fn parts_end_as_single_applies_do_and_are_one_event() {
    let bed = bed().await;
    let parts = [
        main_part(&json!({"size": 1})),
        status_part("teller", &json!({"size": 2})),
        status_part("painter", &json!({"color": "red"})),
    ];
    let before = bed.get(WIDGETS).await;
    let together = apply(&bed, &parts).await;
    assert_eq!(together.code, 201, "{together:?}");
    let status = json!({"size": 2, "color": "red"});
    assert_eq!(together.body["status"], status);
    let watch = format!(
        "{WIDGETS}?watch=true&timeoutSeconds=1&resourceVersion={}",
        before.revision()
    );
    let events = bed.events(&watch).await;
    assert_eq!(events, [("ADDED".to_owned(), "w".to_owned())]);

    let again = apply(&bed, &parts).await;
    assert_eq!(again.code, 200);
    assert_eq!(again.revision(), together.revision(), "nothing was written");
    assert_eq!(bed.get(&format!("{WIDGETS}/w")).await.body, together.body);

    bed.delete(&format!("{WIDGETS}/w")).await;
    for part in &parts {
        let text = |name: &str| part[name].as_str().unwrap_or_default().to_owned();
        let path = format!(
            "{WIDGETS}/w/{}?fieldManager={}",
            text("subresource"),
            text("fieldManager")
        );
        let path = path.replace("/?", "?");
        let alone = bed.patch(APPLY, &path, &part["object"].to_string()).await;
        assert!(alone.code < 300, "{alone:?}");
    }
    let alone = bed.get(&format!("{WIDGETS}/w")).await;
    assert_eq!(without_times(&alone.body), without_times(&together.body));
}

#[tokio::test]
async fn what_one_part_may_not_do_is_done_by_none() {
    let bed = bed().await;
    let spec = main_part(&json!({"size": 1}));
    let none = bed.get(&format!("{WIDGETS}/w")).await;
    let too_big = apply(
        &bed,
        &[spec.clone(), status_part("t", &json!({"size": 10}))],
    )
    .await;
    assert_eq!(too_big.code, 422, "{too_big:?}");
    assert!(too_big.message().contains("status.size"), "{too_big:?}");
    assert_eq!(bed.get(&format!("{WIDGETS}/w")).await.body, none.body);

    let status_alone = apply(&bed, &[status_part("t", &json!({"size": 1}))]).await;
    assert_eq!(status_alone.code, 404, "{status_alone:?}");

    let made = apply(&bed, &[spec, status_part("t", &json!({"size": 1}))]).await;
    assert_eq!(made.code, 201);
    let taken = apply(
        &bed,
        &[
            main_part(&json!({"size": 2})),
            status_part("other", &json!({"size": 3})),
        ],
    )
    .await;
    assert_eq!(
        taken.refusal(),
        (
            409,
            "Apply failed with 1 conflict: conflict with \"t\" with subresource \"status\": \
             .status.size"
        )
    );
    assert_eq!(bed.get(&format!("{WIDGETS}/w")).await.body, made.body);
    let mut forced = status_part("other", &json!({"size": 3}));
    forced["force"] = json!(true);
    let forced = apply(&bed, &[main_part(&json!({"size": 2})), forced]).await;
    assert_eq!(forced.code, 200);
    assert_eq!(
        (
            &forced.body["spec"]["size"],
            &forced.body["status"]["size"],
            &forced.body["metadata"]["generation"]
        ),
        (&json!(2), &json!(3), &json!(2))
    );

    let path = format!("{WIDGETS}/w?dryRun=All");
    let parts = json!([main_part(&json!({"size": 4}))]);
    let dry = bed.patch(PARTS, &path, &parts.to_string()).await;
    assert_eq!((dry.code, &dry.body["spec"]["size"]), (200, &json!(4)));
    assert_eq!(bed.get(&format!("{WIDGETS}/w")).await.body, forced.body);
}

#[tokio::test]
async fn each_part_needs_its_own_permission() {
    let bed = bed().await;
    let role = |resources: Value| {
        json!({"metadata": {"name": "r"}, "rules": [
            {"apiGroups": ["example.com"], "resources": resources, "verbs": ["create", "patch"]}]})
    };
    let binding = json!({"metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]});
    assert_eq!(bed.post(ROLES, role(json!(["widgets"]))).await.code, 201);
    assert_eq!(bed.post(BINDINGS, binding).await.code, 201);
    let parts = json!([
        main_part(&json!({"size": 1})),
        status_part("t", &json!({"size": 1}))
    ])
    .to_string();
    let path = format!("{WIDGETS}/w");
    let ask = || bed.ask_as_alice(Method::PATCH, &path, &[("content-type", PARTS)], &parts);
    let refused = ask().await;
    assert_eq!(refused.code, 403, "{refused:?}");
    assert!(refused.message().contains("widgets/status"), "{refused:?}");
    assert_eq!(bed.get(&path).await.code, 404);
    let both = role(json!(["widgets", "widgets/status"])).to_string();
    let merge = [("content-type", super::bed::MERGE)];
    let allowed = bed
        .ask(Method::PATCH, &format!("{ROLES}/r"), &merge, &both)
        .await;
    assert_eq!(allowed.code, 200, "{allowed:?}");
    assert_eq!(ask().await.code, 201);
}

#[tokio::test]
async fn what_is_no_list_of_applies_is_refused_with_the_reason() {
    let bed = bed().await;
    let path = format!("{WIDGETS}/w");
    let part = main_part(&json!({"size": 1}));
    let mut unowned = part.clone();
    unowned["fieldManager"] = json!("");
    let mut unknown = part.clone();
    unknown["colour"] = json!("red");
    let mut scale = part.clone();
    scale["subresource"] = json!("scale");
    for (body, code, reason) in [
        ("[".to_owned(), 400, "error decoding"),
        ("{}".to_owned(), 400, "expected a sequence"),
        ("[]".to_owned(), 400, "there is nothing to apply"),
        (
            json!(vec![part.clone(); 9]).to_string(),
            400,
            "9 applies are more than the 8 that are allowed",
        ),
        (json!([unknown]).to_string(), 400, "unknown field `colour`"),
        (
            json!([unowned]).to_string(),
            422,
            "is required for apply patch",
        ),
        (
            json!([scale]).to_string(),
            400,
            "subresource \"scale\" cannot be applied together with its object",
        ),
        (
            r#"[{"fieldManager":"a","fieldManager":"b","object":{}}]"#.to_owned(),
            400,
            "duplicate field",
        ),
    ] {
        let answer = bed.patch(PARTS, &path, &body).await;
        assert_eq!(answer.code, code, "{body}: {answer:?}");
        assert!(answer.message().contains(reason), "{body}: {answer:?}");
    }
    let body = json!([part]).to_string();
    let status = bed.patch(PARTS, &format!("{path}/status"), &body).await;
    assert_eq!(status.code, 415, "{status:?}");
    let builtin = bed.patch(PARTS, &format!("{CONFIG_MAPS}/w"), &body).await;
    assert_eq!(builtin.code, 415, "{builtin:?}");
}

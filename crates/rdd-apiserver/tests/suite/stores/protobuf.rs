//! Answers in protobuf, as client-go's typed and metadata clients ask for them.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use rdd_apiserver::{catalog::builtin::Document, encoding::protobuf::Envelope};
use rdd_store::MemoryStore;
use serde_json::{Value, json};

use super::bed::Bed;
use crate::lab::{CONFIG_MAPS, whole};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn ask(
    bed: &Bed,
    method: Method,
    path: &str,
    accept: &str,
    body: Value,
) -> (u16, String, Vec<u8>) {
    let headers = [("accept", accept), ("content-type", "application/json")];
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let (status, headers, body) = bed.send(method, path, &headers, body).await;
    let content_type = headers["content-type"].to_str().expect("a text").to_owned();
    (status.as_u16(), content_type, whole(body).await.to_vec())
}

/// The object in an answer, read by the tables that read requests.
fn object(body: &[u8], kind: &str, document: &Document) -> Value {
    let envelope = Envelope::read(body).expect("an envelope");
    assert_eq!(envelope.kind, kind);
    let read = document
        .message
        .read(envelope.raw)
        .expect("a message of the kind");
    let mut object = Value::Object(read);
    document.form.apply(&mut object);
    object
}

#[tokio::test]
async fn objects_lists_and_refusals_come_in_protobuf() {
    let bed = Bed::start(Arc::new(MemoryStore::new())).await;
    let sent = json!({
        "metadata": {"name": "p", "labels": {"l": ""}},
        "data": {"k": "v"}, "binaryData": {"b": "AAE="}, "immutable": false,
    });
    let (code, content_type, body) = ask(&bed, Method::POST, CONFIG_MAPS, PROTOBUF, sent).await;
    assert_eq!((code, content_type.as_str()), (201, PROTOBUF));
    let created = object(&body, "ConfigMap", &Document::config_map());

    let one = format!("{CONFIG_MAPS}/p");
    let (_, _, body) = ask(&bed, Method::GET, &one, "application/json", Value::Null).await;
    let mut wanted: Value = serde_json::from_slice(&body).expect("JSON");
    let members = wanted.as_object_mut().expect("an object");
    members.retain(|name, _| name != "kind" && name != "apiVersion");
    assert_eq!(created, wanted);

    let accept = format!("{PROTOBUF},*/*");
    let (_, content_type, body) = ask(&bed, Method::GET, CONFIG_MAPS, &accept, Value::Null).await;
    assert_eq!(content_type, PROTOBUF);
    let list = Envelope::read(&body).expect("an envelope");
    assert_eq!(
        (list.kind.as_str(), list.api_version.as_str()),
        ("ConfigMapList", "v1")
    );

    let partial = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let (_, content_type, body) = ask(&bed, Method::GET, &one, &partial, Value::Null).await;
    assert_eq!(content_type, PROTOBUF);
    let metadata = object(
        &body,
        "PartialObjectMetadata",
        &Document::partial_metadata(),
    );
    assert_eq!(metadata["metadata"], wanted["metadata"]);

    let missing = format!("{CONFIG_MAPS}/missing");
    let (code, content_type, body) = ask(&bed, Method::GET, &missing, &accept, Value::Null).await;
    assert_eq!((code, content_type.as_str()), (404, PROTOBUF));
    assert_eq!(Envelope::read(&body).expect("an envelope").kind, "Status");

    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    let (code, ..) = ask(&bed, Method::GET, &one, &table, Value::Null).await;
    assert_eq!(code, 406);
    bed.end().await;
}

#[tokio::test]
async fn a_watch_in_protobuf_frames_its_events() {
    let bed = Bed::start(Arc::new(MemoryStore::new())).await;
    let path = format!("{CONFIG_MAPS}?watch=true&fieldSelector=metadata.name%3Dw");
    let (status, headers, mut body) = bed
        .send(Method::GET, &path, &[("accept", PROTOBUF)], Vec::new())
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        headers["content-type"],
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let sent = json!({"metadata": {"name": "w"}});
    let (code, ..) = ask(&bed, Method::POST, CONFIG_MAPS, "application/json", sent).await;
    assert_eq!(code, 201);
    let frame = tokio::time::timeout(Duration::from_secs(30), body.frame()).await;
    let frame = frame
        .expect("an event in time")
        .expect("an event")
        .expect("no break");
    let frame = frame.into_data().expect("data");
    let length = u32::from_be_bytes(frame[..4].try_into().expect("four bytes"));
    assert_eq!(length as usize, frame.len() - 4);
    assert_eq!(&frame[4..11], b"\x0a\x05ADDED");
    let start = frame
        .windows(4)
        .position(|bytes| bytes == b"k8s\0")
        .expect("an object");
    let object = object(&frame[start..], "ConfigMap", &Document::config_map());
    assert_eq!(object["metadata"]["name"], "w");
    bed.end().await;
}

//! Answers in protobuf: objects and lists of built-in types, partial metadata, Status,
//! and the frames of a watch.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{Error, MAGIC, Message, Result, wire::put_bytes};
use crate::catalog::{Resource, builtin::Document};

/// The `Content-Type` of an answer.
pub const MEDIA: &str = "application/vnd.kubernetes.protobuf";

/// The `Content-Type` of a watch.
pub const STREAM: &str = "application/vnd.kubernetes.protobuf;stream=watch";

static LIST_META: LazyLock<Message> = LazyLock::new(|| {
    Message::of(&json!({"properties": {
        "selfLink": {"type": "string", "x-rdd-field": 1},
        "resourceVersion": {"type": "string", "x-rdd-field": 2},
        "continue": {"type": "string", "x-rdd-field": 3},
        "remainingItemCount": {"type": "integer", "x-rdd-zero": "keep", "x-rdd-field": 4},
    }}))
});

static STATUS: LazyLock<Message> = LazyLock::new(|| {
    let text = |number: u32| json!({"type": "string", "x-rdd-field": number});
    let cause = json!({"type": "object", "properties": {
        "reason": text(1), "message": text(2), "field": text(3),
    }});
    Message::of(&json!({"properties": {
        "metadata": {
            "type": "object",
            "properties": {"selfLink": text(1), "resourceVersion": text(2), "continue": text(3)},
            "x-rdd-zero": "fill",
            "x-rdd-field": 1,
        },
        "status": text(2),
        "message": text(3),
        "reason": text(4),
        "details": {
            "type": "object",
            "properties": {
                "name": text(1),
                "group": text(2),
                "kind": text(3),
                "causes": {"type": "array", "items": cause, "x-rdd-field": 4},
                "retryAfterSeconds": {"type": "integer", "x-rdd-field": 5},
                "uid": text(6),
            },
            "x-rdd-field": 5,
        },
        "code": {"type": "integer", "x-rdd-field": 6},
    }}))
});

/// The messages of discovery.
struct Discovery {
    versions: Message,
    groups: Message,
    group: Message,
    resources: Message,
    aggregated: Message,
}

static DISCOVERY: LazyLock<Discovery> = LazyLock::new(|| {
    let text = |number: u32| json!({"type": "string", "x-rdd-field": number});
    let texts = |number: Value| json!({"type": "array", "items": {"type": "string"}, "x-rdd-field": number});
    let list =
        |number: u32, item: &Value| json!({"type": "array", "items": item, "x-rdd-field": number});
    let message = |properties: Value| json!({"type": "object", "properties": properties});
    let always = |number: u32, message: &Value| {
        let mut message = message.clone();
        message["x-rdd-field"] = json!(number);
        message["x-rdd-zero"] = json!("fill");
        message
    };
    let addresses = message(json!({"clientCIDR": text(1), "serverAddress": text(2)}));
    let version = message(json!({"groupVersion": text(1), "version": text(2)}));
    let group = message(json!({
        "name": text(1),
        "versions": list(2, &version),
        "preferredVersion": always(3, &version),
        "serverAddressByClientCIDRs": list(4, &addresses),
    }));
    let resource = message(json!({
        "name": text(1),
        "namespaced": {"type": "boolean", "x-rdd-field": 2},
        "kind": text(3),
        "verbs": texts(json!([4, 1])),
        "shortNames": texts(json!(5)),
        "singularName": text(6),
        "categories": texts(json!(7)),
        "group": text(8),
        "version": text(9),
        "storageVersionHash": text(10),
    }));
    let mut kind = message(json!({"group": text(1), "version": text(2), "kind": text(3)}));
    kind["x-rdd-field"] = json!(2);
    let subresource = message(json!({
        "subresource": text(1),
        "responseKind": kind,
        "acceptedTypes": list(3, &kind),
        "verbs": texts(json!(4)),
    }));
    let aggregated_resource = message(json!({
        "resource": text(1),
        "responseKind": kind,
        "scope": text(3),
        "singularResource": text(4),
        "verbs": texts(json!(5)),
        "shortNames": texts(json!(6)),
        "categories": texts(json!(7)),
        "subresources": list(8, &subresource),
    }));
    let aggregated_version = message(json!({
        "version": text(1),
        "resources": list(2, &aggregated_resource),
        "freshness": text(3),
    }));
    let object_meta = &Document::partial_metadata_document()["properties"]["metadata"];
    let aggregated_group = message(json!({
        "metadata": always(1, object_meta),
        "versions": list(2, &aggregated_version),
    }));
    let list_meta = message(json!({
        "selfLink": text(1), "resourceVersion": text(2), "continue": text(3),
    }));
    Discovery {
        versions: Message::of(&message(json!({
            "versions": texts(json!(1)),
            "serverAddressByClientCIDRs": list(2, &addresses),
        }))),
        groups: Message::of(&message(json!({"groups": list(1, &group)}))),
        group: Message::of(&group),
        resources: Message::of(&message(json!({
            "groupVersion": text(1),
            "resources": list(2, &resource),
        }))),
        aggregated: Message::of(&message(json!({
            "metadata": always(1, &list_meta),
            "items": list(2, &aggregated_group),
        }))),
    }
});

static PARTIAL: LazyLock<Document> = LazyLock::new(Document::partial_metadata);

static TOKEN_REQUEST: LazyLock<Document> = LazyLock::new(Document::token_request);

/// The documents of discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryKind {
    /// `APIVersions`.
    Versions,
    /// `APIGroupList`.
    Groups,
    /// `APIGroup`.
    Group,
    /// `APIResourceList`.
    Resources,
    /// `APIGroupDiscoveryList`.
    Aggregated,
}

/// The bytes of a document of discovery.
///
/// # Errors
/// When it is not the document that the kind promises.
pub fn discovery(kind: DiscoveryKind, document: &Value) -> Result<Vec<u8>> {
    let message = match kind {
        DiscoveryKind::Versions => &DISCOVERY.versions,
        DiscoveryKind::Groups => &DISCOVERY.groups,
        DiscoveryKind::Group => &DISCOVERY.group,
        DiscoveryKind::Resources => &DISCOVERY.resources,
        DiscoveryKind::Aggregated => &DISCOVERY.aggregated,
    };
    let raw = message.write(object(document)?)?;
    let (api_version, kind) = (text(document, "apiVersion"), text(document, "kind"));
    Ok(envelope(api_version, kind, &raw))
}

/// The bytes of a document that a resource answers with.
///
/// # Errors
/// When nobody knows how the document looks in protobuf, or it has members of other types.
pub fn encode(resource: &Resource, document: &Value) -> Result<Vec<u8>> {
    let kind = text(document, "kind");
    let message = match kind {
        "Status" => Some(&*STATUS),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(&*PARTIAL.message),
        "TokenRequest" => Some(&*TOKEN_REQUEST.message),
        kind if kind == resource.kind || kind == resource.list_kind => resource.message.as_deref(),
        _ => None,
    };
    let message = message.ok_or_else(|| Error(format!("{kind} has no form in protobuf")))?;
    let raw = if kind == resource.list_kind || kind == "PartialObjectMetadataList" {
        list(message, document)?
    } else {
        message.write(object(document)?)?
    };
    Ok(envelope(text(document, "apiVersion"), kind, &raw))
}

/// The bytes of a Status.
///
/// # Errors
/// When the document is none.
pub fn status(document: &Value) -> Result<Vec<u8>> {
    let raw = STATUS.write(object(document)?)?;
    Ok(envelope("v1", "Status", &raw))
}

/// One event of a watch: its length, and a message of its type and its object.
#[must_use]
pub fn event(event_type: &str, body: &[u8]) -> Vec<u8> {
    let mut object = Vec::with_capacity(body.len() + 8);
    put_bytes(&mut object, 1, body);
    let mut event = Vec::with_capacity(object.len() + 24);
    put_bytes(&mut event, 1, event_type.as_bytes());
    put_bytes(&mut event, 2, &object);
    let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(event.len() + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&event);
    frame
}

fn text<'a>(document: &'a Value, member: &str) -> &'a str {
    let value = document.get(member).and_then(Value::as_str);
    value.unwrap_or_default()
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    let members = value.as_object();
    members.ok_or_else(|| Error(format!("{value} is no object")))
}

fn list(message: &Message, document: &Value) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    let nothing = Map::new();
    let metadata = document.get("metadata").and_then(Value::as_object);
    put_bytes(&mut raw, 1, &LIST_META.write(metadata.unwrap_or(&nothing))?);
    let items = document.get("items").and_then(Value::as_array);
    for item in items.into_iter().flatten() {
        put_bytes(&mut raw, 2, &message.write(object(item)?)?);
    }
    Ok(raw)
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut body = Vec::with_capacity(raw.len() + type_meta.len() + 24);
    body.extend_from_slice(MAGIC);
    put_bytes(&mut body, 1, &type_meta);
    put_bytes(&mut body, 2, raw);
    // No encoding, and the content type that the answer has.
    put_bytes(&mut body, 3, b"");
    put_bytes(&mut body, 4, b"");
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::protobuf::Envelope;

    #[test]
    fn a_status_is_written_as_kube_apiserver_writes_it() {
        let refusal = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "namespaces \"nope\" not found", "reason": "NotFound",
            "details": {"name": "nope", "kind": "namespaces"}, "code": 404,
        });
        assert_eq!(
            status(&refusal).expect("it is a Status"),
            b"k8s\0\n\x0c\n\x02v1\x12\x06Status\x12U\n\x06\n\0\x12\0\x1a\0\x12\x07Failure\
              \x1a\x1bnamespaces \"nope\" not found\"\x08NotFound*\x18\n\x04nope\x12\0\x1a\nnamespaces\
              (\x002\x000\x94\x03\x1a\0\"\0"
        );
    }

    #[test]
    fn an_event_is_a_frame_of_its_length() {
        assert_eq!(
            event("ADDED", b"x"),
            b"\0\0\0\x0c\n\x05ADDED\x12\x03\n\x01x"
        );
    }

    #[test]
    fn a_list_holds_its_items_without_their_types() {
        let list = list(
            &PARTIAL.message,
            &json!({"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "a"}}]}),
        )
        .expect("a list");
        let body = envelope("meta.k8s.io/v1", "PartialObjectMetadataList", &list);
        let envelope = Envelope::read(&body).expect("our own bytes");
        assert_eq!(envelope.kind, "PartialObjectMetadataList");
        assert_eq!(envelope.raw, list);
        assert_eq!(&list[..9], b"\n\x07\n\0\x12\x017\x1a\0");
    }
}

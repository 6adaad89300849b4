//! What the loads write and read: a custom resource of about 1.3 KB.

use anyhow::Result;

use crate::wire::Connection;

/// Bytes of payload, so that a stored object has about 1.3 KB.
const PAYLOAD: usize = 1000;

/// Where the objects are served.
pub(crate) const COLLECTION: &str = "/apis/bench.example.com/v1/namespaces/default/widgets";

/// The media type of a document.
pub(crate) const JSON: &str = "application/json";

/// The definition of kind number `number`; the first is the one of [`COLLECTION`].
pub(crate) fn definition(number: usize) -> String {
    let (singular, kind) = match number {
        0 => ("widget".to_owned(), "Widget".to_owned()),
        _ => (format!("widget{number}x"), format!("Widget{number}X")),
    };
    serde_json::json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{singular}s.bench.example.com")},
        "spec": {
            "group": "bench.example.com",
            "scope": "Namespaced",
            "names": {"plural": format!("{singular}s"), "singular": singular, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": {"type": "object", "properties": {
                    "payload": {"type": "string"},
                    "count": {"type": "integer"},
                }}},
            }}}],
        },
    })
    .to_string()
}

/// An object of that kind.
pub(crate) fn widget(name: &str) -> String {
    serde_json::json!({
        "apiVersion": "bench.example.com/v1",
        "kind": "Widget",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"payload": "x".repeat(PAYLOAD), "count": 0},
    })
    .to_string()
}

/// Has the kind served.
pub(crate) async fn serve(connection: &mut Connection) -> Result<()> {
    let body = definition(0);
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    connection
        .call("POST", path, JSON, body.as_bytes())
        .await
        .map(drop)
}

/// Creates `count` objects.
pub(crate) async fn fill(connection: &mut Connection, count: usize) -> Result<()> {
    for number in 0..count {
        let body = widget(&name(number));
        connection
            .call("POST", COLLECTION, JSON, body.as_bytes())
            .await?;
    }
    Ok(())
}

/// The name of one of [`fill`]'s objects.
pub(crate) fn name(number: usize) -> String {
    format!("object-{number:06}")
}

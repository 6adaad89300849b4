//! Mirrors are written whole: the object, its status, and the conditions that follow, each
//! under the manager that owns it, and all in one request where the server takes that.

use std::sync::atomic::{AtomicBool, Ordering};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use rdd_api::Condition;
use rdd_api::names::{self, field_manager};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The media type of several applies in one request, which servers other than rdd's refuse.
const APPLY_PARTS: &str = "application/vnd.rancherdesktop.apply-parts+json";

/// The media type of one.
const APPLY: &str = "application/apply-patch+yaml";

/// The code by which they refuse it.
const UNSUPPORTED: u16 = 415;

/// One apply to a mirror or to its status.
pub(super) struct Part {
    subresource: &'static str,
    field_manager: &'static str,
    /// What is applied, as JSON: a first pass makes thousands of them.
    object: serde_json::Result<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'part, S> {
    api_version: String,
    kind: &'part str,
    metadata: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<S>,
}

impl Part {
    /// The mirror itself, as one of this engine's.
    pub(super) fn claim(kind: &str, name: &str, engine: &str) -> Self {
        let metadata = json!({
            "name": name,
            "labels": {names::ENGINE_LABEL: engine},
            "finalizers": [names::MIRROR_FINALIZER],
        });
        let manager = field_manager::ENGINE_FINALIZER;
        Self::new("", manager, kind, metadata, None::<()>)
    }

    /// What the engine says.
    pub(super) fn status(kind: &str, name: &str, status: &impl Serialize) -> Self {
        let metadata = json!({"name": name});
        Self::new(
            "status",
            field_manager::ENGINE,
            kind,
            metadata,
            Some(status),
        )
    }

    /// The conditions that follow from that.
    pub(super) fn conditions(kind: &str, name: &str, conditions: &[Condition]) -> Self {
        let metadata = json!({"name": name});
        let status = Some(json!({"conditions": conditions}));
        Self::new("status", field_manager::CONTAINER, kind, metadata, status)
    }

    fn new(
        subresource: &'static str,
        field_manager: &'static str,
        kind: &str,
        metadata: Value,
        status: Option<impl Serialize>,
    ) -> Self {
        let object = Object {
            api_version: format!("{}/{}", names::group::CONTAINERS, names::VERSION),
            kind,
            metadata,
            status,
        };
        Self {
            subresource,
            field_manager,
            object: serde_json::to_string(&object),
        }
    }

    fn object(&self) -> kube::Result<&str> {
        let refused =
            |error: &serde_json::Error| kube::Error::SerdeError(serde::ser::Error::custom(error));
        self.object.as_deref().map_err(refused)
    }
}

/// The body of a request with several applies.
fn body(parts: &[Part]) -> kube::Result<String> {
    let mut body = String::from("[");
    for (index, part) in parts.iter().enumerate() {
        let (comma, object) = (if index > 0 { "," } else { "" }, part.object()?);
        // What is written as it is here is a word of ours, or JSON already.
        body.push_str(&format!(
            r#"{comma}{{"subresource":"{}","fieldManager":"{}","force":true,"object":{object}}}"#,
            part.subresource, part.field_manager,
        ));
    }
    body.push(']');
    Ok(body)
}

/// What is read of the answer to a write: a mirror is half a watch's work to decode.
#[derive(Deserialize)]
pub(super) struct Written {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
    finalizers: Vec<String>,
}

impl Written {
    /// The version that was written, as Kubernetes lets clients compare it.
    pub(super) fn version(&self) -> Option<u64> {
        self.metadata.resource_version.parse().ok()
    }

    pub(super) fn has_finalizer(&self, name: &str) -> bool {
        self.metadata.finalizers.iter().any(|found| found == name)
    }
}

/// Writes mirrors.
pub(super) struct Applier {
    client: kube::Client,
    namespace: String,
    /// Whether the server is not known to take one apply at a time only.
    takes_parts: AtomicBool,
}

impl Applier {
    pub(super) fn new(client: kube::Client, namespace: String) -> Self {
        Self {
            client,
            namespace,
            takes_parts: AtomicBool::new(true),
        }
    }

    /// Applies parts of one mirror, in order. On a server that takes one at a time, a
    /// failure may leave the later ones out.
    ///
    /// What was written last is the answer; none without parts.
    ///
    /// # Errors
    /// The server's refusal of the first part that it does not take.
    pub(super) async fn apply<K>(&self, name: &str, parts: &[Part]) -> kube::Result<Option<Written>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let url = K::url_path(&(), Some(&self.namespace));
        if parts.len() > 1 && self.takes_parts.load(Ordering::Relaxed) {
            let request = Request::patch(format!("{url}/{name}"))
                .header(CONTENT_TYPE, HeaderValue::from_static(APPLY_PARTS))
                .body(body(parts)?.into_bytes())
                .map_err(kube::Error::HttpError)?;
            match self.client.request(request).await {
                Err(kube::Error::Api(status)) if status.code == UNSUPPORTED => {
                    tracing::debug!("the server takes one apply at a time");
                    self.takes_parts.store(false, Ordering::Relaxed);
                }
                done => return done.map(Some),
            }
        }
        let mut last = None;
        for part in parts {
            last = Some(self.apply_one(&url, name, part).await?);
        }
        Ok(last)
    }

    async fn apply_one(&self, url: &str, name: &str, part: &Part) -> kube::Result<Written> {
        let place = match part.subresource {
            "" => String::new(),
            subresource => format!("/{subresource}"),
        };
        let manager = part.field_manager;
        let request = Request::patch(format!(
            "{url}/{name}{place}?fieldManager={manager}&force=true"
        ))
        .header(CONTENT_TYPE, HeaderValue::from_static(APPLY))
        .body(part.object()?.as_bytes().to_vec())
        .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }
}

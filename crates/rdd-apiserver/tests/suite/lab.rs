//! A whole server in this process, and how requests get to it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use rdd_apiserver::{
    ApiServer, Identity, Options,
    catalog::crd,
    health::Health,
    http::{body::Body, router::Router},
    pages::{Site, Version},
    workers::{self, Workers},
};
use rdd_store::{MemoryStore, Store};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How long anything may take before a test fails; it takes milliseconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How long to wait before looking again at what tells nobody when it changes.
pub(crate) const AGAIN: Duration = Duration::from_millis(5);

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// The certificates that the server's namespaces hold.
pub(crate) const ROOT_CA: &str = "the root";

/// A server with its workers.
pub(crate) struct Lab {
    pub(crate) api: ApiServer,
    pub(crate) store: Arc<dyn Store>,
    stop: CancellationToken,
    feed: JoinHandle<()>,
    workers: Option<JoinHandle<Result<(), workers::Error>>>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Lab {
    /// A server on a memory store, whose options `change` has changed.
    pub(crate) async fn start(change: impl FnOnce(&mut Options)) -> Self {
        Self::start_on(Arc::new(MemoryStore::new()), change).await
    }

    pub(crate) async fn start_on(store: Arc<dyn Store>, change: impl FnOnce(&mut Options)) -> Self {
        let (catalog, definitions) = crd::served();
        let version = Version {
            git_version: "v1.36.0".to_owned(),
            git_commit: String::new(),
        };
        let mut options = Options {
            pages: Arc::new(Site::new(version, Health::new())),
            ..Options::new(Arc::clone(&store), catalog)
        };
        change(&mut options);
        let (api, feed) = ApiServer::new(options);
        let feed = tokio::spawn(feed);
        let workers = Workers::new(&api, definitions, ROOT_CA.to_owned());
        workers
            .create_start_objects()
            .await
            .expect("an empty server takes its first objects");
        let stop = CancellationToken::new();
        let workers = Some(tokio::spawn(workers.run(stop.clone())));
        Self {
            api,
            store,
            stop,
            feed,
            workers,
        }
    }

    /// The way in of an administrator, who needs no credential.
    pub(crate) fn admin(&self) -> Router {
        self.api.router().acting_as(Identity::system("admin"))
    }

    /// From now on the server does nothing on its own behalf.
    pub(crate) async fn stop_workers(&mut self) {
        self.stop.cancel();
        if let Some(workers) = self.workers.take() {
            let ended = workers.await.expect("the workers do not panic");
            ended.expect("the workers end when they are told");
        }
    }

    /// Ends the server; its store is closed.
    pub(crate) async fn end(mut self) {
        self.stop_workers().await;
        self.store.close().await;
        (&mut self.feed)
            .await
            .expect("the feed ends with the store");
    }
}

impl Lab {
    /// A request of the administrator.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Response<Body> {
        let headers = [("content-type", content_type)];
        exchange(self.admin(), method, path, &headers, body).await
    }

    /// The same with the usual type; the answer is [`read`].
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let content_type = usual_type(&method);
        read(self.send(method, path, content_type, sent(&body)).await).await
    }

    pub(crate) async fn watch(&self, path: &str) -> Events {
        let answer = self.send(Method::GET, path, "application/json", "").await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        Events::of(answer.into_body())
    }
}

/// A request with these headers, sent to `router`.
pub(crate) async fn exchange(
    router: Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).expect("a request");
    match router.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// What is sent for a value: nothing for null.
pub(crate) fn sent(body: &Value) -> Bytes {
    if body.is_null() {
        Bytes::new()
    } else {
        body.to_string().into()
    }
}

/// How a body of this method is encoded, where a test does not say.
pub(crate) fn usual_type(method: &Method) -> &'static str {
    if *method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    }
}

/// A body to its end.
pub(crate) async fn whole(body: Body) -> Bytes {
    let body = tokio::time::timeout(DEADLINE, body.collect()).await;
    let body = body.expect("the body ends in time").expect("the body ends");
    body.to_bytes()
}

/// An answer's code and body; null stands for a body that is no JSON.
pub(crate) async fn read(answer: Response<Body>) -> (StatusCode, Value) {
    let status = answer.status();
    let body = whole(answer.into_body()).await;
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// The lines of a watch, one event at a time.
pub(crate) struct Events {
    body: Body,
    rest: Vec<u8>,
}

impl Events {
    pub(crate) fn of(body: Body) -> Self {
        Self {
            body,
            rest: Vec::new(),
        }
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("every line is an event"));
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await;
            let frame = frame
                .expect("an event comes in time")?
                .expect("the stream does not break");
            self.rest
                .extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }

    /// The next event, which is of this type and about an object of this name.
    pub(crate) async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let event = self.next().await.expect("the watch goes on");
        assert_eq!(event["type"], kind, "{event}");
        assert_eq!(event["object"]["metadata"]["name"], name, "{event}");
        event
    }
}

/// The definition of Widgets with one version of this schema and whatever `more` adds to
/// the version.
pub(crate) fn definition(schema: Value, more: Value) -> Value {
    let mut version = json!({
        "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
    });
    if let (Some(version), Value::Object(more)) = (version.as_object_mut(), more) {
        version.extend(more);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version],
        },
    })
}

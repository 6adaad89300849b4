//! A whole server on a memory store, and the requests that tests send to it.

use std::{sync::Arc, time::Duration};

use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use rdd_admission::AdmissionChain;
use rdd_apiserver::{
    ApiServer, Identity, Options,
    auth::{Authenticator, Issuer, Rbac},
    catalog::crd,
    health::Health,
    http::{body::Body, router::Router},
    pages::{Site, Version},
    workers::Workers,
};
use rdd_store::{MemoryStore, Store};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long anything may take; it takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long to wait before asking again.
const AGAIN: Duration = Duration::from_millis(5);

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
pub(crate) const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
pub(crate) const PARTIAL_LIST: &str =
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn revision(&self) -> &str {
        let revision = self.body["metadata"]["resourceVersion"].as_str();
        revision.unwrap_or_default()
    }

    /// The code and the message, as refusals are compared.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.code, self.message())
    }

    /// The names of a list's items.
    pub(crate) fn names(&self) -> Vec<&str> {
        let items = self.body["items"].as_array();
        items
            .into_iter()
            .flatten()
            .filter_map(|item| item["metadata"]["name"].as_str())
            .collect()
    }
}

/// A running server.
pub(crate) struct Bed {
    api: ApiServer,
    router: Router,
    stop: CancellationToken,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bed {
    pub(crate) async fn start() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (catalog, definitions) = crd::served();
        let mut authenticator = Authenticator::default();
        authenticator.add_token("good", Identity::new("alice", "", ["devs"]));
        let issuer = Issuer::new(&Issuer::generate().expect("a key")).expect("an issuer");
        authenticator.set_issuer(Arc::new(issuer));
        let version = Version {
            git_version: "v1.36.0".to_owned(),
            git_commit: String::new(),
        };
        let (api, work) = ApiServer::new(Options {
            store: Arc::clone(&store),
            catalog: Arc::clone(&catalog),
            authenticator,
            authorizer: Arc::new(Rbac::new(Arc::clone(&store))),
            admission: AdmissionChain::default(),
            services: rdd_apiserver::Services::default(),
            pages: Arc::new(Site::new(version, Health::default())),
            passthrough: Arc::new(rdd_apiserver::http::passthrough::NoPassthrough),
        });
        tokio::spawn(work);
        let stop = CancellationToken::new();
        let workers = Workers {
            store,
            catalog,
            definitions,
            metrics: Arc::clone(api.metrics()),
            client: api.client(Identity::system("system:apiserver")),
            root_ca: String::new(),
        };
        workers
            .create_start_objects()
            .await
            .expect("the start objects are created");
        tokio::spawn(workers.run(stop.clone()));
        let router = api.router().acting_as(Identity::system("test"));
        Self { api, router, stop }
    }

    async fn send(
        &self,
        router: Router,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, Body) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body)).expect("a request");
        let answer = match router.oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let (parts, body) = answer.into_parts();
        (parts.status.as_u16(), body)
    }

    /// Sends a request as an administrator.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let body = body.as_bytes().to_vec();
        let sent = self.send(self.router.clone(), method, path, headers, body);
        read(sent.await).await
    }

    /// Sends a request as alice, who holds no rights of her own.
    pub(crate) async fn ask_as_alice(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut all = vec![("authorization", "Bearer good")];
        all.extend_from_slice(headers);
        let body = body.as_bytes().to_vec();
        read(self.send(self.api.router(), method, path, &all, body).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.ask(Method::GET, path, &[("accept", accept)], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, &[], &body.to_string()).await
    }

    pub(crate) async fn patch(&self, form: &str, path: &str, body: &str) -> Answer {
        let headers = [("content-type", form)];
        self.ask(Method::PATCH, path, &headers, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, &[], "").await
    }

    /// A ConfigMap with these labels.
    pub(crate) async fn make_map(&self, name: &str, labels: Value) {
        let body = json!({"metadata": {"name": name, "labels": labels}});
        assert_eq!(self.post(MAPS, body).await.code, 201);
    }

    /// Serves Widgets of this schema, and whatever else the definition's version has.
    pub(crate) async fn serve_widgets(&self, schema: Value, more: Value) {
        let answer = self.post(DEFINITIONS, definition(schema, more)).await;
        assert_eq!(answer.code, 201, "{answer:?}");
        let served = async {
            while self.get(WIDGETS).await.code != 200 {
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::time::timeout(DEADLINE, served)
            .await
            .expect("Widgets are served in time");
    }

    /// The events of a watch that ends by itself, each as type and name.
    pub(crate) async fn events(&self, path: &str) -> Vec<(String, String)> {
        let sent = self.send(self.router.clone(), Method::GET, path, &[], Vec::new());
        let (code, body) = sent.await;
        assert_eq!(code, 200, "{path}");
        let body = tokio::time::timeout(DEADLINE, body.collect()).await;
        let bytes = body
            .expect("it ends")
            .expect("it does not break")
            .to_bytes();
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let event: Value = serde_json::from_slice(line).expect("a line is an event");
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (
                    text(&event["type"]),
                    text(&event["object"]["metadata"]["name"]),
                )
            })
            .collect()
    }
}

async fn read((code, body): (u16, Body)) -> Answer {
    let bytes = body.collect().await.expect("the body ends").to_bytes();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Answer { code, body }
}

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

pub(crate) fn widget(name: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
    )
}

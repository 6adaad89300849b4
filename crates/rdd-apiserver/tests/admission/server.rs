//! A server to ask webhooks for.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use rdd_admission::AdmissionChain;
use rdd_apiserver::{
    ApiServer, Identity, Options, Services,
    auth::{Authenticator, MastersOnly},
    catalog::crd,
    http::{
        body::Body,
        router::{NoPages, Router},
    },
    workers::Workers,
};
use rdd_store::{MemoryStore, Store};
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) struct Server {
    router: Router,
}

/// What a request brought.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) body: Value,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(AdmissionChain::default(), Services::default()).await
    }

    pub(crate) async fn with(admission: AdmissionChain, services: Services) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (catalog, definitions) = crd::served();
        let (api, work) = ApiServer::new(Options {
            store: Arc::clone(&store),
            catalog: Arc::clone(&catalog),
            authenticator: Authenticator::default(),
            authorizer: Arc::new(MastersOnly),
            admission,
            services,
            pages: Arc::new(NoPages),
            passthrough: Arc::new(rdd_apiserver::http::passthrough::NoPassthrough),
        });
        tokio::spawn(work);
        let workers = Workers {
            store,
            catalog,
            definitions,
            metrics: Arc::clone(api.metrics()),
            client: api.client(Identity::system("system:apiserver")),
            root_ca: String::new(),
        };
        // The workers do not run: webhooks would be asked about their writes, too.
        workers
            .create_start_objects()
            .await
            .expect("the start objects are created");
        let router = api.router().acting_as(Identity::system("admin"));
        Self { router }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        let content_type = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        read(self.raw(method, path, content_type, body).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Value::Null).await
    }

    pub(crate) async fn apply(&self, path: &str, body: Value) -> Answer {
        let kind = "application/apply-patch+yaml";
        read(self.raw(Method::PATCH, path, kind, body).await).await
    }

    pub(crate) async fn watch(&self, path: &str) -> Watch {
        let answer = self
            .raw(Method::GET, path, "application/json", Value::Null)
            .await;
        Watch {
            body: answer.into_body(),
            rest: Vec::new(),
        }
    }

    async fn raw(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Value,
    ) -> Response<Body> {
        let body = if body.is_null() {
            Bytes::new()
        } else {
            body.to_string().into()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Full::new(body))
            .expect("a request");
        match self.router.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, body).await
    }

    /// Configures webhooks for ConfigMaps: each entry changes what stands here.
    pub(crate) async fn configure(&self, mutating: bool, name: &str, webhooks: &[Value]) {
        let (plural, kind) = if mutating {
            ("mutating", "MutatingWebhookConfiguration")
        } else {
            ("validating", "ValidatingWebhookConfiguration")
        };
        let webhooks: Vec<Value> = webhooks
            .iter()
            .map(|change| {
                let mut webhook = json!({
                    "name": "w.example.com", "sideEffects": "None",
                    "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
                    "rules": [{
                        "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
                        "resources": ["configmaps"],
                    }],
                });
                for (key, value) in change.as_object().into_iter().flatten() {
                    webhook[key] = value.clone();
                }
                webhook
            })
            .collect();
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}webhookconfigurations");
        let object = json!({"kind": kind, "metadata": {"name": name}, "webhooks": webhooks});
        let made = self.post(&path, object).await;
        assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    }
}

async fn read(answer: Response<Body>) -> Answer {
    let code = answer.status();
    let warnings = answer
        .headers()
        .get_all("warning")
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    let body = answer.into_body().collect().await.expect("a body");
    let body = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    Answer {
        code,
        body,
        warnings,
    }
}

/// The lines of a watch.
pub(crate) struct Watch {
    body: Body,
    rest: Vec<u8>,
}

impl Watch {
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).expect("every line is an event");
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await;
            let frame = frame
                .expect("an event comes in time")
                .expect("the watch goes on")
                .expect("the stream does not break");
            self.rest
                .extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }
}

/// Longest wait for anything that should happen at once.
const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": "v"}}, "data": {"k": "v"}})
}

//! A server to ask webhooks for.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use rdd_admission::AdmissionChain;
use rdd_apiserver::{
    ApiServer, Identity, Options, Services,
    auth::{Authenticator, MastersOnly},
    catalog::crd,
    http::router::{NoPages, Router},
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
        let (catalog, definitions) = crd::served(crd::Options::default());
        let (api, work) = ApiServer::new(Options {
            store: Arc::clone(&store),
            catalog: Arc::clone(&catalog),
            authenticator: Authenticator::default(),
            authorizer: Arc::new(MastersOnly),
            admission,
            services,
            pages: Arc::new(NoPages),
        });
        tokio::spawn(work);
        let workers = Workers {
            store,
            catalog,
            definitions,
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
        let answer = match self.router.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
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

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": "v"}}, "data": {"k": "v"}})
}

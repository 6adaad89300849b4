//! A server to ask webhooks for.

use http::{Method, Response, StatusCode};
use rdd_admission::AdmissionChain;
use rdd_apiserver::{Services, http::body::Body};
use serde_json::{Value, json};

use crate::lab::{DEFINITIONS, Events, Lab, exchange, sent, usual_type, whole};

pub(crate) struct Server {
    lab: Lab,
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
        let lab = Lab::start(|options| {
            options.admission = admission;
            options.services = services;
        });
        let mut lab = lab.await;
        // Webhooks would be asked about the workers' writes, too.
        lab.stop_workers().await;
        Self { lab }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        let content_type = usual_type(&method);
        read(self.raw(method, path, content_type, body).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Value::Null).await
    }

    pub(crate) async fn apply(&self, path: &str, body: Value) -> Answer {
        let kind = "application/apply-patch+yaml";
        read(self.raw(Method::PATCH, path, kind, body).await).await
    }

    pub(crate) async fn watch(&self, path: &str) -> Events {
        let answer = self
            .raw(Method::GET, path, "application/json", Value::Null)
            .await;
        Events::of(answer.into_body())
    }

    async fn raw(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Value,
    ) -> Response<Body> {
        let headers = [("content-type", content_type)];
        exchange(self.lab.admin(), method, path, &headers, sent(&body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, body).await
    }

    /// Creates a definition and writes the status that gets it served, as the workers do.
    pub(crate) async fn define(&self, definition: Value) -> Answer {
        let made = self.post(DEFINITIONS, definition).await;
        assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
        let mut object = made.body.clone();
        object["status"]["conditions"] = json!([{
            "type": "Established", "status": "True", "reason": "Test", "message": "",
        }]);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{DEFINITIONS}/{name}/status");
        let served = self.send(Method::PUT, &path, object).await;
        assert_eq!(served.code, StatusCode::OK, "{:?}", served.body);
        made
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
    let body = whole(answer.into_body()).await;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Answer {
        code,
        body,
        warnings,
    }
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": "v"}}, "data": {"k": "v"}})
}

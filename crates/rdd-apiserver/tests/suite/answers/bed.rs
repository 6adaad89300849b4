//! A whole server on a memory store, and the requests that tests send to it.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use rdd_apiserver::{
    Identity,
    auth::{Issuer, Rbac},
    http::body::Body,
};
use serde_json::{Value, json};

use crate::lab::{AGAIN, CONFIG_MAPS, DEADLINE, DEFINITIONS, Events, Lab, WIDGETS, definition};
use crate::lab::{exchange, whole};

pub(crate) const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

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

/// A running server that knows alice, who holds no rights of her own.
pub(crate) struct Bed {
    lab: Lab,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        let lab = Lab::start(|options| {
            let issuer = Issuer::new(&Issuer::generate().expect("a key")).expect("an issuer");
            options
                .authenticator
                .add_token("good", Identity::new("alice", "", ["devs"]));
            options.authenticator.set_issuer(Arc::new(issuer));
            options.authorizer = Arc::new(Rbac::new(Arc::clone(&options.store)));
        });
        Self { lab: lab.await }
    }

    /// Sends a request as an administrator.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let body = body.to_owned();
        read(exchange(self.lab.admin(), method, path, headers, body).await).await
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
        let router = self.lab.api.router();
        read(exchange(router, method, path, &all, body.to_owned()).await).await
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
        assert_eq!(self.post(CONFIG_MAPS, body).await.code, 201);
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
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = self.lines(path, "application/json").await;
        let each = events.iter().map(|event| {
            let name = &event["object"]["metadata"]["name"];
            (text(&event["type"]), text(name))
        });
        each.collect()
    }

    /// The events of a watch that ends by itself, in this form.
    pub(crate) async fn lines(&self, path: &str, accept: &str) -> Vec<Value> {
        let headers = [("accept", accept)];
        let answer = exchange(self.lab.admin(), Method::GET, path, &headers, "").await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let mut events = Events::of(answer.into_body());
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            seen.push(event);
        }
        seen
    }
}

async fn read(answer: Response<Body>) -> Answer {
    let code = answer.status().as_u16();
    let bytes = whole(answer.into_body()).await;
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Answer { code, body }
}

pub(crate) fn widget(name: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
    )
}

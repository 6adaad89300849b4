//! The server as its workers see it: requests, and what may be ignored of the answers.

use http::{Method, Request, header};
use serde_json::{Value, json};

use crate::catalog::Resource;

/// Requests with plain JSON in and out.
pub(super) struct FrontDoor {
    client: kube::Client,
}

/// Under which name a write is recorded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manager {
    /// The server, for what belongs to CustomResourceDefinitions.
    Server,
    /// Everything else, which Kubernetes leaves to its controller manager.
    Controllers,
}

impl Manager {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "kube-apiserver",
            Self::Controllers => "kube-controller-manager",
        }
    }
}

impl FrontDoor {
    pub(super) fn new(client: kube::Client) -> Self {
        Self { client }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    /// Creates; that the object exists already is fine.
    pub(super) async fn create(
        &self,
        manager: Manager,
        path: &str,
        object: &Value,
    ) -> Result<(), kube::Error> {
        let path = format!("{path}?fieldManager={}", manager.name());
        let created = self
            .send(Method::POST, &path, "application/json", object)
            .await;
        unless(created, 409)
    }

    /// Replaces.
    pub(super) async fn replace(
        &self,
        manager: Manager,
        path: &str,
        object: &Value,
    ) -> Result<Value, kube::Error> {
        let path = format!("{path}?fieldManager={}", manager.name());
        self.send(Method::PUT, &path, "application/json", object)
            .await
    }

    /// Merges a patch in; that the object is gone is fine.
    pub(super) async fn merge(
        &self,
        manager: Manager,
        path: &str,
        patch: &Value,
    ) -> Result<(), kube::Error> {
        let path = format!("{path}?fieldManager={}", manager.name());
        let merged = self
            .send(Method::PATCH, &path, "application/merge-patch+json", patch)
            .await;
        unless(merged, 404)
    }

    /// Applies, whoever owns the fields; that the object is gone is fine.
    pub(super) async fn apply(
        &self,
        manager: &str,
        path: &str,
        object: &Value,
    ) -> Result<(), kube::Error> {
        let path = format!("{path}?fieldManager={manager}&force=true");
        let applied = self
            .send(Method::PATCH, &path, "application/apply-patch+yaml", object)
            .await;
        unless(applied, 404)
    }

    /// Deletes an object or a collection; that it is gone is fine.
    pub(super) async fn delete(
        &self,
        path: &str,
        policy: &str,
        preconditions: Option<Value>,
    ) -> Result<(), kube::Error> {
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
        });
        if let Some(preconditions) = preconditions {
            options["preconditions"] = preconditions;
        }
        let deleted = self
            .send(Method::DELETE, path, "application/json", &options)
            .await;
        unless(deleted, 404)
    }
}

fn unless(result: Result<Value, kube::Error>, code: u16) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == code => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// The URL path of a collection, or of an object in it.
pub(super) fn path(resource: &Resource, namespace: Option<&str>, name: Option<&str>) -> String {
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    if let Some(namespace) = namespace.filter(|_| resource.is_namespaced()) {
        path.push_str("/namespaces/");
        path.push_str(namespace);
    }
    path.push('/');
    path.push_str(&resource.plural);
    if let Some(name) = name {
        path.push('/');
        path.push_str(name);
    }
    path
}

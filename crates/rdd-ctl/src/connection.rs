//! Requests to the server: plain JSON in and out, warnings shown as they come.

use std::collections::BTreeSet;
use std::sync::Mutex;

use anyhow::Context as _;
use futures::stream::{Stream, StreamExt as _, unfold};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;

use crate::args::Common;
use crate::error::{Error, Result};

/// A server, and the namespace that commands without one mean.
pub(crate) struct Connection {
    client: kube::Client,
    pub(crate) namespace: String,
    warned: Mutex<BTreeSet<String>>,
}

/// The usual representation.
pub(crate) const JSON: &str = "application/json";

/// What kubectl asks for when people are to read the answer.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

impl Connection {
    /// Reads the kubeconfig; sends nothing yet.
    pub(crate) async fn open(
        kubeconfig: Option<&std::path::Path>,
        common: &Common,
    ) -> Result<Self> {
        let path = common.kubeconfig.as_deref().or(kubeconfig);
        let path = path.ok_or_else(|| Error::new("no kubeconfig; name one with --kubeconfig"))?;
        let kubeconfig = Kubeconfig::read_from(path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let options = KubeConfigOptions {
            context: common.context.clone(),
            cluster: common.cluster.clone(),
            user: common.user.clone(),
        };
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .with_context(|| format!("failed to use {}", path.display()))?;
        config.read_timeout = None;
        // Whoever typed the command decides whether to try again; a full disk stays full.
        config.default_retry = false;
        let namespace = common
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self {
            client: kube::Client::try_from(config).context("failed to make a client")?,
            namespace,
            warned: Mutex::default(),
        })
    }

    /// A GET.
    pub(crate) async fn get(&self, path: &str, accept: &str) -> Result<Value> {
        self.send(Method::GET, path, accept, None).await
    }

    /// Any request; `body` is a content type and a document.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value> {
        let response = self.open_response(method, path, accept, body).await?;
        let bytes = response
            .into_body()
            .collect()
            .await
            .context("failed to read the answer")?
            .to_bytes();
        serde_json::from_slice(&bytes)
            .context("the server's answer is no JSON")
            .map_err(Into::into)
    }

    /// The answer as it is.
    pub(crate) async fn raw(&self, path: &str) -> Result<Vec<u8>> {
        let response = self.open_response(Method::GET, path, "*/*", None).await?;
        Ok(response
            .into_body()
            .collect()
            .await
            .context("failed to read the answer")?
            .to_bytes()
            .to_vec())
    }

    /// A watch: one document per change, until the server ends it.
    pub(crate) async fn watch(
        &self,
        path: &str,
        accept: &str,
    ) -> Result<impl Stream<Item = Result<Value>> + use<>> {
        let response = self.open_response(Method::GET, path, accept, None).await?;
        let body = response.into_body().into_data_stream();
        let stream = unfold(
            (Box::pin(body), Vec::new()),
            |(mut body, mut rest)| async move {
                loop {
                    // Records end with a newline, whatever chunks they arrive in.
                    if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = rest.drain(..=end).collect();
                        let event =
                            serde_json::from_slice(&line).context("a change that is no JSON");
                        return Some((event.map_err(Error::from), (body, rest)));
                    }
                    match body.next().await {
                        Some(Ok(chunk)) => rest.extend_from_slice(&chunk),
                        Some(Err(error)) => {
                            let error =
                                anyhow::Error::new(error).context("the watch was interrupted");
                            return Some((Err(error.into()), (body, rest)));
                        }
                        None => return None,
                    }
                }
            },
        );
        Ok(Box::pin(stream))
    }

    /// An answer that goes on.
    pub(crate) async fn stream(&self, path: &str) -> Result<http::Response<Body>> {
        self.open_response(Method::GET, path, "*/*", None).await
    }

    /// A WebSocket that speaks Kubernetes' channels.
    pub(crate) async fn socket(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<WebSocketStream<TokioIo<Upgraded>>> {
        match self.client.connect(request).await {
            Ok(connection) => Ok(connection.into_stream()),
            Err(kube::Error::Api(status)) => {
                let mut status = serde_json::to_value(&status).unwrap_or_default();
                // A refusal in plain text: what the client library made of it is no reason.
                if status["reason"] == "Failed to parse error data" {
                    status["reason"] = Value::from("");
                }
                Err(Error::Server(status))
            }
            Err(error) => Err(unreachable(&error)),
        }
    }

    async fn open_response(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<http::Response<Body>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("Accept", accept);
        let content = match body {
            Some((media, document)) => {
                request = request.header("Content-Type", media);
                document.to_string().into_bytes()
            }
            None => Vec::new(),
        };
        let request = request
            .body(Body::from(content))
            .context("failed to make the request")?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| unreachable(&error))?;
        self.warn(response.headers());
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let bytes = response
            .into_body()
            .collect()
            .await
            .context("failed to read the answer")?
            .to_bytes();
        let status: Value = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            // What a router says of a path tells nothing to who named a resource.
            let is_page = code == 404 && text == "404 page not found";
            serde_json::json!({
                "code": code,
                "reason": if code == 404 { "NotFound" } else { "" },
                "message": if is_page {
                    "the server could not find the requested resource".to_owned()
                } else {
                    text
                },
            })
        });
        Err(Error::Server(status))
    }

    fn warn(&self, headers: &http::HeaderMap) {
        for warning in headers.get_all("Warning") {
            let text = warning.to_str().unwrap_or_default();
            let text = text
                .strip_prefix("299 - \"")
                .and_then(|rest| rest.strip_suffix('"'))
                .unwrap_or(text);
            let text = text.replace("\\\"", "\"").replace("\\\\", "\\");
            let new = self
                .warned
                .lock()
                .is_ok_and(|mut warned| warned.insert(text.clone()));
            if new {
                eprintln!("Warning: {text}");
            }
        }
    }
}

fn unreachable(error: &kube::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = next.to_string();
        cause = next.source();
    }
    Error::new(format_args!("the server is not reachable: {text}"))
}

/// One name in a path or query.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(byte.into())
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

//! How a question gets to a webhook, of admission or of conversion: HTTPS, with connections kept for the next one.
//!
//! Whatever the webhook does costs its timeout at most: the time of a call is bounded
//! from the first packet to the last byte of the answer, and so is its size. Texts of
//! failures are those of Go's HTTP client, since they end up in kube-apiserver's.

use std::{
    error::Error as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OnceCell,
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::encoding::json::parse_trusted;

mod services;
mod trust;

pub use services::{ServiceAt, Services};

/// The largest answer that is read. An object has 3 MiB at most; a patch that replaces
/// all of it is a third longer in base64.
const ANSWER_MAX: usize = 8 * 1024 * 1024;

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);

/// How many unused connections one webhook may hold.
const IDLE_MAX: usize = 8;

/// What a webhook answered.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) is_text: bool,
    /// The media type of the body, where it is none that could be read.
    pub(crate) unreadable: Option<String>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// What Go's client says about a code that is no success, and about a body that it
    /// cannot read.
    pub(crate) fn refusal(&self) -> Option<String> {
        if !(200..=206).contains(&self.code) {
            return Some(words(self));
        }
        let unreadable = self.unreadable.as_ref()?;
        Some(format!("serializer for {unreadable} doesn't exist"))
    }
}

/// The media type of an answer, if a webhook may not answer in it.
fn unreadable(content_type: &str) -> Option<String> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let known = ["", "application/json", "application/yaml"];
    (!known.contains(&essence.to_ascii_lowercase().as_str())).then(|| content_type.to_owned())
}

fn words(answer: &Answer) -> String {
    if let Ok(status) = parse_trusted(&answer.body)
        && status["kind"] == "Status"
        && status["status"] == "Failure"
        && let Some(message) = status["message"].as_str()
    {
        return message.to_owned();
    }
    let said = String::from_utf8_lossy(&answer.body);
    let said = if answer.is_text && !said.trim().is_empty() {
        said.trim()
    } else {
        "unknown"
    };
    let known = match answer.code {
        400 => "the server rejected our request for an unknown reason",
        401 => "the server has asked for the client to provide credentials",
        403 => return format!("forbidden: {said}"),
        404 => "the server could not find the requested resource",
        405 => "the server does not allow this method on the requested resource",
        409 => "the server reported a conflict",
        410 => "the item is no longer available at the server",
        413 => return format!("Request entity too large: {said}"),
        415 => {
            return format!(
                "the server was unable to respond with a content type that the client supports: {said}"
            );
        }
        422 => "the server rejected our request due to an error in our request",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be \
             processing the request"
        }
        code if code >= 500 => {
            return format!(
                "an error on the server ({said:?}) has prevented the request from succeeding"
            );
        }
        code => {
            return format!(
                "the server responded with the status code {code} but did not return more \
                 information"
            );
        }
    };
    known.to_owned()
}

/// A path the way Go's `path.Join` writes it: from the root, without empty and dotted
/// segments and without a slash at its end. Servers written in Go redirect all else.
fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

/// One webhook's place.
pub(crate) struct Endpoint {
    /// As messages show it, without the query.
    url: String,
    /// `host:port` to dial, or why there is none.
    address: Result<String, String>,
    host: String,
    bundle: String,
    client: OnceCell<Result<Client<Connector, Full<Bytes>>, String>>,
}

impl Endpoint {
    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Reads a `clientConfig`.
    pub(crate) fn new(config: &Value, services: &Services) -> Self {
        let bundle = config["caBundle"].as_str().unwrap_or_default().to_owned();
        let (url, host, address) = match config["url"].as_str() {
            Some(url) => {
                let authority = url
                    .parse::<Uri>()
                    .ok()
                    .and_then(|uri| uri.authority().cloned());
                match authority {
                    Some(authority) => {
                        let port = authority.port_u16().unwrap_or(443);
                        let host = authority.host().to_owned();
                        let address = format!("{host}:{port}");
                        let path = url
                            .split_once("://")
                            .and_then(|(_, rest)| rest.split_once('/'));
                        let path = clean(path.map_or("", |(_, path)| path));
                        (format!("https://{authority}{path}"), host, Ok(address))
                    }
                    None => {
                        let problem = format!("parse {url:?}: invalid URL");
                        (url.to_owned(), String::new(), Err(problem))
                    }
                }
            }
            None => {
                let service = &config["service"];
                let text = |field: &str| service[field].as_str().unwrap_or_default();
                let (namespace, name) = (text("namespace"), text("name"));
                let port = service["port"].as_u64().unwrap_or(443);
                let host = format!("{name}.{namespace}.svc");
                let path = clean(text("path"));
                let address = services
                    .resolve(namespace, name, port)
                    .ok_or_else(|| format!("service {name:?} not found"));
                (format!("https://{host}:{port}{path}"), host, address)
            }
        };
        Self {
            url,
            address,
            host,
            bundle,
            client: OnceCell::new(),
        }
    }

    /// Asks. `budget` is the webhook's own time, which is told to it; the whole call
    /// ends at `deadline` if that is earlier.
    ///
    /// # Errors
    /// In the words of Go's client.
    pub(crate) async fn post(
        &self,
        body: Bytes,
        budget: Duration,
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        let url = format!("{}?timeout={}s", self.url, budget.as_secs());
        let failed = |text: &str| CallError::Failed(format!("Post {url:?}: {text}"));
        let address = self.address.as_ref().map_err(|text| failed(text))?;
        let client = self
            .client
            .get_or_init(|| self.connector(address))
            .await
            .as_ref()
            .map_err(|text| CallError::NoClient(text.clone()))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(&url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body))
            .map_err(|error| failed(&error.to_string()))?;
        let deadline = deadline.min(Instant::now() + budget);
        let call = async {
            let answer = client
                .request(request)
                .await
                .map_err(|error| failed(&cause(&error)))?;
            let code = answer.status().as_u16();
            let content_type = answer.headers().get(header::CONTENT_TYPE);
            let content_type = content_type.and_then(|value| value.to_str().ok());
            let is_text = content_type.is_none_or(|value| value.starts_with("text/"));
            let unreadable = content_type.and_then(unreadable);
            let body = Limited::new(answer.into_body(), ANSWER_MAX)
                .collect()
                .await
                .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                    Some(_) => failed(&format!("the answer is larger than {ANSWER_MAX} bytes")),
                    None => CallError::Failed(format!(
                        "unexpected error when reading response body. Please retry. Original \
                         error: {}",
                        if was_reset(&*error) {
                            RESET
                        } else {
                            "unexpected EOF"
                        }
                    )),
                })?
                .to_bytes();
            Ok::<_, CallError>(Answer {
                code,
                is_text,
                unreadable,
                body,
            })
        };
        match tokio::time::timeout_at(deadline, call).await {
            Ok(answered) => answered,
            Err(_) => Err(failed("context deadline exceeded")),
        }
    }

    async fn connector(&self, address: &str) -> Result<Client<Connector, Full<Bytes>>, String> {
        let pem = STANDARD
            .decode(&self.bundle)
            .map_err(|error| format!("unable to load root certificates: {error}"))?;
        let roots = if pem.is_empty() {
            tokio::task::spawn_blocking(trust::system_roots)
                .await
                .map_err(|error| error.to_string())?
        } else {
            trust::roots(&pem)?
        };
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host:?} is no server name"))?;
        let connector = Connector {
            address: Arc::from(address),
            name,
            tls: TlsConnector::from(Arc::new(configuration(roots)?)),
        };
        Ok(Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_timer(TokioTimer::new())
            .build(connector))
    }
}

fn configuration(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = trust::Verifier::new(roots, Arc::clone(&provider))?;
    let mut configuration = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(configuration)
}

/// What Go says when the other side resets a connection.
const RESET: &str = "read: connection reset by peer";

fn was_reset(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::ConnectionReset
        {
            return true;
        }
        at = error.source();
    }
    false
}

/// The innermost reason why a request failed.
fn cause(error: &hyper_util::client::legacy::Error) -> String {
    if was_reset(error) {
        return RESET.to_owned();
    }
    let mut at: Option<&(dyn std::error::Error + 'static)> = error.source();
    let mut last = error.to_string();
    while let Some(error) = at {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.0.clone();
        }
        last = error.to_string();
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_closed())
        {
            return "EOF".to_owned();
        }
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::UnexpectedEof
        {
            return "EOF".to_owned();
        }
        at = error.source();
    }
    last
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The configuration does not allow for a question.
    #[error("{0}")]
    NoClient(String),
    /// The question got no answer.
    #[error("{0}")]
    Failed(String),
}

/// Why there is no connection, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

/// Dials one address and speaks TLS to one name, whatever the URL says.
#[derive(Clone)]
struct Connector {
    address: Arc<str>,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Self::Response, Failure>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { address, name, tls } = self.clone();
        Box::pin(async move {
            let socket = TcpStream::connect(&*address)
                .await
                .map_err(|error| Failure(format!("dial tcp {address}: {}", dial(&error))))?;
            // A question is one write; it must not wait for an acknowledgement.
            let _ = socket.set_nodelay(true);
            let stream = tls
                .connect(name, socket)
                .await
                .map_err(|error| Failure(trust::handshake_problem(&error)))?;
            Ok(TokioIo::new(Stream(stream)))
        })
    }
}

fn dial(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connect: connection reset by peer".to_owned(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// A connection of the pool.
struct Stream(TlsStream<TcpStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_clean_before_they_are_asked() {
        for (given, wanted) in [
            (
                "https://127.0.0.1:9443//mutate",
                "https://127.0.0.1:9443/mutate",
            ),
            ("https://127.0.0.1:9443", "https://127.0.0.1:9443/"),
            ("https://[::1]/a/./b/../c//d/", "https://[::1]/a/c/d"),
            ("https://example.com/../..", "https://example.com/"),
        ] {
            let endpoint = Endpoint::new(&json!({"url": given}), &Services::default());
            assert_eq!(endpoint.url(), wanted);
        }
        let service = json!({"service": {"namespace": "a", "name": "b", "path": "//c/"}});
        let endpoint = Endpoint::new(&service, &Services::default());
        assert_eq!(endpoint.url(), "https://b.a.svc:443/c");
    }
}

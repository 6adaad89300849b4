//! HTTP to an engine: a deadline per call, a queue per stream.
//!
//! A look at one object goes over a connection that an earlier look has left, since a first
//! pass looks at everything, and over ssh each connection is a process. Everything else has
//! a connection of its own: who the engine is must be asked of whoever listens now, and
//! what is sent twice would be done twice.

use std::io::ErrorKind;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::convert;
use super::tls::Certificates;
use crate::endpoint::Endpoint;
use crate::engine::EventStream;
use crate::error::{Error, Result};

/// The largest answer: a list of 50,000 containers has about 60 MB.
const ANSWER_MAX: usize = 256 * 1024 * 1024;

/// Events that wait for their reader. Docker drops slow readers, so this queue is
/// filled at once, whatever the reader does.
const EVENTS: usize = 16_384;

/// The longest event: labels are part of it.
const EVENT_MAX: usize = 4 * 1024 * 1024;

/// Connections that are kept for the next look.
const KEPT: usize = 16;

/// How long one is kept that nobody uses.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// How much of what ssh says is kept, in bytes.
const WORDS_MAX: u64 = 4096;

/// How long ssh may take to say why it failed.
const SSH_WORDS: Duration = Duration::from_secs(1);

/// What to do about an engine that nothing proves.
const NO_CERTIFICATES: &str = "an engine on another machine is reached over ssh://, or with the \
    certificates of a Docker context for this endpoint: \
    docker context create NAME --docker host=…,ca=…,cert=…,key=…";

#[derive(Debug)]
pub(super) struct Transport {
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    /// `/v1.41`, once a version is agreed.
    pub(super) prefix: String,
    kept: Mutex<Vec<(Instant, Line)>>,
}

/// A connection over which one request at a time can be sent.
#[derive(Debug)]
struct Line {
    sender: SendRequest<Full<Bytes>>,
    connection: AbortOnDropHandle<()>,
}

impl Transport {
    /// Refuses to speak to another machine over TCP that nobody protects: who reads or
    /// changes what is said there owns that machine.
    pub(super) fn new(endpoint: Endpoint, certificates: Option<&Certificates>) -> Result<Self> {
        let refuse = |reason: String| Error::Endpoint {
            text: endpoint.to_string(),
            reason,
        };
        let certificates = certificates.filter(|_| matches!(endpoint, Endpoint::Tcp { .. }));
        let tls = certificates
            .map(Certificates::configuration)
            .transpose()
            .map_err(refuse)?;
        if tls.is_none() && !endpoint.is_local() && matches!(endpoint, Endpoint::Tcp { .. }) {
            return Err(refuse(NO_CERTIFICATES.to_owned()));
        }
        Ok(Self {
            endpoint,
            tls,
            prefix: String::new(),
            kept: Mutex::default(),
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) async fn get(&self, path: &str, limit: Duration) -> Result<Value> {
        self.call(Method::GET, path, limit).await
    }

    /// Looks at one object. A connection that ended while it was kept is no failure.
    pub(super) async fn look(&self, path: &str, limit: Duration) -> Result<Value> {
        let work = async {
            loop {
                let request = self.request(Method::GET, path)?;
                let kept = self.take();
                let is_kept = kept.is_some();
                let answered = match kept {
                    Some(line) => self.over(line, request).await,
                    None => self.send(request).await,
                };
                let answered = match answered {
                    Ok((response, line)) => self.answer(response).await.map(|told| (told, line)),
                    Err(error) => Err(error),
                };
                match answered {
                    Ok(((status, body), line)) => {
                        self.keep(line);
                        return judged(status, &body);
                    }
                    Err(_) if is_kept => {}
                    Err(error) => return Err(error),
                }
            }
        };
        timeout(limit, work)
            .await
            .map_err(|_| Error::Timeout { limit })?
    }

    fn take(&self) -> Option<Line> {
        let mut kept = self.kept.lock();
        kept.retain(|(since, line)| since.elapsed() < KEPT_FOR && !line.sender.is_closed());
        kept.pop().map(|(_, line)| line)
    }

    fn keep(&self, line: Line) {
        let mut kept = self.kept.lock();
        if kept.len() < KEPT && !line.sender.is_closed() {
            kept.push((Instant::now(), line));
        }
    }

    async fn over(
        &self,
        mut line: Line,
        request: Request<Bytes>,
    ) -> Result<(Response<Incoming>, Line)> {
        let sender = &mut line.sender;
        sender.ready().await.map_err(|source| self.lost(source))?;
        let response = sender.send_request(request.map(Full::new)).await;
        Ok((response.map_err(|source| self.lost(source))?, line))
    }

    /// Sends a request without a body; an empty answer is null.
    pub(super) async fn call(&self, method: Method, path: &str, limit: Duration) -> Result<Value> {
        self.exchange_json(self.request(method, path), limit).await
    }

    /// Sends a document; an empty answer is null.
    pub(super) async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        limit: Duration,
    ) -> Result<Value> {
        let request = self.request(method, path)?.map(|_| body.to_string().into());
        let (mut head, body) = request.into_parts();
        let json = HeaderValue::from_static("application/json");
        head.headers.insert(CONTENT_TYPE, json);
        self.exchange_json(Ok(Request::from_parts(head, body)), limit)
            .await
    }

    /// Sends a request whose answer is a stream; the limit is for its first word. A
    /// refusal is an error.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        limit: Duration,
    ) -> Result<(Response<Incoming>, AbortOnDropHandle<()>)> {
        let mut request = self.request(method, path)?;
        for (name, value) in headers {
            let value =
                HeaderValue::from_str(value).map_err(|error| Error::Answer(error.into()))?;
            request.headers_mut().insert(*name, value);
        }
        let opened = timeout(limit, self.send(request)).await;
        let (response, line) = opened.map_err(|_| Error::Timeout { limit })??;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok((response, line.connection));
        }
        let body = Limited::new(response.into_body(), EVENT_MAX).collect();
        let body = timeout(limit, body)
            .await
            .map_err(|_| Error::Timeout { limit })?;
        let body = body.map_err(|source| self.lost(source))?.to_bytes();
        Err(refusal(status.as_u16(), &body))
    }

    /// Sends a document and takes the connection over for raw bytes, both ways.
    pub(super) async fn hijack(
        &self,
        path: &str,
        body: &Value,
        limit: Duration,
    ) -> Result<(Upgraded, AbortOnDropHandle<()>)> {
        let mut request = self
            .request(Method::POST, path)?
            .map(|_| body.to_string().into());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
        let work = async {
            let (response, line) = self.send(request).await?;
            let status = response.status();
            if status != StatusCode::SWITCHING_PROTOCOLS {
                let body = Limited::new(response.into_body(), EVENT_MAX)
                    .collect()
                    .await;
                let body = body.map_err(|source| self.lost(source))?.to_bytes();
                return Err(refusal(status.as_u16(), &body));
            }
            let upgraded = hyper::upgrade::on(response).await;
            Ok((
                upgraded.map_err(|source| self.lost(source))?,
                line.connection,
            ))
        };
        timeout(limit, work)
            .await
            .map_err(|_| Error::Timeout { limit })?
    }

    fn request(&self, method: Method, path: &str) -> Result<Request<Bytes>> {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header("Host", "docker")
            .header("User-Agent", "rdd")
            .body(Bytes::new())
            .map_err(|error| Error::Answer(error.into()))
    }

    async fn exchange_json(
        &self,
        request: Result<Request<Bytes>>,
        limit: Duration,
    ) -> Result<Value> {
        let request = request?;
        let work = async {
            let (response, _line) = self.send(request).await?;
            let (status, body) = self.answer(response).await?;
            judged(status, &body)
        };
        match timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { limit }),
        }
    }

    async fn answer(&self, response: Response<Incoming>) -> Result<(StatusCode, Bytes)> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX)
            .collect()
            .await;
        Ok((status, body.map_err(|source| self.lost(source))?.to_bytes()))
    }

    /// Asks for a page whose content does not matter.
    pub(super) async fn probe(&self, path: &str, limit: Duration) -> Result<()> {
        self.open(Method::GET, path, &[], limit).await.map(drop)
    }

    /// Opens a stream of events; the limit is for its first word.
    pub(super) async fn events(&self, path: &str, limit: Duration) -> Result<EventStream> {
        let (response, connection) = self.open(Method::GET, path, &[], limit).await?;
        let (queue, events) = mpsc::channel(EVENTS);
        // A place kept for saying that the queue is full.
        let overrun = queue.clone().try_reserve_owned();
        let endpoint = self.endpoint.to_string();
        let reader = tokio::spawn(async move {
            let _connection = connection;
            let mut body = response.into_body();
            let mut rest = BytesMut::new();
            loop {
                let chunk = match body.frame().await {
                    None => return,
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                    Some(Err(source)) => {
                        let lost = Error::Connection {
                            endpoint,
                            source: source.into(),
                        };
                        // Without a reader there is nobody to tell.
                        let _unheard = queue.send(Err(lost)).await;
                        return;
                    }
                };
                rest.extend_from_slice(&chunk);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line = rest.split_to(end + 1);
                    let Ok(value) = serde_json::from_slice::<Value>(&line) else {
                        tracing::warn!(length = line.len(), "skipped an event that cannot be read");
                        continue;
                    };
                    let Some(event) = convert::event(&value) else {
                        continue;
                    };
                    if queue.try_send(Ok(event)).is_err() {
                        if let Ok(overrun) = overrun {
                            overrun.send(Err(Error::Overrun));
                        }
                        return;
                    }
                }
                if rest.len() > EVENT_MAX {
                    if let Ok(overrun) = overrun {
                        overrun.send(Err(Error::Overrun));
                    }
                    return;
                }
            }
        });
        Ok(EventStream {
            events,
            _reader: AbortOnDropHandle::new(reader),
        })
    }

    /// Sends a request over a connection of its own.
    async fn send(&self, request: Request<Bytes>) -> Result<(Response<Incoming>, Line)> {
        match &self.endpoint {
            Endpoint::Unix(socket) => {
                let stream = UnixStream::connect(socket)
                    .await
                    .map_err(|error| self.unreachable(error))?;
                self.exchange(stream, request).await
            }
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(|error| self.unreachable(error))?;
                let Some(tls) = &self.tls else {
                    return self.exchange(stream, request).await;
                };
                let name = ServerName::try_from(host.clone()).map_err(|error| self.lost(error))?;
                let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
                let stream = stream.await.map_err(|error| self.lost(error))?;
                self.exchange(stream, request).await
            }
            Endpoint::Ssh { destination, port } => {
                let mut command = Command::new("ssh");
                command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
                if let Some(port) = port {
                    command.args(["-p", &port.to_string()]);
                }
                let mut child = command
                    .args(["--", destination, "docker", "system", "dial-stdio"])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .kill_on_drop(true)
                    .spawn()
                    .map_err(|error| self.lost(format!("ssh cannot be run: {error}")))?;
                let (Some(stdout), Some(stdin), Some(mut stderr)) =
                    (child.stdout.take(), child.stdin.take(), child.stderr.take())
                else {
                    return Err(self.unreachable(ErrorKind::BrokenPipe.into()));
                };
                let exchanged = self.exchange(tokio::io::join(stdout, stdin), request).await;
                let (response, line) = match exchanged {
                    Ok(exchanged) => exchanged,
                    Err(error) => {
                        // What ssh says tells more than that its output ended.
                        let mut words = Vec::new();
                        let mut limited = (&mut stderr).take(WORDS_MAX);
                        let read = timeout(SSH_WORDS, limited.read_to_end(&mut words)).await;
                        let words = String::from_utf8_lossy(&words).trim().to_owned();
                        return Err(match read {
                            Ok(Ok(_)) if !words.is_empty() => self.lost(words),
                            _ => error,
                        });
                    }
                };
                let Line { sender, connection } = line;
                // The child lives as long as its connection.
                let both = tokio::spawn(async move {
                    let _child = child;
                    // Unread, its warnings would one day block it. The connection's end is
                    // seen where its body is read.
                    let mut nowhere = tokio::io::sink();
                    let warnings = tokio::io::copy(&mut stderr, &mut nowhere);
                    let _ended = tokio::join!(connection, warnings);
                });
                let connection = AbortOnDropHandle::new(both);
                Ok((response, Line { sender, connection }))
            }
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Bytes>,
    ) -> Result<(Response<Incoming>, Line)> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.lost(source))?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // Its failure is seen by the request that runs over it.
            let _ended = connection.with_upgrades().await;
        }));
        self.over(Line { sender, connection }, request).await
    }

    fn unreachable(&self, source: std::io::Error) -> Error {
        let endpoint = self.endpoint.to_string();
        match source.kind() {
            ErrorKind::PermissionDenied => Error::PermissionDenied { endpoint, source },
            _ => Error::NotListening { endpoint, source },
        }
    }

    fn lost(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Connection {
            endpoint: self.endpoint.to_string(),
            source: source.into(),
        }
    }
}

/// What an answer says; an empty one is null.
fn judged(status: StatusCode, body: &[u8]) -> Result<Value> {
    if !status.is_success() && status != StatusCode::NOT_MODIFIED {
        return Err(refusal(status.as_u16(), body));
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| Error::Answer(error.into()))
}

fn refusal(status: u16, body: &[u8]) -> Error {
    let message = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|answer| answer["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    match status {
        404 => Error::NotFound(message),
        status => Error::Refused { status, message },
    }
}

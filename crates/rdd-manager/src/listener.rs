//! HTTP over TLS on loopback, until told to stop.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::health;
use crate::passthrough::Body;

/// How long a peer may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a peer may take for the head of a request.
const HEAD: Duration = Duration::from_secs(30);

/// For requests to finish once no new ones are taken.
const DRAIN: Duration = Duration::from_secs(5);

/// Pause after a connection that could not be accepted, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers requests.
pub(crate) trait Answer: Send + Sync + 'static {
    fn answer(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>>;
}

/// A socket that is bound already: its port is the one that is published.
pub(crate) struct Listener {
    socket: TcpListener,
    tls: TlsAcceptor,
    port: u16,
}

impl Listener {
    /// Listens on this port, or on any when somebody else has it.
    pub(crate) async fn bind(port: u16, config: Arc<ServerConfig>) -> io::Result<Self> {
        let socket = health::bind(port).await?;
        let port = socket.local_addr()?.port();
        Ok(Self {
            socket,
            tls: TlsAcceptor::from(config),
            port,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Owns every connection's task: when this returns, none is left.
    pub(crate) async fn serve(self, answer: Arc<dyn Answer>, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        let mut is_refusing = false;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                    continue;
                }
            };
            match accepted {
                Ok((socket, _)) => {
                    is_refusing = false;
                    let (tls, answer, stop) = (self.tls.clone(), Arc::clone(&answer), stop.clone());
                    connections.spawn(async move {
                        if let Err(error) = connection(socket, tls, answer, stop).await {
                            tracing::debug!(error = %error, "a connection ended");
                        }
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_refusing, true) {
                        tracing::warn!(%error, "a connection could not be accepted; the next ones may not be, either");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
        drop(self.socket);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(DRAIN, drained).await.is_err() {
            connections.shutdown().await;
        }
    }
}

async fn connection(
    socket: TcpStream,
    tls: TlsAcceptor,
    answer: Arc<dyn Answer>,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    socket.set_nodelay(true)?;
    let socket = timeout(HANDSHAKE, tls.accept(socket)).await??;
    let service = service_fn(move |request| {
        let answer = Arc::clone(&answer);
        async move { Ok::<_, Infallible>(answer.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

/// A short answer for people.
pub(crate) fn plain(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    respond(
        status,
        "text/plain; charset=utf-8",
        text.into().into_bytes(),
    )
}

pub(crate) fn respond(
    status: StatusCode,
    media_type: &'static str,
    body: Vec<u8>,
) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(media_type),
    );
    answer
}

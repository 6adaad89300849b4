//! Connections: HTTP/1.1 and HTTP/2, over TLS or plain, until told to stop.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::{auth::certificate::Presented, http::router::Router};

/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Streams that one HTTP/2 connection may have open: a client with an informer per
/// type keeps that many.
const STREAMS_MAX: u32 = 1_000;

/// Bytes of a request head: bearer tokens and impersonation headers can be long.
const HEAD_MAX: u32 = 1024 * 1024;

/// Who is at the other end of a connection; among the extensions of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    pub(crate) presented: Presented,
}

/// How connections are protected.
#[derive(Clone)]
pub enum Security {
    /// Not at all; for tests and unix sockets.
    Plain,
    /// By this TLS configuration; its ALPN list should name `h2` and `http/1.1`.
    Tls(Arc<rustls::ServerConfig>),
}

/// Accepts connections until `stop`, then lets requests finish for at most `drain`.
///
/// Owns every connection's task: when this returns, none is left. Those that became
/// WebSockets end by themselves once the server stops.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    security: Security,
    stop: CancellationToken,
    drain: Duration,
) {
    let mut connections = JoinSet::new();
    let mut is_refusing = false;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a connection's task panicked");
                }
                continue;
            }
        };
        match accepted {
            Ok((socket, address)) => {
                is_refusing = false;
                let address = address.ip().to_canonical();
                // Small answers must not wait for an acknowledgement.
                let _ = socket.set_nodelay(true);
                let router = router.clone();
                let security = security.clone();
                let stop = stop.clone();
                connections.spawn(async move {
                    if let Err(error) = connection(socket, address, router, security, stop).await {
                        tracing::debug!(%error, "connection ended");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: go on when some connection has ended.
                if !std::mem::replace(&mut is_refusing, true) {
                    tracing::warn!(%error, "a connection could not be accepted; the next ones may not be, either");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let sockets = router.sockets();
    sockets.close();
    let drained = async {
        while connections.join_next().await.is_some() {}
        sockets.wait().await;
    };
    if tokio::time::timeout(drain, drained).await.is_err() {
        connections.shutdown().await;
    }
}

type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    socket: tokio::net::TcpStream,
    address: IpAddr,
    router: Router,
    security: Security,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    match security {
        Security::Plain => {
            let presented = Presented::Nothing;
            http(socket, Peer { address, presented }, router, stop).await
        }
        Security::Tls(config) => {
            let handshake = TlsAcceptor::from(config).accept(socket);
            let socket = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let chain = socket.get_ref().1.peer_certificates().unwrap_or_default();
            let presented = router.presented(chain);
            http(socket, Peer { address, presented }, router, stop).await
        }
    }
}

async fn http(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX);
    let peer = Arc::new(peer);
    let service = service_fn(move |mut request: http::Request<_>| {
        request.extensions_mut().insert(Arc::clone(&peer));
        router.clone().call(request)
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

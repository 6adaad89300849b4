//! Watches over a WebSocket (RFC 6455), for browsers, which cannot read a stream otherwise.
//!
//! ```text
//! GET …?watch=1, Upgrade ─▶ as any watch: who, may they, which position ─▶ handshake ─▶ 101
//!     ─▶ one text frame per event ─▶ the watch ends: close 1000; the client closes: the watch ends
//! ```
//!
//! What goes wrong before the handshake is an ordinary answer. As with kube-apiserver, an
//! `Origin` must be named, but none is refused for its name: there are no cookies to
//! abuse, and a page has to bring its own token. (Who installs a client certificate in a
//! browser lets every page use it that the browser shows.)

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;

use crate::http::{
    body::{self, Body},
    response,
};

/// How long a client may take to read one event; a slower one comes back with its position.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the connection may take to change hands, and a client to answer our farewell.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of what a client sends, which is not looked at.
const INCOMING_MAX: usize = 4096;

/// What starts the subprotocol that is a token, and must not be echoed.
pub(crate) const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// A request that wants to become a WebSocket.
pub(crate) struct Upgrade {
    connection: Option<OnUpgrade>,
    key: Option<HeaderValue>,
    version: Option<HeaderValue>,
    origin: Option<HeaderValue>,
    protocol: Option<String>,
}

/// The subprotocols that a client offers, in its order.
pub(crate) fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    words(headers, header::SEC_WEBSOCKET_PROTOCOL).filter(|protocol| !protocol.is_empty())
}

fn words(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

impl Upgrade {
    /// What the request says about it, if it wants to be upgraded.
    pub(crate) fn wanted(request: &Parts) -> Option<Self> {
        let headers = &request.headers;
        let holds = |name: header::HeaderName, word: &str| {
            words(headers, name).any(|one| one.eq_ignore_ascii_case(word))
        };
        let wants = holds(header::UPGRADE, "websocket") && holds(header::CONNECTION, "upgrade");
        wants.then(|| Self {
            connection: request.extensions.get().cloned(),
            key: headers.get(header::SEC_WEBSOCKET_KEY).cloned(),
            version: headers.get(header::SEC_WEBSOCKET_VERSION).cloned(),
            origin: headers.get(header::ORIGIN).cloned(),
            protocol: offered(headers)
                .find(|protocol| !protocol.starts_with(TOKEN_PROTOCOL))
                .map(str::to_owned),
        })
    }

    /// The head of the answer, with the watch's body still in it, or the refusal.
    pub(crate) fn answer(&self, watch: Response<Body>) -> Response<Body> {
        match self.check() {
            Ok(accept) => {
                let mut answer = watch;
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = answer.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.remove(header::CONTENT_LENGTH);
                let protocol = self.protocol.as_deref().unwrap_or_default();
                for (name, value) in [
                    (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
                    (header::SEC_WEBSOCKET_PROTOCOL, protocol),
                ] {
                    if let Ok(value) = HeaderValue::from_str(value)
                        && !value.is_empty()
                    {
                        headers.insert(name, value);
                    }
                }
                answer
            }
            Err((code, text)) => {
                let mut answer = response::bytes(code, "text/plain; charset=utf-8", text);
                if code == 400 {
                    let version = HeaderValue::from_static("13");
                    answer
                        .headers_mut()
                        .insert(header::SEC_WEBSOCKET_VERSION, version);
                }
                answer
            }
        }
    }

    /// What proves to the client that its key was read.
    fn check(&self) -> Result<String, (u16, &'static str)> {
        if self.version.as_ref().is_none_or(|version| version != "13") {
            return Err((400, "missing or bad WebSocket Version"));
        }
        let Some(key) = self.key.as_ref().filter(|key| !key.is_empty()) else {
            return Err((400, "mismatch challenge/response"));
        };
        let is_url = |origin: &&HeaderValue| {
            let origin = origin.to_str().unwrap_or_default();
            !origin.is_empty() && origin.parse::<Uri>().is_ok()
        };
        if self
            .origin
            .as_ref()
            .filter(|origin| *origin != "null")
            .filter(is_url)
            .is_none()
        {
            return Err((403, "the Origin is missing or no URL"));
        }
        if self.connection.is_none() {
            return Err((400, "this connection cannot be upgraded"));
        }
        Ok(derive_accept_key(key.as_bytes()))
    }

    /// Takes the watch out of its accepted answer; what is left goes to the client, what
    /// comes back carries the events until either side ends, or `stop`.
    pub(crate) fn carry(
        self,
        answer: Response<Body>,
        stop: CancellationToken,
    ) -> (Response<Body>, impl Future<Output = ()> + Send + 'static) {
        let (head, events) = answer.into_parts();
        let carry = async move {
            let Some(connection) = self.connection else {
                return;
            };
            match timeout(CLOSE_TIMEOUT, connection).await {
                Ok(Ok(upgraded)) => carry(upgraded, events, stop).await,
                Ok(Err(error)) => tracing::debug!(%error, "a WebSocket did not come about"),
                Err(_) => tracing::debug!("a WebSocket did not come about in time"),
            }
        };
        (Response::from_parts(head, body::empty()), carry)
    }
}

/// What happened to an open WebSocket.
enum Input {
    /// The next bytes of the watch; none at its end.
    Event(Option<Bytes>),
    /// The client said something; `false` when it is gone.
    Client(bool),
}

async fn carry(upgraded: Upgraded, mut events: Body, stop: CancellationToken) {
    // Idle watchers are many, and what comes in is nothing.
    let config = WebSocketConfig::default()
        .read_buffer_size(INCOMING_MAX)
        .write_buffer_size(0)
        .max_message_size(Some(INCOMING_MAX))
        .max_frame_size(Some(INCOMING_MAX));
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    loop {
        let input = tokio::select! {
            frame = events.frame() => {
                // A watch's body does not break; if it did, that would be its end.
                let frame = frame.and_then(Result::ok);
                Input::Event(frame.map(|frame| frame.into_data().unwrap_or_default()))
            }
            message = socket.next() => Input::Client(matches!(
                message,
                Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_)))
            )),
        };
        match input {
            Input::Event(Some(event)) => {
                let message = match Utf8Bytes::try_from(event.clone()) {
                    Ok(text) => Message::Text(text),
                    Err(_) => Message::Binary(event),
                };
                let sent = tokio::select! {
                    sent = timeout(WRITE_TIMEOUT, socket.send(message)) => sent,
                    () = stop.cancelled() => return,
                };
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
            Input::Event(None) => break,
            Input::Client(true) => {}
            Input::Client(false) => return,
        }
    }
    let farewell = CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::default(),
    };
    let close = async {
        if socket.close(Some(farewell)).await.is_ok() {
            // Reads until the client has answered.
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // A client that does not answer has heard it or not.
    let _answered = timeout(CLOSE_TIMEOUT, close).await;
}

//! The server's end of a WebSocket (RFC 6455), with an eye on whether anybody is there.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rdd_manager::Body;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{PING, Refusal, SILENCE, WRITE, refuse};

/// Whether a request wants to become a WebSocket.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let holds = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    holds(header::UPGRADE, "websocket") && holds(header::CONNECTION, "upgrade")
}

/// The sub-protocols that the client offers, in its order.
pub(crate) fn offered(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|value| value.trim().to_owned())
        .collect()
}

/// A request that can be upgraded.
pub(crate) struct Handshake {
    upgrade: OnUpgrade,
    accept: String,
}

impl Handshake {
    /// Checks the request before anything is done for it.
    pub(crate) fn of(request: &mut Request<Body>) -> Result<Self, Refusal> {
        let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
        let is_key = |key: &&HeaderValue| STANDARD.decode(key).is_ok_and(|key| key.len() == 16);
        let Some(accept) = key
            .filter(is_key)
            .map(|key| derive_accept_key(key.as_bytes()))
        else {
            return refuse(
                StatusCode::BAD_REQUEST,
                "Sec-WebSocket-Key is missing or malformed",
            );
        };
        let version = request.headers().get(header::SEC_WEBSOCKET_VERSION);
        if version.is_none_or(|version| version != "13") {
            return refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Version must be 13");
        }
        match request.extensions_mut().remove::<OnUpgrade>() {
            Some(upgrade) => Ok(Self { upgrade, accept }),
            None => refuse(
                StatusCode::BAD_REQUEST,
                "this connection cannot be upgraded",
            ),
        }
    }

    /// The answer, and what hands over the socket once the answer is sent.
    pub(crate) fn accept(
        self,
        protocol: Option<&'static str>,
        largest: usize,
    ) -> (
        Response<Body>,
        impl Future<Output = Result<Socket, hyper::Error>> + Send,
    ) {
        let body = Empty::<Bytes>::new().map_err(|never| match never {});
        let mut answer = Response::new(body.boxed_unsync());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(protocol) = protocol {
            headers.insert(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(protocol),
            );
        }
        let socket = async move {
            let config = WebSocketConfig::default()
                .max_message_size(Some(largest))
                .max_frame_size(Some(largest));
            let stream = TokioIo::new(self.upgrade.await?);
            let stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config));
            Ok(Socket {
                stream: stream.await,
                heard: Instant::now(),
                asked: Instant::now(),
            })
        };
        (answer, socket)
    }
}

/// An open WebSocket.
pub(crate) struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    heard: Instant,
    asked: Instant,
}

/// The peer is gone, or breaks the rules.
pub(crate) struct Gone;

impl Socket {
    /// Sends a binary message.
    pub(crate) async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.write(Message::Binary(bytes)).await
    }

    /// Sends a text message.
    pub(crate) async fn say(&mut self, text: &'static str) -> Result<(), Gone> {
        self.write(Message::text(text)).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(WRITE, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// The next binary or text message; asks meanwhile whether the peer is still there.
    /// Safe to drop at any time.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Gone> {
        loop {
            // Whatever is sent: most peers only answer.
            let due = (self.asked.max(self.heard) + PING).min(self.heard + SILENCE);
            let wait = due.saturating_duration_since(Instant::now());
            match timeout(wait.max(Duration::from_millis(1)), self.stream.next()).await {
                Err(_) => {
                    if self.heard.elapsed() >= SILENCE {
                        return Err(Gone);
                    }
                    self.asked = Instant::now();
                    self.write(Message::Ping(Bytes::new())).await?;
                }
                Ok(Some(Ok(message))) => {
                    self.heard = Instant::now();
                    match message {
                        Message::Binary(bytes) => return Ok(bytes),
                        Message::Text(text) => return Ok(text.into()),
                        Message::Close(_) => {
                            // Answers the peer's closing handshake.
                            let _answered = timeout(WRITE, self.stream.flush()).await;
                            return Err(Gone);
                        }
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    }
                }
                Ok(Some(Err(Error::Capacity(_)))) => {
                    self.close(CloseCode::Size, "message too large").await;
                    return Err(Gone);
                }
                Ok(Some(Err(_)) | None) => return Err(Gone),
            }
        }
    }

    /// Ends it with a reason, and waits for the peer to agree.
    pub(crate) async fn close(&mut self, code: CloseCode, reason: &str) {
        // A reason has at most 123 bytes (RFC 6455, 5.5).
        let frame = CloseFrame {
            code,
            reason: reason[..reason.floor_char_boundary(123)].into(),
        };
        if self.write(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        let agreed = async { while let Some(Ok(_)) = self.stream.next().await {} };
        // Whoever does not agree is left.
        let _left = timeout(WRITE, agreed).await;
    }
}

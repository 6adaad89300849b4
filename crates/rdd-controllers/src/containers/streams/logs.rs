//! A container's log: a WebSocket with a binary message per chunk, or a plain answer that
//! goes on as long as the log does.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::unfold;
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use rdd_engine::{LogOptions, Output};
use rdd_manager::{Access, Body, Endpoint};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::socket::{Handshake, Socket, is_wanted};
use super::{Door, Refusal, boolean, parameters, refuse};

/// The largest message of a client, in bytes: it has nothing to say.
pub(super) const MESSAGE_MAX: usize = 4096;

pub(super) struct Logs(pub(super) Door);

#[async_trait]
impl Endpoint for Logs {
    fn name(&self) -> &'static str {
        "logs"
    }

    fn access(&self, rest: &str) -> Access {
        self.0.access("get", "log", rest)
    }

    async fn serve(&self, rest: &str, request: Request<Body>) -> Response<Body> {
        self.answer(rest, request).await.unwrap_or_else(Into::into)
    }
}

impl Logs {
    async fn answer(
        &self,
        rest: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let mut options = options(request.uri().query())?;
        let (live, container) = self.0.container(rest).await?;
        options.tty = container.tty;
        let handshake = match is_wanted(request.headers()) {
            true => Some(Handshake::of(&mut request)?),
            false => None,
        };
        let log = match live.engine.logs(&container.id, &options).await {
            Ok(log) => log,
            Err(error) => {
                tracing::warn!(id = container.id, %error, "a log could not be read");
                return refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Failed to get container logs",
                );
            }
        };
        let stop = self.0.stop.clone();
        let Some(handshake) = handshake else {
            return Ok(plain(log, stop));
        };
        let (answer, socket) = handshake.accept(None, MESSAGE_MAX);
        // Ends with its peer, with the log, or with the controller.
        tokio::spawn(async move {
            if let Ok(socket) = socket.await {
                pump(log, socket, stop).await;
            }
        });
        Ok(answer)
    }
}

fn options(query: Option<&str>) -> Result<LogOptions, Refusal> {
    let mut options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    for (name, value) in parameters(query) {
        match name.as_str() {
            "follow" => match boolean(&value) {
                Some(follow) => options.follow = follow,
                None => return refuse(StatusCode::BAD_REQUEST, "Invalid follow parameter"),
            },
            "timestamps" => match boolean(&value) {
                Some(timestamps) => options.timestamps = timestamps,
                None => return refuse(StatusCode::BAD_REQUEST, "Invalid timestamps parameter"),
            },
            "tail" if value.is_empty() || value == "all" => options.tail = None,
            "tail" => match value.parse() {
                Ok(lines) => options.tail = Some(lines),
                Err(_) => {
                    let text = "Invalid argument: tail is a number of lines, or all";
                    return refuse(StatusCode::BAD_REQUEST, text);
                }
            },
            "since" => match value.parse() {
                Ok(since) => options.since = Some(since),
                Err(_) => {
                    let text = "Invalid argument: since is a number of seconds since 1970";
                    return refuse(StatusCode::BAD_REQUEST, text);
                }
            },
            _ => {}
        }
    }
    Ok(options)
}

/// Chunk by chunk, as fast as the peer takes them.
pub(super) async fn pump(mut log: Output, mut socket: Socket, stop: CancellationToken) {
    loop {
        let chunk = tokio::select! {
            () = stop.cancelled() => {
                socket.close(CloseCode::Away, "the service stops").await;
                return;
            }
            // What clients say means nothing; that they are gone does.
            said = socket.next() => match said {
                Ok(_) => continue,
                Err(_) => return,
            },
            chunk = log.next() => chunk,
        };
        match chunk {
            Some(Ok((_, bytes))) => {
                if socket.send(bytes).await.is_err() {
                    return;
                }
            }
            Some(Err(error)) => {
                let text = format!("failed to copy container logs: {error}");
                socket.close(CloseCode::Error, &text).await;
                return;
            }
            None => {
                socket.close(CloseCode::Normal, "Closing connection").await;
                return;
            }
        }
    }
}

fn plain(log: Output, stop: CancellationToken) -> Response<Body> {
    let chunks = unfold((log, stop), |(mut log, stop)| async move {
        let chunk = tokio::select! {
            () = stop.cancelled() => None,
            chunk = log.next() => chunk,
        };
        let chunk = match chunk? {
            Ok((_, bytes)) => Ok(Frame::<Bytes>::data(bytes)),
            Err(error) => Err(error.into()),
        };
        Some((chunk, (log, stop)))
    });
    let mut answer = Response::new(StreamBody::new(chunks).boxed_unsync());
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain"),
    );
    answer
}

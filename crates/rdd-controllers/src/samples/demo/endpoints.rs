//! What Demo answers beside the API: a text about the request, and a WebSocket.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use rdd_api::names::{self, group};
use rdd_manager::{Access, Body, Context, Endpoint};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::NAME;
use crate::containers::streams::socket::{Handshake, is_wanted};
use crate::world::World;

/// The largest message of a client, in bytes: it has nothing to say.
const MESSAGE_MAX: usize = 4096;

/// The endpoints.
pub(super) fn all(_context: &Context<World>) -> Vec<Arc<dyn Endpoint>> {
    vec![Arc::new(Hello), Arc::new(WebSocket)]
}

fn access(subresource: &'static str) -> Access {
    Access {
        verb: "get",
        group: group::APP,
        version: names::VERSION,
        resource: "demos",
        subresource,
        namespace: String::new(),
        name: NAME.to_owned(),
    }
}

struct Hello;

#[async_trait]
impl Endpoint for Hello {
    fn name(&self) -> &'static str {
        "hello"
    }

    fn access(&self, _rest: &str) -> Access {
        access("hello")
    }

    async fn serve(&self, rest: &str, request: Request<Body>) -> Response<Body> {
        text(StatusCode::OK, greeting(request.headers(), rest))
    }
}

struct WebSocket;

#[async_trait]
impl Endpoint for WebSocket {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn access(&self, _rest: &str) -> Access {
        access("websocket")
    }

    async fn serve(&self, _rest: &str, mut request: Request<Body>) -> Response<Body> {
        if !is_wanted(request.headers()) {
            return text(
                StatusCode::BAD_REQUEST,
                "this endpoint speaks WebSocket only\n".to_owned(),
            );
        }
        let handshake = match Handshake::of(&mut request) {
            Ok(handshake) => handshake,
            Err(refusal) => return refusal.into(),
        };
        let (answer, socket) = handshake.accept(None, MESSAGE_MAX);
        // Bounded by the pauses that the socket grants its peer.
        tokio::spawn(async move {
            if let Ok(mut socket) = socket.await
                && socket.say("hello from websocket").await.is_ok()
            {
                socket.close(CloseCode::Normal, "").await;
            }
        });
        answer
    }
}

/// What the request looked like. Credentials are no business of a reader over a shoulder.
fn greeting(headers: &HeaderMap, rest: &str) -> String {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let secret = [header::AUTHORIZATION, header::COOKIE].contains(name);
        let value = match value.to_str() {
            Ok(value) if !secret => value,
            _ => "…",
        };
        let values = lines.entry(canonical(name.as_str())).or_default();
        values.push(format!("{value:?}"));
    }
    let mut text = "Hello, world!\n".to_owned();
    for (name, values) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} = [{}]", values.join(" "));
    }
    let _ = writeln!(text, "Path = \"/{rest}\"");
    text
}

/// A header's name as it is usually written: `user-agent` is `User-Agent`.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_repeats_the_request_without_its_secrets() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::USER_AGENT, "curl"),
            (header::ACCEPT, "a"),
            (header::ACCEPT, "b"),
            (header::AUTHORIZATION, "Bearer secret"),
        ] {
            headers.append(name, header::HeaderValue::from_static(value));
        }
        assert_eq!(
            greeting(&headers, "a/b"),
            "Hello, world!\nAccept = [\"a\" \"b\"]\nAuthorization = [\"…\"]\nUser-Agent = [\"curl\"]\nPath = \"/a/b\"\n"
        );
    }
}

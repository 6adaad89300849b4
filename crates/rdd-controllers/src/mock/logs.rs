//! The log of a container that there is not.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use rdd_api::names::{self, group};
use rdd_manager::{Access, Body, Endpoint};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::NAMESPACE;
use super::data::Data;
use crate::containers::streams::socket::{Handshake, is_wanted};
use crate::containers::streams::{Refusal, refuse};

/// The largest message of a client, in bytes: it has nothing to say.
const MESSAGE_MAX: usize = 4096;

pub(super) struct Logs;

#[async_trait]
impl Endpoint for Logs {
    fn name(&self) -> &'static str {
        "logs"
    }

    fn access(&self, rest: &str) -> Access {
        Access {
            verb: "get",
            group: group::CONTAINERS,
            version: names::VERSION,
            resource: "containers",
            subresource: "log",
            namespace: NAMESPACE.to_owned(),
            name: id(rest).to_owned(),
        }
    }

    async fn serve(&self, rest: &str, request: Request<Body>) -> Response<Body> {
        answer(id(rest), request).unwrap_or_else(Into::into)
    }
}

fn id(rest: &str) -> &str {
    rest.split('/').next().unwrap_or_default()
}

fn answer(id: &str, mut request: Request<Body>) -> Result<Response<Body>, Refusal> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return refuse(StatusCode::BAD_REQUEST, "Invalid container ID");
    }
    let labels = match Data::bundled() {
        Ok(data) => data.labels(id),
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
    };
    let Some(labels) = labels else {
        return refuse(StatusCode::NOT_FOUND, "Container not found");
    };
    if !is_wanted(request.headers()) {
        return refuse(
            StatusCode::BAD_REQUEST,
            "this endpoint speaks WebSocket only",
        );
    }
    let mut lines = vec![format!("Logs for container {id}\n")];
    let of_labels = labels
        .into_iter()
        .map(|(key, value)| format!("Label: {key}\t{value}\n"));
    lines.extend(of_labels);
    let (answer, socket) = Handshake::of(&mut request)?.accept(None, MESSAGE_MAX);
    // Bounded by the pauses that the socket grants its peer.
    tokio::spawn(async move {
        let Ok(mut socket) = socket.await else { return };
        for line in lines {
            if socket.send(Bytes::from(line)).await.is_err() {
                return;
            }
        }
        socket.close(CloseCode::Normal, "").await;
    });
    Ok(answer)
}

//! What runs in a container, live: its log, and commands beside it.
//!
//! Endpoints of the engine controller: `/passthrough/engine/logs/<id>` and
//! `/passthrough/engine/exec/<id>`. Everything that can be refused is refused before the
//! connection is upgraded, with an exact status; afterwards a close code tells the end.

mod exec;
mod logs;
#[cfg(test)]
mod peers;
pub(crate) mod socket;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use kube::api::Api;
use rdd_api::names::{self, group};
use rdd_api::{Container, names::controller};
use rdd_engine as engine;
use rdd_manager::{Access, Body, Context, Endpoint};
use tokio_util::sync::CancellationToken;

use crate::world::{LiveEngine, World};

/// How long a peer may take for what is written to it.
const WRITE: Duration = Duration::from_secs(10);

/// How often a peer that says nothing is asked whether it is there.
const PING: Duration = Duration::from_secs(10);

/// How long a peer may say nothing at all.
const SILENCE: Duration = Duration::from_secs(60);

/// The endpoints of the engine controller.
pub(super) fn endpoints(context: &Context<World>) -> Vec<Arc<dyn Endpoint>> {
    debug_assert_eq!(context.name(), controller::ENGINE);
    let door = Door {
        client: context.client(),
        world: Arc::clone(context.world()),
        stop: context.stopping(),
    };
    vec![
        Arc::new(logs::Logs(door.clone())),
        Arc::new(exec::ExecEndpoint(door)),
    ]
}

/// What both endpoints need.
#[derive(Clone)]
struct Door {
    client: kube::Client,
    world: Arc<World>,
    stop: CancellationToken,
}

/// A refusal before the upgrade.
pub(crate) struct Refusal(StatusCode, String);

impl From<Refusal> for Response<Body> {
    fn from(Refusal(status, mut text): Refusal) -> Self {
        text.push('\n');
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
        let mut answer = Response::new(body.boxed_unsync());
        *answer.status_mut() = status;
        answer.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        answer
    }
}

pub(crate) fn refuse<T>(status: StatusCode, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, text.into()))
}

impl Door {
    fn live(&self) -> Option<Arc<LiveEngine>> {
        self.world.live.borrow().clone()
    }

    fn access(&self, verb: &'static str, subresource: &'static str, rest: &str) -> Access {
        let live = self.live();
        Access {
            verb,
            group: group::CONTAINERS,
            version: names::VERSION,
            resource: "containers",
            subresource,
            namespace: live.map_or_else(|| "default".to_owned(), |live| live.namespace.clone()),
            name: rest.split('/').next().unwrap_or_default().to_owned(),
        }
    }

    /// The container that a path names, after everything that can be wrong with it.
    async fn container(&self, rest: &str) -> Result<(Arc<LiveEngine>, engine::Container), Refusal> {
        let id = rest.split('/').next().unwrap_or_default();
        let is_id = !id.is_empty()
            && id.len() <= 64
            && id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_id {
            return refuse(StatusCode::BAD_REQUEST, "Invalid container ID");
        }
        let live = self.live();
        let namespace = live
            .as_ref()
            .map_or("default", |live| live.namespace.as_str());
        let mirrors: Api<Container> = Api::namespaced(self.client.clone(), namespace);
        let mirror = match mirrors.get_opt(id).await {
            Err(error) => {
                tracing::warn!(id, %error, "a container's mirror could not be read");
                return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Failed to get container");
            }
            Ok(None) => return refuse(StatusCode::NOT_FOUND, "Container not found"),
            Ok(Some(mirror)) => mirror,
        };
        let Some(live) = live else {
            return refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "Docker watcher not running",
            );
        };
        let labels = mirror.metadata.labels.unwrap_or_default();
        if labels.get(names::ENGINE_LABEL) != Some(&live.label) {
            // Made by hand, or left of another engine: what has this name there is none
            // of its business.
            return refuse(StatusCode::NOT_FOUND, "Container not found");
        }
        match live.engine.container(id).await {
            Ok(Some(container)) => Ok((live, container)),
            Ok(None) => refuse(StatusCode::NOT_FOUND, "Container not found"),
            Err(error) => {
                tracing::warn!(id, %error, "a container could not be inspected");
                refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Failed to inspect container",
                )
            }
        }
    }
}

/// The parameters of a query, decoded, in their order.
fn parameters(query: Option<&str>) -> Vec<(String, String)> {
    let parts = query.unwrap_or_default().split('&');
    parts
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// Percent and plus, as forms write them (WHATWG URL); what is no escape stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let escaped = || {
            let digits = std::str::from_utf8(others.get(..2)?).ok()?;
            u8::from_str_radix(digits, 16).ok()
        };
        match (first, (*first == b'%').then(escaped).flatten()) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            (b'+', None) => {
                bytes.push(b' ');
                rest = others;
            }
            (byte, None) => {
                bytes.push(*byte);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A truth value as Go reads it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let read = parameters(Some("command=sh&command=-c&command=a%20b+c%26%zz&x"));
        let values: Vec<&str> = read.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["sh", "-c", "a b c&%zz", ""]);
        assert!(parameters(None).is_empty());
        for odd in ["%", "%4", "%é", "%ff"] {
            decode(odd);
        }
    }
}

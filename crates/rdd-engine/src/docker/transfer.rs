//! Pulls and pushes: a request whose answer is a line for each step.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{Docker, escape, reference_path};
use crate::error::{Error, Result};
use crate::wish::{Credentials, Transfer, TransferStep, split_reference};

/// How long an engine may say nothing: the first word waits for the registry.
const SILENCE: Duration = Duration::from_secs(600);

/// Steps that wait for their reader; then the engine waits.
const STEPS: usize = 64;

/// The longest step.
const STEP_MAX: usize = 1024 * 1024;

pub(super) async fn pull(
    docker: &Docker,
    reference: &str,
    credentials: Option<&Credentials>,
) -> Result<Transfer> {
    let (repository, tag) = split_reference(reference);
    let path = format!(
        "/images/create?fromImage={}&tag={}",
        escape(repository),
        escape(tag)
    );
    begin(docker, path, credentials).await
}

pub(super) async fn push(
    docker: &Docker,
    reference: &str,
    credentials: Option<&Credentials>,
) -> Result<Transfer> {
    let (repository, tag) = split_reference(reference);
    let path = format!(
        "/images/{}/push?tag={}",
        reference_path(repository),
        escape(tag)
    );
    begin(docker, path, credentials).await
}

async fn begin(
    docker: &Docker,
    path: String,
    credentials: Option<&Credentials>,
) -> Result<Transfer> {
    // A push without any is refused, even where none are needed.
    let auth = credentials.map_or(json!({}), |credentials| {
        if credentials.identity_token.is_empty() {
            json!({
                "username": credentials.username,
                "password": credentials.password,
                "serveraddress": credentials.server,
            })
        } else {
            json!({"identitytoken": credentials.identity_token, "serveraddress": credentials.server})
        }
    });
    let header = ("X-Registry-Auth", URL_SAFE.encode(auth.to_string()));
    let opened = docker
        .transport
        .open(Method::POST, &path, &[header], SILENCE)
        .await?;
    let (response, connection) = opened;
    let endpoint = docker.transport.endpoint().to_string();
    let (queue, steps) = mpsc::channel(STEPS);
    let reader = tokio::spawn(async move {
        let _connection = connection;
        let mut body = response.into_body();
        let mut rest = BytesMut::new();
        loop {
            let chunk = match timeout(SILENCE, body.frame()).await {
                Err(_) => {
                    let _unheard = queue.send(Err(Error::Timeout { limit: SILENCE })).await;
                    return;
                }
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(Some(Err(source))) => {
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
                if !say(&queue, &line).await {
                    return;
                }
            }
            if rest.len() > STEP_MAX {
                let error = Error::Answer("a step of the transfer has no end".into());
                let _unheard = queue.send(Err(error)).await;
                return;
            }
        }
        say(&queue, &rest).await;
    });
    Ok(Transfer {
        steps,
        _reader: AbortOnDropHandle::new(reader),
    })
}

/// Passes a step on; whether another may follow.
async fn say(queue: &mpsc::Sender<Result<TransferStep>>, line: &[u8]) -> bool {
    if line.iter().all(u8::is_ascii_whitespace) {
        return true;
    }
    let step = serde_json::from_slice::<Value>(line)
        .map_err(|error| Error::Answer(error.into()))
        .and_then(|value| step(&value));
    let failed = step.is_err();
    queue.send(step).await.is_ok() && !failed
}

/// The status of the answer is sent before the work is done: a failure is a step.
fn step(value: &Value) -> Result<TransferStep> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(message) = text(&value["errorDetail"]["message"]).or_else(|| text(&value["error"]))
    {
        return Err(Error::Refused {
            status: 500,
            message,
        });
    }
    let status = text(&value["status"]).unwrap_or_default();
    let digest = text(&value["aux"]["Digest"])
        .or_else(|| Some(status.strip_prefix("Digest: ")?.trim().to_owned()));
    Ok(TransferStep {
        // Beside layers, `id` names the tag that is pulled: it has no progress.
        layer: text(&value["id"]).filter(|_| !status.starts_with("Pulling from")),
        done: value["progressDetail"]["current"].as_u64(),
        total: value["progressDetail"]["total"].as_u64(),
        status,
        digest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_as_docker_words_them() {
        let layer = step(&json!({"status": "Downloading", "id": "ab12",
            "progressDetail": {"current": 5, "total": 10}}))
        .expect("a step");
        assert_eq!(
            (layer.layer.as_deref(), layer.done, layer.total),
            (Some("ab12"), Some(5), Some(10))
        );
        let tag = step(&json!({"status": "Pulling from a/b", "id": "latest"})).expect("a step");
        assert_eq!(tag.layer, None);
        let digest = step(&json!({"status": "Digest: sha256:12"})).expect("a step");
        assert_eq!(digest.digest.as_deref(), Some("sha256:12"));
        let pushed = step(
            &json!({"progressDetail": {}, "aux": {"Tag": "1", "Digest": "sha256:34", "Size": 5}}),
        )
        .expect("a step");
        assert_eq!(pushed.digest.as_deref(), Some("sha256:34"));
        let failed = step(&json!({"errorDetail": {"message": "denied"}, "error": "denied"}));
        assert_eq!(failed.expect_err("it failed").to_string(), "denied");
        assert_eq!(step(&json!(null)).expect("a step"), TransferStep::default());
    }
}

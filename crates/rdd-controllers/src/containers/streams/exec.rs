//! Commands in a container, over the channels that Kubernetes uses for `pods/exec`: the
//! first byte of each message names the channel.
//!
//! ```text
//! 0 input · 1 output · 2 errors · 3 how it ended (a Status) · 4 {"Width":…,"Height":…}
//! 255 (v5 only) closes the channel that its second byte names
//! ```

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use rdd_engine::{self as engine, Engine, Exec, ExecOptions, Source};
use rdd_manager::{Access, Body, Endpoint};
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::socket::{Gone, Handshake, Socket, is_wanted, offered};
use super::{Door, Refusal, WRITE, boolean, parameters, refuse};

/// The channel protocols that are spoken, the best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// The largest message of a client, in bytes.
const MESSAGE_MAX: usize = 1024 * 1024;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

pub(super) struct ExecEndpoint(pub(super) Door);

#[async_trait]
impl Endpoint for ExecEndpoint {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn access(&self, rest: &str) -> Access {
        self.0.access("create", "exec", rest)
    }

    async fn serve(&self, rest: &str, request: Request<Body>) -> Response<Body> {
        self.answer(rest, request).await.unwrap_or_else(Into::into)
    }
}

impl ExecEndpoint {
    async fn answer(
        &self,
        rest: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let options = options(request.uri().query())?;
        let (live, container) = self.0.container(rest).await?;
        if container.state != "running" {
            let text = format!("Container is not running: it is {}", container.state);
            return refuse(StatusCode::CONFLICT, text);
        }
        if !is_wanted(request.headers()) {
            return refuse(StatusCode::BAD_REQUEST, "Upgrade request required");
        }
        let offered = offered(request.headers());
        let mut spoken = PROTOCOLS.into_iter();
        let Some(protocol) = spoken.find(|known| offered.iter().any(|one| one == known)) else {
            let text = format!("the client must speak one of {}", PROTOCOLS.join(", "));
            return refuse(StatusCode::BAD_REQUEST, text);
        };
        let handshake = Handshake::of(&mut request)?;
        let exec = match live.engine.exec(&container.id, &options).await {
            Ok(exec) => exec,
            Err(engine::Error::Refused { status, message }) if status < 500 => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
                return refuse(status, message);
            }
            Err(error) => {
                tracing::warn!(id = container.id, %error, "a command could not be run");
                return refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Failed to run the command",
                );
            }
        };
        let (answer, socket) = handshake.accept(Some(protocol), MESSAGE_MAX);
        let stop = self.0.stop.clone();
        // Ends with its peer, with the command, or with the controller.
        tokio::spawn(async move {
            if let Ok(socket) = socket.await {
                pump(&*live.engine, exec, socket, stop).await;
            }
        });
        Ok(answer)
    }
}

fn options(query: Option<&str>) -> Result<ExecOptions, Refusal> {
    let mut options = ExecOptions::default();
    for (name, value) in parameters(query) {
        let flag = || match boolean(&value) {
            Some(flag) => Ok(flag),
            None => refuse(StatusCode::BAD_REQUEST, format!("Invalid {name} parameter")),
        };
        match name.as_str() {
            "command" | "cmd" => options.command.push(value),
            "tty" => options.tty = flag()?,
            "stdin" => options.stdin = flag()?,
            "user" => options.user = Some(value),
            "workdir" => options.folder = Some(value),
            "env" => options.env.push(value),
            _ => {}
        }
    }
    if options.command.is_empty() {
        return refuse(
            StatusCode::BAD_REQUEST,
            "you must specify at least one command",
        );
    }
    Ok(options)
}

type Input = Option<Box<dyn AsyncWrite + Send + Unpin>>;

async fn pump(engine: &dyn Engine, exec: Exec, mut socket: Socket, stop: CancellationToken) {
    let Exec {
        id,
        mut output,
        input,
    } = exec;
    let mut input = Some(input);
    let failure = loop {
        tokio::select! {
            () = stop.cancelled() => {
                socket.close(CloseCode::Away, "the service stops").await;
                return;
            }
            said = socket.next() => {
                let heard = match said {
                    Ok(message) => hear(engine, &id, &mut input, &message).await,
                    Err(gone) => Err(gone),
                };
                if heard.is_err() {
                    return;
                }
            }
            chunk = output.next() => match chunk {
                Some(Ok((source, bytes))) => {
                    let channel = match source {
                        Source::Stdout => STDOUT,
                        Source::Stderr => STDERR,
                    };
                    if socket.send(on(channel, &bytes)).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => break Some(error),
                None => break None,
            },
        }
    };
    let ended = match failure {
        Some(error) => Err(error),
        None => engine.exit_code(&id).await,
    };
    let status = status(ended);
    if socket
        .send(on(STATUS, status.to_string().as_bytes()))
        .await
        .is_ok()
    {
        socket.close(CloseCode::Normal, "").await;
    }
}

/// Does what a message of the client says.
async fn hear(
    engine: &dyn Engine,
    id: &str,
    input: &mut Input,
    message: &Bytes,
) -> Result<(), Gone> {
    let Some((channel, bytes)) = message.split_first() else {
        return Ok(());
    };
    match *channel {
        STDIN => {
            if let Some(open) = input
                && !matches!(timeout(WRITE, open.write_all(bytes)).await, Ok(Ok(())))
            {
                // The command does not read any more; what it still says is read.
                *input = None;
            }
        }
        CLOSE if bytes == [STDIN] => {
            if let Some(mut open) = input.take() {
                // A command that is gone needs no end of its input.
                let _ended = timeout(WRITE, open.shutdown()).await;
            }
        }
        RESIZE => {
            let size: Value = serde_json::from_slice(bytes).unwrap_or_default();
            let side = |name: &str| {
                size[name]
                    .as_u64()
                    .and_then(|side| u16::try_from(side).ok())
            };
            if let (Some(columns), Some(rows)) = (side("Width"), side("Height"))
                && let Err(error) = engine.resize(id, columns, rows).await
            {
                tracing::debug!(%error, "a terminal keeps its size");
            }
        }
        _ => {}
    }
    Ok(())
}

fn on(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.extend_from_slice(bytes);
    message.freeze()
}

/// How a command ended, as `pods/exec` words it.
fn status(ended: engine::Result<Option<i64>>) -> Value {
    match ended {
        Ok(Some(0)) => json!({"metadata": {}, "status": "Success"}),
        Ok(Some(code)) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit code {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Ok(None) => failed("the command is still running, and its output has ended"),
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500})
}

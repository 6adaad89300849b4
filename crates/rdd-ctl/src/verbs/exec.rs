//! `exec`: a command in a container, with its input, output, terminal and exit code.

use std::io::{IsTerminal as _, Read as _, Write as _, stderr, stdin, stdout};

use anyhow::Context as _;
use futures::{SinkExt as _, StreamExt as _};
use http::Request;
use rustix::termios::{self, OptionalActions, Termios};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::container::identifier;
use crate::args::Exec;
use crate::connection::{Connection, escape};
use crate::error::{Error, Result};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// How much input is sent at once, in bytes.
const CHUNK: usize = 8 * 1024;

/// Runs it and returns its exit code.
pub(crate) async fn run(connection: &Connection, exec: &Exec) -> Result<u8> {
    if exec.command.is_empty() {
        return Err(Error::new(
            "you must specify at least one command for the container",
        ));
    }
    let tty = exec.tty && stdin().is_terminal();
    if exec.tty && !tty {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let id = identifier(connection, &exec.container).await?;
    let mut path = format!(
        "/passthrough/engine/exec/{id}?stdin={}&tty={tty}",
        exec.stdin
    );
    for (name, values) in [("command", &exec.command), ("env", &exec.env)] {
        for value in values {
            path.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    for (name, value) in [("user", &exec.exec_user), ("workdir", &exec.workdir)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    let request = Request::get(path)
        .body(Vec::new())
        .context("failed to make the request")?;
    let socket = connection.socket(request).await?;
    let _raw = tty.then(Raw::enter).transpose()?;
    let (mut sink, mut messages) = socket.split();
    let mut input = exec.stdin.then(input);
    let mut resized =
        signal(SignalKind::window_change()).context("failed to listen for signals")?;
    if tty && let Some(size) = size() {
        sink.send(size).await.context("the connection broke")?;
    }
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if let Some(code) = hear(&bytes)? {
                        return Ok(code);
                    }
                }
                Some(Ok(Message::Close(_))) | None => {
                    return Err(Error::new("the connection ended before the command did"));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    return Err(anyhow::Error::new(error).context("the connection broke").into());
                }
            },
            Some(chunk) = next(&mut input) => {
                let message = match chunk {
                    Some(bytes) => on(STDIN, &bytes),
                    None => {
                        input = None;
                        on(CLOSE, &[STDIN])
                    }
                };
                sink.send(message).await.context("the connection broke")?;
            }
            Some(()) = resized.recv(), if tty => {
                if let Some(size) = size() {
                    sink.send(size).await.context("the connection broke")?;
                }
            }
            _ = tokio::signal::ctrl_c(), if !tty => return Ok(130),
        }
    }
}

/// Prints what came, or tells how the command ended.
fn hear(message: &[u8]) -> Result<Option<u8>> {
    let Some((channel, bytes)) = message.split_first() else {
        return Ok(None);
    };
    let printed = match *channel {
        STDOUT => stdout().write_all(bytes).and_then(|()| stdout().flush()),
        STDERR => stderr().write_all(bytes),
        STATUS => return ended(bytes).map(Some),
        _ => Ok(()),
    };
    printed.context("failed to print")?;
    Ok(None)
}

fn ended(bytes: &[u8]) -> Result<u8> {
    let status: Value =
        serde_json::from_slice(bytes).context("the command's end cannot be read")?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let mut codes = causes.filter(|cause| cause["reason"] == "ExitCode");
    let code = codes.next().and_then(|cause| cause["message"].as_str());
    match code.and_then(|code| code.parse::<i64>().ok()) {
        Some(code) => {
            eprintln!("command terminated with exit code {code}");
            Ok(u8::try_from(code).unwrap_or(1))
        }
        None => Err(Error::Server(status)),
    }
}

fn on(channel: u8, bytes: &[u8]) -> Message {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

/// The size of the terminal, as the server wants to hear it.
fn size() -> Option<Message> {
    let size = termios::tcgetwinsize(stdout()).ok()?;
    let text = json!({"Width": size.ws_col, "Height": size.ws_row}).to_string();
    Some(on(RESIZE, text.as_bytes()))
}

/// The input as it comes; `None` in the queue is its end. It is read by a thread of its
/// own, which nobody waits for: a read of a terminal cannot be cancelled.
fn input() -> mpsc::Receiver<Option<Vec<u8>>> {
    let (queue, chunks) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = [0; CHUNK];
        loop {
            let chunk = match stdin().read(&mut buffer) {
                Ok(0) | Err(_) => None,
                Ok(length) => Some(buffer[..length].to_vec()),
            };
            let is_end = chunk.is_none();
            if queue.blocking_send(chunk).is_err() || is_end {
                return;
            }
        }
    });
    chunks
}

async fn next(input: &mut Option<mpsc::Receiver<Option<Vec<u8>>>>) -> Option<Option<Vec<u8>>> {
    match input {
        Some(chunks) => chunks.recv().await,
        None => std::future::pending().await,
    }
}

/// The terminal passes every key on; as it was before when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Self> {
        let before = termios::tcgetattr(stdin()).context("the terminal cannot be read")?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin(), OptionalActions::Now, &raw)
            .context("the terminal cannot be set")?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _gone = termios::tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

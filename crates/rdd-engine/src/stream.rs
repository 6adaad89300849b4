//! What runs in a container, as it speaks: its log, and commands beside it.

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::error::Result;

/// Which part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is said from now on.
    pub follow: bool,
    /// So many last lines; `None` is all of them.
    pub tail: Option<u64>,
    /// Only what was said since then, in seconds since 1970.
    pub since: Option<i64>,
    /// With a time before each line.
    pub timestamps: bool,
    /// Whether the container has a terminal: then nothing tells its streams apart.
    pub tty: bool,
}

/// Where something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Bytes as they come. A reader that is slow slows the engine down; dropping it ends
/// the stream in the engine.
#[derive(Debug)]
pub struct Output {
    pub(crate) chunks: mpsc::Receiver<Result<(Source, Bytes)>>,
    pub(crate) _reader: AbortOnDropHandle<()>,
}

impl Output {
    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<(Source, Bytes)>> {
        self.chunks.recv().await
    }
}

/// A command to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// Program and arguments.
    pub command: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// Whether its input is given.
    pub stdin: bool,
    /// As this user.
    pub user: Option<String>,
    /// In this folder.
    pub folder: Option<String>,
    /// With these variables, `NAME=value`.
    pub env: Vec<String>,
}

/// A command that runs in a container.
pub struct Exec {
    /// By which its terminal is resized and its end is asked for.
    pub id: String,
    /// What it says.
    pub output: Output,
    /// Where its input goes; closing it is the end of the input.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Exec")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

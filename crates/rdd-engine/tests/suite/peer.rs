//! A peer that speaks just enough of Docker's API to misbehave at one point of it.

use std::future::Future;
use std::path::PathBuf;

use rdd_engine::Endpoint;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

/// A socket behind which somebody answers; dropping it ends that.
pub(crate) struct Peer {
    folder: TempDir,
    _answering: AbortOnDropHandle<()>,
}

impl Peer {
    /// Calls `answer` with the path of every request, one connection each.
    pub(crate) fn new<F>(answer: impl Fn(String, UnixStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("docker.sock")).expect("a socket");
        let answering = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or_default();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                open.spawn(answer(path, stream));
            }
        });
        Self {
            folder,
            _answering: AbortOnDropHandle::new(answering),
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let socket: PathBuf = self.folder.path().join("docker.sock");
        Endpoint::parse(&format!("unix://{}", socket.display())).expect("an endpoint")
    }
}

/// Answers with a document.
pub(crate) async fn say(mut stream: UnixStream, body: &str) {
    let text = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // Whoever does not listen any more misses nothing.
    let _unheard = stream.write_all(text.as_bytes()).await;
}

/// What every client asks first.
pub(crate) async fn introduce(path: &str, stream: UnixStream) -> Option<UnixStream> {
    if path == "/version" {
        say(stream, r#"{"ApiVersion": "1.48", "MinAPIVersion": "1.24"}"#).await;
        None
    } else if path.ends_with("/info") {
        say(
            stream,
            r#"{"ID": "peer", "DockerRootDir": "/x", "SystemTime": "2026-01-01T00:00:00Z"}"#,
        )
        .await;
        None
    } else {
        Some(stream)
    }
}

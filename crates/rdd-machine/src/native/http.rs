//! Questions to an engine or to rootlesskit, each on a connection of its own.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// One request, the whole answer as text.
pub(super) async fn http(socket: &Path, method: &str, path: &str) -> Option<String> {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await.ok()?;
        let request = format!("{method} {path} HTTP/1.0\r\nHost: docker\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(ANSWER, ask).await.ok().flatten()
}

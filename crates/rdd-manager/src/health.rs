//! The manager's own health and figures over plain HTTP on loopback.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::diagnostics::Diagnostics;

/// The header in which a manager says who it is.
pub(crate) const IDENTITY: &str = "Rdd-Manager";

/// The longest request head that is read, in bytes.
const HEAD_MAX: u64 = 8192;

/// How long one caller may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many are answered at a time.
const CALLERS: usize = 64;

/// Pause after a connection that could not be accepted, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// On which loopback ports a manager answers; 0 is any free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// For `/healthz` and `/readyz`.
    pub health: u16,
    /// For `/metrics`. Where none is asked for, the one of health serves both.
    pub metrics: u16,
    /// For rules that are listed as webhooks.
    pub webhooks: u16,
    /// For endpoints.
    pub endpoints: u16,
}

/// Listens on this port of loopback, or on any when somebody else has it.
pub(crate) async fn bind(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(("127.0.0.1", port)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let taken = listener.local_addr()?.port();
            tracing::debug!(
                wanted = port,
                port = taken,
                "the port is in use; another one was taken"
            );
            Ok(listener)
        }
        bound => bound,
    }
}

/// Answers callers side by side, up to [`CALLERS`]; more wait in the kernel's queue.
pub(crate) struct Health {
    listener: TcpListener,
    answers: Arc<Answers>,
}

/// What there is to say.
struct Answers {
    diagnostics: Diagnostics,
    identity: String,
}

impl Health {
    /// Listens on this port, or on any when somebody else has it.
    pub(crate) async fn bind(
        port: u16,
        diagnostics: Diagnostics,
        identity: &str,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: bind(port).await?,
            answers: Arc::new(Answers {
                diagnostics,
                identity: identity.to_owned(),
            }),
        })
    }

    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Answers until told to stop.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        let mut callers = JoinSet::new();
        let mut is_refusing = false;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept(), if callers.len() < CALLERS => accepted,
                Some(_) = callers.join_next(), if !callers.is_empty() => continue,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    is_refusing = false;
                    let answers = Arc::clone(&self.answers);
                    callers.spawn(async move {
                        // A caller that goes away or dawdles is nobody's problem but its own.
                        let _outcome = timeout(PATIENCE, answers.answer(stream)).await;
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_refusing, true) {
                        tracing::warn!(%error, "a connection could not be accepted; the next ones may not be, either");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Answers {
    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut line = String::new();
        let mut reader = BufReader::new((&mut stream).take(HEAD_MAX));
        reader.read_line(&mut line).await?;
        // The rest of the head is read too: closing over unread bytes would reset the answer.
        let mut rest = String::new();
        while reader.read_line(&mut rest).await? > 2 {
            rest.clear();
        }
        let path = line
            .strip_prefix("GET ")
            .and_then(|rest| rest.split([' ', '?']).next());
        let (status, body) = match path {
            Some("/healthz" | "/readyz") => ("200 OK", "ok".to_owned()),
            Some("/metrics") => ("200 OK", self.diagnostics.to_prometheus()),
            _ => ("404 Not Found", "not found\n".to_owned()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\n{IDENTITY}: {}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.identity,
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(port: u16, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("it listens");
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it answers");
        text
    }

    #[tokio::test]
    async fn health_and_figures_are_served_and_nothing_else() {
        let diagnostics = Diagnostics::default();
        diagnostics.record("app", "test", Ok(()));
        let health = Health::bind(0, diagnostics, "app/1").await.expect("a port");
        let port = health.port().expect("bound");
        let stop = CancellationToken::new();
        let served = tokio::spawn(health.serve(stop.clone()));
        let text = get(port, "/healthz").await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("\r\nRdd-Manager: app/1\r\n"));
        assert!(get(port, "/").await.starts_with("HTTP/1.1 404"));
        let text = get(port, "/metrics").await;
        assert!(
            text.contains("rdd_controller_reconciles_total{controller=\"app\"} 1"),
            "{text}"
        );
        stop.cancel();
        served.await.expect("it ends");
    }

    #[tokio::test]
    async fn callers_that_say_nothing_keep_nobody_waiting() {
        let health = Health::bind(0, Diagnostics::default(), "app/1")
            .await
            .expect("a port");
        let port = health.port().expect("bound");
        let stop = CancellationToken::new();
        let served = tokio::spawn(health.serve(stop.clone()));
        let mut silent = Vec::new();
        for _ in 0..30 {
            silent.push(TcpStream::connect(("127.0.0.1", port)).await.expect("open"));
        }
        let begin = std::time::Instant::now();
        assert!(get(port, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(
            begin.elapsed() < PATIENCE * 15,
            "one after the other: {:?}",
            begin.elapsed()
        );
        stop.cancel();
        served.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_replaced() {
        let taken = bind(0).await.expect("a port");
        let wanted = taken.local_addr().expect("bound").port();
        let other = bind(wanted).await.expect("another port");
        assert_ne!(other.local_addr().expect("bound").port(), wanted);
        drop((taken, other));
        let again = bind(wanted).await.expect("it is free now");
        assert_eq!(again.local_addr().expect("bound").port(), wanted);
    }
}

//! Who runs a controller now: what discovery lists, and whether it is true.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::discovery::{Discovery, Entry};
use crate::error::Result;
use crate::health::IDENTITY;

/// How long a manager may take to say that it lives.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 4096;

impl Entry {
    /// Whether the very manager that wrote the entry answers, and not merely something
    /// that has its port.
    pub async fn is_alive(&self) -> bool {
        let asked = timeout(PATIENCE, self.ask()).await;
        matches!(asked, Ok(Ok(answer)) if self.is_own(&answer))
    }

    async fn ask(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health_port)).await?;
        let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        String::from_utf8(answer).map_err(io::Error::other)
    }

    fn is_own(&self, answer: &str) -> bool {
        let (head, _) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
        let mut lines = head.lines();
        let ok = lines
            .next()
            .is_some_and(|line| line.starts_with("HTTP/1.1 200"));
        let identity = lines
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case(IDENTITY))
            .map(|(_, value)| value);
        ok && !self.identity.is_empty() && identity == Some(self.identity.as_str())
    }
}

/// What is known about who runs what.
#[derive(Clone, Debug)]
pub enum Running {
    /// No manager has registered yet.
    Unknown,
    /// Controllers, each with the manager that runs it.
    Known(BTreeMap<String, Entry>),
}

impl Discovery {
    /// The controllers that managers run which are alive.
    ///
    /// # Errors
    /// When the ConfigMap cannot be read, or says what cannot be understood.
    pub async fn running(&self) -> Result<Running> {
        let Some(entries) = self.entries().await?.filter(|all| !all.is_empty()) else {
            return Ok(Running::Unknown);
        };
        let alive = entries
            .into_values()
            .map(|entry| async move { entry.is_alive().await.then_some(entry) });
        let mut running = BTreeMap::new();
        for entry in join_all(alive).await.into_iter().flatten() {
            for controller in entry.enabled_controllers.iter().flatten() {
                running.insert(controller.clone(), entry.clone());
            }
        }
        Ok(Running::Known(running))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_port_is_not_yet_the_manager() {
        let mut entry = Entry::new("app/1", 1, 1, Vec::new());
        let answer = |code: &str, identity: &str| {
            format!("HTTP/1.1 {code}\r\nRdd-Manager: {identity}\r\nA: b\r\n\r\nok")
        };
        assert!(entry.is_own(&answer("200 OK", "app/1")));
        assert!(!entry.is_own(&answer("200 OK", "app/2")));
        assert!(!entry.is_own(&answer("503 Service Unavailable", "app/1")));
        assert!(!entry.is_own("HTTP/1.1 200 OK\r\n\r\nRdd-Manager: app/1"));
        assert!(!entry.is_own(""));
        entry.identity = String::new();
        assert!(
            !entry.is_own(&answer("200 OK", "")),
            "an old entry proves nothing"
        );
    }
}

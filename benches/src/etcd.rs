//! etcd on the same disk, as a floor: what a durable write costs where most API servers
//! keep their objects.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;

use crate::load::{self, Outcome};
use crate::wire::Server;

/// No etcd takes longer to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// An etcd of one member; stopped when dropped.
pub(crate) struct Etcd {
    process: Child,
    server: Server,
    _folder: tempfile::TempDir,
}

impl Etcd {
    /// Starts one, or tells that none is installed.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let folder = tempfile::tempdir_in("/tmp").context("failed to make a folder")?;
        let address = free_address()?;
        let peer = free_address()?;
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .arg(format!("--listen-client-urls=http://{address}"))
            .arg(format!("--advertise-client-urls=http://{address}"))
            .arg(format!("--listen-peer-urls=http://{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
            .arg(format!("--initial-cluster=default=http://{peer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match process {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            started => started.context("failed to start etcd")?,
        };
        let etcd = Self {
            process,
            server: Server::plain(address),
            _folder: folder,
        };
        let begin = Instant::now();
        while etcd.put("ready", 1).await.is_err() {
            ensure!(begin.elapsed() < PATIENCE, "etcd does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Some(etcd))
    }

    async fn put(&self, key: &str, size: usize) -> Result<()> {
        let body = put(key, size);
        let mut connection = self.server.connect().await?;
        connection
            .call("POST", "/v3/kv/put", "application/json", body.as_bytes())
            .await
            .map(drop)
    }

    /// Puts of 1.3 KB from `clients` clients, through its HTTP gateway.
    pub(crate) async fn puts(&self, clients: usize) -> Result<Outcome> {
        load::run(
            clients,
            async |worker| Ok((self.server.connect().await?, worker)),
            |(connection, worker), round| {
                let body = put(&format!("bench-{worker}-{round}"), 1300);
                Box::pin(async move {
                    connection
                        .call("POST", "/v3/kv/put", "application/json", body.as_bytes())
                        .await
                        .map(drop)
                })
            },
        )
        .await
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn put(key: &str, size: usize) -> String {
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    serde_json::json!({"key": encode(key.as_bytes()), "value": encode(&vec![b'x'; size])})
        .to_string()
}

fn free_address() -> Result<SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .context("no port is free")
}

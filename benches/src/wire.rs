//! A client that costs next to nothing, so that a figure shows the server.
//!
//! HTTP/1.1 over one kept connection: a request is written as it is, an answer is read
//! to its end and only counted; a watch hands out its lines.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What a connection runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where a server listens and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    /// A header line with the credentials; empty without any.
    credentials: Arc<str>,
}

impl Server {
    /// The server of a kubeconfig in JSON, with the credentials of its first user.
    pub(crate) fn of(kubeconfig: &Value) -> Result<Self> {
        let text = |pointer: &str| {
            kubeconfig
                .pointer(pointer)
                .and_then(Value::as_str)
                .with_context(|| format!("the kubeconfig has no {pointer}"))
        };
        let url = text("/clusters/0/cluster/server")?;
        let address = url
            .strip_prefix("https://")
            .and_then(|rest| rest.trim_end_matches('/').parse().ok())
            .with_context(|| format!("{url} is no HTTPS address"))?;
        let pem = base64::engine::general_purpose::STANDARD
            .decode(text("/clusters/0/cluster/certificate-authority-data")?)
            .context("the authority is not base64")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.context("the authority is no PEM")?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            address,
            tls: Some(Arc::new(tls)),
            credentials: Arc::from(format!(
                "Authorization: Bearer {}\r\n",
                text("/users/0/user/token")?
            )),
        })
    }

    /// A server without TLS and credentials.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            credentials: Arc::from(""),
        }
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("failed to reach {}", self.address))?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::from(self.address.ip());
                let connector = TlsConnector::from(Arc::clone(tls));
                let stream = connector.connect(name, stream).await;
                Box::new(stream.context("the TLS handshake failed")?)
            }
        };
        Ok(Connection {
            stream: BufReader::with_capacity(64 << 10, stream),
            credentials: Arc::clone(&self.credentials),
        })
    }
}

/// One request at a time.
pub(crate) struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    credentials: Arc<str>,
}

/// How a body ends.
#[derive(Clone, Copy)]
enum Framing {
    Length(u64),
    Chunks,
}

impl Connection {
    /// Sends a request and reads its whole answer; fails unless it says success.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<u64> {
        self.send(method, path, kind, body).await?;
        let (status, framing) = self.head().await?;
        let mut answer = Vec::new();
        let keep = (status >= 300).then_some(&mut answer);
        let size = self.body(framing, keep).await?;
        ensure!(
            status < 300,
            "{method} {path} was answered with {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(size)
    }

    /// Begins a watch; its events are read with [`Connection::event`].
    pub(crate) async fn watch(&mut self, path: &str) -> Result<()> {
        self.send("GET", path, "", b"").await?;
        let (status, framing) = self.head().await?;
        ensure!(status == 200, "the watch was answered with {status}");
        ensure!(
            matches!(framing, Framing::Chunks),
            "the watch is no stream of chunks"
        );
        Ok(())
    }

    /// The next event. A chunk holds whole events, at least one.
    pub(crate) async fn event(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let size = self.chunk_size().await?;
        ensure!(size > 0, "the watch ended");
        out.resize(usize::try_from(size)?, 0);
        self.stream.read_exact(out).await?;
        self.line().await?;
        Ok(())
    }

    async fn send(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<()> {
        let mut request = Vec::with_capacity(256 + body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{}Accept: application/json\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.credentials,
            body.len()
        );
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(body);
        self.stream
            .write_all(&request)
            .await
            .context("failed to send")?;
        self.stream.flush().await.context("failed to send")
    }

    async fn head(&mut self) -> Result<(u16, Framing)> {
        let first = self.line().await?;
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("{first:?} is no status line"))?;
        let mut framing = Framing::Length(0);
        loop {
            let line = self.line().await?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok((status, framing));
            }
            if let Some(length) = line.strip_prefix("content-length:") {
                framing = Framing::Length(length.trim().parse()?);
            } else if line.starts_with("transfer-encoding:") && line.contains("chunked") {
                framing = Framing::Chunks;
            }
        }
    }

    async fn body(&mut self, framing: Framing, mut keep: Option<&mut Vec<u8>>) -> Result<u64> {
        match framing {
            Framing::Length(length) => {
                self.skip(length, keep).await?;
                Ok(length)
            }
            Framing::Chunks => {
                let mut whole = 0;
                loop {
                    let size = self.chunk_size().await?;
                    self.skip(size, keep.as_deref_mut()).await?;
                    self.line().await?;
                    if size == 0 {
                        return Ok(whole);
                    }
                    whole += size;
                }
            }
        }
    }

    async fn skip(&mut self, mut length: u64, mut keep: Option<&mut Vec<u8>>) -> Result<()> {
        while length > 0 {
            let buffer = self.stream.fill_buf().await?;
            if buffer.is_empty() {
                bail!("the answer is cut short");
            }
            let taken = usize::try_from(length)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            if let Some(keep) = keep.as_deref_mut() {
                keep.extend_from_slice(&buffer[..taken]);
            }
            self.stream.consume(taken);
            length -= taken as u64;
        }
        Ok(())
    }

    async fn chunk_size(&mut self) -> Result<u64> {
        let line = self.line().await?;
        u64::from_str_radix(line.trim(), 16).with_context(|| format!("{line:?} is no chunk size"))
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).await?;
        ensure!(read > 0, "the server closed the connection");
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

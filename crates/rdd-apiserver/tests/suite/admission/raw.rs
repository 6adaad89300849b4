//! Servers that break the rules below HTTP: what is behind the port of a webhook, by the byte.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::bed;

/// What a server does with a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// Takes the connection and says nothing, not even that it speaks TLS.
    Mute,
    /// Speaks HTTP where TLS is spoken.
    Plain,
    /// Headers come a byte at a time and never end.
    SlowHeaders,
    /// The body comes a byte at a time.
    SlowBody,
    /// A body without an end, as fast as it goes.
    EndlessBody,
    /// Headers without an end, as fast as it goes.
    EndlessHeaders,
    /// The connection is reset in the middle of the body.
    Reset,
    /// It is closed in the middle of the body.
    Short,
    /// It is closed once the question was read.
    Gone,
    /// Something that is no HTTP.
    Noise,
}

/// A server with a habit.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    pub(crate) bundle: String,
    task: JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Raw {
    pub(crate) async fn start(habit: Habit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (bundle, configuration) = bed::identity(bed::Shown::Signed);
        let acceptor = TlsAcceptor::from(Arc::new(configuration));
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tasks.spawn(serve(habit, socket, acceptor));
            }
        });
        Self {
            address,
            bundle: bed::encoded(&bundle),
            task,
        }
    }
}

async fn serve(habit: Habit, mut socket: TcpStream, acceptor: TlsAcceptor) {
    match habit {
        Habit::Mute => std::future::pending().await,
        Habit::Plain => {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let _ = socket.shutdown().await;
        }
        _ => {
            if let Ok(stream) = acceptor.accept(socket).await {
                // What is cut off, by either side, ends with an error.
                let _ = answer(habit, stream).await;
            }
        }
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

async fn answer(habit: Habit, mut stream: TlsStream<TcpStream>) -> std::io::Result<()> {
    let mut question = vec![0; 1 << 16];
    let _ = stream.read(&mut question).await?;
    match habit {
        Habit::Mute | Habit::Plain | Habit::Gone => {}
        Habit::Noise => stream.write_all(b"\x00\x01\x02 nonsense\r\n\r\n").await?,
        Habit::SlowHeaders => {
            stream.write_all(OK).await?;
            drip(&mut stream, b"x-slow: a\r\n").await?;
        }
        Habit::SlowBody => {
            stream.write_all(OK).await?;
            stream.write_all(b"content-length: 100000\r\n\r\n").await?;
            drip(&mut stream, b" ").await?;
        }
        Habit::EndlessBody => {
            stream.write_all(OK).await?;
            stream
                .write_all(b"transfer-encoding: chunked\r\n\r\n")
                .await?;
            let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x1_0000], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        Habit::EndlessHeaders => {
            stream.write_all(OK).await?;
            loop {
                stream.write_all(b"x-more: and more and more\r\n").await?;
            }
        }
        Habit::Reset | Habit::Short => {
            stream.write_all(OK).await?;
            stream.write_all(b"content-length: 100\r\n\r\n{").await?;
            stream.flush().await?;
            if matches!(habit, Habit::Reset) {
                stream.get_ref().0.set_zero_linger()?;
            }
        }
    }
    Ok(())
}

/// Writes a byte at a time until nobody reads any more.
async fn drip(stream: &mut TlsStream<TcpStream>, text: &[u8]) -> std::io::Result<()> {
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    loop {
        for byte in text {
            beat.tick().await;
            stream.write_all(&[*byte]).await?;
            stream.flush().await?;
        }
    }
}

/// A port behind which connections are not even taken: those before fill the queue.
pub(crate) struct Blackhole {
    pub(crate) address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Blackhole {
    pub(crate) async fn start() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .expect("a port");
        let listener = socket.listen(1).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut waiting = Vec::new();
        // The queue is full when a connection is not made at once any more.
        while let Ok(Ok(one)) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            waiting.push(one);
            assert!(waiting.len() < 100, "the queue has no end");
        }
        Self {
            address,
            _listener: listener,
            _waiting: waiting,
        }
    }
}

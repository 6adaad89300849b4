//! Bodies that nobody reads, over real connections.

use std::time::Duration;

use rdd_apiserver::http::serve::{Security, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::bed::{ALICE, Server};
use crate::lab::DEADLINE;

/// One answer whose length is told.
async fn answer(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = async {
        let length = loop {
            let head = String::from_utf8_lossy(&text).into_owned();
            if let Some((head, _)) = head.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let length = line.to_ascii_lowercase();
                    length.strip_prefix("content-length: ")?.parse().ok()
                });
                break head.len() + 4 + length.unwrap_or(0_usize);
            }
            text.push(socket.read_u8().await.expect("the connection lasts"));
        };
        while text.len() < length {
            text.push(socket.read_u8().await.expect("the connection lasts"));
        }
    };
    let read = tokio::time::timeout(DEADLINE, read).await;
    read.expect("an answer in time");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_refused_request_may_finish_its_body_and_the_connection_goes_on() {
    let server = Server::start().await;
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let drain = Duration::from_secs(1);
    let router = server.router.clone();
    let serving = tokio::spawn(serve(socket, router, Security::Plain, stop.clone(), drain));

    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let piece = vec![b' '; 1_000_000];
    for path in [
        "/api/v1/namespaces/default/secrets",
        "/apis/none.example.com/v1/things",
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            3 * piece.len()
        );
        let sent = async {
            socket.write_all(head.as_bytes()).await?;
            for _ in 0..3 {
                socket.write_all(&piece).await?;
            }
            socket.flush().await
        };
        sent.await.expect("the server reads on");
        let answer = answer(&mut socket).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
    }
    drop(socket);
    stop.cancel();
    serving.await.expect("it ends");
}

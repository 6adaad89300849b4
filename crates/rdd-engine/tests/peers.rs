//! What a client promises when its peer does not keep to anything.

#[path = "suite/peer.rs"]
mod peer;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdd_engine::{Docker, Engine as _, Error, EventStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use peer::{Peer, introduce, say};

/// The limit of anything here; far above every limit of the client that is waited for.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_left_in_time() {
    let peer = Peer::new(|_, stream| async move {
        let _open = stream;
        pending::<()>().await;
    });
    let begin = Instant::now();
    let refused = timeout(LIMIT, Docker::connect(&peer.endpoint())).await;
    let refused = refused
        .expect("it has a limit")
        .expect_err("nobody answers");
    assert!(matches!(refused, Error::Timeout { .. }), "{refused:?}");
    assert!(refused.is_connection());
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_peer_that_falls_silent_gives_no_sign_of_life() {
    let peer = Peer::new(|path, stream| async move {
        if let Some(stream) = introduce(&path, stream).await {
            let _open = stream;
            pending::<()>().await;
        }
    });
    let engine = Docker::connect(&peer.endpoint())
        .await
        .expect("it speaks at first");
    let silent = timeout(LIMIT, engine.ping()).await.expect("it has a limit");
    assert!(matches!(silent, Err(Error::Timeout { .. })), "{silent:?}");
}

#[tokio::test]
async fn answers_that_are_cut_off_or_no_json_are_errors_and_no_absence() {
    for body in ["", "{}", "null", "[]", "{", "[1", "<html>", "\u{0}"] {
        let peer = Peer::new(move |path, stream| async move {
            if let Some(stream) = introduce(&path, stream).await {
                say(stream, body).await;
            }
        });
        let engine = Docker::connect(&peer.endpoint())
            .await
            .expect("it speaks at first");
        let found = engine.container("a").await;
        assert!(
            matches!(found, Err(Error::Answer(_))),
            "{body:?}: {found:?}"
        );
        let found = engine.volume("a").await;
        assert!(
            matches!(found, Err(Error::Answer(_))),
            "{body:?}: {found:?}"
        );
    }
    let peer = Peer::new(|path, stream| async move {
        if let Some(mut stream) = introduce(&path, stream).await {
            let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Id\":";
            let _unheard = stream.write_all(half).await;
        }
    });
    let engine = Docker::connect(&peer.endpoint())
        .await
        .expect("it speaks at first");
    let found = engine.container("a").await.expect_err("it was cut off");
    assert!(found.is_connection(), "{found:?}");
}

/// Sends this many events as fast as they are taken, tells when that is over, and stays.
async fn flood(mut stream: UnixStream, count: usize, over: Arc<Notify>) {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut sent = stream.write_all(head).await;
    for number in 0..count {
        let event = format!(
            "{{\"Type\":\"volume\",\"Action\":\"create\",\"time\":1,\"Actor\":{{\"ID\":\"v{number}\"}}}}\n"
        );
        // Cut anywhere: an event is a line and no chunk.
        let (first, second) = event.split_at(event.len() / 2);
        for part in [first, second] {
            let chunk = format!("{:x}\r\n{part}\r\n", part.len());
            sent = sent.and(stream.write_all(chunk.as_bytes()).await);
        }
    }
    over.notify_one();
    if sent.is_ok() {
        pending::<()>().await;
    }
}

/// A stream of so many events, all of them sent, or none wanted any more.
async fn stream_of(count: usize) -> (Peer, EventStream) {
    let over = Arc::new(Notify::new());
    let told = Arc::clone(&over);
    let peer = Peer::new(move |path, stream| {
        let over = Arc::clone(&over);
        async move {
            if let Some(stream) = introduce(&path, stream).await {
                flood(stream, count, over).await;
            }
        }
    });
    let engine = Docker::connect(&peer.endpoint()).await.expect("it speaks");
    let stream = engine.events(None).await.expect("it has events");
    timeout(LIMIT, told.notified()).await.expect("in time");
    (peer, stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_waits_for_its_reader_and_arrives_whole() {
    const BURST: usize = 10_000;
    let (_peer, mut stream) = stream_of(BURST).await;
    for number in 0..BURST {
        let event = timeout(LIMIT, stream.next()).await.expect("in time");
        let event = event.expect("it stands").expect("it is readable");
        assert_eq!(event.id, format!("v{number}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_falls_too_far_behind_is_told_and_never_by_silence() {
    const FLOOD: usize = 40_000;
    let (_peer, mut stream) = stream_of(FLOOD).await;
    let mut seen = 0;
    let end = timeout(LIMIT, async {
        loop {
            match stream.next().await {
                Some(Ok(_)) => seen += 1,
                other => return other,
            }
        }
    })
    .await
    .expect("in time");
    assert!(
        matches!(end, Some(Err(Error::Overrun))),
        "{end:?} after {seen}"
    );
    assert!(seen < FLOOD, "{seen}");
}

/// Answers so many looks over one connection, then ends it in the middle of the next one.
async fn look_at(mut stream: UnixStream, looks: usize) {
    for number in 1..=looks {
        let body = r#"{"Id": "a"}"#;
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream
            .write_all(text.as_bytes())
            .await
            .expect("it is heard");
        let mut next = [0; 4096];
        let more = stream.read(&mut next).await.expect("it is open");
        assert!(more > 0 || number == looks, "it was closed too soon");
    }
}

#[tokio::test]
async fn looks_share_connections_and_one_that_ended_meanwhile_is_no_failure() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let peer = Peer::new(move |path, stream| {
        let counted = Arc::clone(&counted);
        async move {
            if let Some(stream) = introduce(&path, stream).await {
                counted.fetch_add(1, Ordering::SeqCst);
                look_at(stream, 3).await;
            }
        }
    });
    let engine = Docker::connect(&peer.endpoint())
        .await
        .expect("it speaks at first");
    for look in 1..=9 {
        let found = engine.container("a").await;
        assert!(matches!(found, Ok(Some(_))), "{look}: {found:?}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
    // Who the engine is, is asked of whoever listens now.
    drop(peer);
    let gone = engine.identify().await;
    assert!(matches!(gone, Err(Error::NotListening { .. })), "{gone:?}");
}

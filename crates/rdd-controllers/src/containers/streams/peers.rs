//! Logs over a WebSocket whose peer is slow, silent or gone, by a clock of the test.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rdd_engine::{Container, Engine as _, Fake, LogOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use super::logs::{MESSAGE_MAX, pump};
use super::socket::Handshake;
use super::{PING, SILENCE, WRITE};

/// What fits between the two ends, in bytes.
const WIRE: usize = 8 * 1024;

type Peer = WebSocketStream<DuplexStream>;

/// A followed log of an engine in memory, and its reader's end.
async fn follow(log_every: Option<Duration>) -> (Fake, Peer) {
    let engine = Fake::new("engine-1");
    engine.fault(|faults| faults.log_every = log_every);
    let container = Container {
        id: "1".to_owned(),
        ..Container::default()
    };
    engine.put_container(container, "start");
    let (here, there) = tokio::io::duplex(WIRE);
    let serving = engine.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let engine = serving.clone();
        async move {
            let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            let handshake = Handshake::of(&mut request).map_err(|refusal| refusal.1)?;
            let options = LogOptions {
                follow: true,
                ..LogOptions::default()
            };
            let log = engine.logs("1", &options).await.expect("it is up");
            let (answer, socket) = handshake.accept(None, MESSAGE_MAX);
            tokio::spawn(async move {
                if let Ok(socket) = socket.await {
                    pump(log, socket, CancellationToken::new()).await;
                }
            });
            Ok::<_, String>(answer)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(there), service);
    tokio::spawn(connection.with_upgrades());
    let mut here = here;
    let asked = "GET / HTTP/1.1\r\nHost: rdd\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    here.write_all(asked.as_bytes()).await.expect("it is taken");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(here.read_u8().await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    let mut peer = WebSocketStream::from_raw_socket(here, Role::Client, None).await;
    let first = peer.next().await.expect("open").expect("a message");
    assert_eq!(first.into_data(), "log of 1\n");
    (engine, peer)
}

/// Waits until the engine's stream is closed; how long that took.
async fn let_go(engine: &Fake, since: Instant) -> Duration {
    let closed = async {
        while engine.open_logs() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let end = timeout(Duration::from_secs(600), closed).await;
    end.expect("the stream is closed");
    since.elapsed()
}

fn is_about(found: Duration, wanted: Duration) {
    let slack = Duration::from_millis(50);
    assert!(
        found >= wanted && found < wanted + slack,
        "{found:?}, not {wanted:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_pauses_holds_the_engine_up_and_misses_nothing() {
    let (engine, mut peer) = follow(Some(Duration::ZERO)).await;
    let mut expected = 0_u64;
    for _ in 0..5 {
        sleep(WRITE - Duration::from_secs(1)).await;
        let ahead = engine.log_chunks() as u64 - expected;
        // The wire, as much that the reader has taken off it, the engine's queue of 8, and
        // what each side has in its hand.
        assert!(
            ahead <= 2 * (WIRE / 1024) as u64 + 8 + 4,
            "{ahead} chunks wait"
        );
        sleep(Duration::from_millis(500)).await;
        let later = engine.log_chunks() as u64 - expected;
        assert_eq!(later, ahead, "the engine is read on");
        for _ in 0..1000 {
            let message = peer.next().await.expect("open").expect("a message");
            let Message::Binary(bytes) = message else {
                continue;
            };
            let number = std::str::from_utf8(&bytes).map(str::trim).map(str::parse);
            assert_eq!(number, Ok(Ok(expected)));
            expected += 1;
        }
    }
    assert!(expected >= 4900, "{expected}");
    let since = Instant::now();
    // The write that it does not take is given up; then the stream in the engine goes.
    is_about(let_go(&engine, since).await, WRITE);
}

/// Reads for this long; when the peer was asked whether it is there.
async fn read_for(peer: &mut Peer, duration: Duration) -> Vec<Duration> {
    let begin = Instant::now();
    let mut asked = Vec::new();
    let reading = async {
        loop {
            match peer.next().await {
                Some(Ok(Message::Ping(_))) => {
                    asked.push(begin.elapsed());
                    // Sends the answer that reading has prepared.
                    peer.flush().await.expect("open");
                }
                Some(Ok(_)) => {}
                ended => panic!("it ended after {:?}: {ended:?}", begin.elapsed()),
            }
        }
    };
    let limit: Result<(), _> = timeout(duration, reading).await;
    assert!(limit.is_err());
    asked
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_is_asked_again_and_again_and_kept() {
    for every in [None, Some(Duration::from_secs(3))] {
        let (engine, mut peer) = follow(every).await;
        let asked = read_for(&mut peer, 5 * SILENCE).await;
        assert_eq!(asked.len(), 29, "{every:?}: {asked:?}");
        for (number, at) in (1..).zip(asked) {
            is_about(at, PING * number);
        }
        assert_eq!(engine.open_logs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_left_after_a_minute() {
    // Whether there is something to tell it or not.
    for every in [None, Some(Duration::from_secs(15))] {
        let (engine, _peer) = follow(every).await;
        is_about(let_go(&engine, Instant::now()).await, SILENCE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_is_left_at_once() {
    for every in [None, Some(Duration::ZERO)] {
        let (engine, peer) = follow(every).await;
        let since = Instant::now();
        drop(peer);
        is_about(let_go(&engine, since).await, Duration::ZERO);
    }
}

//! Watches over WebSockets, over real connections.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderName, Method, Request, Response};
use rdd_apiserver::http::serve::{Security, serve};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

use super::bed::{ALICE, ROOT, Server};
use crate::lab::DEADLINE;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// A server that listens.
struct Listening {
    server: Server,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

type Socket = WebSocketStream<TcpStream>;

impl Listening {
    async fn start() -> Self {
        let server = Server::start().await;
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let (router, drain) = (server.router.clone(), Duration::from_secs(10));
        let serving = serve(socket, router, Security::Plain, stop.clone(), drain);
        Self {
            server,
            address,
            stop,
            serving: tokio::spawn(serving),
        }
    }

    /// Opens a WebSocket; a refusal is its answer.
    async fn open(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<(Socket, Response<Option<Vec<u8>>>), Response<Option<Vec<u8>>>> {
        let mut request = Request::builder()
            .uri(format!("ws://{}{path}", self.address))
            .header("host", self.address.to_string())
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .expect("a request");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            request
                .headers_mut()
                .append(name, value.parse().expect("a value"));
        }
        let socket = TcpStream::connect(self.address).await.expect("it listens");
        match client_async(request, socket).await {
            Ok(opened) => Ok(opened),
            Err(tungstenite::Error::Http(answer)) => Err(*answer),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn next(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(DEADLINE, socket.next()).await;
    let message = message.expect("a message comes in time");
    message.expect("it is open").expect("and unbroken")
}

async fn event(socket: &mut Socket) -> Value {
    match next(socket).await {
        Message::Text(text) => {
            assert!(text.ends_with('\n'), "{text}");
            serde_json::from_str(&text).expect("an event")
        }
        other => panic!("{other:?}"),
    }
}

fn bearer(token: &str) -> String {
    let token = URL_SAFE_NO_PAD.encode(token);
    format!("base64url.bearer.authorization.k8s.io.{token}, base64.binary.k8s.io")
}

#[tokio::test]
async fn a_browser_watches_with_its_token_among_the_subprotocols() {
    let listening = Listening::start().await;
    let path = format!("{SECRETS}?watch=1&fieldSelector=metadata.name%3Da&timeoutSeconds=600");
    let protocols = bearer(ROOT);
    let headers = [
        ("origin", "http://localhost:4466"),
        ("sec-websocket-protocol", &protocols),
    ];
    let (mut socket, answer) = listening.open(&path, &headers).await.expect("opened");
    assert_eq!(
        answer.headers().get("sec-websocket-protocol").expect("one"),
        "base64.binary.k8s.io"
    );
    // What a client says is not listened to.
    socket.send(Message::text("hello")).await.expect("sent");
    let object = json!({"metadata": {"name": "a"}});
    let server = &listening.server;
    server.call(ROOT, Method::POST, SECRETS, &object).await;
    let path = format!("{SECRETS}/a");
    server.call(ROOT, Method::DELETE, &path, &Value::Null).await;
    for kind in ["ADDED", "DELETED"] {
        let event = event(&mut socket).await;
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!(kind), &json!("a"))
        );
    }
    server.api.stop();
    listening.stop.cancel();
    let Message::Close(Some(close)) = next(&mut socket).await else {
        panic!("it does not say farewell");
    };
    assert_eq!(close.code, CloseCode::Normal);
    // Reading on answers the farewell.
    assert!(socket.next().await.is_none());
    tokio::time::timeout(DEADLINE, listening.serving)
        .await
        .expect("it ends in time")
        .expect("it ends well");
}

#[tokio::test]
async fn a_watch_ends_normally_when_its_time_is_up() {
    let listening = Listening::start().await;
    let authorization = format!("Bearer {ROOT}");
    let headers = [
        ("origin", "https://page.example"),
        ("authorization", authorization.as_str()),
    ];
    let path = format!("{SECRETS}?watch=1&timeoutSeconds=1");
    let (mut socket, _) = listening.open(&path, &headers).await.expect("opened");
    assert!(matches!(
        next(&mut socket).await,
        Message::Close(Some(close)) if close.code == CloseCode::Normal
    ));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_before_the_handshake() {
    let listening = Listening::start().await;
    let path = format!("{SECRETS}?watch=1");
    let origin = ("origin", "http://a");
    let (root, alice) = (format!("Bearer {ROOT}"), format!("Bearer {ALICE}"));
    let lone = bearer(ROOT).split(',').next().expect("one").to_owned();
    let check = async |path: &str, headers: &[(&str, &str)], code: u16| {
        let answer = listening.open(path, headers).await.expect_err("refused");
        assert_eq!(answer.status(), code, "{path} {headers:?}");
    };
    check(&path, &[("authorization", &root)], 403).await;
    check(&path, &[("authorization", &root), ("origin", "null")], 403).await;
    check(&path, &[("authorization", &alice), origin], 403).await;
    check(&path, &[("authorization", "Bearer no"), origin], 401).await;
    check(&path, &[("sec-websocket-protocol", &lone), origin], 401).await;
    let invalid = format!("{path}&resourceVersion=x");
    // As a plain watch is answered, and as kube-apiserver answers it.
    check(&invalid, &[("authorization", &root), origin], 500).await;
    // A list is no watch, whatever the client would like.
    check(SECRETS, &[("authorization", &root), origin], 200).await;
}

#[tokio::test]
async fn a_watch_ends_when_its_client_goes() {
    let listening = Listening::start().await;
    let authorization = format!("Bearer {ROOT}");
    let headers = [
        ("origin", "http://a"),
        ("authorization", authorization.as_str()),
    ];
    let path = format!("{SECRETS}?watch=1&timeoutSeconds=600");
    let (mut socket, _) = listening.open(&path, &headers).await.expect("opened");
    socket.close(None).await.expect("closed");
    while socket.next().await.is_some() {}
    let ended = async {
        loop {
            let (_, text) = listening
                .server
                .call(ROOT, Method::GET, "/metrics", &Value::Null)
                .await;
            let counted = text.lines().any(|line| {
                line.starts_with("apiserver_request_total{verb=\"WATCH\"")
                    && line.contains("code=\"101\"")
            });
            if counted {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, ended)
        .await
        .expect("the watch ends");
}

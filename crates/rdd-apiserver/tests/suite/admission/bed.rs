//! A webhook that does whatever a test tells it to, behind real TLS on loopback.

use std::{collections::VecDeque, convert::Infallible, net::SocketAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

/// What a webhook does with a question.
pub(crate) enum Reply {
    /// Answers a JSON document.
    Json(Value),
    /// Answers this code and text.
    Code(u16, &'static str),
    /// Answers this content type and text.
    Typed(&'static str, &'static str),
    /// Answers text that is no JSON.
    Garbage,
    /// Answers more than anybody should read.
    Endless,
    /// Never answers.
    Hang,
    /// Ends the connection.
    Close,
}

type Behaviour = Arc<dyn Fn(&str, &Value) -> Reply + Send + Sync>;

/// Which certificate the webhook shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// One that the bundle signs for.
    Signed,
    /// One that is in the bundle itself.
    ItsOwn,
    /// One for another name.
    ForAnotherName,
    /// One of the past.
    Expired,
    /// One of the future.
    NotYet,
}

/// The webhook.
pub(crate) struct Bed {
    pub(crate) address: SocketAddr,
    pub(crate) bundle: String,
    asked: Arc<Mutex<VecDeque<(String, Value)>>>,
    connections: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bed {
    /// A webhook with this behaviour, by path and review.
    pub(crate) async fn start(
        behaviour: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::showing(Shown::Signed, behaviour).await
    }

    pub(crate) async fn showing(
        shown: Shown,
        behaviour: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (bundle, configuration) = identity(shown);
        let asked = Arc::new(Mutex::new(VecDeque::new()));
        let connections = Arc::new(Mutex::new(0));
        let behaviour: Behaviour = Arc::new(behaviour);
        let task = tokio::spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(configuration)),
            behaviour,
            Arc::clone(&asked),
            Arc::clone(&connections),
        ));
        Self {
            address,
            bundle: STANDARD.encode(bundle),
            asked,
            connections,
            task,
        }
    }

    /// A `clientConfig` for a path.
    pub(crate) fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://{}{path}", self.address), "caBundle": self.bundle})
    }

    /// The questions since the last call, as path and review.
    pub(crate) fn questions(&self) -> Vec<(String, Value)> {
        self.asked.lock().drain(..).collect()
    }

    /// The paths of the questions since the last call.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.questions().into_iter().map(|(path, _)| path).collect()
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock()
    }
}

/// A bundle as configurations hold it.
pub(crate) fn encoded(bundle: &str) -> String {
    STANDARD.encode(bundle)
}

/// What the server shows, and the bundle that signs for it.
pub(crate) fn identity(shown: Shown) -> (String, rustls::ServerConfig) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (bundle, certificate, key) = if shown == Shown::ItsOwn {
        params.subject_alt_names = names(false);
        let certificate = params.self_signed(&key).expect("a certificate");
        (certificate.pem(), certificate.der().clone(), key)
    } else {
        let authority = params.self_signed(&key).expect("an authority");
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.subject_alt_names = names(shown == Shown::ForAnotherName);
        match shown {
            Shown::Expired => params.not_after = rcgen::date_time_ymd(2001, 1, 1),
            Shown::NotYet => params.not_before = rcgen::date_time_ymd(3001, 1, 1),
            _ => {}
        }
        let leaf = params.signed_by(&key, &issuer).expect("a certificate");
        (authority.pem(), leaf.der().clone(), key)
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let configuration = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a usable certificate");
    (bundle, configuration)
}

fn names(other: bool) -> Vec<rcgen::SanType> {
    let dns = |name: &str| rcgen::SanType::DnsName(name.try_into().expect("a name"));
    if other {
        return vec![dns("elsewhere.example.com")];
    }
    vec![
        rcgen::SanType::IpAddress([127, 0, 0, 1].into()),
        dns("hook.tools.svc"),
    ]
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    behaviour: Behaviour,
    asked: Arc<Mutex<VecDeque<(String, Value)>>>,
    connections: Arc<Mutex<usize>>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        *connections.lock() += 1;
        let (acceptor, behaviour) = (acceptor.clone(), Arc::clone(&behaviour));
        let asked = Arc::clone(&asked);
        tasks.spawn(async move {
            let Ok(stream) = acceptor.accept(socket).await else {
                return;
            };
            let service = service_fn(|request: Request<Incoming>| {
                let (behaviour, asked) = (Arc::clone(&behaviour), Arc::clone(&asked));
                async move { answer(request, &behaviour, &asked).await }
            });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A connection that is cut on purpose ends with an error.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

async fn answer(
    request: Request<Incoming>,
    behaviour: &Behaviour,
    asked: &Mutex<VecDeque<(String, Value)>>,
) -> Result<Response<Full<Bytes>>, Cut> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map_err(|_| Cut)?;
    let review: Value = serde_json::from_slice(&body.to_bytes()).map_err(|_| Cut)?;
    let reply = behaviour(&path, &review);
    asked.lock().push_back((path, review));
    let respond = |code: u16, kind: &str, body: Bytes| {
        Response::builder()
            .status(code)
            .header("content-type", kind)
            .body(Full::new(body))
            .map_err(|_| Cut)
    };
    match reply {
        Reply::Json(value) => respond(200, "application/json", value.to_string().into()),
        Reply::Code(code, text) => respond(code, "text/plain", text.into()),
        Reply::Typed(kind, text) => respond(200, kind, text.into()),
        Reply::Garbage => respond(200, "application/json", "nonsense".into()),
        Reply::Endless => respond(200, "application/json", vec![b' '; 9 << 20].into()),
        Reply::Close => Err(Cut),
        Reply::Hang => match std::future::pending::<Infallible>().await {},
    }
}

/// The answer to a review: `response` without its uid.
pub(crate) fn respond(review: &Value, mut response: Value) -> Reply {
    response["uid"] = review["request"]["uid"].clone();
    Reply::Json(json!({
        "apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response,
    }))
}

/// Yes.
pub(crate) fn allow(review: &Value) -> Reply {
    respond(review, json!({"allowed": true}))
}

/// Yes, with these changes.
pub(crate) fn patch(review: &Value, operations: &Value) -> Reply {
    let patch = STANDARD.encode(operations.to_string());
    respond(
        review,
        json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}),
    )
}

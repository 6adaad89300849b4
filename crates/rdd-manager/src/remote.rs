//! Endpoints of a manager in a program of its own, and the way there.
//!
//! ```text
//! client ─▶ control plane: who is it? ─▶ Proxy ══ mutual TLS, loopback ══▶ Endpoints: may it? ─▶ endpoint
//! ```
//!
//! Guarantees
//! 1. Only the control plane of the same instance is heard: it shows a certificate that
//!    nobody else has. It says on whose behalf it asks, as Kubernetes' own proxies do.
//! 2. The caller's rights are asked of the API before the endpoint sees the request.
//! 3. The control plane talks to nobody but the manager: whoever took over a dead one's
//!    port has no certificate of the instance's authority. Credentials stay behind.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use rdd_admission::UserInfo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::discovery::Entry;
use crate::listener::{Answer, plain};
use crate::passthrough::{Access, Body, Passthroughs};

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What all headers begin with that say on whose behalf is asked.
const REMOTE: &str = "x-remote-";

/// What headers begin with that say what else is known about a caller.
const EXTRA: &str = "x-remote-extra-";

/// How browsers hand a token over where they cannot set headers.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Headers that are about one connection and not about the request (RFC 9110, 7.6.1).
const OF_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// How long reaching a manager may take.
const REACH: Duration = Duration::from_secs(2);

/// The manager's side.
pub(crate) struct Endpoints {
    pub(crate) passthroughs: Passthroughs,
    pub(crate) client: kube::Client,
}

impl Answer for Endpoints {
    fn answer(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let path = format!("/passthrough{}", request.uri().path());
            let Some((endpoint, rest)) = self.passthroughs.find(&path) else {
                return plain(StatusCode::SERVICE_UNAVAILABLE, "handler not ready\n");
            };
            let caller = match caller_of(request.headers()) {
                Ok(caller) => caller,
                Err(text) => return plain(StatusCode::BAD_REQUEST, text),
            };
            match self.is_allowed(caller, endpoint.access(rest)).await {
                Ok(None) => {}
                Ok(Some(refusal)) => return plain(StatusCode::FORBIDDEN, refusal),
                Err(error) => {
                    tracing::warn!(%error, "the rights of a caller could not be asked for");
                    let text = "the rights of the caller could not be asked for\n";
                    return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
                }
            }
            let (mut parts, body) = request.into_parts();
            let names: Vec<HeaderName> = parts.headers.keys().cloned().collect();
            for name in names
                .iter()
                .filter(|name| name.as_str().starts_with(REMOTE))
            {
                parts.headers.remove(name);
            }
            let body = body.map_err(Into::into).boxed_unsync();
            endpoint.serve(rest, Request::from_parts(parts, body)).await
        })
    }
}

impl Endpoints {
    /// `None` when the caller may, else the refusal.
    async fn is_allowed(&self, caller: UserInfo, access: Access) -> kube::Result<Option<String>> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: some(&caller.username),
                uid: some(&caller.uid),
                groups: Some(caller.groups),
                extra: Some(caller.extra),
                resource_attributes: Some(ResourceAttributes {
                    verb: some(access.verb),
                    group: some(access.group),
                    version: some(access.version),
                    resource: some(access.resource),
                    subresource: some(access.subresource),
                    namespace: some(&access.namespace),
                    name: some(&access.name),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let judged = api.create(&PostParams::default(), &review).await?;
        if judged.status.is_some_and(|status| status.allowed) {
            return Ok(None);
        }
        Ok(Some(format!(
            "User {:?} cannot {} {}/{} {:?} in API group {:?} in the namespace {:?}\n",
            caller.username,
            access.verb,
            access.resource,
            access.subresource,
            access.name,
            access.group,
            access.namespace,
        )))
    }
}

fn caller_of(headers: &HeaderMap) -> Result<UserInfo, &'static str> {
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).ok();
    let one = |name: &HeaderName| headers.get(name).and_then(text);
    let mut caller = UserInfo {
        username: one(&USER).ok_or("nobody is named on whose behalf this is asked\n")?,
        uid: one(&UID).unwrap_or_default(),
        groups: headers.get_all(&GROUP).iter().filter_map(text).collect(),
        ..UserInfo::default()
    };
    for (name, value) in headers {
        if let (Some(key), Some(value)) = (name.as_str().strip_prefix(EXTRA), text(value)) {
            let key = hex_decoded(key).ok_or("the name of an extra is not readable\n")?;
            caller.extra.entry(key).or_default().push(value);
        }
    }
    Ok(caller)
}

/// Names of extras are any text, and headers are not: they travel as hexadecimal digits.
fn hex_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_decoded(text: &str) -> Option<String> {
    let digits: Vec<u32> = text
        .chars()
        .map(|digit| digit.to_digit(16))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| u8::try_from(high * 16 + low));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().ok()?;
    rest.is_empty().then(|| String::from_utf8(bytes).ok())?
}

/// The control plane's side.
#[derive(Clone)]
pub struct Proxy {
    connector: TlsConnector,
    stop: CancellationToken,
    sockets: TaskTracker,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Proxy").finish_non_exhaustive()
    }
}

impl Proxy {
    /// Shows and trusts what the configuration says.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self {
            connector: TlsConnector::from(config),
            stop: CancellationToken::new(),
            sockets: TaskTracker::new(),
        }
    }

    /// Passes a request on to `/<controller>/<endpoint>/<rest>` of a manager. `from` is
    /// the client's address.
    pub async fn forward(
        &self,
        entry: &Entry,
        path: &str,
        caller: &UserInfo,
        from: Option<std::net::IpAddr>,
        request: Request<Body>,
    ) -> Response<Body> {
        match self.pass_on(entry, path, caller, from, request).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(endpoint = entry.passthrough_endpoint, %error, "a manager was not reached");
                let text = "the manager that serves this does not answer\n";
                plain(StatusCode::SERVICE_UNAVAILABLE, text)
            }
        }
    }

    async fn pass_on(
        &self,
        entry: &Entry,
        path: &str,
        caller: &UserInfo,
        from: Option<std::net::IpAddr>,
        mut request: Request<Body>,
    ) -> io::Result<Response<Body>> {
        let stream = timeout(REACH, self.reach(entry)).await??;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let stop = self.stop.clone();
        self.sockets.spawn(async move {
            tokio::select! {
                ended = connection.with_upgrades() => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection to a manager ended");
                },
                () = stop.cancelled() => {}
            }
        });
        let theirs = request.extensions_mut().remove::<OnUpgrade>();
        let request = prepared(request, path, caller, from)?;
        let mut answer = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let ours = hyper::upgrade::on(&mut answer);
            let theirs = theirs.ok_or_else(|| io::Error::other("nothing was to be upgraded"))?;
            let stop = self.stop.clone();
            self.sockets.spawn(async move {
                tokio::select! {
                    joined = join(theirs, ours) => if let Err(error) = joined {
                        tracing::debug!(%error, "a passed on connection ended");
                    },
                    () = stop.cancelled() => {}
                }
            });
        } else {
            for name in OF_CONNECTION {
                answer.headers_mut().remove(name);
            }
        }
        Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
    }

    async fn reach(&self, entry: &Entry) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        let endpoint = &entry.passthrough_endpoint;
        let uri: Uri = endpoint
            .parse()
            .map_err(|_| invalid(format!("{endpoint:?} is no URL")))?;
        let port = uri
            .port_u16()
            .ok_or_else(|| invalid(format!("{endpoint:?} has no port")))?;
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }

    /// Ends what is still passed on.
    pub async fn close(&self) {
        self.stop.cancel();
        self.sockets.close();
        self.sockets.wait().await;
    }
}

async fn join(theirs: OnUpgrade, ours: OnUpgrade) -> io::Result<()> {
    let (theirs, ours) = futures::future::try_join(theirs, ours)
        .await
        .map_err(io::Error::other)?;
    copy_bidirectional(&mut TokioIo::new(theirs), &mut TokioIo::new(ours)).await?;
    Ok(())
}

/// The request as the manager sees it.
fn prepared(
    request: Request<Body>,
    path: &str,
    caller: &UserInfo,
    from: Option<std::net::IpAddr>,
) -> io::Result<Request<Body>> {
    let (mut parts, body) = request.into_parts();
    let query = parts
        .uri
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    parts.uri = format!("{path}{query}").parse().map_err(io::Error::other)?;
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    let upgrades = headers.contains_key(header::UPGRADE);
    for name in OF_CONNECTION {
        headers.remove(name);
    }
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::COOKIE);
    let claims: Vec<HeaderName> = headers.keys().cloned().collect();
    for name in claims
        .iter()
        .filter(|name| name.as_str().starts_with(REMOTE))
    {
        headers.remove(name);
    }
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL).map(|value| {
        let protocols = value.to_str().unwrap_or_default().split(',').map(str::trim);
        let kept = protocols.filter(|protocol| !protocol.starts_with(TOKEN_PROTOCOL));
        kept.collect::<Vec<_>>().join(", ")
    });
    match protocols {
        Some(protocols) if protocols.is_empty() => {
            headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        }
        Some(protocols) => {
            let value = protocols.parse().map_err(io::Error::other)?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        None => {}
    }
    if upgrades {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    headers
        .entry(header::HOST)
        .or_insert(HeaderValue::from_static("localhost"));
    if let Some(from) = from {
        let before = headers
            .get(&FORWARDED_FOR)
            .and_then(|value| value.to_str().ok());
        let all = before.map_or_else(|| from.to_string(), |before| format!("{before}, {from}"));
        headers.insert(FORWARDED_FOR, all.parse().map_err(io::Error::other)?);
    }
    let mut say = |name: HeaderName, value: &str| -> io::Result<()> {
        headers.append(name, value.parse().map_err(io::Error::other)?);
        Ok(())
    };
    say(USER, &caller.username)?;
    say(UID, &caller.uid)?;
    for group in &caller.groups {
        say(GROUP, group)?;
    }
    for (key, values) in &caller.extra {
        let name = format!("{EXTRA}{}", hex_encoded(key));
        let name = HeaderName::try_from(name).map_err(io::Error::other)?;
        for value in values {
            say(name.clone(), value)?;
        }
    }
    Ok(Request::from_parts(parts, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;
    use std::collections::BTreeMap;

    fn caller() -> UserInfo {
        UserInfo {
            username: "alice".to_owned(),
            uid: "7".to_owned(),
            groups: vec!["devs".to_owned(), "all".to_owned()],
            extra: BTreeMap::from([("example.com/Ü".to_owned(), vec!["a".to_owned()])]),
        }
    }

    fn asked(headers: &[(&str, &str)]) -> Request<Body> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::builder().uri("/passthrough/a/b/c?d=e");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).expect("a request")
    }

    #[test]
    fn a_caller_arrives_as_it_was_known_and_brings_no_credentials() {
        let request = asked(&[
            ("authorization", "Bearer secret"),
            ("cookie", "a=b"),
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-00", "forged"),
            ("x-forwarded-for", "10.0.0.1"),
            (
                "sec-websocket-protocol",
                "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io",
            ),
            ("upgrade", "websocket"),
            ("connection", "Upgrade, keep-alive"),
        ]);
        let from = Some(std::net::IpAddr::from([127, 0, 0, 1]));
        let request = prepared(request, "/a/b/c", &caller(), from).expect("it can be told");
        assert_eq!(request.uri(), "/a/b/c?d=e");
        assert_eq!(caller_of(request.headers()).expect("named"), caller());
        let text = format!("{:?}", request.headers());
        for word in ["secret", "c2VjcmV0", "a=b", "root", "forged", "masters"] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        assert_eq!(request.headers()[&FORWARDED_FOR], "10.0.0.1, 127.0.0.1");
        assert_eq!(
            request.headers()[header::SEC_WEBSOCKET_PROTOCOL],
            "v5.channel.k8s.io"
        );
        assert_eq!(request.headers()[header::CONNECTION], "upgrade");
    }

    #[test]
    fn nobody_is_no_caller() {
        assert!(caller_of(&HeaderMap::new()).is_err());
    }

    #[test]
    fn names_of_extras_are_any_text() {
        for text in ["", "a", "scopes", "Ü/%"] {
            assert_eq!(hex_decoded(&hex_encoded(text)).as_deref(), Some(text));
        }
        assert_eq!(hex_decoded("0"), None);
        assert_eq!(hex_decoded("zz"), None);
        assert_eq!(hex_decoded("ff"), None);
    }
}

//! A server with its workers over a memory store.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use rdd_apiserver::auth::{Authenticator, Rbac};
use rdd_apiserver::http::{body::Body, router::Router};
use rdd_apiserver::{ApiServer, Identity};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::lab::{Lab, sent, whole};

/// The token of user `alice`, who is in group `devs` and may do nothing.
pub(crate) const ALICE: &str = "alice-token";

/// The token of user `root`, who may do everything.
pub(crate) const ROOT: &str = "root-token";

pub(crate) struct Server {
    pub(crate) api: ApiServer,
    pub(crate) router: Router,
    _lab: Lab,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server that knows further credentials.
    pub(crate) async fn start_with(credentials: impl FnOnce(&mut Authenticator)) -> Self {
        let lab = Lab::start(|options| {
            let known = &mut options.authenticator;
            known.add_token(ALICE, Identity::new("alice", "alice-uid", ["devs"]));
            known.add_token(ROOT, Identity::system("root"));
            credentials(known);
            options.authorizer = Arc::new(Rbac::new(Arc::clone(&options.store)));
        });
        let lab = lab.await;
        Self {
            api: lab.api.clone(),
            router: lab.api.router(),
            _lab: lab,
        }
    }

    /// Sends a request as the holder of a token.
    pub(crate) async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: &Value,
    ) -> Response<Body> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("user-agent", "test/1.0")
            .body(Full::new(sent(body)))
            .expect("a request");
        request.headers_mut().extend(headers);
        match self.router.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }

    /// The same without further headers, and the answer as text.
    pub(crate) async fn call(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> (StatusCode, String) {
        let answer = self.send(token, method, path, HeaderMap::new(), body).await;
        let status = answer.status();
        let body = whole(answer.into_body()).await;
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

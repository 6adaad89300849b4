//! A server with its workers over a memory store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use rdd_admission::AdmissionChain;
use rdd_apiserver::auth::{Authenticator, Rbac};
use rdd_apiserver::catalog::crd;
use rdd_apiserver::health::Health;
use rdd_apiserver::http::body::Body;
use rdd_apiserver::http::passthrough::NoPassthrough;
use rdd_apiserver::http::router::Router;
use rdd_apiserver::pages::{Site, Version};
use rdd_apiserver::workers::Workers;
use rdd_apiserver::{ApiServer, Identity, Options};
use rdd_store::{MemoryStore, Store};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The token of user `alice`, who is in group `devs` and may do nothing.
pub(crate) const ALICE: &str = "alice-token";

/// The token of user `root`, who may do everything.
pub(crate) const ROOT: &str = "root-token";

pub(crate) struct Server {
    pub(crate) api: ApiServer,
    pub(crate) router: Router,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server that knows further credentials.
    pub(crate) async fn start_with(credentials: impl FnOnce(&mut Authenticator)) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (catalog, definitions) = crd::served();
        let mut authenticator = Authenticator::default();
        authenticator.add_token(ALICE, Identity::new("alice", "alice-uid", ["devs"]));
        authenticator.add_token(ROOT, Identity::system("root"));
        credentials(&mut authenticator);
        let version = Version {
            git_version: "v1.36.0".to_owned(),
            git_commit: String::new(),
        };
        let (api, work) = ApiServer::new(Options {
            store: Arc::clone(&store),
            catalog: Arc::clone(&catalog),
            authenticator,
            authorizer: Arc::new(Rbac::new(Arc::clone(&store))),
            admission: AdmissionChain::default(),
            services: rdd_apiserver::Services::default(),
            pages: Arc::new(Site::new(version, Health::new())),
            passthrough: Arc::new(NoPassthrough),
        });
        tokio::spawn(work);
        let stop = CancellationToken::new();
        let workers = Workers {
            store,
            catalog,
            definitions,
            metrics: Arc::clone(api.metrics()),
            client: api.client(Identity::system("system:apiserver")),
            root_ca: String::new(),
        };
        workers
            .create_start_objects()
            .await
            .expect("the start objects are created");
        tokio::spawn(workers.run(stop.clone()));
        let router = api.router();
        Self { api, router, stop }
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
        let body = if body.is_null() {
            Bytes::new()
        } else {
            body.to_string().into()
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("user-agent", "test/1.0")
            .body(Full::new(body))
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
        let body = answer.into_body().collect().await.expect("the body ends");
        (
            status,
            String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        )
    }
}

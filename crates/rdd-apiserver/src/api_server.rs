//! The running server: what it is made of, and its way in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rdd_admission::AdmissionChain;
use rdd_store::Store;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admission::Admission,
    audit::AuditLog,
    auth::{self, Attributes, Authenticator, Authorizer, Decision, MastersOnly, authorize},
    catalog::{CatalogHandle, Scope, Subresource},
    http::{
        passthrough::{NoPassthrough, Passthrough},
        request_info::RequestInfo,
        router::{NoPages, Pages, Router},
    },
    metrics::Metrics,
    object,
    outbound::Services,
    status::{ApiError, ApiResult},
    verbs::call::Call,
    watch_cache::WatchCache,
};

/// How long a create waits for a Namespace that another client is just making.
const NAMESPACE_WAIT: std::time::Duration = std::time::Duration::from_millis(50);

/// What a server is made of.
pub struct Options {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// Which resources are served.
    pub catalog: Arc<CatalogHandle>,
    /// Who owns which credential.
    pub authenticator: Authenticator,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// The rules that judge writes; see also [`ApiServer::set_admission`].
    pub admission: AdmissionChain,
    /// Where the Services listen that webhook configurations name.
    pub services: Services,
    /// Discovery, OpenAPI, health and the like.
    pub pages: Arc<dyn Pages>,
    /// What others serve below `/passthrough/`.
    pub passthrough: Arc<dyn Passthrough>,
}

impl Options {
    /// The smallest server: it knows no credential, lets only `system:masters` act, judges
    /// no write by further rules, and serves resources alone, no page beside them.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, catalog: Arc<CatalogHandle>) -> Self {
        Self {
            store,
            catalog,
            authenticator: Authenticator::default(),
            authorizer: Arc::new(MastersOnly),
            admission: AdmissionChain::default(),
            services: Services::default(),
            pages: Arc::new(NoPages),
            passthrough: Arc::new(NoPassthrough),
        }
    }
}

/// A Kubernetes-compatible API server; clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) catalog: Arc<CatalogHandle>,
    pub(crate) cache: Arc<WatchCache>,
    pub(crate) stopping: CancellationToken,
    pub(crate) authenticator: Authenticator,
    pub(crate) pages: Arc<dyn Pages>,
    pub(crate) passthrough: Arc<dyn Passthrough>,
    authorizer: Arc<dyn Authorizer>,
    pub(crate) modes: auth::Modes,
    pub(crate) admission: Admission,
    pub(crate) services: Services,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) audit: OnceLock<AuditLog>,
    /// Watches over WebSockets; [`crate::http::serve`] waits for them.
    pub(crate) sockets: TaskTracker,
    /// Whether kinds are still to come that belong to every start.
    pub(crate) rising: AtomicBool,
}

impl ApiServer {
    /// A server, and the work that keeps its watch cache and the store's expiries
    /// going. The server answers requests only while that runs; it ends when
    /// the store closes.
    pub fn new(options: Options) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let Options {
            store,
            catalog,
            authenticator,
            authorizer,
            admission,
            services,
            pages,
            passthrough,
        } = options;
        let (cache, feed) = WatchCache::new(Arc::clone(&store));
        let stopping = CancellationToken::new();
        let expiry = expire(Arc::clone(&store), stopping.clone());
        let inner = Arc::new(Inner {
            store,
            catalog,
            cache,
            stopping,
            authenticator,
            pages,
            passthrough,
            authorizer,
            modes: auth::Modes::default(),
            admission: Admission::new(admission, services.clone()),
            services,
            metrics: Arc::new(Metrics::new()),
            audit: OnceLock::new(),
            sockets: TaskTracker::new(),
            rising: AtomicBool::new(false),
        });
        let judged = Arc::clone(&inner);
        let work = async move {
            let store = Arc::clone(&judged.store);
            tokio::select! {
                () = feed => {}
                () = judged.admission.configurations.follow(store) => {}
                () = expiry => {}
            }
        };
        (Self { inner }, work)
    }

    /// The service that answers requests; cheap to clone.
    #[must_use]
    pub fn router(&self) -> Router {
        Router::new(Arc::clone(&self.inner))
    }

    /// The served resources.
    #[must_use]
    pub fn catalog(&self) -> &Arc<CatalogHandle> {
        &self.inner.catalog
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The recent changes, for workers of the server itself.
    #[must_use]
    pub fn watch_cache(&self) -> &Arc<WatchCache> {
        &self.inner.cache
    }

    /// The figures behind `/metrics`.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Records every later request in this log; the first one that is named stays.
    pub fn set_audit(&self, log: AuditLog) {
        let counted = log.clone();
        if self.inner.audit.set(log).is_ok() {
            self.inner.metrics.add(move |out| counted.figures(out));
        }
    }

    /// While it rises, the server answers 503 for kinds that it does not know: they may be
    /// on their way. A server that nobody tells otherwise knows all that it ever will.
    pub fn set_rising(&self, rising: bool) {
        self.inner.rising.store(rising, Ordering::Release);
    }

    /// Judges every later write by these rules.
    pub fn set_admission(&self, chain: AdmissionChain) {
        self.inner.admission.set_rules(chain);
    }

    /// Ends every watch, so that connections can drain. Other requests still work.
    pub fn stop(&self) {
        self.inner.stopping.cancel();
    }
}

/// Deletes what has outlived its time. Expiry is to the second; nothing waits for it more exactly.
async fn expire(store: Arc<dyn Store>, stopping: CancellationToken) {
    const EVERY: std::time::Duration = std::time::Duration::from_secs(1);
    loop {
        tokio::select! {
            () = stopping.cancelled() => std::future::pending::<()>().await,
            () = tokio::time::sleep(EVERY) => {}
        }
        let now = std::time::SystemTime::now();
        if store.next_expiry().is_some_and(|at| at <= now)
            && let Err(error) = store.delete_expired(now).await
        {
            tracing::warn!(%error, "expired objects could not be deleted");
        }
    }
}

impl Inner {
    /// That something is unknown, unless it may be known soon.
    pub(crate) fn unless_rising(&self, unknown: ApiError) -> ApiError {
        if self.rising.load(Ordering::Acquire) {
            return ApiError::unavailable(
                "the request has been made before all known HTTP paths have been installed, please retry",
            );
        }
        unknown
    }

    /// Lets the request through or answers its 403.
    pub(crate) async fn authorize(&self, attributes: &Attributes<'_>) -> ApiResult<()> {
        match self.authorizer.authorize(attributes).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) => Err(authorize::denial(attributes, &reason)),
        }
    }

    /// Who decides.
    pub(crate) fn authorizer(&self) -> &dyn Authorizer {
        &*self.authorizer
    }

    /// An update that creates needs the right to create, too.
    pub(crate) async fn authorize_create(&self, call: &Call) -> ApiResult<()> {
        let request = RequestInfo::Resource(call.info.clone());
        let attributes = Attributes {
            identity: &call.identity,
            request: &request,
            verb: "create",
            selected_name: None,
        };
        self.authorize(&attributes).await
    }

    /// A part of an object has a permission of its own.
    pub(crate) async fn authorize_part(&self, call: &Call, part: Subresource) -> ApiResult<()> {
        let mut info = call.info.clone();
        part.as_str().clone_into(&mut info.subresource);
        let request = RequestInfo::Resource(info);
        let attributes = Attributes {
            identity: &call.identity,
            request: &request,
            verb: "patch",
            selected_name: None,
        };
        self.authorize(&attributes).await
    }

    /// A new object's Namespace must exist and not be on its way out.
    pub(crate) async fn check_namespace(&self, call: &Call, new: &Value) -> ApiResult<()> {
        let resource = &call.resource;
        if resource.scope == Scope::Cluster {
            return Ok(());
        }
        let Some(namespace) = call.namespace() else {
            return Ok(());
        };
        let key = rdd_store::Key::new(format!("/registry/namespaces/{namespace}"));
        let find = || async {
            self.store
                .get(&key)
                .await
                .map_err(crate::verbs::store_error)
        };
        let mut entry = find().await?;
        if entry.is_none() {
            tokio::time::sleep(NAMESPACE_WAIT).await;
            entry = find().await?;
        }
        let entry = entry.ok_or_else(|| ApiError::namespace_not_found(namespace))?;
        if is_terminating(&entry.value) {
            let name = match object::meta(new, "name") {
                "" => object::meta(new, "generateName"),
                name => name,
            };
            return Err(ApiError::namespace_terminating(resource, name, namespace));
        }
        Ok(())
    }
}

/// Whether stored bytes are those of a Namespace that is being deleted.
fn is_terminating(stored: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        #[serde(default)]
        deletion_timestamp: Option<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Namespace {
        metadata: Metadata,
    }
    serde_json::from_slice::<Namespace>(stored)
        .is_ok_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
}

//! Endpoints of controllers: what is no object, such as a container's log, and is served
//! by the controller itself, beside the API and behind its doors.
//!
//! A controller declares its endpoints; the manager lists them here when the controller
//! reconciles and takes them off when it ends, so that a route is known only while
//! something serves it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::RwLock;

/// Bytes that may come piece by piece.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// What a caller must be allowed to do, in the words of RBAC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `get`, `create`.
    pub verb: &'static str,
    /// The API group.
    pub group: &'static str,
    /// The version of the group.
    pub version: &'static str,
    /// The resource, in the plural.
    pub resource: &'static str,
    /// The sub-resource.
    pub subresource: &'static str,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// An endpoint of a controller.
#[async_trait]
pub trait Endpoint: Send + Sync + 'static {
    /// Its name: the second segment of the path.
    fn name(&self) -> &'static str;

    /// What a caller must be allowed to do to reach `rest`, the path behind the name.
    fn access(&self, rest: &str) -> Access;

    /// Answers. The caller is known and allowed. A request to upgrade carries hyper's
    /// `OnUpgrade` among its extensions.
    async fn serve(&self, rest: &str, request: Request<Body>) -> Response<Body>;
}

/// The endpoints that are served now; clones are the same list.
#[derive(Clone, Default)]
pub struct Passthroughs(Arc<RwLock<ByController>>);

type ByController = BTreeMap<&'static str, Vec<Arc<dyn Endpoint>>>;

impl fmt::Debug for Passthroughs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.names()).finish()
    }
}

impl Passthroughs {
    /// The endpoint and the rest of `/passthrough/<controller>/<endpoint>/…`.
    #[must_use]
    pub fn find<'path>(&self, path: &'path str) -> Option<(Arc<dyn Endpoint>, &'path str)> {
        let path = path.strip_prefix("/passthrough/")?;
        let (controller, path) = path.split_once('/')?;
        let (name, rest) = path.split_once('/').unwrap_or((path, ""));
        let all = self.0.read();
        let endpoint = all
            .get(controller)?
            .iter()
            .find(|endpoint| endpoint.name() == name)?;
        Some((Arc::clone(endpoint), rest))
    }

    /// The names of endpoints by controller, sorted.
    #[must_use]
    pub fn names(&self) -> BTreeMap<String, Vec<String>> {
        let all = self.0.read();
        all.iter()
            .map(|(controller, endpoints)| {
                let names = endpoints.iter().map(|endpoint| endpoint.name().to_owned());
                let mut names: Vec<String> = names.collect();
                names.sort();
                ((*controller).to_owned(), names)
            })
            .collect()
    }

    pub(crate) fn add(&self, controller: &'static str, endpoints: Vec<Arc<dyn Endpoint>>) {
        if !endpoints.is_empty() {
            self.0.write().insert(controller, endpoints);
        }
    }

    pub(crate) fn remove(&self, controller: &'static str) {
        self.0.write().remove(controller);
    }
}

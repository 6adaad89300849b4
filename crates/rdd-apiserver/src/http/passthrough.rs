//! Paths that others serve behind this server's doors.

use futures::future::BoxFuture;
use http::Response;
use http::request::Parts;

use crate::http::body::Body;
use crate::http::request_info::ResourceRequest;

/// Where those paths begin.
pub(crate) const PREFIX: &str = "/passthrough/";

/// Serves paths below `/passthrough/`. The server authenticates the caller, asks what the
/// path stands for, and authorises that, before anything is passed on.
pub trait Passthrough: Send + Sync + 'static {
    /// Who decides whether a caller may reach a path. `None` when nobody serves the path.
    fn guard(&self, path: &str) -> Option<Guard>;

    /// Answers. What [`Guard::Delegated`] stands for has the caller's [`Identity`](crate::Identity) among
    /// its extensions. A request to upgrade carries hyper's `OnUpgrade` among its extensions.
    fn serve(&self, parts: Parts, body: Body) -> BoxFuture<'static, Response<Body>>;
}

/// Who decides whether a caller may reach a path.
#[derive(Debug)]
pub enum Guard {
    /// This server: as if it were a request for this resource, with this verb.
    Resource(Box<ResourceRequest>, &'static str),
    /// Whoever serves it, once the caller is known. Nobody is passed on without a name.
    Delegated,
}

/// No such paths at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPassthrough;

impl Passthrough for NoPassthrough {
    fn guard(&self, _: &str) -> Option<Guard> {
        None
    }

    fn serve(&self, _: Parts, _: Body) -> BoxFuture<'static, Response<Body>> {
        let mut answer = Response::new(crate::http::body::empty());
        *answer.status_mut() = http::StatusCode::NOT_FOUND;
        Box::pin(std::future::ready(answer))
    }
}

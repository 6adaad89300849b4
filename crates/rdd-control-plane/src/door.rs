//! The way from the API server to the endpoints of controllers.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use parking_lot::RwLock;
use rdd_apiserver::Identity;
use rdd_apiserver::http::body::Body;
use rdd_apiserver::http::passthrough::{Guard, Passthrough};
use rdd_apiserver::http::request_info::ResourceRequest;
use rdd_apiserver::http::serve::Peer;
use rdd_manager::{Discovery, EMBEDDED, Passthroughs, Proxy};

const UNKNOWN: &str = "no manager serves this\n";

/// Endpoints of this process and of programs beside it, and the web pages that may open
/// them.
///
/// A browser sends its user's credentials with requests of any page, and a WebSocket is
/// not bound by the rules that protect other requests: so the page's origin is asked for.
/// Programs send none.
///
/// What this process serves, the server authorises itself. What a program beside it
/// serves, that program does: it alone knows which object a path stands for.
pub(crate) struct Door {
    passthroughs: Passthroughs,
    allowed_origins: Vec<String>,
    outside: Option<Proxy>,
    discovery: RwLock<Option<Discovery>>,
}

impl Door {
    pub(crate) fn new(
        passthroughs: Passthroughs,
        allowed_origins: Vec<String>,
        outside: Option<Proxy>,
    ) -> Self {
        Self {
            passthroughs,
            allowed_origins,
            outside,
            discovery: RwLock::new(None),
        }
    }

    /// Where the managers of programs beside this one are listed. The server, whose
    /// client this needs, is made of the door: none lets go of it.
    pub(crate) fn set_discovery(&self, discovery: Option<Discovery>) {
        *self.discovery.write() = discovery;
    }

    fn is_welcome(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let own = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let is_own = own.is_some_and(|host| origin.strip_prefix("https://") == Some(host));
        is_own || self.allowed_origins.iter().any(|allowed| allowed == origin)
    }
}

impl Passthrough for Door {
    fn guard(&self, path: &str) -> Option<Guard> {
        let Some((endpoint, rest)) = self.passthroughs.find(path) else {
            let outside = self.outside.is_some() && Named::of(path).is_some();
            return outside.then_some(Guard::Delegated);
        };
        let access = endpoint.access(rest);
        let request = ResourceRequest {
            method: Method::GET,
            verb: None,
            group: access.group.to_owned(),
            version: access.version.to_owned(),
            namespace: access.namespace,
            plural: access.resource.to_owned(),
            subresource: access.subresource.to_owned(),
            name: access.name,
            too_deep: false,
        };
        Some(Guard::Resource(Box::new(request), access.verb))
    }

    fn serve(&self, parts: Parts, body: Body) -> BoxFuture<'static, Response<Body>> {
        if !self.is_welcome(&parts.headers) {
            let text = "this origin is not allowed; allow it with --allow-origin\n";
            return Box::pin(std::future::ready(plain(StatusCode::FORBIDDEN, text)));
        }
        let request = Request::from_parts(parts, body);
        let path = request.uri().path().to_owned();
        let Some(caller) = request.extensions().get::<Arc<Identity>>().cloned() else {
            let Some((endpoint, rest)) = self.passthroughs.find(&path) else {
                // It ended since it was asked about.
                let answer = plain(StatusCode::SERVICE_UNAVAILABLE, "handler not ready\n");
                return Box::pin(std::future::ready(answer));
            };
            let rest = rest.to_owned();
            return Box::pin(async move { endpoint.serve(&rest, request).await });
        };
        let (outside, discovery) = (self.outside.clone(), self.discovery.read().clone());
        Box::pin(async move {
            let (Some(outside), Some(discovery)) = (outside, discovery) else {
                return plain(StatusCode::NOT_FOUND, UNKNOWN);
            };
            pass_on(&outside, &discovery, &path, &caller, request).await
        })
    }
}

/// Passes a request on to the manager that lists its endpoint, if that one lives.
async fn pass_on(
    outside: &Proxy,
    discovery: &Discovery,
    path: &str,
    caller: &Identity,
    request: Request<Body>,
) -> Response<Body> {
    let Some(named) = Named::of(path) else {
        return plain(StatusCode::NOT_FOUND, UNKNOWN);
    };
    let entries = match discovery.entries().await {
        Ok(entries) => entries.unwrap_or_default(),
        Err(error) => {
            tracing::error!(%error, "the managers of endpoints are not known");
            let text = "the managers of endpoints are not known\n";
            return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
    };
    let listed = entries.into_iter().find_map(|(key, entry)| {
        let names = entry.enabled_passthroughs.get(named.controller);
        // Those of this process were looked through before.
        let found = key != EMBEDDED
            && names.is_some_and(|names| names.iter().any(|name| name == named.endpoint));
        found.then_some(entry)
    });
    let Some(entry) = listed else {
        return plain(StatusCode::NOT_FOUND, UNKNOWN);
    };
    if !entry.is_alive().await {
        let text = "the manager that serves this does not answer\n";
        return plain(StatusCode::NOT_FOUND, text);
    }
    let from = request
        .extensions()
        .get::<Arc<Peer>>()
        .map(|peer| peer.address);
    let path = format!("/{}/{}/{}", named.controller, named.endpoint, named.rest);
    outside
        .forward(&entry, &path, &caller.user_info(), from, request)
        .await
}

/// The parts of `/passthrough/<controller>/<endpoint>/…`; the last slash may be missing.
struct Named<'path> {
    controller: &'path str,
    endpoint: &'path str,
    rest: &'path str,
}

impl<'path> Named<'path> {
    fn of(path: &'path str) -> Option<Self> {
        let (controller, path) = path.strip_prefix("/passthrough/")?.split_once('/')?;
        let (endpoint, rest) = path.split_once('/').unwrap_or((path, ""));
        let named = !controller.is_empty() && !endpoint.is_empty();
        named.then_some(Self {
            controller,
            endpoint,
            rest,
        })
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_are_not_welcome_unless_they_are_named() {
        let door = Door::new(Passthroughs::default(), vec!["app://.".to_owned()], None);
        for (origin, wanted) in [
            (None, true),
            (Some("https://127.0.0.1:6443"), true),
            (Some("app://."), true),
            (Some("https://evil.example"), false),
            (Some("http://127.0.0.1:6443"), false),
            (Some("https://127.0.0.1:6443.evil.example"), false),
            (Some("null"), false),
            (Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:6443".parse().expect("a host"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("a header"));
            }
            assert_eq!(door.is_welcome(&headers), wanted, "{origin:?}");
        }
    }
}

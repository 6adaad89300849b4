//! The way from the API server to the endpoints of controllers.

use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use rdd_apiserver::http::body::Body;
use rdd_apiserver::http::passthrough::Passthrough;
use rdd_apiserver::http::request_info::ResourceRequest;
use rdd_manager::Passthroughs;

/// Endpoints, and the web pages that may open them.
///
/// A browser sends its user's credentials with requests of any page, and a WebSocket is
/// not bound by the rules that protect other requests: so the page's origin is asked for.
/// Programs send none.
pub(crate) struct Door {
    passthroughs: Passthroughs,
    allowed_origins: Vec<String>,
}

impl Door {
    pub(crate) fn new(passthroughs: Passthroughs, allowed_origins: Vec<String>) -> Self {
        Self {
            passthroughs,
            allowed_origins,
        }
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
    fn guard(&self, path: &str) -> Option<(ResourceRequest, &'static str)> {
        let (endpoint, rest) = self.passthroughs.find(path)?;
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
        Some((request, access.verb))
    }

    fn serve(&self, parts: Parts, body: Body) -> BoxFuture<'static, Response<Body>> {
        if !self.is_welcome(&parts.headers) {
            let text = "this origin is not allowed; allow it with --allow-origin\n";
            return Box::pin(std::future::ready(plain(StatusCode::FORBIDDEN, text)));
        }
        let found = self.passthroughs.find(parts.uri.path());
        let Some((endpoint, rest)) = found else {
            // It ended since it was asked about.
            let text = "handler not ready\n";
            return Box::pin(std::future::ready(plain(
                StatusCode::SERVICE_UNAVAILABLE,
                text,
            )));
        };
        let rest = rest.to_owned();
        Box::pin(async move {
            endpoint
                .serve(&rest, Request::from_parts(parts, body))
                .await
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
        let door = Door::new(Passthroughs::default(), vec!["app://.".to_owned()]);
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

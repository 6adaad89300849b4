//! May they? The seam for authorizers, and the one that is always asked first.

use async_trait::async_trait;

use crate::{
    auth::authenticate::{AUTHENTICATED, Identity, MASTERS},
    http::request_info::{RequestInfo, ResourceRequest},
    status::{ApiError, Denied},
};

/// What is to be done, by whom.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// The caller.
    pub identity: &'a Identity,
    /// What they ask for.
    pub request: &'a RequestInfo,
    /// The verb to judge, where it is not the request's own (the create of an upsert).
    pub verb: &'a str,
    /// The name that a field selector fixes on a list or watch.
    pub selected_name: Option<&'a str>,
}

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allow,
    /// Not by me, and why; the reason may be empty.
    Deny(String),
}

/// Decides whether a request may go ahead.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Judges one request.
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// Lets `system:masters` do everything, every known user find out what there is,
/// and everybody ask for health and version. The authorizer of a server without
/// role bindings.
#[derive(Clone, Copy, Debug, Default)]
pub struct MastersOnly;

/// Paths that tell whether the server is well, and nothing else.
const PUBLIC: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];

/// Where clients learn what is served.
const DISCOVERY: &[&str] = &["/api", "/apis", "/openapi"];

#[async_trait]
impl Authorizer for MastersOnly {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let identity = attributes.identity;
        if identity.is_in(MASTERS) {
            return Decision::Allow;
        }
        let RequestInfo::Path { path, .. } = attributes.request else {
            return Decision::Deny(String::new());
        };
        if attributes.verb != "get" {
            return Decision::Deny(String::new());
        }
        let below = |root: &str| {
            path == root
                || path
                    .strip_prefix(root)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        let public = PUBLIC.contains(&path.as_str());
        let discovery = identity.is_in(AUTHENTICATED) && DISCOVERY.iter().any(|root| below(root));
        if public || discovery {
            Decision::Allow
        } else {
            Decision::Deny(String::new())
        }
    }
}

/// The 403 for what was asked.
#[must_use]
pub fn denial(attributes: &Attributes<'_>, reason: &str) -> ApiError {
    let user = &attributes.identity.name;
    match attributes.request {
        RequestInfo::Path { path, .. } => ApiError::denied_path(user, attributes.verb, path),
        RequestInfo::Resource(request) => {
            let ResourceRequest {
                group,
                namespace,
                plural,
                subresource,
                name,
                ..
            } = request;
            let name = attributes.selected_name.unwrap_or(name);
            ApiError::denied(&Denied {
                user,
                verb: attributes.verb,
                group,
                plural,
                subresource,
                namespace,
                name,
                reason,
            })
        }
    }
}

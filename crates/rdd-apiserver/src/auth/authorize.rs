//! May they? The seam for authorizers, and the one that is always asked first.

use async_trait::async_trait;

use crate::{
    auth::{
        authenticate::{AUTHENTICATED, Identity, MASTERS, UNAUTHENTICATED},
        rbac::rules::Rule,
    },
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
    /// Go ahead, and by whose word; may be empty.
    Allow(String),
    /// Not by me, and why; the reason may be empty.
    Deny(String),
}

/// Decides whether a request may go ahead.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Judges one request.
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// What somebody may do in a namespace, as far as rules can say.
    async fn rights(&self, identity: &Identity, namespace: &str) -> Rights;

    /// The rules of a role, which must not be given to others by who lacks them.
    async fn role(&self, namespace: &str, kind: &str, name: &str) -> Option<Vec<Rule>>;
}

/// The rules that somebody holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Of all roles bound to them.
    pub rules: Vec<Rule>,
    /// Why there may be more.
    pub problems: Vec<String>,
}

impl<'a> Attributes<'a> {
    /// The namespace that bindings must lie in to count.
    #[must_use]
    pub fn namespace(&self) -> &'a str {
        match self.request {
            RequestInfo::Path { .. } => "",
            RequestInfo::Resource(request) => &request.namespace,
        }
    }
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
            return Decision::Allow(String::new());
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
        // Reviews ask about users of no group at all, who get no further than any role goes.
        let known = identity.is_in(AUTHENTICATED);
        let anybody = known || identity.is_in(UNAUTHENTICATED);
        let public = anybody && PUBLIC.contains(&path.as_str());
        let discovery = known && DISCOVERY.iter().any(|root| below(root));
        if public || discovery {
            Decision::Allow(String::new())
        } else {
            Decision::Deny(String::new())
        }
    }

    async fn rights(&self, _: &Identity, _: &str) -> Rights {
        Self::RIGHTS
    }

    async fn role(&self, _: &str, _: &str, _: &str) -> Option<Vec<Rule>> {
        None
    }
}

impl MastersOnly {
    /// Rules that nobody wrote.
    const RIGHTS: Rights = Rights {
        rules: Vec::new(),
        problems: Vec::new(),
    };
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

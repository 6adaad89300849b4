//! Who did what and when: one line of JSON per request, as an `audit.k8s.io/v1` Event of
//! level `Metadata`.
//!
//! ```text
//! request ─▶ Trail (what is learned on the way) ─▶ line ─▶ bounded queue ─▶ writer thread ─▶ file
//! watch:    ResponseStarted when its head goes out, ResponseComplete at its end
//! ```
//!
//! Bodies are never recorded, nor are messages of refusals, which quote from them; what
//! looks like a credential in a query is cut. A slow or full disk holds up no request:
//! what does not fit into the queue, or cannot be written, is lost, counted, and told in
//! the log once a minute.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Uri, header, request::Parts};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    auth::{Decision, Identity},
    http::request_info::{RequestInfo, decode_percent},
};

mod log;

pub use log::{AuditLog, AuditOptions};

/// Bytes of a request's URI that are recorded, and of a user agent.
const URI_MAX: usize = 4096;
const AGENT_MAX: usize = 1024;

/// Addresses that proxies claim, at most.
const ADDRESSES_MAX: usize = 16;

/// What stands for a value that is nobody's business.
const CUT: &str = "REDACTED";

/// Words in the name of a query parameter whose value is cut.
const SECRET_WORDS: &[&str] = &["token", "password", "secret", "authorization", "api_key"];

/// What admission and the verbs add to a request's record.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    annotations: Mutex<BTreeMap<String, String>>,
    name: Mutex<String>,
}

impl Notes {
    /// Adds an annotation; the first one of a name stays.
    pub(crate) fn annotate(&self, key: String, value: String) {
        self.annotations.lock().entry(key).or_insert(value);
    }

    /// The name of an object whose URL does not tell it.
    pub(crate) fn name(&self, name: &str) {
        name.clone_into(&mut self.name.lock());
    }
}

/// What is known of a request so far.
pub(crate) struct Trail {
    log: AuditLog,
    id: String,
    received: Timestamp,
    uri: String,
    agent: String,
    addresses: Vec<IpAddr>,
    user: Option<Arc<Identity>>,
    impersonated: Option<Arc<Identity>>,
    verb: String,
    object: Option<ObjectRef>,
    refusal: Option<String>,
    notes: Arc<Notes>,
}

/// Where a request is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Stage {
    /// The head of the answer is sent; more follows over time.
    ResponseStarted,
    /// Nothing follows.
    ResponseComplete,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    audit_id: &'a str,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: &'a str,
    verb: &'a str,
    user: rdd_admission::UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<rdd_admission::UserInfo>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "<[IpAddr]>::is_empty")]
    source_ips: &'a [IpAddr],
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectRef>,
    response_status: ResponseStatus<'a>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct ResponseStatus<'a> {
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    code: u16,
}

impl Trail {
    /// The trail of a request that came from `peer`, or from this process.
    pub(crate) fn begin(log: &AuditLog, id: &str, request: &Parts, peer: Option<IpAddr>) -> Self {
        let agent = text(&request.headers, &header::USER_AGENT);
        Self {
            log: log.clone(),
            id: cut_to(id, 64).to_owned(),
            received: Timestamp::now(),
            uri: public_uri(&request.uri),
            agent: cut_to(agent, AGENT_MAX).to_owned(),
            addresses: addresses(&request.headers, peer),
            user: None,
            impersonated: None,
            verb: String::new(),
            object: None,
            refusal: None,
            notes: Arc::default(),
        }
    }

    pub(crate) fn notes(&self) -> &Arc<Notes> {
        &self.notes
    }

    pub(crate) fn asked(&mut self, info: &RequestInfo) {
        let request = match info {
            RequestInfo::Path { verb, .. } => {
                self.verb.clone_from(verb);
                return;
            }
            RequestInfo::Resource(request) => request,
        };
        self.verb = request.verb.map_or_else(
            || request.method.as_str().to_ascii_lowercase(),
            |verb| verb.as_str().to_owned(),
        );
        self.object = Some(ObjectRef {
            resource: request.plural.clone(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            api_group: request.group.clone(),
            api_version: request.version.clone(),
            subresource: request.subresource.clone(),
        });
    }

    /// Who asks, and as whom.
    pub(crate) fn identified(&mut self, user: &Arc<Identity>, acting_as: &Arc<Identity>) {
        self.user = Some(Arc::clone(user));
        self.impersonated = (!Arc::ptr_eq(user, acting_as)).then(|| Arc::clone(acting_as));
    }

    pub(crate) fn decided(&self, decision: &Decision) {
        let (word, reason) = match decision {
            Decision::Allow(reason) => ("allow", reason),
            Decision::Deny(reason) => ("forbid", reason),
        };
        let annotate = |key: &str, value: &str| {
            let key = format!("authorization.k8s.io/{key}");
            self.notes.annotate(key, value.to_owned());
        };
        annotate("decision", word);
        annotate("reason", reason);
    }

    /// The reason of a refusal, without its message.
    pub(crate) fn refused(&mut self, reason: &str) {
        self.refusal = Some(reason.to_owned());
    }

    /// Writes the record of a stage.
    pub(crate) fn reached(&self, stage: Stage, code: u16) {
        let mut object_ref = self.object.clone();
        if let Some(object) = &mut object_ref
            && object.name.is_empty()
        {
            object.name.clone_from(&self.notes.name.lock());
        }
        let annotations = self.notes.annotations.lock();
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: "Metadata",
            audit_id: &self.id,
            stage,
            request_uri: &self.uri,
            verb: &self.verb,
            user: self
                .user
                .as_ref()
                .map(|user| user.user_info())
                .unwrap_or_default(),
            impersonated_user: self.impersonated.as_ref().map(|user| user.user_info()),
            source_ips: &self.addresses,
            user_agent: &self.agent,
            object_ref,
            response_status: ResponseStatus {
                metadata: BTreeMap::new(),
                status: (code >= 400).then_some("Failure"),
                reason: self.refusal.as_deref().filter(|reason| !reason.is_empty()),
                code,
            },
            request_received_timestamp: format!("{:.6}", self.received),
            stage_timestamp: format!("{:.6}", Timestamp::now()),
            annotations: &annotations,
        };
        if let Ok(mut line) = serde_json::to_vec(&event) {
            line.push(b'\n');
            self.log.write(line);
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Those that proxies claim first, then the peer itself, as kube-apiserver orders them.
fn addresses(headers: &HeaderMap, peer: Option<IpAddr>) -> Vec<IpAddr> {
    let forwarded = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|address| address.trim().parse().ok())
        .take(ADDRESSES_MAX);
    let mut addresses: Vec<IpAddr> = forwarded.collect();
    if let Some(peer) = peer.filter(|peer| addresses.last() != Some(peer)) {
        addresses.push(peer);
    }
    addresses
}

/// Path and query, without what looks like a credential. The environment of a command
/// counts as such.
fn public_uri(uri: &Uri) -> String {
    let mut out = uri.path().to_owned();
    if let Some(query) = uri.query() {
        let of_command = uri.path().starts_with("/passthrough/");
        for (index, pair) in query.split('&').enumerate() {
            out.push(if index == 0 { '?' } else { '&' });
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode_percent(key).to_ascii_lowercase();
            let secret = SECRET_WORDS.iter().any(|word| name.contains(word))
                || (of_command && name == "env");
            if secret && !value.is_empty() {
                out.push_str(key);
                out.push('=');
                out.push_str(CUT);
            } else {
                out.push_str(pair);
            }
        }
    }
    cut_to(&out, URI_MAX).to_owned()
}

fn cut_to(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_query_are_cut() {
        let check = |uri: &str, expect: &str| {
            let uri: Uri = uri.parse().expect("a URI");
            assert_eq!(public_uri(&uri), expect);
        };
        check("/a?watch=1&limit=5", "/a?watch=1&limit=5");
        check("/a?access_token=abc&b", "/a?access_token=REDACTED&b");
        check("/a?%74oken=abc", "/a?%74oken=REDACTED");
        check("/a?token", "/a?token");
        check(
            "/passthrough/engine/exec/1?cmd=ls&env=KEY%3Dvalue",
            "/passthrough/engine/exec/1?cmd=ls&env=REDACTED",
        );
        let long = format!("/{}", "x".repeat(URI_MAX));
        let uri: Uri = long.parse().expect("a URI");
        assert_eq!(public_uri(&uri).len(), URI_MAX);
    }

    #[test]
    fn addresses_are_those_of_proxies_and_of_the_peer() {
        let mut headers = HeaderMap::new();
        headers.append(
            "x-forwarded-for",
            "1.2.3.4, nonsense".parse().expect("fits"),
        );
        headers.append("x-forwarded-for", "::2".parse().expect("fits"));
        let peer: IpAddr = "127.0.0.1".parse().expect("an address");
        let expect: Vec<IpAddr> = ["1.2.3.4", "::2", "127.0.0.1"]
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect();
        assert_eq!(addresses(&headers, Some(peer)), expect);
        assert!(addresses(&HeaderMap::new(), None).is_empty());
    }
}

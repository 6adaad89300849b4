//! `authorizer` in expressions: what they ask is answered by the server's authorizer.

use std::collections::BTreeMap;

use http::Method;
use parking_lot::Mutex;
use rdd_admission::AdmissionRequest;
use rdd_cel::{Authority, Check, Ruling};

use crate::{
    auth::{Attributes, Decision, Identity},
    http::request_info::{RequestInfo, ResourceRequest},
    verbs::call::Call,
};

/// The answers that are known. An expression that asks something else ends; it is begun
/// anew once [`Checks::answer`] has asked the authorizer.
#[derive(Debug, Default)]
pub(super) struct Checks {
    known: BTreeMap<Check, Ruling>,
    asked: Mutex<Vec<Check>>,
}

impl Authority for Checks {
    fn rule(&self, check: &Check) -> Option<Ruling> {
        let known = self.known.get(check).cloned();
        if known.is_none() {
            self.asked.lock().push(check.clone());
        }
        known
    }
}

impl Checks {
    /// Asks what was not known; the answer is whether there was anything to ask.
    pub(super) async fn answer(&mut self, call: &Call) -> bool {
        let asked = std::mem::take(self.asked.get_mut());
        let is_open = !asked.is_empty();
        for check in asked {
            let ruling = judge(call, &check).await;
            self.known.insert(check, ruling);
        }
        is_open
    }
}

/// Everything about the object of a write but the verb.
pub(super) fn of_request(request: &AdmissionRequest) -> Check {
    Check {
        group: request.resource.group.clone(),
        resource: request.resource.resource.clone(),
        subresource: request.sub_resource.clone(),
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        ..Check::default()
    }
}

async fn judge(call: &Call, check: &Check) -> Ruling {
    let account = check.account.as_ref().map(|(namespace, name)| {
        Identity::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            "",
            vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
            ],
        )
    });
    let request = match &check.path {
        Some(path) => RequestInfo::Path {
            verb: check.verb.clone(),
            path: path.clone(),
        },
        None => RequestInfo::Resource(ResourceRequest {
            method: Method::GET,
            verb: None,
            group: check.group.clone(),
            version: "*".to_owned(),
            namespace: check.namespace.clone(),
            plural: check.resource.clone(),
            subresource: check.subresource.clone(),
            name: check.name.clone(),
            too_deep: false,
        }),
    };
    // Rules know no selectors: a narrower question has the same answer.
    let attributes = Attributes {
        identity: account.as_ref().unwrap_or(&call.identity),
        request: &request,
        verb: &check.verb,
        selected_name: None,
    };
    let (allowed, reason) = match call.server.authorizer().authorize(&attributes).await {
        Decision::Allow(reason) => (true, reason),
        Decision::Deny(reason) => (false, reason),
    };
    Ruling {
        allowed,
        reason,
        error: String::new(),
    }
}

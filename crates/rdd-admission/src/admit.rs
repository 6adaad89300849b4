//! The rule, what it is asked, and what it answers.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the client does to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// The object does not exist yet.
    Create,
    /// The object exists.
    Update,
    /// The object is to go.
    Delete,
}

/// The half of the write in which a rule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// May change the object.
    Mutating,
    /// Sees the final object, may only deny or warn.
    Validating,
}

/// A kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupVersionKind {
    /// Empty for core.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `ConfigMap`.
    pub kind: String,
}

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupVersionResource {
    /// Empty for core.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `configmaps`.
    pub resource: String,
}

/// Who asks, as admission sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// The user name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The user's uid, if it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whatever else authentication learned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// One write, put before a rule. The `request` of an `AdmissionReview` in
/// `admission.k8s.io/v1` has exactly this form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionRequest {
    /// Names this question, not the object.
    pub uid: String,
    /// The object's kind.
    pub kind: GroupVersionKind,
    /// The resource written to.
    pub resource: GroupVersionResource,
    /// `status`, …; empty for the main resource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sub_resource: String,
    /// The kind as the client named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_kind: Option<GroupVersionKind>,
    /// The resource as the client named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_resource: Option<GroupVersionResource>,
    /// Empty while the server has yet to generate it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Empty for cluster-scoped resources.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// What is being done.
    pub operation: Operation,
    /// Who does it.
    pub user_info: UserInfo,
    /// The new object; null on DELETE.
    #[serde(default)]
    pub object: Value,
    /// The object before; null on CREATE.
    #[serde(default)]
    pub old_object: Value,
    /// Nothing will be stored.
    #[serde(default)]
    pub dry_run: bool,
    /// `CreateOptions`, … as the client gave them.
    #[serde(default)]
    pub options: Value,
}

/// What a rule that allows has to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admitted {
    /// The object as the rule wants it; `None` leaves it alone. Validating rules never set it.
    pub object: Option<Value>,
    /// Sent to the client as Warning headers.
    pub warnings: Vec<String>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Denial {
    /// The webhook that the rule stands for; empty for a rule of the server itself,
    /// which then words the whole message.
    pub webhook: String,
    /// The HTTP status, 400 or above.
    pub code: u16,
    /// The Status reason; may be empty.
    pub reason: String,
    /// Why. Empty means without explanation.
    pub message: String,
}

impl Denial {
    /// A 403 in the name of this webhook.
    pub fn forbidden(webhook: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            webhook: webhook.into(),
            code: 403,
            reason: "Forbidden".to_owned(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Denial {
    /// The text that a client sees: kube-apiserver's, for a webhook's refusal.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            webhook,
            reason,
            message,
            ..
        } = self;
        if webhook.is_empty() {
            return formatter.write_str(message);
        }
        write!(
            formatter,
            "admission webhook \"{webhook}\" denied the request"
        )?;
        match (message.is_empty(), reason.is_empty()) {
            (false, _) => write!(formatter, ": {message}"),
            (true, false) => write!(formatter, ": {reason}"),
            (true, true) => formatter.write_str(" without explanation"),
        }
    }
}

/// Which writes a rule wants to see. Cheap: it is asked on every write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches {
    /// The API group; `*` for every one.
    pub group: String,
    /// The plural; `*` for every one.
    pub resource: String,
    /// The subresource; empty for the main resource.
    pub subresource: String,
    /// What is being done.
    pub operations: Vec<Operation>,
}

impl Matches {
    /// Writes of these operations to this resource itself.
    pub fn resource(
        group: impl Into<String>,
        resource: impl Into<String>,
        operations: impl Into<Vec<Operation>>,
    ) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
            subresource: String::new(),
            operations: operations.into(),
        }
    }

    /// Whether this write is one of them.
    #[must_use]
    pub fn covers(
        &self,
        resource: &GroupVersionResource,
        subresource: &str,
        operation: Operation,
    ) -> bool {
        (self.group == "*" || self.group == resource.group)
            && (self.resource == "*" || self.resource == resource.resource)
            && self.subresource == subresource
            && self.operations.contains(&operation)
    }
}

/// How a rule is listed where clients look for webhooks, and served as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The name of its ValidatingWebhookConfiguration or MutatingWebhookConfiguration.
    pub configuration: &'static str,
    /// The version of the resource that it reads.
    pub version: &'static str,
    /// The kind of the resource, in lower case.
    pub kind: &'static str,
}

/// What stands around a rule: how it is called, when it runs and what it sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    name: &'static str,
    phase: Phase,
    matches: Vec<Matches>,
    listing: Option<Listing>,
}

impl Frame {
    /// Of a rule that may only deny or warn. The name is that of a webhook, with at least
    /// three dot-separated parts; it is listed in configurations and refusals.
    #[must_use]
    pub fn validating(name: &'static str, matches: impl Into<Vec<Matches>>) -> Self {
        Self::new(name, Phase::Validating, matches)
    }

    /// Of a rule that may change the object.
    #[must_use]
    pub fn mutating(name: &'static str, matches: impl Into<Vec<Matches>>) -> Self {
        Self::new(name, Phase::Mutating, matches)
    }

    /// Of a rule that runs in this half of the write.
    #[must_use]
    pub fn new(name: &'static str, phase: Phase, matches: impl Into<Vec<Matches>>) -> Self {
        Self {
            name,
            phase,
            matches: matches.into(),
            listing: None,
        }
    }

    /// Of a rule that is listed and served as a webhook of this configuration, for a kind,
    /// in lower case, of which it reads this version.
    #[must_use]
    pub fn listed(
        mut self,
        configuration: &'static str,
        version: &'static str,
        kind: &'static str,
    ) -> Self {
        self.listing = Some(Listing {
            configuration,
            version,
            kind,
        });
        self
    }
}

/// One admission rule.
#[async_trait]
pub trait Admit: Send + Sync + 'static {
    /// How the rule is called, when it runs and what it sees.
    fn frame(&self) -> &Frame;

    /// The webhook name that the rule goes by.
    fn name(&self) -> &'static str {
        self.frame().name
    }

    /// The half of the write in which the rule runs.
    fn phase(&self) -> Phase {
        self.frame().phase
    }

    /// Which writes the rule wants to see.
    fn matches(&self) -> &[Matches] {
        &self.frame().matches
    }

    /// How the rule is listed and served outside the server; `None` for one that only
    /// ever runs inside it.
    fn listing(&self) -> Option<Listing> {
        self.frame().listing
    }

    /// Judges one write. Called with requests that [`Admit::matches`] covers, possibly
    /// twice for one write and concurrently for different ones.
    ///
    /// # Errors
    /// The refusal.
    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_speaks_as_the_webhook_that_it_stands_for() {
        let check = |reason: &str, message: &str, expect: &str| {
            let denial = Denial {
                webhook: "v.example.com".to_owned(),
                code: 403,
                reason: reason.to_owned(),
                message: message.to_owned(),
            };
            assert_eq!(denial.to_string(), expect);
        };
        check(
            "Forbidden",
            "nope",
            "admission webhook \"v.example.com\" denied the request: nope",
        );
        check(
            "Gone",
            "",
            "admission webhook \"v.example.com\" denied the request: Gone",
        );
        check(
            "",
            "",
            "admission webhook \"v.example.com\" denied the request without explanation",
        );
    }

    #[test]
    fn a_request_has_the_form_of_an_admission_review() {
        let request = AdmissionRequest {
            uid: "u".to_owned(),
            kind: GroupVersionKind {
                group: String::new(),
                version: "v1".to_owned(),
                kind: "ConfigMap".to_owned(),
            },
            resource: GroupVersionResource {
                group: String::new(),
                version: "v1".to_owned(),
                resource: "configmaps".to_owned(),
            },
            sub_resource: String::new(),
            request_kind: None,
            request_resource: None,
            name: "a".to_owned(),
            namespace: "default".to_owned(),
            operation: Operation::Create,
            user_info: UserInfo {
                username: "admin".to_owned(),
                ..UserInfo::default()
            },
            object: serde_json::json!({"kind": "ConfigMap"}),
            old_object: Value::Null,
            dry_run: false,
            options: Value::Null,
        };
        let json = serde_json::to_value(&request).expect("requests serialise");
        assert_eq!(json["operation"], "CREATE");
        assert_eq!(json["userInfo"]["username"], "admin");
        assert_eq!(json["dryRun"], false);
        assert!(json.get("subResource").is_none());
        let back: AdmissionRequest = serde_json::from_value(json).expect("and parse again");
        assert_eq!(back, request);
    }
}

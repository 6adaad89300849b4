//! Role-based access control: who may do what, as Roles and their bindings say.
//!
//! The bindings are kept by subject, so that a decision looks at those of one user and
//! their groups and at no others. The index follows the store: before each decision it
//! takes in what was written since the last one, so that a binding counts from the
//! moment in which its creation is answered.
//!
//! Rejected: reading the bindings from the store for each request (linear in all of
//! them), and an index that a task keeps up to date (a decision could be too old).

pub mod bootstrap;
mod policy;
pub mod rules;

use std::sync::Arc;

use async_trait::async_trait;
use rdd_store::{ChangeKind, ChangeStream, KeyRange, ReadAt, Revision, Store};
use tokio::sync::Mutex;

use self::{
    policy::{Policy, ROLES_PREFIX},
    rules::Rule,
};
use crate::{
    auth::{
        Attributes, Authorizer, Decision, Identity,
        authenticate::MASTERS,
        authorize::{MastersOnly, Rights},
    },
    http::request_info::RequestInfo,
    object,
};

/// Decides by the roles in a store.
pub struct Rbac {
    store: Arc<dyn Store>,
    seen: Mutex<Option<Seen>>,
}

/// The policy as of a revision, and where it goes on.
struct Seen {
    policy: Policy,
    revision: Revision,
    changes: ChangeStream,
}

impl std::fmt::Debug for Rbac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rbac").finish_non_exhaustive()
    }
}

impl Rbac {
    /// An authorizer over this store; reads it when it is first asked.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            seen: Mutex::new(None),
        }
    }

    /// Does something with the policy of this moment.
    async fn with<T>(&self, work: impl FnOnce(&Policy) -> T) -> Result<T, rdd_store::Error> {
        let mut seen = self.seen.lock().await;
        loop {
            let now = self.store.revision();
            match seen.as_mut() {
                Some(seen) if seen.revision >= now => return Ok(work(&seen.policy)),
                Some(present) => match present.changes.next().await {
                    Some(Ok(batch)) => {
                        for change in batch {
                            present.revision = change.revision;
                            match &change.kind {
                                ChangeKind::Put { entry, .. } => {
                                    let object = object::parse_entry(entry).ok();
                                    present.policy.observe(change.key.as_str(), object.as_ref());
                                }
                                ChangeKind::Delete { .. } => {
                                    present.policy.observe(change.key.as_str(), None);
                                }
                            }
                        }
                    }
                    // Fallen behind what is kept: begin again.
                    Some(Err(_)) => *seen = None,
                    None => return Err(rdd_store::Error::Closed),
                },
                None => *seen = Some(self.read().await?),
            }
        }
    }

    async fn read(&self) -> Result<Seen, rdd_store::Error> {
        let range = KeyRange::prefix(ROLES_PREFIX);
        let page = self.store.list(&range, ReadAt::Latest, None).await?;
        let mut policy = Policy::default();
        for entry in &page.entries {
            let object = object::parse_entry(entry).ok();
            policy.observe(entry.key.as_str(), object.as_ref());
        }
        Ok(Seen {
            policy,
            revision: page.revision,
            changes: self.store.changes(page.revision)?,
        })
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.identity.is_in(MASTERS) {
            return Decision::Allow(String::new());
        }
        let judged = self.with(|policy| policy.judge(attributes)).await;
        let decision = judged.unwrap_or_else(|error| Decision::Deny(format!("RBAC: {error}")));
        // What everybody may know does not hang on roles that somebody may have deleted.
        match (&decision, attributes.request) {
            (Decision::Deny(_), RequestInfo::Path { .. }) => {
                match MastersOnly.authorize(attributes).await {
                    Decision::Allow(reason) => Decision::Allow(reason),
                    Decision::Deny(_) => decision,
                }
            }
            _ => decision,
        }
    }

    async fn rights(&self, identity: &Identity, namespace: &str) -> Rights {
        let held = self.with(|policy| policy.rules_of(identity, namespace));
        match held.await {
            Ok(rights) => rights,
            Err(error) => Rights {
                rules: Vec::new(),
                problems: vec![error.to_string()],
            },
        }
    }

    async fn role(&self, namespace: &str, kind: &str, name: &str) -> Option<Vec<Rule>> {
        let found = self.with(|policy| policy.role(namespace, kind, name));
        found.await.ok().flatten().map(|rules| rules.to_vec())
    }
}

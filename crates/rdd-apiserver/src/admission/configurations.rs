//! Every webhook configuration that is in force, parsed once.
//!
//! Writes are heard of twice: from the task that made them, before they are answered,
//! and in order from the store's changes, which also carry the writes of other
//! processes. Revisions tell what is news.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rdd_store::{ChangeKind, KeyRange, ReadAt, Revision, Store};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{
    expressions::{self, Conditions},
    frame::{Binding, InForce, Policy},
    matching::{Criteria, items},
    mutations::Mutating,
    policies::Validating,
};
use crate::{
    object,
    outbound::{Endpoint, Services},
    status::{ApiError, ApiResult},
};

/// Where webhook configurations and policies are kept.
const KEYS: &str = "/registry/admissionregistration.k8s.io/";
const MUTATING: &str = "mutatingwebhookconfigurations";
const VALIDATING: &str = "validatingwebhookconfigurations";
const POLICIES: &str = "validatingadmissionpolicies";
const BINDINGS: &str = "validatingadmissionpolicybindings";
const MUTATIONS: &str = "mutatingadmissionpolicies";
const MUTATION_BINDINGS: &str = "mutatingadmissionpolicybindings";

/// How long to wait before the store is read again after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// What is in force at one moment.
#[derive(Default)]
pub(crate) struct Snapshot {
    /// By configuration and place in it.
    pub(super) mutating: Vec<Arc<Webhook>>,
    /// By configuration and place in it.
    pub(super) validating: Vec<Arc<Webhook>>,
    /// By name; those that no binding names are left out.
    pub(super) policies: Vec<InForce<Validating>>,
    /// By name; those that no binding names are left out.
    pub(super) mutations: Vec<InForce<Mutating>>,
}

/// One webhook of one configuration.
pub(super) struct Webhook {
    /// Its configuration and place, which tell it from others of the same name.
    pub(super) id: String,
    /// As messages name it.
    pub(super) name: String,
    pub(super) criteria: Criteria,
    pub(super) conditions: Conditions,
    /// That it cannot be asked is a refusal.
    pub(super) fails_closed: bool,
    /// It may be asked in a dry run.
    pub(super) dry_runs: bool,
    /// It is asked again when others changed the object after it.
    pub(super) reinvoked: bool,
    pub(super) timeout: Duration,
    /// The version of AdmissionReview that it prefers among those that we speak.
    pub(super) review_version: &'static str,
    pub(super) endpoint: Arc<Endpoint>,
}

/// The index.
pub(crate) struct Configurations {
    services: Services,
    state: Mutex<State>,
    snapshot: RwLock<Arc<Snapshot>>,
    loaded: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// By key; what is gone is remembered until the change stream has told of it.
    objects: BTreeMap<String, (Revision, Option<Value>)>,
    /// How far the change stream has told.
    told: Revision,
    policies: Compiled<Validating>,
    mutations: Compiled<Mutating>,
    /// Connections outlive changes that do not concern them.
    endpoints: HashMap<String, Arc<Endpoint>>,
}

/// Policies that are compiled once, by key and revision.
type Compiled<P> = HashMap<(String, Revision), Arc<P>>;

impl Configurations {
    pub(super) fn new(services: Services) -> Self {
        Self {
            services,
            state: Mutex::default(),
            snapshot: RwLock::default(),
            loaded: watch::Sender::new(false),
        }
    }

    /// What is in force, once the store has been read.
    pub(super) async fn current(&self, deadline: Instant) -> ApiResult<Arc<Snapshot>> {
        if !*self.loaded.borrow() {
            let mut loaded = self.loaded.subscribe();
            // The sender lives as long as this does.
            let _ = tokio::time::timeout_at(deadline, loaded.wait_for(|loaded| *loaded))
                .await
                .map_err(|_| ApiError::deadline())?;
        }
        Ok(Arc::clone(&self.snapshot.read()))
    }

    /// Takes note of a write by this process: `object` is absent when it is gone.
    pub(super) fn observe(&self, key: &str, object: Option<&Value>, revision: Revision) {
        let mut state = self.state.lock();
        let known = state.objects.get(key).map(|(revision, _)| *revision);
        if revision <= state.told || known.is_some_and(|known| revision <= known) {
            return;
        }
        state
            .objects
            .insert(key.to_owned(), (revision, object.cloned()));
        self.publish(&mut state);
    }

    /// Follows the store until it closes.
    pub(crate) async fn follow(&self, store: Arc<dyn Store>) {
        loop {
            let range = KeyRange::prefix(KEYS);
            let page = match store.list(&range, ReadAt::Latest, None).await {
                Ok(page) => page,
                Err(rdd_store::Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "webhook configurations could not be read");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            {
                let mut state = self.state.lock();
                let newer =
                    |(revision, _): &mut (Revision, Option<Value>)| *revision > page.revision;
                state.objects.retain(|_, known| newer(known));
                for entry in &page.entries {
                    let key = entry.key.as_str().to_owned();
                    if let Ok(object) = object::parse_entry(entry) {
                        let read = (entry.revision, Some(object));
                        state.objects.entry(key).or_insert(read);
                    }
                }
                state.told = page.revision;
                self.publish(&mut state);
            }
            self.loaded.send_replace(true);
            let Ok(mut changes) = store.changes(page.revision) else {
                continue;
            };
            loop {
                match changes.next().await {
                    None => return,
                    Some(Ok(batch)) => self.tell(&batch),
                    Some(Err(_)) => break,
                }
            }
        }
    }

    fn tell(&self, batch: &[Arc<rdd_store::Change>]) {
        let mut state = self.state.lock();
        let mut news = false;
        for change in batch {
            state.told = change.revision;
            let key = change.key.as_str();
            if !key.starts_with(KEYS) {
                continue;
            }
            let known = state.objects.get(key).map(|(revision, _)| *revision);
            if known.is_some_and(|known| known > change.revision) {
                continue;
            }
            match &change.kind {
                ChangeKind::Put { entry, .. } => {
                    if known == Some(change.revision) {
                        continue;
                    }
                    if let Ok(object) = object::parse_entry(entry) {
                        let put = (change.revision, Some(object));
                        state.objects.insert(key.to_owned(), put);
                        news = true;
                    }
                }
                ChangeKind::Delete { .. } => {
                    let known = state.objects.remove(key);
                    news |= known.is_some_and(|(_, object)| object.is_some());
                }
            }
        }
        if news {
            self.publish(&mut state);
        }
    }

    /// Parses everything again: configurations are few, and change rarely.
    fn publish(&self, state: &mut State) {
        let mut endpoints = HashMap::new();
        let mut webhooks = |plural: &str| -> Vec<Arc<Webhook>> {
            state
                .objects(plural)
                .map(|(key, _, object)| (key, object))
                .flat_map(|(key, object)| {
                    items(object, "webhooks")
                        .enumerate()
                        .map(move |(index, webhook)| (format!("{key}/{index}"), webhook))
                })
                .map(|(id, webhook)| {
                    let config = &webhook["clientConfig"];
                    let text = config.to_string();
                    let endpoint = match state.endpoints.get(&text) {
                        Some(endpoint) => Arc::clone(endpoint),
                        None => Arc::new(Endpoint::new(config, &self.services)),
                    };
                    endpoints.insert(text, Arc::clone(&endpoint));
                    Arc::new(Webhook::read(id, webhook, endpoint))
                })
                .collect()
        };
        let (mutating, validating) = (webhooks(MUTATING), webhooks(VALIDATING));
        let known = std::mem::take(&mut state.policies);
        let (policies, compiled) = state.in_force(POLICIES, BINDINGS, &known);
        state.policies = compiled;
        let known = std::mem::take(&mut state.mutations);
        let (mutations, compiled) = state.in_force(MUTATIONS, MUTATION_BINDINGS, &known);
        state.mutations = compiled;
        let snapshot = Snapshot {
            mutating,
            validating,
            policies,
            mutations,
        };
        state.endpoints = endpoints;
        *self.snapshot.write() = Arc::new(snapshot);
    }
}

impl State {
    fn objects(&self, plural: &str) -> impl Iterator<Item = (&String, Revision, &Value)> {
        let prefix = format!("{KEYS}{plural}/");
        self.objects
            .range(prefix.clone()..)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .filter_map(|(key, (revision, object))| Some((key, *revision, object.as_ref()?)))
    }

    /// The policies that bindings name, and all of them compiled.
    fn in_force<P: Policy>(
        &self,
        policies: &str,
        bound: &str,
        known: &Compiled<P>,
    ) -> (Vec<InForce<P>>, Compiled<P>) {
        let mut bindings: HashMap<String, Vec<Arc<Binding>>> = HashMap::new();
        for (_, _, object) in self.objects(bound) {
            let binding = Binding::read(object);
            let of_policy = bindings.entry(binding.policy.clone()).or_default();
            of_policy.push(Arc::new(binding));
        }
        let mut compiled = HashMap::new();
        let mut in_force = Vec::new();
        for (key, revision, object) in self.objects(policies) {
            let id = (key.clone(), revision);
            let policy = match known.get(&id) {
                Some(policy) => Arc::clone(policy),
                None => Arc::new(P::read(object)),
            };
            if let Some(bindings) = bindings.remove(&policy.frame().name) {
                let policy = Arc::clone(&policy);
                in_force.push(InForce { policy, bindings });
            }
            compiled.insert(id, policy);
        }
        (in_force, compiled)
    }
}

impl Webhook {
    fn read(id: String, webhook: &Value, endpoint: Arc<Endpoint>) -> Self {
        let text = |field: &str| webhook[field].as_str().unwrap_or_default();
        let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(10);
        let review_version = items(webhook, "admissionReviewVersions")
            .filter_map(Value::as_str)
            .find_map(|version| match version {
                "v1" => Some("v1"),
                "v1beta1" => Some("v1beta1"),
                _ => None,
            });
        Self {
            id,
            name: text("name").to_owned(),
            criteria: Criteria::read(webhook, "rules"),
            conditions: Conditions::read(&expressions::of_webhooks(), webhook),
            fails_closed: text("failurePolicy") != "Ignore",
            dry_runs: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            timeout: Duration::from_secs(seconds.clamp(1, 30)),
            review_version: review_version.unwrap_or("v1"),
            endpoint,
        }
    }
}

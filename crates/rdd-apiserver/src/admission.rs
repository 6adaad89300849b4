//! Who judges a write: the rules of this process, and the policies and webhooks that
//! clients configured.
//!
//! ```text
//! Call::admit ─▶ mutating:   rules ─▶ policies ─▶ webhooks, each by name ─▶ again, for those
//!            │               that others changed after
//!            └─▶ validating: rules ─▶ policies ─▶ webhooks side by side; the first refusal
//!                            in order wins
//!
//! write of a configuration ─▶ Configurations::observe ─▶ snapshot ◀─ store.changes
//! ```
//!
//! [`configurations`] knows every configuration and swaps a snapshot before the write
//! of one is answered; a request reads the snapshot and lists nothing. [`matching`]
//! decides who is asked, [`review`] what is asked and what the answer means,
//! [`webhooks`] in which order. [`crate::outbound`] is the way there.

use std::sync::Arc;

use parking_lot::RwLock;
use rdd_admission::{
    AdmissionChain, AdmissionRequest, GroupVersionKind, GroupVersionResource, Operation, Phase,
};
use rdd_store::Revision;
use serde_json::Value;

use configurations::Webhook;
use frame::{InForce, Policy as _};
use mutations::Mutating;

use crate::{
    catalog::{Resource, Subresource, WriteContext},
    object,
    outbound::Services,
    status::{ApiError, ApiResult},
    verbs::{call::Call, decode, review::is_review, scale},
};

mod authority;
mod configurations;
pub(crate) mod expressions;
mod frame;
mod matching;
mod mutations;
mod policies;
mod review;
mod type_checks;
mod webhooks;

pub(crate) use matching::LabelSelector;

pub(crate) use configurations::Configurations;
pub(crate) use type_checks::warnings as type_warnings;

/// What has no say about itself: configurations and policies are judged by no webhook, and
/// policies by no policy, so that a bad one can always be removed.
const EXEMPT_GROUP: &str = "admissionregistration.k8s.io";

/// The resources of that group that no policy judges.
const POLICIES: [&str; 4] = [
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];

/// Everything that judges writes.
pub(crate) struct Admission {
    rules: RwLock<Arc<AdmissionChain>>,
    pub(crate) configurations: Configurations,
}

impl Admission {
    pub(crate) fn new(rules: AdmissionChain, services: Services) -> Self {
        Self {
            rules: RwLock::new(Arc::new(rules)),
            configurations: Configurations::new(services),
        }
    }

    pub(crate) fn set_rules(&self, rules: AdmissionChain) {
        *self.rules.write() = Arc::new(rules);
    }

    fn rules(&self) -> Arc<AdmissionChain> {
        Arc::clone(&self.rules.read())
    }
}

/// One write that is being judged.
struct Question<'a> {
    call: &'a Call,
    request: AdmissionRequest,
    warnings: Vec<String>,
}

impl Question<'_> {
    fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        for warning in warnings {
            // A header has one line, and says something.
            let fits = !warning.is_empty() && !warning.contains(char::is_control);
            if fits && !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// Lets the rules of this process see the object as it is now.
    async fn ask_rules(&mut self, rules: &AdmissionChain, phase: Phase) -> ApiResult<()> {
        let Self { request, .. } = self;
        if !rules.wants(
            phase,
            &request.resource,
            &request.sub_resource,
            request.operation,
        ) {
            return Ok(());
        }
        let judged = match phase {
            Phase::Mutating => rules.mutate(request).await,
            Phase::Validating => rules.validate(request).await,
        };
        let warnings = judged.map_err(|denial| ApiError::admission_denied(&denial))?;
        self.warn(warnings);
        Ok(())
    }
}

/// The options of a write as webhooks and policies see them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// Nothing will be stored.
    pub(crate) dry_run: bool,
    /// `CreateOptions` and the like, as the client gave them.
    pub(crate) document: Value,
}

impl Given {
    /// The options of this operation, whatever the request is: an update that creates has
    /// CreateOptions, a patch those of what it comes to.
    fn document(&self, operation: Operation) -> Value {
        let mut document = self.document.clone();
        let kind = match operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => return document,
        };
        if let Some(members) = document.as_object_mut() {
            members.insert("kind".to_owned(), kind.into());
            members.remove("force");
        }
        document
    }
}

/// Lets rules, policies and webhooks change the object, each seeing what those before made of
/// it. Who wants to know is asked a second time when others changed it afterwards.
async fn mutate(
    question: &mut Question<'_>,
    rules: &AdmissionChain,
    policies: &[InForce<Mutating>],
    hooks: &[Arc<Webhook>],
) -> ApiResult<()> {
    question.ask_rules(rules, Phase::Mutating).await?;
    let mut of_policies = mutations::Reinvocation::default();
    let mut of_hooks = webhooks::Reinvocation::default();
    let mutated = mutations::mutate(question, policies, &mut of_policies).await?;
    let hooked = webhooks::mutate(question, hooks, &mut of_hooks).await?;
    if !mutated && !hooked {
        return Ok(());
    }
    question.ask_rules(rules, Phase::Mutating).await?;
    mutations::mutate(question, policies, &mut of_policies).await?;
    webhooks::mutate_again(question, hooks, &mut of_hooks).await
}

impl Call {
    /// Runs one phase of admission. The object may come back changed from the mutating one.
    pub(crate) async fn admit(
        &mut self,
        phase: Phase,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
        given: &Given,
    ) -> ApiResult<()> {
        let server = Arc::clone(&self.server);
        let admission = &server.admission;
        let rules = admission.rules();
        let configured = admission.configurations.current(self.deadline).await?;
        let resource = &self.resource;
        let sub_resource = self.subresource.map_or("", Subresource::as_str);
        let asked = GroupVersionResource {
            group: resource.group.clone(),
            version: resource.version.clone(),
            resource: resource.plural.clone(),
        };
        let is_exempt = resource.group == EXEMPT_GROUP;
        let webhooks = match phase {
            _ if is_exempt => &[],
            Phase::Mutating => configured.mutating.as_slice(),
            Phase::Validating => configured.validating.as_slice(),
        };
        // The reviews of authentication and authorization are for webhooks alone.
        let no_policies =
            is_review(resource) || is_exempt && POLICIES.contains(&resource.plural.as_str());
        let (mutations, policies) = match phase {
            _ if no_policies => (&[][..], &[][..]),
            Phase::Mutating => (configured.mutations.as_slice(), &[][..]),
            Phase::Validating => (&[][..], configured.policies.as_slice()),
        };
        let about =
            |criteria: &matching::Criteria| criteria.may_mean(resource, sub_resource, operation);
        let exempt = !(webhooks.iter().any(|webhook| about(&webhook.criteria))
            || policies
                .iter()
                .any(|one| about(&one.policy.frame().criteria))
            || mutations
                .iter()
                .any(|one| about(&one.policy.frame().criteria)));
        if exempt && !rules.wants(phase, &asked, sub_resource, operation) {
            return Ok(());
        }
        let unnamed = phase == Phase::Mutating && self.name_generated;
        let name = match operation {
            Operation::Create if unnamed => {
                object::metadata_mut(object).and_then(|metadata| metadata.remove("name"))
            }
            _ => None,
        };
        let mut question = Question {
            call: self,
            request: self.request(operation, asked, object, old, given)?,
            warnings: Vec::new(),
        };
        let before = question.request.object.clone();
        let asked = async {
            match phase {
                Phase::Mutating if exempt => question.ask_rules(&rules, phase).await,
                Phase::Mutating => mutate(&mut question, &rules, mutations, webhooks).await,
                Phase::Validating => {
                    question.ask_rules(&rules, phase).await?;
                    if exempt {
                        return Ok(());
                    }
                    policies::judge(&mut question, policies).await?;
                    webhooks::validate(&mut question, webhooks).await
                }
            }
        };
        let judged = asked.await;
        let Question {
            request, warnings, ..
        } = question;
        // Who refuses may warn as well.
        self.warn(warnings);
        judged?;
        if phase == Phase::Mutating {
            self.take(object, &before, request.object, operation)?;
            self.check_managed_fields(object, &before);
        }
        if let (Some(name), Some(metadata)) = (name, object::metadata_mut(object)) {
            metadata.insert("name".to_owned(), name);
        }
        Ok(())
    }

    /// The write as rules, webhooks and policies see it.
    fn request(
        &self,
        operation: Operation,
        resource: GroupVersionResource,
        object: &Value,
        old: Option<&Value>,
        given: &Given,
    ) -> ApiResult<AdmissionRequest> {
        let seen = |object: &Value| match self.subresource {
            Some(Subresource::Scale) if !object.is_null() => scale::view(&self.resource, object),
            _ => Ok(object.clone()),
        };
        let kind = match self.subresource {
            Some(Subresource::Scale) => kind("autoscaling", "v1", "Scale"),
            Some(Subresource::Token) => kind("authentication.k8s.io", "v1", "TokenRequest"),
            _ => kind_of(&self.resource),
        };
        let name = match operation {
            Operation::Create if self.subresource.is_none() => object::meta(object, "name"),
            // Empty for a collection, whose objects are not named in the request.
            _ => self.name(),
        };
        // A Namespace is in itself, as far as requests go.
        let namespace = match self.namespace() {
            Some(namespace) => namespace,
            None if is_namespace(&resource) && !self.name_generated => name,
            None => "",
        };
        let mut options = given.document(operation);
        if operation == Operation::Delete
            && is_namespace(&resource)
            && let Some(old) = old
            && options["preconditions"]["uid"].is_null()
        {
            // What is deleted in several steps must be the same in all of them.
            options["preconditions"]["uid"] = object::meta(old, "uid").into();
        }
        Ok(AdmissionRequest {
            uid: uuid::Uuid::new_v4().to_string(),
            request_kind: Some(kind.clone()),
            request_resource: Some(resource.clone()),
            kind,
            resource,
            sub_resource: self.subresource.map_or("", Subresource::as_str).to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            operation,
            user_info: self.identity.user_info(),
            object: seen(object)?,
            old_object: old.map(seen).transpose()?.unwrap_or_default(),
            dry_run: given.dry_run,
            options,
        })
    }

    /// Takes over what mutating admission made of the object.
    fn take(
        &self,
        object: &mut Value,
        before: &Value,
        after: Value,
        operation: Operation,
    ) -> ApiResult<()> {
        if *before == after {
            return Ok(());
        }
        if self.subresource == Some(Subresource::Scale) {
            return scale::set_replicas(&self.resource, object, &after);
        }
        let mut after = after;
        let changed = |field: &str, after: &Value| {
            let (asked, made) = (object::meta(before, field), object::meta(after, field));
            (!asked.is_empty() && asked != made).then(|| (asked.to_owned(), made.to_owned()))
        };
        if let Some((namespace, made)) = changed("namespace", &after) {
            if !made.is_empty() {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on \
                     the request",
                ));
            }
            if let Some(metadata) = object::metadata_mut(&mut after) {
                metadata.insert("namespace".to_owned(), namespace.into());
            }
        }
        // The name of a new object may be chosen here, unless the URL says it; that of one
        // that exists is told to be immutable.
        if operation == Operation::Create
            && !self.name().is_empty()
            && let Some((name, made)) = changed("name", &after)
        {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({made}) does not match the name on the URL ({name})"
            )));
        }
        *object = after;
        Ok(())
    }
}

impl Call {
    /// Managed fields that nobody can read are put back as they were.
    fn check_managed_fields(&mut self, object: &mut Value, before: &Value) {
        let pointer = "/metadata/managedFields";
        let given = before.pointer(pointer);
        let Some(made) = object.pointer(pointer).filter(|made| given != Some(*made)) else {
            return;
        };
        let problem = rdd_apply::managed_fields::read(made).err();
        let is_empty = made.as_array().is_some_and(Vec::is_empty);
        let Some(metadata) = object::metadata_mut(object) else {
            return;
        };
        if let Some(problem) = problem {
            match given {
                Some(given) => metadata.insert("managedFields".to_owned(), given.clone()),
                None => metadata.remove("managedFields"),
            };
            self.warn([format!(
                ".metadata.managedFields was in an invalid state after admission; this could be \
                 caused by an outdated mutating admission controller; please fix your requests: \
                 {problem}"
            )]);
        } else if is_empty {
            metadata.remove("managedFields");
        }
    }
}

/// Whether these are the Namespaces themselves.
fn is_namespace(resource: &GroupVersionResource) -> bool {
    resource.group.is_empty() && resource.resource == "namespaces"
}

fn kind(group: &str, version: &str, kind: &str) -> GroupVersionKind {
    GroupVersionKind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
    }
}

fn kind_of(resource: &Resource) -> GroupVersionKind {
    kind(&resource.group, &resource.version, &resource.kind)
}

/// An object stays of its type, whoever changed it. The types of built-in resources are known
/// where they are left out.
fn keep_type(
    own: Option<&Resource>,
    who: &str,
    before: &Value,
    after: &mut Value,
) -> Result<(), String> {
    let Some(members) = after.as_object_mut() else {
        return Err("the patched object is no object".to_owned());
    };
    let is_known = own.is_some_and(|own| !own.is_custom());
    for field in ["apiVersion", "kind"] {
        if is_known && !members.contains_key(field) {
            members.insert(field.to_owned(), before[field].clone());
        }
        let given = members.get(field).unwrap_or(&Value::Null);
        if *given != before[field] {
            return Err(format!(
                "{who} must not change {field} from {} to {given}",
                before[field]
            ));
        }
    }
    Ok(())
}

/// Gives an object that a webhook changed the types and defaults of its resource.
fn settle(call: &Call, resource: &Resource, object: &mut Value) -> Result<(), String> {
    if resource.is_custom() && resource.version != call.resource.version {
        // What another version does not know is not to be lost.
        rdd_schema::default(object, &resource.schema);
        return Ok(());
    }
    decode::typed_text(resource, object)?;
    let cx = WriteContext {
        resource,
        subresource: call.subresource,
        now: call.now,
        user: &call.identity.name,
    };
    resource.strategy.default(&cx, object);
    Ok(())
}

/// Tells the index about a write that the store has acknowledged.
pub(crate) fn observe(
    admission: &Admission,
    resource: &Resource,
    name: &str,
    object: Option<&Value>,
    revision: Revision,
) {
    if resource.group == EXEMPT_GROUP {
        let key = resource.key(None, name);
        admission
            .configurations
            .observe(key.as_str(), object, revision);
    }
}

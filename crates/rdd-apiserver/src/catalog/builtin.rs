//! The resources that are compiled in, described by the same kind of schema
//! documents as custom resources.
//!
//! A document under `schemas/` says what a kind looks like; [`document`] reads it,
//! [`zero`] gives an object the form in which Go would have written it, and one
//! [`Strategy`] per kind holds the rules that no schema can express.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::catalog::{
    Catalog, Origin, Resource, Scope, SelectableField, StorageForm, Strategy, Subresource, Verb,
    api_version,
};

pub mod age;
mod api_service;
pub mod columns;
mod config_map;
mod data_keys;
pub mod document;
mod event;
mod lease;
mod mutations;
mod namespace;
mod policies;
mod rbac;
mod reviews;
mod rules;
mod secret;
mod service_account;
mod webhooks;
pub mod zero;

pub use document::Document;
pub(crate) use namespace::FINALIZER;

/// How long an Event is kept.
const EVENT_TTL: Duration = Duration::from_secs(60 * 60);

/// Every verb but `deletecollection`, which Namespaces do not have.
const NAMESPACE_VERBS: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];

/// The first part of a built-in resource: what it is called and what it looks like.
pub(crate) struct Declaration<'a> {
    /// Empty for the core group.
    pub(crate) group: &'a str,
    /// `configmaps`.
    pub(crate) plural: &'a str,
    /// `ConfigMap`.
    pub(crate) kind: &'a str,
    /// `cm`.
    pub(crate) short_names: &'a [&'a str],
    /// Whether objects live in namespaces.
    pub(crate) scope: Scope,
}

impl Declaration<'_> {
    /// A `v1` resource without peculiarities: ordinary verbs, kept with history under
    /// its own group, not created by PUT.
    pub(crate) fn resource(&self, document: Document, strategy: Arc<dyn Strategy>) -> Resource {
        let version = api_version(self.group, "v1");
        Resource {
            group: self.group.to_owned(),
            version: "v1".to_owned(),
            plural: self.plural.to_owned(),
            singular: self.kind.to_lowercase(),
            kind: self.kind.to_owned(),
            list_kind: format!("{}List", self.kind),
            short_names: self
                .short_names
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            categories: Vec::new(),
            scope: self.scope,
            verbs: Verb::ORDINARY,
            subresources: Vec::new(),
            scale: None,
            schema: document.schema,
            message: Some(document.message),
            storage: StorageForm {
                group: self.group.to_owned(),
                resource: self.plural.to_owned(),
                api_version: version.clone(),
                ttl: None,
                history: true,
            },
            served_api_versions: vec![version.clone()],
            api_versions: vec![version],
            columns: Vec::new(),
            selectable_fields: Vec::new(),
            create_on_update: false,
            unconditional_update: true,
            delete_returns_object: false,
            has_generation: false,
            deprecation: None,
            origin: Origin::Builtin,
            conversion: None,
            strategy,
            retired: CancellationToken::new(),
        }
    }
}

/// A catalog of the built-in resources. `definition` is the strategy of
/// CustomResourceDefinitions, which is the only one with a memory.
pub fn catalog(definition: impl FnOnce(Arc<zero::Form>) -> Arc<dyn Strategy>) -> Catalog {
    let mut catalog = Catalog::default();
    let registration = [api_service()];
    for resource in core()
        .into_iter()
        .chain(events())
        .chain(rbac())
        .chain(admission())
        .chain(registration)
    {
        catalog.insert(resource);
    }
    for resource in reviews() {
        catalog.insert(resource);
    }
    catalog.insert(lease());
    catalog.insert(custom_resource_definition(definition));
    catalog
}

fn core() -> Vec<Resource> {
    let namespaced = |plural, kind, short_names| Declaration {
        group: "",
        plural,
        kind,
        short_names,
        scope: Scope::Namespaced,
    };
    let document = Document::namespace();
    let strategy = Arc::new(namespace::NamespaceStrategy(Arc::clone(&document.form)));
    let namespaces = Resource {
        verbs: NAMESPACE_VERBS,
        subresources: vec![Subresource::Status, Subresource::Finalize],
        selectable_fields: selectable(&["status.phase"]),
        delete_returns_object: true,
        columns: columns::namespace(),
        ..Declaration {
            group: "",
            plural: "namespaces",
            kind: "Namespace",
            short_names: &["ns"],
            scope: Scope::Cluster,
        }
        .resource(document, strategy)
    };
    let document = Document::config_map();
    let strategy = Arc::new(config_map::ConfigMapStrategy(Arc::clone(&document.form)));
    let config_maps = Resource {
        columns: columns::config_map(),
        ..namespaced("configmaps", "ConfigMap", &["cm"]).resource(document, strategy)
    };
    let document = Document::secret();
    let strategy = Arc::new(secret::SecretStrategy(Arc::clone(&document.form)));
    let secrets = Resource {
        selectable_fields: selectable(&["type"]),
        columns: columns::secret(),
        ..namespaced("secrets", "Secret", &[]).resource(document, strategy)
    };
    let document = Document::service_account();
    let strategy = Arc::new(service_account::ServiceAccountStrategy(Arc::clone(
        &document.form,
    )));
    let service_accounts = Resource {
        subresources: vec![Subresource::Token],
        delete_returns_object: true,
        columns: columns::age_only(),
        ..namespaced("serviceaccounts", "ServiceAccount", &["sa"]).resource(document, strategy)
    };
    vec![namespaces, config_maps, secrets, service_accounts]
}

/// Events: one storage, served in the core group and, with other field names, in
/// `events.k8s.io`.
fn events() -> [Resource; 2] {
    const REFERENCE: &[&str] = &[
        "kind",
        "namespace",
        "name",
        "uid",
        "apiVersion",
        "resourceVersion",
        "fieldPath",
    ];
    let fields = |object: &str, reporter: &str| {
        let mut fields: Vec<SelectableField> = REFERENCE
            .iter()
            .map(|name| SelectableField {
                label: format!("{object}.{name}"),
                path: vec![object.to_owned(), (*name).to_owned()],
            })
            .collect();
        fields.extend(selectable(&["reason", "type"]));
        fields.push(SelectableField {
            label: reporter.to_owned(),
            path: vec![reporter.to_owned()],
        });
        fields
    };
    let storage = StorageForm {
        group: String::new(),
        resource: "events".to_owned(),
        api_version: "v1".to_owned(),
        ttl: Some(EVENT_TTL),
        history: false,
    };
    let both = vec!["v1".to_owned(), "events.k8s.io/v1".to_owned()];
    let declaration = |group| Declaration {
        group,
        plural: "events",
        kind: "Event",
        short_names: &["ev"],
        scope: Scope::Namespaced,
    };
    let document = Document::event();
    let strategy = Arc::new(event::CoreEventStrategy(Arc::clone(&document.form)));
    let mut core_fields = fields("involvedObject", "reportingComponent");
    core_fields.push(SelectableField {
        label: "source".to_owned(),
        path: vec!["source".to_owned(), "component".to_owned()],
    });
    let core = Resource {
        storage: storage.clone(),
        served_api_versions: both.clone(),
        create_on_update: true,
        selectable_fields: core_fields,
        columns: columns::event(),
        ..declaration("").resource(document, strategy)
    };
    let document = Document::events_event();
    let strategy = Arc::new(event::EventsEventStrategy(Arc::clone(&document.form)));
    let named = Resource {
        storage,
        served_api_versions: both,
        create_on_update: true,
        selectable_fields: fields("regarding", "reportingController"),
        columns: columns::event(),
        ..declaration("events.k8s.io").resource(document, strategy)
    };
    [core, named]
}

fn rbac() -> [Resource; 4] {
    let declaration = |plural, kind, scope| Declaration {
        group: "rbac.authorization.k8s.io",
        plural,
        kind,
        short_names: &[],
        scope,
    };
    let role = |plural, kind, scope, document: Document| {
        let strategy = Arc::new(rbac::RoleStrategy {
            form: Arc::clone(&document.form),
            namespaced: scope == Scope::Namespaced,
        });
        Resource {
            create_on_update: true,
            ..declaration(plural, kind, scope).resource(document, strategy)
        }
    };
    let binding = |plural, kind, scope, document: Document| {
        let strategy = Arc::new(rbac::BindingStrategy {
            form: Arc::clone(&document.form),
            namespaced: scope == Scope::Namespaced,
        });
        Resource {
            create_on_update: true,
            columns: match scope {
                Scope::Namespaced => columns::role_binding(),
                Scope::Cluster => columns::cluster_role_binding(),
            },
            ..declaration(plural, kind, scope).resource(document, strategy)
        }
    };
    [
        role("roles", "Role", Scope::Namespaced, Document::role()),
        role(
            "clusterroles",
            "ClusterRole",
            Scope::Cluster,
            Document::cluster_role(),
        ),
        binding(
            "rolebindings",
            "RoleBinding",
            Scope::Namespaced,
            Document::role_binding(),
        ),
        binding(
            "clusterrolebindings",
            "ClusterRoleBinding",
            Scope::Cluster,
            Document::cluster_role_binding(),
        ),
    ]
}

/// Who judges writes: webhooks and policies.
fn admission() -> [Resource; 6] {
    let declare = |plural, kind, document: Document, strategy, columns| Resource {
        categories: vec!["api-extensions".to_owned()],
        unconditional_update: false,
        has_generation: true,
        columns,
        ..Declaration {
            group: "admissionregistration.k8s.io",
            plural,
            kind,
            short_names: &[],
            scope: Scope::Cluster,
        }
        .resource(document, strategy)
    };
    let webhooks = |plural, kind, document: Document, mutating| {
        let form = Arc::clone(&document.form);
        let strategy = Arc::new(webhooks::WebhookStrategy { form, mutating });
        declare(plural, kind, document, strategy, columns::webhooks())
    };
    let policy = Document::validating_admission_policy();
    let rules = Arc::new(policies::PolicyStrategy(Arc::clone(&policy.form)));
    let binding = Document::validating_admission_policy_binding();
    let bound = Arc::new(policies::BindingStrategy {
        form: Arc::clone(&binding.form),
        further: policies::effect_errors,
    });
    let mutation = Document::mutating_admission_policy();
    let changes = Arc::new(mutations::MutationStrategy(Arc::clone(&mutation.form)));
    let put = Document::mutating_admission_policy_binding();
    let place = Arc::new(policies::BindingStrategy {
        form: Arc::clone(&put.form),
        further: mutations::place_errors,
    });
    [
        declare(
            "mutatingadmissionpolicies",
            "MutatingAdmissionPolicy",
            mutation,
            changes,
            columns::mutating_policy(),
        ),
        declare(
            "mutatingadmissionpolicybindings",
            "MutatingAdmissionPolicyBinding",
            put,
            place,
            columns::policy_binding(),
        ),
        webhooks(
            "mutatingwebhookconfigurations",
            "MutatingWebhookConfiguration",
            Document::mutating_webhook_configuration(),
            true,
        ),
        webhooks(
            "validatingwebhookconfigurations",
            "ValidatingWebhookConfiguration",
            Document::validating_webhook_configuration(),
            false,
        ),
        Resource {
            subresources: vec![Subresource::Status],
            ..declare(
                "validatingadmissionpolicies",
                "ValidatingAdmissionPolicy",
                policy,
                rules,
                columns::policy(),
            )
        },
        declare(
            "validatingadmissionpolicybindings",
            "ValidatingAdmissionPolicyBinding",
            binding,
            bound,
            columns::policy_binding(),
        ),
    ]
}

fn reviews() -> [Resource; 6] {
    let declare = |group, plural, kind, scope, document: Document| {
        let strategy = Arc::new(reviews::ReviewStrategy(Arc::clone(&document.form)));
        let declaration = Declaration {
            group,
            plural,
            kind,
            short_names: &[],
            scope,
        };
        Resource {
            verbs: &[Verb::Create],
            ..declaration.resource(document, strategy)
        }
    };
    let (authentication, authorization) = ("authentication.k8s.io", "authorization.k8s.io");
    [
        declare(
            authentication,
            "tokenreviews",
            "TokenReview",
            Scope::Cluster,
            Document::token_review(),
        ),
        declare(
            authentication,
            "selfsubjectreviews",
            "SelfSubjectReview",
            Scope::Cluster,
            Document::self_subject_review(),
        ),
        declare(
            authorization,
            "subjectaccessreviews",
            "SubjectAccessReview",
            Scope::Cluster,
            Document::subject_access_review(),
        ),
        declare(
            authorization,
            "selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
            Scope::Cluster,
            Document::self_subject_access_review(),
        ),
        declare(
            authorization,
            "localsubjectaccessreviews",
            "LocalSubjectAccessReview",
            Scope::Namespaced,
            Document::local_subject_access_review(),
        ),
        declare(
            authorization,
            "selfsubjectrulesreviews",
            "SelfSubjectRulesReview",
            Scope::Cluster,
            Document::self_subject_rules_review(),
        ),
    ]
}

/// What is posted to an account's `token`: nothing that is listed or kept, and typed like
/// everything else.
pub(crate) fn token_request() -> Resource {
    let document = Document::token_request();
    let strategy = Arc::new(reviews::ReviewStrategy(Arc::clone(&document.form)));
    let declaration = Declaration {
        group: "authentication.k8s.io",
        plural: "serviceaccounts",
        kind: "TokenRequest",
        short_names: &[],
        scope: Scope::Namespaced,
    };
    Resource {
        verbs: &[Verb::Create],
        ..declaration.resource(document, strategy)
    }
}

fn api_service() -> Resource {
    let document = Document::api_service();
    let strategy = Arc::new(api_service::ApiServiceStrategy(Arc::clone(&document.form)));
    Resource {
        categories: vec!["api-extensions".to_owned()],
        subresources: vec![Subresource::Status],
        unconditional_update: false,
        columns: columns::api_service(),
        ..Declaration {
            group: "apiregistration.k8s.io",
            plural: "apiservices",
            kind: "APIService",
            short_names: &[],
            scope: Scope::Cluster,
        }
        .resource(document, strategy)
    }
}

fn lease() -> Resource {
    let document = Document::lease();
    let strategy = Arc::new(lease::LeaseStrategy(Arc::clone(&document.form)));
    let resource = Declaration {
        group: "coordination.k8s.io",
        plural: "leases",
        kind: "Lease",
        short_names: &[],
        scope: Scope::Namespaced,
    }
    .resource(document, strategy);
    Resource {
        storage: StorageForm {
            history: false,
            ..resource.storage
        },
        create_on_update: true,
        unconditional_update: false,
        columns: columns::lease(),
        ..resource
    }
}

fn custom_resource_definition(
    strategy: impl FnOnce(Arc<zero::Form>) -> Arc<dyn Strategy>,
) -> Resource {
    let document = Document::custom_resource_definition();
    let strategy = strategy(Arc::clone(&document.form));
    Resource {
        short_names: vec!["crd".to_owned(), "crds".to_owned()],
        categories: vec!["api-extensions".to_owned()],
        subresources: vec![Subresource::Status],
        unconditional_update: false,
        has_generation: true,
        ..Declaration {
            group: "apiextensions.k8s.io",
            plural: "customresourcedefinitions",
            kind: "CustomResourceDefinition",
            short_names: &[],
            scope: Scope::Cluster,
        }
        .resource(document, strategy)
    }
}

fn selectable(labels: &[&str]) -> Vec<SelectableField> {
    labels
        .iter()
        .map(|label| SelectableField {
            label: (*label).to_owned(),
            path: label.split('.').map(str::to_owned).collect(),
        })
        .collect()
}

/// `metadata.labels` or `metadata.annotations`, as text.
pub(crate) fn texts(object: &serde_json::Value, field: &str) -> BTreeMap<String, String> {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(serde_json::Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

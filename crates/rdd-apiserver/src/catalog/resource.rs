//! A served resource as data: its names, endpoints, columns and stored form.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdd_schema::Schema;
use rdd_store::{History, Key, KeyRange, PutOptions, Revision};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Conversion, Strategy};
use crate::{encoding::protobuf::Message, object::Time};

/// What RBAC, admission and discovery call the things one can do to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// POST on a collection, or on a create-only subresource.
    Create,
    /// DELETE on an object.
    Delete,
    /// DELETE on a collection.
    DeleteCollection,
    /// GET on an object.
    Get,
    /// GET on a collection.
    List,
    /// PATCH on an object.
    Patch,
    /// PUT on an object.
    Update,
    /// GET on a collection with `watch=true`, or the legacy watch prefix.
    Watch,
}

impl Verb {
    /// The verbs of an ordinary resource, in the order discovery prints them.
    pub const ORDINARY: &'static [Verb] = &[
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A second endpoint below an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subresource {
    /// `/status`: get, patch, update of `status` alone.
    Status,
    /// `/scale`: the object seen as `autoscaling/v1` Scale.
    Scale,
    /// `/finalize`: update of a Namespace's `spec.finalizers`.
    Finalize,
    /// `/token`: create of a token of a ServiceAccount.
    Token,
}

impl Subresource {
    /// The path segment.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Finalize => "finalize",
            Self::Token => "token",
        }
    }

    /// The subresource of this path segment.
    #[must_use]
    pub fn parse(segment: &str) -> Option<Self> {
        [Self::Status, Self::Scale, Self::Finalize, Self::Token]
            .into_iter()
            .find(|subresource| subresource.as_str() == segment)
    }
}

/// Group, version and plural: what a URL names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    /// Empty for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `configmaps`.
    pub plural: String,
}

/// Whether objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// Beside the namespaces.
    Cluster,
}

/// Where a resource comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Compiled in.
    Builtin,
    /// Declared by a CustomResourceDefinition.
    Custom(CustomOrigin),
}

/// The CustomResourceDefinition behind a custom resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomOrigin {
    /// `widgets.example.com`.
    pub crd_name: String,
    /// Its uid: a definition that is deleted and made again is another one.
    pub crd_uid: String,
    /// The definition's revision from which this schema holds. Objects written
    /// before it are pruned and defaulted again when they are read.
    pub revision: Revision,
    /// It is being deleted: creates are refused.
    pub terminating: Terminating,
}

/// Whether a definition is being deleted. The flag is shared by every snapshot's
/// [`Resource`], since raising it must not retire the resource: watches have to see
/// the objects go.
#[derive(Clone, Debug, Default)]
pub struct Terminating(Arc<AtomicBool>);

impl Terminating {
    /// Whether the flag is up.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Raises the flag. It is never lowered: a deletion cannot be taken back.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl PartialEq for Terminating {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Terminating {}

/// Where and in which form a resource's objects are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageForm {
    /// Group part of the key; empty for core. Two resources that name the same
    /// group and resource here share their objects (core and `events.k8s.io` events).
    pub group: String,
    /// Resource part of the key.
    pub resource: String,
    /// `apiVersion` of what is written.
    pub api_version: String,
    /// Stop keeping an object this long after its last write.
    pub ttl: Option<Duration>,
    /// Whether superseded values stay in the store's log.
    pub history: bool,
}

impl StorageForm {
    /// What every key of the resource begins with: `/registry/<group>/<resource>/`,
    /// without the group for core.
    #[must_use]
    pub fn prefix(&self) -> String {
        let Self {
            group, resource, ..
        } = self;
        if group.is_empty() {
            format!("/registry/{resource}/")
        } else {
            format!("/registry/{group}/{resource}/")
        }
    }

    /// How the store keeps a value.
    #[must_use]
    pub fn put_options(&self) -> PutOptions {
        let history = if self.history {
            History::Keep
        } else {
            History::Drop
        };
        PutOptions {
            ttl: self.ttl,
            history,
        }
    }
}

/// The paths behind `/scale`, as field names from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// `.spec.replicas` or the like.
    pub spec_replicas: Vec<String>,
    /// `.status.replicas` or the like.
    pub status_replicas: Vec<String>,
    /// The string that holds the serialised label selector.
    pub label_selector: Option<Vec<String>>,
}

/// A field that `fieldSelector` may name besides `metadata.name` and `metadata.namespace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// As the client writes it: `spec.colour`, `involvedObject.name`.
    pub label: String,
    /// The field names from the root.
    pub path: Vec<String>,
}

/// One column of a Table.
#[derive(Clone)]
pub struct PrinterColumn {
    /// `Age`.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub r#type: String,
    /// `name` for the first column, else mostly empty.
    pub format: String,
    /// Shown by `kubectl explain`-like tools.
    pub description: String,
    /// Columns above 0 are shown with `-o wide` only.
    pub priority: i64,
    /// Where the cells come from.
    pub cell: Cell,
}

/// The source of a Table cell.
#[derive(Clone)]
pub enum Cell {
    /// What a JSONPath in kubectl's dialect finds.
    Path(rdd_jsonpath::Template),
    /// A function of the object and of now.
    Computed(fn(&Value, Time) -> Value),
}

/// One resource in one served version.
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `configmaps`.
    pub plural: String,
    /// `configmap`.
    pub singular: String,
    /// `ConfigMap`.
    pub kind: String,
    /// `ConfigMapList`.
    pub list_kind: String,
    /// `cm`.
    pub short_names: Vec<String>,
    /// `all` and the like.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub scope: Scope,
    /// What may be done to the resource itself.
    pub verbs: &'static [Verb],
    /// The enabled subresources.
    pub subresources: Vec<Subresource>,
    /// Present exactly when [`Subresource::Scale`] is.
    pub scale: Option<ScalePaths>,
    /// What an object of this version looks like.
    pub schema: Arc<Schema>,
    /// How bodies in protobuf are read; custom resources take none.
    pub message: Option<Arc<Message>>,
    /// Where objects are kept.
    pub storage: StorageForm,
    /// Every `apiVersion` in which the same objects are served, this one included.
    pub served_api_versions: Vec<String>,
    /// Every `apiVersion` that there is, served or not: managed-field entries of others
    /// are dropped.
    pub api_versions: Vec<String>,
    /// Table columns after `Name`; empty means `Name` and `Created At` (built-ins).
    pub columns: Vec<PrinterColumn>,
    /// Fields for field selectors.
    pub selectable_fields: Vec<SelectableField>,
    /// PUT and apply on a missing object create it. (Apply always does.)
    pub create_on_update: bool,
    /// PUT without resourceVersion is taken.
    pub unconditional_update: bool,
    /// DELETE answers with the object instead of a Status.
    pub delete_returns_object: bool,
    /// `metadata.generation` is the server's: 1 on create, and [`Strategy`] says when it grows.
    pub has_generation: bool,
    /// Sent as a Warning header on every answer of a deprecated version.
    pub deprecation: Option<String>,
    /// Where the resource comes from.
    pub origin: Origin,
    /// The webhook between its versions, where they differ in more than their name.
    pub conversion: Option<Arc<Conversion>>,
    /// What is particular to the type.
    pub strategy: Arc<dyn Strategy>,
    /// Cancelled when a snapshot no longer carries this very resource.
    pub retired: CancellationToken,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({} {})", self.api_version(), self.plural)
    }
}

impl Resource {
    /// `v1`, `example.com/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// `configmaps`, `widgets.example.com`: how messages name the resource.
    #[must_use]
    pub fn qualified(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    /// `ConfigMap`, `Widget.example.com`: how messages name the kind.
    #[must_use]
    pub fn qualified_kind(&self) -> String {
        qualified(&self.kind, &self.group)
    }

    /// The Go package of the type, where messages show it: `core`, `coordination`.
    #[must_use]
    pub fn family(&self) -> &str {
        match self.group.split('.').next() {
            None | Some("") => "core",
            Some(family) => family,
        }
    }

    /// Whether it has fields of its own to be selected by.
    #[must_use]
    pub fn selects_fields(&self) -> bool {
        !self.selectable_fields.is_empty()
    }

    /// Whether objects live in namespaces.
    #[must_use]
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether a CustomResourceDefinition declares it.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        matches!(self.origin, Origin::Custom(_))
    }

    /// Whether this subresource is enabled.
    #[must_use]
    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }

    /// The storage key of an object. `namespace` is ignored for cluster-scoped resources.
    #[must_use]
    pub fn key(&self, namespace: Option<&str>, name: &str) -> Key {
        let namespace = namespace.filter(|_| self.is_namespaced());
        let mut key = self.storage.prefix();
        if let Some(namespace) = namespace {
            key.push_str(namespace);
            key.push('/');
        }
        key.push_str(name);
        Key::new(key)
    }

    /// The keys of a collection: one namespace's, or everything.
    #[must_use]
    pub fn range(&self, namespace: Option<&str>) -> KeyRange {
        let namespace = namespace.filter(|_| self.is_namespaced());
        let mut prefix = self.storage.prefix();
        if let Some(namespace) = namespace {
            prefix.push_str(namespace);
            prefix.push('/');
        }
        KeyRange::prefix(prefix)
    }

    /// The revision before which stored objects may not fit the schema.
    #[must_use]
    pub fn schema_revision(&self) -> Revision {
        match &self.origin {
            Origin::Builtin => Revision::default(),
            Origin::Custom(custom) => custom.revision,
        }
    }
}

/// `v1` for the core group, else `group/version`.
#[must_use]
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

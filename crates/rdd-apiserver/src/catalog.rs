//! Which resources are served, and how: the seam between the verbs and the types.
//!
//! A [`Catalog`] is an immutable snapshot. [`CatalogHandle`] swaps it: built-in
//! resources are put in once, those of a CustomResourceDefinition come and go.
//! A request takes the snapshot once and keeps it, so that it sees one schema
//! from its first byte to its last. A [`Resource`] that a new snapshot does not
//! carry over is *retired*: its watches end, and nobody else's.
//!
//! Everything that differs between types and is not data lives behind
//! [`Strategy`]: pure functions over JSON.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::RwLock;
use rdd_schema::{FieldError, Schema};
use rdd_store::{History, Key, KeyRange, PutOptions, Revision};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use crate::conversion::Conversion;
use crate::{encoding::protobuf::Message, object::Time};

pub mod builtin;
mod client_config;
pub mod crd;

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

/// What a [`Strategy`] may know about the write.
#[derive(Clone, Copy)]
pub struct WriteContext<'a> {
    /// The resource written to.
    pub resource: &'a Resource,
    /// The endpoint, if not the main one.
    pub subresource: Option<Subresource>,
    /// The moment that stands for the whole request.
    pub now: Time,
    /// The caller's user name.
    pub user: &'a str,
}

/// What is particular to a type: pure functions over the object's JSON in the
/// request's version. The pipeline around them does what all types share:
/// pruning and schema defaults, `metadata` (uid, times, generation 1, immutable
/// fields) and its validation, managed fields, admission.
///
/// Order on create: `default` → admission → `prepare_create` →
/// metadata validation → `validate_create`.
/// On update: `default` → admission → `prepare_update` → metadata validation →
/// `validate_update`.
pub trait Strategy: Send + Sync + 'static {
    /// Reads what the schema leaves open: answers the paths of unknown fields.
    ///
    /// # Errors
    /// What Go's decoder says about a value of a wrong type.
    fn decode_open(&self, _object: &Value) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    /// The paths in an applied configuration that the type does not have, where the schema
    /// is open.
    fn undeclared(&self, _config: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Fills defaults that the schema cannot express, after every decode.
    fn default(&self, _cx: &WriteContext<'_>, _object: &mut Value) {}

    /// Resets what a client may not set on create (the status, …).
    fn prepare_create(&self, _cx: &WriteContext<'_>, _object: &mut Value) {}

    /// Completes a new object that was found valid, now that its name is known.
    fn canonicalize(&self, _object: &mut Value) {}

    /// Resets what this endpoint may not change, and moves `metadata.generation`.
    fn prepare_update(&self, _cx: &WriteContext<'_>, _object: &mut Value, _old: &Value) {}

    /// The errors of a new object beyond metadata and schema.
    fn validate_create(&self, _cx: &WriteContext<'_>, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// The errors of a changed object beyond metadata and schema.
    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        _object: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        Vec::new()
    }

    /// As [`Strategy::validate_update`]; also what is wrong but was before, which is told
    /// even of a write that is refused.
    fn judge_update(
        &self,
        cx: &WriteContext<'_>,
        object: &Value,
        old: &Value,
    ) -> (Vec<FieldError>, Vec<String>) {
        (self.validate_update(cx, object, old), Vec::new())
    }

    /// What to warn about; `old` is absent on create.
    fn warnings(
        &self,
        _cx: &WriteContext<'_>,
        _object: &Value,
        _old: Option<&Value>,
    ) -> Vec<String> {
        Vec::new()
    }

    /// Why a name (or, with `prefix`, a generateName) is not acceptable; one text per reason.
    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        let _ = prefix;
        rdd_schema::names::dns1123_subdomain(name)
    }

    /// Turns the request's form into the stored one, where more than `apiVersion` differs.
    fn to_storage(&self, _object: &mut Value) {}

    /// The reverse of [`Strategy::to_storage`].
    #[expect(
        clippy::wrong_self_convention,
        reason = "the strategy converts the object, not itself"
    )]
    fn from_storage(&self, _object: &mut Value) {}

    /// Whether stored bytes of the storage version may go out as they are.
    /// A strategy with a form of its own in `from_storage` says no.
    fn serves_stored_form(&self) -> bool {
        true
    }

    /// What Go prints for an object of the type in which nothing is set (a Lease's `spec`);
    /// empty for custom resources. Bookmarks look like it, and managed fields start from it.
    fn blank(&self) -> Value {
        Value::Object(serde_json::Map::new())
    }

    /// Changes an object just before its deletion begins (a Namespace turns
    /// Terminating). Called with the deletion timestamp already set.
    fn prepare_delete(&self, _cx: &WriteContext<'_>, _object: &mut Value) {}

    /// Why an object may not be deleted (`default` Namespace); the 403 text after `is forbidden: `.
    fn refuses_delete(&self, _name: &str) -> Option<String> {
        None
    }

    /// Whether a deletion of the object takes no heed of its propagation policy.
    fn ignores_policy(&self, _object: &Value) -> bool {
        false
    }

    /// Whether an object that is being deleted and has no `metadata.finalizers`
    /// must still stay (a Namespace with `spec.finalizers`).
    fn holds(&self, _object: &Value) -> bool {
        false
    }

    /// The fields that a manager at this endpoint never owns, as paths from the root.
    fn reset_fields(
        &self,
        resource: &Resource,
        subresource: Option<Subresource>,
    ) -> Vec<Vec<String>> {
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match subresource {
            None if resource.has(Subresource::Status) => vec![path(&["status"])],
            Some(Subresource::Status) if resource.is_custom() => {
                vec![path(&["metadata"]), path(&["spec"])]
            }
            Some(Subresource::Status) => vec![path(&["spec"])],
            _ => Vec::new(),
        }
    }

    /// The value of a selectable field; absent fields read as the empty string.
    fn field_value(&self, field: &SelectableField, object: &Value) -> String {
        let mut at = object;
        for name in &field.path {
            match at.get(name) {
                Some(next) => at = next,
                None => return String::new(),
            }
        }
        match at {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => at.to_string(),
            _ => String::new(),
        }
    }

    /// Called after a write was acknowledged by the store and before it is answered,
    /// in the request's task; `object` is absent when the object is gone.
    /// Calls for one object may come out of order: compare revisions.
    fn committed(&self, _name: &str, _object: Option<&Value>, _revision: Revision) {}

    /// What the answer to a create waits for after [`Strategy::committed`]; it must end
    /// by itself.
    fn settled<'a>(&'a self, _name: &'a str) -> Option<BoxFuture<'a, ()>> {
        None
    }
}

/// The strategy of a type without peculiarities.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Strategy for Plain {}

/// The resources of one version of a group.
#[derive(Clone, Debug, Default)]
pub struct ApiVersion {
    /// By plural.
    pub resources: BTreeMap<String, Arc<Resource>>,
}

/// One API group.
#[derive(Clone, Debug)]
pub struct ApiGroup {
    /// Empty for the core group.
    pub name: String,
    /// Whether the group is compiled in. (No CRD may add to such a group.)
    pub builtin: bool,
    /// The served versions by name.
    pub versions: BTreeMap<String, ApiVersion>,
}

impl ApiGroup {
    /// The served versions, the preferred one first: GA descending, beta, alpha, then by name.
    #[must_use]
    pub fn ordered_versions(&self) -> Vec<&str> {
        let mut versions: Vec<&str> = self.versions.keys().map(String::as_str).collect();
        versions.sort_by(|a, b| compare_versions(a, b));
        versions
    }
}

/// Orders versions the way Kubernetes prefers them: `v2, v1, v2beta1, v1alpha1, foo`.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    match (parse_version(a), parse_version(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// (stability, major, minor): greater is preferred.
fn parse_version(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (major, rest) = rest.split_at(digits);
    if major.starts_with('0') {
        return None;
    }
    let major = major.parse().ok()?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    let (stability, minor) = match rest.strip_prefix("beta") {
        Some(minor) => (1, minor),
        None => (0, rest.strip_prefix("alpha")?),
    };
    if minor.starts_with('0') || !minor.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((stability, major, minor.parse().ok()?))
}

/// The served resources at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Counts the swaps; what is rendered from a snapshot may be cached under it.
    pub generation: u64,
    groups: BTreeMap<String, Arc<ApiGroup>>,
}

impl Catalog {
    /// The groups by name; the core group is the empty one.
    #[must_use]
    pub fn groups(&self) -> &BTreeMap<String, Arc<ApiGroup>> {
        &self.groups
    }

    /// The group of this name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Arc<ApiGroup>> {
        self.groups.get(name)
    }

    /// The resource that a URL names.
    #[must_use]
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.groups
            .get(group)?
            .versions
            .get(version)?
            .resources
            .get(plural)
    }

    /// The resource that an object's `apiVersion` and `kind` name.
    #[must_use]
    pub fn resource_of_kind(
        &self,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Option<&Arc<Resource>> {
        let version = self.groups.get(group)?.versions.get(version)?;
        version
            .resources
            .values()
            .find(|resource| resource.kind == kind)
    }

    /// Every resource in every served version.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.groups
            .values()
            .flat_map(|group| group.versions.values())
            .flat_map(|version| version.resources.values())
    }

    /// Adds a resource, or replaces the one in its place.
    pub fn insert(&mut self, resource: Resource) {
        let builtin = !resource.is_custom();
        let group = self
            .groups
            .entry(resource.group.clone())
            .or_insert_with(|| {
                Arc::new(ApiGroup {
                    name: resource.group.clone(),
                    builtin,
                    versions: BTreeMap::new(),
                })
            });
        Arc::make_mut(group)
            .versions
            .entry(resource.version.clone())
            .or_default()
            .resources
            .insert(resource.plural.clone(), Arc::new(resource));
    }

    /// Removes every version of the resource that this definition declares,
    /// and versions and groups that become empty with it.
    pub fn remove_custom(&mut self, crd_name: &str) {
        let declared = |resource: &Resource| matches!(&resource.origin, Origin::Custom(custom) if custom.crd_name == crd_name);
        // A definition's name is `<plural>.<group>`, so only one group is concerned.
        let Some((_, group_name)) = crd_name.split_once('.') else {
            return;
        };
        let Some(group) = self.groups.get_mut(group_name) else {
            return;
        };
        let group = Arc::make_mut(group);
        for version in group.versions.values_mut() {
            version.resources.retain(|_, resource| !declared(resource));
        }
        group
            .versions
            .retain(|_, version| !version.resources.is_empty());
        if group.versions.is_empty() {
            self.groups.remove(group_name);
        }
    }
}

/// The place where the current [`Catalog`] is found and swapped.
#[derive(Debug)]
pub struct CatalogHandle {
    current: RwLock<Arc<Catalog>>,
    changed: watch::Sender<u64>,
}

impl CatalogHandle {
    /// Starts with this snapshot.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        let changed = watch::Sender::new(catalog.generation);
        Self {
            current: RwLock::new(Arc::new(catalog)),
            changed,
        }
    }

    /// The current snapshot.
    #[must_use]
    pub fn load(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.read())
    }

    /// Swaps the snapshot for what `change` makes of it, and retires the resources
    /// that are no longer in it. Swaps are serialised; `change` must be quick.
    pub fn update(&self, change: impl FnOnce(&mut Catalog)) {
        let (before, after) = {
            let mut current = self.current.write();
            let mut next = Catalog::clone(&current);
            change(&mut next);
            next.generation = current.generation + 1;
            let next = Arc::new(next);
            (std::mem::replace(&mut *current, Arc::clone(&next)), next)
        };
        retire(&before, &after);
        self.changed.send_replace(after.generation);
    }

    /// Sees every later generation (the latest one, when several pass quickly).
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn retire(before: &Catalog, after: &Catalog) {
    let mut kept: HashMap<*const Resource, ()> = HashMap::new();
    for (name, group) in &before.groups {
        let next = after.groups.get(name);
        if next.is_some_and(|next| Arc::ptr_eq(next, group)) {
            continue;
        }
        kept.clear();
        if let Some(next) = next {
            for resource in next
                .versions
                .values()
                .flat_map(|version| version.resources.values())
            {
                kept.insert(Arc::as_ptr(resource), ());
            }
        }
        for resource in group
            .versions
            .values()
            .flat_map(|version| version.resources.values())
        {
            if !kept.contains_key(&Arc::as_ptr(resource)) {
                resource.retired.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability_then_number() {
        let mut versions = vec![
            "foo1", "v1alpha1", "v10", "v2", "v1beta2", "v11beta1", "v1", "v01",
        ];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(
            versions,
            [
                "v10", "v2", "v1", "v11beta1", "v1beta2", "v1alpha1", "foo1", "v01"
            ]
        );
    }
}

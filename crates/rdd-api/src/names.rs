//! Names that cross a crate's border, each once.

/// API groups.
pub mod group {
    /// App, Demo.
    pub const APP: &str = "app.rancherdesktop.io";
    /// Container, Image, Volume, ContainerNamespace.
    pub const CONTAINERS: &str = "containers.rancherdesktop.io";
    /// Notary, ConfigMapReplicaSet.
    pub const RDD: &str = "rdd.rancherdesktop.io";
}

/// Groups by which `--controllers` selects.
pub mod selection {
    /// The App's controllers.
    pub const APP: &str = "app";
    /// The mirrors' controllers.
    pub const CONTAINERS: &str = "containers";
    /// Samples.
    pub const RDD: &str = "rdd";
    /// Made-up mirrors, for programs of their own only.
    pub const MOCK: &str = "mock";
}

/// Controllers.
pub mod controller {
    /// Runs the machine and aggregates the App's state.
    pub const APP: &str = "app";
    /// Mirrors the engine.
    pub const ENGINE: &str = "engine";
    /// Judges Containers and derives their conditions.
    pub const CONTAINER: &str = "container";
    /// Ships ContainerNamespace.
    pub const CONTAINER_NAMESPACE: &str = "containernamespace";
    /// Ships Image.
    pub const IMAGE: &str = "image";
    /// Ships Volume.
    pub const VOLUME: &str = "volume";
    /// Counts.
    pub const DEMO: &str = "demo";
    /// Keeps record of a value.
    pub const NOTARY: &str = "notary";
    /// Keeps a number of ConfigMaps.
    pub const CONFIG_MAP_REPLICA_SET: &str = "configmapreplicaset";
    /// Makes mirrors up, without an engine.
    pub const MOCK: &str = "mock";
}

/// The version of all our kinds.
pub const VERSION: &str = "v1alpha1";

/// The one App.
pub const APP: &str = "app";

/// The App's definition.
pub const APP_CRD: &str = "apps.app.rancherdesktop.io";

/// The App's `apiVersion`.
pub const APP_API_VERSION: &str = "app.rancherdesktop.io/v1alpha1";

/// The namespace of rdd's own objects.
pub const RDD_NAMESPACE: &str = "rdd-system";

/// The ConfigMap in which managers say which controllers they run.
pub const DISCOVERY_CONFIG_MAP: &str = "rdd-controller-manager";

/// On the discovery ConfigMap: everything that this start enabled works.
pub const READY_ANNOTATION: &str = "rdd.rancherdesktop.io/ready";

/// On the discovery ConfigMap: the control plane stops, and programs have to leave first.
pub const STOPPING_ANNOTATION: &str = "rdd.rancherdesktop.io/stopping";

/// On the discovery ConfigMap: the random identity of the start that made it.
pub const START_ANNOTATION: &str = "rdd.rancherdesktop.io/start-id";

/// On a definition, an annotation, and on a webhook configuration, a label: whose it is.
pub const CONTROLLER_ANNOTATION: &str = "rdd.rancherdesktop.io/controller";

/// On a webhook configuration: the manager that wrote it.
pub const MANAGER_ANNOTATION: &str = "rdd.rancherdesktop.io/manager";

/// On what a request made in the engine: the request's uid, by which it is found again.
pub const REQUEST_LABEL: &str = "rdd.rancherdesktop.io/request";

/// On a Container: do this once.
pub const ACTION_ANNOTATION: &str = "containers.rancherdesktop.io/action";

/// On a mirror: the identity of the engine whose object it reflects.
pub const ENGINE_LABEL: &str = "containers.rancherdesktop.io/engine";

/// The object's own controller has work to do before it may go.
pub const CLEANUP_FINALIZER: &str = "rdd.rancherdesktop.io/cleanup";

/// The engine has to remove its object before the mirror may go.
pub const MIRROR_FINALIZER: &str = "engine.rancherdesktop.io/mirror";

/// The same on mirrors that an older release made.
pub const MIRROR_FINALIZER_OLD: &str = "engine.rancherdesktop.io/docker-mirror";

/// Where moby keeps everything.
pub const MOBY: &str = "moby";

/// Names under which our controllers own fields.
pub mod field_manager {
    /// Mirrors' contents.
    pub const ENGINE: &str = "engine-controller";
    /// A mirror's finalizer, apart from its contents: an apply that left the
    /// contents out would give them up.
    pub const ENGINE_FINALIZER: &str = "engine-controller-finalizer";
    /// The outcome of one-shot actions.
    pub const ENGINE_ACTIONS: &str = "engine-controller-actions";
    /// How requests go.
    pub const REQUESTS: &str = "engine-controller-requests";
    /// Conditions of Containers.
    pub const CONTAINER: &str = "container-controller";
    /// The App's own conditions.
    pub const APP: &str = "app-controller";
    /// Definitions, discovery and the control plane's namespace.
    pub const MANAGER: &str = "rdd-manager";
    /// Made-up mirrors.
    pub const MOCK: &str = "mock-controller";
    /// Webhook configurations.
    pub const WEBHOOKS: &str = "rdd-webhook-manager";
}

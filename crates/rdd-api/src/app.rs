//! App: what should run on this machine. There is one, named `app`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::condition::Condition;
use crate::definition::{
    Definition, age, boolean, column, conditions, integer, object, string, time, word,
};
use crate::names::group;
use crate::resource::resource;

/// What should run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Always [`crate::names::APP_API_VERSION`].
    #[serde(default)]
    pub api_version: String,
    /// Always `App`.
    #[serde(default)]
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: AppSpec,
    /// What is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<AppStatus>,
}

resource!(App, kube::core::ClusterResourceScope, group::APP, "apps");

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppSpec {
    /// Whether the engine should run, or be attached.
    pub running: bool,
    /// Where the mirrors live; immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Which engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_engine: Option<ContainerEngine>,
    /// Kubernetes beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
    /// Where the engine runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

impl AppSpec {
    /// The namespace of the mirrors.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self.namespace.as_deref() {
            None | Some("") => "default",
            Some(namespace) => namespace,
        }
    }

    /// Whether the engine is the one that can be mirrored.
    #[must_use]
    pub fn is_moby(&self) -> bool {
        self.container_engine
            .as_ref()
            .is_none_or(|engine| engine.name == "moby")
    }

    /// The engine that somebody else runs, if one is named.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        let endpoint = self.container_engine.as_ref()?.endpoint.as_deref();
        endpoint.filter(|endpoint| !endpoint.is_empty())
    }
}

/// Which engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEngine {
    /// `moby` or `containerd`.
    pub name: String,
    /// An engine that already runs; rdd never stops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// Kubernetes beside the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    /// Whether it is wanted.
    pub enabled: bool,
    /// Which version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Where the engine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// How.
    pub r#type: MachineType,
}

/// How an engine can run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineType {
    /// On this machine itself.
    #[default]
    Native,
    /// In a virtual machine.
    Lima,
}

/// What is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// Port of the Kubernetes API, when enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_port: Option<i32>,
    /// One owner per type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What is known about the mirrored engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineStatus>,
}

/// What is known about the mirrored engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineStatus {
    /// The engine's own identity.
    pub id: String,
    /// Where it is reached.
    pub endpoint: String,
    /// Its version.
    pub version: String,
    /// The version of its API that is spoken.
    pub api_version: String,
    /// Whether the engine is mirrored now. If not, the rest is what was known last.
    #[serde(default)]
    pub connected: bool,
    /// Since when the connection stands, or stood.
    pub connected_since: String,
    /// The engine's time of its last event that shows in the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event: Option<String>,
    /// When the last comparison of everything was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verified: Option<String>,
    /// The longest time from an event to the API since this was last written, in
    /// milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_milliseconds: Option<i64>,
    /// How many containers are mirrored.
    #[serde(default)]
    pub containers: i64,
    /// How many mirrors images have: one per tag.
    #[serde(default)]
    pub images: i64,
    /// How many volumes are mirrored.
    #[serde(default)]
    pub volumes: i64,
    /// How many mirrors a comparison found wrong without any event, and put right, since
    /// the service started.
    #[serde(default)]
    pub drift_repaired: i64,
}

impl App {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        Definition {
            group: group::APP,
            kind: "App",
            plural: "apps",
            scope: "Cluster",
            short_names: &[],
            description: "What should run on this machine.",
            spec: Some(spec()),
            spec_required: true,
            status: Some(object("What is.", &[], json!({
                "conditions": conditions(),
                "kubernetesPort": integer("int32", "Port of the Kubernetes API on this machine."),
                "engine": object("What is known about the mirrored engine.", &[], json!({
                    "id": string("The engine's own identity."),
                    "endpoint": string("Where it is reached."),
                    "version": string("Its version."),
                    "apiVersion": string("The version of its API that is spoken."),
                    "connected": boolean("Whether the engine is mirrored now. If not, the rest is what was known last."),
                    "connectedSince": time("Since when the connection stands, or stood."),
                    "lastEvent": time("The engine's time of its last event that shows in the API."),
                    "lastVerified": time("When the last comparison of everything was complete."),
                    "lagMilliseconds": integer("int64", "The longest time from an event to the API since this was last written."),
                    "containers": integer("int64", "How many containers are mirrored."),
                    "images": integer("int64", "How many mirrors images have: one per tag."),
                    "volumes": integer("int64", "How many volumes are mirrored."),
                    "driftRepaired": integer("int64", "How many mirrors a comparison found wrong without any event, and put right, since the service started."),
                })),
            }))),
            columns: json!([
                column("Running", "boolean", ".spec.running", "Whether the engine should run.", 0),
                column("Engine", "string", ".spec.containerEngine.name", "Which engine.", 0),
                column("Settled", "string", ".status.conditions[?(@.type==\"Settled\")].status", "Whether everything asked for holds.", 0),
                column("Reason", "string", ".status.conditions[?(@.type==\"Settled\")].reason", "Why not.", 0),
                column("Containers", "integer", ".status.engine.containers", "How many containers are mirrored.", 0),
                column("Version", "string", ".status.engine.version", "The engine's version.", 1),
                column("Verified", "date", ".status.engine.lastVerified", "Time since everything was compared.", 1),
                age(),
            ]),
            selectable: &[],
            rules: json!([{"rule": "self.metadata.name == 'app'", "message": "App resource must be named 'app'"}]),
        }
        .build()
    }
}

fn spec() -> serde_json::Value {
    let mut spec = object(
        "What is wanted.",
        &["running"],
        json!({
            "running": boolean("Whether the engine should run, or be attached."),
            "namespace": string("Namespace of the mirrors. Immutable."),
            "containerEngine": object("Which engine.", &["name"], json!({
                "name": word("The engine.", &["moby", "containerd"]),
                "endpoint": string("An engine that already runs: unix://, tcp:// or ssh://. It is mirrored and never stopped."),
            })),
            "kubernetes": object("Kubernetes beside the engine.", &["enabled"], json!({
                "enabled": boolean("Whether Kubernetes is wanted."),
                "version": string("Which version, or a channel such as stable."),
            })),
            "machine": object("Where the engine runs.", &["type"], json!({
                "type": word("On this machine itself, or in a virtual machine.", &["native", "lima"]),
            })),
        }),
    );
    let fields = &mut spec["properties"];
    fields["namespace"]["default"] = json!("default");
    fields["namespace"]["x-kubernetes-validations"] =
        json!([{"rule": "self == oldSelf", "message": "spec.namespace is immutable"}]);
    fields["containerEngine"]["default"] = json!({"name": "moby"});
    fields["containerEngine"]["properties"]["name"]["default"] = json!("moby");
    let machine = if cfg!(target_os = "linux") {
        "native"
    } else {
        "lima"
    };
    fields["machine"]["default"] = json!({"type": machine});
    fields["machine"]["properties"]["type"]["default"] = json!(machine);
    spec
}

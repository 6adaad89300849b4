//! Container: a container of the engine.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::condition::Condition;
use crate::definition::{
    Definition, boolean, column, conditions, integer, list, map_list, object, string, string_map,
    time, word,
};
use crate::names::group;
use crate::resource::resource;

/// A container; its name is the engine's full identifier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// `containers.rancherdesktop.io/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// Always `Container`.
    #[serde(default)]
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What the user wants of it.
    #[serde(default)]
    pub spec: ContainerSpec,
    /// What the engine says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ContainerStatus>,
}

resource!(
    Container,
    kube::core::NamespaceResourceScope,
    group::CONTAINERS,
    "containers"
);

/// What the user wants of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// A standing wish.
    #[serde(default)]
    pub state: DesiredState,
}

/// A standing wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesiredState {
    /// Not running.
    Created,
    /// Running.
    Running,
    /// None.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a container does, in Docker's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Never started.
    Created,
    /// Running.
    Running,
    /// On the way to a pause.
    Pausing,
    /// Frozen.
    Paused,
    /// Between two runs.
    Restarting,
    /// On the way out.
    Removing,
    /// Ended.
    Exited,
    /// Neither running nor removable.
    Dead,
    /// A word that this release does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What the one-shot annotation may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Start it.
    Start,
    /// Stop it, with the engine's grace.
    Stop,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Unpause,
    /// Stop and start it.
    Restart,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Start,
        Self::Stop,
        Self::Pause,
        Self::Unpause,
        Self::Restart,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Restart => "restart",
        }
    }

    /// The action of a word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }
}

/// What the engine says about a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// The ContainerNamespace that it belongs to.
    pub namespace: String,
    /// What runs in it.
    pub path: String,
    /// With these arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The identifier of its image.
    pub image: String,
    /// The name by which the image was asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_name: String,
    /// The command line, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// Exposed and published ports, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Published ports in one line, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ports_text: String,
    /// Labels that the engine keeps.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub status: ContainerState,
    /// The state for people, with the exit code of one that ended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state_text: String,
    /// `starting`, `healthy`, `unhealthy`; empty without a check.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub health: String,
    /// The number of its first process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it could not run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Whether the kernel ended it for its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_killed: Option<bool>,
    /// How often the engine restarted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_count: Option<i32>,
    /// When the engine restarts it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub restart_policy: String,
    /// What is mounted where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// The networks that it is in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// The compose project that it belongs to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compose_project: String,
    /// The compose service that it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compose_service: String,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// When it last started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it last ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// One owner per type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The outcome of the last one-shot action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_action: Option<LastAction>,
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// `80/tcp`.
    pub name: String,
    /// Where it is published; empty when only exposed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<Binding>,
}

/// Where a port is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Binding {
    /// The address.
    #[serde(rename = "hostIP", default)]
    pub host_ip: String,
    /// The port, as text.
    #[serde(rename = "hostPort", default)]
    pub host_port: String,
}

/// A mount of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where in the container; unique.
    pub destination: String,
    /// `bind`, `volume`, `tmpfs`, ….
    pub r#type: String,
    /// The volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where on the engine's machine.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// A network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// Its name; unique.
    pub name: String,
    /// The container's address in it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip_address: String,
    /// Its IPv6 address in it.
    #[serde(rename = "ipv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
}

/// The outcome of a one-shot action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastAction {
    /// What was asked for.
    pub action: String,
    /// `InProgress`, `Succeeded` or `Failed`.
    pub state: String,
    /// The engine's words when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Which run of the container it was taken up in, while it is in progress: by this
    /// a restart that was done is told from one that was not, on any clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Whether the annotation still stands for this request, which is done: it is to be
    /// removed and not carried out again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub annotated: bool,
    /// When it was taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<String>,
    /// When the engine had answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
}

impl Container {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        let mut state = word(
            "A standing wish: the engine is kept driving the container there. unknown is none.",
            &["created", "running", "unknown"],
        );
        state["default"] = json!("unknown");
        let mut spec = object("What the user wants of it.", &[], json!({"state": state}));
        spec["default"] = json!({});
        let condition = |kind: &str| format!(".status.conditions[?(@.type==\"{kind}\")].status");
        Definition {
            group: group::CONTAINERS,
            kind: "Container",
            plural: "containers",
            scope: "Namespaced",
            short_names: &[],
            description: "A container of the engine. Deleting it removes the container.",
            spec: Some(spec),
            spec_required: false,
            status: Some(status()),
            columns: json!([
                column(
                    "Container",
                    "string",
                    ".status.name",
                    "The container's name.",
                    0
                ),
                column(
                    "Image",
                    "string",
                    ".status.imageName",
                    "The image by its name.",
                    0
                ),
                column(
                    "State",
                    "string",
                    ".status.stateText",
                    "What it does, or how it ended.",
                    0
                ),
                column(
                    "Health",
                    "string",
                    ".status.health",
                    "What its health check says.",
                    0
                ),
                column(
                    "Ports",
                    "string",
                    ".status.portsText",
                    "Published ports.",
                    0
                ),
                column(
                    "Project",
                    "string",
                    ".status.composeProject",
                    "The compose project.",
                    0
                ),
                column(
                    "Age",
                    "date",
                    ".status.createdAt",
                    "Time since it was made.",
                    0
                ),
                column(
                    "Running",
                    "string",
                    &condition("Running"),
                    "Whether it runs.",
                    1
                ),
                column(
                    "Command",
                    "string",
                    ".status.command",
                    "The command line.",
                    1
                ),
                column(
                    "Restarts",
                    "integer",
                    ".status.restartCount",
                    "How often the engine restarted it.",
                    1
                ),
                column(
                    "Started",
                    "date",
                    ".status.startedAt",
                    "Time since it last started.",
                    1
                ),
                column(
                    "IP",
                    "string",
                    ".status.networks[*].ipAddress",
                    "Its address in its first network.",
                    1
                ),
                column(
                    "Service",
                    "string",
                    ".status.composeService",
                    "The compose service that it is.",
                    1
                ),
            ]),
            selectable: &[".status.namespace", ".status.name"],
            rules: Value::Null,
        }
        .build()
    }
}

fn status() -> Value {
    let mut state = word(
        "What it does.",
        &[
            "created",
            "running",
            "pausing",
            "paused",
            "restarting",
            "removing",
            "exited",
            "dead",
            "unknown",
        ],
    );
    state["default"] = json!("unknown");
    let actions = Action::ALL.map(Action::as_str);
    object(
        "What the engine says.",
        &["name", "namespace", "path", "image", "status"],
        json!({
            "name": string("Its name."),
            "namespace": string("The ContainerNamespace that it belongs to."),
            "path": string("What runs in it."),
            "args": list("With these arguments.", json!({"type": "string"})),
            "image": string("The identifier of its image; equals the status.id of an Image."),
            "imageName": string("The name by which the image was asked for."),
            "command": string("The command line."),
            "ports": map_list("Exposed and published ports.", "name", object("A port.", &["name"], json!({
                "name": string("Number and protocol, such as 80/tcp."),
                "bindings": list("Where it is published; empty when only exposed.", object("A binding.", &[], json!({
                    "hostIP": string("The address."),
                    "hostPort": string("The port."),
                }))),
            }))),
            "portsText": string("Published ports in one line."),
            "labels": string_map("Labels that the engine keeps."),
            "status": state,
            "stateText": string("The state in words, with the exit code of one that ended."),
            "health": string("starting, healthy or unhealthy; absent without a check."),
            "pid": integer("int32", "The number of its first process."),
            "exitCode": integer("int32", "How it ended."),
            "error": string("Why it could not run."),
            "oomKilled": boolean("Whether the kernel ended it for its memory."),
            "restartCount": integer("int32", "How often the engine restarted it."),
            "restartPolicy": string("When the engine restarts it."),
            "mounts": map_list("What is mounted where.", "destination", object("A mount.", &["destination"], json!({
                "destination": string("Where in the container."),
                "type": string("bind, volume, tmpfs."),
                "name": string("The volume's name."),
                "source": string("Where on the engine's machine."),
                "readOnly": boolean("Whether it cannot be written."),
            }))),
            "networks": map_list("The networks that it is in.", "name", object("A network.", &["name"], json!({
                "name": string("The network's name."),
                "ipAddress": string("The container's address in it."),
                "ipv6Address": string("Its IPv6 address in it."),
            }))),
            "composeProject": string("The compose project that it belongs to."),
            "composeService": string("The compose service that it is."),
            "createdAt": time("When it was made."),
            "startedAt": time("When it last started."),
            "finishedAt": time("When it last ended."),
            "conditions": conditions(),
            "lastAction": object("The outcome of the last one-shot action.", &["action", "state"], json!({
                "action": word("What was asked for.", &actions),
                "state": word("How it went.", &["InProgress", "Succeeded", "Failed"]),
                "error": string("The engine's words when it failed."),
                "before": string("Which run of the container it was taken up in, while it is in progress."),
                "annotated": boolean("Whether the annotation still stands for this request, which is done."),
                "observedAt": time("When it was taken up."),
                "completedAt": time("When the engine had answered."),
            })),
        }),
    )
}

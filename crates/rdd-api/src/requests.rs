//! Requests: something is done once, and the object tells how it went.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::condition::{self, Condition};
use crate::container::{Mount, Port};
use crate::definition::{
    Definition, age, boolean, column, conditions, integer, list, map_list, object, string,
    string_map, word,
};
use crate::names::{self, controller, group};
use crate::resource::resource;

/// How a request goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestStatus {
    /// What came of it: a container's identifier, which is its mirror's name, or a
    /// volume's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The digest of the image that was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the reference meant before a pull, by which one that was done is told from
    /// one that was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// How far a transfer is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What a scanner said, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// `Complete` and `Failed`; both are there from the first write on.
    pub conditions: Vec<Condition>,
}

/// How far a transfer is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// The engine's word for what it does now.
    pub phase: String,
    /// How many layers are known.
    pub layers: i64,
    /// How many of them are done.
    pub layers_done: i64,
    /// Bytes that were moved, as far as the engine tells.
    pub bytes: i64,
    /// Bytes to move, of the layers that are known.
    pub total_bytes: i64,
    /// All of it in one word, for people.
    pub text: String,
}

/// What every request has.
pub trait Request {
    /// How it goes.
    fn status(&self) -> Option<&RequestStatus>;

    /// `Complete` or `Failed` once that is true.
    fn outcome(&self) -> Option<&Condition> {
        let conditions = &self.status()?.conditions;
        [condition::COMPLETE, condition::FAILED]
            .into_iter()
            .filter_map(|kind| condition::find(conditions, kind))
            .find(|condition| condition.is_true())
    }

    /// Why it is where it is.
    fn reason(&self) -> Option<&str> {
        let conditions = &self.status()?.conditions;
        Some(&condition::find(conditions, condition::COMPLETE)?.reason)
    }
}

macro_rules! request {
    ($(#[$doc:meta])* $kind:ident, $spec:ty, $plural:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $kind {
            /// `containers.rancherdesktop.io/v1alpha1`.
            #[serde(default)]
            pub api_version: String,
            /// The kind's name.
            #[serde(default)]
            pub kind: String,
            /// Standard metadata.
            pub metadata: ObjectMeta,
            /// What is asked for.
            pub spec: $spec,
            /// How it goes.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub status: Option<RequestStatus>,
        }

        resource!($kind, kube::core::NamespaceResourceScope, group::CONTAINERS, $plural);

        impl Request for $kind {
            fn status(&self) -> Option<&RequestStatus> {
                self.status.as_ref()
            }
        }
    };
}

request!(
    /// Makes a container.
    ContainerCreateRequest,
    ContainerCreateSpec,
    "containercreaterequests"
);

/// The container to make. What is absent is the image's own or the engine's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerCreateSpec {
    /// The image by tag or identifier; it must be there.
    pub image: String,
    /// Its name; without one the engine makes one up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The ContainerNamespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What runs in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// With these arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Its environment, beside the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<Variable>,
    /// Ports to expose, and where to publish them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// What to mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Labels, beside the image's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When the engine restarts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<String>,
    /// `running`, the default, or `created`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
}

/// A variable of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

request!(
    /// Fetches an image from its registry.
    ImagePullRequest,
    ImagePullSpec,
    "imagepullrequests"
);

/// The image to fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImagePullSpec {
    /// Its reference.
    pub repo_tag: String,
    /// The ContainerNamespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

request!(
    /// Sends a tag to its registry.
    ImagePushRequest,
    ImageRefSpec,
    "imagepushrequests"
);

request!(
    /// Looks for known faults in an image.
    ImageScanRequest,
    ImageRefSpec,
    "imagescanrequests"
);

/// The image that is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageRefSpec {
    /// The name of an Image in the same namespace.
    pub image_ref: String,
}

request!(
    /// Makes a volume.
    VolumeCreateRequest,
    VolumeCreateSpec,
    "volumecreaterequests"
);

/// The volume to make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeCreateSpec {
    /// What keeps it; `local` by default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Its name; without one the engine makes one up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The ContainerNamespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl ContainerCreateRequest {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        let mut state = word("What it should do then.", &["created", "running"]);
        state["default"] = json!("running");
        let mut name = string("Its name; without one the engine makes one up.");
        name["pattern"] = json!("^[a-zA-Z0-9][a-zA-Z0-9_.-]+$");
        let binding = object(
            "Where it is published.",
            &[],
            json!({
                "hostIP": string("The address; every one when empty."),
                "hostPort": string("The port; any free one when empty."),
            }),
        );
        let mut port = string("Number and protocol, such as 80/tcp.");
        port["pattern"] = json!("^[0-9]{1,5}/(tcp|udp|sctp)$");
        define(Kind {
            kind: "ContainerCreateRequest",
            plural: "containercreaterequests",
            controller: controller::CONTAINER,
            description: "Makes a container, once.",
            required: &["image"],
            spec: json!({
                "image": filled("The image by tag or identifier; it must be there."),
                "name": name,
                "namespace": string("The ContainerNamespace; moby when absent."),
                "path": string("What runs in it, in the place of the image's entry point."),
                "args": list("Its arguments, in the place of the image's command.", json!({"type": "string"})),
                "env": map_list("Its environment, beside the image's.", "name", object("A variable.", &["name"], json!({
                    "name": filled("Its name."),
                    "value": string("Its value."),
                }))),
                "ports": map_list("Ports to expose, and where to publish them.", "name", object("A port.", &["name"], json!({
                    "name": port,
                    "bindings": list("Where it is published.", binding),
                }))),
                "mounts": map_list("What to mount.", "destination", object("A mount.", &["destination", "type"], json!({
                    "destination": filled("Where in the container."),
                    "type": word("What is mounted.", &["bind", "volume", "tmpfs"]),
                    "name": string("The volume; a new one without a name."),
                    "source": string("The folder on the engine's machine, for a bind."),
                    "readOnly": boolean("Whether it cannot be written."),
                }))),
                "labels": string_map("Labels, beside the image's."),
                "restartPolicy": word("When the engine restarts it.", &["no", "always", "unless-stopped", "on-failure"]),
                "state": state,
            }),
            selectable: &[".spec.namespace"],
            subject: column("Image", "string", ".spec.image", "The image.", 0),
        })
    }
}

impl ImagePullRequest {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        define(Kind {
            kind: "ImagePullRequest",
            plural: "imagepullrequests",
            controller: controller::IMAGE,
            description: "Fetches an image from its registry, once.",
            required: &["repoTag"],
            spec: json!({
                "repoTag": filled("The reference, such as busybox:latest or registry.example/app@sha256:…."),
                "namespace": string("The ContainerNamespace; moby when absent."),
            }),
            selectable: &[".spec.namespace"],
            subject: column("Image", "string", ".spec.repoTag", "The image.", 0),
        })
    }
}

impl ImagePushRequest {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        define(Kind {
            kind: "ImagePushRequest",
            plural: "imagepushrequests",
            controller: controller::IMAGE,
            description: "Sends a tag to its registry, once.",
            required: &["imageRef"],
            spec: json!({"imageRef": filled("The name of an Image in this namespace.")}),
            selectable: &[],
            subject: column("Image", "string", ".spec.imageRef", "The Image.", 0),
        })
    }
}

impl ImageScanRequest {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        define(Kind {
            kind: "ImageScanRequest",
            plural: "imagescanrequests",
            controller: controller::IMAGE,
            description: "Looks for known faults in an image, once.",
            required: &["imageRef"],
            spec: json!({"imageRef": filled("The name of an Image in this namespace.")}),
            selectable: &[],
            subject: column("Image", "string", ".spec.imageRef", "The Image.", 0),
        })
    }
}

impl VolumeCreateRequest {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        let mut name = string("Its name; without one the engine makes one up.");
        name["pattern"] = json!("^[a-zA-Z0-9][a-zA-Z0-9_.-]+$");
        let mut driver = filled("What keeps it.");
        driver["default"] = json!("local");
        define(Kind {
            kind: "VolumeCreateRequest",
            plural: "volumecreaterequests",
            controller: controller::VOLUME,
            description: "Makes a volume, once.",
            // The default stands in for it.
            required: &[],
            spec: json!({
                "driver": driver,
                "name": name,
                "namespace": string("The ContainerNamespace; moby when absent."),
                "labels": string_map("Labels."),
                "options": string_map("The driver's options."),
            }),
            selectable: &[".spec.namespace"],
            subject: column("Volume", "string", ".spec.name", "The volume.", 0),
        })
    }
}

/// What differs between the kinds.
struct Kind {
    kind: &'static str,
    plural: &'static str,
    controller: &'static str,
    description: &'static str,
    required: &'static [&'static str],
    spec: Value,
    selectable: &'static [&'static str],
    subject: Value,
}

fn define(kind: Kind) -> CustomResourceDefinition {
    let mut spec = object(
        "What is asked for. It cannot be changed.",
        kind.required,
        kind.spec,
    );
    spec["x-kubernetes-validations"] = json!([{"rule": "self == oldSelf", "message": "a request cannot be changed; delete it and make another"}]);
    let mut definition = Definition {
        group: group::CONTAINERS,
        kind: kind.kind,
        plural: kind.plural,
        scope: "Namespaced",
        short_names: &[],
        description: kind.description,
        spec: Some(spec),
        spec_required: true,
        status: Some(object("How it goes.", &[], json!({
            "name": string("What came of it: a container's identifier, which is its mirror's name, or a volume's name."),
            "digest": string("The digest of the image that was moved."),
            "before": string("What the reference meant before a pull."),
            "progress": object("How far a transfer is.", &[], json!({
                "phase": string("The engine's word for what it does now."),
                "layers": integer("int64", "How many layers are known."),
                "layersDone": integer("int64", "How many of them are done."),
                "bytes": integer("int64", "Bytes that were moved, as far as the engine tells."),
                "totalBytes": integer("int64", "Bytes to move, of the layers that are known."),
                "text": string("All of it in one word, for people."),
            })),
            "result": string("What a scanner said, as JSON."),
            "conditions": conditions(),
        }))),
        columns: json!([
            kind.subject,
            column("State", "string", ".status.conditions[?(@.type==\"Complete\")].reason", "How it goes.", 0),
            column("Progress", "string", ".status.progress.text", "How far a transfer is.", 0),
            column("Message", "string", ".status.conditions[?(@.type==\"Complete\")].message", "Why it is where it is.", 1),
            age(),
        ]),
        selectable: kind.selectable,
        rules: Value::Null,
    }
    .build();
    // A list of everything shows what there is, not what was asked for.
    definition.spec.names.categories = None;
    let annotation = (
        names::CONTROLLER_ANNOTATION.to_owned(),
        kind.controller.to_owned(),
    );
    definition.metadata.annotations = Some(BTreeMap::from([annotation]));
    definition
}

/// A text that is not empty.
fn filled(description: &str) -> Value {
    let mut text = string(description);
    text["minLength"] = json!(1);
    text
}

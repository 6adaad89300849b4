//! Volume: a volume of the engine.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::definition::{
    Definition, boolean, column, conditions, integer, object, string, string_map, time,
};
use crate::names::group;
use crate::resource::resource;

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// `containers.rancherdesktop.io/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// Always `Volume`.
    #[serde(default)]
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What the engine says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<VolumeStatus>,
}

resource!(
    Volume,
    kube::core::NamespaceResourceScope,
    group::CONTAINERS,
    "volumes"
);

/// What the engine says about a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// The ContainerNamespace that it belongs to.
    pub namespace: String,
    /// When it was made, if its driver says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// What keeps it.
    pub driver: String,
    /// Where on the engine's machine.
    pub mountpoint: String,
    /// `local` or `global`.
    pub scope: String,
    /// Labels that the engine keeps.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Whether a container mounts it.
    pub in_use: bool,
    /// In bytes, when it was last measured; absent where the engine cannot tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// The size for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub size_text: String,
}

impl Volume {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        Definition {
            group: group::CONTAINERS,
            kind: "Volume",
            plural: "volumes",
            scope: "Namespaced",
            short_names: &[],
            description: "A volume of the engine. Deleting it removes the volume.",
            spec: None,
            spec_required: false,
            status: Some(object(
                "What the engine says.",
                &["name", "namespace", "driver", "mountpoint", "scope"],
                json!({
                    "name": string("Its name."),
                    "namespace": string("The ContainerNamespace that it belongs to."),
                    "createdAt": time("When it was made."),
                    "driver": string("What keeps it."),
                    "mountpoint": string("Where on the engine's machine."),
                    "scope": string("local or global."),
                    "labels": string_map("Labels that the engine keeps."),
                    "options": string_map("The driver's options."),
                    "inUse": boolean("Whether a container mounts it."),
                    "size": integer("int64", "In bytes, when it was last measured."),
                    "sizeText": string("Its size in one word."),
                    "conditions": conditions(),
                }),
            )),
            columns: json!([
                column("Volume", "string", ".status.name", "Its name.", 0),
                column("Driver", "string", ".status.driver", "What keeps it.", 0),
                column(
                    "Size",
                    "string",
                    ".status.sizeText",
                    "Its size, when it was last measured.",
                    0
                ),
                column(
                    "In use",
                    "boolean",
                    ".status.inUse",
                    "Whether a container mounts it.",
                    0
                ),
                column(
                    "Mountpoint",
                    "string",
                    ".status.mountpoint",
                    "Where on the engine's machine.",
                    1
                ),
                column(
                    "Age",
                    "date",
                    ".status.createdAt",
                    "Time since it was made.",
                    0
                ),
            ]),
            selectable: &[".status.namespace", ".status.name"],
            rules: Value::Null,
        }
        .build()
    }
}

//! Image: an image of the engine under one of its tags.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::definition::{
    Definition, boolean, column, conditions, integer, list, object, string, string_map, time,
};
use crate::names::group;
use crate::resource::resource;

/// An image under one of its tags, or without any.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// `containers.rancherdesktop.io/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// Always `Image`.
    #[serde(default)]
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What the engine says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ImageStatus>,
}

resource!(
    Image,
    kube::core::NamespaceResourceScope,
    group::CONTAINERS,
    "images"
);

/// What the engine says about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageStatus {
    /// The ContainerNamespace that it belongs to.
    pub namespace: String,
    /// Its identifier, `sha256:…`.
    pub id: String,
    /// The tag; absent for an image without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo_tag: Option<String>,
    /// Its digests in registries, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repo_digests: Vec<String>,
    /// When it was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// For which processors.
    pub architecture: String,
    /// For which system.
    pub os: String,
    /// In bytes.
    pub size: i64,
    /// The size for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub size_text: String,
    /// Whether a container was made from it.
    pub in_use: bool,
    /// Labels that it carries.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        Definition {
            group: group::CONTAINERS,
            kind: "Image",
            plural: "images",
            scope: "Namespaced",
            short_names: &[],
            description: "An image of the engine under one of its tags. Deleting it removes the tag, or the image when it has none.",
            spec: None,
            spec_required: false,
            status: Some(object(
                "What the engine says.",
                &["namespace", "id", "architecture", "os", "size"],
                json!({
                    "namespace": string("The ContainerNamespace that it belongs to."),
                    "id": string("Its identifier."),
                    "repoTag": string("The tag; absent for an image without one."),
                    "repoDigests": list("Its digests in registries.", json!({"type": "string"})),
                    "createdAt": time("When it was built."),
                    "architecture": string("For which processors."),
                    "os": string("For which system."),
                    "size": integer("int64", "In bytes."),
                    "sizeText": string("Its size in one word."),
                    "inUse": boolean("Whether a container was made from it."),
                    "labels": string_map("Labels that it carries."),
                    "conditions": conditions(),
                }),
            )),
            columns: json!([
                column("Tag", "string", ".status.repoTag", "The tag.", 0),
                column("Created", "date", ".status.createdAt", "Time since it was built.", 0),
                column("Size", "string", ".status.sizeText", "Its size.", 0),
                column("In use", "boolean", ".status.inUse", "Whether a container was made from it.", 0),
                column("ID", "string", ".status.id", "Its identifier.", 1),
                column("Architecture", "string", ".status.architecture", "For which processors.", 1),
            ]),
            selectable: &[".status.namespace", ".status.id", ".status.repoTag"],
            rules: Value::Null,
        }
        .build()
    }
}

//! ContainerNamespace: what the engine keeps its objects under.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::definition::{Definition, age};
use crate::names::group;
use crate::resource::resource;

/// A namespace of the engine; moby has one, of its own name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerNamespace {
    /// `containers.rancherdesktop.io/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// Always `ContainerNamespace`.
    #[serde(default)]
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
}

resource!(
    ContainerNamespace,
    kube::core::NamespaceResourceScope,
    group::CONTAINERS,
    "containernamespaces"
);

impl ContainerNamespace {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        Definition {
            group: group::CONTAINERS,
            kind: "ContainerNamespace",
            plural: "containernamespaces",
            scope: "Namespaced",
            short_names: &["cns"],
            description: "A namespace of the engine. While the engine is mirrored it is made again when deleted.",
            spec: None,
            spec_required: false,
            status: None,
            columns: json!([age()]),
            selectable: &[],
            rules: Value::Null,
        }
        .build()
    }
}

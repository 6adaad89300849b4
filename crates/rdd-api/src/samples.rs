//! The kinds of the sample controllers: Demo, Notary and ConfigMapReplicaSet.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::condition::Condition;
use crate::definition::{Definition, age, conditions, integer, object, string, string_map};
use crate::names::group;
use crate::resource::resource;

/// Counts up to a number. There is one, named `demo`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demo {
    /// `app.rancherdesktop.io/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// Always `Demo`.
    #[serde(default)]
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: DemoSpec,
    /// What is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<DemoStatus>,
}

resource!(Demo, kube::core::ClusterResourceScope, group::APP, "demos");

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DemoSpec {
    /// Any text.
    pub message: String,
    /// How far to count.
    pub count: i32,
    /// `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// What is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DemoStatus {
    /// How far it has counted.
    pub processed_count: i32,
    /// When it counted last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_processed: String,
    /// `Ready`, `Processing`, `Completed`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Writes every value that it ever had into a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notary {
    /// `rdd.rancherdesktop.io/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// Always `Notary`.
    #[serde(default)]
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: NotarySpec,
    /// What is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<NotaryStatus>,
}

resource!(
    Notary,
    kube::core::NamespaceResourceScope,
    group::RDD,
    "notaries"
);

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotarySpec {
    /// The value of which record is kept.
    pub value: String,
    /// Where, in the Notary's own namespace.
    pub config_map_name: String,
}

/// What is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NotaryStatus {
    /// The value that was recorded last.
    pub last_recorded_value: String,
    /// What was done to the ConfigMap last.
    pub config_map_status: String,
    /// How many values were recorded.
    pub change_count: i64,
}

/// Keeps a number of equal ConfigMaps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapReplicaSet {
    /// `rdd.rancherdesktop.io/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// Always `ConfigMapReplicaSet`.
    #[serde(default)]
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: ConfigMapReplicaSetSpec,
    /// What is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ConfigMapReplicaSetStatus>,
}

resource!(
    ConfigMapReplicaSet,
    kube::core::NamespaceResourceScope,
    group::RDD,
    "configmapreplicasets"
);

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigMapReplicaSetSpec {
    /// How many; one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// What every one of them holds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
}

/// What is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMapReplicaSetStatus {
    /// How many there are.
    pub ready_replicas: i32,
}

impl Demo {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        let mut namespace = string("Namespace of what it says.");
        namespace["default"] = json!("default");
        let spec = object(
            "What is wanted.",
            &[],
            json!({
                "message": string("Any text."),
                "count": integer("int32", "How far to count."),
                "namespace": namespace,
            }),
        );
        let status = object(
            "What is.",
            &[],
            json!({
                "processedCount": integer("int32", "How far it has counted."),
                "lastProcessed": string("When it counted last."),
                "conditions": conditions(),
            }),
        );
        let rules = json!([{"rule": "self.metadata.name == 'demo'", "message": "Demo resource must be named 'demo'"}]);
        sample(Definition {
            group: group::APP,
            kind: "Demo",
            plural: "demos",
            scope: "Cluster",
            short_names: &[],
            description: "Counts up to a number: a sample for authors of controllers.",
            spec: Some(spec),
            spec_required: false,
            status: Some(status),
            columns: json!([age()]),
            selectable: &[],
            rules,
        })
    }
}

impl Notary {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        let spec = object(
            "What is wanted.",
            &["value", "configMapName"],
            json!({
                "value": string("The value of which record is kept."),
                "configMapName": string("Name of the ConfigMap that holds the record."),
            }),
        );
        let status = object(
            "What is.",
            &[],
            json!({
                "lastRecordedValue": string("The value that was recorded last."),
                "configMapStatus": string("What was done to the ConfigMap last."),
                "changeCount": integer("int64", "How many values were recorded."),
            }),
        );
        sample(Definition {
            group: group::RDD,
            kind: "Notary",
            plural: "notaries",
            scope: "Namespaced",
            short_names: &[],
            description: "Keeps record of a value in a ConfigMap: a sample for authors of controllers.",
            spec: Some(spec),
            spec_required: true,
            status: Some(status),
            columns: json!([age()]),
            selectable: &[],
            rules: Value::Null,
        })
    }
}

impl ConfigMapReplicaSet {
    /// The definition.
    #[must_use]
    pub fn crd() -> CustomResourceDefinition {
        let mut replicas = integer("int32", "How many ConfigMaps; one when absent.");
        replicas["minimum"] = json!(0);
        let spec = object(
            "What is wanted.",
            &[],
            json!({
                "replicas": replicas,
                "data": string_map("What every ConfigMap holds."),
            }),
        );
        // The conditions are a list without keys in this kind.
        let mut conditions = conditions();
        if let Some(list) = conditions.as_object_mut() {
            list.retain(|key, _| !key.starts_with("x-kubernetes-list"));
        }
        let status = object(
            "What is.",
            &["readyReplicas"],
            json!({
                "readyReplicas": integer("int32", "How many there are."),
                "conditions": conditions,
            }),
        );
        sample(Definition {
            group: group::RDD,
            kind: "ConfigMapReplicaSet",
            plural: "configmapreplicasets",
            scope: "Namespaced",
            short_names: &["cmrs"],
            description: "Keeps a number of equal ConfigMaps: a sample for authors of controllers.",
            spec: Some(spec),
            spec_required: false,
            status: Some(status),
            columns: json!([age()]),
            selectable: &[],
            rules: Value::Null,
        })
    }
}

/// Samples are no part of `get all`.
fn sample(definition: Definition) -> CustomResourceDefinition {
    let mut crd = definition.build();
    crd.spec.names.categories = None;
    crd
}

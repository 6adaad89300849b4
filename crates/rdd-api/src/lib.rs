//! Our resource types and the definitions by which an API server learns of them.
//!
//! Every kind is a plain struct with its [`kube::Resource`] names, and a function
//! that returns its CustomResourceDefinition as a document. Every name that more
//! than one crate uses stands in [`names`] or [`condition`] once.
//!
//! Invariant: no behaviour beyond reading and setting conditions.

pub mod condition;
pub mod names;

mod app;
mod container;
mod container_namespace;
mod definition;
mod image;
mod requests;
mod resource;
mod samples;
mod volume;

pub use app::{
    App, AppSpec, AppStatus, ContainerEngine, EngineStatus, Kubernetes, Machine, MachineType,
};
pub use condition::Condition;
pub use container::{
    Action, Binding, Container, ContainerSpec, ContainerState, ContainerStatus, DesiredState,
    LastAction, Mount, Network, Port,
};
pub use container_namespace::ContainerNamespace;
pub use image::{Image, ImageStatus};
pub use requests::{
    ContainerCreateRequest, ContainerCreateSpec, ImagePullRequest, ImagePullSpec, ImagePushRequest,
    ImageRefSpec, ImageScanRequest, Progress, Request, RequestStatus, Variable,
    VolumeCreateRequest, VolumeCreateSpec,
};
pub use samples::{
    ConfigMapReplicaSet, ConfigMapReplicaSetSpec, ConfigMapReplicaSetStatus, Demo, DemoSpec,
    DemoStatus, Notary, NotarySpec, NotaryStatus,
};
pub use volume::{Volume, VolumeStatus};

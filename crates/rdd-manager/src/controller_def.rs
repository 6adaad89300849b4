//! A controller as a value.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use rdd_admission::Admit;

use crate::context::Context;
use crate::passthrough::Endpoint;

/// Everything that a manager needs to know about a controller.
///
/// `W` is what controllers touch besides the API; a test hands in its own.
pub struct ControllerDef<W: 'static> {
    /// What `--controllers` and the discovery ConfigMap call it.
    pub name: &'static str,
    /// The group by which it is selected, and whose external program hosts it.
    pub group: &'static str,
    /// Controllers whose definitions it reads. They are installed with its own, so
    /// that its watches never wait for a kind that nobody serves; the controllers
    /// themselves may run elsewhere or not at all.
    pub needs: &'static [&'static str],
    /// The definitions that it ships.
    pub crds: fn() -> Vec<CustomResourceDefinition>,
    /// Its admission rules.
    pub admission: fn(&Context<W>) -> Vec<Arc<dyn Admit>>,
    /// Its endpoints, beside the API.
    pub endpoints: fn(&Context<W>) -> Vec<Arc<dyn Endpoint>>,
    /// Runs it until [`Context::stopping`]. It fills its caches, awaits
    /// [`Context::synced`], and only then reconciles. An earlier end is a failure,
    /// and the controller is run again.
    pub run: fn(Context<W>) -> BoxFuture<'static, anyhow::Result<()>>,
}

impl<W> fmt::Debug for ControllerDef<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ControllerDef")
            .field("name", &self.name)
            .field("group", &self.group)
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

//! What controllers touch besides the API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdd_docker_cli::Publisher;
use rdd_engine::{Docker, Endpoint, Engine, Fake};
use rdd_machine::Machine;

/// Handed to every controller; a test hands in its own.
#[derive(Clone)]
pub struct World {
    /// What the engine runs on.
    pub machine: Arc<dyn Machine>,
    /// How an engine is reached.
    pub engines: Arc<dyn Connect>,
    /// The context that lets the Docker client reach the engine too, if one is kept.
    pub docker_context: Option<Arc<Publisher>>,
    /// How often everything is compared with the engine, whatever its events said.
    pub verify_every: Duration,
}

impl World {
    /// Everything is compared every ten minutes, and no Docker context is kept.
    #[must_use]
    pub fn new(machine: Arc<dyn Machine>, engines: Arc<dyn Connect>) -> Self {
        Self {
            machine,
            engines,
            docker_context: None,
            verify_every: Duration::from_secs(600),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("World").finish_non_exhaustive()
    }
}

/// Reaches engines.
#[async_trait]
pub trait Connect: Send + Sync {
    /// Connects to the engine at an endpoint.
    async fn connect(&self, endpoint: &str) -> rdd_engine::Result<Arc<dyn Engine>>;
}

/// Reaches engines that speak Docker's API.
#[derive(Clone, Copy, Debug, Default)]
pub struct DockerEngines;

#[async_trait]
impl Connect for DockerEngines {
    async fn connect(&self, endpoint: &str) -> rdd_engine::Result<Arc<dyn Engine>> {
        Ok(Arc::new(
            Docker::connect(&Endpoint::parse(endpoint)?).await?,
        ))
    }
}

#[async_trait]
impl Connect for Fake {
    async fn connect(&self, _endpoint: &str) -> rdd_engine::Result<Arc<dyn Engine>> {
        let engine = self.connected();
        engine.identify().await?;
        Ok(Arc::new(engine))
    }
}

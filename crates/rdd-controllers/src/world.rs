//! What controllers touch besides the API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdd_docker_cli::{CredentialStore, Files, Publisher};
use rdd_engine::{Docker, Endpoint, Engine, Fake};
use rdd_machine::Machine;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// Handed to every controller; a test hands in its own.
#[derive(Clone)]
pub struct World {
    /// What the engine runs on.
    pub machine: Arc<dyn Machine>,
    /// How an engine is reached.
    pub engines: Arc<dyn Connect>,
    /// The context that lets the Docker client reach the engine too, if one is kept.
    pub docker_context: Option<Arc<Publisher>>,
    /// Who the user is to registries, if anybody.
    pub credentials: Option<Arc<CredentialStore>>,
    /// The engine that is mirrored now, for whoever acts on it beside the mirror.
    pub live: Arc<watch::Sender<Option<Arc<LiveEngine>>>>,
    /// How long a request stays when it is done.
    pub retain_requests: Duration,
    /// How often everything is compared with the engine, whatever its events said.
    pub verify_every: Duration,
    /// How long the engine may say nothing before it is asked whether it still answers.
    pub silence: Duration,
}

/// An engine that is connected, and where its mirrors are.
pub struct LiveEngine {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The namespace of its mirrors.
    pub namespace: String,
    /// The label's value that its mirrors carry.
    pub label: String,
}

impl World {
    /// Everything is compared every ten minutes, an engine is asked for a sign of life
    /// after 15 s of silence, requests stay five minutes, nobody is logged in anywhere,
    /// and no Docker context is kept.
    #[must_use]
    pub fn new(machine: Arc<dyn Machine>, engines: Arc<dyn Connect>) -> Self {
        Self {
            machine,
            engines,
            docker_context: None,
            credentials: None,
            live: Arc::new(watch::Sender::new(None)),
            retain_requests: Duration::from_secs(300),
            verify_every: Duration::from_secs(600),
            silence: Duration::from_secs(15),
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
#[derive(Clone, Debug, Default)]
pub struct DockerEngines {
    /// Where the certificates for engines on other machines are.
    pub files: Option<Files>,
}

#[async_trait]
impl Connect for DockerEngines {
    async fn connect(&self, endpoint: &str) -> rdd_engine::Result<Arc<dyn Engine>> {
        let endpoint = Endpoint::parse(endpoint)?;
        let certificates = match (&self.files, &endpoint) {
            (Some(files), Endpoint::Tcp { .. }) => {
                let (files, asked) = (files.clone(), endpoint.clone());
                let read = spawn_blocking(move || files.certificates(&asked)).await;
                let failed = |source| rdd_engine::Error::Connection {
                    endpoint: endpoint.to_string(),
                    source,
                };
                let read = read.map_err(|error| failed(error.into()))?;
                read.map_err(|error| failed(error.into()))?
            }
            _ => None,
        };
        let docker = Docker::connect_with(&endpoint, certificates.as_ref()).await?;
        Ok(Arc::new(docker))
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

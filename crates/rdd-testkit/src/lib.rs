//! A whole control plane inside a test: the real server on a memory store, no ports,
//! with an engine and a machine that fail on demand.
//!
//! Invariant: only dev-dependencies name this crate.

use std::sync::Arc;

use rdd_apiserver::auth::Authenticator;
use rdd_apiserver::{Identity, Services};
use rdd_control_plane::{ControlPlane, Parts, Ports};
use rdd_controllers::World;
use rdd_engine::Fake;
use rdd_machine::FakeMachine;
use rdd_store::MemoryStore;

/// A running control plane; [`TestControlPlane::stop`] takes it down in order.
#[derive(Debug)]
pub struct TestControlPlane {
    /// The engine that is mirrored once the App runs.
    pub engine: Fake,
    /// What the engine runs on.
    pub machine: Arc<FakeMachine>,
    control_plane: ControlPlane,
}

impl TestControlPlane {
    /// Starts all controllers; returns when they are ready.
    ///
    /// # Errors
    /// The step of the start that failed.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with_controllers("*").await
    }

    /// Starts some controllers, in the words of `--controllers`.
    ///
    /// # Errors
    /// The step of the start that failed.
    pub async fn with_controllers(controllers: &str) -> anyhow::Result<Self> {
        let engine = Fake::new("test-engine");
        let machine = Arc::new(FakeMachine::new());
        let parts = Parts {
            store: Arc::new(MemoryStore::new()),
            world: World::new(Arc::clone(&machine) as _, Arc::new(engine.clone())),
            controllers: controllers.to_owned(),
            start_id: "test".to_owned(),
            version: "v0.0.0".to_owned(),
            authenticator: Authenticator::default(),
            authority: String::new(),
            allowed_origins: Vec::new(),
            services: Services::default(),
            audit: None,
            certificates: None,
            ports: Ports::default(),
        };
        Ok(Self {
            control_plane: ControlPlane::assemble(parts, None).await?,
            engine,
            machine,
        })
    }

    /// A client that may do everything.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.control_plane.client(Identity::system("test"))
    }

    /// Takes everything down.
    pub async fn stop(self) {
        self.control_plane.stop().await;
    }
}

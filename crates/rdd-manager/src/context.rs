//! What a running controller is handed.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::diagnostics::Diagnostics;

/// What a running controller is handed.
pub struct Context<W: 'static> {
    name: &'static str,
    client: kube::Client,
    world: Arc<W>,
    stop: CancellationToken,
    diagnostics: Diagnostics,
    start: Arc<Progress>,
}

/// How far a controller's start has come, and how far it may go.
pub(crate) struct Progress {
    stage: watch::Sender<Stage>,
    gate: watch::Receiver<bool>,
}

/// How far a controller's start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Filling,
    Synced,
    Reconciling,
}

impl Progress {
    pub(crate) fn new(gate: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self {
            stage: watch::Sender::new(Stage::Filling),
            gate,
        })
    }

    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }
}

impl<W> Context<W> {
    pub(crate) fn new(
        name: &'static str,
        client: kube::Client,
        world: Arc<W>,
        stop: CancellationToken,
        diagnostics: Diagnostics,
        start: Arc<Progress>,
    ) -> Self {
        Self {
            name,
            client,
            world,
            stop,
            diagnostics,
            start,
        }
    }

    /// The controller's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The API. Writes through it are refused once the controller's lease is lost.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// What controllers touch besides the API.
    #[must_use]
    pub fn world(&self) -> &Arc<W> {
        &self.world
    }

    /// Ends when the controller has to. It may finish what it is doing, within the
    /// manager's deadline.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Says that the caches are filled, and waits until admission is in service.
    /// After it returns the controller reconciles at once; later calls return at once.
    pub async fn synced(&self) {
        self.start.stage.send_if_modified(|stage| {
            let first = *stage == Stage::Filling;
            if first {
                *stage = Stage::Synced;
            }
            first
        });
        let mut gate = self.start.gate.clone();
        if gate.wait_for(|open| *open).await.is_err() {
            // The manager is gone before it opened the gate: nothing may be reconciled.
            std::future::pending::<()>().await;
        }
        self.start.stage.send_replace(Stage::Reconciling);
    }

    pub(crate) fn restarted(&self, error: String) {
        self.diagnostics.restarted(self.name, error);
    }

    /// Keeps the outcome of a reconcile for whoever asks what the controller does.
    pub fn record(&self, trigger: &str, outcome: Result<(), String>) {
        self.diagnostics.record(self.name, trigger, outcome);
    }
}

impl<W> Clone for Context<W> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            client: self.client.clone(),
            world: Arc::clone(&self.world),
            stop: self.stop.clone(),
            diagnostics: self.diagnostics.clone(),
            start: Arc::clone(&self.start),
        }
    }
}

impl<W> fmt::Debug for Context<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Context")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

//! A machine in memory, for tests of its controller.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::machine::{Backend, Machine};

/// Runs nothing; fails on demand.
#[derive(Debug)]
pub struct FakeMachine {
    running: watch::Sender<Option<Backend>>,
    starts: AtomicUsize,
    failure: Mutex<Option<String>>,
    installed: watch::Sender<bool>,
}

impl FakeMachine {
    /// A stopped machine.
    #[must_use]
    pub fn new() -> Self {
        Self {
            running: watch::Sender::new(None),
            starts: AtomicUsize::new(0),
            failure: Mutex::new(None),
            installed: watch::Sender::new(true),
        }
    }

    /// Whether there is an engine to start.
    pub fn set_installed(&self, installed: bool) {
        self.installed.send_replace(installed);
    }

    /// The engine's process dies.
    pub fn crash(&self) {
        self.running.send_replace(None);
    }

    /// From now on starts fail with this text, or succeed again.
    pub fn fail_starts(&self, text: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// The engine that runs.
    #[must_use]
    pub fn backend(&self) -> Option<Backend> {
        *self.running.borrow()
    }

    /// How often an engine was started that did not run.
    #[must_use]
    pub fn starts(&self) -> usize {
        self.starts.load(Ordering::Relaxed)
    }
}

impl Default for FakeMachine {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Machine for FakeMachine {
    fn endpoint(&self) -> String {
        "unix:///fake.sock".to_owned()
    }

    async fn probe(&self, backend: Backend) -> Result<()> {
        if *self.installed.borrow() {
            Ok(())
        } else {
            Err(Error::NotInstalled(backend))
        }
    }

    async fn start(&self, backend: Backend) -> Result<()> {
        self.probe(backend).await?;
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = failure.clone() {
            return Err(Error::Settings {
                path: "daemon.json".into(),
                reason,
            });
        }
        if self.running.send_replace(Some(backend)) != Some(backend) {
            self.starts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn is_running(&self) -> bool {
        self.running.borrow().is_some()
    }

    async fn ended(&self) {
        // The sender lives as long as this machine.
        let mut running = self.running.subscribe();
        let _ended = running.wait_for(Option::is_none).await;
    }

    async fn stop(&self) -> Result<()> {
        self.running.send_replace(None);
        Ok(())
    }

    async fn destroy(&self) -> Result<()> {
        self.stop().await
    }
}

//! A machine in memory, for tests of its controller.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::machine::Machine;

/// Runs nothing; fails on demand.
#[derive(Debug)]
pub struct FakeMachine {
    running: watch::Sender<bool>,
    installed: watch::Sender<bool>,
}

impl FakeMachine {
    /// A stopped machine.
    #[must_use]
    pub fn new() -> Self {
        Self {
            running: watch::Sender::new(false),
            installed: watch::Sender::new(true),
        }
    }

    /// Whether there is an engine to start.
    pub fn set_installed(&self, installed: bool) {
        self.installed.send_replace(installed);
    }

    /// The engine's process dies.
    pub fn crash(&self) {
        self.running.send_replace(false);
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

    async fn is_available(&self) -> bool {
        *self.installed.borrow()
    }

    async fn start(&self) -> Result<()> {
        if !*self.installed.borrow() {
            return Err(Error::NotInstalled);
        }
        self.running.send_replace(true);
        Ok(())
    }

    async fn is_running(&self) -> bool {
        *self.running.borrow()
    }

    async fn ended(&self) {
        // The sender lives as long as this machine.
        let mut running = self.running.subscribe();
        let _ended = running.wait_for(|running| !running).await;
    }

    async fn stop(&self) -> Result<()> {
        self.running.send_replace(false);
        Ok(())
    }

    async fn destroy(&self) -> Result<()> {
        self.stop().await
    }
}

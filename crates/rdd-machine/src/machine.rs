//! What a controller needs of a machine.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Which engine a machine runs. One at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// dockerd, with the containerd that it brings along.
    #[default]
    Moby,
    /// containerd alone.
    Containerd,
}

impl Backend {
    /// The program that it is.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Moby => "dockerd",
            Self::Containerd => "containerd",
        }
    }
}

/// Something that an engine runs on.
///
/// # Contract
/// 1. `start` returns when this engine answers; one that runs is adopted, another one is
///    stopped first.
/// 2. `stop` returns when every process is gone and nothing is left on the host
///    but the engine's data.
/// 3. Both may be called in any state and repeated.
#[async_trait]
pub trait Machine: Send + Sync + 'static {
    /// Where dockerd listens once started.
    fn endpoint(&self) -> String;

    /// Why there is no engine to start, if so; cheap, so that it can be asked often.
    async fn probe(&self, backend: Backend) -> Result<()>;

    /// What the engine that runs cannot do here, and why. `None` while nothing is known.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Brings the engine up, or adopts the one that is up.
    async fn start(&self, backend: Backend) -> Result<()>;

    /// Whether the engine's process lives now.
    async fn is_running(&self) -> bool;

    /// Returns when the engine's process has ended.
    async fn ended(&self);

    /// Ends the engine and its containers, gracefully where possible.
    async fn stop(&self) -> Result<()>;

    /// Stops, and removes the engine's data.
    async fn destroy(&self) -> Result<()>;
}

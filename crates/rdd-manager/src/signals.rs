//! How a program is asked to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a program to end: SIGINT and SIGTERM.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on the signals end nothing by themselves; [`Signals::next`] tells them.
    ///
    /// # Errors
    /// When the system lets no handler be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next one, as a word for `… while stopping`.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
        }
    }
}

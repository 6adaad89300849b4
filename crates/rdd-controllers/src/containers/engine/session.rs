//! A standing connection: what is done over it, and what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdd_engine::{Engine, Event};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::connection::{Connection, chain};
use super::fresh::Fresh;
use super::verify::Round;
use super::watches::ApiChange;
use super::work::{Key, Outcome, Work};

/// Measuring volumes takes at most this share of the time: one part in so many.
const MEASURING: u32 = 1000;

/// What can happen.
pub(super) enum Input {
    Api(Vec<ApiChange>),
    Engine(Option<Event>),
    Worked(Result<(Key, Outcome), JoinError>),
    Measured(BTreeMap<String, i64>),
    Timer,
}

/// A standing connection and what is done over it.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) work: Arc<Work>,
    /// Keys of the first pass that have not been looked at yet.
    pub(super) first: BTreeSet<Key>,
    pub(super) synced: bool,
    pub(super) limit: Instant,
    /// The comparison that goes on, and when the next one begins.
    pub(super) round: Option<Round>,
    pub(super) verify: Instant,
    pub(super) fresh: Fresh,
    /// The sizes of volumes, whenever they were measured.
    pub(super) sizes: mpsc::Receiver<BTreeMap<String, i64>>,
    pub(super) _measuring: AbortOnDropHandle<()>,
}

/// What a standing connection says next; without one nothing.
pub(super) async fn next_input(session: &mut Option<Session>) -> Input {
    match session {
        Some(session) => tokio::select! {
            event = session.connection.events.recv() => Input::Engine(event),
            Some(sizes) = session.sizes.recv() => Input::Measured(sizes),
        },
        None => std::future::pending().await,
    }
}

/// Measures volumes again and again, with pauses so long that it never matters.
pub(super) async fn measure(
    engine: Arc<dyn Engine>,
    every: Duration,
    sizes: mpsc::Sender<BTreeMap<String, i64>>,
) {
    loop {
        let begin = Instant::now();
        match engine.volume_sizes().await {
            Ok(measured) => {
                if sizes.send(measured).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), "volumes could not be measured");
            }
        }
        sleep((begin.elapsed() * MEASURING).max(every)).await;
    }
}

/// Engines that came up together are not compared together: up to a tenth later.
pub(super) fn verify_pause(every: Duration, label: &str) -> Duration {
    let spread = label.bytes().map(u32::from).sum::<u32>() % 60;
    every + every * spread / 600
}

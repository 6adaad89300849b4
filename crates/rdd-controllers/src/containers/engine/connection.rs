//! Getting connected, in the order that loses nothing.
//!
//! ```text
//! connect ─▶ identify (clock) ─▶ subscribe from that moment ─▶ list ─▶ live
//! ```
//!
//! The subscription stands before the first list is read, so that a change during the
//! list is in one of the two. The moment is on the engine's own clock; a replayed
//! event does no harm, because every event only says where to look. Without a clock
//! there is nothing to replay, and nothing is missed either: the order alone suffices.

use std::sync::Arc;
use std::time::Duration;

use rdd_engine::{Engine, EngineInfo, Event, Moment};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::world::Connect;

/// The limit of everything up to the subscription.
const CONNECT: Duration = Duration::from_secs(30);

/// A standing connection.
pub(super) struct Connection {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) info: EngineInfo,
    /// The engine's clock when it was connected.
    pub(super) clock: Option<Moment>,
    /// Its end means that the connection is lost.
    pub(super) events: mpsc::Receiver<Event>,
    _pump: AbortOnDropHandle<()>,
}

/// Connects and subscribes.
///
/// The task that reads the engine's stream belongs to the connection and ends with
/// it; a caller that is cancelled in the middle leaves nothing behind.
///
/// An engine that says nothing for `silence` is asked whether it still answers: a
/// machine that was suspended, or a network that swallows everything, ends no stream.
pub(super) async fn connect(
    engines: &dyn Connect,
    endpoint: &str,
    silence: Duration,
) -> Result<Connection, String> {
    let attempt = async {
        let engine = engines.connect(endpoint).await?;
        let (info, moment) = engine.identify().await?;
        let stream = engine.events(moment).await?;
        Ok::<_, rdd_engine::Error>((engine, info, moment, stream))
    };
    let (engine, info, clock, mut stream) = match timeout(CONNECT, attempt).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return Err(chain(&error)),
        Err(_) => {
            return Err(format!(
                "the engine at {endpoint} did not answer within {CONNECT:?}"
            ));
        }
    };
    let (queue, events) = mpsc::channel(1024);
    let asked = Arc::clone(&engine);
    let pump = tokio::spawn(async move {
        loop {
            let Ok(event) = timeout(silence, stream.next()).await else {
                if let Err(error) = asked.ping().await {
                    tracing::warn!(error = chain(&error), "the engine gives no sign of life");
                    return;
                }
                continue;
            };
            let Some(event) = event else {
                return;
            };
            match event {
                Ok(event) => {
                    if queue.send(event).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the event stream broke");
                    return;
                }
            }
        }
    });
    Ok(Connection {
        engine,
        info,
        clock,
        events,
        _pump: AbortOnDropHandle::new(pump),
    })
}

/// An error with all its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

//! Samples: whole controllers of a page each, to copy from.
//!
//! ```text
//! change of an object, or of what it owns ──▶ reconcile(object as it is now) ──▶ one step
//!                          ▲                                                      │
//!                          └──────────── the step's own write ◀───────────────────┘
//! ```
//!
//! A pass looks at what is there, does the one next thing, and ends: the change that it
//! makes brings the next pass. In the state that is wanted a pass writes nothing.

pub(crate) mod configmapreplicaset;
pub(crate) mod demo;
pub(crate) mod notary;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::controller::{self, Action, Controller};
use kube::{Resource, ResourceExt as _};
use parking_lot::Mutex;
use rdd_manager::{Context, ownership};
use serde::de::DeserializeOwned;

use crate::world::World;

/// How long an object whose pass failed waits for the next one; each failure in a row
/// doubles it, up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_millis(500);

/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Cascade(#[from] ownership::Left),
    /// What is there has the name, and belongs to somebody else.
    #[error("{0} exists and is not owned by this object")]
    Foreign(String),
}

/// Runs a pass for every change until the manager stops; passes that are under way then
/// are finished.
async fn drive<K, F>(
    context: Context<World>,
    controller: Controller<K>,
    pass: fn(Arc<K>, Arc<Context<World>>) -> F,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    // Whatever changed before is part of the first list.
    context.synced().await;
    let stopping = context.stopping();
    let store = controller.store();
    let failures = Arc::new(Failures::default());
    let again = Arc::clone(&failures);
    let passes = controller
        .trigger_backoff(rdd_manager::watch_backoff())
        .graceful_shutdown_on(stopping.clone().cancelled_owned())
        .run(
            pass,
            move |object, error: &Error, context| {
                let text = error.to_string();
                let (pause, is_new) = again.count((object.namespace(), object.name_any()), &text);
                // That the API is away is told once, for all that asks it.
                let is_away =
                    matches!(error, Error::Api(cause) if !matches!(cause, kube::Error::Api(_)));
                if is_new && !is_away {
                    let (controller, name) = (context.name(), object.name_any());
                    tracing::warn!(
                        controller,
                        name,
                        error = text,
                        "a pass failed and is tried again"
                    );
                }
                Action::requeue(pause)
            },
            Arc::new(context.clone()),
        )
        .for_each(|pass| {
            match pass {
                Ok((object, _)) => {
                    failures.end(&(object.namespace, object.name));
                    context.record("change", Ok(()));
                }
                Err(controller::Error::ObjectNotFound(object)) => {
                    failures.end(&(object.namespace, object.name));
                }
                // The watch goes on by itself; a program tells that the API is away.
                Err(controller::Error::QueueError(error)) => {
                    tracing::debug!(controller = context.name(), %error, "a watch was interrupted");
                }
                Err(error) => context.record("change", Err(error.to_string())),
            }
            std::future::ready(())
        });
    // Before the first list no pass can run, and the runtime would wait for that list.
    let nothing_to_finish = async {
        stopping.cancelled().await;
        if store.wait_until_ready().now_or_never().is_some() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = passes => {}
        () = nothing_to_finish => {}
    }
}

/// An object, by namespace and name.
type Name = (Option<String>, String);

/// What objects whose passes fail are waiting for.
#[derive(Default)]
struct Failures(Mutex<BTreeMap<Name, (Duration, String)>>);

impl Failures {
    /// The wait after one more failure, and whether it is another one than the last.
    fn count(&self, name: Name, error: &str) -> (Duration, bool) {
        let mut all = self.0.lock();
        let next = match all.get(&name) {
            Some((pause, last)) => ((*pause * 2).min(RETRY_MAX), last != error),
            None => (RETRY, true),
        };
        all.insert(name, (next.0, error.to_owned()));
        next
    }

    /// The object is fine, or gone.
    fn end(&self, name: &Name) {
        self.0.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_while_passes_fail_and_begin_anew() {
        let failures = Failures::default();
        let name: Name = (None, "a".to_owned());
        let waits: Vec<u64> = (0..7)
            .map(|_| failures.count(name.clone(), "x").0.as_millis() as u64)
            .collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert!(!failures.count(name.clone(), "x").1, "told already");
        assert!(failures.count(name.clone(), "y").1, "another failure");
        failures.end(&name);
        assert_eq!(failures.count(name, "x"), (RETRY, true));
    }
}

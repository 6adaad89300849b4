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

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kube::Resource;
use kube::runtime::controller::{self, Action, Controller};
use rdd_manager::{Context, ownership};
use serde::de::DeserializeOwned;

use crate::world::World;

/// How long a pass that failed waits for the next.
const RETRY: Duration = Duration::from_secs(1);

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
    let passes = controller
        .trigger_backoff(rdd_manager::watch_backoff())
        .graceful_shutdown_on(stopping.clone().cancelled_owned())
        .run(
            pass,
            |_, _, _| Action::requeue(RETRY),
            Arc::new(context.clone()),
        )
        .for_each(|pass| {
            match pass {
                Ok(_) => context.record("change", Ok(())),
                Err(controller::Error::ObjectNotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(controller = context.name(), %error, "a pass failed and is tried again");
                    context.record("change", Err(error.to_string()));
                }
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

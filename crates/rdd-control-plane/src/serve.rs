//! The daemon: one control plane until a signal.

use std::pin::pin;

use anyhow::{Context as _, Result, bail};
use rdd_instance::{Instance, Lock};
use rdd_manager::Signals;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::budgets::SHUTDOWN;
use crate::control_plane::ControlPlane;
use crate::options::Options;

/// Threads of the runtime: enough for a laptop's clients, few enough to stay small.
const WORKERS: usize = 2;

/// What the daemon itself has open, its engine's connections, and some clients.
const DESCRIPTORS: u64 = 96;

/// Runs the daemon in this process. The first signal drains, the second ends at once.
///
/// # Errors
/// Why the start failed, or why it could not go on.
pub fn run(instance: &Instance, options: Options) -> Result<()> {
    let descriptors = rdd_instance::process::descriptors()?;
    if descriptors < DESCRIPTORS {
        // It would come up, and then accept nobody.
        bail!(
            "{descriptors} open files are too few, at least {DESCRIPTORS} are needed: raise the limit, for example with `ulimit -n 1024`"
        );
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_stack_size(rdd_apiserver::WORKER_STACK)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    // Before the lock names this process: whoever finds it may signal it at once, and a
    // script's background job inherits an ignored SIGINT.
    let signals = {
        let _entered = runtime.enter();
        Signals::listen().context("failed to listen for signals")?
    };
    let lock = Lock::acquire(instance, &options.version, options.arguments.clone())?;
    let outcome = runtime.block_on(async {
        // On a worker's deep stack, like every request.
        let served = tokio::spawn(serve(
            instance.clone(),
            options,
            lock.daemon().start_id.clone(),
            signals,
        ));
        served.await.context("the control plane panicked")?
    });
    // Everything that must end was awaited; what is left is abandoned.
    runtime.shutdown_background();
    // Only now may another daemon begin.
    drop(lock);
    outcome
}

async fn serve(
    instance: Instance,
    options: Options,
    start_id: String,
    mut signals: Signals,
) -> Result<()> {
    let mut start = pin!(ControlPlane::start(&instance, options, &start_id));
    let started = tokio::select! {
        started = &mut start => Ok(started?),
        how = signals.next() => Err(how),
    };
    let control_plane = match started {
        Ok(control_plane) => control_plane,
        Err(how) => {
            tracing::info!("{how} while starting; what was begun is taken down");
            // A start that is dropped in the middle would leave an engine that it began.
            let whole = timeout(SHUTDOWN, async {
                if let Ok(control_plane) = start.await {
                    control_plane.stop().await;
                }
            });
            tokio::select! {
                ended = whole => match ended {
                    Ok(()) => bail!("{how} while starting"),
                    Err(_) => bail!("{how} while starting, and shutting down took longer than {SHUTDOWN:?}"),
                },
                again = signals.next() => bail!("{how} while starting, and {again} while stopping"),
            }
        }
    };
    let lost = tokio::select! {
        _ = signals.next() => None,
        failure = control_plane.failed() => Some(failure),
    };
    match &lost {
        None => tracing::info!("stopping"),
        Some(failure) => tracing::error!(failure, "the control plane cannot go on and stops"),
    }
    let stopped = timeout(SHUTDOWN, control_plane.stop());
    tokio::select! {
        stopped = stopped => {
            if stopped.is_err() {
                bail!("shutting down took longer than {SHUTDOWN:?}");
            }
        }
        how = signals.next() => bail!("{how} while stopping"),
    }
    match lost {
        None => Ok(()),
        Some(failure) => bail!("{failure}"),
    }
}

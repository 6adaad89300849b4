//! `rdd service stop` and `rdd service delete`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rdd_instance::process::{Request, request};
use rdd_instance::{Daemon, PathKey};
use tokio::time::sleep;

use crate::connect;
use crate::duration::Limit;
use crate::exit::{Outcome, expired};
use crate::settings::Settings;

/// How often the end of the process is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Stops the daemon if there is one.
pub(super) async fn stop(settings: &Settings, wait: bool, limit: Limit) -> Outcome {
    let name = settings.name();
    if !settings.instance.exists() {
        tracing::info!("{name:?} control plane does not exist");
        return Ok(());
    }
    let Some(daemon) = connect::named(settings, limit).await? else {
        tracing::info!("{name:?} control plane is already stopped");
        return Ok(());
    };
    if !wait {
        request(&daemon, Request::Interrupt)?;
        tracing::info!("{name:?} control plane is stopping");
        return Ok(());
    }
    end(settings, &daemon, limit).await?;
    tracing::info!("{name:?} control plane has stopped");
    Ok(())
}

/// Lets a moment pass until the next look.
async fn pause(settings: &Settings) -> Outcome {
    tokio::select! {
        () = sleep(LOOK) => Ok(()),
        _ = tokio::signal::ctrl_c() => {
            Err(anyhow!("cancelled; {:?} control plane is still stopping", settings.name()).into())
        }
    }
}

/// Stops the daemon and removes the instance's files, only after proof that it is gone.
pub(super) async fn delete(settings: &Settings, limit: Limit) -> Outcome {
    let name = settings.name();
    let instance = &settings.instance;
    let places = [PathKey::LogDir, PathKey::ShortDir, PathKey::Dir].map(|key| instance.path(key));
    if let Some(daemon) = connect::named(settings, limit).await? {
        end(settings, &daemon, limit).await?;
    }
    if !places.iter().any(|place| place.exists()) {
        tracing::info!("{name:?} control plane does not exist");
        return Ok(());
    }
    // An engine that outlived a crash of its control plane ends with the instance.
    rdd_control_plane::remove_engine(instance)
        .await
        .context("failed to stop and remove the engine of the instance")?;
    let [logs, short, dir] = places;
    if !instance.environment().keep_logs {
        remove(&logs)?;
    }
    remove(&short)?;
    remove(&dir)?;
    tracing::info!("{name:?} control plane has been deleted");
    Ok(())
}

async fn end(settings: &Settings, daemon: &Daemon, limit: Limit) -> Outcome {
    request(daemon, Request::Interrupt)?;
    let begin = Instant::now();
    let gone = || Daemon::find(&settings.instance).map(|found| found.as_ref() != Some(daemon));
    let mut is_said = false;
    while !gone()? {
        if !is_said && begin.elapsed() >= connect::NOTICED {
            is_said = true;
            tracing::info!(
                "waiting for {:?} control plane with pid {} to stop",
                settings.name(),
                daemon.pid
            );
        }
        if limit.is_some_and(|limit| begin.elapsed() >= limit) {
            // The second request makes a live daemon exit at once.
            request(daemon, Request::Terminate)?;
            if gone()? {
                break;
            }
            return Err(expired(format_args!(
                "timed out waiting for {:?} control plane with pid {} to stop",
                settings.name(),
                daemon.pid
            )));
        }
        pause(settings).await?;
    }
    Ok(())
}

fn remove(place: &Path) -> Outcome {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(anyhow!(error)
            .context(format!("failed to remove {}", place.display()))
            .into()),
        _ => Ok(()),
    }
}

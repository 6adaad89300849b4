//! The engine of an instance.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rdd_instance::{Instance, PathKey, open_log};
use rdd_machine::{Machine, Native, NativeOptions};

/// The machine of an instance: a dockerd on this machine.
///
/// # Errors
/// When its log cannot be opened.
pub fn native_machine(instance: &Instance) -> Result<Arc<dyn Machine>> {
    let folder = instance.path(PathKey::LogDir);
    let environment = instance.environment();
    open_log(
        &folder,
        "dockerd",
        environment.keep_logs,
        environment.log_title.as_deref(),
    )
    .context("failed to open the engine's log")?;
    Ok(Arc::new(native(instance)))
}

fn native(instance: &Instance) -> Native {
    let short = instance.path(PathKey::ShortDir);
    Native::new(NativeOptions {
        suffix: instance.suffix().to_owned(),
        index: instance.index(),
        dockerd: instance.environment().places("dockerd").collect(),
        data: instance.engine_dir(),
        run: short.join("run"),
        socket: instance.path(PathKey::DockerSocket),
        state: instance.path(PathKey::Dir).join("engine.json"),
        settings: instance.engine_settings(),
        log: instance.path(PathKey::LogDir).join("dockerd.log"),
    })
}

/// Ends the engine of an instance whose control plane does not run, and removes its data.
///
/// # Errors
/// When a process cannot be ended or a file not removed.
pub async fn remove_engine(instance: &Instance) -> Result<()> {
    if !instance.engine_dir().exists() {
        return Ok(());
    }
    native(instance)
        .destroy()
        .await
        .context("failed to remove the engine")
}

//! What controllers touch on this machine, for an instance: its engine and the user's
//! files of the Docker client.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rdd_docker_cli::{CredentialStore, DEFAULT_ENDPOINT, Files, Publisher};
use rdd_instance::{Instance, PathKey, open_log};
use rdd_machine::{Machine, Native, NativeOptions};
use rdd_manager::Ports;

use crate::world::{DockerEngines, World};

/// What the controllers of an instance touch.
///
/// # Errors
/// When the engine's log cannot be opened.
pub fn world(instance: &Instance) -> Result<World> {
    let engines = DockerEngines {
        files: Some(Files::new(instance.docker_config())),
    };
    Ok(World {
        docker_context: Some(Arc::new(docker_context(instance))),
        credentials: Some(Arc::new(credentials(instance))),
        ..World::new(native_machine(instance)?, Arc::new(engines))
    })
}

/// Where the managers of an instance answer, unless somebody else has these ports: the one
/// in the service, or those in programs of their own.
#[must_use]
pub fn ports(instance: &Instance, embedded: bool) -> Ports {
    let index = instance.index();
    let pair = 4 * index + if embedded { 2 } else { 0 };
    Ports {
        metrics: 8080 + pair,
        health: 8081 + pair,
        webhooks: 9443 + index,
        endpoints: 9090 + index,
    }
}

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
        containerd: instance.environment().places("containerd").collect(),
        data: instance.engine_dir(),
        run: short.join("run"),
        socket: instance.path(PathKey::DockerSocket),
        state: instance.path(PathKey::Dir).join("engine.json"),
        settings: instance.engine_settings(),
        log: instance.path(PathKey::LogDir).join("dockerd.log"),
        folders: instance.environment().folders(),
        runtime: instance.environment().runtime_dir.clone(),
    })
}

/// The Docker context of an instance.
fn docker_context(instance: &Instance) -> Publisher {
    let environment = instance.environment();
    let decided_by = if environment.docker_host.is_some() {
        Some("DOCKER_HOST")
    } else {
        environment
            .docker_context
            .as_ref()
            .map(|_| "DOCKER_CONTEXT")
    };
    Publisher::new(rdd_docker_cli::Options {
        folder: instance.docker_config(),
        context: instance.name(),
        memory: instance.path(PathKey::Dir).join("docker-context"),
        default_endpoint: DEFAULT_ENDPOINT.to_owned(),
        decided_by,
    })
}

/// Who the user of an instance is to registries.
fn credentials(instance: &Instance) -> CredentialStore {
    let environment = instance.environment().clone();
    let find = move |program: &str| environment.find(program);
    CredentialStore::new(Files::new(instance.docker_config()), Arc::new(find))
}

/// Ends the engine of an instance whose control plane does not run, and removes its
/// data and the Docker context that leads to it.
///
/// # Errors
/// When a process cannot be ended or a file not removed.
pub async fn remove_engine(instance: &Instance) -> Result<()> {
    // The files of the Docker client are the user's: trouble there stops no deletion.
    if let Err(error) = docker_context(instance).withdraw().await {
        tracing::warn!(%error, "the Docker context of the instance may be left");
    }
    if !instance.engine_dir().exists() {
        return Ok(());
    }
    native(instance)
        .destroy()
        .await
        .context("failed to remove the engine")
}

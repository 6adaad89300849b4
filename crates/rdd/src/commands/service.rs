//! `rdd service …`: the life of the control plane.

mod end;
mod log;
mod paths;
pub(super) mod serve;
mod status;

use std::fs;

use anyhow::Context as _;
use rdd_instance::PathKey;

use crate::args::{Deadline, Service, Session};
use crate::connect;
use crate::exit::Outcome;
use crate::output;
use crate::settings::Settings;

/// Runs one of the commands.
pub(super) async fn run(settings: &Settings, service: Service) -> Outcome {
    match service {
        Service::Create { session, words } => create(settings, &session, words),
        Service::Start {
            session,
            wait,
            timeout,
            words,
        } => start(settings, &session, wait, timeout, words).await,
        Service::Serve(serve) => serve::run(settings, serve),
        Service::Stop { wait, timeout } => end::stop(settings, wait, timeout.0).await,
        Service::Delete { timeout } => end::delete(settings, timeout.0).await,
        Service::Status { output } => status::run(settings, &output),
        Service::Log { stdout, follow } => log::run(settings, stdout, follow).await,
        Service::Config => config(settings).await,
        Service::Paths { key, output } => paths::run(settings, key.as_deref(), &output),
    }
}

/// Says at once what the control plane would say in its log only.
fn warn_of_controllers(session: &Session) {
    let controllers = session.controllers.as_deref().unwrap_or_default();
    for problem in rdd_controllers::problems(controllers) {
        tracing::warn!("{problem}");
    }
}

fn create(settings: &Settings, session: &Session, mut words: Vec<String>) -> Outcome {
    warn_of_controllers(session);
    let given: Vec<String> = words
        .iter()
        .cloned()
        .chain(connect::session_words(session))
        .collect();
    let mut session = session.clone();
    session.controllers.get_or_insert_with(|| "*".to_owned());
    words.extend(connect::session_words(&session));
    words.extend(["-v".to_owned(), settings.verbosity.number().to_string()]);
    if connect::create_if_missing(settings, words)? {
        tracing::info!("successfully created {:?} control plane", settings.name());
    } else {
        tracing::info!("{:?} control plane already exists", settings.name());
        if !given.is_empty() {
            // What was saved stays: an instance is created once.
            let given = given.join(" ");
            tracing::warn!(
                "{given:?} was not saved; for one start: rdd svc start {given}; for all: rdd svc delete && rdd svc create {given}"
            );
        }
    }
    Ok(())
}

async fn start(
    settings: &Settings,
    session: &Session,
    wait: bool,
    timeout: Deadline,
    words: Vec<String>,
) -> Outcome {
    let name = settings.name();
    warn_of_controllers(session);
    let child = if connect::named(settings, timeout.0).await?.is_some() {
        let mut changes = connect::session_words(session);
        changes.extend(words);
        if !changes.is_empty() {
            // Nothing is dropped in silence: a running daemon keeps its own options.
            return Err(anyhow::anyhow!(
                "{name:?} control plane is already running; to apply {:?}: rdd svc stop && rdd svc start {}",
                changes.join(" "),
                changes.join(" ")
            )
            .into());
        }
        tracing::info!("{name:?} control plane is already running");
        if wait {
            tracing::debug!("waiting for {name:?} control plane to be ready");
        }
        None
    } else {
        let created = connect::create_if_missing(settings, words.clone())?;
        if created {
            tracing::info!("successfully created {name:?} control plane");
        }
        tracing::info!("starting {name:?} control plane");
        // A new instance has saved them; an old one keeps what it has, and this start takes them.
        let words = if created { Vec::new() } else { words };
        Some(connect::start(settings, session, &words)?)
    };
    if wait {
        connect::wait_ready(settings, child, timeout.0).await?;
        tracing::info!("{name:?} control plane is ready");
    } else {
        if let Some(child) = child {
            connect::wait_named(settings, child).await?;
        }
        tracing::info!("{name:?} control plane is starting");
    }
    Ok(())
}

async fn config(settings: &Settings) -> Outcome {
    connect::ready(settings).await?;
    let path = settings.instance.path(PathKey::Config);
    let text =
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    output::line(text);
    Ok(())
}

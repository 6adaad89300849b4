//! `rdd ctl`, `rdd kubectl` and `rdd run`: other people's words.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, anyhow};
use rdd_instance::{PathKey, process};
use tokio::process::Command;

use crate::args::{Deadline, Wait};
use crate::commands::{app, cancellable};
use crate::connect;
use crate::exit::{Failure, Outcome};
use crate::settings::Settings;
use crate::{output, settle};

const RUN_HELP: &str = "Run a command with this instance's Docker and Kubernetes contexts\n\n\
    Usage: rdd run COMMAND [ARGUMENTS]...\n\n\
    Starts the container engine first and waits until it has settled. The command's exit\n\
    code is passed on.\n\n\
    Examples:\n  rdd run docker ps\n  rdd run -- sh -c 'echo $DOCKER_CONTEXT'\n";

/// kubectl's verbs against this control plane.
pub(crate) async fn ctl(settings: &Settings, words: Vec<OsString>) -> Outcome {
    let help = words.is_empty() || words.iter().any(|word| word == "--help" || word == "-h");
    if !help {
        connect::ready(settings).await?;
    }
    finish(rdd_ctl::run(words, ctl_target(settings)).await)
}

/// This control plane, whether it runs or not.
pub(crate) fn ctl_target(settings: &Settings) -> rdd_ctl::Target {
    rdd_ctl::Target {
        program: "rdd ctl".to_owned(),
        kubeconfig: Some(settings.instance.path(PathKey::Config)),
        editor: settings.instance.environment().editor.clone(),
        kubectl: settings.instance.environment().find("kubectl"),
    }
}

/// kubectl's verbs against the caller's own clusters; starts nothing.
pub(crate) async fn kubectl(settings: &Settings, words: Vec<OsString>) -> Outcome {
    finish(rdd_ctl::run(words, kubectl_target(settings)).await)
}

/// The caller's own clusters.
pub(crate) fn kubectl_target(settings: &Settings) -> rdd_ctl::Target {
    let environment = settings.instance.environment();
    let kubeconfig = match &environment.kubeconfig {
        Some(list) => std::env::split_paths(list).find(|path| path.exists()),
        None => Some(settings.instance.home().join(".kube/config")).filter(|path| path.exists()),
    };
    rdd_ctl::Target {
        program: "rdd kubectl".to_owned(),
        kubeconfig,
        editor: environment.editor.clone(),
        kubectl: environment.find("kubectl"),
    }
}

fn finish(code: u8) -> Outcome {
    match code {
        0 => Ok(()),
        code => Err(Failure::Child(code)),
    }
}

/// Runs a child with the instance's contexts, after the engine has settled.
pub(crate) async fn run(settings: &Settings, mut words: Vec<OsString>) -> Outcome {
    match words.first().and_then(|word| word.to_str()) {
        Some("-h" | "--help") => {
            output::text(RUN_HELP);
            return Ok(());
        }
        Some("--") => {
            words.remove(0);
        }
        _ => {}
    }
    let Some((program, arguments)) = words.split_first() else {
        return Err(anyhow!("run requires a command to execute").into());
    };
    let wait = Wait {
        wait: true,
        timeout: Deadline(settle::DEFAULT_LIMIT),
    };
    // The command itself hears a Ctrl-C of its own.
    cancellable(app::start(settings, wait)).await?;
    let instance = &settings.instance;
    let short = instance.path(PathKey::ShortDir);
    let mut path = OsString::from(short.join("bin"));
    if let Some(old) = &instance.environment().path {
        path.push(":");
        path.push(old);
    }
    let status = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .env(
            "DOCKER_HOST",
            format!("unix://{}", instance.path(PathKey::DockerSocket).display()),
        )
        .env_remove("DOCKER_CONTEXT")
        .env("KUBECONFIG", instance.path(PathKey::Config))
        .stdin(Stdio::inherit())
        .status()
        .await
        .with_context(|| format!("run {}", Path::new(program).display()))?;
    finish(process::exit_code(status))
}

//! A group's controllers in a program of its own.
//!
//! ```text
//! kubeconfig ─▶ who runs what? ─▶ what nobody runs: leases, start ─▶ registered ─▶ vigil ─▶ sign off
//!               └─ everything runs ─▶ end     └─ somebody was quicker ─▶ look again
//! ```
//!
//! Guarantees
//! 1. What cannot be looked up is not started: a program that is in doubt ends.
//! 2. A program ends when the control plane that it belongs to does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rdd_instance::{Instance, PathKey};
use rdd_manager::{
    ControllerDef, Deadlines, Discovery, Entry, Error, Manager, Options, Passthroughs, Ports, Role,
    Running, Signals, Terms, WebhooksOnly, tell_reach, vigil,
};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::certificates::Certificates;
use crate::host;
use crate::registry::{NAMES, REGISTRY, of_group};
use crate::world::World;

/// How long it may take until it is known who runs what, and until what is left is taken.
const LOOKUP: Duration = Duration::from_secs(60);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(5);

/// For controllers to end.
const DRAIN: Duration = Duration::from_secs(10);

/// For leaving the discovery ConfigMap.
const SIGN_OFF: Duration = Duration::from_secs(5);

/// A program of one group.
#[derive(Clone, Debug)]
pub struct Program {
    /// The group: its key in the discovery ConfigMap.
    pub group: &'static str,
    /// What it runs: controllers of this group and no other.
    pub controllers: Vec<&'static ControllerDef<World>>,
    /// The cluster to run against; by default the instance's control plane, which is
    /// started if need be.
    pub kubeconfig: Option<PathBuf>,
    /// The port of health; the instance's own by default.
    pub health_port: Option<u16>,
    /// The port of figures; the instance's own by default.
    pub metrics_port: Option<u16>,
}

impl Program {
    /// The program of a group: all of its controllers, against the instance's own
    /// control plane, on the instance's own ports.
    #[must_use]
    pub fn of(group: &'static str) -> Self {
        Self {
            group,
            controllers: of_group(group),
            kubeconfig: None,
            health_port: None,
            metrics_port: None,
        }
    }

    fn ports(&self, instance: &Instance) -> Ports {
        let own = host::ports(instance, false);
        Ports {
            health: self.health_port.unwrap_or(own.health),
            metrics: self.metrics_port.unwrap_or(own.metrics),
            ..own
        }
    }

    /// Whether it may run what it lists.
    fn check(&self) -> Result<()> {
        if self.controllers.is_empty() {
            bail!("no controller belongs to group {:?}", self.group);
        }
        for def in &self.controllers {
            if def.group != self.group {
                bail!(
                    "controller {:?} belongs to group {:?} and cannot run in the program of {:?}",
                    def.name,
                    def.group,
                    self.group
                );
            }
        }
        Ok(())
    }

    /// The controllers that nobody runs.
    fn left(&self, running: &BTreeMap<String, Entry>) -> Vec<&'static ControllerDef<World>> {
        let mut left = Vec::new();
        for def in &self.controllers {
            match running.get(def.name) {
                None => left.push(*def),
                Some(entry) => tracing::info!(
                    controller = def.name,
                    health = entry.health_endpoint,
                    metrics = entry.metrics_endpoint,
                    passthrough = entry.passthrough_endpoint,
                    "the controller runs already and is skipped"
                ),
            }
        }
        left
    }
}

/// How a program ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every controller of the group ran already.
    NothingToDo,
    /// A signal asked for it.
    Asked,
    /// The control plane is gone, or has another start's record.
    Left,
}

/// Runs a group's controllers until a signal, or until the control plane is gone. The
/// first signal drains, the second ends at once.
///
/// # Errors
/// Why the controllers could not be started, or that somebody else took one over.
pub async fn run(instance: &Instance, program: Program) -> Result<Ended> {
    program.check()?;
    let mut signals = Signals::listen().context("failed to listen for signals")?;
    let work = work(instance, &program);
    let started = tokio::select! {
        started = work => started?,
        how = signals.next() => bail!("{how} while starting"),
    };
    let Some(Started {
        manager,
        discovery,
        registered,
    }) = started
    else {
        return Ok(Ended::NothingToDo);
    };
    let identity = manager.identity().to_owned();
    tracing::info!(
        group = program.group,
        manager = identity,
        "the controllers are running"
    );
    let gone = vigil(&discovery, program.group, &identity, registered);
    let outcome = tokio::select! {
        _ = signals.next() => Ok(Ended::Asked),
        controller = manager.lost() => {
            Err(anyhow::anyhow!("the lease of controller {controller:?} is lost"))
        }
        () = discovery.dismissed() => {
            tracing::info!("the control plane stops; leaving");
            Ok(Ended::Left)
        }
        problem = gone => {
            tracing::info!(problem, "the control plane is gone; leaving");
            Ok(Ended::Left)
        }
    };
    tokio::select! {
        aborted = manager.stop() => if !aborted.is_empty() {
            tracing::warn!(controllers = aborted.join(","), "controllers did not end in time");
        },
        how = signals.next() => bail!("{how} while stopping"),
    }
    tracing::info!("stopped");
    outcome
}

struct Started {
    manager: Manager,
    discovery: Discovery,
    registered: watch::Receiver<bool>,
}

/// Starts what nobody runs; `None` when there is nothing.
async fn work(instance: &Instance, program: &Program) -> Result<Option<Started>> {
    let kubeconfig = match &program.kubeconfig {
        Some(file) => Kubeconfig::read_from(file)
            .with_context(|| format!("failed to read the kubeconfig {}", file.display()))?,
        None => from_service(instance).await?,
    };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .context("failed to use the kubeconfig")?;
    let client = kube::Client::try_from(config).context("failed to use the kubeconfig")?;
    let client = tell_reach(client);
    let discovery = Discovery::new(client.clone(), NAMES);
    let world = Arc::new(host::world(instance)?);
    let certificates = Certificates::open(&instance.path(PathKey::TlsDir))?;
    let begin = Instant::now();
    loop {
        // On a cluster where nothing of ours runs, there is no record to wait for.
        let alone = program.kubeconfig.is_some();
        let running = running(&discovery, alone, begin + LOOKUP).await?;
        let controllers = program.left(&running);
        if controllers.is_empty() {
            tracing::info!(
                "All controllers are already running in RDD controller manager, exiting"
            );
            return Ok(None);
        }
        let names = controllers.iter().map(|def| def.name);
        let tls = certificates.of_manager(program.group, names)?;
        let (registered, seen) = watch::channel(false);
        let terms = Terms::external(program.group, &uuid::Uuid::new_v4().to_string());
        let identity = terms.holder().to_owned();
        let start = rdd_manager::start(Options {
            client: client.clone(),
            world: Arc::clone(&world),
            controllers,
            registry: REGISTRY,
            admission: Arc::new(WebhooksOnly),
            passthroughs: Passthroughs::default(),
            served_at: None,
            tls: Some(tls),
            ports: program.ports(instance),
            names: NAMES,
            role: Role::External {
                group: program.group.to_owned(),
            },
            terms,
            deadlines: Deadlines {
                drain: DRAIN,
                sign_off: SIGN_OFF,
                ..Deadlines::default()
            },
        });
        let started = tokio::select! {
            started = start => started,
            problem = vigil(&discovery, program.group, &identity, seen.clone()) => {
                bail!("the control plane is gone: {problem}")
            }
        };
        match started {
            Ok(manager) => {
                registered.send_replace(true);
                return Ok(Some(Started {
                    manager,
                    discovery,
                    registered: seen,
                }));
            }
            // Somebody was quicker, and is listed soon.
            Err(Error::Held { controller, holder }) if begin.elapsed() < LOOKUP => {
                tracing::info!(controller, holder, "another manager has taken a controller");
            }
            Err(error) => return Err(error).context("failed to start the controllers"),
        }
    }
}

/// Who runs what, once that is known.
async fn running(
    discovery: &Discovery,
    alone: bool,
    deadline: Instant,
) -> Result<BTreeMap<String, Entry>> {
    loop {
        let problem = match timeout(LOOK, discovery.running()).await {
            Ok(Ok(Running::Known(running))) => return Ok(running),
            Ok(Ok(Running::Unknown)) if alone => return Ok(BTreeMap::new()),
            Ok(Ok(Running::Unknown)) => anyhow::anyhow!("no manager has registered yet"),
            Ok(Err(error)) => error.into(),
            Err(_) => anyhow::anyhow!("the API does not answer"),
        };
        if Instant::now() >= deadline {
            // Starting in doubt could mean two for one kind.
            return Err(problem.context("failed to find out which controllers run"));
        }
        tracing::debug!(
            problem = format!("{problem:#}"),
            "asking again which controllers run"
        );
        sleep(PAUSE).await;
    }
}

/// What `rdd svc config` prints: it starts the control plane if need be.
async fn from_service(instance: &Instance) -> Result<Kubeconfig> {
    let program = rdd(instance)?;
    let instance = format!("--instance={}", instance.suffix());
    let output = Command::new(&program)
        .args([&instance, "service", "config"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("failed to run {}", program.display()))?;
    if !output.status.success() {
        bail!(
            "`{} svc config` failed with {}; it has said why",
            program.display(),
            output.status
        );
    }
    let text = String::from_utf8(output.stdout).context("`rdd svc config` printed no text")?;
    Kubeconfig::from_yaml(&text).context("`rdd svc config` printed no kubeconfig")
}

/// `rdd` on the `PATH`, else beside this program.
fn rdd(instance: &Instance) -> Result<PathBuf> {
    if let Some(found) = instance.environment().find("rdd") {
        return Ok(found);
    }
    let own = std::env::current_exe().context("failed to find this program")?;
    let beside = own.parent().unwrap_or(Path::new(".")).join("rdd");
    if !beside.is_file() {
        bail!(
            "rdd is neither on the PATH nor at {}; put it there, or name a cluster with --kubeconfig",
            beside.display()
        );
    }
    Ok(beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_elsewhere_is_left_alone() {
        let entry = Entry::new("embedded/1", 1, 1, Vec::new());
        let running = BTreeMap::from([("demo".to_owned(), entry)]);
        let program = Program::of("app");
        program.check().expect("a group");
        let names: Vec<&str> = program.left(&running).iter().map(|def| def.name).collect();
        assert_eq!(names, ["app"]);
    }

    #[test]
    fn a_program_runs_its_own_group_and_no_other() {
        let mut program = Program::of("app");
        program.controllers.extend(of_group("containers"));
        let error = program
            .check()
            .expect_err("foreign controllers")
            .to_string();
        assert!(
            error.contains("cannot run in the program of \"app\""),
            "{error}"
        );
        let error = Program::of("nobody").check().expect_err("no controllers");
        assert!(
            error.to_string().contains("no controller belongs to"),
            "{error}"
        );
    }
}

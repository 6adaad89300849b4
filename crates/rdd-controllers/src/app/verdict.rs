//! What the App's conditions say: a pure function of the App and of what is known.

use rdd_api::condition::{self, Condition, reason};
use rdd_api::{App, MachineType};
use rdd_machine::Backend;

use super::keeper::Phase;

/// What is known beside the App itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// Our machine.
    pub(super) phase: &'a Phase,
    /// What an engine of ours that runs cannot do.
    pub(super) remark: Option<&'a str>,
    /// Whether anybody runs the engine controller; doubt counts as yes.
    pub(super) engine_enabled: bool,
}

/// One condition's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Says {
    status: bool,
    reason: String,
    message: String,
}

impl Says {
    fn new(status: bool, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// Whether the App wants an engine, wherever it is.
pub(super) fn wants_running(app: &App) -> bool {
    app.spec.running && app.metadata.deletion_timestamp.is_none()
}

/// Whether the App wants our own machine to run.
pub(super) fn wants_machine(app: &App) -> bool {
    wants_running(app) && app.spec.endpoint().is_none() && unsupported(app).is_none()
}

/// The engine that the App wants on our own machine.
pub(super) fn backend(app: &App) -> Backend {
    if app.spec.is_moby() {
        Backend::Moby
    } else {
        Backend::Containerd
    }
}

/// What no retry makes possible.
fn unsupported(app: &App) -> Option<&'static str> {
    let machine = app.spec.machine.as_ref().map(|machine| machine.r#type);
    if app.spec.endpoint().is_none() && machine == Some(MachineType::Lima) {
        return Some("machine type lima is not available; set machine.type=native");
    }
    None
}

/// The conditions of the App's own controller, complete. `None` while nothing has
/// been verified: what stands is then left alone.
pub(super) fn conditions(app: &App, known: Known<'_>) -> Option<Vec<Condition>> {
    let running = running(app, known)?;
    let created = created(app, &running);
    let kubernetes = kubernetes(app);
    let settled = settled(app, &running, &kubernetes, known.engine_enabled);
    let old = app
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let generation = app.metadata.generation.unwrap_or_default();
    let says = [
        (condition::CREATED, created),
        (condition::RUNNING, running),
        (condition::KUBERNETES_READY, kubernetes),
        (condition::SETTLED, settled),
    ];
    let complete = says.into_iter().map(|(kind, says)| {
        let old = condition::find(old.unwrap_or_default(), kind);
        Condition::new(
            old,
            kind,
            says.status,
            &says.reason,
            &says.message,
            generation,
        )
    });
    Some(complete.collect())
}

fn running(app: &App, known: Known<'_>) -> Option<Says> {
    let phase = known.phase;
    if wants_running(app) {
        if let Some(message) = unsupported(app) {
            return Some(Says::new(false, reason::NOT_SUPPORTED, message));
        }
        if let Some(endpoint) = app.spec.endpoint() {
            return Some(match phase {
                // Our own engine goes first: there is one engine at a time.
                Phase::Stopped => {
                    Says::new(true, reason::STARTED, format!("Attached to {endpoint}"))
                }
                Phase::Failed(failure) => Says::new(false, failure.reason, &failure.message),
                Phase::Unverified => return None,
                _ => Says::new(
                    false,
                    reason::STARTING,
                    "The own engine is being stopped first",
                ),
            });
        }
    }
    let stored = app.status.as_ref().and_then(|status| {
        condition::find(&status.conditions, condition::RUNNING).map(Condition::is_true)
    });
    Some(match phase {
        Phase::Unverified => return None,
        // It was running and still is: nothing to say until that is certain.
        Phase::Adopting if stored == Some(true) => return None,
        Phase::Adopting | Phase::Starting => {
            Says::new(false, reason::STARTING, "The container engine is starting")
        }
        Phase::Running => {
            let mut message = "The container engine is running".to_owned();
            if let Some(remark) = known.remark {
                message = format!("{message}; {remark}");
            }
            Says::new(true, reason::STARTED, message)
        }
        Phase::Stopping => Says::new(false, reason::STOPPING, "The container engine is stopping"),
        Phase::Stopped if wants_running(app) => {
            Says::new(false, reason::STARTING, "The container engine is starting")
        }
        Phase::Stopped => Says::new(false, reason::STOPPED, "The container engine is stopped"),
        Phase::Failed(failure) => Says::new(false, failure.reason, &failure.message),
    })
}

/// A native machine exists as soon as there is something to run on it.
fn created(app: &App, running: &Says) -> Says {
    let impossible = wants_running(app) && condition::is_terminal(&running.reason);
    if impossible {
        return running.clone();
    }
    Says::new(true, reason::CREATED, "The machine is this computer")
}

fn kubernetes(app: &App) -> Says {
    if app
        .spec
        .kubernetes
        .as_ref()
        .is_some_and(|kubernetes| kubernetes.enabled)
    {
        return Says::new(
            false,
            reason::NOT_SUPPORTED,
            "Kubernetes is not supported on this machine; set kubernetes.enabled=false",
        );
    }
    Says::new(false, reason::NOT_APPLICABLE, "Kubernetes is not enabled")
}

/// First match wins; every input is of the App's present generation, or says that it is not.
fn settled(app: &App, running: &Says, kubernetes: &Says, engine_enabled: bool) -> Says {
    let wants = wants_running(app);
    if wants && !running.status {
        let message = if is_told(running) {
            running.message.clone()
        } else {
            "The machine has not yet reached Started".to_owned()
        };
        return Says::new(false, &running.reason, message);
    }
    if !wants && running.reason != reason::STOPPED {
        let message = if is_told(running) {
            running.message.clone()
        } else {
            "The machine has not yet reached Stopped".to_owned()
        };
        return Says::new(false, &running.reason, message);
    }
    if engine_enabled && let Some(waiting) = engine(app, wants) {
        return waiting;
    }
    if wants && kubernetes.reason == reason::NOT_SUPPORTED {
        return kubernetes.clone();
    }
    Says::new(true, reason::SETTLED, "App has reached the desired state")
}

/// Failures and what will not change by itself are told as they are.
fn is_told(running: &Says) -> bool {
    let failed = [reason::START_FAILED, reason::STOP_FAILED].contains(&running.reason.as_str());
    (failed || condition::is_terminal(&running.reason)) && !running.message.is_empty()
}

/// What the engine controller still has to do, or has to say.
fn engine(app: &App, wants: bool) -> Option<Says> {
    let stale = || {
        Some(Says::new(
            false,
            reason::ENGINE_STALE,
            "Container engine needs to be synchronized",
        ))
    };
    let generation = app.metadata.generation.unwrap_or_default();
    let ready = app
        .status
        .as_ref()
        .and_then(|status| condition::find(&status.conditions, condition::CONTAINER_ENGINE_READY));
    let fresh = ready.filter(|ready| ready.observed_generation >= Some(generation));
    if !wants {
        let ended = fresh.is_some_and(|ready| {
            [reason::STOPPED, reason::NOT_APPLICABLE].contains(&ready.reason.as_str())
        });
        return if ended { None } else { stale() };
    }
    let Some(ready) = ready else {
        return Some(Says::new(
            false,
            reason::WAITING_FOR_ENGINE,
            "Waiting for container engine condition",
        ));
    };
    if fresh.is_none() {
        return stale();
    }
    (!ready.is_true()).then(|| Says::new(false, &ready.reason, &ready.message))
}

/// Whether the engine controller has removed the mirrors of an App that is going.
pub(super) fn swept(app: &App, engine_enabled: bool) -> bool {
    !engine_enabled || engine(app, false).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::keeper::{Done, Keeper};
    use rdd_api::{AppSpec, AppStatus, ContainerEngine, Kubernetes, Machine};
    use rdd_machine::{Backend, Error};
    use std::time::Instant;

    const GENERATION: i64 = 3;

    fn app(running: bool, engine: Option<(bool, &str, i64)>) -> App {
        let mut app = App {
            spec: AppSpec {
                running,
                ..AppSpec::default()
            },
            ..App::default()
        };
        app.metadata.generation = Some(GENERATION);
        let conditions = engine.into_iter().map(|(status, reason, generation)| {
            Condition::new(
                None,
                condition::CONTAINER_ENGINE_READY,
                status,
                reason,
                "engine says",
                generation,
            )
        });
        app.status = Some(AppStatus {
            conditions: conditions.collect(),
            ..AppStatus::default()
        });
        app
    }

    fn failed(done: Done) -> Phase {
        let mut keeper = Keeper::new();
        keeper.done(done, Instant::now());
        keeper.phase().clone()
    }

    fn check(app: &App, phase: &Phase, engine_enabled: bool, kind: &str, expect: (&str, &str)) {
        let known = Known {
            phase,
            remark: None,
            engine_enabled,
        };
        let all = conditions(app, known).expect("something is known");
        let condition = condition::find(&all, kind).expect("all four are written");
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            expect,
            "{kind}: {phase:?} {app:?}"
        );
        assert!(!condition.message.is_empty());
        for condition in &all {
            assert_eq!(condition.observed_generation, Some(GENERATION));
        }
    }

    #[test]
    fn settled_follows_the_machine_then_the_engine() {
        let settled = |app: &App, phase: &Phase, enabled: bool, expect: (&str, &str)| {
            check(app, phase, enabled, condition::SETTLED, expect);
        };
        let on = |engine| app(true, engine);
        let off = |engine| app(false, engine);
        settled(&on(None), &Phase::Starting, true, ("False", "Starting"));
        settled(&on(None), &Phase::Stopped, true, ("False", "Starting"));
        settled(&on(None), &Phase::Stopping, true, ("False", "Stopping"));
        settled(
            &on(None),
            &Phase::Running,
            true,
            ("False", "WaitingForEngine"),
        );
        settled(&on(None), &Phase::Running, false, ("True", "Settled"));
        settled(
            &on(Some((true, "Connected", 2))),
            &Phase::Running,
            true,
            ("False", "EngineStale"),
        );
        settled(
            &on(Some((true, "Connected", 3))),
            &Phase::Running,
            true,
            ("True", "Settled"),
        );
        settled(
            &on(Some((true, "NotApplicable", 3))),
            &Phase::Running,
            true,
            ("True", "Settled"),
        );
        settled(
            &on(Some((false, "ConnectFailed", 3))),
            &Phase::Running,
            true,
            ("False", "ConnectFailed"),
        );
        settled(&off(None), &Phase::Running, true, ("False", "Started"));
        settled(&off(None), &Phase::Stopping, true, ("False", "Stopping"));
        settled(&off(None), &Phase::Stopped, true, ("False", "EngineStale"));
        settled(&off(None), &Phase::Stopped, false, ("True", "Settled"));
        settled(
            &off(Some((false, "Stopped", 2))),
            &Phase::Stopped,
            true,
            ("False", "EngineStale"),
        );
        settled(
            &off(Some((false, "Stopped", 3))),
            &Phase::Stopped,
            true,
            ("True", "Settled"),
        );
        settled(
            &off(Some((true, "NotApplicable", 3))),
            &Phase::Stopped,
            true,
            ("True", "Settled"),
        );
        settled(
            &off(Some((true, "Connected", 3))),
            &Phase::Stopped,
            true,
            ("False", "EngineStale"),
        );
    }

    #[test]
    fn failures_are_told_in_their_own_words() {
        let missing = failed(Done::Started(Err(Error::NotInstalled(Backend::Moby))));
        check(
            &app(true, None),
            &missing,
            true,
            condition::RUNNING,
            ("False", "EngineNotInstalled"),
        );
        check(
            &app(true, None),
            &missing,
            true,
            condition::SETTLED,
            ("False", "EngineNotInstalled"),
        );
        check(
            &app(true, None),
            &missing,
            true,
            condition::CREATED,
            ("False", "EngineNotInstalled"),
        );
        let stuck = failed(Done::Stopped(Err(Error::Stuck { pid: 7 })));
        check(
            &app(false, None),
            &stuck,
            true,
            condition::SETTLED,
            ("False", "StopFailed"),
        );
        let known = Known {
            phase: &stuck,
            remark: None,
            engine_enabled: true,
        };
        let all = conditions(&app(false, None), known).expect("known");
        let settled = condition::find(&all, condition::SETTLED).expect("written");
        assert!(settled.message.contains("process 7"), "{}", settled.message);
    }

    #[test]
    fn what_an_engine_cannot_do_is_said_while_it_runs() {
        let said = |phase: &Phase| {
            let known = Known {
                phase,
                remark: Some("containers have no network"),
                engine_enabled: true,
            };
            let all = conditions(&app(true, None), known).expect("known");
            let running = condition::find(&all, condition::RUNNING).expect("written");
            running.message.clone()
        };
        let remark = "; containers have no network";
        assert!(said(&Phase::Running).ends_with(remark));
        assert!(!said(&Phase::Starting).contains(remark));
    }

    #[test]
    fn nothing_is_said_before_anything_is_verified() {
        let silent = |app: &App, phase: &Phase| {
            let known = Known {
                phase,
                remark: None,
                engine_enabled: true,
            };
            assert_eq!(conditions(app, known), None);
        };
        silent(&app(true, None), &Phase::Unverified);
        silent(&app(false, None), &Phase::Unverified);
        let mut before = app(true, None);
        let status = before.status.get_or_insert_default();
        status.conditions.push(Condition::new(
            None,
            condition::RUNNING,
            true,
            "Started",
            "m",
            3,
        ));
        silent(&before, &Phase::Adopting);
        check(
            &app(true, None),
            &Phase::Adopting,
            true,
            condition::RUNNING,
            ("False", "Starting"),
        );
    }

    #[test]
    fn an_attached_engine_needs_no_machine() {
        let mut attached = app(true, Some((true, "Connected", 3)));
        attached.spec.container_engine = Some(ContainerEngine {
            name: "moby".to_owned(),
            endpoint: Some("unix:///var/run/docker.sock".to_owned()),
        });
        assert!(!wants_machine(&attached));
        check(
            &attached,
            &Phase::Stopped,
            true,
            condition::RUNNING,
            ("True", "Started"),
        );
        check(
            &attached,
            &Phase::Stopped,
            true,
            condition::SETTLED,
            ("True", "Settled"),
        );
        check(
            &attached,
            &Phase::Running,
            true,
            condition::SETTLED,
            ("False", "Starting"),
        );
        attached.spec.running = false;
        check(
            &attached,
            &Phase::Stopped,
            true,
            condition::RUNNING,
            ("False", "Stopped"),
        );
    }

    #[test]
    fn what_this_machine_cannot_do_ends_every_wait() {
        let mut kubernetes = app(true, Some((true, "Connected", 3)));
        kubernetes.spec.kubernetes = Some(Kubernetes {
            enabled: true,
            version: None,
        });
        check(
            &kubernetes,
            &Phase::Running,
            true,
            condition::SETTLED,
            ("False", "NotSupported"),
        );
        check(
            &kubernetes,
            &Phase::Running,
            true,
            condition::KUBERNETES_READY,
            ("False", "NotSupported"),
        );
        let mut lima = app(true, None);
        lima.spec.machine = Some(Machine {
            r#type: MachineType::Lima,
        });
        assert!(!wants_machine(&lima));
        check(
            &lima,
            &Phase::Stopped,
            true,
            condition::SETTLED,
            ("False", "NotSupported"),
        );
        check(
            &app(true, None),
            &Phase::Running,
            true,
            condition::KUBERNETES_READY,
            ("False", "NotApplicable"),
        );
    }

    #[test]
    fn an_app_that_goes_wants_nothing_and_waits_for_the_sweep() {
        let mut going = app(true, Some((true, "Connected", 3)));
        going.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
            ));
        assert!(!wants_running(&going) && !wants_machine(&going));
        assert!(!swept(&going, true));
        assert!(swept(&going, false), "nobody is there to sweep");
        let mut done = app(true, Some((false, "Stopped", 3)));
        done.metadata.deletion_timestamp = going.metadata.deletion_timestamp;
        assert!(swept(&done, true));
    }
}

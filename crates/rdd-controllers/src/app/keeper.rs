//! What is known about our machine, and what has to be done about it.
//!
//! ```text
//! Unverified ─look─▶ Adopting ─▶ Running ──ends by itself──▶ Failed ─(pause)─▶ Starting
//!     │                             │                          ▲
//!     ├─look─▶ Starting ─▶ Running  └─stop─▶ Stopping ─▶ Stopped   (a step that fails: Failed)
//!     └─stop─▶ Stopped
//! ```
//!
//! What an earlier process wrote about the machine is not believed: a start begins
//! with a look. A running step is never cut off; what is wanted by then is looked at
//! when it ends, and stopping wins.

use std::time::{Duration, Instant};

use rdd_api::condition::reason;
use rdd_machine::Error;

/// The first pause before a failed step is tried again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause before a failed step is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often is looked for an engine that somebody has to install. That nothing was
/// found says nothing new, so nothing is written.
const PROBE: Duration = Duration::from_secs(1);

/// An engine that ran so long did not fail while starting: the pauses begin anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody has looked since this process started.
    Unverified,
    /// It lives, and is being taken over.
    Adopting,
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// It does not run.
    Stopped,
    /// A step failed.
    Failed(Failure),
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// One of the closed set.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
    /// When to try again; `None` when only a change of the App helps.
    retry: Option<Instant>,
}

/// A step that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Finds out whether the machine lives.
    Look,
    /// Starts or adopts it.
    Start,
    /// Stops it.
    Stop,
    /// Waits until it ends by itself.
    Watch,
    /// Looks whether there is an engine to start by now.
    Probe,
}

/// How a step ended.
#[derive(Debug)]
pub(super) enum Done {
    /// Whether the machine lives.
    Looked(bool),
    /// It runs, or why not.
    Started(Result<(), Error>),
    /// It is stopped, or why not.
    Stopped(Result<(), Error>),
    /// It ended by itself.
    Ended,
    /// Why there is no engine to start, if so.
    Probed(Result<(), Error>),
}

/// Keeps one machine as it is wanted.
#[derive(Debug)]
pub(super) struct Keeper {
    phase: Phase,
    step: Option<Step>,
    pause: Duration,
    running_since: Option<Instant>,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Unverified,
            step: None,
            pause: PAUSE_MIN,
            running_since: None,
        }
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The App has changed: what could not work before may work now.
    pub(super) fn forgive(&mut self) {
        if let Phase::Failed(failure) = &mut self.phase {
            failure.retry = Some(Instant::now());
        }
        self.pause = PAUSE_MIN;
    }

    /// When to look again although nothing happens.
    pub(super) fn wake(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Failed(failure) if self.step.is_none() => failure.retry,
            _ => None,
        }
    }

    /// The step to begin now. `None` leaves what runs alone.
    pub(super) fn next(&mut self, wanted: bool, now: Instant) -> Option<Step> {
        if self.step.is_some_and(|step| step != Step::Watch) {
            return None;
        }
        let due = |failure: &Failure| failure.retry.is_some_and(|retry| retry <= now);
        let (phase, step) = match (&self.phase, wanted) {
            (Phase::Unverified, true) => (Phase::Unverified, Step::Look),
            (Phase::Unverified, false) => (Phase::Unverified, Step::Stop),
            (Phase::Adopting, true) => (Phase::Adopting, Step::Start),
            (Phase::Stopped | Phase::Starting, true) => (Phase::Starting, Step::Start),
            (Phase::Failed(failure), true) if due(failure) => {
                if [reason::ENGINE_NOT_INSTALLED, reason::NOT_SUPPORTED].contains(&failure.reason) {
                    self.step = Some(Step::Probe);
                    return Some(Step::Probe);
                }
                (Phase::Starting, Step::Start)
            }
            // A failed stop is a failure, not a stop: it is tried again.
            (Phase::Failed(failure), false)
                if due(failure) || failure.reason != reason::STOP_FAILED =>
            {
                (Phase::Stopping, Step::Stop)
            }
            (Phase::Running, true) if self.step.is_none() => (Phase::Running, Step::Watch),
            (Phase::Running | Phase::Adopting | Phase::Starting | Phase::Stopping, false) => {
                (Phase::Stopping, Step::Stop)
            }
            (Phase::Stopping, true) => (Phase::Starting, Step::Start),
            (Phase::Running | Phase::Failed(_), true)
            | (Phase::Stopped | Phase::Failed(_), false) => {
                return None;
            }
        };
        self.phase = phase;
        self.step = Some(step);
        Some(step)
    }

    /// A step ended.
    pub(super) fn done(&mut self, done: Done, now: Instant) {
        self.step = None;
        self.phase = match done {
            Done::Probed(Ok(())) => Phase::Starting,
            Done::Looked(true) => Phase::Adopting,
            Done::Looked(false) => Phase::Starting,
            Done::Started(Ok(())) => {
                self.running_since = Some(now);
                Phase::Running
            }
            Done::Stopped(Ok(())) => {
                self.pause = PAUSE_MIN;
                Phase::Stopped
            }
            // The same once more, or the next thing that is missing.
            Done::Probed(Err(error)) | Done::Started(Err(error)) => {
                let retry = match error {
                    Error::NotInstalled(_) | Error::Rootless(_) => Some(now + PROBE),
                    _ => Some(now + self.pause()),
                };
                Phase::Failed(Failure {
                    reason: match error {
                        Error::NotInstalled(_) => reason::ENGINE_NOT_INSTALLED,
                        Error::Rootless(_) => reason::NOT_SUPPORTED,
                        _ => reason::START_FAILED,
                    },
                    message: chain(&error),
                    retry,
                })
            }
            Done::Stopped(Err(error)) => Phase::Failed(Failure {
                reason: reason::STOP_FAILED,
                message: chain(&error),
                retry: Some(now + self.pause()),
            }),
            Done::Ended => {
                let healthy = self
                    .running_since
                    .is_some_and(|since| now.duration_since(since) >= HEALTHY);
                if healthy {
                    self.pause = PAUSE_MIN;
                }
                // Its containers still run: the sooner it is back, the better.
                let retry = if healthy { now } else { now + self.pause() };
                Phase::Failed(Failure {
                    reason: reason::START_FAILED,
                    message: "the engine ended unexpectedly and is started again".to_owned(),
                    retry: Some(retry),
                })
            }
        };
    }

    /// The pause before the next attempt; each is longer than the one before.
    fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use rdd_machine::Backend;

    use super::*;

    fn stuck() -> Error {
        Error::Stuck { pid: 7 }
    }

    #[test]
    fn a_start_begins_with_a_look_and_ends_in_a_watch() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        assert_eq!(keeper.next(true, now), Some(Step::Look));
        assert_eq!(keeper.next(true, now), None, "one step at a time");
        keeper.done(Done::Looked(false), now);
        assert_eq!(keeper.next(true, now), Some(Step::Start));
        assert_eq!(keeper.phase(), &Phase::Starting);
        keeper.done(Done::Started(Ok(())), now);
        assert_eq!(keeper.phase(), &Phase::Running);
        assert_eq!(keeper.next(true, now), Some(Step::Watch));
        assert_eq!(keeper.next(true, now), None);
        assert_eq!(
            keeper.next(false, now),
            Some(Step::Stop),
            "a watch yields to a stop"
        );
        keeper.done(Done::Stopped(Ok(())), now);
        assert_eq!(keeper.phase(), &Phase::Stopped);
        assert_eq!(keeper.next(false, now), None);
    }

    #[test]
    fn a_living_machine_is_adopted_without_being_called_starting() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        keeper.next(true, now);
        keeper.done(Done::Looked(true), now);
        assert_eq!(keeper.phase(), &Phase::Adopting);
        assert_eq!(keeper.next(true, now), Some(Step::Start));
        assert_eq!(keeper.phase(), &Phase::Adopting);
    }

    #[test]
    fn an_unwanted_machine_is_stopped_before_anything_is_said() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        assert_eq!(keeper.next(false, now), Some(Step::Stop));
        assert_eq!(keeper.phase(), &Phase::Unverified);
        keeper.done(Done::Stopped(Ok(())), now);
        assert_eq!(keeper.phase(), &Phase::Stopped);
    }

    #[test]
    fn a_step_is_not_cut_off_and_stopping_wins() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        keeper.next(true, now);
        keeper.done(Done::Looked(false), now);
        keeper.next(true, now);
        assert_eq!(keeper.next(false, now), None);
        keeper.done(Done::Started(Ok(())), now);
        assert_eq!(keeper.next(false, now), Some(Step::Stop));
        assert_eq!(keeper.next(true, now), None);
        keeper.done(Done::Stopped(Ok(())), now);
        assert_eq!(keeper.next(true, now), Some(Step::Start));
    }

    #[test]
    fn failures_are_retried_ever_later() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        keeper.next(true, now);
        keeper.done(Done::Looked(false), now);
        let mut at = now;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(keeper.next(true, at), Some(Step::Start), "{pause}");
            keeper.done(Done::Started(Err(stuck())), at);
            assert_eq!(keeper.wake(), Some(at + Duration::from_secs(pause)));
            assert_eq!(keeper.next(true, at), None);
            at += Duration::from_secs(pause);
        }
    }

    #[test]
    fn what_an_ordinary_user_lacks_is_looked_for_one_after_the_other() {
        let lacks = |what: &str| Err(Error::Rootless(what.to_owned()));
        let now = Instant::now();
        let mut keeper = Keeper::new();
        keeper.next(true, now);
        keeper.done(Done::Looked(false), now);
        keeper.next(true, now);
        keeper.done(Done::Started(lacks("a program")), now);
        assert_eq!(keeper.next(true, now + PROBE), Some(Step::Probe));
        keeper.done(Done::Probed(lacks("a range")), now + PROBE);
        let Phase::Failed(failure) = keeper.phase().clone() else {
            panic!("{:?}", keeper.phase());
        };
        assert_eq!(failure.reason, reason::NOT_SUPPORTED);
        assert!(failure.message.contains("a range"), "{}", failure.message);
        assert_eq!(keeper.next(true, now + 2 * PROBE), Some(Step::Probe));
        keeper.done(Done::Probed(Ok(())), now + 2 * PROBE);
        assert_eq!(keeper.next(true, now + 2 * PROBE), Some(Step::Start));
    }

    #[test]
    fn an_engine_that_is_installed_later_is_found_and_nothing_flaps_until_then() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        keeper.next(true, now);
        keeper.done(Done::Looked(false), now);
        keeper.next(true, now);
        keeper.done(Done::Started(Err(Error::NotInstalled(Backend::Moby))), now);
        let failed = keeper.phase().clone();
        let mut at = now + PROBE;
        for _ in 0..3 {
            assert_eq!(keeper.next(true, at), Some(Step::Probe));
            keeper.done(Done::Probed(Err(Error::NotInstalled(Backend::Moby))), at);
            at += PROBE;
            let (Phase::Failed(before), Phase::Failed(after)) = (&failed, keeper.phase()) else {
                panic!("{:?}", keeper.phase());
            };
            assert_eq!(
                (before.reason, &before.message),
                (after.reason, &after.message)
            );
        }
        keeper.next(true, at);
        keeper.done(Done::Probed(Ok(())), at);
        assert_eq!(keeper.next(true, at), Some(Step::Start));
    }

    #[test]
    fn a_failed_stop_is_no_stop() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        keeper.next(false, now);
        keeper.done(Done::Stopped(Err(stuck())), now);
        let Phase::Failed(failure) = keeper.phase().clone() else {
            panic!("{:?}", keeper.phase());
        };
        assert_eq!(failure.reason, reason::STOP_FAILED);
        assert_eq!(keeper.next(false, now), None);
        assert_eq!(keeper.next(false, now + PAUSE_MIN), Some(Step::Stop));
    }

    #[test]
    fn a_healthy_engine_that_dies_is_started_again_at_once() {
        let now = Instant::now();
        let mut keeper = Keeper::new();
        keeper.next(true, now);
        keeper.done(Done::Looked(true), now);
        keeper.next(true, now);
        keeper.done(Done::Started(Ok(())), now);
        keeper.next(true, now);
        let later = now + HEALTHY;
        keeper.done(Done::Ended, later);
        assert_eq!(keeper.next(true, later), Some(Step::Start));
        keeper.done(Done::Started(Ok(())), later);
        keeper.next(true, later);
        keeper.done(Done::Ended, later);
        assert_eq!(
            keeper.next(true, later),
            None,
            "it died young: a pause first"
        );
    }
}

//! What a container's mirror asks to be done: the one-shot annotation, then the
//! standing wish.
//!
//! The request is read from the API, never from a cache, and recorded as `InProgress`
//! before the engine is called, with the run of the container that it found: whoever
//! finds it again after a crash knows that it was taken up, and whether it was done. Its
//! removal names the value that was executed, so that a newer one survives and is
//! executed next; equal values written meanwhile collapse.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use rdd_api::names::{self, field_manager};
use rdd_api::{Action, Container, ContainerState, DesiredState, LastAction, condition};
use rdd_engine as engine;
use serde_json::json;
use tokio::time::Instant;

use super::connection::chain;
use super::mirrors::{is_deleting, is_of};
use super::plan;
use super::work::{Done, Key, Work, text};
use crate::containers::container::standing;

/// Carries out what the mirror asks for, oldest first, until nothing is left.
///
/// Outcome and removal of a request are two writes, since one is of the status. Between
/// them the outcome says that the annotation stands for it, so that a failure there does
/// not carry the request out again.
pub(super) async fn run(work: &Work, id: &str) -> Done {
    let api: Api<Container> = work.api();
    loop {
        let Some(mirror) = api.get_opt(id).await.map_err(text)? else {
            return Ok(Vec::new());
        };
        if is_deleting(&mirror) || !is_of(&mirror, &work.label) {
            return Ok(Vec::new());
        }
        let asked = mirror.annotations().get(names::ACTION_ANNOTATION).cloned();
        if let Some(last) = unfinished(&mirror) {
            if last.annotated {
                withdraw(&api, id, &last.action).await?;
                let last = LastAction {
                    annotated: false,
                    ..last
                };
                write(work, id, &last).await?;
                continue;
            }
            if asked.as_ref() != Some(&last.action) {
                abandoned(work, id, last).await?;
                continue;
            }
        }
        let Some(asked) = asked else {
            return standing_wish(work, &mirror).await;
        };
        if let Some(action) = Action::parse(&asked) {
            once(work, &mirror, action).await?;
        } else {
            tracing::warn!(
                name = id,
                action = asked,
                "removed an action that does not exist"
            );
            withdraw(&api, id, &asked).await?;
        }
    }
}

/// The request that is taken up, or done and not removed yet.
fn unfinished(mirror: &Container) -> Option<LastAction> {
    let last = mirror.status.as_ref()?.last_action.as_ref()?;
    (last.state == "InProgress" || last.annotated).then(|| last.clone())
}

async fn once(work: &Work, mirror: &Container, action: Action) -> Result<(), String> {
    let id = mirror.name_any();
    let taken_up = unfinished(mirror);
    let mut record = LastAction {
        action: action.as_str().to_owned(),
        state: "InProgress".to_owned(),
        error: None,
        before: None,
        annotated: false,
        observed_at: Some(condition::now()),
        completed_at: None,
    };
    let mut done = false;
    if let Some(taken_up) = taken_up {
        record.observed_at = taken_up.observed_at.or(record.observed_at);
        // Doing the others again changes nothing.
        done = action == Action::Restart && taken_up.before != run_of(work, &id).await?;
    } else {
        record.before = run_of(work, &id).await?;
        write(work, &id, &record).await?;
        record.before = None;
    }
    if !done {
        work.same_engine().await?;
        match work.engine.act(&id, verb(action)).await {
            Ok(()) => {}
            // The connection is no answer: the request stays and is taken up again.
            Err(error) if error.is_connection() => return Err(chain(&error)),
            Err(error) => record.error = Some(chain(&error)),
        }
    }
    record.state = if record.error.is_none() {
        "Succeeded"
    } else {
        "Failed"
    }
    .to_owned();
    record.annotated = true;
    record.completed_at = Some(condition::now());
    write(work, &id, &record).await
}

/// What tells one run of a container from the next.
async fn run_of(work: &Work, id: &str) -> Result<Option<String>, String> {
    let container = work.engine.container(id).await;
    let container = container.map_err(|error| chain(&error))?;
    Ok(container.map(|container| {
        let started = container.started_at.unwrap_or_default();
        format!("{} {started}", container.pid)
    }))
}

/// A request that was withdrawn after it had been taken up, and before its end was
/// recorded, must not be taken for the next one of its kind.
async fn abandoned(work: &Work, id: &str, last: LastAction) -> Result<(), String> {
    let last = LastAction {
        state: "Failed".to_owned(),
        error: Some("interrupted, and withdrawn before it was taken up again".to_owned()),
        before: None,
        completed_at: Some(condition::now()),
        ..last
    };
    write(work, id, &last).await
}

async fn write(work: &Work, id: &str, record: &LastAction) -> Result<(), String> {
    let status = json!({"lastAction": record});
    work.write_status::<Container>(field_manager::ENGINE_ACTIONS, "Container", id, &status)
        .await
}

/// Removes the request unless it is another one by now.
async fn withdraw(api: &Api<Container>, id: &str, executed: &str) -> Result<(), String> {
    loop {
        let Some(mirror) = api.get_opt(id).await.map_err(text)? else {
            return Ok(());
        };
        let asked = mirror.annotations().get(names::ACTION_ANNOTATION);
        if asked.is_none_or(|asked| asked != executed) {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "uid": mirror.metadata.uid,
            "resourceVersion": mirror.metadata.resource_version,
            "annotations": {names::ACTION_ANNOTATION: null},
        }});
        match api
            .patch(id, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            // Somebody wrote in between; what they wrote is looked at.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => return other.map(drop).map_err(text),
        }
    }
}

/// Drives a container to where the user wants it to stand, one step per look.
async fn standing_wish(work: &Work, mirror: &Container) -> Done {
    let desired = mirror.spec.state;
    if desired == DesiredState::Unknown {
        return Ok(Vec::new());
    }
    let id = mirror.name_any();
    let Some(container) = work
        .engine
        .container(&id)
        .await
        .map_err(|error| chain(&error))?
    else {
        return Ok(Vec::new());
    };
    let actual = plan::container_status(&container).status;
    let Some(action) = standing(desired, actual) else {
        return Ok(Vec::new());
    };
    if action == Action::Start {
        let generation = mirror.metadata.generation.unwrap_or_default();
        let mut starts = work.starts.lock();
        if !starts.may_start(&id, generation, ran_for(&container)) {
            return Err(format!(
                "container {id} ended soon after its last start; it is tried again later"
            ));
        }
    }
    work.same_engine().await?;
    work.engine
        .act(&id, verb(action))
        .await
        .map_err(|error| chain(&error))?;
    let now = work
        .engine
        .container(&id)
        .await
        .map_err(|error| chain(&error))?;
    let reached =
        now.is_none_or(|now| standing(desired, plan::container_status(&now).status).is_none());
    if reached {
        Ok(vec![Key::Container(id)])
    } else {
        Err(format!("container {id} did not reach the wanted state"))
    }
}

/// How long a container that ended ran the last time.
fn ran_for(container: &engine::Container) -> Duration {
    let time = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok();
    let (Some(started), Some(finished)) =
        (time(&container.started_at), time(&container.finished_at))
    else {
        return Duration::ZERO;
    };
    Duration::try_from(finished.duration_since(started)).unwrap_or_default()
}

/// When standing wishes last started which container: one that ends at once is not
/// started in a tight loop.
#[derive(Debug, Default)]
pub(super) struct Starts(HashMap<String, Start>);

#[derive(Debug)]
struct Start {
    at: Instant,
    /// The mirror's generation: another wish begins anew.
    generation: i64,
    /// How long the next start has to wait.
    pause: Duration,
}

impl Starts {
    /// The first pause between two starts; it doubles up to [`Self::PAUSE_MAX`].
    const PAUSE_MIN: Duration = Duration::from_secs(1);
    const PAUSE_MAX: Duration = Duration::from_secs(300);

    /// A container that ran this long came up well; Docker's own restarts count alike.
    const GOOD: Duration = Duration::from_secs(10);

    /// Whether a start is due; the caller then starts.
    fn may_start(&mut self, id: &str, generation: i64, ran: Duration) -> bool {
        let now = Instant::now();
        let last = self.0.get(id);
        let last = last.filter(|last| last.generation == generation && ran < Self::GOOD);
        if last.is_some_and(|last| now.duration_since(last.at) < last.pause) {
            return false;
        }
        let pause = last.map_or(Self::PAUSE_MIN, |last| {
            last.pause.saturating_mul(2).min(Self::PAUSE_MAX)
        });
        let start = Start {
            at: now,
            generation,
            pause,
        };
        self.0.insert(id.to_owned(), start);
        true
    }
}

fn verb(action: Action) -> engine::Action {
    match action {
        Action::Start => engine::Action::Start,
        Action::Stop => engine::Action::Stop,
        Action::Pause => engine::Action::Pause,
        Action::Unpause => engine::Action::Unpause,
        Action::Restart => engine::Action::Restart,
    }
}

/// Whether a mirror has anything to be done.
pub(super) fn is_asked(mirror: &Container) -> bool {
    let status = mirror.status.as_ref();
    let actual = status.map_or(ContainerState::Unknown, |status| status.status);
    !is_deleting(mirror)
        && (mirror.annotations().contains_key(names::ACTION_ANNOTATION)
            || unfinished(mirror).is_some()
            || standing(mirror.spec.state, actual).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_container_that_ends_at_once_is_started_later_and_later() {
        let short = Duration::from_millis(100);
        let mut starts = Starts::default();
        let mut begun = Vec::new();
        let first = Instant::now();
        while begun.len() < 4 {
            if starts.may_start("a", 1, short) {
                begun.push((Instant::now() - first).as_secs());
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(begun, [0, 1, 3, 7]);
        assert!(starts.may_start("b", 1, short), "each on its own");
        assert!(!starts.may_start("a", 1, short));
        assert!(starts.may_start("a", 2, short), "another wish begins anew");
        assert!(!starts.may_start("a", 2, short));
        assert!(
            starts.may_start("a", 2, Starts::GOOD),
            "it had come up well"
        );
    }

    #[test]
    fn a_run_lasts_from_its_start_to_its_end() {
        let mut container = engine::Container {
            started_at: Some("2026-01-01T00:00:00Z".to_owned()),
            ..engine::Container::default()
        };
        assert_eq!(ran_for(&container), Duration::ZERO);
        container.finished_at = Some("2026-01-01T00:01:00Z".to_owned());
        assert_eq!(ran_for(&container), Duration::from_secs(60));
        container.finished_at = Some("2025-01-01T00:01:00Z".to_owned());
        assert_eq!(
            ran_for(&container),
            Duration::ZERO,
            "it has not ended since"
        );
    }
}

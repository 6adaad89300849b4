//! Container: which changes are accepted, and the conditions that follow from its state.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use rdd_admission::{AdmissionRequest, Admit, Admitted, Denial, Frame, Matches, Operation};
use rdd_api::names::{self, controller, field_manager, group, selection};
use rdd_api::{
    Action, Condition, Container, ContainerCreateRequest, ContainerState, ContainerStatus,
    DesiredState, condition,
};
use rdd_manager::{Context, ControllerDef};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::engine::CreateRules;
use super::queue::Queue;
use crate::world::World;

/// The controller.
pub(crate) const DEF: ControllerDef<World> = ControllerDef {
    name: controller::CONTAINER,
    group: selection::CONTAINERS,
    needs: &[],
    crds: || vec![Container::crd(), ContainerCreateRequest::crd()],
    admission: |context| {
        vec![
            Arc::new(ContainerRules::new()),
            Arc::new(CreateRules::new(context.client())),
        ]
    },
    endpoints: |_| Vec::new(),
    run,
};

/// The webhook name by which the rules are known.
const RULES: &str = "container-mutating.containers.rancherdesktop.io";

/// Judges creates and updates of Containers.
#[derive(Debug)]
pub(crate) struct ContainerRules {
    frame: Frame,
}

impl ContainerRules {
    fn new() -> Self {
        let operations = [Operation::Create, Operation::Update];
        let matches = [Matches::resource(
            group::CONTAINERS,
            "containers",
            operations,
        )];
        Self {
            frame: Frame::validating(RULES, matches).listed(
                "container-mutating",
                names::VERSION,
                "container",
            ),
        }
    }
}

#[async_trait]
impl Admit for ContainerRules {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        let old = (request.operation == Operation::Update).then_some(&request.old_object);
        match refusal(&request.object, old) {
            Some(text) => Err(Denial::forbidden(RULES, text)),
            None => Ok(Admitted::default()),
        }
    }
}

/// Why a Container may not be written like this.
fn refusal(new: &Value, old: Option<&Value>) -> Option<String> {
    let action = |object: &Value| {
        let value = &object["metadata"]["annotations"][names::ACTION_ANNOTATION];
        value.as_str().map(str::to_owned)
    };
    let asked = action(new);
    let state = |object: &Value| {
        object["spec"]["state"]
            .as_str()
            .unwrap_or("unknown")
            .to_owned()
    };
    // What stands already, from a time without this rule, is no reason to refuse a
    // change of something else: its finalizer could never be removed.
    let asks_anew = old.is_none_or(|old| action(old) != asked || state(old) != state(new));
    match (&asked, old) {
        (Some(_), None) => {
            return Some(format!(
                "{} annotation is not allowed on create",
                names::ACTION_ANNOTATION
            ));
        }
        (Some(asked), Some(_)) if asks_anew && Action::parse(asked).is_none() => {
            return Some(format!(
                "invalid {} annotation {asked:?}",
                names::ACTION_ANNOTATION
            ));
        }
        _ => {}
    }
    if let Some(old) = old {
        // One field may change: everything else is compared as it is, so that a field
        // added later is protected without touching this rule.
        let spec = |object: &Value| object.get("spec").cloned().unwrap_or_else(|| json!({}));
        let (mut allowed, new_spec) = (spec(old), spec(new));
        match new_spec.get("state") {
            Some(state) => allowed["state"] = state.clone(),
            None => {
                if let Some(fields) = allowed.as_object_mut() {
                    fields.remove("state");
                }
            }
        }
        if allowed != new_spec {
            return Some(format!(
                "only spec.state may be changed: old: {}, new: {new_spec}",
                spec(old)
            ));
        }
    }
    if !asks_anew {
        return None;
    }
    let state = state(new);
    let action = asked.as_deref().and_then(Action::parse)?;
    let contradicts = matches!(
        (state.as_str(), action),
        ("running", Action::Stop | Action::Pause)
            | ("created", Action::Start | Action::Unpause | Action::Restart)
    );
    contradicts.then(|| {
        format!(
            "action {:?} contradicts spec.state {state:?}; set spec.state to \"unknown\" first",
            action.as_str()
        )
    })
}

/// Conditions that are written at once. One after the other, a first pass over many
/// containers would write faster than this reads, and the watch would be lost.
const WRITES: usize = 16;

type Name = (String, String);

/// Containers whose conditions are not what their state says.
struct Wrong {
    /// As the watch told them last.
    latest: HashMap<Name, Arc<Container>>,
    queue: Queue<Name>,
    writers: JoinSet<(Arc<Container>, kube::Result<()>)>,
}

impl Wrong {
    fn new() -> Self {
        Self {
            latest: HashMap::new(),
            queue: Queue::new(),
            writers: JoinSet::new(),
        }
    }

    fn look(&mut self, container: Container) {
        let name = name_of(&container);
        if conditions(&container).is_none() {
            self.latest.remove(&name);
        } else {
            self.latest.insert(name.clone(), Arc::new(container));
            self.queue.push(name);
        }
    }

    fn written(
        &mut self,
        context: &Context<World>,
        container: &Arc<Container>,
        done: kube::Result<()>,
    ) {
        let name = name_of(container);
        self.queue.done(&name, done.is_ok());
        if let Err(error) = &done {
            tracing::warn!(kind = "Container", name = name.1, %error, "failed to write conditions, and tried again later");
            self.latest
                .entry(name)
                .or_insert_with(|| Arc::clone(container));
        }
        context.record("container changed", done.map_err(|error| error.to_string()));
    }

    fn write(&mut self, client: &kube::Client) {
        while let Some(name) = self.queue.pop(WRITES) {
            let Some(container) = self.latest.remove(&name) else {
                // It came right by itself.
                self.queue.done(&name, true);
                continue;
            };
            let client = client.clone();
            self.writers.spawn(async move {
                let written = write_conditions(client, &container).await;
                (container, written)
            });
        }
    }
}

fn name_of(container: &Container) -> Name {
    (
        container.namespace().unwrap_or_default(),
        container.name_any(),
    )
}

fn run(context: Context<World>) -> BoxFuture<'static, anyhow::Result<()>> {
    Box::pin(async move {
        let client = context.client();
        let api: Api<Container> = Api::all(client.clone());
        let mut events =
            pin!(watcher(api, watcher::Config::default()).backoff(rdd_manager::watch_backoff()));
        let mut wrong = Wrong::new();
        // Whatever existed before is judged after the gate opens.
        let mut open = false;
        let stopping = context.stopping();
        loop {
            let due = wrong.queue.due();
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                event = events.try_next() => match event {
                    Ok(Some(watcher::Event::InitApply(container) | watcher::Event::Apply(container))) => {
                        wrong.look(container);
                    }
                    Ok(Some(watcher::Event::InitDone)) => {
                        context.synced().await;
                        open = true;
                    }
                    Ok(Some(watcher::Event::Delete(container))) => {
                        wrong.latest.remove(&name_of(&container));
                    }
                    Ok(Some(watcher::Event::Init)) => {}
                    Ok(None) => anyhow::bail!("the watch of containers ended"),
                    Err(error) => tracing::debug!(%error, "the watch of containers was interrupted"),
                },
                Some(done) = wrong.writers.join_next() => {
                    let (container, done) = done.context("a write of conditions did not end")?;
                    wrong.written(&context, &container, done);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => wrong.queue.wake(),
            }
            if open {
                wrong.write(&client);
            }
        }
    })
}

async fn write_conditions(client: kube::Client, container: &Container) -> kube::Result<()> {
    let Some(wanted) = conditions(container) else {
        return Ok(());
    };
    let metadata = &container.metadata;
    let (Some(name), Some(namespace)) = (&metadata.name, &metadata.namespace) else {
        return Ok(());
    };
    let api: Api<Container> = Api::namespaced(client, namespace);
    let body = json!({
        "apiVersion": container.api_version,
        "kind": "Container",
        "metadata": {"name": name, "uid": metadata.uid},
        "status": {"conditions": wanted},
    });
    let params = PatchParams::apply(field_manager::CONTAINER).force();
    match api.patch_status(name, &params, &Patch::Apply(&body)).await {
        // Gone, or another one by now: nothing to say about this one.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

/// The conditions that follow from the state, unless they stand already.
fn conditions(container: &Container) -> Option<Vec<Condition>> {
    let status = container.status.as_ref()?;
    if container.metadata.deletion_timestamp.is_some() || status.name.is_empty() {
        return None;
    }
    let generation = container.metadata.generation.unwrap_or_default();
    conditions_of(status, &status.conditions, generation)
}

/// The conditions that follow from a status, unless they were the same before.
pub(super) fn conditions_of(
    status: &ContainerStatus,
    before: &[Condition],
    generation: i64,
) -> Option<Vec<Condition>> {
    let state = status.status;
    let mut wanted: Vec<Condition> = [
        ("Running", state == ContainerState::Running, "running"),
        ("Paused", state == ContainerState::Paused, "paused"),
        (
            "Restarting",
            state == ContainerState::Restarting,
            "restarting",
        ),
        ("Dead", state == ContainerState::Dead, "dead"),
    ]
    .into_iter()
    .map(|(kind, holds, word)| {
        let (reason, message) = if holds {
            (kind.to_owned(), format!("Container is {word}"))
        } else {
            (format!("Not{kind}"), format!("Container is not {word}"))
        };
        let old = condition::find(before, kind);
        Condition::new(old, kind, holds, &reason, &message, generation)
    })
    .collect();
    if let Some(killed) = status.oom_killed {
        let message = if killed {
            "The kernel ended the container for its memory"
        } else {
            "The kernel did not end the container for its memory"
        };
        let old = condition::find(before, "OOMKilled");
        wanted.push(Condition::new(
            old,
            "OOMKilled",
            killed,
            "OOMKilled",
            message,
            generation,
        ));
    }
    let stands = wanted
        .iter()
        .all(|wanted| condition::find(before, &wanted.r#type) == Some(wanted));
    (!stands).then_some(wanted)
}

/// What a standing wish asks of a container in this state, if anything.
#[must_use]
pub(crate) fn standing(desired: DesiredState, actual: ContainerState) -> Option<Action> {
    use ContainerState as State;
    match (desired, actual) {
        (DesiredState::Running, State::Paused) => Some(Action::Unpause),
        (DesiredState::Running, State::Created | State::Exited | State::Dead) => {
            Some(Action::Start)
        }
        (DesiredState::Created, State::Running | State::Paused) => Some(Action::Stop),
        // Between two states, or in one that is not known, a fresh look comes first.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(state: &str, action: Option<&str>) -> Value {
        let mut object = json!({"metadata": {}, "spec": {"state": state}});
        if let Some(action) = action {
            object["metadata"]["annotations"] = json!({names::ACTION_ANNOTATION: action});
        }
        object
    }

    fn check(new: &Value, old: Option<&Value>, wanted: Option<&str>) {
        let refusal = refusal(new, old);
        match wanted {
            None => assert_eq!(refusal, None, "{new}"),
            Some(text) => assert!(
                refusal
                    .as_deref()
                    .is_some_and(|found| found.starts_with(text)),
                "{refusal:?} {new}"
            ),
        }
    }

    #[test]
    fn only_the_state_and_known_actions_are_accepted() {
        let old = object("unknown", None);
        check(&object("running", None), None, None);
        check(
            &object("unknown", Some("stop")),
            None,
            Some("containers.rancherdesktop.io/action annotation is not allowed on create"),
        );
        check(&object("unknown", Some("stop")), Some(&old), None);
        check(
            &object("unknown", Some("explode")),
            Some(&old),
            Some("invalid containers.rancherdesktop.io/action annotation \"explode\""),
        );
        check(&object("running", None), Some(&old), None);
        let mut other = object("unknown", None);
        other["spec"]["image"] = json!("x");
        check(
            &other,
            Some(&old),
            Some("only spec.state may be changed: old: "),
        );
        check(
            &old,
            Some(&other),
            Some("only spec.state may be changed: old: "),
        );
        check(&json!({"metadata": {}, "spec": {}}), Some(&old), None);
    }

    #[test]
    fn contradictions_are_refused_in_both_orders() {
        for (state, action, refused) in [
            ("running", "stop", true),
            ("running", "pause", true),
            ("running", "restart", false),
            ("created", "start", true),
            ("created", "unpause", true),
            ("created", "restart", true),
            ("created", "stop", false),
            ("unknown", "stop", false),
        ] {
            let new = object(state, Some(action));
            let wanted = refused.then_some("action \"");
            check(&new, Some(&object(state, None)), wanted);
            check(&new, Some(&object("unknown", Some(action))), wanted);
        }
    }

    #[test]
    fn what_stood_before_the_rules_does_not_hold_other_changes_up() {
        for (state, action) in [("running", "stop"), ("unknown", "explode")] {
            let old = object(state, Some(action));
            let mut new = old.clone();
            new["metadata"]["finalizers"] = json!([]);
            check(&new, Some(&old), None);
        }
    }

    #[test]
    fn standing_wishes_ask_for_one_step_or_wait() {
        use ContainerState as State;
        for (desired, actual, wanted) in [
            (DesiredState::Unknown, State::Running, None),
            (DesiredState::Unknown, State::Exited, None),
            (DesiredState::Running, State::Running, None),
            (DesiredState::Running, State::Paused, Some(Action::Unpause)),
            (DesiredState::Running, State::Exited, Some(Action::Start)),
            (DesiredState::Running, State::Restarting, None),
            (DesiredState::Running, State::Removing, None),
            (DesiredState::Running, State::Unknown, None),
            (DesiredState::Created, State::Running, Some(Action::Stop)),
            (DesiredState::Created, State::Paused, Some(Action::Stop)),
            (DesiredState::Created, State::Exited, None),
            (DesiredState::Created, State::Dead, None),
            (DesiredState::Created, State::Created, None),
        ] {
            assert_eq!(standing(desired, actual), wanted, "{desired:?} {actual:?}");
        }
    }
}

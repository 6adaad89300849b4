//! Conditions: their names, and the one way to set them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The machine exists.
pub const CREATED: &str = "Created";
/// The machine, or the container, runs.
pub const RUNNING: &str = "Running";
/// The engine is mirrored, or need not be.
pub const CONTAINER_ENGINE_READY: &str = "ContainerEngineReady";
/// Kubernetes is usable, or not wanted.
pub const KUBERNETES_READY: &str = "KubernetesReady";
/// Everything that the App asks for holds.
pub const SETTLED: &str = "Settled";
/// A request: it is done, and went well.
pub const COMPLETE: &str = "Complete";
/// A request: it is done, and did not go well.
pub const FAILED: &str = "Failed";

/// Reasons, one closed set for every writer and reader.
pub mod reason {
    /// A request waits for the engine.
    pub const PENDING: &str = "Pending";
    /// A request is being carried out.
    pub const IN_PROGRESS: &str = "InProgress";
    /// A request went well.
    pub const COMPLETED: &str = "Completed";
    /// A request was taken up, and nobody knows whether it was done.
    pub const INTERRUPTED: &str = "Interrupted";
    /// The engine did not make it.
    pub const CREATE_FAILED: &str = "CreateFailed";
    /// The engine did not fetch it.
    pub const PULL_FAILED: &str = "PullFailed";
    /// The engine did not send it.
    pub const PUSH_FAILED: &str = "PushFailed";
    /// There is no such Image, or it has no tag.
    pub const IMAGE_NOT_FOUND: &str = "ImageNotFound";
    /// The engine has no such namespace.
    pub const NAMESPACE_NOT_FOUND: &str = "NamespaceNotFound";
    /// Nothing here can look for faults in images.
    pub const NO_SCANNER: &str = "NoScanner";
    /// `Created`.
    pub const CREATED: &str = "Created";
    /// The machine is being started.
    pub const STARTING: &str = "Starting";
    /// The machine runs.
    pub const STARTED: &str = "Started";
    /// The machine is being stopped.
    pub const STOPPING: &str = "Stopping";
    /// The machine, or the mirroring, has stopped.
    pub const STOPPED: &str = "Stopped";
    /// The machine did not start; retried.
    pub const START_FAILED: &str = "StartFailed";
    /// The machine did not stop; retried.
    pub const STOP_FAILED: &str = "StopFailed";
    /// There is no dockerd on this machine; nothing is retried until the App changes.
    pub const ENGINE_NOT_INSTALLED: &str = "EngineNotInstalled";
    /// What the App asks for does not exist on this machine.
    pub const NOT_SUPPORTED: &str = "NotSupported";
    /// The engine is mirrored.
    pub const CONNECTED: &str = "Connected";
    /// The engine cannot be reached or read; retried.
    pub const CONNECT_FAILED: &str = "ConnectFailed";
    /// Nothing to do for this backend, or not wanted.
    pub const NOT_APPLICABLE: &str = "NotApplicable";
    /// Everything holds.
    pub const SETTLED: &str = "Settled";
    /// The machine has not reported yet.
    pub const WAITING_FOR_MACHINE: &str = "WaitingForMachine";
    /// The engine controller has not reported yet.
    pub const WAITING_FOR_ENGINE: &str = "WaitingForEngine";
    /// The engine controller reported about an older App.
    pub const ENGINE_STALE: &str = "EngineStale";
}

/// Whether nothing will change by itself: waits end at once.
#[must_use]
pub fn is_terminal(reason: &str) -> bool {
    [reason::ENGINE_NOT_INSTALLED, reason::NOT_SUPPORTED].contains(&reason)
}

/// The longest message that the schema takes, in bytes.
const MESSAGE_MAX: usize = 32_768;

/// What a cut message ends with.
const CUT: &str = "… (truncated)";

/// A standard Kubernetes condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about; one per object.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, as one word for programs.
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: String,
    /// The generation of the object that was judged. Absent means stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// The condition that replaces `old`: it keeps the time when the status stays.
    /// `generation` is that of the object that was looked at, not of a newer one.
    #[must_use]
    pub fn new(
        old: Option<&Self>,
        r#type: &str,
        status: bool,
        reason: &str,
        message: &str,
        generation: i64,
    ) -> Self {
        let status = if status { "True" } else { "False" };
        let time = match old {
            Some(old) if old.status == status => old.last_transition_time.clone(),
            _ => now(),
        };
        Self {
            r#type: r#type.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: cut(message),
            last_transition_time: time,
            observed_generation: Some(generation),
        }
    }

    /// Whether it is `True`.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// The condition of a type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], r#type: &str) -> Option<&'a Condition> {
    conditions
        .iter()
        .find(|condition| condition.r#type == r#type)
}

/// This moment as Kubernetes writes it.
#[must_use]
pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn cut(message: &str) -> String {
    if message.len() <= MESSAGE_MAX {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(MESSAGE_MAX - CUT.len());
    format!("{}{CUT}", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_moves_only_with_the_status() {
        let old = Condition {
            last_transition_time: "2020-01-01T00:00:00Z".to_owned(),
            ..Condition::new(None, RUNNING, true, "A", "a", 1)
        };
        let same = Condition::new(Some(&old), RUNNING, true, "B", "b", 2);
        assert_eq!(same.last_transition_time, old.last_transition_time);
        assert_eq!(same.observed_generation, Some(2));
        let changed = Condition::new(Some(&old), RUNNING, false, "A", "a", 2);
        assert_ne!(changed.last_transition_time, old.last_transition_time);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let cut = cut(&"ä€😀".repeat(20_000));
        assert!(cut.len() <= MESSAGE_MAX, "{}", cut.len());
        assert!(cut.ends_with(CUT));
        assert_eq!(super::cut("short"), "short");
    }
}

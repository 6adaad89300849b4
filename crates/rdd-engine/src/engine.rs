//! What a mirror needs of an engine.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::object::{Container, Image, ImageSummary, Volume};
use crate::stream::{Exec, ExecOptions, LogOptions, Output};
use crate::wish::{Credentials, NewContainer, NewVolume, Transfer};

/// Who an engine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// What the engine calls itself.
    pub id: String,
    /// Where it keeps its data, on its own machine.
    pub data_root: String,
    /// Its version.
    pub version: String,
    /// The version of the API that is spoken.
    pub api_version: String,
    /// Where it was reached.
    pub endpoint: String,
}

impl EngineInfo {
    /// What tells engines apart. The engine's own word alone does not: up to Docker 20.10
    /// it comes from a key that all engines of one machine share.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{} {}", self.id, self.data_root)
    }
}

/// A moment on the engine's own clock, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Containers.
    Container,
    /// Images.
    Image,
    /// Volumes.
    Volume,
}

/// Something changed; what it is now has to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The kind of the object.
    pub kind: Kind,
    /// Its identifier: a container's id, an image's id or reference, a volume's name.
    pub id: String,
    /// The tag of an image that this is about, where the engine tells: another image may
    /// have had it, and no event says so.
    pub tag: Option<String>,
    /// The engine's word for what happened.
    pub action: String,
    /// When it was emitted.
    pub at: Moment,
}

/// What can be done to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start it.
    Start,
    /// Stop it, with the engine's grace.
    Stop,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Unpause,
    /// Stop and start it.
    Restart,
}

/// Events as they come. A reader that falls behind by more than the queue holds is
/// told by an error, never by silence; then everything has to be read again.
#[derive(Debug)]
pub struct EventStream {
    pub(crate) events: mpsc::Receiver<Result<Event>>,
    /// Ends the task that reads the engine's stream when this is dropped.
    pub(crate) _reader: tokio_util::task::AbortOnDropHandle<()>,
}

impl EventStream {
    /// The next event; `None` when the engine ended the stream.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        self.events.recv().await
    }
}

/// A connected engine.
///
/// # Contract
/// 1. `events` is subscribed when it returns: whatever happens later is in it.
/// 2. A `None` from an inspection means that the object does not exist; every other
///    failure is an error and means that nothing is known.
/// 3. Every call has a deadline of its own.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Who this was when it was connected.
    fn info(&self) -> &EngineInfo;

    /// Who it is now, and its clock.
    async fn identify(&self) -> Result<(EngineInfo, Option<Moment>)>;

    /// Whether it still answers; costs it next to nothing.
    async fn ping(&self) -> Result<()>;

    /// Everything that happens from `since` on, as far as the engine remembers.
    async fn events(&self, since: Option<Moment>) -> Result<EventStream>;

    /// The identifiers of all containers, stopped ones too.
    async fn containers(&self) -> Result<Vec<String>>;

    /// All images.
    async fn images(&self) -> Result<Vec<ImageSummary>>;

    /// All volumes, as far as the list tells.
    async fn volumes(&self) -> Result<Vec<Volume>>;

    /// A container.
    async fn container(&self, id: &str) -> Result<Option<Container>>;

    /// An image by identifier or reference.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;

    /// A volume.
    async fn volume(&self, name: &str) -> Result<Option<Volume>>;

    /// The sizes of volumes in bytes, by name, as far as the engine can tell. It may
    /// have to look at every file of them.
    async fn volume_sizes(&self) -> Result<BTreeMap<String, i64>>;

    /// Makes a container and tells its identifier. The image must be there; a name that
    /// is taken is refused.
    async fn create_container(&self, new: &NewContainer) -> Result<String>;

    /// A container with a label, `name=value`.
    async fn labelled_container(&self, label: &str) -> Result<Option<String>>;

    /// Makes a volume. One of that name is given back as it is.
    async fn create_volume(&self, new: &NewVolume) -> Result<Volume>;

    /// The name of a volume with a label, `name=value`.
    async fn labelled_volume(&self, label: &str) -> Result<Option<String>>;

    /// Begins to fetch an image from its registry. This call has no deadline as a whole,
    /// only one for silence.
    async fn pull(&self, reference: &str, credentials: Option<&Credentials>) -> Result<Transfer>;

    /// Begins to send a tag to its registry; like [`Engine::pull`].
    async fn push(&self, reference: &str, credentials: Option<&Credentials>) -> Result<Transfer>;

    /// What a container has said. Like [`Engine::pull`] it has no deadline as a whole.
    async fn logs(&self, id: &str, options: &LogOptions) -> Result<Output>;

    /// Runs a command in a container that runs.
    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<Exec>;

    /// Tells a command how large its terminal is.
    async fn resize(&self, exec: &str, columns: u16, rows: u16) -> Result<()>;

    /// How a command ended; `None` while it runs.
    async fn exit_code(&self, exec: &str) -> Result<Option<i64>>;

    /// Acts on a container. A state that it has already is success.
    async fn act(&self, id: &str, action: Action) -> Result<()>;

    /// Removes a container, running or not; its anonymous volumes stay.
    async fn remove_container(&self, id: &str) -> Result<()>;

    /// Removes a tag, or the image behind an identifier; refused while in use.
    async fn remove_image(&self, reference: &str) -> Result<()>;

    /// Removes a volume; refused while in use.
    async fn remove_volume(&self, name: &str) -> Result<()>;
}

/// Turns "there is no such object" into `None`.
pub(crate) fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

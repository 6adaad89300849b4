//! An engine in memory that fails on demand, for what a real one cannot do when told.

mod faults;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

pub use self::faults::Faults;
use crate::engine::{Action, Engine, EngineInfo, Event, EventStream, Kind, Moment};
use crate::error::{Error, Result};
use crate::object::{Container, Image, ImageSummary, Volume};
use crate::stream::{Exec, ExecOptions, LogOptions, Output, Source};
use crate::wish::{Credentials, NewContainer, NewVolume, Transfer, TransferStep};

/// How long a call waits for an engine that hangs, as every client of one has a limit.
const HANG: Duration = Duration::from_secs(2);

/// An engine in memory; clones are the same engine.
#[derive(Clone, Debug)]
pub struct Fake {
    info: EngineInfo,
    state: Arc<Mutex<State>>,
    faults: Arc<watch::Sender<Faults>>,
    open_logs: Arc<AtomicUsize>,
    log_chunks: Arc<AtomicUsize>,
}

/// Counts as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Default)]
struct State {
    id: String,
    containers: BTreeMap<String, Container>,
    images: BTreeMap<String, Image>,
    volumes: BTreeMap<String, Volume>,
    sizes: BTreeMap<String, i64>,
    registry: BTreeMap<String, String>,
    log: Vec<Event>,
    readers: Vec<mpsc::UnboundedSender<Event>>,
    /// Events that are held back.
    held: Vec<Event>,
    calls: Vec<String>,
    effects: Vec<String>,
    inspections: usize,
    pings: usize,
    clock: i64,
    /// Calls and events so far, by which some are chosen to fail.
    turns: u64,
}

impl State {
    fn is_chosen(&mut self, one_in: u64) -> bool {
        self.turns += 1;
        // Scattered: at every third call, an object that takes three would fail for ever.
        let scattered = self.turns.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        one_in != 0 && scattered.is_multiple_of(one_in)
    }

    fn announce(&mut self, event: &Event) {
        self.log.push(event.clone());
        self.readers
            .retain(|reader| reader.send(event.clone()).is_ok());
    }
}

impl Fake {
    /// An empty engine with this identity.
    #[must_use]
    pub fn new(id: &str) -> Self {
        let state = State {
            id: id.to_owned(),
            clock: 1_700_000_000_000_000_000,
            ..State::default()
        };
        Self {
            info: EngineInfo {
                id: id.to_owned(),
                data_root: "/fake".to_owned(),
                version: "fake".to_owned(),
                api_version: "1.41".to_owned(),
                endpoint: "fake://".to_owned(),
            },
            state: Arc::new(Mutex::new(state)),
            faults: Arc::new(watch::Sender::new(Faults::default())),
            open_logs: Arc::default(),
            log_chunks: Arc::default(),
        }
    }

    /// Changes what goes wrong.
    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
        if !self.faults.borrow().hold_events {
            let mut state = self.state.lock();
            for event in std::mem::take(&mut state.held).iter().rev() {
                state.announce(event);
            }
        }
    }

    /// Another engine answers from now on at the same place.
    pub fn replace_identity(&self, id: &str) {
        self.state.lock().id = id.to_owned();
    }

    /// The client that a connection made now would get.
    #[must_use]
    pub fn connected(&self) -> Self {
        let mut connected = self.clone();
        connected.info.id = self.state.lock().id.clone();
        connected
    }

    /// How often an object was looked at.
    #[must_use]
    pub fn inspections(&self) -> usize {
        self.state.lock().inspections
    }

    /// How often it was asked for a sign of life.
    #[must_use]
    pub fn pings(&self) -> usize {
        self.state.lock().pings
    }

    /// How many logs are being read.
    #[must_use]
    pub fn open_logs(&self) -> usize {
        self.open_logs.load(Ordering::SeqCst)
    }

    /// Chunks of logs that were read from it, or wait in a queue.
    #[must_use]
    pub fn log_chunks(&self) -> usize {
        self.log_chunks.load(Ordering::SeqCst)
    }

    /// Ends every event stream.
    pub fn cut_streams(&self) {
        self.state.lock().readers.clear();
    }

    /// Calls that changed something, in order, such as `stop abc`.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    /// Actions that changed a container, in order, such as `restart abc`; whoever finds it
    /// so already has called for nothing.
    #[must_use]
    pub fn effects(&self) -> Vec<String> {
        self.state.lock().effects.clone()
    }

    /// All there is, whatever goes wrong with calls.
    #[must_use]
    pub fn contents(&self) -> (Vec<Container>, Vec<Image>, Vec<Volume>) {
        let state = self.state.lock();
        (
            state.containers.values().cloned().collect(),
            state.images.values().cloned().collect(),
            state.volumes.values().cloned().collect(),
        )
    }

    /// Adds or replaces a container, as somebody else would.
    pub fn put_container(&self, container: Container, action: &str) {
        let mut state = self.state.lock();
        let id = container.id.clone();
        state.containers.insert(id.clone(), container);
        self.emit(&mut state, Kind::Container, id, action);
    }

    /// A container as it is, whatever goes wrong with calls.
    #[must_use]
    pub fn look(&self, id: &str) -> Option<Container> {
        self.state.lock().containers.get(id).cloned()
    }

    /// Removes a container, as somebody else would.
    pub fn take_container(&self, id: &str) {
        let mut state = self.state.lock();
        if state.containers.remove(id).is_some() {
            self.emit(&mut state, Kind::Container, id.to_owned(), "destroy");
        }
    }

    /// Adds or replaces an image; a tag moves to it from any other.
    pub fn put_image(&self, image: Image, action: &str) {
        let mut state = self.state.lock();
        for other in state.images.values_mut() {
            other.tags.retain(|tag| !image.tags.contains(tag));
        }
        let id = image.id.clone();
        let tags = image.tags.clone();
        let old = state.images.insert(id.clone(), image);
        let old = old.map(|old| old.tags).unwrap_or_default();
        let new: Vec<_> = tags.into_iter().filter(|tag| !old.contains(tag)).collect();
        if new.is_empty() {
            self.emit(&mut state, Kind::Image, id, action);
            return;
        }
        for tag in new {
            let event = Event {
                kind: Kind::Image,
                id: id.clone(),
                tag: Some(tag),
                action: action.to_owned(),
                at: Moment::default(),
            };
            self.tell(&mut state, event);
        }
    }

    /// Removes an image.
    pub fn take_image(&self, id: &str) {
        let mut state = self.state.lock();
        if state.images.remove(id).is_some() {
            self.emit(&mut state, Kind::Image, id.to_owned(), "delete");
        }
    }

    /// Adds or replaces a volume.
    pub fn put_volume(&self, volume: Volume) {
        let mut state = self.state.lock();
        let name = volume.name.clone();
        state.volumes.insert(name.clone(), volume);
        self.emit(&mut state, Kind::Volume, name, "create");
    }

    /// Fills a volume.
    pub fn fill_volume(&self, name: &str, size: i64) {
        self.state.lock().sizes.insert(name.to_owned(), size);
    }

    /// Removes a volume.
    pub fn take_volume(&self, name: &str) {
        let mut state = self.state.lock();
        if state.volumes.remove(name).is_some() {
            self.emit(&mut state, Kind::Volume, name.to_owned(), "destroy");
        }
    }

    fn emit(&self, state: &mut State, kind: Kind, id: String, action: &str) {
        let event = Event {
            kind,
            id,
            tag: None,
            action: action.to_owned(),
            at: Moment::default(),
        };
        self.tell(state, event);
    }

    /// Tells of an event, now.
    fn tell(&self, state: &mut State, event: Event) {
        state.clock += 1_000_000;
        let faults = self.faults.borrow().clone();
        let event = Event {
            at: Moment(state.clock + faults.clock_ahead * 1_000_000_000),
            ..event
        };
        if faults.drop_events || state.is_chosen(faults.lose_one_event_in) {
            return;
        }
        let times = if faults.repeat_events { 2 } else { 1 };
        for _ in 0..times {
            if faults.hold_events {
                state.held.push(event.clone());
            } else {
                state.announce(&event);
            }
        }
    }

    fn panic_if_told(&self, method: &'static str) {
        let is_told = self.faults.send_if_modified(|faults| {
            let told = faults.panic_next.take_if(|told| *told == method);
            told.is_some()
        });
        assert!(!is_told, "told to panic in {method}");
    }

    async fn up(&self) -> Result<()> {
        let mut faults = self.faults.subscribe();
        // The sender lives as long as this engine.
        let answer = faults.wait_for(|faults| !faults.hang);
        if timeout(HANG, answer).await.is_err() {
            return Err(Error::Timeout { limit: HANG });
        }
        if self.faults.borrow().down {
            return Err(Error::NotListening {
                endpoint: self.info.endpoint.clone(),
                source: std::io::ErrorKind::ConnectionRefused.into(),
            });
        }
        Ok(())
    }

    async fn readable(&self, id: &str) -> Result<()> {
        self.up().await?;
        self.state.lock().inspections += 1;
        let faults = self.faults.borrow().clone();
        assert!(!faults.panic_at.contains(id), "told to panic at {id}");
        let chosen = self.state.lock().is_chosen(faults.fail_one_inspection_in);
        if chosen || faults.unreadable.contains(id) {
            return Err(Error::Refused {
                status: 500,
                message: format!("cannot read {id}"),
            });
        }
        Ok(())
    }

    fn note(&self, call: String) {
        self.state.lock().calls.push(call);
    }

    fn refuse_creations(&self) -> Result<()> {
        match self.faults.borrow().refuse_creations {
            Some(status) => Err(Error::Refused {
                status,
                message: "refused to create".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The connection breaks after the work is done, before its answer.
    fn answer(&self) -> Result<()> {
        if self.faults.borrow().lose_answers {
            return Err(Error::Connection {
                endpoint: self.info.endpoint.clone(),
                source: "connection reset".into(),
            });
        }
        Ok(())
    }

    /// Two layers, then a pause if one is asked for, then the end.
    fn transfer(&self, finish: impl FnOnce() -> Result<String> + Send + 'static) -> Transfer {
        let (queue, steps) = mpsc::channel(8);
        let mut faults = self.faults.subscribe();
        let reader = tokio::spawn(async move {
            for (layer, done) in [("a", 5), ("b", 0), ("b", 7)] {
                let step = TransferStep {
                    layer: Some(layer.to_owned()),
                    status: "Downloading".to_owned(),
                    done: Some(done),
                    total: Some(10),
                    digest: None,
                };
                if queue.send(Ok(step)).await.is_err() {
                    return;
                }
            }
            // The sender lives as long as the engine.
            drop(faults.wait_for(|faults| !faults.hang_transfers).await);
            let last = finish().map(|digest| TransferStep {
                status: format!("Digest: {digest}"),
                digest: Some(digest),
                ..TransferStep::default()
            });
            // Whoever does not listen any more has cancelled it.
            let _unheard = queue.send(last).await;
        });
        Transfer {
            steps,
            _reader: AbortOnDropHandle::new(reader),
        }
    }

    /// Puts an image into the registry under a reference.
    pub fn offer(&self, reference: &str, id: &str) {
        let mut state = self.state.lock();
        state.registry.insert(reference.to_owned(), id.to_owned());
    }

    /// Whether the removal goes on; what is absent is removed already.
    async fn removable(&self, what: &str) -> Result<bool> {
        self.up().await?;
        self.state.lock().calls.push(format!("remove {what}"));
        match self.faults.borrow().refuse_removals {
            Some(404) => Ok(false),
            Some(status) => Err(Error::Refused {
                status,
                message: format!("refused to remove {what}"),
            }),
            None => Ok(true),
        }
    }
}

#[async_trait]
impl Engine for Fake {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    async fn identify(&self) -> Result<(EngineInfo, Option<Moment>)> {
        self.up().await?;
        let state = self.state.lock();
        let info = EngineInfo {
            id: state.id.clone(),
            ..self.info.clone()
        };
        let ahead = self.faults.borrow().clock_ahead * 1_000_000_000;
        Ok((info, Some(Moment(state.clock + ahead))))
    }

    async fn ping(&self) -> Result<()> {
        self.panic_if_told("ping");
        self.state.lock().pings += 1;
        self.up().await
    }

    async fn events(&self, since: Option<Moment>) -> Result<EventStream> {
        self.panic_if_told("events");
        self.up().await?;
        let (reader, mut emitted) = mpsc::unbounded_channel();
        {
            let mut state = self.state.lock();
            for event in state
                .log
                .iter()
                .filter(|event| since.is_some_and(|since| event.at >= since))
            {
                // The receiver stands right above.
                let _heard = reader.send(event.clone());
            }
            state.readers.push(reader);
        }
        let (queue, events) = mpsc::channel(1024);
        let task = tokio::spawn(async move {
            while let Some(event) = emitted.recv().await {
                if queue.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        });
        Ok(EventStream {
            events,
            _reader: AbortOnDropHandle::new(task),
        })
    }

    async fn containers(&self) -> Result<Vec<String>> {
        self.up().await?;
        Ok(self.state.lock().containers.keys().cloned().collect())
    }

    async fn images(&self) -> Result<Vec<ImageSummary>> {
        self.up().await?;
        let state = self.state.lock();
        let summary = |image: &Image| ImageSummary {
            id: image.id.clone(),
            tags: image.tags.clone(),
        };
        Ok(state.images.values().map(summary).collect())
    }

    async fn volumes(&self) -> Result<Vec<Volume>> {
        self.up().await?;
        Ok(self.state.lock().volumes.values().cloned().collect())
    }

    async fn container(&self, id: &str) -> Result<Option<Container>> {
        self.readable(id).await?;
        Ok(self.state.lock().containers.get(id).cloned())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.readable(reference).await?;
        let state = self.state.lock();
        let by_tag = |image: &&Image| image.tags.iter().any(|tag| tag == reference);
        Ok(state
            .images
            .get(reference)
            .or_else(|| state.images.values().find(by_tag))
            .cloned())
    }

    async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        self.readable(name).await?;
        Ok(self.state.lock().volumes.get(name).cloned())
    }

    async fn volume_sizes(&self) -> Result<BTreeMap<String, i64>> {
        self.up().await?;
        Ok(self.state.lock().sizes.clone())
    }

    async fn create_container(&self, new: &NewContainer) -> Result<String> {
        self.up().await?;
        self.note(format!(
            "create {}",
            new.name.as_deref().unwrap_or_default()
        ));
        self.refuse_creations()?;
        let image = self.image(&new.image).await?;
        let image =
            image.ok_or_else(|| Error::NotFound(format!("No such image: {}", new.image)))?;
        let (id, name) = {
            let mut state = self.state.lock();
            state.turns += 1;
            let id = format!("{:064x}", state.turns);
            let name = new
                .name
                .clone()
                .unwrap_or_else(|| format!("made-{}", state.turns));
            let name = format!("/{name}");
            let mut there = state.containers.values();
            if there.any(|other| other.name == name) {
                return Err(refused(&format!(
                    "Conflict. The container name {name:?} is already in use"
                )));
            }
            (id, name)
        };
        let container = Container {
            id: id.clone(),
            name,
            path: new.path.clone().unwrap_or_default(),
            args: new.args.clone().unwrap_or_default(),
            image: image.id,
            image_name: new.image.clone(),
            ports: new.ports.clone(),
            labels: new.labels.clone(),
            mounts: new.mounts.clone(),
            state: "created".to_owned(),
            restart_policy: new.restart_policy.clone(),
            ..Container::default()
        };
        self.put_container(container, "create");
        self.answer()?;
        Ok(id)
    }

    async fn labelled_container(&self, label: &str) -> Result<Option<String>> {
        self.up().await?;
        let state = self.state.lock();
        let mut all = state.containers.values();
        let found = all.find(|container| has_label(&container.labels, label));
        Ok(found.map(|container| container.id.clone()))
    }

    async fn create_volume(&self, new: &NewVolume) -> Result<Volume> {
        self.up().await?;
        self.note(format!(
            "create volume {}",
            new.name.as_deref().unwrap_or_default()
        ));
        self.refuse_creations()?;
        let name = new.name.clone().unwrap_or_else(|| {
            let mut state = self.state.lock();
            state.turns += 1;
            format!("made-{}", state.turns)
        });
        if let Some(there) = self.state.lock().volumes.get(&name) {
            return Ok(there.clone());
        }
        let volume = Volume {
            name,
            driver: new.driver.clone(),
            labels: new.labels.clone(),
            options: new.options.clone(),
            ..Volume::default()
        };
        self.put_volume(volume.clone());
        self.answer()?;
        Ok(volume)
    }

    async fn labelled_volume(&self, label: &str) -> Result<Option<String>> {
        self.up().await?;
        let state = self.state.lock();
        let mut all = state.volumes.values();
        let found = all.find(|volume| has_label(&volume.labels, label));
        Ok(found.map(|volume| volume.name.clone()))
    }

    async fn pull(&self, reference: &str, _credentials: Option<&Credentials>) -> Result<Transfer> {
        self.up().await?;
        self.note(format!("pull {reference}"));
        let fake = self.clone();
        let reference = reference.to_owned();
        Ok(self.transfer(move || {
            let id = fake.state.lock().registry.get(&reference).cloned();
            let id =
                id.ok_or_else(|| Error::NotFound(format!("manifest for {reference} not found")))?;
            let image = Image {
                id: id.clone(),
                tags: vec![reference],
                ..Image::default()
            };
            fake.put_image(image, "pull");
            Ok(id)
        }))
    }

    async fn push(&self, reference: &str, _credentials: Option<&Credentials>) -> Result<Transfer> {
        self.up().await?;
        self.note(format!("push {reference}"));
        let image = self.image(reference).await?;
        let fake = self.clone();
        let reference = reference.to_owned();
        Ok(self.transfer(move || {
            let image = image.ok_or_else(|| {
                Error::NotFound(format!(
                    "An image does not exist locally with the tag: {reference}"
                ))
            })?;
            fake.offer(&reference, &image.id);
            Ok(image.id)
        }))
    }

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<Output> {
        self.readable(id).await?;
        let text = format!("log of {id}\n");
        let mut faults = self.faults.subscribe();
        let follow = options.follow;
        let (queue, chunks) = mpsc::channel(8);
        let (open, sent) = (Arc::clone(&self.open_logs), Arc::clone(&self.log_chunks));
        let reader = tokio::spawn(async move {
            let _open = Counted::new(open);
            if queue.send(Ok((Source::Stdout, text.into()))).await.is_err() || !follow {
                return;
            }
            let every = faults.borrow().log_every;
            let goes_on = async {
                let Some(every) = every else {
                    return std::future::pending().await;
                };
                for number in 0_u64.. {
                    if !every.is_zero() {
                        tokio::time::sleep(every).await;
                    }
                    let chunk = format!("{number:1023}\n").into();
                    if queue.send(Ok((Source::Stdout, chunk))).await.is_err() {
                        return;
                    }
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            };
            // It goes on until the engine is gone.
            tokio::select! {
                () = goes_on => {}
                _ = faults.wait_for(|faults| faults.down) => {}
            }
        });
        Ok(Output {
            chunks,
            _reader: AbortOnDropHandle::new(reader),
        })
    }

    async fn exec(&self, id: &str, _options: &ExecOptions) -> Result<Exec> {
        self.readable(id).await?;
        Err(refused("commands cannot be run in memory"))
    }

    async fn resize(&self, _exec: &str, _columns: u16, _rows: u16) -> Result<()> {
        self.up().await
    }

    async fn exit_code(&self, _exec: &str) -> Result<Option<i64>> {
        self.up().await?;
        Ok(None)
    }

    async fn act(&self, id: &str, action: Action) -> Result<()> {
        self.up().await?;
        self.state
            .lock()
            .calls
            .push(format!("{action:?} {id}").to_lowercase());
        let mut faults = self.faults.subscribe();
        // The sender lives as long as this engine.
        drop(faults.wait_for(|faults| !faults.hang_actions).await);
        if let Some(status) = self.faults.borrow().refuse_actions {
            return Err(Error::Refused {
                status,
                message: format!("refused to {action:?} {id}").to_lowercase(),
            });
        }
        let mut state = self.state.lock();
        let state_now = state.clock;
        let Some(container) = state.containers.get_mut(id) else {
            return Err(Error::NotFound(format!("No such container: {id}")));
        };
        let (word, event) = match (action, container.state.as_str()) {
            (Action::Start, "running")
            | (Action::Stop, "created" | "exited")
            | (Action::Pause, "paused")
            | (Action::Unpause, "running") => return Ok(()),
            (Action::Start, "paused") => {
                return Err(refused(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            (Action::Pause | Action::Unpause, "created" | "exited") => {
                return Err(refused(&format!("container {id} is not running")));
            }
            (Action::Start | Action::Restart, _) => ("running", "start"),
            (Action::Stop, _) => ("exited", "die"),
            (Action::Pause, _) => ("paused", "pause"),
            (Action::Unpause, _) => ("running", "unpause"),
        };
        container.state = word.to_owned();
        if event == "start" {
            let now = Timestamp::from_nanosecond(state_now.into()).unwrap_or_default();
            container.pid += 1;
            container.started_at = Some(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        let effect = format!("{action:?} {id}").to_lowercase();
        state.effects.push(effect);
        self.emit(&mut state, Kind::Container, id.to_owned(), event);
        drop(state);
        self.answer()
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        if self.removable(id).await? {
            self.take_container(id);
        }
        Ok(())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        if !self.removable(reference).await? {
            return Ok(());
        }
        let found = self.image(reference).await?;
        let Some(mut image) = found else {
            return Ok(());
        };
        image.tags.retain(|tag| tag != reference);
        let used = self
            .state
            .lock()
            .containers
            .values()
            .any(|user| user.image == image.id);
        if image.tags.is_empty() && used {
            return Err(refused(&format!(
                "conflict: unable to remove {reference}: a container uses it"
            )));
        }
        if image.tags.is_empty() {
            self.take_image(&image.id);
        } else {
            self.put_image(image, "untag");
        }
        Ok(())
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        if self.removable(name).await? {
            self.take_volume(name);
        }
        Ok(())
    }
}

fn has_label(labels: &BTreeMap<String, String>, label: &str) -> bool {
    let (name, value) = label.split_once('=').unwrap_or((label, ""));
    labels.get(name).is_some_and(|found| found == value)
}

fn refused(message: &str) -> Error {
    Error::Refused {
        status: 409,
        message: message.to_owned(),
    }
}

//! The loop: it decides what is wanted, keeps one session with the engine, and hands
//! keys to workers. Only this task changes the queue and the indexes of the mirrors.
//!
//! ```text
//!            wanted                    lost
//! Idle ─────────────▶ Connecting ◀──────────── Live
//!  ▲                      │  ▲ backoff          │
//!  │ swept                └──┘                  │ not wanted
//!  └─────────────── Sweeping ◀──────────────────┘
//! ```
//!
//! Losing the engine keeps every mirror: only an intended stop, detach or switch
//! sweeps. The session belongs to this loop and not to one pass through it, so that a
//! pass that ends early never closes it; the first full pass has a limit of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource, ResourceExt as _};
use parking_lot::{Mutex, RwLock};
use rdd_api::condition::{self, reason};
use rdd_api::{App, Container, ContainerNamespace, EngineStatus, Image, Volume, names};
use rdd_engine::{Event, Kind};
use rdd_manager::Context;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::actions;
use super::app_status;
use super::connection::{Connection, connect};
use super::mirrors::{Mirrors, has_finalizer, is_deleting, is_of, is_ours};
use super::plan;
use super::queue::Queue;
use super::work::{Done, Key, Work, prune};
use crate::world::World;

/// Keys that are worked on at once.
const WORKERS: usize = 16;

/// Pauses between attempts to connect.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// The limit of the first full pass.
const FIRST_PASS: Duration = Duration::from_secs(300);

/// How often everything is compared, whatever the events said.
const VERIFY: Duration = Duration::from_secs(600);

/// Runs until the manager stops it.
pub(super) async fn run(context: Context<World>) -> anyhow::Result<()> {
    let mut inputs = watches(&context.client());
    let mut controller = Controller::new(context.clone());
    let stopping = context.stopping();
    loop {
        let timer = controller.timer();
        let input = tokio::select! {
            () = stopping.cancelled() => break,
            Some(input) = inputs.next() => input,
            Some(done) = controller.workers.join_next() => Input::Worked(done),
            event = next_event(&mut controller.session) => Input::Engine(event),
            () = sleep_until(timer) => Input::Timer,
        };
        tokio::select! {
            () = stopping.cancelled() => break,
            () = controller.handle(input) => {}
        }
    }
    // The mirrors stay: the next start repairs them in place.
    controller.workers.shutdown().await;
    Ok(())
}

/// What can happen.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time lives on the loop's stack; a box would be an allocation per event"
)]
enum Input {
    App(watcher::Event<App>),
    Container(watcher::Event<Container>),
    Image(watcher::Event<Image>),
    Volume(watcher::Event<Volume>),
    ContainerNamespace(watcher::Event<ContainerNamespace>),
    Namespace(watcher::Event<Namespace>),
    Interrupted(watcher::Error),
    Engine(Option<Event>),
    Worked(Result<(Key, Done), tokio::task::JoinError>),
    Timer,
}

fn watches(client: &kube::Client) -> SelectAll<BoxStream<'static, Input>> {
    fn one<K>(api: Api<K>, input: fn(watcher::Event<K>) -> Input) -> BoxStream<'static, Input>
    where
        K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
        K::DynamicType: Default + Clone + Eq + std::hash::Hash,
    {
        let events = watcher(api, watcher::Config::default()).default_backoff();
        events
            .map(move |event| event.map_or_else(Input::Interrupted, input))
            .boxed()
    }
    futures::stream::select_all([
        one(Api::all(client.clone()), Input::App),
        one(Api::all(client.clone()), Input::Container),
        one(Api::all(client.clone()), Input::Image),
        one(Api::all(client.clone()), Input::Volume),
        one(Api::all(client.clone()), Input::ContainerNamespace),
        one(Api::all(client.clone()), Input::Namespace),
    ])
}

/// A standing connection and what is done over it.
struct Session {
    connection: Connection,
    work: Arc<Work>,
    /// Keys of the first pass that have not been looked at yet.
    first: BTreeSet<Key>,
    synced: bool,
    limit: Instant,
    verify: Instant,
    status: EngineStatus,
}

struct Controller {
    context: Context<World>,
    app: Option<Arc<App>>,
    /// The namespace of the mirrors, also after the App is gone.
    namespace: String,
    mirrors: Arc<RwLock<Mirrors>>,
    /// Watches that have shown their whole collection.
    filled: u8,
    queue: Queue<Key>,
    /// Deletions that the engine refused; anything that goes may have been in the way.
    blocked: BTreeSet<Key>,
    workers: JoinSet<(Key, Done)>,
    session: Option<Session>,
    retry: Option<Instant>,
    failures: u32,
    /// The engine that was mirrored since mirroring was last asked for.
    identity: Option<String>,
    sweeping: bool,
}

/// The watches whose first list must be there: all but the App's are needed to know
/// what is left from before.
const WATCHES: u8 = 6;

impl Controller {
    fn new(context: Context<World>) -> Self {
        Self {
            context,
            app: None,
            namespace: String::new(),
            mirrors: Arc::default(),
            filled: 0,
            queue: Queue::new(),
            blocked: BTreeSet::new(),
            workers: JoinSet::new(),
            session: None,
            retry: None,
            failures: 0,
            identity: None,
            sweeping: false,
        }
    }

    /// When something is due without an event.
    fn timer(&self) -> Instant {
        let session = self.session.as_ref().map(|session| {
            if session.synced {
                session.verify
            } else {
                session.limit
            }
        });
        let due = [self.queue.due(), self.retry, session]
            .into_iter()
            .flatten()
            .min();
        due.unwrap_or_else(|| Instant::now() + VERIFY)
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::App(event) => self.app_changed(event),
            Input::Container(event) => self.container_changed(event),
            Input::Image(event) => self.image_changed(event),
            Input::Volume(event) => self.volume_changed(event),
            Input::ContainerNamespace(event) => self.scaffold_changed(event),
            Input::Namespace(event) => self.namespace_changed(event),
            Input::Interrupted(error) => tracing::debug!(%error, "a watch was interrupted"),
            Input::Engine(Some(event)) => self.engine_event(event),
            Input::Engine(None) => self.lost("connection lost: the event stream ended").await,
            Input::Worked(Ok((key, done))) => self.worked(&key, done),
            Input::Worked(Err(error)) => {
                // A panic of a worker is its key's failure, seen here and nowhere else;
                // the full pass finds the key again.
                tracing::error!(%error, "a worker ended in a panic");
                self.lost("a worker of the mirror failed").await;
            }
            Input::Timer => self.queue.wake(),
        }
        if self.filled >= WATCHES {
            self.context.synced().await;
            self.advance().await;
        }
        self.dispatch();
    }

    // === what changed ===

    fn app_changed(&mut self, event: watcher::Event<App>) {
        match event {
            watcher::Event::Apply(app) | watcher::Event::InitApply(app)
                if app.name_any() == names::APP =>
            {
                app.spec.namespace().clone_into(&mut self.namespace);
                self.app = Some(Arc::new(app));
            }
            watcher::Event::Delete(app) if app.name_any() == names::APP => self.app = None,
            watcher::Event::InitDone => self.filled = self.filled.saturating_add(1),
            _ => {}
        }
    }

    fn is_here<K: Resource>(&self, object: &K) -> bool {
        object.meta().namespace.as_deref() == Some(self.namespace.as_str())
            || self.namespace.is_empty()
    }

    fn container_changed(&mut self, event: watcher::Event<Container>) {
        match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object)
                if self.is_here(&object) =>
            {
                let id = object.name_any();
                if has_finalizer(&object) != is_ours(&object)
                    || is_deleting(&object)
                    || object.status.is_none()
                {
                    self.queue.push(Key::Container(id.clone()));
                }
                if actions::is_asked(&object) {
                    self.queue.push(Key::Action(id.clone()));
                }
                self.mirrors.write().containers.insert(id, Arc::new(object));
            }
            watcher::Event::Delete(object) if self.is_here(&object) => {
                let id = object.name_any();
                self.mirrors.write().containers.remove(&id);
                self.queue.push(Key::Container(id));
            }
            watcher::Event::InitDone => self.filled = self.filled.saturating_add(1),
            _ => {}
        }
    }

    fn image_changed(&mut self, event: watcher::Event<Image>) {
        match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object)
                if self.is_here(&object) =>
            {
                if is_deleting(&object) {
                    self.queue.push(Key::ImageMirror(object.name_any()));
                } else if has_finalizer(&object) != is_ours(&object) {
                    self.push_image(&object);
                }
                self.mirrors.write().put_image(Arc::new(object));
            }
            watcher::Event::Delete(object) if self.is_here(&object) => {
                self.mirrors.write().take_image(&object.name_any());
                self.push_image(&object);
            }
            watcher::Event::InitDone => self.filled = self.filled.saturating_add(1),
            _ => {}
        }
    }

    fn push_image(&mut self, object: &Image) {
        if let Some(status) = object
            .status
            .as_ref()
            .filter(|status| !status.id.is_empty())
        {
            self.queue.push(Key::Image(status.id.clone()));
        }
    }

    fn volume_changed(&mut self, event: watcher::Event<Volume>) {
        let name = |object: &Volume| object.status.as_ref().map(|status| status.name.clone());
        match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object)
                if self.is_here(&object) =>
            {
                if is_deleting(&object) {
                    self.queue.push(Key::VolumeMirror(object.name_any()));
                } else if has_finalizer(&object) != is_ours(&object)
                    && let Some(name) = name(&object)
                {
                    self.queue.push(Key::Volume(name));
                }
                self.mirrors
                    .write()
                    .volumes
                    .insert(object.name_any(), Arc::new(object));
            }
            watcher::Event::Delete(object) if self.is_here(&object) => {
                self.mirrors.write().volumes.remove(&object.name_any());
                if let Some(name) = name(&object) {
                    self.queue.push(Key::Volume(name));
                }
            }
            watcher::Event::InitDone => self.filled = self.filled.saturating_add(1),
            _ => {}
        }
    }

    fn scaffold_changed(&mut self, event: watcher::Event<ContainerNamespace>) {
        match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object)
                if self.is_here(&object) =>
            {
                self.mirrors
                    .write()
                    .namespaces
                    .insert(object.name_any(), Arc::new(object));
            }
            watcher::Event::Delete(object) if self.is_here(&object) => {
                self.mirrors.write().namespaces.remove(&object.name_any());
                self.queue.push(Key::Scaffold);
            }
            watcher::Event::InitDone => self.filled = self.filled.saturating_add(1),
            _ => {}
        }
    }

    fn namespace_changed(&mut self, event: watcher::Event<Namespace>) {
        match event {
            watcher::Event::Delete(object) if object.name_any() == self.namespace => {
                self.queue.push(Key::Scaffold);
            }
            watcher::Event::InitDone => self.filled = self.filled.saturating_add(1),
            _ => {}
        }
    }

    fn engine_event(&mut self, event: Event) {
        tracing::debug!(kind = ?event.kind, id = event.id, action = event.action, "engine event");
        let goes = matches!(
            event.action.as_str(),
            "destroy" | "delete" | "untag" | "die"
        );
        self.queue.push(match event.kind {
            Kind::Container => Key::Container(event.id),
            Kind::Image => Key::Image(event.id),
            Kind::Volume => Key::Volume(event.id),
        });
        if goes {
            for key in std::mem::take(&mut self.blocked) {
                self.queue.push(key);
            }
        }
    }

    fn worked(&mut self, key: &Key, done: Done) {
        self.queue.done(key, done.is_ok());
        self.context.record(
            &format!("{key:?}"),
            done.as_ref().map(drop).map_err(Clone::clone),
        );
        match done {
            Ok(more) => {
                self.blocked.remove(key);
                for key in more {
                    self.queue.push(key);
                }
            }
            Err(error) => {
                tracing::warn!(?key, error, "failed, and tried again later");
                if matches!(key, Key::ImageMirror(_) | Key::VolumeMirror(_)) {
                    self.blocked.insert(key.clone());
                }
            }
        }
        if let Some(session) = &mut self.session {
            session.first.remove(key);
        }
    }

    // === what follows ===

    /// Moves on to where the App wants things to be.
    async fn advance(&mut self) {
        let app = self.app.clone();
        let running = app.as_ref().is_some_and(|app| {
            let conditions = app
                .status
                .as_ref()
                .map(|status| status.conditions.as_slice())
                .unwrap_or_default();
            condition::find(conditions, condition::RUNNING).is_some_and(rdd_api::Condition::is_true)
        });
        let wanted = app.as_ref().is_some_and(|app| {
            app.spec.running && app.spec.is_moby() && app.metadata.deletion_timestamp.is_none()
        });
        if let (true, Some(app)) = (wanted, &app) {
            self.sweeping = false;
            if running {
                self.keep_connected(app).await;
            } else {
                self.await_machine(app).await;
            }
            return;
        }
        if self.session.take().is_some() {
            tracing::info!("mirroring ends");
            self.queue.clear();
            self.workers.shutdown().await;
        }
        self.retry = None;
        self.failures = 0;
        self.identity = None;
        let stops = app.as_ref().is_some_and(|app| running && !app.spec.running);
        if stops {
            // The machine is on its way out; mirrors go when it is gone.
            return;
        }
        self.sweep(app.as_deref(), running).await;
    }

    /// The engine is wanted and its machine does not run: it is starting, or died.
    /// Nobody meant to stop mirroring, so every mirror stays.
    async fn await_machine(&mut self, app: &Arc<App>) {
        self.lost("connection lost: the machine does not run").await;
        self.retry = None;
        let verdict = (
            false,
            reason::WAITING_FOR_MACHINE,
            "Waiting for the machine to run",
        );
        self.report(app, verdict).await;
    }

    async fn keep_connected(&mut self, app: &Arc<App>) {
        let endpoint = app
            .spec
            .endpoint()
            .map_or_else(|| self.context.world().machine.endpoint(), str::to_owned);
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.status.endpoint != endpoint)
        {
            tracing::info!(endpoint, "the engine's endpoint changed");
            self.session = None;
            self.identity = None;
            self.queue.clear();
            self.workers.shutdown().await;
        }
        if self.session.is_none() {
            if self.retry.is_some_and(|at| at > Instant::now()) {
                return;
            }
            match self.open(&endpoint).await {
                Ok(session) => {
                    tracing::info!(
                        endpoint,
                        engine = session.status.id,
                        version = session.status.version,
                        "connected"
                    );
                    self.session = Some(session);
                    self.retry = None;
                }
                Err(error) => {
                    self.failed(app, &error).await;
                    return;
                }
            }
        }
        let Some(session) = &mut self.session else {
            return;
        };
        if !session.synced && session.first.is_empty() {
            session.synced = true;
            self.failures = 0;
            tracing::info!("the engine is mirrored");
        }
        let now = Instant::now();
        if !session.synced && now >= session.limit {
            self.lost(&format!(
                "the first pass over the engine took longer than {FIRST_PASS:?}"
            ))
            .await;
            return;
        }
        if session.synced && now >= session.verify {
            session.verify = now + VERIFY;
            let work = Arc::clone(&session.work);
            match everything(&work, &self.mirrors).await {
                Ok(keys) => keys.into_iter().for_each(|key| self.queue.push(key)),
                Err(error) => {
                    self.lost(&error).await;
                    return;
                }
            }
        }
        if self.session.as_ref().is_some_and(|session| session.synced) {
            self.report(app, (true, reason::CONNECTED, "Container engine synced"))
                .await;
        }
    }

    /// Connects, and puts everything that either side has into the queue.
    async fn open(&mut self, endpoint: &str) -> Result<Session, String> {
        let connection = connect(&*self.context.world().engines, endpoint).await?;
        let label = plan::engine_label(&connection.info.id);
        if let Some(known) = self.identity.as_ref().filter(|known| **known != label) {
            return Err(format!(
                "another engine ({label}) answers at {endpoint} than the one that is mirrored ({known}); stop and start to mirror it"
            ));
        }
        // What is left of another engine shows nothing that can be asked any more.
        self.sweep_others(&label).await?;
        let work = Arc::new(Work {
            client: self.context.client(),
            namespace: self.namespace.clone(),
            engine: Arc::clone(&connection.engine),
            label: label.clone(),
            mirrors: Arc::clone(&self.mirrors),
            starts: Mutex::default(),
        });
        let limit = Instant::now() + FIRST_PASS;
        let keys = match timeout_at(limit, everything(&work, &self.mirrors)).await {
            Ok(keys) => keys?,
            Err(_) => return Err("the engine did not list what it has in time".to_owned()),
        };
        self.identity = Some(label);
        let first: BTreeSet<Key> = keys.iter().cloned().collect();
        keys.into_iter().for_each(|key| self.queue.push(key));
        let info = &connection.info;
        let status = EngineStatus {
            id: info.id.clone(),
            endpoint: endpoint.to_owned(),
            version: info.version.clone(),
            api_version: info.api_version.clone(),
            connected_since: condition::now(),
        };
        Ok(Session {
            connection,
            work,
            first,
            synced: false,
            limit,
            verify: Instant::now() + VERIFY,
            status,
        })
    }

    /// The connection is gone: nothing is removed, and it is said at once.
    async fn lost(&mut self, why: &str) {
        if self.session.take().is_none() {
            return;
        }
        tracing::warn!(why, "the engine is not mirrored for now");
        self.queue.clear();
        self.workers.shutdown().await;
        if let Some(app) = self.app.clone() {
            self.failed(&app, why).await;
        }
    }

    async fn failed(&mut self, app: &Arc<App>, why: &str) {
        let pause = RETRY_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.retry = Some(Instant::now() + pause);
        if app.spec.running {
            self.report(app, (false, reason::CONNECT_FAILED, why)).await;
        }
    }

    async fn report(&self, app: &App, verdict: (bool, &str, &str)) {
        let engine = self
            .session
            .as_ref()
            .filter(|session| session.synced)
            .map(|session| &session.status);
        if let Err(error) = app_status::write(self.context.client(), app, verdict, engine).await {
            tracing::warn!(%error, "failed to write the App's status");
        }
    }

    /// Removes what we made, then says so. Also finishes what a crash interrupted.
    async fn sweep(&mut self, app: Option<&App>, running: bool) {
        if !self.mirrors.read().is_swept() {
            if !self.sweeping {
                self.sweeping = true;
                tracing::info!("removing the mirrors");
            }
            if let Err(error) = self.sweep_marked(|_| true).await {
                tracing::warn!(
                    error,
                    "failed to remove every mirror, and tried again later"
                );
            }
            // Their disappearance comes back through the watches; one that does not is
            // looked at again.
            self.retry = Some(Instant::now() + RETRY_MIN);
            return;
        }
        let Some(app) = app else {
            return;
        };
        let verdict = if running {
            let text = "Engine mirroring is only supported with the moby backend";
            (true, reason::NOT_APPLICABLE, text)
        } else {
            (false, reason::STOPPED, "Container engine stopped")
        };
        self.report(app, verdict).await;
    }

    async fn sweep_others(&self, label: &str) -> Result<(), String> {
        self.sweep_marked(|value| value != label).await
    }

    async fn sweep_marked(&self, chosen: impl Fn(&str) -> bool) -> Result<(), String> {
        fn pick<K: Resource>(
            objects: &std::collections::BTreeMap<String, Arc<K>>,
            chosen: impl Fn(&str) -> bool,
        ) -> Vec<Arc<K>> {
            let marked = |object: &Arc<K>| {
                let mut labels = object.meta().labels.iter().flatten();
                labels.any(|(name, value)| name == names::ENGINE_LABEL && chosen(value))
            };
            objects
                .values()
                .filter(|object| marked(object))
                .cloned()
                .collect()
        }
        let (containers, images, volumes, namespaces) = {
            let mirrors = self.mirrors.read();
            (
                pick(&mirrors.containers, &chosen),
                pick(&mirrors.images, &chosen),
                pick(&mirrors.volumes, &chosen),
                pick(&mirrors.namespaces, &chosen),
            )
        };
        let client = self.context.client();
        let mut failed = Vec::new();
        sweep_kind(&client, containers, &mut failed).await;
        sweep_kind(&client, volumes, &mut failed).await;
        sweep_kind(&client, images, &mut failed).await;
        sweep_kind(&client, namespaces, &mut failed).await;
        if failed.is_empty() {
            Ok(())
        } else {
            Err(failed.join("; "))
        }
    }

    /// Hands ready keys to workers.
    fn dispatch(&mut self) {
        let Some(session) = &self.session else {
            return;
        };
        while let Some(key) = self.queue.pop(WORKERS) {
            let work = Arc::clone(&session.work);
            self.workers.spawn(async move {
                let done = work.run(&key).await;
                (key, done)
            });
        }
    }
}

/// The next event of a standing connection; without one there is none.
async fn next_event(session: &mut Option<Session>) -> Option<Event> {
    match session {
        Some(session) => session.connection.events.recv().await,
        None => std::future::pending().await,
    }
}

async fn sweep_kind<K>(client: &kube::Client, objects: Vec<Arc<K>>, failed: &mut Vec<String>)
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    for object in objects {
        let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
        if let Err(error) = prune(&api, &*object).await {
            failed.push(format!("{}: {error}", object.name_any()));
        }
    }
}

/// Keys of everything that the engine has and of everything that has a mirror.
async fn everything(work: &Work, mirrors: &RwLock<Mirrors>) -> Result<Vec<Key>, String> {
    let lists = async {
        let containers = work.engine.containers().await?;
        let images = work.engine.images().await?;
        let volumes = work.engine.volumes().await?;
        Ok::<_, rdd_engine::Error>((containers, images, volumes))
    };
    let (containers, images, volumes) = lists
        .await
        .map_err(|error| super::connection::chain(&error))?;
    let mut keys: BTreeSet<Key> = BTreeSet::from([Key::Scaffold]);
    keys.extend(containers.into_iter().map(Key::Container));
    keys.extend(images.into_iter().map(|image| Key::Image(image.id)));
    keys.extend(volumes.into_iter().map(|volume| Key::Volume(volume.name)));
    let mirrors = mirrors.read();
    for mirror in mirrors
        .containers
        .values()
        .filter(|mirror| is_of(&***mirror, &work.label))
    {
        keys.insert(Key::Container(mirror.name_any()));
        if actions::is_asked(mirror) {
            keys.insert(Key::Action(mirror.name_any()));
        }
    }
    keys.extend(mirrors.image_ids().into_iter().map(Key::Image));
    for mirror in mirrors
        .images
        .values()
        .filter(|mirror| is_deleting(&***mirror))
    {
        keys.insert(Key::ImageMirror(mirror.name_any()));
    }
    for mirror in mirrors
        .volumes
        .values()
        .filter(|mirror| is_of(&***mirror, &work.label))
    {
        if is_deleting(&**mirror) {
            keys.insert(Key::VolumeMirror(mirror.name_any()));
        } else if let Some(status) = &mirror.status {
            keys.insert(Key::Volume(status.name.clone()));
        }
    }
    Ok(keys.into_iter().collect())
}

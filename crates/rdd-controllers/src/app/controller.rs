//! The loop around the App: sees, decides, acts.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::future::{BoxFuture, OptionFuture};
use futures::{FutureExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use rdd_api::names::{self, field_manager};
use rdd_api::{App, condition};
use rdd_machine::{Backend, Machine};
use rdd_manager::{Context, Entry, finalizer};
use serde_json::json;
use tokio::time::sleep_until;

use super::keeper::{Done, Keeper, Phase, Step};
use super::verdict::{self, Known};
use crate::world::World;

/// The pause before a pass that the API refused is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// What can wake the loop.
enum Input {
    App(Box<watcher::Event<App>>),
    Discovery(Box<watcher::Event<ConfigMap>>),
    Machine(Done),
    Interrupted(watcher::Error),
    Timer,
    Stop,
}

impl Input {
    /// The word by which a reconcile's cause is remembered.
    fn trigger(&self) -> &'static str {
        match self {
            Self::App(_) => "App",
            Self::Discovery(_) => "discovery",
            Self::Machine(_) => "machine",
            Self::Interrupted(_) => "watch",
            Self::Timer => "timer",
            Self::Stop => "stop",
        }
    }
}

/// Runs until the manager stops. Then the engine stops too: it outlives a crash of
/// this process, and never an orderly end.
pub(super) async fn run(context: Context<World>) -> anyhow::Result<()> {
    let client = context.client();
    let apps: Api<App> = Api::all(client.clone());
    let app_only = watcher::Config::default().fields(&format!("metadata.name={}", names::APP));
    let mut app_events = pin!(watcher(apps, app_only).backoff(rdd_manager::watch_backoff()));
    let maps: Api<ConfigMap> = Api::namespaced(client, names::RDD_NAMESPACE);
    let map_only = watcher::Config::default()
        .fields(&format!("metadata.name={}", names::DISCOVERY_CONFIG_MAP));
    let mut map_events = pin!(watcher(maps, map_only).backoff(rdd_manager::watch_backoff()));

    let machine = Arc::clone(&context.world().machine);
    let stopping = context.stopping();
    let mut state = State::new();
    let mut task: Option<BoxFuture<'static, Done>> = None;
    let mut retry: Option<Instant> = None;
    loop {
        let wake = state.keeper.wake().into_iter().chain(retry).min();
        let timer: OptionFuture<_> = wake.map(|at| sleep_until(at.into())).into();
        let input = tokio::select! {
            () = stopping.cancelled() => Input::Stop,
            event = app_events.try_next() => match event {
                Ok(Some(event)) => Input::App(Box::new(event)),
                Ok(None) => bail!("the watch of the App ended"),
                Err(error) => Input::Interrupted(error),
            },
            event = map_events.try_next() => match event {
                Ok(Some(event)) => Input::Discovery(Box::new(event)),
                Ok(None) => bail!("the watch of the discovery ConfigMap ended"),
                Err(error) => Input::Interrupted(error),
            },
            Some(done) = OptionFuture::from(task.as_mut()) => {
                task = None;
                Input::Machine(done)
            }
            Some(()) = timer => Input::Timer,
        };
        let trigger = input.trigger();
        match input {
            Input::Stop => break,
            Input::App(event) => state.see_app(*event),
            Input::Discovery(event) => state.see_discovery(*event),
            Input::Machine(done) => state.keeper.done(done, Instant::now()),
            Input::Interrupted(error) => {
                tracing::debug!(%error, "a watch of the App's controller was interrupted");
                continue;
            }
            Input::Timer => {}
        }
        if !state.is_synced() {
            continue;
        }
        context.synced().await;
        if let Some((step, backend)) = state.next(Instant::now()) {
            task = Some(begin(Arc::clone(&machine), step, backend));
        }
        let outcome = state.pass(&context).await;
        retry = outcome.is_err().then(|| Instant::now() + RETRY);
        if let Err(error) = &outcome {
            tracing::warn!(
                controller = context.name(),
                kind = "App",
                error = format!("{error:#}"),
                "a pass failed"
            );
        }
        context.record(trigger, outcome.map_err(|error| format!("{error:#}")));
    }
    // Dropping a step leaves the machine in any state; stopping deals with all of them.
    drop(task);
    if *state.keeper.phase() == Phase::Stopped {
        return Ok(());
    }
    let stopped = machine.stop().await;
    state.keeper.done(Done::Stopped(stopped), Instant::now());
    // A next start finds what is true: nothing runs, and nothing has settled.
    state.write_conditions(&context).await
}

fn begin(machine: Arc<dyn Machine>, step: Step, backend: Backend) -> BoxFuture<'static, Done> {
    async move {
        match step {
            Step::Look => Done::Looked(machine.is_running().await),
            Step::Start => Done::Started(machine.start(backend).await),
            Step::Stop => Done::Stopped(machine.stop().await),
            Step::Probe => Done::Probed(machine.probe(backend).await),
            Step::Watch => {
                machine.ended().await;
                Done::Ended
            }
        }
    }
    .boxed()
}

/// Everything that the loop knows.
struct State {
    app: Option<App>,
    /// During a listing: whether the App was in it.
    listed: bool,
    app_synced: bool,
    discovery: Option<ConfigMap>,
    discovery_synced: bool,
    keeper: Keeper,
    /// The engine that the machine was last started as, until it is stopped.
    backend: Option<Backend>,
    /// The App and namespace that were ensured already.
    ensured: Option<(Option<String>, String)>,
}

impl State {
    fn new() -> Self {
        Self {
            app: None,
            listed: false,
            app_synced: false,
            discovery: None,
            discovery_synced: false,
            keeper: Keeper::new(),
            backend: None,
            ensured: None,
        }
    }

    /// The step to begin now, and for which engine. One that is not wanted any more is
    /// stopped before another one starts.
    fn next(&mut self, now: Instant) -> Option<(Step, Backend)> {
        let backend = self.app.as_ref().map_or(Backend::Moby, verdict::backend);
        if *self.keeper.phase() == Phase::Stopped {
            self.backend = None;
        }
        let fits = self.backend.is_none_or(|started| started == backend);
        let wanted = fits && self.app.as_ref().is_some_and(verdict::wants_machine);
        let step = self.keeper.next(wanted, now)?;
        if step == Step::Start {
            self.backend = Some(backend);
        }
        Some((step, backend))
    }

    fn is_synced(&self) -> bool {
        self.app_synced && self.discovery_synced
    }

    fn see_app(&mut self, event: watcher::Event<App>) {
        match event {
            watcher::Event::Init => self.listed = false,
            watcher::Event::InitApply(app) => {
                self.listed = true;
                self.set_app(Some(app));
            }
            watcher::Event::InitDone => {
                if !self.listed {
                    self.set_app(None);
                }
                self.app_synced = true;
            }
            watcher::Event::Apply(app) => self.set_app(Some(app)),
            watcher::Event::Delete(_) => self.set_app(None),
        }
    }

    fn set_app(&mut self, app: Option<App>) {
        let generation = |app: &Option<App>| {
            app.as_ref()
                .map(|app| (app.metadata.uid.clone(), app.metadata.generation))
        };
        if generation(&self.app) != generation(&app) {
            self.keeper.forgive();
        }
        self.app = app;
    }

    fn see_discovery(&mut self, event: watcher::Event<ConfigMap>) {
        match event {
            watcher::Event::Init => self.discovery_synced = false,
            watcher::Event::InitApply(map) | watcher::Event::Apply(map) => {
                self.discovery = Some(map)
            }
            watcher::Event::InitDone => self.discovery_synced = true,
            watcher::Event::Delete(_) => self.discovery = None,
        }
    }

    /// Doubt counts as yes, which only makes a wait stricter.
    fn engine_enabled(&self) -> bool {
        let Some(map) = &self.discovery else {
            return true;
        };
        match Entry::controllers(map) {
            Ok(Some(controllers)) => controllers.contains(names::controller::ENGINE),
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(%error, "who runs the engine controller is unknown");
                true
            }
        }
    }

    /// One look at the whole App. Every early end has a watch behind it.
    async fn pass(&mut self, context: &Context<World>) -> anyhow::Result<()> {
        let Some(app) = self.app.clone() else {
            return Ok(());
        };
        if finalizer::is_deleting(&app) {
            self.write_conditions(context).await?;
            return self.finish(context, &app).await;
        }
        let apps: Api<App> = Api::all(context.client());
        if !finalizer::has(&app, names::CLEANUP_FINALIZER) {
            finalizer::add(&apps, names::APP, names::CLEANUP_FINALIZER)
                .await
                .context("failed to add the finalizer")?;
        }
        let wanted = (app.metadata.uid.clone(), app.spec.namespace().to_owned());
        if self.ensured.as_ref() != Some(&wanted) {
            ensure_namespace(context.client(), &app).await?;
            self.ensured = Some(wanted);
        }
        self.write_conditions(context).await
    }

    /// Lets a deleted App go once nothing runs and nothing is mirrored.
    async fn finish(&mut self, context: &Context<World>, app: &App) -> anyhow::Result<()> {
        let stopped = *self.keeper.phase() == Phase::Stopped;
        let current = self.app.as_ref().unwrap_or(app);
        if !stopped || !verdict::swept(current, self.engine_enabled()) {
            return Ok(());
        }
        if !finalizer::has(app, names::CLEANUP_FINALIZER) {
            return Ok(());
        }
        remove_namespace(context.client(), app).await?;
        let apps: Api<App> = Api::all(context.client());
        finalizer::remove(&apps, names::APP, names::CLEANUP_FINALIZER)
            .await
            .context("failed to remove the finalizer")
    }

    /// Writes what is known unless it stands already.
    async fn write_conditions(&mut self, context: &Context<World>) -> anyhow::Result<()> {
        let Some(app) = &self.app else {
            return Ok(());
        };
        let remark = context.world().machine.remark();
        let known = Known {
            phase: self.keeper.phase(),
            remark: remark.as_deref(),
            engine_enabled: self.engine_enabled(),
        };
        let Some(conditions) = verdict::conditions(app, known) else {
            return Ok(());
        };
        let stand = app
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice());
        let stand = stand.unwrap_or_default();
        if conditions
            .iter()
            .all(|new| condition::find(stand, &new.r#type) == Some(new))
        {
            return Ok(());
        }
        let body = json!({
            "apiVersion": names::APP_API_VERSION,
            "kind": "App",
            // Another App of the same name by now is not the one that was judged.
            "metadata": {"name": names::APP, "uid": app.metadata.uid},
            "status": {"conditions": conditions},
        });
        let apps: Api<App> = Api::all(context.client());
        let params = PatchParams::apply(field_manager::APP).force();
        match apps
            .patch_status(names::APP, &params, &Patch::Apply(&body))
            .await
        {
            Ok(written) => {
                self.app = Some(written);
                Ok(())
            }
            // Gone, or another one: the watch will say so.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            Err(error) => Err(error).context("failed to write the App's conditions"),
        }
    }
}

/// Makes the namespace of the mirrors, owned by the App; an existing one stays as it is.
async fn ensure_namespace(client: kube::Client, app: &App) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client);
    let name = app.spec.namespace();
    if api
        .get_opt(name)
        .await
        .with_context(|| format!("failed to read namespace {name}"))?
        .is_some()
    {
        return Ok(());
    }
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    namespace.metadata.owner_references = Some(vec![OwnerReference {
        api_version: names::APP_API_VERSION.to_owned(),
        kind: "App".to_owned(),
        name: names::APP.to_owned(),
        uid: app.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    match api.create(&PostParams::default(), &namespace).await {
        // The engine's controller makes it too.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        created => created
            .map(drop)
            .with_context(|| format!("failed to create namespace {name}")),
    }
}

/// Deletes the namespace of the mirrors if the App made it.
async fn remove_namespace(client: kube::Client, app: &App) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client);
    let name = app.spec.namespace();
    let Some(namespace) = api
        .get_opt(name)
        .await
        .with_context(|| format!("failed to read namespace {name}"))?
    else {
        return Ok(());
    };
    let ours = namespace
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| {
            owner.controller == Some(true) && Some(&owner.uid) == app.metadata.uid.as_ref()
        });
    if !ours || namespace.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: namespace.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
        deleted => deleted
            .map(drop)
            .with_context(|| format!("failed to delete namespace {name}")),
    }
}

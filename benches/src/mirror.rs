//! What mirroring costs: the first pass over an engine, and one event among many objects.
//!
//! The control plane runs in this process, over the store of the product; the engine is a
//! dockerd, or the one in memory where no dockerd could hold so many containers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::runtime::wait::await_condition;
use rdd_api::{App, Condition, Container, ContainerState, condition, names};
use rdd_apiserver::auth::Authenticator;
use rdd_apiserver::{Identity, Services};
use rdd_control_plane::{ControlPlane, Parts, Ports};
use rdd_controllers::{Connect, DockerEngines, World};
use rdd_engine::{Docker, Endpoint, Engine, Fake, NewContainer};
use rdd_machine::FakeMachine;
use rdd_store::{SqliteOptions, SqliteStore};
use serde_json::json;
use tokio::time::timeout;

use crate::Figure;
use crate::dockerd::Dockerd;
use crate::statistics::{Samples, milliseconds};

/// Requests of the engine at once, as many as the mirror allows itself.
const AT_ONCE: usize = 16;

/// Events per measurement.
const EVENTS: usize = 200;

/// Nothing may take longer than this.
const PATIENCE: Duration = Duration::from_secs(300);

/// The first pass over a dockerd with so many containers.
pub(crate) fn first_pass_of_dockerd(count: usize) -> Result<Figure> {
    let dockerd = Dockerd::start("bench");
    dockerd.import("box:1");
    run(async move {
        let endpoint = dockerd.endpoint();
        let docker = Docker::connect(&Endpoint::parse(&endpoint)?).await?;
        let made = stream::iter(0..count).map(|number| {
            let new = NewContainer {
                name: Some(format!("c{number}")),
                image: "box:1".to_owned(),
                path: Some("/bin/sh".to_owned()),
                ..NewContainer::default()
            };
            let docker = &docker;
            async move { docker.create_container(&new).await }
        });
        made.buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let floor = bare(&docker).await?;
        let mirror = Mirror::start(Arc::new(DockerEngines::default())).await?;
        let took = mirror.fill(json!({"name": "moby", "endpoint": endpoint}), count);
        let took = took.await?;
        mirror.control_plane.stop().await;
        Ok(first_pass(count, "dockerd", took, floor))
    })
}

/// The first pass over an engine in memory with so many containers, and the way of one
/// event among them.
pub(crate) fn many_in_memory(passes: &[usize], events: &[usize]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for &count in passes {
        figures.push(run(async move {
            let engine = filled(count);
            let floor = bare(&engine).await?;
            let mirror = Mirror::start(Arc::new(engine)).await?;
            let took = mirror.fill(json!({"name": "moby"}), count).await?;
            mirror.control_plane.stop().await;
            Ok(first_pass(count, "an engine in memory", took, floor))
        })?);
    }
    for &count in events {
        figures.push(run(async move {
            let engine = filled(count);
            let mirror = Mirror::start(Arc::new(engine.clone())).await?;
            mirror.fill(json!({"name": "moby"}), count).await?;
            let samples = mirror.events(&engine).await?;
            mirror.control_plane.stop().await;
            Ok(Figure {
                name: format!("event to watch event, {count} containers in memory"),
                value: samples.to_string(),
                floor: "none".to_owned(),
                target: "p50 <= 3 ms, p99 <= 15 ms, flat",
            })
        })?);
    }
    Ok(figures)
}

fn first_pass(count: usize, engine: &str, took: Duration, floor: Duration) -> Figure {
    Figure {
        name: format!("first pass, {count} containers of {engine}"),
        value: format!(
            "{:.0} ms, {:.1} times the floor",
            milliseconds(took),
            took.as_secs_f64() / floor.as_secs_f64()
        ),
        floor: format!("list and inspect alone: {:.0} ms", milliseconds(floor)),
        target: "<= 1.3 times the floor with dockerd",
    }
}

/// Runs on threads with the stack that the server asks for.
fn run<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let measuring = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_stack_size(rdd_apiserver::WORKER_STACK)
            .enable_all()
            .build()
            .context("failed to start threads")?;
        let result = runtime.block_on(async { tokio::spawn(work).await });
        result.context("the measurement failed")?
    });
    match measuring.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn id(number: usize) -> String {
    format!("{number:064x}")
}

fn container(number: usize, state: &str) -> rdd_engine::Container {
    rdd_engine::Container {
        id: id(number),
        name: format!("/c{number}"),
        path: "/bin/sh".to_owned(),
        image: "sha256:1".to_owned(),
        state: state.to_owned(),
        ..rdd_engine::Container::default()
    }
}

fn filled(count: usize) -> Fake {
    let engine = Fake::new("bench");
    for number in 0..count {
        engine.put_container(container(number, "running"), "start");
    }
    engine
}

/// What no mirror can do without: the list, and a look at everything on it.
async fn bare(engine: &dyn Engine) -> Result<Duration> {
    let begin = Instant::now();
    let looks = stream::iter(engine.containers().await?)
        .map(|id| async move { engine.container(&id).await });
    let seen: Vec<_> = looks.buffer_unordered(AT_ONCE).try_collect().await?;
    ensure!(seen.iter().all(Option::is_some), "a container is gone");
    Ok(begin.elapsed())
}

struct Mirror {
    control_plane: ControlPlane,
    client: kube::Client,
    _folder: tempfile::TempDir,
}

impl Mirror {
    async fn start(engines: Arc<dyn Connect>) -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        let store = SqliteStore::open(folder.path(), SqliteOptions::default())?;
        let parts = Parts {
            store: Arc::new(store),
            world: World::new(Arc::new(FakeMachine::new()), engines),
            controllers: "*".to_owned(),
            start_id: "bench".to_owned(),
            version: "v0.0.0".to_owned(),
            authenticator: Authenticator::default(),
            authority: String::new(),
            allowed_origins: Vec::new(),
            services: Services::default(),
            audit: None,
            certificates: None,
            ports: Ports::default(),
        };
        let control_plane = ControlPlane::assemble(parts, None).await?;
        let client = control_plane.client(Identity::system("bench"));
        Ok(Self {
            control_plane,
            client,
            _folder: folder,
        })
    }

    fn containers(&self) -> Api<Container> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Asks for the engine; how long it takes until all its containers are mirrored.
    async fn fill(&self, engine: serde_json::Value, count: usize) -> Result<Duration> {
        let apps: Api<App> = Api::all(self.client.clone());
        let app = json!({"apiVersion": names::APP_API_VERSION, "kind": "App",
            "metadata": {"name": names::APP},
            "spec": {"running": true, "containerEngine": engine}});
        let begin = Instant::now();
        apps.patch(
            names::APP,
            &PatchParams::apply("bench").force(),
            &Patch::Apply(&app),
        )
        .await?;
        let is_synced = |app: Option<&App>| {
            let status = app.and_then(|app| app.status.as_ref());
            let ready = status.and_then(|status| {
                condition::find(&status.conditions, condition::CONTAINER_ENGINE_READY)
            });
            ready.is_some_and(Condition::is_true)
        };
        let synced = await_condition(apps.clone(), names::APP, is_synced);
        let synced = timeout(PATIENCE, synced).await;
        synced.context("not everything was mirrored in time")??;
        let took = begin.elapsed();
        let mirrors = self.containers().list(&ListParams::default()).await?.items;
        let complete = mirrors
            .iter()
            .filter(|mirror| mirror.status.is_some())
            .count();
        ensure!(
            complete == count,
            "{complete} of {count} containers are mirrored"
        );
        Ok(took)
    }

    /// Pauses and resumes containers all over the engine, one at a time.
    async fn events(&self, engine: &Fake) -> Result<Samples> {
        let params = ListParams::default();
        let count = self.containers().list_metadata(&params).await?.items.len();
        let version = self.containers().list_metadata(&params.limit(1)).await?;
        let version = version.metadata.resource_version.unwrap_or_default();
        let mut seen = Box::pin(
            self.containers()
                .watch(&WatchParams::default(), &version)
                .await?,
        );
        let mut samples = Vec::new();
        let mut paused = HashSet::new();
        for round in 0..EVENTS {
            // Among few, each has its turn more than once.
            let number = round * count / EVENTS;
            let (word, event, wanted) = if paused.insert(number) {
                ("paused", "pause", ContainerState::Paused)
            } else {
                paused.remove(&number);
                ("running", "unpause", ContainerState::Running)
            };
            let begin = Instant::now();
            engine.put_container(container(number, word), event);
            let shown = async {
                loop {
                    let event = seen.next().await.context("the watch ended")??;
                    if let WatchEvent::Added(mirror) | WatchEvent::Modified(mirror) = event
                        && mirror.name_any() == id(number)
                        && let Some(status) = &mirror.status
                        && status.status == wanted
                    {
                        return Ok::<_, anyhow::Error>(());
                    }
                }
            };
            timeout(PATIENCE, shown).await.context("no event came")??;
            samples.push(begin.elapsed());
        }
        Ok(Samples::new(samples))
    }
}

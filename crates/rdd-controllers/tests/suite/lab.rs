//! An API server in memory, and what controllers need beside it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;

use rdd_admission::AdmissionChain;
use rdd_api::{App, Condition, condition, names};
use rdd_apiserver::catalog::crd;
use rdd_apiserver::health::Health;
use rdd_apiserver::pages::{Site, Version};
use rdd_apiserver::workers::Workers;
use rdd_apiserver::{ApiServer, Identity};
use rdd_controllers::{NAMES, REGISTRY, World};
use rdd_engine::Fake;
use rdd_machine::FakeMachine;
use rdd_manager::{
    ControllerDef, Deadlines, Discovery, JoinAdmission, Manager, Options, Passthroughs, Ports,
    Role, Selection, Terms,
};
use rdd_store::{MemoryStore, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::faults::FailingStore;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks of a test at the API.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Lab {
    pub(crate) client: kube::Client,
    pub(crate) store: Arc<FailingStore>,
    pub(crate) machine: Arc<FakeMachine>,
    pub(crate) engine: Fake,
    pub(crate) world: Arc<World>,
    pub(crate) server: ApiServer,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// Joins the server's own chain.
pub(crate) struct InProcess(pub(crate) ApiServer);

#[async_trait]
impl JoinAdmission for InProcess {
    async fn join(&self, rules: AdmissionChain) -> anyhow::Result<()> {
        self.0.set_admission(rules);
        Ok(())
    }
}

/// Runs a test on threads with the stack that the server asks for.
pub(crate) fn run<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Lab) -> F + Send + 'static,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(rdd_apiserver::WORKER_STACK)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let task = tokio::spawn(async { test(Lab::new().await).await });
        if let Err(error) = task.await {
            std::panic::resume_unwind(error.into_panic());
        }
    });
    runtime.shutdown_background();
}

impl Lab {
    async fn new() -> Self {
        let failing = Arc::new(FailingStore::new(Arc::new(MemoryStore::new())));
        let store: Arc<dyn Store> = failing.clone();
        let (catalog, definitions) = crd::served();
        let version = Version {
            git_version: "v1.36.0".to_owned(),
            git_commit: String::new(),
        };
        let (server, work) = ApiServer::new(rdd_apiserver::Options {
            pages: Arc::new(Site::new(version, Health::new())),
            ..rdd_apiserver::Options::new(Arc::clone(&store), catalog)
        });
        let client = server.client(Identity::system("system:apiserver"));
        let workers = Workers::new(&server, definitions, String::new());
        let work = AbortOnDropHandle::new(tokio::spawn(work));
        workers
            .create_start_objects()
            .await
            .expect("the server works");
        let workers = tokio::spawn(async move {
            workers
                .run(CancellationToken::new())
                .await
                .expect("the store works");
        });
        let machine = Arc::new(FakeMachine::new());
        let engine = Fake::new("engine-1");
        let world = Arc::new(World::new(machine.clone(), Arc::new(engine.clone())));
        let lab = Self {
            client,
            store: failing,
            machine,
            engine,
            world,
            server,
            _tasks: vec![work, AbortOnDropHandle::new(workers)],
        };
        lab.begin("start-1").await;
        lab
    }

    /// Returns when nothing has been written for a second.
    pub(crate) async fn comes_to_rest(&self) {
        let mut changes = self
            .store
            .changes(self.store.revision())
            .expect("nothing is compacted");
        while tokio::time::timeout(Duration::from_secs(1), changes.next())
            .await
            .is_ok()
        {}
    }

    /// What a control plane does before its manager starts.
    pub(crate) async fn begin(&self, start_id: &str) {
        Discovery::new(self.client.clone(), NAMES)
            .begin(start_id)
            .await
            .expect("the discovery ConfigMap is made");
    }

    /// Replaces machine and engine.
    pub(crate) fn use_world(&mut self, world: World) {
        self.world = Arc::new(world);
    }

    pub(crate) fn options(&self, selection: &str, start_id: &str) -> Options<World> {
        Options {
            client: self.client.clone(),
            world: Arc::clone(&self.world),
            controllers: Selection::parse(selection).select(REGISTRY).controllers,
            registry: REGISTRY,
            admission: Arc::new(InProcess(self.server.clone())),
            passthroughs: Passthroughs::default(),
            served_at: None,
            tls: None,
            ports: Ports::default(),
            names: NAMES,
            role: Role::Embedded,
            terms: Terms::embedded(start_id),
            deadlines: Deadlines::default(),
        }
    }

    pub(crate) async fn start(&self, selection: &str) -> Manager {
        rdd_manager::start(self.options(selection, "start-1"))
            .await
            .expect("the controllers start")
    }

    /// Options for controllers that a test made up.
    pub(crate) fn options_for(&self, registry: &'static [ControllerDef<World>]) -> Options<World> {
        Options {
            controllers: registry.iter().collect(),
            registry,
            ..self.options("", "start-1")
        }
    }

    pub(crate) async fn discovery(&self) -> ConfigMap {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), names::RDD_NAMESPACE);
        api.get(names::DISCOVERY_CONFIG_MAP)
            .await
            .expect("it is there")
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let annotations: BTreeMap<_, _> = self
            .discovery()
            .await
            .metadata
            .annotations
            .unwrap_or_default();
        annotations
            .get(names::READY_ANNOTATION)
            .is_some_and(|value| value == "true")
    }

    pub(crate) fn apps(&self) -> Api<App> {
        Api::all(self.client.clone())
    }

    /// Waits until a condition of the App reads so, at its present generation.
    pub(crate) async fn app_says(&self, kind: &str, status: &str, reason: &str) -> Condition {
        let what = format!("{kind}={status}/{reason}");
        self.eventually(&what, || async {
            let app = self
                .apps()
                .get_opt(names::APP)
                .await
                .expect("the server works")?;
            let conditions = app.status.unwrap_or_default().conditions;
            let found = condition::find(&conditions, kind)?;
            let fits = found.status == status
                && found.reason == reason
                && found.observed_generation == app.metadata.generation;
            fits.then(|| found.clone())
        })
        .await
    }

    /// Looks until there is an answer.
    pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        look: impl Fn() -> F,
    ) -> T {
        let begin = Instant::now();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
            if begin.elapsed() > PATIENCE {
                let app = self.apps().get_opt(names::APP).await;
                let app = app.map(|app| app.map(|app| serde_json::to_string(&app.status)));
                let mirrors: Api<rdd_api::Container> = Api::all(self.client.clone());
                let mirrors = mirrors.list(&kube::api::ListParams::default()).await;
                let mirrors = mirrors.map(|list| serde_json::to_string(&list.items));
                panic!("{what} did not come true; the App: {app:?}; mirrors: {mirrors:?}");
            }
        }
    }
}

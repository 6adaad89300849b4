//! One control plane: its parts, the order in which they come up, and the reverse.
//!
//! ```text
//! store → definitions loaded → API server → workers, start objects → listener, kubeconfig →
//! discovery record of this start → controllers → ready annotation
//! ```
//!
//! Whatever fails before the last step ends the start with its own error; everything
//! that came up before it is taken down again.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use rdd_admission::AdmissionChain;
use rdd_apiserver::audit::{AuditLog, AuditOptions};
use rdd_apiserver::auth::{Authenticator, Rbac};
use rdd_apiserver::catalog::crd;
use rdd_apiserver::health::Health;
use rdd_apiserver::http::serve::{Security, serve};
use rdd_apiserver::pages::{Site, Version};
use rdd_apiserver::workers::{Workers, load_definitions};
use rdd_apiserver::{ApiServer, Identity, Services};
use rdd_controllers::{Certificates, NAMES, REGISTRY, World};
use rdd_instance::{Instance, PathKey};
use rdd_manager::{
    Discovery, EMBEDDED, JoinAdmission, Manager, Passthroughs, Ports, Proxy, Role, Terms,
};
use rdd_store::{SqliteOptions, SqliteStore, Store};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::door::Door;
use crate::kubeconfig::{self, Tokens};
use crate::options::Options;
use crate::{budgets, pki, record_guard};

/// The Kubernetes version whose behaviour is implemented.
const KUBERNETES: &str = "v1.36.0";

/// The administrator of a control plane.
const ADMIN: &str = "system-admin";

/// What a control plane is made of.
pub struct Parts {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// What controllers touch besides the API.
    pub world: World,
    /// Which controllers run.
    pub controllers: String,
    /// The random identity of this start.
    pub start_id: String,
    /// The version of the program.
    pub version: String,
    /// Who owns which credential.
    pub authenticator: Authenticator,
    /// The certificates that clients trust, PEM; may be empty.
    pub authority: String,
    /// Origins of web pages that may open endpoints, beside the server's own.
    pub allowed_origins: Vec<String>,
    /// Where the Services listen that webhooks name.
    pub services: Services,
    /// Where requests are recorded, if anywhere.
    pub audit: Option<AuditLog>,
    /// Who signs for managers. Without it rules are not listed as webhooks, and
    /// controllers in programs of their own have no endpoints.
    pub certificates: Option<Arc<Certificates>>,
    /// Where the manager answers.
    pub ports: Ports,
}

/// A running control plane. Dropping it abandons its tasks; [`ControlPlane::stop`] ends them.
pub struct ControlPlane {
    server: ApiServer,
    store: Arc<dyn Store>,
    health: Health,
    manager: Option<Manager>,
    listening: Option<Task>,
    workers: Task,
    feed: JoinHandle<()>,
    failed: watch::Receiver<Option<String>>,
    passthroughs: Passthroughs,
    door: Arc<Door>,
    proxy: Option<Proxy>,
    janitor: Option<AbortOnDropHandle<()>>,
    certificates: Option<Arc<Certificates>>,
    audit: Option<AuditLog>,
}

/// Where the API is served, and who is told once it answers.
pub struct Listener<'a> {
    /// The socket, bound already: its port is the one that is published.
    pub socket: TcpListener,
    /// How connections are protected.
    pub security: Security,
    /// Told the address as soon as it answers.
    pub publish: &'a (dyn Fn(SocketAddr) -> Result<()> + Send + Sync),
}

/// Something that runs until it is told to end.
struct Task {
    stop: CancellationToken,
    handle: JoinHandle<()>,
}

impl Task {
    async fn end(self, name: &'static str) {
        self.stop.cancel();
        if let Err(error) = self.handle.await {
            tracing::error!(task = name, %error, "a task failed");
        }
    }
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ControlPlane")
            .finish_non_exhaustive()
    }
}

/// In process, rules need no network: they join the server's own chain.
struct Chain(ApiServer);

#[async_trait]
impl JoinAdmission for Chain {
    async fn join(&self, rules: AdmissionChain) -> Result<()> {
        self.0.set_admission(rules.with(record_guard::rule()));
        Ok(())
    }
}

impl ControlPlane {
    /// Starts the control plane of an instance, whose lock the caller holds.
    ///
    /// # Errors
    /// The first step that failed, with what to do about it.
    pub async fn start(instance: &Instance, options: Options, start_id: &str) -> Result<Self> {
        if !options.bind_address.is_loopback() && options.tls_names.is_empty() {
            bail!(
                "--bind-address {} is not loopback: name what clients call this machine with --tls-name",
                options.bind_address
            );
        }
        let folder = instance.path(PathKey::Dir);
        let store = open_store(&folder)?;
        let pki = pki::prepare(&instance.path(PathKey::TlsDir), &options.tls_names)?;
        let tokens = Tokens::new();
        let mut authenticator = Authenticator::default();
        let issuer = pki::token_issuer(&instance.path(PathKey::TlsDir))?;
        authenticator.set_issuer(Arc::new(issuer));
        authenticator.set_client_authority(pki.clients);
        if let Some(file) = &options.token_file {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("failed to read the token file {}", file.display()))?;
            authenticator
                .add_token_file(&text)
                .with_context(|| format!("failed to use the token file {}", file.display()))?;
        }
        authenticator.add_token(&tokens.admin, Identity::system(ADMIN));
        authenticator.add_token(&tokens.user, Identity::new("user", "", [] as [&str; 0]));
        let audit = match options.audit_log {
            Some(audit) => Some(open_audit(audit)?),
            None => None,
        };
        let listener = bind(SocketAddr::new(options.bind_address, options.secure_port)).await?;
        let address = listener.local_addr().context("failed to read the port")?;
        let parts = Parts {
            store,
            world: rdd_controllers::world(instance)?,
            controllers: options.controllers,
            start_id: start_id.to_owned(),
            version: options.version,
            authenticator,
            authority: pki.authority.clone(),
            allowed_origins: options.allowed_origins,
            services: options.webhook_services.into_iter().collect(),
            audit,
            certificates: Some(Certificates::open(&instance.path(PathKey::TlsDir))?),
            ports: rdd_controllers::ports(instance, true),
        };
        let publish = |address| kubeconfig::write(instance, address, &pki.authority, &tokens);
        let listener = Listener {
            socket: listener,
            security: Security::Tls(pki.server),
            publish: &publish,
        };
        let control_plane = Self::assemble(parts, Some(listener)).await?;
        tracing::info!(%address, "the control plane is ready");
        Ok(control_plane)
    }

    /// Brings the parts up in order; with a listener the API is also served there, and
    /// its address is published as soon as it answers.
    ///
    /// # Errors
    /// The first step that failed.
    pub async fn assemble(parts: Parts, listener: Option<Listener<'_>>) -> Result<Self> {
        let Parts {
            store,
            world,
            controllers,
            start_id,
            version,
            authenticator,
            authority,
            allowed_origins,
            services,
            audit,
            certificates,
            ports,
        } = parts;
        let passthroughs = Passthroughs::default();
        let proxy = match &certificates {
            Some(certificates) => Some(Proxy::new(certificates.of_control_plane()?)),
            None => None,
        };
        let door = Arc::new(Door::new(
            passthroughs.clone(),
            allowed_origins,
            proxy.clone(),
        ));
        let (catalog, definitions) = crd::served();
        load_definitions(&*store, &definitions)
            .await
            .context("failed to load the stored definitions")?;
        let health = Health::new();
        let probed = Arc::clone(&store);
        health.add("store", true, move || probed.failure());
        let site = Site::new(
            Version {
                git_version: format!("{KUBERNETES}+rdd-{}", version.trim_start_matches('v')),
                git_commit: option_env!("RDD_GIT_COMMIT").unwrap_or_default().to_owned(),
            },
            health.clone(),
        );
        let (server, feed) = ApiServer::new(rdd_apiserver::Options {
            authenticator,
            authorizer: Arc::new(Rbac::new(Arc::clone(&store))),
            services,
            pages: Arc::new(site),
            passthrough: Arc::clone(&door) as _,
            ..rdd_apiserver::Options::new(Arc::clone(&store), catalog)
        });
        let discovery = Discovery::new(server.client(Identity::system(ADMIN)), NAMES);
        door.set_discovery(Some(discovery));
        if let Some(audit) = &audit {
            server.set_audit(audit.clone());
        }
        // Until the controllers have brought their kinds, none of them is unknown for good.
        server.set_rising(true);
        let feed = tokio::spawn(feed);
        let (fail, failed) = watch::channel(None);
        let workers = Workers::new(&server, definitions, authority);
        workers
            .create_start_objects()
            .await
            .context("failed to create the first namespaces")?;
        let stop = CancellationToken::new();
        let workers = Task {
            handle: tokio::spawn({
                let (stop, fail) = (stop.clone(), fail.clone());
                async move {
                    if let Err(error) = workers.run(stop).await {
                        fail.send_replace(Some(format!("the server's own workers ended: {error}")));
                    }
                }
            }),
            stop,
        };
        let mut control_plane = Self {
            server,
            store,
            health,
            manager: None,
            listening: None,
            workers,
            feed,
            failed,
            passthroughs,
            door,
            proxy,
            janitor: None,
            certificates,
            audit,
        };
        match control_plane
            .come_up(world, &controllers, ports, &start_id, listener)
            .await
        {
            Ok(()) => Ok(control_plane),
            Err(error) => {
                control_plane.stop().await;
                Err(error)
            }
        }
    }

    async fn come_up(
        &mut self,
        world: World,
        controllers: &str,
        ports: Ports,
        start_id: &str,
        listener: Option<Listener<'_>>,
    ) -> Result<()> {
        let client = self.server.client(Identity::system(ADMIN));
        // Before the listener: no reader may find the record of an earlier start.
        Discovery::new(client.clone(), NAMES)
            .begin(start_id)
            .await
            .context("failed to begin the start's record")?;
        for problem in rdd_controllers::problems(controllers) {
            tracing::warn!("{problem}");
        }
        let selected = rdd_controllers::embedded(controllers);
        let hosted: Vec<&str> = selected.iter().map(|def| def.name).collect();
        rdd_manager::remove_leftovers(&client, &NAMES, &hosted)
            .await
            .context("failed to take off the list what earlier controllers left there")?;
        let mut served_at = None;
        if let Some(Listener {
            socket,
            security,
            publish,
        }) = listener
        {
            let address = socket.local_addr().context("failed to read the port")?;
            let stop = CancellationToken::new();
            let router = self.server.router();
            let serving = serve(socket, router, security, stop.clone(), budgets::CONNECTIONS);
            self.listening = Some(Task {
                handle: tokio::spawn(serving),
                stop,
            });
            (publish)(address)?;
            served_at = Some(endpoints_at(address));
        }
        let tls = match &self.certificates {
            Some(certificates) => Some(certificates.of_manager("embedded", hosted)?),
            None => None,
        };
        let manager = rdd_manager::start(rdd_manager::Options {
            client: client.clone(),
            world: Arc::new(world),
            controllers: selected,
            registry: REGISTRY,
            admission: Arc::new(Chain(self.server.clone())),
            passthroughs: self.passthroughs.clone(),
            served_at,
            tls,
            ports,
            names: NAMES,
            role: Role::Embedded,
            terms: Terms::embedded(start_id),
            deadlines: budgets::manager(),
        })
        .await
        .context("failed to start the controllers")?;
        let diagnostics = manager.diagnostics().clone();
        self.server
            .metrics()
            .add(move |figures| figures.text(&diagnostics.to_prometheus()));
        self.manager = Some(manager);
        self.server.set_rising(false);
        let janitor = tokio::spawn(rdd_manager::clear_up(client, NAMES));
        self.janitor = Some(AbortOnDropHandle::new(janitor));
        Ok(())
    }

    /// A client that acts as this identity, without a network.
    #[must_use]
    pub fn client(&self, who: Identity) -> kube::Client {
        self.server.client(who)
    }

    /// The checks behind `/readyz`.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Returns when the control plane cannot go on, with the reason.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        let workers = async {
            match failed
                .wait_for(Option::is_some)
                .await
                .map(|failure| failure.clone())
            {
                Ok(Some(failure)) => failure,
                _ => std::future::pending().await,
            }
        };
        let lease = async {
            match &self.manager {
                Some(manager) => manager.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failure = workers => failure,
            controller = lease => format!("the lease of controller {controller:?} is lost"),
        }
    }

    /// Takes everything down in the reverse order; returns when nothing is left.
    pub async fn stop(self) {
        drop(self.janitor);
        let discovery = Discovery::new(self.server.client(Identity::system(ADMIN)), NAMES);
        let outside = discovery.dismiss(EMBEDDED, budgets::OUTSIDE);
        let outside = async {
            if let Err(error) = outside.await {
                tracing::warn!(%error, "programs beside the control plane were not told that it stops");
            }
        };
        // Stops refuse nothing yet: controllers still write while they end.
        let inside = async {
            let Some(manager) = self.manager else { return };
            let aborted = manager.stop().await;
            if !aborted.is_empty() {
                tracing::warn!(
                    controllers = aborted.join(","),
                    "controllers did not end in time"
                );
            }
        };
        tokio::join!(outside, inside);
        self.server.stop();
        self.door.set_discovery(None);
        if let Some(proxy) = self.proxy {
            proxy.close().await;
        }
        if let Some(listening) = self.listening {
            listening.end("listener").await;
        }
        self.workers.end("workers").await;
        self.store.close().await;
        if let Err(error) = self.feed.await {
            tracing::error!(%error, "the watch cache failed");
        }
        // Last, so that the end is in it, too.
        if let Some(audit) = self.audit {
            audit.close().await;
        }
        tracing::info!("stopped");
    }
}

fn open_store(folder: &std::path::Path) -> Result<Arc<dyn Store>> {
    let file = folder.join("rdd.sqlite3");
    SqliteStore::open(folder, SqliteOptions::default())
        .map(|store| Arc::new(store) as Arc<dyn Store>)
        .map_err(|error| {
            let cure = match &error {
                rdd_store::Error::Full(_) => "make room on its file system, then start again",
                rdd_store::Error::ReadOnly(_) | rdd_store::Error::Prepare { .. } => {
                    "make it writable for this user, then start again"
                }
                rdd_store::Error::InUse(_) => "end the other process, then start again",
                rdd_store::Error::Format { .. } => "start it with the newer release",
                _ => "`rdd svc delete` removes the instance with everything in it",
            };
            let text = format!("failed to open {}; {cure}", file.display());
            anyhow::Error::new(error).context(text)
        })
}

fn open_audit(options: AuditOptions) -> Result<AuditLog> {
    let path = options.path.display().to_string();
    AuditLog::open(options).with_context(|| format!("failed to open the audit log {path}"))
}

/// Where endpoints of this process are served, by a name that its certificate holds.
fn endpoints_at(address: SocketAddr) -> String {
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        return format!("https://localhost:{}/passthrough/", address.port());
    }
    format!("https://{address}/passthrough/")
}

/// The wanted port, or any free one: a busy port is no reason not to start.
async fn bind(wanted: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(wanted).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let free = SocketAddr::new(wanted.ip(), 0);
            let listener = TcpListener::bind(free).await.context("no port is free")?;
            let port = listener
                .local_addr()
                .context("failed to read the port")?
                .port();
            tracing::warn!(
                wanted = wanted.port(),
                port,
                "the port is in use; another one was taken"
            );
            Ok(listener)
        }
        Err(error) => Err(error).with_context(|| format!("failed to listen on {wanted}")),
    }
}

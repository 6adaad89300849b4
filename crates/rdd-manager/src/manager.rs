//! Starting a set of controllers in order, keeping them running, and taking them down.
//!
//! ```text
//! controller:  Filling ── synced() ──► Synced ── gate ──► Reconciling ──► (stop) ended
//!                 └── ends ──► the start fails            └── ends ──► run again after a pause
//! ```
//!
//! A controller that fails once it reconciles is run again rather than ending the
//! process: the API goes on serving, and the failure shows in the log and in the
//! [`Diagnostics`]. A lost lease is different: somebody else owns the work now, so
//! [`Manager::lost`] tells the owner of the process, who has to end it.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use rdd_admission::AdmissionChain;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::admission::JoinAdmission;
use crate::context::{Context, Progress, Stage};
use crate::controller_def::ControllerDef;
use crate::definitions;
use crate::diagnostics::Diagnostics;
use crate::discovery::{Discovery, Entry, Names};
use crate::error::{Error, Result, chain};
use crate::health::{Health, Ports};
use crate::lease::{self, Held, Terms};
use crate::listener::Listener;
use crate::passthrough::Passthroughs;
use crate::remote::Endpoints;
use crate::selection::with_needs;
use crate::tls::Tls;
use crate::webhooks::{self, Listed, OfController, Whose};

/// The key of the control plane's own manager in the discovery ConfigMap.
pub const EMBEDDED: &str = "embedded";

/// The group whose controllers no reader has to know about.
const UNLISTED: &str = "builtin";

/// The first pause before a failed controller is run again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// The longest pause before a failed controller is run again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Where a manager runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Inside the control plane: it alone marks the control plane ready.
    Embedded,
    /// In a program of its own, for one group.
    External {
        /// The group: its key in the discovery ConfigMap.
        group: String,
    },
}

/// The bounds of a manager's life. Each is below what its caller allows:
/// `drain + sign_off` is below the control plane's own limit, which is below the
/// default of `svc stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Until a definition is Established.
    pub established: Duration,
    /// Until all caches are filled.
    pub synced: Duration,
    /// Until controllers have ended after they were told to.
    pub drain: Duration,
    /// For leaving the discovery ConfigMap and giving up leases.
    pub sign_off: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            established: Duration::from_secs(30),
            synced: Duration::from_secs(30),
            drain: Duration::from_secs(36),
            sign_off: Duration::from_secs(3),
        }
    }
}

/// What a manager is made of.
pub struct Options<W: 'static> {
    /// The API.
    pub client: kube::Client,
    /// What controllers touch besides the API.
    pub world: Arc<W>,
    /// The controllers to run.
    pub controllers: Vec<&'static ControllerDef<W>>,
    /// All controllers there are.
    pub registry: &'static [ControllerDef<W>],
    /// Where their admission rules go.
    pub admission: Arc<dyn JoinAdmission>,
    /// Where their endpoints are listed.
    pub passthroughs: Passthroughs,
    /// Where the control plane serves the endpoints of the embedded manager: a URL that ends
    /// with a slash. Other managers serve their own.
    pub served_at: Option<String>,
    /// What protects their rules and endpoints where others reach them. Without it rules
    /// are not listed as webhooks, and nothing is served beside figures.
    pub tls: Option<Tls>,
    /// Where health and figures are served.
    pub ports: Ports,
    /// What things are called.
    pub names: Names,
    /// Where the manager runs.
    pub role: Role,
    /// How it holds its leases.
    pub terms: Terms,
    /// The bounds.
    pub deadlines: Deadlines,
}

/// A running set of controllers. Dropping it aborts them; [`Manager::stop`] ends them in order.
pub struct Manager {
    controllers: JoinSet<&'static str>,
    upkeep: JoinSet<()>,
    stop: CancellationToken,
    background: CancellationToken,
    lost: watch::Receiver<Option<&'static str>>,
    leases: Arc<Vec<Held>>,
    lease_api: Api<Lease>,
    terms: Terms,
    discovery: Discovery,
    client: kube::Client,
    names: Names,
    key: String,
    deadlines: Deadlines,
    diagnostics: Diagnostics,
    passthroughs: Passthroughs,
    ports: Ports,
    served: Vec<&'static str>,
}

impl fmt::Debug for Manager {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Manager")
            .field("key", &self.key)
            .field("served", &self.served)
            .finish_non_exhaustive()
    }
}

/// Brings controllers up. When it returns, all of them reconcile, and the
/// discovery ConfigMap says so.
///
/// # Errors
/// The first step that failed; then nothing of this manager runs any more, and
/// nothing was published.
pub async fn start<W: Send + Sync + 'static>(options: Options<W>) -> Result<Manager> {
    let Options {
        client,
        world,
        controllers,
        registry,
        admission,
        passthroughs,
        served_at,
        tls,
        ports,
        names,
        role,
        terms,
        deadlines,
    } = options;
    let with_needs = with_needs(&controllers, registry).map_err(Error::Registry)?;
    for needed in &with_needs[controllers.len()..] {
        tracing::info!(
            controller = needed.name,
            "not run by this manager, but its definitions are needed"
        );
    }
    let crds = with_needs.iter().flat_map(|def| (def.crds)()).collect();
    definitions::install(&client, names.field_manager, crds, deadlines.established).await?;

    let diagnostics = Diagnostics::default();
    let bind = |port| Health::bind(port, diagnostics.clone(), &terms.holder);
    let health = bind(ports.health).await.map_err(Error::Listen)?;
    let health_port = health.port().map_err(Error::Listen)?;
    let figures = match ports.metrics {
        0 => None,
        port => Some(bind(port).await.map_err(Error::Listen)?),
    };
    let metrics_port = match &figures {
        Some(figures) => figures.port().map_err(Error::Listen)?,
        None => health_port,
    };
    let discovery = Discovery::new(client.clone(), names);
    if matches!(role, Role::External { .. }) {
        // On a cluster that is not ours, nobody else has made it.
        discovery.ensure_namespace().await?;
    }
    let lease_api: Api<Lease> = Api::namespaced(client.clone(), names.namespace);
    let leases = Arc::new(take_all(&lease_api, &controllers, &terms, &role).await?);

    let listed: Vec<String> = controllers
        .iter()
        .filter(|def| def.group != UNLISTED)
        .map(|def| def.name.to_owned())
        .collect();
    let (gate, gate_seen) = watch::channel(false);
    let (lost, lost_seen) = watch::channel(None);
    let mut manager = Manager {
        controllers: JoinSet::new(),
        upkeep: JoinSet::new(),
        stop: CancellationToken::new(),
        background: CancellationToken::new(),
        lost: lost_seen,
        leases: Arc::clone(&leases),
        lease_api: lease_api.clone(),
        terms: terms.clone(),
        discovery,
        client: client.clone(),
        names,
        key: match &role {
            Role::Embedded => EMBEDDED.to_owned(),
            Role::External { group } => group.clone(),
        },
        deadlines,
        diagnostics: diagnostics.clone(),
        passthroughs: passthroughs.clone(),
        ports,
        served: controllers.iter().map(|def| def.name).collect(),
    };
    manager
        .upkeep
        .spawn(health.serve(manager.background.clone()));
    if let Some(figures) = figures {
        let stop = manager.background.clone();
        manager.upkeep.spawn(figures.serve(stop));
    }
    manager.upkeep.spawn(renew(
        lease_api,
        leases,
        terms,
        lost,
        manager.stop.clone(),
        manager.background.clone(),
    ));

    let mut starting = Vec::new();
    let mut rules = Vec::new();
    for (def, lease) in controllers.iter().zip(manager.leases.iter()) {
        let progress = Progress::new(gate_seen.clone());
        let context = Context::new(
            def.name,
            lease.fence().client(&client),
            Arc::clone(&world),
            manager.stop.clone(),
            diagnostics.clone(),
            Arc::clone(&progress),
        );
        rules.push(OfController {
            controller: def.name,
            rules: (def.admission)(&context),
        });
        passthroughs.add(def.name, (def.endpoints)(&context));
        let (failed, failure) = watch::channel(None);
        starting.push(Starting {
            controller: def.name,
            stage: progress.stage(),
            failure,
        });
        manager
            .controllers
            .spawn(supervise(def, context, progress.stage(), failed));
    }
    let go = async {
        all(&mut starting, Stage::Synced, deadlines.synced).await?;
        let joined = |error: anyhow::Error| Error::Admission {
            text: format!("{error:#}"),
        };
        let chain = AdmissionChain::new(rules.iter().flat_map(|of| of.rules.iter().cloned()));
        match &tls {
            None => admission.join(chain).await.map_err(joined)?,
            Some(tls) => {
                let listed = manager.serve_rules(tls, &rules).await?;
                let chain = chain.listed(listed.webhooks());
                admission.join(chain).await.map_err(joined)?;
                listed.apply(&client, &names).await?;
            }
        }
        let endpoints = match (&tls, &role) {
            (Some(tls), Role::External { .. }) if !passthroughs.names().is_empty() => {
                Some(manager.serve_endpoints(tls).await?)
            }
            _ => None,
        };
        gate.send_replace(true);
        all(&mut starting, Stage::Reconciling, deadlines.synced).await?;
        let mut entry = Entry::new(&manager.terms.holder, health_port, metrics_port, listed);
        entry.enabled_passthroughs = passthroughs.names();
        if let Some(port) = endpoints {
            entry.passthrough_endpoint = format!("https://localhost:{port}/");
        } else if let Some(place) = served_at.filter(|_| !entry.enabled_passthroughs.is_empty()) {
            entry.passthrough_endpoint = place;
        }
        manager.discovery.register(&manager.key, &entry).await?;
        if role == Role::Embedded {
            manager.discovery.mark_ready().await?;
        }
        Ok(())
    };
    match go.await {
        Ok(()) => Ok(manager),
        Err(error) => {
            manager.stop().await;
            Err(error)
        }
    }
}

/// Takes every lease, or none: what was taken is given up again when one is not free.
///
/// Programs take theirs one after the other: of two that start together, who has the
/// first has all. The control plane takes all at once; programs are less patient than it.
async fn take_all<W>(
    api: &Api<Lease>,
    controllers: &[&'static ControllerDef<W>],
    terms: &Terms,
    role: &Role,
) -> Result<Vec<Held>> {
    let (mut held, mut refused) = (Vec::new(), None);
    if *role == Role::Embedded {
        let taking = controllers
            .iter()
            .map(|def| lease::take(api, def.name, terms));
        for taken in join_all(taking).await {
            match taken {
                Ok(lease) => held.push(lease),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
    } else {
        for def in controllers {
            match lease::take(api, def.name, terms).await {
                Ok(lease) => held.push(lease),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
    }
    let Some(error) = refused else {
        return Ok(held);
    };
    release_all(api, &held, terms).await;
    Err(error)
}

async fn release_all(api: &Api<Lease>, leases: &[Held], terms: &Terms) {
    let releases = leases.iter().map(|lease| lease.release(api, terms));
    let failed: Vec<kube::Error> = join_all(releases)
        .await
        .into_iter()
        .filter_map(kube::Result::err)
        .collect();
    if let Some(error) = failed.first() {
        let leases = failed.len();
        tracing::warn!(leases, error = %chain(error), "leases were not given up and have to run out");
    }
}

/// A controller on its way up.
struct Starting {
    controller: &'static str,
    stage: watch::Receiver<Stage>,
    failure: watch::Receiver<Option<String>>,
}

/// Waits until every controller has come to this stage, under one deadline.
async fn all(starting: &mut [Starting], wanted: Stage, deadline: Duration) -> Result<()> {
    let waits = starting.iter_mut().map(|one| async move {
        let controller = one.controller;
        let reached = async {
            tokio::select! {
                // The stage's sender lives in the controller's context; both orders of a tie are fine.
                reached = one.stage.wait_for(|stage| *stage >= wanted) => reached.is_ok(),
                _ = one.failure.wait_for(Option::is_some) => false,
            }
        };
        let reached = timeout(deadline, reached).await;
        match reached {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Ended {
                controller,
                text: one.failure.borrow().clone().unwrap_or_default(),
            }),
            Err(_) => Err(Error::NotSynced {
                controller,
                seconds: deadline.as_secs(),
            }),
        }
    });
    try_join_all(waits).await?;
    Ok(())
}

/// Runs one controller until the manager stops; an earlier end before it
/// reconciles is final, a later one is followed by another run.
async fn supervise<W: Send + Sync + 'static>(
    def: &'static ControllerDef<W>,
    context: Context<W>,
    stage: watch::Receiver<Stage>,
    failed: watch::Sender<Option<String>>,
) -> &'static str {
    let stop = context.stopping();
    let mut pause = PAUSE_MIN;
    loop {
        // Also the call itself may panic, before it has made a future.
        let run = AssertUnwindSafe(async { (def.run)(context.clone()).await }).catch_unwind();
        // Before the gate there is nothing to drain, and the gate may never open.
        let abandoned = async {
            stop.cancelled().await;
            if *stage.borrow() >= Stage::Reconciling {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            ended = run => ended,
            () = abandoned => return def.name,
        };
        let text = match ended {
            Ok(Ok(())) => "it returned although nobody asked it to".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => format!("it panicked: {}", panic_text(panic.as_ref())),
        };
        if stop.is_cancelled() {
            return def.name;
        }
        context.restarted(text.clone());
        if *stage.borrow() < Stage::Reconciling {
            failed.send_replace(Some(text));
            return def.name;
        }
        tracing::error!(
            controller = def.name,
            error = text,
            "a controller ended and is run again"
        );
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return def.name,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// Renews all leases until told to end; a lost one stops every controller.
async fn renew(
    api: Api<Lease>,
    leases: Arc<Vec<Held>>,
    terms: Terms,
    lost: watch::Sender<Option<&'static str>>,
    stop: CancellationToken,
    end: CancellationToken,
) {
    loop {
        tokio::select! {
            () = sleep(terms.renew_every()) => {}
            () = end.cancelled() => return,
        }
        let renewals = leases
            .iter()
            .map(|lease| async { (!lease.renew(&api, &terms).await).then(|| lease.controller()) });
        if let Some(controller) = join_all(renewals).await.into_iter().flatten().next() {
            tracing::error!(controller, "the lease is lost; all controllers stop");
            lost.send_replace(Some(controller));
            stop.cancel();
            return;
        }
    }
}

impl Manager {
    /// Answers for the rules from now on; says how they are to be listed.
    async fn serve_rules(&mut self, tls: &Tls, rules: &[OfController]) -> Result<Listed> {
        let listener = Listener::bind(self.ports.webhooks, Arc::clone(&tls.webhooks))
            .await
            .map_err(Error::Listen)?;
        let (port, holder) = (listener.port(), &self.terms.holder);
        let (served, listed) = webhooks::list(rules, port, &tls.authority, &self.names, holder)?;
        if !served.is_empty() {
            let stop = self.background.clone();
            self.upkeep.spawn(listener.serve(Arc::new(served), stop));
        }
        Ok(listed)
    }

    /// Answers for the endpoints from now on; says on which port.
    async fn serve_endpoints(&mut self, tls: &Tls) -> Result<u16> {
        let listener = Listener::bind(self.ports.endpoints, Arc::clone(&tls.endpoints))
            .await
            .map_err(Error::Listen)?;
        let port = listener.port();
        let endpoints = Endpoints {
            passthroughs: self.passthroughs.clone(),
            client: self.client.clone(),
        };
        let stop = self.background.clone();
        self.upkeep.spawn(listener.serve(Arc::new(endpoints), stop));
        Ok(port)
    }

    /// Waits until a lease is lost; says of which controller. The process has to end then.
    pub async fn lost(&self) -> &'static str {
        let mut lost = self.lost.clone();
        // The sender ends with the renewals, which end with the manager's own stop.
        let found = lost
            .wait_for(Option::is_some)
            .await
            .map(|controller| *controller);
        match found {
            Ok(Some(controller)) => controller,
            _ => std::future::pending().await,
        }
    }

    /// Who it is: unique among all managers that ever ran.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.terms.holder()
    }

    /// What each controller did last.
    #[must_use]
    pub fn diagnostics(&self) -> &Diagnostics {
        &self.diagnostics
    }

    /// Ends all controllers at once under one deadline, takes their webhooks off the
    /// list, leaves the discovery ConfigMap and gives up the leases. Says which controllers had to be aborted.
    pub async fn stop(mut self) -> Vec<&'static str> {
        for controller in &self.served {
            self.passthroughs.remove(controller);
        }
        self.stop.cancel();
        let mut pending: Vec<&'static str> = self.leases.iter().map(Held::controller).collect();
        let drained = timeout(self.deadlines.drain, async {
            while let Some(ended) = self.controllers.join_next().await {
                match ended {
                    Ok(name) => pending.retain(|other| *other != name),
                    Err(error) => tracing::error!(%error, "a controller's task failed"),
                }
            }
        });
        if drained.await.is_err() {
            tracing::error!(controllers = ?pending, "controllers did not end in time and are aborted");
        }
        self.controllers.shutdown().await;
        let sign_off = timeout(self.deadlines.sign_off, async {
            // While a rule is listed it has to answer, or nobody could write.
            let own = Whose::Manager(&self.terms.holder);
            if let Err(error) = webhooks::remove(&self.client, &self.names, own).await {
                tracing::warn!(error = %chain(&error), "webhooks are still listed");
            }
            self.background.cancel();
            // An entry that is left here is taken away by the control plane: when the leases
            // have run out, or at its next start.
            if let Err(error) = self
                .discovery
                .unregister(&self.key, self.terms.holder())
                .await
            {
                tracing::warn!(error = %chain(&error), "the discovery entry was not removed");
            }
            release_all(&self.lease_api, &self.leases, &self.terms).await;
        });
        if sign_off.await.is_err() {
            tracing::warn!("the API did not answer in time while signing off");
        }
        self.background.cancel();
        self.upkeep.shutdown().await;
        pending
    }
}

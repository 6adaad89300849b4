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

mod changed;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::SelectAll;
use futures::{FutureExt as _, StreamExt as _};
use parking_lot::{Mutex, RwLock};
use rdd_api::condition::{self, reason};
use rdd_api::{App, EngineStatus};
use rdd_manager::Context;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::app_status;
use super::apply::Applier;
use super::connection::{chain, connect};
use super::everything::{Both, everything};
use super::fresh::Fresh;
use super::mirrors::Mirrors;
use super::plan;
use super::session::{Input, Session, measure, next_input, verify_pause};
use super::sweep::sweep;
use super::verify::Round;
use super::watches;
use super::work::{Key, Outcome, Work};
use crate::containers::queue::Queue;
use crate::world::{LiveEngine, World};

/// Mirrors that are worked on at once: while some are looked at, others are written, and
/// what is written together costs one wait for the disk.
const WORKERS: usize = 128;

/// Looks at the engine that go on at once, as many as connections are kept for them.
const LOOKS: usize = 16;

/// Changes that are taken in at once at most.
const CHANGES: usize = 256;

/// Requests to the engine that are carried out at once. Each may last as long as a
/// container takes to stop, and costs little more than a connection meanwhile.
const REQUESTS: usize = 256;

/// Pauses between attempts to connect.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(3);

/// Pause before mirrors that a sweep left are looked at again.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// The limit of the first full pass.
const FIRST_PASS: Duration = Duration::from_secs(300);

/// The longest time without a look at what is due.
const IDLE: Duration = Duration::from_secs(600);

/// Runs until the manager stops it.
pub(super) async fn run(context: Context<World>) -> anyhow::Result<()> {
    let client = context.client();
    let mut apps = watches::apps(&client);
    // Told in portions: each write comes back as a change, and who takes one change per
    // turn beside everything else falls behind the writers, until the watch is lost.
    let mut mirrors = SelectAll::new().ready_chunks(CHANGES);
    let mut controller = Controller::new(context.clone());
    let stopping = context.stopping();
    loop {
        if let Some(namespace) = controller.begin_watching() {
            mirrors = watches::mirrors(&client, &namespace).ready_chunks(CHANGES);
        }
        let timer = controller.timer();
        let input = tokio::select! {
            () = stopping.cancelled() => break,
            Some(change) = apps.next() => Input::Api(vec![change]),
            Some(changes) = mirrors.next() => Input::Api(changes),
            Some(done) = controller.workers.join_next() => Input::Worked(done),
            input = next_input(&mut controller.session) => input,
            () = sleep_until(timer) => Input::Timer,
        };
        tokio::select! {
            () = stopping.cancelled() => break,
            () = controller.handle(input) => {}
        }
    }
    // The mirrors stay: the next start repairs them in place.
    controller.disconnect().await;
    controller.withdraw_context().await;
    Ok(())
}

struct Controller {
    context: Context<World>,
    app: Option<Arc<App>>,
    /// The namespace of the mirrors, also after the App is gone.
    namespace: String,
    mirrors: Arc<RwLock<Mirrors>>,
    /// Whether every App has been told.
    apps_filled: bool,
    /// The namespace whose mirrors are watched.
    watched: Option<String>,
    /// Watches of mirrors that have told everything.
    filled: BTreeSet<&'static str>,
    /// Mirrors to bring in line.
    queue: Queue<Key>,
    /// Requests to the engine, apart: one that lasts holds no mirror back.
    requests: Queue<Key>,
    /// Deletions that the engine refused; anything that goes may have been in the way.
    blocked: BTreeSet<Key>,
    /// Mirrors that were told without a status while they were worked on.
    silent: BTreeSet<Key>,
    workers: JoinSet<(Key, Outcome)>,
    session: Option<Session>,
    retry: Option<Instant>,
    failures: u32,
    /// The engine that was mirrored since mirroring was last asked for.
    identity: Option<String>,
    sweeping: bool,
    /// When a status that could not be written is tried again.
    unreported: Option<Instant>,
    /// What was known of an engine whose connection is lost.
    last: Option<EngineStatus>,
    /// Whether a Docker context may be there; one may be left of an earlier run.
    published: bool,
}

impl Controller {
    fn new(context: Context<World>) -> Self {
        Self {
            context,
            app: None,
            namespace: String::new(),
            mirrors: Arc::default(),
            apps_filled: false,
            watched: None,
            filled: BTreeSet::new(),
            queue: Queue::new(),
            requests: Queue::new(),
            blocked: BTreeSet::new(),
            silent: BTreeSet::new(),
            workers: JoinSet::new(),
            session: None,
            retry: None,
            failures: 0,
            identity: None,
            sweeping: false,
            unreported: None,
            last: None,
            published: true,
        }
    }

    /// The namespace to watch from now on, when it is another than before. Without an
    /// App ever seen, what is left from before can be anywhere.
    fn begin_watching(&mut self) -> Option<String> {
        if !self.apps_filled || self.watched.as_ref() == Some(&self.namespace) {
            return None;
        }
        self.watched = Some(self.namespace.clone());
        self.filled.clear();
        *self.mirrors.write() = Mirrors::default();
        Some(self.namespace.clone())
    }

    /// Whether everything that exists has been told.
    fn is_filled(&self) -> bool {
        self.apps_filled
            && self.watched.as_ref() == Some(&self.namespace)
            && self.filled.len() == watches::MIRROR_WATCHES
    }

    fn push(&mut self, key: Key) {
        if key.is_request() {
            self.requests.push(key);
        } else {
            self.queue.push(key);
        }
    }

    /// When something is due without an event.
    fn timer(&self) -> Instant {
        let session = self.session.as_ref();
        let synced = session.filter(|session| session.synced);
        let due = [
            self.queue.due(),
            self.requests.due(),
            self.retry,
            self.unreported,
            session.map(|session| {
                if session.synced {
                    session.verify
                } else {
                    session.limit
                }
            }),
            synced.and_then(|session| session.round.as_ref()?.due()),
            synced.and_then(|session| session.fresh.due()),
        ];
        let due = due.into_iter().flatten().min();
        due.unwrap_or_else(|| Instant::now() + IDLE)
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::Api(changes) => {
                for change in changes {
                    self.api_changed(change).await;
                }
            }
            Input::Engine(Some(event)) => self.engine_event(event),
            Input::Engine(None) => self.lost("connection lost: the event stream ended").await,
            Input::Worked(Ok((key, outcome))) => self.worked(&key, outcome),
            Input::Measured(sizes) => self.measured(sizes),
            // Workers catch their panics, so this one was ended on purpose.
            Input::Worked(Err(error)) => tracing::debug!(%error, "a worker was ended"),
            Input::Timer => {
                self.queue.wake();
                self.requests.wake();
                let now = Instant::now();
                self.unreported.take_if(|at| *at <= now);
            }
        }
        if self.is_filled() {
            self.context.synced().await;
            self.advance().await;
        }
        self.dispatch();
    }

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
        if self.disconnect().await {
            tracing::info!("mirroring ends");
        }
        self.withdraw_context().await;
        if !self.sweeping {
            self.retry = None;
        }
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
        if self.disconnect().await {
            tracing::warn!("connection lost: the machine does not run");
        }
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
            .is_some_and(|session| session.fresh.endpoint() != endpoint)
        {
            tracing::info!(endpoint, "the engine's endpoint changed");
            self.disconnect().await;
            self.identity = None;
        }
        if self.session.is_none() {
            if self.retry.is_some_and(|at| at > Instant::now()) {
                return;
            }
            match self.open(&endpoint).await {
                Ok(session) => {
                    tracing::info!(
                        endpoint,
                        engine = session.connection.info.id,
                        version = session.connection.info.version,
                        "connected"
                    );
                    self.publish_context(&endpoint).await;
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
            let live = LiveEngine {
                engine: Arc::clone(&session.work.engine),
                namespace: session.work.namespace.clone(),
                label: session.work.label.clone(),
            };
            self.context.world().live.send_replace(Some(Arc::new(live)));
            self.failures = 0;
            tracing::info!("the engine is mirrored");
        }
        if !session.synced && Instant::now() >= session.limit {
            self.lost(&format!(
                "the first pass over the engine took longer than {FIRST_PASS:?}"
            ))
            .await;
            return;
        }
        if !session.synced {
            return;
        }
        if let Err(error) = self.verify().await {
            self.lost(&error).await;
            return;
        }
        self.report(app, (true, reason::CONNECTED, "Container engine synced"))
            .await;
    }

    /// Begins a comparison of everything when one is due, and goes on with it.
    async fn verify(&mut self) -> Result<(), String> {
        let every = self.context.world().verify_every;
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        if Instant::now() >= session.verify {
            session.verify = Instant::now() + verify_pause(every, &session.work.label);
            // An engine that was replaced, or whose clock was set, shows here at the latest.
            let clock = session.work.same_engine().await?;
            let jumped = session.fresh.clock(clock);
            let Both { engine, mirrors } = everything(&session.work, &self.mirrors).await?;
            let missing: BTreeSet<Key> = engine.symmetric_difference(&mirrors).cloned().collect();
            let rest: BTreeSet<Key> = engine.intersection(&mirrors).cloned().collect();
            // What happened around a jump may have been announced in the wrong order.
            let over = match jumped {
                Some(step) => {
                    tracing::info!(?step, "the engine's clock was set; comparing everything");
                    Duration::ZERO
                }
                None => every / 2,
            };
            session.round = Some(Round::new(&missing, rest, over));
            missing.into_iter().for_each(|key| self.push(key));
        }
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let drift = session.fresh.settle();
        if drift > 0 {
            tracing::info!(
                mirrors = drift,
                "put right what changed without an event of the engine"
            );
        }
        let portion = session.round.as_mut().map(Round::take).unwrap_or_default();
        portion.into_iter().for_each(|key| self.push(key));
        Ok(())
    }

    /// Connects, and puts everything that either side has into the queue.
    async fn open(&mut self, endpoint: &str) -> Result<Session, String> {
        let world = self.context.world();
        let connection = connect(&*world.engines, endpoint, world.silence).await?;
        let label = plan::engine_label(&connection.info);
        if let Some(known) = self.identity.as_ref().filter(|known| **known != label) {
            return Err(format!(
                "another engine ({label}) answers at {endpoint} than the one that is mirrored ({known}); stop and start to mirror it"
            ));
        }
        // What is left of another engine shows nothing that can be asked any more.
        let client = self.context.client();
        sweep(&client, &self.mirrors, |value| value != label).await?;
        let work = Arc::new(Work {
            applier: Applier::new(self.context.client(), self.namespace.clone()),
            client: self.context.client(),
            namespace: self.namespace.clone(),
            engine: Arc::clone(&connection.engine),
            label: label.clone(),
            mirrors: Arc::clone(&self.mirrors),
            starts: Mutex::default(),
            refusals: Mutex::default(),
            looks: Semaphore::new(LOOKS),
            sizes: RwLock::default(),
            written: Mutex::default(),
        });
        let limit = Instant::now() + FIRST_PASS;
        // Mirrors need the namespace; without it each of them would fail once.
        let listing = timeout_at(limit, everything(&work, &self.mirrors));
        let (scaffold, listed) = tokio::join!(work.scaffold(), listing);
        scaffold?;
        let keys = match listed {
            Ok(both) => both?.all(),
            Err(_) => return Err("the engine did not list what it has in time".to_owned()),
        };
        self.identity = Some(label.clone());
        let first: BTreeSet<Key> = keys
            .iter()
            .filter(|key| !key.is_request())
            .cloned()
            .collect();
        keys.into_iter().for_each(|key| self.push(key));
        let info = &connection.info;
        let view = EngineStatus {
            id: info.id.clone(),
            endpoint: endpoint.to_owned(),
            version: info.version.clone(),
            api_version: info.api_version.clone(),
            connected_since: condition::now(),
            ..self.last.take().unwrap_or_default()
        };
        let every = self.context.world().verify_every;
        let (measured, sizes) = mpsc::channel(1);
        let measuring = tokio::spawn(measure(Arc::clone(&work.engine), every, measured));
        Ok(Session {
            fresh: Fresh::new(view, connection.clock),
            connection,
            work,
            first,
            synced: false,
            limit,
            round: None,
            verify: Instant::now() + verify_pause(every, &label),
            sizes,
            _measuring: AbortOnDropHandle::new(measuring),
        })
    }

    /// Lets the Docker client reach the engine. Its files are the user's; trouble there
    /// says nothing about the engine.
    async fn publish_context(&mut self, endpoint: &str) {
        let Some(context) = &self.context.world().docker_context else {
            return;
        };
        self.published = true;
        if let Err(error) = context.publish(endpoint).await {
            tracing::warn!(
                error = chain(&error),
                "docker has no context for the engine"
            );
        }
    }

    async fn withdraw_context(&mut self) {
        let Some(context) = &self.context.world().docker_context else {
            return;
        };
        if !std::mem::take(&mut self.published) {
            return;
        }
        if let Err(error) = context.withdraw().await {
            tracing::warn!(
                error = chain(&error),
                "docker may still have a context for the engine"
            );
        }
    }

    /// The connection is gone: nothing is removed, and it is said at once.
    async fn lost(&mut self, why: &str) {
        if !self.disconnect().await {
            return;
        }
        tracing::warn!(why, "the engine is not mirrored for now");
        if let Some(app) = self.app.clone() {
            self.failed(&app, why).await;
        }
    }

    /// Ends the session and all work over it; whether there was one.
    async fn disconnect(&mut self) -> bool {
        let session = self.session.take();
        let connected = session.is_some();
        if connected {
            self.context.world().live.send_replace(None);
        }
        if let Some(session) = session {
            self.last = Some(session.fresh.last());
        }
        self.workers.shutdown().await;
        self.queue.clear();
        self.requests.clear();
        self.blocked.clear();
        self.silent.clear();
        connected
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

    async fn report(&mut self, app: &App, verdict: (bool, &str, &str)) {
        let mirrors = &self.mirrors;
        let engine = match &mut self.session {
            Some(session) if session.synced => {
                let label = &session.work.label;
                Some(session.fresh.tell(|| mirrors.read().count(label)))
            }
            _ => self.last.as_ref(),
        };
        match app_status::write(self.context.client(), app, verdict, engine).await {
            Ok(written) => {
                self.unreported = None;
                if let Some(app) = written {
                    self.app = Some(Arc::new(app));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "failed to write the App's status, and tried again later");
                self.unreported = Some(Instant::now() + RETRY_MAX);
            }
        }
    }

    /// Removes what we made, then says so. Also finishes what a crash interrupted.
    async fn sweep(&mut self, app: Option<&App>, running: bool) {
        if !self.mirrors.read().is_swept() {
            if self.sweeping && self.retry.is_some_and(|at| at > Instant::now()) {
                // The watches are still telling what the last sweep did.
                return;
            }
            if !self.sweeping {
                self.sweeping = true;
                tracing::info!("removing the mirrors");
            }
            let client = self.context.client();
            if let Err(error) = sweep(&client, &self.mirrors, |_| true).await {
                tracing::warn!(
                    error,
                    "failed to remove every mirror, and tried again later"
                );
            }
            // Their disappearance comes back through the watches; one that does not is
            // looked at again.
            self.retry = Some(Instant::now() + SWEEP_AGAIN);
            return;
        }
        self.sweeping = false;
        self.retry = None;
        self.last = None;
        let Some(app) = app else {
            return;
        };
        let verdict = if running && !app.spec.is_moby() {
            let text = "Engine mirroring is only supported with the moby backend";
            (true, reason::NOT_APPLICABLE, text)
        } else {
            (false, reason::STOPPED, "Container engine stopped")
        };
        self.report(app, verdict).await;
    }

    /// Hands ready keys to workers.
    fn dispatch(&mut self) {
        let Some(session) = &self.session else {
            return;
        };
        loop {
            let ready = self.queue.pop(WORKERS);
            let Some(key) = ready.or_else(|| self.requests.pop(REQUESTS)) else {
                return;
            };
            let work = Arc::clone(&session.work);
            self.workers.spawn(async move {
                let outcome = AssertUnwindSafe(work.run(&key)).catch_unwind().await;
                let outcome = outcome.unwrap_or_else(|_| Outcome {
                    done: Err("the work on it panicked".to_owned()),
                    wrote: false,
                });
                (key, outcome)
            });
        }
    }
}

//! Requests: each is carried out once, and tells how it went.
//!
//! ```text
//! (new) ─▶ Pending ─▶ InProgress ─▶ Completed ─┐ after a while
//!             ▲            │  └────▶ Failed ────┴─────────────▶ (gone)
//!             │ no engine  │ found again after a crash or a lost connection:
//!             └            └▶ was it done? ─▶ Completed, or Failed/Interrupted
//! ```
//!
//! `InProgress` is on disk before the engine is called. Whoever finds it without having
//! carried the request out itself never calls the engine again: it looks for the effect.
//! What a request makes carries the request's uid as a label for that.

mod carry_out;
mod progress;
mod rules;
mod wish;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream, SelectAll};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Preconditions};
use rdd_api::{
    ContainerCreateRequest, ImagePullRequest, ImagePushRequest, ImageScanRequest,
    VolumeCreateRequest,
};
use rdd_manager::Context;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::watches::{self, Change};
use crate::world::{LiveEngine, World};
use carry_out::{Next, Task};
pub(crate) use rules::CreateRules;
use wish::{Asked, Wish};

/// Transfers that go on at once.
const TRANSFERS: usize = 4;

/// Pauses before a request is looked at again whose outcome could not be recorded.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The longest time without a look at what is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Kind, namespace and name.
type Key = (&'static str, String, String);

/// What a task leaves behind.
struct Done {
    key: Key,
    uid: String,
    /// The engine that it saw.
    seen: Option<Arc<LiveEngine>>,
    next: Result<Next, String>,
}

/// Runs until the manager stops it.
pub(super) async fn run(context: Context<World>) -> anyhow::Result<()> {
    let mut changes = changes(&context.client());
    let mut live = context.world().live.subscribe();
    let stopping = context.stopping();
    context.synced().await;
    let mut requests = Requests::new(context);
    loop {
        let engine = live.borrow_and_update().clone();
        requests.begin(engine);
        let due = requests.due();
        tokio::select! {
            () = stopping.cancelled() => break,
            changed = live.changed() => if changed.is_err() { break },
            Some(change) = changes.next() => requests.changed(change),
            Some(done) = requests.tasks.join_next() => requests.done(done),
            () = sleep_until(due) => requests.wake().await,
        }
    }
    // What is in progress is found again by the next start.
    requests.tasks.shutdown().await;
    Ok(())
}

fn changes(client: &kube::Client) -> SelectAll<BoxStream<'static, Change<Asked>>> {
    fn of<K: wish::Kind>(client: &kube::Client) -> BoxStream<'static, Change<Asked>> {
        watches::changes(Api::<K>::all(client.clone()))
            .map(|change| match change {
                Change::Put(object) => Change::Put(Arc::new(Asked::of(&*object))),
                Change::Gone(object) => Change::Gone(Arc::new(Asked::of(&*object))),
                Change::Filled => Change::Filled,
            })
            .boxed()
    }
    stream::select_all([
        of::<ContainerCreateRequest>(client),
        of::<ImagePullRequest>(client),
        of::<ImagePushRequest>(client),
        of::<ImageScanRequest>(client),
        of::<VolumeCreateRequest>(client),
    ])
}

struct Requests {
    context: Context<World>,
    known: HashMap<Key, Known>,
    tasks: JoinSet<Done>,
    /// The engine that is mirrored now.
    live: Option<Arc<LiveEngine>>,
    transfers: Arc<Semaphore>,
    /// To be looked at now.
    ready: BTreeSet<Key>,
    /// To be looked at when there is an engine.
    for_engine: BTreeSet<Key>,
    /// To be looked at then.
    timers: BTreeSet<(Instant, Key)>,
}

struct Known {
    asked: Arc<Asked>,
    /// The task that carries it out.
    running: Option<AbortHandle>,
    failures: u32,
}

impl Requests {
    fn new(context: Context<World>) -> Self {
        Self {
            context,
            known: HashMap::new(),
            tasks: JoinSet::new(),
            live: None,
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            ready: BTreeSet::new(),
            for_engine: BTreeSet::new(),
            timers: BTreeSet::new(),
        }
    }

    fn changed(&mut self, change: Change<Asked>) {
        match change {
            Change::Put(asked) => {
                let key = asked.key();
                match self.known.get_mut(&key) {
                    Some(known) if known.asked.uid == asked.uid => known.asked = asked,
                    other => {
                        // Another one of the same name: the one before is gone.
                        if let Some(before) = other {
                            before.cancel();
                        }
                        let known = Known {
                            asked,
                            running: None,
                            failures: 0,
                        };
                        self.known.insert(key.clone(), known);
                    }
                }
                self.ready.insert(key);
            }
            Change::Gone(asked) => {
                if let Some(known) = self.known.remove(&asked.key()) {
                    known.cancel();
                }
            }
            Change::Filled => {}
        }
    }

    /// Takes up whatever can be.
    fn begin(&mut self, live: Option<Arc<LiveEngine>>) {
        if !same(&live, &self.live) {
            self.live = live;
            self.ready.append(&mut self.for_engine);
        }
        while let Some(key) = self.ready.pop_first() {
            let Some(known) = self.known.get_mut(&key) else {
                continue;
            };
            if known.running.is_some() {
                continue;
            }
            if let Some(ended) = known.asked.ended {
                let retain = self.context.world().retain_requests;
                self.timers
                    .insert((Instant::now() + left(ended, retain), key));
                continue;
            }
            let task = Task {
                client: self.context.client(),
                live: self.live.clone(),
                credentials: self.context.world().credentials.clone(),
                transfers: Arc::clone(&self.transfers),
                asked: Arc::clone(&known.asked),
            };
            let (uid, seen) = (known.asked.uid.clone(), self.live.clone());
            known.running = Some(self.tasks.spawn(async move {
                let next = task.run().await;
                Done {
                    key,
                    uid,
                    seen,
                    next,
                }
            }));
        }
    }

    fn done(&mut self, done: Result<Done, JoinError>) {
        let Done {
            key,
            uid,
            seen,
            next,
        } = match done {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                tracing::error!(%error, "the work on a request panicked");
                // Nobody knows which: whatever runs is looked at again.
                for (key, known) in &mut self.known {
                    let ended = |running: &AbortHandle| running.is_finished();
                    if known.running.as_ref().is_some_and(ended) {
                        known.running = None;
                        self.ready.insert(key.clone());
                    }
                }
                return;
            }
        };
        self.context.record(
            &format!("{}/{}", key.0, key.2),
            next.as_ref().map(drop).map_err(Clone::clone),
        );
        let Some(known) = self
            .known
            .get_mut(&key)
            .filter(|known| known.asked.uid == uid)
        else {
            return;
        };
        known.running = None;
        match next {
            Ok(Next::Ended(at)) => {
                known.failures = 0;
                let retain = self.context.world().retain_requests;
                self.timers.insert((Instant::now() + left(at, retain), key));
            }
            Ok(Next::WaitForEngine) if same(&seen, &self.live) => {
                self.for_engine.insert(key);
            }
            // Another one has come meanwhile.
            Ok(Next::WaitForEngine) => drop(self.ready.insert(key)),
            Ok(Next::Gone) => drop(self.known.remove(&key)),
            Err(error) => {
                tracing::warn!(
                    kind = key.0,
                    name = key.2,
                    error,
                    "a request could not go on, and is looked at again"
                );
                let pause = RETRY_MIN
                    .saturating_mul(1 << known.failures.min(10))
                    .min(RETRY_MAX);
                known.failures = known.failures.saturating_add(1);
                self.timers.insert((Instant::now() + pause, key));
            }
        }
    }

    fn due(&self) -> Instant {
        let first = self.timers.first();
        first.map_or_else(|| Instant::now() + IDLE, |(at, _)| *at)
    }

    /// Looks again at what is due, and removes what has been there long enough.
    async fn wake(&mut self) {
        let now = Instant::now();
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.timers.pop_first() else {
                return;
            };
            let Some(known) = self.known.get(&key) else {
                continue;
            };
            let Some(ended) = known.asked.ended else {
                self.ready.insert(key);
                continue;
            };
            let rest = left(ended, self.context.world().retain_requests);
            if !rest.is_zero() || remove(&self.context.client(), &known.asked).await.is_err() {
                let again = now + rest.max(Duration::from_secs(1));
                self.timers.insert((again, key));
            }
        }
    }
}

impl Known {
    /// A transfer ends with its request; what makes something is finished and forgotten.
    fn cancel(&self) {
        if let Some(running) = &self.running
            && self.asked.wish.as_ref().is_some_and(Wish::is_transfer)
        {
            running.abort();
        }
    }
}

fn same(one: &Option<Arc<LiveEngine>>, other: &Option<Arc<LiveEngine>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// How long a request that ended then still stays.
fn left(ended: Timestamp, retain: Duration) -> Duration {
    let since = Timestamp::now().duration_since(ended);
    retain.saturating_sub(Duration::try_from(since).unwrap_or_default())
}

/// Deletes this very request.
async fn remove(client: &kube::Client, asked: &Asked) -> kube::Result<()> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(asked.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let deleted = asked.delete(client, &params).await;
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => {
            tracing::warn!(name = asked.name, %error, "a request that is done could not be removed");
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

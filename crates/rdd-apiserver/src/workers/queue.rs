//! Names that wait for their worker.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::Failure;

/// How long a name waits after its first failure; doubled with each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// How long it waits at most.
const BACKOFF_LAST: Duration = Duration::from_secs(10);

/// From this many failures in a row on, each is told to whoever reads the log.
const FAILURES_TOLD: u32 = 5;

/// Who works on names of a queue.
pub(super) trait Reconcile<T> {
    /// Looks at what has this name, and brings it where it should be.
    fn reconcile(&self, name: &T) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A set of names, each with the moment from which it is due. A name that is pushed
/// while it is being worked on comes again. One consumer.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    pushed: Notify,
    /// How many names there are, for others to read.
    depth: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State<T> {
    due: BTreeMap<T, Instant>,
    /// The same names, the earliest first.
    order: BTreeSet<(Instant, T)>,
    failures: BTreeMap<T, u32>,
}

impl<T: Debug + Ord + Clone> Queue<T> {
    pub(super) fn new(depth: Arc<AtomicU64>) -> Self {
        Self {
            state: Mutex::new(State {
                due: BTreeMap::new(),
                order: BTreeSet::new(),
                failures: BTreeMap::new(),
            }),
            pushed: Notify::new(),
            depth,
        }
    }

    /// Works on one name after the other for as long as it is polled. What fails comes
    /// again after its backoff.
    pub(super) async fn work(&self, worker: &impl Reconcile<T>) {
        loop {
            let name = self.next().await;
            match worker.reconcile(&name).await {
                Ok(()) => self.done(&name),
                Err(error) => {
                    let failures = self.retry(name.clone());
                    if failures >= FAILURES_TOLD {
                        tracing::warn!(?name, failures, %error, "still fails, and will be tried again");
                    } else {
                        tracing::debug!(?name, failures, %error, "failed, and will be tried again");
                    }
                }
            }
        }
    }

    /// Due now.
    pub(super) fn push(&self, name: T) {
        self.push_after(name, Duration::ZERO);
    }

    /// Due after a while, unless it is due earlier already.
    pub(super) fn push_after(&self, name: T, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.state.lock();
        match state.due.get(&name).copied() {
            Some(due) if due <= at => return,
            Some(due) => drop(state.order.remove(&(due, name.clone()))),
            None => {}
        }
        state.order.insert((at, name.clone()));
        state.due.insert(name, at);
        self.depth.store(state.due.len() as u64, Ordering::Relaxed);
        drop(state);
        self.pushed.notify_one();
    }

    /// Due again after its backoff: what was tried did not work, for the returned number
    /// of times in a row.
    fn retry(&self, name: T) -> u32 {
        let failures = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(name.clone()).or_insert(0);
            *failures += 1;
            *failures
        };
        let backoff = BACKOFF_FIRST.saturating_mul(1 << failures.min(16).saturating_sub(1));
        self.push_after(name, backoff.min(BACKOFF_LAST));
        failures
    }

    /// Forgets earlier failures.
    fn done(&self, name: &T) {
        self.state.lock().failures.remove(name);
    }

    /// Every name, due or not.
    #[cfg(test)]
    pub(super) fn take_all(&self) -> Vec<T> {
        let mut state = self.state.lock();
        state.order.clear();
        std::mem::take(&mut state.due).into_keys().collect()
    }

    /// The next name, when it is due.
    async fn next(&self) -> T {
        loop {
            let wait = {
                let mut state = self.state.lock();
                let first = state.order.first().map(|(at, _)| *at);
                if first.is_some_and(|at| at <= Instant::now())
                    && let Some((_, name)) = state.order.pop_first()
                {
                    state.due.remove(&name);
                    self.depth.store(state.due.len() as u64, Ordering::Relaxed);
                    return name;
                }
                first
            };
            match wait {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.pushed.notified() => {}
                },
                None => self.pushed.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_comes_once_and_in_its_time() {
        let queue = Queue::new(Arc::default());
        queue.push_after("late", Duration::from_secs(5));
        queue.push("soon");
        queue.push("soon");
        let depth = |queue: &Queue<_>| queue.depth.load(Ordering::Relaxed);
        assert_eq!(depth(&queue), 2);
        assert_eq!(queue.next().await, "soon");
        assert_eq!(depth(&queue), 1);
        let before = Instant::now();
        assert_eq!(queue.next().await, "late");
        assert_eq!(Instant::now() - before, Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_pushed_again_is_due_at_the_earlier_moment() {
        let queue = Queue::new(Arc::default());
        for seconds in [5, 2, 9] {
            queue.push_after("name", Duration::from_secs(seconds));
        }
        let before = Instant::now();
        assert_eq!(queue.next().await, "name");
        assert_eq!(Instant::now() - before, Duration::from_secs(2));
        assert_eq!(queue.take_all(), Vec::<&str>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_ever_later_until_one_succeeds() {
        let queue = Queue::new(Arc::default());
        let mut waits = Vec::new();
        for _ in 0..3 {
            queue.retry("name");
            let before = Instant::now();
            queue.next().await;
            waits.push((Instant::now() - before).as_millis());
        }
        queue.done(&"name");
        queue.retry("name");
        let before = Instant::now();
        queue.next().await;
        waits.push((Instant::now() - before).as_millis());
        assert_eq!(waits, [50, 100, 200, 50]);
    }
}

//! Names that wait for their worker.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// How long a name waits after its first failure; doubled with each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// How long it waits at most.
const BACKOFF_LAST: Duration = Duration::from_secs(10);

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
    failures: BTreeMap<T, u32>,
}

impl<T: Ord + Clone> Queue<T> {
    pub(super) fn new(depth: Arc<AtomicU64>) -> Self {
        Self {
            state: Mutex::new(State {
                due: BTreeMap::new(),
                failures: BTreeMap::new(),
            }),
            pushed: Notify::new(),
            depth,
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
        let due = state.due.entry(name).or_insert(at);
        *due = at.min(*due);
        self.depth.store(state.due.len() as u64, Ordering::Relaxed);
        drop(state);
        self.pushed.notify_one();
    }

    /// Due again after its backoff: what was tried did not work.
    pub(super) fn retry(&self, name: T) {
        let failures = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(name.clone()).or_insert(0);
            *failures += 1;
            *failures
        };
        let backoff = BACKOFF_FIRST.saturating_mul(1 << failures.min(16).saturating_sub(1));
        self.push_after(name, backoff.min(BACKOFF_LAST));
    }

    /// Forgets earlier failures.
    pub(super) fn done(&self, name: &T) {
        self.state.lock().failures.remove(name);
    }

    /// Every name, due or not.
    #[cfg(test)]
    pub(super) fn take_all(&self) -> Vec<T> {
        std::mem::take(&mut self.state.lock().due)
            .into_keys()
            .collect()
    }

    /// The next name, when it is due.
    pub(super) async fn next(&self) -> T {
        loop {
            let wait = {
                let mut state = self.state.lock();
                let first = state.due.iter().min_by_key(|(_, at)| **at);
                match first.map(|(name, at)| (name.clone(), *at)) {
                    Some((name, at)) if at <= Instant::now() => {
                        state.due.remove(&name);
                        self.depth.store(state.due.len() as u64, Ordering::Relaxed);
                        return name;
                    }
                    first => first.map(|(_, at)| at),
                }
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

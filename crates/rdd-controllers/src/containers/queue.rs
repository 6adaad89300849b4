//! Keys that need work: each at most once at a time, failed ones again after a while.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a failure; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// The longest pause after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// A queue without duplicates and with a backoff per key.
#[derive(Debug)]
pub(super) struct Queue<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashSet<K>,
    /// Asked for while running.
    again: HashSet<K>,
    failures: HashMap<K, u32>,
    timers: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub(super) fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            running: HashSet::new(),
            again: HashSet::new(),
            failures: HashMap::new(),
            timers: BinaryHeap::new(),
        }
    }

    /// Asks for work on a key.
    pub(super) fn push(&mut self, key: K) {
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// Takes a key that nobody works on, while fewer than `limit` are worked on.
    pub(super) fn pop(&mut self, limit: usize) -> Option<K> {
        if self.running.len() >= limit {
            return None;
        }
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// Whether a key is worked on now.
    pub(super) fn is_running(&self, key: &K) -> bool {
        self.running.contains(key)
    }

    /// Work on a key has ended.
    pub(super) fn done(&mut self, key: &K, succeeded: bool) {
        self.running.remove(key);
        if succeeded {
            self.failures.remove(key);
        } else {
            let failures = self.failures.entry(key.clone()).or_insert(0);
            let pause = BACKOFF_MIN
                .saturating_mul(1 << (*failures).min(16))
                .min(BACKOFF_MAX);
            *failures += 1;
            self.timers
                .push(Reverse((Instant::now() + pause, key.clone())));
        }
        if self.again.remove(key) {
            self.push(key.clone());
        }
    }

    /// When the next failed key is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Asks for work on every failed key whose time has come.
    pub(super) fn wake(&mut self) {
        let now = Instant::now();
        while self.due().is_some_and(|at| at <= now) {
            if let Some(Reverse((_, key))) = self.timers.pop() {
                self.push(key);
            }
        }
    }

    /// Forgets everything; the caller has ended all work.
    pub(super) fn clear(&mut self) {
        self.running.clear();
        self.ready.clear();
        self.queued.clear();
        self.again.clear();
        self.failures.clear();
        self.timers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_worked_on_once_at_a_time() {
        let mut queue = Queue::new();
        queue.push("a");
        queue.push("a");
        assert_eq!(queue.pop(9), Some("a"));
        assert_eq!(queue.pop(9), None);
        queue.push("a");
        assert_eq!(queue.pop(9), None);
        queue.done(&"a", true);
        assert_eq!(queue.pop(9), Some("a"));
    }

    #[test]
    fn the_limit_holds_work_back() {
        let mut queue = Queue::new();
        queue.push("a");
        queue.push("b");
        assert_eq!(queue.pop(1), Some("a"));
        assert_eq!(queue.pop(1), None);
        queue.done(&"a", true);
        assert_eq!(queue.pop(1), Some("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_keys_come_back_later_and_later() {
        let mut queue = Queue::new();
        queue.push("a");
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let key = queue.pop(1).expect("it is ready");
            queue.done(&key, false);
            let due = queue.due().expect("it comes back");
            pauses.push((due - Instant::now()).as_millis());
            tokio::time::advance(due - Instant::now()).await;
            queue.wake();
        }
        assert_eq!(pauses[..3], [500, 1000, 2000]);
        assert_eq!(pauses[11], 300_000);
        let key = queue.pop(1).expect("it is ready");
        queue.done(&key, true);
        assert_eq!(queue.due(), None);
    }
}

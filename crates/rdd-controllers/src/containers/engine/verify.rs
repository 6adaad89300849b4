//! A paced comparison of everything: what is missing on one side is looked at at once,
//! the rest in small portions, so that it never shows in the engine's load.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::work::Key;

/// The shortest pause between two portions.
const PORTION: Duration = Duration::from_secs(1);

/// One comparison.
#[derive(Debug)]
pub(super) struct Round {
    waiting: VecDeque<Key>,
    /// What has not been found right yet.
    open: BTreeSet<Key>,
    portion: usize,
    pause: Duration,
    next: Instant,
}

impl Round {
    /// Compares `now` at once and `later` spread over a time.
    pub(super) fn new(now: &BTreeSet<Key>, later: BTreeSet<Key>, over: Duration) -> Self {
        let shortest = PORTION.min(over / 10);
        let portions = u32::try_from(later.len()).unwrap_or(u32::MAX).max(1);
        let pause = (over / portions)
            .max(shortest)
            .max(Duration::from_millis(1));
        let portions = over.as_millis().div_ceil(pause.as_millis()).max(1);
        let portion = later
            .len()
            .div_ceil(usize::try_from(portions).unwrap_or(usize::MAX));
        Self {
            open: now.union(&later).cloned().collect(),
            waiting: later.into_iter().collect(),
            portion: portion.max(1),
            pause,
            next: Instant::now(),
        }
    }

    /// When the next portion is due; none is when all have been taken.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next)
    }

    /// The portion that is due.
    pub(super) fn take(&mut self) -> Vec<Key> {
        let now = Instant::now();
        if self.waiting.is_empty() || now < self.next {
            return Vec::new();
        }
        self.next = now + self.pause;
        let portion = self.portion.min(self.waiting.len());
        self.waiting.drain(..portion).collect()
    }

    /// The work on a key has succeeded; whether this round had asked for it.
    pub(super) fn worked(&mut self, key: &Key) -> bool {
        self.open.remove(key)
    }

    /// Whether everything was found right, or put right.
    pub(super) fn is_complete(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> BTreeSet<Key> {
        (0..count)
            .map(|number| Key::Volume(format!("{number:06}")))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_takes_everything_once_and_in_its_time() {
        for count in [0, 1, 10, 299, 5_000, 50_000] {
            let over = Duration::from_secs(300);
            let begin = Instant::now();
            let mut round = Round::new(&keys(0), keys(count), over);
            let mut taken = BTreeSet::new();
            let mut most = 0;
            while let Some(due) = round.due() {
                tokio::time::advance(due.duration_since(Instant::now())).await;
                let portion = round.take();
                most = most.max(portion.len());
                taken.extend(portion);
            }
            assert_eq!(taken, keys(count));
            assert!(begin.elapsed() <= over + PORTION, "{count}");
            assert!(most <= count.div_ceil(300) + 1, "{count}: {most}");
        }
    }

    #[tokio::test]
    async fn a_round_ends_when_each_key_was_found_right() {
        let mut round = Round::new(&keys(1), keys(2), Duration::from_secs(1));
        assert!(!round.is_complete());
        assert!(!round.worked(&Key::Scaffold), "nobody asked for it");
        for key in keys(2) {
            assert!(round.worked(&key));
            assert!(!round.worked(&key), "once");
        }
        assert!(round.is_complete());
    }
}

//! How long a controller's watch waits after an error.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// A watch that has held for so long has recovered: its next error is the first one again.
const HELD: Duration = Duration::from_secs(5);

/// Pauses that double, up to two seconds, as long as errors follow each other; each is drawn
/// from the upper half of its length, so that many watches do not come back at once.
///
/// They stay short: the server is on this machine, and a controller that does not see is one
/// that does not act. (The client library's own default waits for up to half a minute.)
#[derive(Clone, Debug)]
pub struct WatchBackoff {
    next: Duration,
    /// When the last pause was over.
    resumed: Option<Instant>,
}

/// The pauses of a watch that has not failed yet.
#[must_use]
pub fn watch_backoff() -> WatchBackoff {
    WatchBackoff {
        next: FIRST,
        resumed: None,
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.resumed.is_none_or(|resumed| resumed + HELD <= now) {
            self.next = FIRST;
        }
        let pause = jittered(self.next);
        self.next = (self.next * 2).min(LONGEST);
        self.resumed = Some(now + pause);
        Some(pause)
    }
}

impl Backoff for WatchBackoff {
    /// Does nothing: a watch says that it begins before its first request fails, so that
    /// only time can tell whether one has held.
    fn reset(&mut self) {}
}

/// Between half of it and the whole.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(());
    let part = u32::try_from(random % 1024).unwrap_or_default();
    pause / 2 + pause / 2 * part / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_limit_and_begin_anew_when_a_watch_has_held() {
        let mut backoff = watch_backoff();
        let check = |pause: Option<Duration>, longest: u64| {
            let (pause, longest) = (
                pause.expect("it never ends"),
                Duration::from_millis(longest),
            );
            assert!(
                longest / 2 <= pause && pause <= longest,
                "{pause:?} of {longest:?}"
            );
            pause
        };
        for longest in [100, 200, 400, 800, 1600, 2000, 2000] {
            let pause = check(backoff.next(), longest);
            // What a watch says first is no success yet.
            backoff.reset();
            tokio::time::advance(pause + HELD / 2).await;
        }
        tokio::time::advance(HELD / 2).await;
        check(backoff.next(), 100);
    }

    #[test]
    fn no_two_watches_come_back_together() {
        let pauses: std::collections::BTreeSet<Duration> =
            (0..20).map(|_| jittered(LONGEST)).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
    }
}

//! How long a controller's watch waits after an error.

use std::time::Duration;

use kube::runtime::utils::Backoff;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// Short pauses that begin anew with every success: the server is in this process or on
/// this machine, and a controller that does not see is one that does not act. (The
/// client library's own default waits for up to half a minute, and the longer the more
/// failed within two minutes.)
#[derive(Clone, Debug)]
pub struct WatchBackoff {
    next: Duration,
}

/// The pauses of a watch that has not failed yet.
#[must_use]
pub fn watch_backoff() -> WatchBackoff {
    WatchBackoff { next: FIRST }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        Some(pause)
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew() {
        let mut backoff = watch_backoff();
        let pauses: Vec<u128> = backoff
            .by_ref()
            .take(7)
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.next(), Some(FIRST));
    }
}

//! How current the mirrors are: what `status.engine` of the App says.
//!
//! Events change it all the time, and every write of it wakes whoever watches the App:
//! it is told at most every few seconds, and not at all while nothing happens.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use rdd_api::{EngineStatus, condition};
use rdd_engine::Moment;
use tokio::time::Instant;

use super::work::Key;

/// The shortest pause between two writes.
const TELL: Duration = Duration::from_secs(5);

/// How late an event may come after the comparison that saw its effect first.
const ANNOUNCED: Duration = Duration::from_secs(5);

/// A jump of the engine's clock that counts as one, in nanoseconds.
const STEP: i64 = 2_000_000_000;

/// What is known about one connection.
#[derive(Debug)]
pub(super) struct Fresh {
    view: EngineStatus,
    /// The view as it was last told.
    shown: EngineStatus,
    /// The engine's clock minus ours, in nanoseconds.
    ahead: i64,
    /// Events whose effect does not show yet.
    pending: HashMap<Key, Moment>,
    /// The longest way of an event since it was last told.
    lag: Option<i64>,
    /// Mirrors that a comparison changed, until an event explains it.
    unexplained: BTreeMap<Key, Instant>,
    /// Whether there is something to tell, and when it was last told.
    changed: bool,
    told: Option<Instant>,
}

impl Fresh {
    /// Of a connection that stands since now.
    pub(super) fn new(view: EngineStatus, clock: Option<Moment>) -> Self {
        Self {
            shown: view.clone(),
            view,
            ahead: clock.map_or(0, |clock| clock.0 - now()),
            pending: HashMap::new(),
            lag: None,
            unexplained: BTreeMap::new(),
            changed: true,
            told: None,
        }
    }

    /// Where the engine is reached.
    pub(super) fn endpoint(&self) -> &str {
        &self.view.endpoint
    }

    /// An event came about this key.
    pub(super) fn event(&mut self, key: &Key, at: Moment) {
        self.unexplained.remove(key);
        self.pending.entry(key.clone()).or_insert(at);
    }

    /// The work on a key has succeeded. `unasked` tells that it changed a mirror although
    /// only a comparison asked for it.
    pub(super) fn worked(&mut self, key: &Key, unasked: bool) {
        if let Some(at) = self.pending.remove(key) {
            let lag = (now() + self.ahead - at.0).max(0) / 1_000_000;
            self.lag = Some(self.lag.unwrap_or_default().max(lag));
            let time = text(at);
            if self.view.last_event.as_ref() < Some(&time) {
                self.view.last_event = Some(time);
            }
            self.changed = true;
        } else if unasked {
            self.unexplained.insert(key.clone(), Instant::now());
        }
    }

    /// A mirror came or went since the last count.
    pub(super) fn recount(&mut self) {
        self.changed = true;
    }

    /// A comparison of everything is complete.
    pub(super) fn verified(&mut self) {
        self.view.last_verified = Some(condition::now());
        self.changed = true;
    }

    /// Takes the engine's clock as it is now; how far it has jumped, if it has.
    pub(super) fn clock(&mut self, clock: Option<Moment>) -> Option<Duration> {
        let ahead = clock?.0 - now();
        let step = (ahead - self.ahead).abs();
        self.ahead = ahead;
        let jumped = u64::try_from(step).ok().filter(|_| step > STEP);
        jumped.map(Duration::from_nanos)
    }

    /// When there is something to do without an event.
    pub(super) fn due(&self) -> Option<Instant> {
        let tell = self
            .changed
            .then(|| self.told.map_or_else(Instant::now, |told| told + TELL));
        let explain = self
            .unexplained
            .values()
            .min()
            .map(|seen| *seen + ANNOUNCED);
        tell.into_iter().chain(explain).min()
    }

    /// Counts what no event has explained in time; whether that was anything.
    pub(super) fn settle(&mut self) -> i64 {
        let now = Instant::now();
        let before = self.unexplained.len();
        self.unexplained
            .retain(|_, seen| now.duration_since(*seen) < ANNOUNCED);
        let drift = i64::try_from(before - self.unexplained.len()).unwrap_or_default();
        if drift > 0 {
            self.view.drift_repaired += drift;
            self.changed = true;
        }
        drift
    }

    /// The view to tell. `count` is asked only when something new is due.
    pub(super) fn tell(&mut self, count: impl FnOnce() -> [i64; 3]) -> &EngineStatus {
        let now = Instant::now();
        if self.changed
            && self
                .told
                .is_none_or(|told| now.duration_since(told) >= TELL)
        {
            [self.view.containers, self.view.images, self.view.volumes] = count();
            self.view.lag_milliseconds = self.lag.take().or(self.view.lag_milliseconds);
            self.changed = false;
            self.told = Some(now);
            self.view.connected = true;
            self.shown = self.view.clone();
        }
        &self.shown
    }

    /// What was known last, of an engine that is not mirrored any more.
    pub(super) fn last(mut self) -> EngineStatus {
        self.view.connected = false;
        self.view
    }
}

/// Our clock, in nanoseconds since 1970.
fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn text(moment: Moment) -> String {
    let time = Timestamp::from_nanosecond(moment.0.into()).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Fresh {
        let mut fresh = Fresh::new(EngineStatus::default(), Some(Moment(now())));
        fresh.tell(|| [0; 3]);
        fresh
    }

    fn key() -> Key {
        Key::Container("a".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_event_explains_is_no_drift() {
        let mut fresh = fresh();
        fresh.worked(&key(), true);
        fresh.event(&key(), Moment(now()));
        tokio::time::advance(ANNOUNCED).await;
        assert_eq!(fresh.settle(), 0);
        fresh.worked(&key(), true);
        assert_eq!(fresh.settle(), 0, "the event that explains it is done");
        fresh.worked(&key(), true);
        assert_eq!(fresh.settle(), 0, "it may still come");
        tokio::time::advance(ANNOUNCED).await;
        assert_eq!(fresh.settle(), 1);
        assert_eq!(fresh.tell(|| [1, 2, 3]).drift_repaired, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_seldom_and_only_when_there_is_something_to_tell() {
        let mut fresh = fresh();
        assert_eq!(fresh.due(), None);
        fresh.event(&key(), Moment(now()));
        assert_eq!(fresh.due(), None, "it does not show yet");
        fresh.worked(&key(), false);
        assert!(fresh.due().is_some());
        let early = fresh.tell(|| [9; 3]);
        assert_eq!(
            (early.containers, &early.last_event),
            (0, &None),
            "too soon"
        );
        tokio::time::advance(TELL).await;
        let told = fresh.tell(|| [9; 3]);
        assert_eq!(told.containers, 9);
        assert!(told.last_event.is_some());
        assert!(
            told.lag_milliseconds.is_some_and(|lag| lag < 1000),
            "{told:?}"
        );
        assert_eq!(fresh.due(), None);
    }

    #[tokio::test]
    async fn lag_is_measured_on_the_engines_clock() {
        let hour = 3_600_000_000_000;
        let mut fresh = Fresh::new(EngineStatus::default(), Some(Moment(now() + hour)));
        fresh.event(&key(), Moment(now() + hour - 250_000_000));
        fresh.worked(&key(), false);
        let lag = fresh.tell(|| [0; 3]).lag_milliseconds.expect("measured");
        assert!((250..5_000).contains(&lag), "{lag}");
        assert_eq!(fresh.clock(Some(Moment(now() + hour))), None);
        assert!(
            fresh
                .clock(Some(Moment(now())))
                .is_some_and(|step| step > Duration::from_secs(3000))
        );
    }
}

//! What can go wrong.

use std::collections::BTreeSet;
use std::time::Duration;

/// What goes wrong from now on.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Calls fail as if nobody listened.
    pub down: bool,
    /// Events are lost.
    pub drop_events: bool,
    /// One event in so many is lost; 0 is none.
    pub lose_one_event_in: u64,
    /// Every event arrives twice.
    pub repeat_events: bool,
    /// Events wait until this is lifted, and then come in the reverse order.
    pub hold_events: bool,
    /// One inspection in so many fails; 0 is none.
    pub fail_one_inspection_in: u64,
    /// Creations are refused with this status.
    pub refuse_creations: Option<u16>,
    /// Creations and actions are done, and their answers lost.
    pub lose_answers: bool,
    /// Pulls and pushes wait in their middle until this is lifted.
    pub hang_transfers: bool,
    /// Every call waits until this is lifted, or until its limit.
    pub hang: bool,
    /// How far the engine's clock is ahead, in seconds.
    pub clock_ahead: i64,
    /// Inspections of these identifiers fail.
    pub unreadable: BTreeSet<String>,
    /// Inspections of these identifiers are a bug: they panic.
    pub panic_at: BTreeSet<String>,
    /// The next call of this method, `events` or `ping`, is a bug: it panics, and the one
    /// after it does not.
    pub panic_next: Option<&'static str>,
    /// Removals are refused with this status; with 404 the engine claims that nothing
    /// of the kind is there.
    pub refuse_removals: Option<u16>,
    /// Actions are refused with this status.
    pub refuse_actions: Option<u16>,
    /// Actions wait until this is lifted.
    pub hang_actions: bool,
    /// Logs that are followed go on with a numbered chunk of 1 KiB this often, without
    /// end; zero is as fast as they are read.
    pub log_every: Option<Duration>,
}

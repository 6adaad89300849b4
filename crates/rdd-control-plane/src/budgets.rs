//! How long things may take while the daemon ends, in one place. Each is below the
//! one that contains it: what is inside must be through before its owner gives up.

use std::time::Duration;

use rdd_manager::Deadlines;

/// For programs beside the control plane to leave, while its own controllers end.
pub(crate) const OUTSIDE: Duration = Duration::from_secs(4);

/// For controllers to end, the engine's machine among them.
const DRAIN: Duration = Duration::from_secs(38);

/// For managers to leave the discovery ConfigMap.
const SIGN_OFF: Duration = Duration::from_secs(2);

/// For open requests to finish.
pub(crate) const CONNECTIONS: Duration = Duration::from_secs(3);

/// For the whole; `svc stop` waits for longer than this by default.
pub(crate) const SHUTDOWN: Duration = Duration::from_secs(45);

/// The manager's share.
pub(crate) fn manager() -> Deadlines {
    Deadlines {
        drain: DRAIN,
        sign_off: SIGN_OFF,
        ..Deadlines::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_through_before_its_owner_gives_up() {
        assert!(rdd_machine::STOP_MAX < DRAIN);
        assert!(DRAIN + SIGN_OFF + CONNECTIONS < SHUTDOWN);
        assert!(OUTSIDE < DRAIN);
        // The default of `rdd svc stop --timeout`.
        assert!(SHUTDOWN < Duration::from_secs(300));
    }
}

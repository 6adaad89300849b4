//! How long things may take while the daemon ends, in one place. Each is below the
//! one that contains it: what is inside must be through before its owner gives up.

use std::time::Duration;

/// For the engine to end its containers and itself.
pub(crate) const MACHINE: Duration = Duration::from_secs(35);

/// For open requests to finish.
pub(crate) const CONNECTIONS: Duration = Duration::from_secs(5);

/// For the whole; `svc stop` waits for longer than this by default.
pub(crate) const SHUTDOWN: Duration = Duration::from_secs(45);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_through_before_its_owner_gives_up() {
        assert!(MACHINE + CONNECTIONS < SHUTDOWN);
        // The default of `rdd svc stop --timeout`.
        assert!(SHUTDOWN < Duration::from_secs(300));
    }
}

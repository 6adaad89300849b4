//! Whether a manager in a program of its own still belongs to a control plane.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::discovery::Discovery;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(2);

/// How long a look may take, and how soon after one that failed the next follows: with
/// [`FAILURES`] of them a control plane that is gone is missed within five seconds.
const AFTER_FAILURE: Duration = Duration::from_millis(750);

/// So many looks in a row fail before the manager leaves.
const FAILURES: u32 = 3;

/// Returns, with the reason, when the manager has to leave: its entry is gone or
/// somebody else's, or the API does not answer. Until `registered`, only the latter counts.
pub async fn vigil(
    discovery: &Discovery,
    key: &str,
    identity: &str,
    registered: watch::Receiver<bool>,
) -> String {
    let mut failures = 0;
    let mut next = Instant::now() + EVERY;
    loop {
        sleep_until(next).await;
        let begin = Instant::now();
        // What was true before the look: an entry that comes during it is not missing.
        let expected = *registered.borrow();
        let problem = match timeout(AFTER_FAILURE, discovery.entries()).await {
            Err(_) => Some("the API does not answer".to_owned()),
            Ok(Err(error)) => Some(error.to_string()),
            Ok(Ok(entries)) => {
                let own = entries.and_then(|mut entries| entries.remove(key));
                let is_own = own.is_some_and(|entry| entry.identity == identity);
                (expected && !is_own).then(|| "it is not in the discovery ConfigMap".to_owned())
            }
        };
        let Some(problem) = problem else {
            failures = 0;
            next = begin + EVERY;
            continue;
        };
        failures += 1;
        if failures == FAILURES {
            return problem;
        }
        tracing::debug!(problem, failures, "the control plane may be gone");
        next = begin + AFTER_FAILURE;
    }
}

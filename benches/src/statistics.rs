//! Percentiles of durations.

use std::time::Duration;

/// Sorted samples.
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Sorts what was measured; must not be empty.
    pub(crate) fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort();
        Self(samples)
    }

    /// The sample below which `share` (0 to 1) of all lie.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let last = self.0.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a short list"
        )]
        let index = (last as f64 * share).round() as usize;
        self.0[index.min(last)]
    }
}

impl std::fmt::Display for Samples {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "p50 {:.2} ms, p99 {:.2} ms",
            milliseconds(self.percentile(0.5)),
            milliseconds(self.percentile(0.99))
        )
    }
}

/// A duration as a number of milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

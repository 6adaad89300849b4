//! How often a figure lay within which bounds, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use super::exposition::Exposition;

/// Counts by upper bounds, which are included and ascend.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Writes the samples; one of `unit` in the text are so many of ours.
    pub(crate) fn render(
        &self,
        out: &mut Exposition,
        name: &str,
        labels: &[(&str, &str)],
        unit: f64,
    ) {
        let counts: Vec<u64> = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        if counts.iter().all(|count| *count == 0) {
            return;
        }
        let bounds: Vec<f64> = self
            .bounds
            .iter()
            .map(|bound| *bound as f64 / unit)
            .collect();
        let sum = self.sum.load(Ordering::Relaxed) as f64 / unit;
        out.histogram(name, labels, &bounds, &counts, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21] {
            histogram.observe(value);
        }
        let mut out = Exposition::default();
        histogram.render(&mut out, "x", &[], 10.0);
        let text = out.into_text();
        for line in [
            "x_bucket{le=\"1\"} 2\n",
            "x_bucket{le=\"2\"} 4\n",
            "x_bucket{le=\"+Inf\"} 5\n",
            "x_sum 6.2\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}

//! How far a transfer is, from the steps that the engine tells.

use std::collections::HashMap;

use rdd_api::Progress;
use rdd_engine::TransferStep;

/// Words after which nothing more comes about a layer.
const DONE: &[&str] = &[
    "Pull complete",
    "Already exists",
    "Pushed",
    "Layer already exists",
];

#[derive(Debug, Default)]
pub(super) struct Tracker {
    layers: HashMap<String, Layer>,
    phase: String,
    /// The digest, once it is told.
    pub(super) digest: Option<String>,
}

#[derive(Debug, Default)]
struct Layer {
    bytes: u64,
    total: u64,
    is_done: bool,
}

impl Tracker {
    pub(super) fn step(&mut self, step: TransferStep) {
        if step.digest.is_some() {
            self.digest = step.digest;
        }
        let Some(layer) = step.layer else {
            return;
        };
        let layer = self.layers.entry(layer).or_default();
        layer.is_done = DONE.iter().any(|word| step.status.starts_with(word));
        // Unpacking counts the same bytes again.
        if step.status != "Extracting" {
            layer.total = layer.total.max(step.total.unwrap_or_default());
            layer.bytes = layer.bytes.max(step.done.unwrap_or_default());
        }
        if layer.is_done || step.status == "Download complete" || step.status == "Extracting" {
            layer.bytes = layer.total;
        }
        self.phase = step.status;
    }

    /// Whether there is anything to tell.
    pub(super) fn has_begun(&self) -> bool {
        !self.layers.is_empty()
    }

    pub(super) fn progress(&self) -> Progress {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let sum = |of: fn(&Layer) -> u64| -> u64 { self.layers.values().map(of).sum() };
        let (bytes, total) = (sum(|layer| layer.bytes), sum(|layer| layer.total));
        let done = self.layers.values().filter(|layer| layer.is_done).count();
        let mut text = format!("{done}/{} layers", self.layers.len());
        if let Some(percent) = (bytes * 100).checked_div(total) {
            text = format!("{}%, {text}", percent.min(100));
        }
        Progress {
            phase: self.phase.clone(),
            layers: count(self.layers.len()),
            layers_done: count(done),
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            total_bytes: i64::try_from(total).unwrap_or(i64::MAX),
            text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(layer: &str, status: &str, done: u64, total: u64) -> TransferStep {
        TransferStep {
            layer: Some(layer.to_owned()),
            status: status.to_owned(),
            done: Some(done).filter(|_| total > 0),
            total: Some(total).filter(|total| *total > 0),
            digest: None,
        }
    }

    #[test]
    fn bytes_are_counted_once_and_layers_when_they_are_done() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.progress().text, "0/0 layers");
        tracker.step(step("a", "Pulling fs layer", 0, 0));
        tracker.step(step("b", "Already exists", 0, 0));
        tracker.step(step("a", "Downloading", 50, 200));
        assert_eq!(tracker.progress().text, "25%, 1/2 layers");
        tracker.step(step("a", "Download complete", 0, 0));
        tracker.step(step("a", "Extracting", 10, 200));
        let half = tracker.progress();
        assert_eq!(
            (half.bytes, half.total_bytes, half.phase.as_str()),
            (200, 200, "Extracting")
        );
        tracker.step(step("a", "Pull complete", 0, 0));
        assert_eq!(tracker.progress().text, "100%, 2/2 layers");
        tracker.step(TransferStep {
            digest: Some("sha256:1".to_owned()),
            ..TransferStep::default()
        });
        assert_eq!(tracker.digest.as_deref(), Some("sha256:1"));
    }
}

//! What each controller did last.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

/// What each controller did last. Clones share one record.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    reports: Arc<Mutex<BTreeMap<&'static str, Report>>>,
}

/// One controller's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Reconciles since the start.
    pub runs: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How often the controller ended unexpectedly and was run again.
    pub restarts: u64,
    /// When the last reconcile ended.
    pub last_run: Option<Timestamp>,
    /// What caused it.
    pub last_trigger: String,
    /// Why the last failed one failed.
    pub last_error: Option<String>,
}

impl Diagnostics {
    /// Every controller's record, by name.
    #[must_use]
    pub fn reports(&self) -> BTreeMap<&'static str, Report> {
        self.reports.lock().clone()
    }

    /// The counts in the Prometheus text format.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let reports = self.reports.lock();
        let mut text = String::new();
        let mut family = |name: &str, help: &str, value: &dyn Fn(&Report) -> u64| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for (controller, report) in &*reports {
                let value = value(report);
                let _ = writeln!(text, "{name}{{controller=\"{controller}\"}} {value}");
            }
        };
        family(
            "rdd_controller_reconciles_total",
            "Reconciles.",
            &|report| report.runs,
        );
        family(
            "rdd_controller_failures_total",
            "Failed reconciles.",
            &|report| report.failures,
        );
        family(
            "rdd_controller_restarts_total",
            "Unexpected ends.",
            &|report| report.restarts,
        );
        text
    }

    pub(crate) fn record(
        &self,
        controller: &'static str,
        trigger: &str,
        outcome: Result<(), String>,
    ) {
        let mut reports = self.reports.lock();
        let report = reports.entry(controller).or_default();
        report.runs += 1;
        report.last_run = Some(Timestamp::now());
        trigger.clone_into(&mut report.last_trigger);
        if let Err(error) = outcome {
            report.failures += 1;
            report.last_error = Some(error);
        }
    }

    pub(crate) fn restarted(&self, controller: &'static str, error: String) {
        let mut reports = self.reports.lock();
        let report = reports.entry(controller).or_default();
        report.restarts += 1;
        report.last_error = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_keeps_the_last_error() {
        let diagnostics = Diagnostics::default();
        diagnostics.record("app", "watch", Err("no".to_owned()));
        diagnostics.clone().record("app", "retry", Ok(()));
        let report = diagnostics.reports()["app"].clone();
        assert_eq!((report.runs, report.failures), (2, 1));
        assert_eq!(report.last_trigger, "retry");
        assert_eq!(report.last_error.as_deref(), Some("no"));
        assert!(report.last_run.is_some());
    }
}

//! From nothing to ready.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::Figure;
use crate::lab::Lab;
use crate::statistics::Samples;

/// Fresh instances per measurement: enough for a median that repeats.
const ROUNDS: usize = 10;

/// `rdd svc start` on an instance that does not exist, beside starting the program at all.
pub(crate) fn cold_start(binary: &Path) -> Result<Figure> {
    let mut starts = Vec::new();
    let mut floors = Vec::new();
    for _ in 0..ROUNDS {
        let lab = Lab::new(binary)?;
        let begin = Instant::now();
        lab.rdd(&["svc", "start"])?;
        starts.push(begin.elapsed());
        floors.push(version(binary)?);
    }
    Ok(Figure {
        name: "cold `svc start` to ready, all controllers".to_owned(),
        value: Samples::new(starts).to_string(),
        floor: format!("`rdd --version`: {}", Samples::new(floors)),
        target: "<= 150 ms",
    })
}

fn version(binary: &Path) -> Result<Duration> {
    let begin = Instant::now();
    Command::new(binary)
        .arg("--version")
        .output()
        .context("failed to start rdd")?;
    Ok(begin.elapsed())
}

//! Sizes: of the binary, and of the idle daemon; and what an idle daemon does.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::Figure;
use crate::lab::Lab;

/// The release binary as it is shipped.
pub(crate) fn binary_size(binary: &Path) -> Result<Figure> {
    let bytes = std::fs::metadata(binary)
        .with_context(|| format!("failed to look at {}", binary.display()))?
        .len();
    Ok(Figure {
        name: "release binary".to_owned(),
        value: format!("{:.1} MiB", mebibytes(bytes)),
        floor: "kube-apiserver and etcd: 168 + 37 MB".to_owned(),
        target: "<= 25 MiB",
    })
}

/// Resident memory of an idle daemon, with all controllers and with none.
pub(crate) fn idle(binary: &Path) -> Result<Vec<Figure>> {
    let bare = Lab::new(binary)?;
    bare.rdd(&["svc", "start", "--controllers="])?;
    let floor = bare.resident_kib()?;
    let full = Lab::new(binary)?;
    full.rdd(&["svc", "start"])?;
    let value = full.resident_kib()?;
    Ok(vec![Figure {
        name: "resident memory, idle, all controllers".to_owned(),
        value: format!("{:.1} MiB", mebibytes(value * 1024)),
        floor: format!("without controllers: {:.1} MiB", mebibytes(floor * 1024)),
        target: "<= 30 MiB",
    }])
}

/// What the daemon does while nobody asks it for anything.
pub(crate) async fn at_rest(binary: &Path) -> Result<Figure> {
    const SPAN: Duration = Duration::from_secs(10);
    let lab = Lab::new(binary)?;
    lab.rdd(&["svc", "start"])?;
    let revision = || -> Result<String> {
        let list = lab.rdd(&["ctl", "get", "--raw", "/api/v1/namespaces?limit=1"])?;
        let list: serde_json::Value = serde_json::from_str(&list).context("no list")?;
        Ok(list["metadata"]["resourceVersion"].to_string())
    };
    let before = revision()?;
    let begin = lab.processor_time()?;
    tokio::time::sleep(SPAN).await;
    let used = lab.processor_time()?.saturating_sub(begin);
    let after = revision()?;
    Ok(Figure {
        name: "processor time at rest, all controllers".to_owned(),
        value: format!(
            "{:.2} %, revision {before} before and {after} after",
            100.0 * used.as_secs_f64() / SPAN.as_secs_f64()
        ),
        floor: "none".to_owned(),
        target: "<= 0.1 %, no writes",
    })
}

/// Bytes in mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let bytes = bytes as f64;
    bytes / (1024.0 * 1024.0)
}

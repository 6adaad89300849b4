//! `rdd service log`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdd_instance::PathKey;
use tokio::time::sleep;

use crate::exit::Outcome;
use crate::settings::Settings;

/// How often a followed file is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Prints the log from its start, and with `follow` what is added later.
pub(super) async fn run(settings: &Settings, stdout: bool, follow: bool) -> Outcome {
    let stem = if stdout {
        "rdd.stdout.log"
    } else {
        "rdd.stderr.log"
    };
    let path = settings.instance.path(PathKey::LogDir).join(stem);
    if !follow {
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(anyhow!(
                    "{} does not exist: {:?} control plane was never started",
                    path.display(),
                    settings.name()
                )
                .into());
            }
            other => other.with_context(|| format!("failed to open {}", path.display()))?,
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text)
            .with_context(|| format!("failed to read {}", path.display()))?;
        if text.last().is_some_and(|last| *last != b'\n') {
            text.push(b'\n');
        }
        print(&text)?;
        return Ok(());
    }
    tokio::select! {
        outcome = follow_file(&path) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn follow_file(path: &Path) -> Outcome {
    loop {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                sleep(LOOK).await;
                continue;
            }
            Err(error) => {
                return Err(anyhow!(error)
                    .context(format!("failed to open {}", path.display()))
                    .into());
            }
        };
        let opened = file.metadata().context("failed to look at the log")?.ino();
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            let read = reader
                .read_until(b'\n', &mut line)
                .with_context(|| format!("failed to read {}", path.display()))?;
            if line.last() == Some(&b'\n') {
                if !print(&line)? {
                    return Ok(());
                }
                line.clear();
            } else if read == 0 {
                // Only at the end of the old file is its successor looked for.
                let current = std::fs::metadata(path).map(|file| file.ino());
                if current.is_ok_and(|current| current != opened) {
                    break;
                }
                sleep(LOOK).await;
            }
        }
    }
}

/// Says whether the reader is still there.
fn print(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("failed to print"),
    }
}

//! Watchers: how long from a write to all who wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use crate::Figure;
use crate::lab::Lab;
use crate::objects::{self, COLLECTION};
use crate::resident::mebibytes;
use crate::statistics::Samples;

/// How long changes are made.
const SPAN: Duration = Duration::from_secs(3);

/// No event may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Changes one object so many times a second and times each event at each watcher.
pub(crate) async fn seen(lab: &Lab, watchers: usize, per_second: u64) -> Result<Figure> {
    lab.rdd(&["svc", "start", "--controllers="])?;
    let server = lab.server()?;
    let mut writer = server.connect().await?;
    objects::serve(&mut writer).await?;
    objects::fill(&mut writer, 1).await?;
    let idle = lab.resident_kib()?;
    let rounds = usize::try_from(SPAN.as_secs() * per_second)?;
    let (send, mut times) = mpsc::unbounded_channel();
    let start = Arc::new(Instant::now());
    let mut tasks = Vec::new();
    for _ in 0..watchers {
        let mut connection = server.connect().await?;
        let path = format!("{COLLECTION}?watch=1&resourceVersion=0");
        connection.watch(&path).await?;
        let (send, start) = (send.clone(), Arc::clone(&start));
        tasks.push(tokio::spawn(async move {
            let (mut chunk, mut seen) = (Vec::new(), 0);
            while seen < rounds {
                connection.event(&mut chunk).await?;
                let now = start.elapsed();
                for sent in chunk.split(|byte| *byte == b'\n').filter_map(stamp) {
                    seen += 1;
                    send.send(now.saturating_sub(sent)).ok();
                }
            }
            anyhow::Ok(())
        }));
    }
    drop(send);
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(per_second)?);
    let path = format!("{COLLECTION}/{}", objects::name(0));
    for _ in 0..rounds {
        ticks.tick().await;
        let body = format!(r#"{{"spec":{{"count":{}}}}}"#, start.elapsed().as_nanos());
        let kind = "application/merge-patch+json";
        writer.call("PATCH", &path, kind, body.as_bytes()).await?;
    }
    let mut latencies = Vec::with_capacity(rounds * watchers);
    while latencies.len() < rounds * watchers {
        let next = timeout(PATIENCE, times.recv())
            .await
            .context("an event did not arrive")?;
        latencies.push(next.context("a watch ended")?);
    }
    let busy = lab.resident_kib()?;
    Ok(Figure {
        name: format!("write sent to event seen, {watchers} watchers, {per_second} changes/s"),
        value: Samples::new(latencies).to_string(),
        floor: format!(
            "memory: {:.1} MiB with the watchers, {:.1} MiB without",
            mebibytes(busy * 1024),
            mebibytes(idle * 1024)
        ),
        target: if watchers <= 100 {
            "p50 <= 2 ms, p99 <= 10 ms"
        } else {
            "p50 <= 10 ms, p99 <= 30 ms"
        },
    })
}

/// When the change was sent that an event tells of, counted from the start of the
/// measurement; `None` for the object as it was before.
fn stamp(event: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(event).ok()?;
    let (_, rest) = text.split_once("\"count\":")?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    let nanoseconds = digits.parse().ok().filter(|sent| *sent > 0)?;
    Some(Duration::from_nanos(nanoseconds))
}

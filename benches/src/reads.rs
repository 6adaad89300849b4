//! Gets and lists over HTTPS.

use std::time::Instant;

use anyhow::Result;

use crate::Figure;
use crate::lab::Lab;
use crate::load;
use crate::objects::{self, COLLECTION};
use crate::resident::mebibytes;
use crate::statistics::{Samples, milliseconds};

/// Objects that a list returns.
const OBJECTS: usize = 10_000;

/// Lists per measurement.
const LISTS: usize = 20;

/// Gets of one object, beside an answer that costs the server nothing.
pub(crate) async fn gets(lab: &Lab, clients: usize) -> Result<Figure> {
    lab.rdd(&["svc", "start", "--controllers="])?;
    let server = lab.server()?;
    let mut first = server.connect().await?;
    objects::serve(&mut first).await?;
    objects::fill(&mut first, 1).await?;
    let read = async |path: String| {
        load::run(
            clients,
            async |_| Ok((server.connect().await?, path.clone())),
            |(connection, path), _| {
                Box::pin(async move { connection.call("GET", path, "", b"").await.map(drop) })
            },
        )
        .await
    };
    let served = read(format!("{COLLECTION}/{}", objects::name(0))).await?;
    let floor = read("/livez".to_owned()).await?;
    Ok(Figure {
        name: format!("gets over HTTPS, {clients} clients"),
        value: served.to_string(),
        floor: format!("`/livez`: {floor}"),
        target: ">= 15,000/s",
    })
}

/// Lists of many objects: how long, and how much memory a list takes at its height.
pub(crate) async fn lists(lab: &Lab) -> Result<Figure> {
    lab.rdd(&["svc", "start", "--controllers="])?;
    let server = lab.server()?;
    let mut connection = server.connect().await?;
    objects::serve(&mut connection).await?;
    objects::fill(&mut connection, OBJECTS).await?;
    let before = lab.peak_kib()?;
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..LISTS {
        let begin = Instant::now();
        size = connection.call("GET", COLLECTION, "", b"").await?;
        times.push(begin.elapsed());
    }
    let grown = lab.peak_kib()?.saturating_sub(before) * 1024;
    let times = Samples::new(times);
    let seconds = times.percentile(0.5).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let (rate, ratio) = (mebibytes(size) / seconds, grown as f64 / size.max(1) as f64);
    Ok(Figure {
        name: format!("list of {OBJECTS} objects, {:.1} MiB", mebibytes(size)),
        value: format!(
            "p50 {:.1} ms ({rate:.0} MiB/s), peak memory grows by {ratio:.2} x the bytes",
            milliseconds(times.percentile(0.5))
        ),
        floor: "kube-apiserver and etcd: 323 ms".to_owned(),
        target: "<= 60 ms, memory <= 1.2 x the bytes",
    })
}

//! Durable creates through HTTPS, beside the raw store on the same disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use rdd_store::{Expect, Key, PutOptions, SqliteOptions, SqliteStore, Store};

use crate::Figure;
use crate::lab::Lab;
use crate::statistics::Samples;

/// How long each side writes.
const SPAN: Duration = Duration::from_secs(3);

/// Bytes of payload, so that a stored object has about 1.3 KB.
const PAYLOAD: usize = 1000;

struct Outcome {
    per_second: f64,
    latencies: Samples,
}

/// Creates ConfigMaps from `clients` clients for a few seconds.
pub(crate) async fn durable(lab: &Lab, clients: usize) -> Result<Vec<Figure>> {
    lab.rdd(&["svc", "start", "--controllers="])?;
    let served = write(clients, async |worker| {
        let api: Api<ConfigMap> = Api::default_namespaced(lab.client().await?);
        Ok(move |round: usize| {
            let api = api.clone();
            async move {
                let object: ConfigMap = serde_json::from_value(serde_json::json!({
                    "metadata": {"name": format!("bench-{worker}-{round}")},
                    "data": {"payload": "x".repeat(PAYLOAD)},
                }))?;
                api.create(&PostParams::default(), &object).await?;
                Ok(())
            }
        })
    })
    .await?;
    let folder = tempfile::tempdir_in("/tmp").context("failed to make a folder")?;
    let store: Arc<dyn Store> = Arc::new(
        SqliteStore::open(folder.path(), SqliteOptions::default())
            .context("failed to open the raw store")?,
    );
    let raw = write(clients, async |worker| {
        let store = Arc::clone(&store);
        Ok(move |round: usize| {
            let store = Arc::clone(&store);
            async move {
                let key = Key::new(format!(
                    "/registry/configmaps/default/bench-{worker}-{round}"
                ));
                let value = Bytes::from(vec![b'x'; PAYLOAD + 300]);
                store
                    .put(&key, value, Expect::Absent, PutOptions::default())
                    .await
                    .context("failed to write to the raw store")?;
                Ok(())
            }
        })
    })
    .await?;
    Ok(vec![Figure {
        name: format!("durable creates over HTTPS, {clients} clients"),
        value: format!("{:.0}/s ({})", served.per_second, served.latencies),
        floor: format!(
            "raw store: {:.0}/s ({}); {:.0} % of it",
            raw.per_second,
            raw.latencies,
            100.0 * served.per_second / raw.per_second
        ),
        target: if clients == 1 {
            ">= 1,000/s"
        } else {
            ">= 5,000/s, p99 <= 25 ms, >= 60 % of the raw store"
        },
    }])
}

async fn write<Make, Round, Work>(clients: usize, make: Make) -> Result<Outcome>
where
    Make: AsyncFn(usize) -> Result<Round>,
    Round: Fn(usize) -> Work + Send + 'static,
    Work: Future<Output = Result<()>> + Send,
{
    let mut rounds = Vec::new();
    for worker in 0..clients {
        rounds.push(make(worker).await?);
    }
    let begin = Instant::now();
    let workers = rounds.into_iter().map(|round| {
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < SPAN {
                let start = Instant::now();
                round(latencies.len()).await?;
                latencies.push(start.elapsed());
            }
            anyhow::Ok(latencies)
        })
    });
    let mut latencies = Vec::new();
    for worker in try_join_all(workers).await? {
        latencies.extend(worker?);
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate of a few thousand")]
    let per_second = latencies.len() as f64 / begin.elapsed().as_secs_f64();
    Ok(Outcome {
        per_second,
        latencies: Samples::new(latencies),
    })
}

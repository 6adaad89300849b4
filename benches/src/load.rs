//! Many clients at once, each doing one thing after the other.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;

use crate::statistics::Samples;

/// How long a load lasts.
const SPAN: Duration = Duration::from_secs(3);

/// What came of a load.
pub(crate) struct Outcome {
    /// Finished rounds per second, of all clients together.
    pub(crate) per_second: f64,
    /// How long each round took.
    pub(crate) latencies: Samples,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:.0}/s ({})", self.per_second, self.latencies)
    }
}

/// Makes one state per client, then lets each do rounds until the time is over.
pub(crate) async fn run<State, Make, Round>(
    clients: usize,
    make: Make,
    round: Round,
) -> Result<Outcome>
where
    State: Send + 'static,
    Make: AsyncFn(usize) -> Result<State>,
    Round: for<'a> Fn(&'a mut State, usize) -> futures::future::BoxFuture<'a, Result<()>>
        + Send
        + Sync
        + Clone
        + 'static,
{
    let mut states = Vec::new();
    for worker in 0..clients {
        states.push(make(worker).await?);
    }
    let begin = Instant::now();
    let workers = states.into_iter().map(|mut state| {
        let round = round.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < SPAN {
                let start = Instant::now();
                round(&mut state, latencies.len()).await?;
                latencies.push(start.elapsed());
            }
            anyhow::Ok(latencies)
        })
    });
    let mut latencies = Vec::new();
    for worker in try_join_all(workers).await? {
        latencies.extend(worker?);
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate of some thousands")]
    let per_second = latencies.len() as f64 / begin.elapsed().as_secs_f64();
    Ok(Outcome {
        per_second,
        latencies: Samples::new(latencies),
    })
}

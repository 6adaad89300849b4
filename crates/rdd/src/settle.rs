//! Waiting until the App has settled, and saying on the way what happens.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use anyhow::anyhow;
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use rdd_api::{App, Condition, condition, names};
use tokio::time::{sleep, timeout};

use crate::duration::Limit;
use crate::exit::{Failure, Outcome, expired};

/// The limit of waits that have no flag for it.
pub(crate) const DEFAULT_LIMIT: Limit = Some(Duration::from_secs(300));

/// How often is looked whether somebody acts on the App.
const LOOK: Duration = Duration::from_secs(2);

/// Waits until `Settled` is true for at least this generation.
///
/// A watch that ends or fails is resumed; a reason that nothing will change by
/// itself ends the wait at once.
pub(crate) async fn wait(client: kube::Client, generation: i64, limit: Limit) -> Outcome {
    tracing::info!("Waiting for App to settle");
    let mut progress = Progress::new(generation);
    let follow = async {
        loop {
            match follow(client.clone(), &mut progress).await {
                Ok(Verdict::Settled) => return Ok(()),
                Ok(Verdict::Failed(text)) => return Err(anyhow!(text).into()),
                Ok(Verdict::Deleted) => {
                    return Err(anyhow!("the App was deleted while waiting").into());
                }
                Err(error) => {
                    tracing::debug!(%error, "the watch was interrupted");
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    };
    let abandoned = async { Err(abandoned(client.clone()).await) };
    let interrupted = async {
        // Without a handler the default action ends the process all the same.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let waited = async {
        tokio::select! {
            // First: what nobody keeps true any more counts for nothing.
            biased;
            outcome = abandoned => outcome,
            outcome = follow => outcome,
            () = interrupted => Err(anyhow!("wait cancelled: interrupted").into()),
        }
    };
    match limit {
        None => waited.await,
        Some(limit) => match timeout(limit, waited).await {
            Ok(outcome) => outcome,
            Err(_) => Err(expired(format_args!(
                "timed out waiting for App state{}",
                progress.blocking()
            ))),
        },
    }
}

/// Returns once it is certain that nobody acts on the App. That nothing is known, as while
/// a control plane starts or stops, is no certainty.
async fn abandoned(client: kube::Client) -> Failure {
    let maps: Api<ConfigMap> = Api::namespaced(client, names::RDD_NAMESPACE);
    loop {
        let listed = match maps.get_opt(names::DISCOVERY_CONFIG_MAP).await {
            Ok(Some(map)) => rdd_control_plane::running_controllers(&map),
            _ => None,
        };
        if listed.is_some_and(|controllers| !controllers.contains(names::controller::APP)) {
            return anyhow!(
                "no app controller runs, so nothing will happen; run it: rdd svc stop && rdd svc start --controllers='*'"
            )
            .into();
        }
        sleep(LOOK).await;
    }
}

enum Verdict {
    Settled,
    Failed(String),
    Deleted,
}

async fn follow(client: kube::Client, progress: &mut Progress) -> Result<Verdict, watcher::Error> {
    let api: Api<App> = Api::all(client);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", names::APP));
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut seen = false;
    while let Some(event) = events.try_next().await? {
        match event {
            watcher::Event::Apply(app) | watcher::Event::InitApply(app) => {
                seen = true;
                if let Some(verdict) = progress.look(&app) {
                    return Ok(verdict);
                }
            }
            watcher::Event::Delete(_) => return Ok(Verdict::Deleted),
            watcher::Event::InitDone if !seen => return Ok(Verdict::Deleted),
            watcher::Event::Init | watcher::Event::InitDone => {}
        }
    }
    Ok(Verdict::Deleted)
}

/// What was said already, and what is still missing.
struct Progress {
    generation: i64,
    said: BTreeMap<String, String>,
    last: Option<Condition>,
}

impl Progress {
    fn new(generation: i64) -> Self {
        Self {
            generation,
            said: BTreeMap::new(),
            last: None,
        }
    }

    fn look(&mut self, app: &App) -> Option<Verdict> {
        let conditions = app.status.iter().flat_map(|status| &status.conditions);
        // A condition without a generation says nothing about this one.
        let fresh =
            conditions.filter(|condition| condition.observed_generation >= Some(self.generation));
        let mut verdict = None;
        for condition in fresh {
            let line = format!(
                "{}={}: {} ({})",
                condition.r#type, condition.status, condition.message, condition.reason
            );
            if self.said.get(&condition.r#type) != Some(&line) {
                tracing::info!("{line}");
                self.said.insert(condition.r#type.clone(), line);
            }
            if condition.r#type == condition::SETTLED {
                self.last = Some(condition.clone());
                if condition.status == "True" {
                    verdict = Some(Verdict::Settled);
                } else if condition::is_terminal(&condition.reason) {
                    verdict = Some(Verdict::Failed(format!(
                        "{} ({})",
                        condition.message, condition.reason
                    )));
                }
            }
        }
        verdict
    }

    fn blocking(&self) -> String {
        match &self.last {
            Some(condition) => format!(
                " (Settled={}: {} ({}))",
                condition.status, condition.message, condition.reason
            ),
            None => " (no controller has looked at the change)".to_owned(),
        }
    }
}

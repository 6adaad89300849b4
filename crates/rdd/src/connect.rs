//! Getting hold of the control plane: create it, start it, wait until it is ready.

use std::fs;
use std::pin::pin;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rdd_api::names;
use rdd_instance::{Arguments, Daemon, PathKey, open_log, process};
use tokio::time::{sleep, timeout};

use crate::args::Session;
use crate::duration::Limit;
use crate::exit::{Failure, Outcome, expired};
use crate::settings::{Settings, VERSION};

/// The bound of an implicit start, whatever the command's own limit is.
const AUTO_START: Limit = Some(AUTO_START_MAX);

/// The same, as a duration.
const AUTO_START_MAX: Duration = Duration::from_secs(90);

/// The first pause between two looks; it doubles up to [`LOOK_MAX`].
const LOOK_MIN: Duration = Duration::from_millis(2);

/// The longest pause between two looks.
const LOOK_MAX: Duration = Duration::from_millis(100);

/// From this on a wait says what it is for.
pub(crate) const NOTICED: Duration = Duration::from_secs(1);

/// How long one look may wait for the API's answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How much of a dead daemon's log an error shows.
const TAIL_LINES: usize = 15;

/// A client of a control plane that is ready; creates and starts it if need be.
pub(crate) async fn ready(settings: &Settings) -> Outcome<kube::Client> {
    let child = match named(settings, AUTO_START).await? {
        Some(_) => None,
        None => {
            create_if_missing(settings, [])?;
            tracing::info!("starting {:?} control plane", settings.name());
            Some(start(settings, &Session::default(), &[])?)
        }
    };
    wait_ready(settings, child, AUTO_START).await
}

/// The daemon of the instance, if there is one. One that holds the lock and is not named is
/// just starting, or being taken down by the kernel: that is waited for.
pub(crate) async fn named(settings: &Settings, limit: Limit) -> Outcome<Option<Daemon>> {
    let begin = Instant::now();
    let mut is_said = false;
    loop {
        match Daemon::find(&settings.instance)? {
            Some(daemon) if !daemon.is_named() => {}
            other => return Ok(other),
        }
        if !is_said && begin.elapsed() >= NOTICED {
            is_said = true;
            tracing::info!(
                "waiting for the starting {:?} control plane to say its pid",
                settings.name()
            );
        }
        if limit.is_some_and(|limit| begin.elapsed() >= limit) {
            return Err(expired(format_args!(
                "timed out waiting for the starting {:?} control plane to say its pid",
                settings.name()
            )));
        }
        tokio::select! {
            () = sleep(LOOK_MIN) => {}
            _ = tokio::signal::ctrl_c() => {
                return Err(anyhow!("cancelled while waiting for {:?} control plane to say its pid", settings.name()).into());
            }
        }
    }
}

/// Waits until the daemon that was just started can be found: from then on a stop finds it,
/// too. One that ended already is an error.
pub(crate) async fn wait_named(settings: &Settings, mut child: Child) -> Outcome {
    let begin = Instant::now();
    while !Daemon::find(&settings.instance)?.is_some_and(|daemon| daemon.is_named()) {
        let ended = child.try_wait().context("failed to look at the daemon")?;
        if ended.is_some() {
            return Err(died(settings));
        }
        if begin.elapsed() >= AUTO_START_MAX {
            return Err(expired(format_args!(
                "timed out waiting for the starting {:?} control plane to say its pid",
                settings.name()
            )));
        }
        sleep(LOOK_MIN).await;
    }
    Ok(())
}

/// Creates the instance unless it exists; says whether it did.
pub(crate) fn create_if_missing(
    settings: &Settings,
    words: impl IntoIterator<Item = String>,
) -> Outcome<bool> {
    if settings.instance.exists() {
        return Ok(false);
    }
    Arguments::new(&settings.instance, words).save(&settings.instance)?;
    Ok(true)
}

/// Starts the daemon in the background with its saved words and those of this start.
pub(crate) fn start(settings: &Settings, session: &Session, words: &[String]) -> Outcome<Child> {
    let instance = &settings.instance;
    let environment = instance.environment();
    let saved = Arguments::load(instance)?
        .ok_or_else(|| anyhow!("{:?} control plane does not exist", settings.name()))?;
    let folder = instance.path(PathKey::LogDir);
    let open = |stem| {
        open_log(
            &folder,
            stem,
            environment.keep_logs,
            environment.log_title.as_deref(),
        )
    };
    let (stdout, stderr) = (open("rdd.stdout")?, open("rdd.stderr")?);
    let mut arguments = vec![
        format!("--instance={}", instance.suffix()),
        "service".to_owned(),
        "serve".to_owned(),
        "--detached".to_owned(),
    ];
    arguments.extend_from_slice(saved.words());
    arguments.extend_from_slice(words);
    arguments.extend(session_words(session));
    arguments.extend(["-v".to_owned(), settings.verbosity.number().to_string()]);
    // Only a start replaces the kubeconfig; the old one names tokens of a dead process.
    match fs::remove_file(instance.path(PathKey::Config)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(anyhow!(error)
                .context("failed to remove the old kubeconfig")
                .into());
        }
        _ => {}
    }
    Ok(process::spawn_daemon(&arguments, stdout, stderr)?)
}

/// The flags of a session, as the control plane takes them.
pub(crate) fn session_words(session: &Session) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(controllers) = &session.controllers {
        words.extend(["--controllers".to_owned(), controllers.clone()]);
    }
    if let Some(port) = session.secure_port.filter(|port| *port != 0) {
        words.extend(["--secure-port".to_owned(), port.to_string()]);
    }
    for origin in &session.allow_origin {
        words.extend(["--allow-origin".to_owned(), origin.clone()]);
    }
    for service in &session.webhook_service {
        words.extend(["--webhook-service".to_owned(), service.to_string()]);
    }
    // The daemon may have another working directory.
    let absolute = |file: &std::path::Path| {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        file.display().to_string()
    };
    if let Some(file) = &session.token_file {
        words.extend(["--token-file".to_owned(), absolute(file)]);
    }
    if let Some(file) = &session.audit_log {
        words.extend(["--audit-log".to_owned(), absolute(file)]);
    }
    if let Some(size) = session.audit_log_maxsize {
        words.extend(["--audit-log-maxsize".to_owned(), size.to_string()]);
    }
    if let Some(number) = session.audit_log_maxbackup {
        words.extend(["--audit-log-maxbackup".to_owned(), number.to_string()]);
    }
    words
}

/// Waits until the running start says that it is ready. Ends at once when its process does.
pub(crate) async fn wait_ready(
    settings: &Settings,
    mut child: Option<Child>,
    limit: Limit,
) -> Outcome<kube::Client> {
    let begin = Instant::now();
    let mut pause = LOOK_MIN;
    let mut phase = Phase::default();
    loop {
        // A daemon that is frozen accepts a connection and never answers.
        let left = limit.map_or(ANSWER, |limit| {
            limit.saturating_sub(begin.elapsed()).min(ANSWER)
        });
        let look = phase.while_waiting(timeout(left, look(settings)));
        match look.await.unwrap_or(Ok(Look::Waiting(Stage::ApiServer)))? {
            Look::Ready(client) => return Ok(client),
            Look::Waiting(next) => phase.enter(next),
            Look::Dead => {}
        }
        if let Some(running) = &mut child
            && running
                .try_wait()
                .context("failed to look at the daemon")?
                .is_some()
        {
            // Another start may have been first: its daemon is as good as ours.
            child = None;
        }
        if child.is_none() && Daemon::find(&settings.instance)?.is_none() {
            return Err(died(settings));
        }
        if limit.is_some_and(|limit| begin.elapsed() >= limit) {
            return Err(expired(format_args!(
                "timed out {} of {:?} control plane",
                phase.current.text(),
                settings.name()
            )));
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = tokio::signal::ctrl_c() => return Err(anyhow!("cancelled while {}", phase.current.text()).into()),
        }
        pause = (pause * 2).min(LOOK_MAX);
    }
}

/// What a start is busy with, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Process,
    ApiServer,
    Controllers,
}

impl Stage {
    fn text(self) -> &'static str {
        match self {
            Self::Process | Self::ApiServer => "waiting for API server",
            Self::Controllers => "waiting for controllers to register",
        }
    }
}

/// Says each stage once, and only when it takes long enough to be noticed.
struct Phase {
    current: Stage,
    said: Option<Stage>,
    since: Instant,
}

impl Default for Phase {
    fn default() -> Self {
        Self {
            current: Stage::default(),
            said: None,
            since: Instant::now(),
        }
    }
}

impl Phase {
    fn enter(&mut self, stage: Stage) {
        self.current = self.current.max(stage);
        if self.since.elapsed() >= NOTICED && self.said != Some(self.current) {
            self.said = Some(self.current);
            tracing::info!("{}", self.current.text());
        }
    }

    /// Also a look that gets no answer is a wait.
    async fn while_waiting<T>(&mut self, look: impl Future<Output = T>) -> T {
        let mut look = pin!(look);
        let noticed = NOTICED.saturating_sub(self.since.elapsed());
        tokio::select! {
            seen = &mut look => return seen,
            () = sleep(noticed) => self.enter(self.current),
        }
        look.await
    }
}

enum Look {
    Ready(kube::Client),
    Waiting(Stage),
    Dead,
}

async fn look(settings: &Settings) -> Outcome<Look> {
    let Some(daemon) = Daemon::find(&settings.instance)? else {
        return Ok(Look::Dead);
    };
    if !daemon.is_named() {
        return Ok(Look::Waiting(Stage::Process));
    }
    if daemon.version != VERSION && !settings.developer_mode {
        return Err(anyhow!(
            "Unsupported server version {} (expected {VERSION}); stop it with `rdd svc stop`",
            daemon.version
        )
        .into());
    }
    if !settings.instance.path(PathKey::Config).exists() {
        return Ok(Look::Waiting(Stage::ApiServer));
    }
    let client = client(settings).await?;
    let discovery: Api<ConfigMap> = Api::namespaced(client.clone(), names::RDD_NAMESPACE);
    match discovery.get_opt(names::DISCOVERY_CONFIG_MAP).await {
        Ok(Some(map)) => {
            let annotations = map.metadata.annotations.unwrap_or_default();
            let ready = annotations
                .get(names::READY_ANNOTATION)
                .is_some_and(|value| value == "true");
            let ours = annotations.get(names::START_ANNOTATION) == Some(&daemon.start_id);
            if ready && ours {
                Ok(Look::Ready(client))
            } else {
                Ok(Look::Waiting(Stage::Controllers))
            }
        }
        Ok(None) => Ok(Look::Waiting(Stage::Controllers)),
        Err(kube::Error::Api(_)) => Ok(Look::Waiting(Stage::ApiServer)),
        Err(error) if is_certificate(&error) => {
            Err(anyhow!("the control plane's certificate cannot be trusted: {error}").into())
        }
        Err(_) => Ok(Look::Waiting(Stage::ApiServer)),
    }
}

fn is_certificate(error: &kube::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("invalid peer certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A client with the administrator's credentials.
pub(crate) async fn client(settings: &Settings) -> Outcome<kube::Client> {
    let path = settings.instance.path(PathKey::Config);
    let kubeconfig = Kubeconfig::read_from(&path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .with_context(|| format!("failed to use {}", path.display()))?;
    // Every wait of ours has a deadline of its own, which hidden retries would overrun.
    config.default_retry = false;
    Ok(kube::Client::try_from(config).context("failed to make a client")?)
}

fn died(settings: &Settings) -> Failure {
    let path = settings
        .instance
        .path(PathKey::LogDir)
        .join("rdd.stderr.log");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
    anyhow!(
        "{:?} control plane ended before it was ready; the end of {}:\n  {tail}",
        settings.name(),
        path.display()
    )
    .into()
}

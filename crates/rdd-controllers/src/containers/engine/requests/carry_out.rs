//! One request, from whatever it has come to, to its end.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use rdd_api::condition::{self, reason};
use rdd_api::names::{MOBY, REQUEST_LABEL};
use rdd_api::{
    Condition, ContainerCreateSpec, Image, ImagePullSpec, ImageRefSpec, RequestStatus,
    VolumeCreateSpec,
};
use rdd_docker_cli::CredentialStore;
use rdd_engine::{self as engine, Credentials, NewContainer, NewVolume, Transfer};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

use super::progress::Tracker;
use super::wish::{Asked, Wish};
use crate::containers::engine::connection::chain;
use crate::containers::engine::work::text;
use crate::world::LiveEngine;

/// The shortest pause between two writes of progress.
const TELL: Duration = Duration::from_millis(500);

/// How often recording an outcome is tried before the request is looked at anew, and the
/// pauses between.
const RECORD: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_millis(3200),
];

/// What follows.
pub(super) enum Next {
    /// It ended then.
    Ended(Timestamp),
    /// Nothing can be done without an engine.
    WaitForEngine,
    /// Nobody wants it any more.
    Gone,
}

/// Everything that carrying a request out needs.
pub(super) struct Task {
    pub(super) client: kube::Client,
    pub(super) live: Option<Arc<LiveEngine>>,
    pub(super) credentials: Option<Arc<CredentialStore>>,
    pub(super) transfers: Arc<Semaphore>,
    pub(super) asked: Arc<Asked>,
}

/// How it went: what came of it, or reason and message.
type Outcome = Result<(), (&'static str, String)>;

/// Why it has to be looked at again.
type Unclear = String;

impl Task {
    /// # Errors
    /// When the API or the engine did not answer; then it is looked at again.
    pub(super) async fn run(self) -> Result<Next, Unclear> {
        let read = self.asked.read(&self.client).await;
        let Some(asked) = read.map_err(text)? else {
            return Ok(Next::Gone);
        };
        if let Some(ended) = asked.ended {
            return Ok(Next::Ended(ended));
        }
        let Some(wish) = asked.wish.clone() else {
            return Ok(Next::Gone);
        };
        let Some(live) = &self.live else {
            return self.wait(&asked, "Waiting for the engine").await;
        };
        if live.namespace != asked.namespace {
            let text = format!(
                "The engine is mirrored in namespace {:?}; requests are carried out there",
                live.namespace
            );
            return self.wait(&asked, &text).await;
        }
        let mut run = Run {
            client: &self.client,
            engine: &*live.engine,
            status: asked.status.clone(),
            asked: &asked,
        };
        let outcome = if reason_of(&asked.status) == Some(reason::IN_PROGRESS) {
            run.find(&wish).await
        } else {
            match wish {
                Wish::Container(spec) => run.container(&spec).await,
                Wish::Volume(spec) => run.volume(&spec).await,
                Wish::Pull(spec) => self.pull(&mut run, &spec).await,
                Wish::Push(spec) => self.push(&mut run, &spec).await,
                Wish::Scan => Ok(Err((
                    reason::NO_SCANNER,
                    "No scanner is supported; scan the image with a tool of your choice".to_owned(),
                ))),
            }
        };
        match outcome {
            Ok(outcome) => run.record(outcome).await,
            Err(unclear) => {
                run.keep_going(&unclear).await;
                Err(unclear)
            }
        }
    }

    async fn wait(&self, asked: &Asked, message: &str) -> Result<Next, Unclear> {
        let mut status = asked.status.clone();
        // One that is in progress stays so: it must not be carried out again.
        if reason_of(&status) != Some(reason::IN_PROGRESS) {
            set(
                &mut status,
                asked.generation,
                None,
                reason::PENDING,
                message,
            );
            if status != asked.status {
                asked.write(&self.client, &status).await.map_err(text)?;
            }
        }
        Ok(Next::WaitForEngine)
    }

    async fn pull(&self, run: &mut Run<'_>, spec: &ImagePullSpec) -> Result<Outcome, Unclear> {
        if let Err(refused) = known_namespace(spec.namespace.as_deref()) {
            return Ok(Err(refused));
        }
        let _turn = self.turn(run, "Waiting for other transfers").await?;
        let before = match run.engine.image(&spec.repo_tag).await {
            Ok(before) => before,
            Err(error) => return unclear_or(error, reason::PULL_FAILED),
        };
        run.status.before = Some(before.map(|image| image.id).unwrap_or_default());
        run.in_progress("Fetching the image").await?;
        let credentials = match self.credentials(&spec.repo_tag).await {
            Ok(credentials) => credentials,
            Err(error) => return Ok(Err((reason::PULL_FAILED, error))),
        };
        let begun = run.engine.pull(&spec.repo_tag, credentials.as_ref()).await;
        run.transfer(begun, reason::PULL_FAILED).await
    }

    async fn push(&self, run: &mut Run<'_>, spec: &ImageRefSpec) -> Result<Outcome, Unclear> {
        let images: Api<Image> = Api::namespaced(self.client.clone(), &run.asked.namespace);
        let image = images.get_opt(&spec.image_ref).await.map_err(text)?;
        let tag = match image.map(|image| image.status.unwrap_or_default().repo_tag) {
            Some(Some(tag)) => tag,
            Some(None) => {
                let text = format!("Image {:?} has no tag to push", spec.image_ref);
                return Ok(Err((reason::IMAGE_NOT_FOUND, text)));
            }
            None => {
                let text = format!("There is no Image {:?} in this namespace", spec.image_ref);
                return Ok(Err((reason::IMAGE_NOT_FOUND, text)));
            }
        };
        let _turn = self.turn(run, "Waiting for other transfers").await?;
        run.in_progress(&format!("Sending {tag}")).await?;
        let credentials = match self.credentials(&tag).await {
            Ok(credentials) => credentials,
            Err(error) => return Ok(Err((reason::PUSH_FAILED, error))),
        };
        let begun = run.engine.push(&tag, credentials.as_ref()).await;
        run.transfer(begun, reason::PUSH_FAILED).await
    }

    /// One slow transfer holds up nobody but those behind the last of a few.
    async fn turn(
        &self,
        run: &mut Run<'_>,
        message: &str,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, Unclear> {
        if let Ok(turn) = self.transfers.try_acquire() {
            return Ok(turn);
        }
        run.say(None, reason::PENDING, message).await?;
        self.transfers
            .acquire()
            .await
            .map_err(|_| "transfers have ended".to_owned())
    }

    async fn credentials(&self, reference: &str) -> Result<Option<Credentials>, String> {
        match &self.credentials {
            None => Ok(None),
            Some(store) => store
                .get(engine::registry_of(reference))
                .await
                .map_err(|error| chain(&error)),
        }
    }
}

/// A request on its way.
struct Run<'task> {
    client: &'task kube::Client,
    engine: &'task dyn engine::Engine,
    asked: &'task Asked,
    status: RequestStatus,
}

impl Run<'_> {
    async fn say(
        &mut self,
        ended: Option<bool>,
        reason: &str,
        message: &str,
    ) -> Result<(), Unclear> {
        set(
            &mut self.status,
            self.asked.generation,
            ended,
            reason,
            message,
        );
        match self.asked.write(self.client, &self.status).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("the request is gone".to_owned()),
            Err(error) => Err(text(error)),
        }
    }

    /// From here on nobody else may carry it out.
    async fn in_progress(&mut self, message: &str) -> Result<(), Unclear> {
        self.say(None, reason::IN_PROGRESS, message).await
    }

    /// Shows why it takes longer. Whether it was taken up already stays as it is.
    async fn keep_going(&mut self, why: &str) {
        let reason = reason_of(&self.status)
            .unwrap_or(reason::PENDING)
            .to_owned();
        let message = format!("Looked at again later: {why}");
        if let Err(error) = self.say(None, &reason, &message).await {
            tracing::debug!(error, "the reason of a delay is not shown");
        }
    }

    async fn record(mut self, outcome: Outcome) -> Result<Next, Unclear> {
        let (ok, reason, message) = match outcome {
            Ok(()) => (true, reason::COMPLETED, "The request is done".to_owned()),
            Err((reason, message)) => (false, reason, message),
        };
        for pause in RECORD {
            match self.say(Some(ok), reason, &message).await {
                Ok(()) => {
                    tracing::info!(
                        kind = self.asked.kind,
                        name = self.asked.name,
                        reason,
                        "a request ended"
                    );
                    return Ok(Next::Ended(Timestamp::now()));
                }
                Err(error) => tracing::debug!(error, "an outcome is not recorded yet"),
            }
            sleep(pause).await;
        }
        Err("the outcome could not be recorded".to_owned())
    }

    /// Looks for the effect of a request that somebody has taken up.
    async fn find(&mut self, wish: &Wish) -> Result<Outcome, Unclear> {
        let label = format!("{REQUEST_LABEL}={}", self.asked.uid);
        let done = match wish {
            Wish::Container(spec) => {
                let found = self.engine.labelled_container(&label).await;
                match found.map_err(|error| chain(&error))? {
                    Some(id) => return self.start(spec, id).await,
                    None => false,
                }
            }
            Wish::Volume(_) => {
                let found = self.engine.labelled_volume(&label).await;
                self.status.name = found.map_err(|error| chain(&error))?;
                self.status.name.is_some()
            }
            Wish::Pull(spec) => {
                let found = self.engine.image(&spec.repo_tag).await;
                let found = found.map_err(|error| chain(&error))?;
                found.is_some_and(|image| self.status.before.as_ref() != Some(&image.id))
            }
            Wish::Push(_) | Wish::Scan => false,
        };
        if done {
            return Ok(Ok(()));
        }
        Ok(Err((
            reason::INTERRUPTED,
            "It was taken up and then interrupted; whether it had an effect is not known. Make it again if it had none"
                .to_owned(),
        )))
    }

    async fn container(&mut self, spec: &ContainerCreateSpec) -> Result<Outcome, Unclear> {
        if let Err(refused) = known_namespace(spec.namespace.as_deref()) {
            return Ok(Err(refused));
        }
        self.in_progress("Making the container").await?;
        match self
            .engine
            .create_container(&new_container(spec, &self.asked.uid))
            .await
        {
            Ok(id) => self.start(spec, id).await,
            Err(error) => unclear_or(error, reason::CREATE_FAILED),
        }
    }

    /// What follows when the container is there.
    async fn start(&mut self, spec: &ContainerCreateSpec, id: String) -> Result<Outcome, Unclear> {
        self.status.name = Some(id.clone());
        if spec.state == "created" {
            return Ok(Ok(()));
        }
        let container = self.engine.container(&id).await;
        let container = container.map_err(|error| chain(&error))?;
        // Whatever has run already was started, and may have been stopped since.
        if container.is_none_or(|container| container.state != "created") {
            return Ok(Ok(()));
        }
        match self.engine.act(&id, engine::Action::Start).await {
            Ok(()) => Ok(Ok(())),
            Err(error) => unclear_or(error, reason::START_FAILED),
        }
    }

    async fn volume(&mut self, spec: &VolumeCreateSpec) -> Result<Outcome, Unclear> {
        if let Err(refused) = known_namespace(spec.namespace.as_deref()) {
            return Ok(Err(refused));
        }
        self.in_progress("Making the volume").await?;
        let mut labels = spec.labels.clone();
        labels.insert(REQUEST_LABEL.to_owned(), self.asked.uid.clone());
        let new = NewVolume {
            name: spec.name.clone(),
            driver: spec.driver.clone(),
            labels,
            options: spec.options.clone(),
        };
        match self.engine.create_volume(&new).await {
            // The engine gives back what is there already, whoever made it.
            Ok(made) if made.labels.get(REQUEST_LABEL) == Some(&self.asked.uid) => {
                self.status.name = Some(made.name);
                Ok(Ok(()))
            }
            Ok(other) => Ok(Err((
                reason::CREATE_FAILED,
                format!("a volume named {:?} exists already", other.name),
            ))),
            Err(error) => unclear_or(error, reason::CREATE_FAILED),
        }
    }

    async fn transfer(
        &mut self,
        begun: engine::Result<Transfer>,
        failed: &'static str,
    ) -> Result<Outcome, Unclear> {
        let mut transfer = match begun {
            Ok(transfer) => transfer,
            Err(error) => return Ok(Err((failed, chain(&error)))),
        };
        let mut tracker = Tracker::default();
        let mut told = Instant::now();
        loop {
            let progress = Some(tracker.progress());
            let is_new = tracker.has_begun() && self.status.progress != progress;
            tokio::select! {
                step = transfer.next() => match step {
                    None => break,
                    Some(Ok(step)) => tracker.step(step),
                    Some(Err(error)) => {
                        self.status.progress = progress;
                        return Ok(Err((failed, chain(&error))));
                    }
                },
                // Also when nothing more comes for a while.
                () = sleep_until(told + TELL), if is_new => {
                    told = Instant::now();
                    self.status.progress = progress;
                    match self.asked.write(self.client, &self.status).await {
                        Ok(true) => {}
                        // Nobody wants it any more; dropping the transfer cancels it.
                        Ok(false) => return Err("the request is gone".to_owned()),
                        Err(error) => {
                            tracing::debug!(%error, "progress is told later");
                            self.status.progress = None;
                        }
                    }
                }
            }
        }
        self.status.progress = Some(tracker.progress());
        self.status.digest = tracker.digest;
        Ok(Ok(()))
    }
}

/// A lost connection says nothing about the outcome; anything else is one.
fn unclear_or(error: engine::Error, reason: &'static str) -> Result<Outcome, Unclear> {
    if error.is_connection() {
        return Err(chain(&error));
    }
    Ok(Err((reason, chain(&error))))
}

fn known_namespace(namespace: Option<&str>) -> Outcome {
    match namespace {
        None | Some("" | MOBY) => Ok(()),
        Some(other) => Err((
            reason::NAMESPACE_NOT_FOUND,
            format!("the engine has no namespace {other:?}; it has {MOBY:?}"),
        )),
    }
}

fn new_container(spec: &ContainerCreateSpec, uid: &str) -> NewContainer {
    let mut labels = spec.labels.clone();
    labels.insert(REQUEST_LABEL.to_owned(), uid.to_owned());
    let env = spec
        .env
        .iter()
        .map(|variable| format!("{}={}", variable.name, variable.value));
    let ports = spec.ports.iter().map(|port| engine::Port {
        name: port.name.clone(),
        bindings: port
            .bindings
            .iter()
            .map(|binding| engine::Binding {
                host_ip: binding.host_ip.clone(),
                host_port: binding.host_port.clone(),
            })
            .collect(),
    });
    let mounts = spec.mounts.iter().map(|mount| engine::Mount {
        destination: mount.destination.clone(),
        kind: mount.r#type.clone(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        read_only: mount.read_only,
    });
    NewContainer {
        name: spec.name.clone(),
        image: spec.image.clone(),
        path: spec.path.clone(),
        args: spec.args.clone(),
        env: env.collect(),
        ports: ports.collect(),
        labels,
        mounts: mounts.collect(),
        restart_policy: spec.restart_policy.clone().unwrap_or_default(),
    }
}

fn reason_of(status: &RequestStatus) -> Option<&str> {
    let found = condition::find(&status.conditions, condition::COMPLETE)?;
    Some(&found.reason)
}

/// Sets both conditions: which one is true once it ended, or neither.
fn set(
    status: &mut RequestStatus,
    generation: i64,
    ended: Option<bool>,
    reason: &str,
    message: &str,
) {
    let condition = |kind: &str, holds: bool| {
        let old = condition::find(&status.conditions, kind);
        Condition::new(old, kind, holds, reason, message, generation)
    };
    status.conditions = vec![
        condition(condition::COMPLETE, ended == Some(true)),
        condition(condition::FAILED, ended == Some(false)),
    ];
}

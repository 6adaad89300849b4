//! Random histories: an engine and its users do what they like, everything fails and
//! crashes in between, and in the end the mirrors are what the engine is.
//!
//! What must hold of each history:
//! 1. When the faults are over, mirrors and engine agree, object by object; where no event
//!    was lost, without a comparison of everything.
//! 2. The engine was told to remove only what a user removed in the API.
//! 3. What a user removed in the API is gone from the engine.
//! 4. Each accepted action has its outcome; a restart was carried out exactly as often as
//!    it was asked for, the others no more often than users gave a reason for.
//! 5. A mirror is the same object as long as what it shows is there, and goes after it.
//! 6. Each request that was made ends, and the engine was asked at most once for it; what
//!    it says was made, was made.
//!
//! A history that breaks one of them is made smaller and printed. `RDD_HISTORIES=500` in
//! the environment of the test plays that many, from `RDD_HISTORY` on.

mod history;
mod identities;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rdd_api::{
    Container, ContainerCreateRequest, DesiredState, Image, ImagePullRequest, RequestStatus,
    Volume, VolumeCreateRequest, condition, names,
};
use rdd_engine::{self as engine, Engine as _, Faults};
use rdd_store::Store as _;
use serde_json::json;

use self::history::{Fault, Step, history};
use self::identities::{Identities, key};
use crate::requests::{Kind, ask, holds};
use crate::story::{Story, container, eventually, id, image, verified_story, volume};

/// How often everything is compared: lost events are found by nothing else.
const EVERY: Duration = Duration::from_millis(400);

/// A comparison that comes too late to be of any help.
const NEVER: Duration = Duration::from_secs(3600);

const HISTORIES: u64 = 16;

/// How many smaller histories are tried, and how long: one that breaks something often
/// does so by waiting in vain.
const ATTEMPTS: usize = 24;
const SHRINKING: Duration = Duration::from_secs(60);

/// How long a crash in the middle of an action waits for its moment.
const MOMENT: Duration = Duration::from_millis(300);

fn run_name(number: usize) -> String {
    format!("r{number}")
}

fn volume_name(number: usize) -> String {
    format!("v{number}")
}

fn request_name(number: usize) -> String {
    format!("request{number}")
}

/// What users asked for, and what was accepted.
struct Asked {
    identities: Identities,
    /// As the engine words its calls: `remove web`.
    removals: BTreeSet<String>,
    /// Containers and volumes that must be gone in the end.
    gone: BTreeSet<String>,
    /// By container: the actions that were accepted, or may have been.
    actions: BTreeMap<String, Vec<Action>>,
    /// By container: how often anybody else gave a reason to change its state.
    turns: BTreeMap<String, usize>,
    starts: usize,
}

struct Action {
    word: &'static str,
    /// Whether the answer told that it was accepted.
    certain: bool,
}

impl Asked {
    fn new(story: &Story) -> Self {
        Self {
            identities: Identities::begin(&story.lab.store, &story.engine),
            removals: BTreeSet::new(),
            gone: BTreeSet::new(),
            actions: BTreeMap::new(),
            turns: BTreeMap::new(),
            starts: 0,
        }
    }

    fn turned(&mut self, id: String) {
        *self.turns.entry(id).or_default() += 1;
    }
}

async fn play(story: &mut Story, steps: &[Step]) -> Asked {
    let mut asked = Asked::new(story);
    // Nobody touches what requests are about but they.
    story.engine.put_image(image("base", &["base:1"]), "tag");
    let mut dice = StdRng::seed_from_u64(steps.len() as u64);
    for step in steps {
        let before = story.lab.store.revision();
        one(story, step, &mut asked).await;
        asked.identities.look(before, &story.engine);
        // Between any two steps, sometimes: races need both near and far.
        if dice.random_bool(0.5) {
            tokio::time::sleep(Duration::from_micros(dice.random_range(0..8_000))).await;
        }
    }
    story.engine.fault(|faults| *faults = Faults::default());
    story.lab.store.fail_one_in(0);
    asked
}

async fn one(story: &mut Story, step: &Step, asked: &mut Asked) {
    let engine = story.engine.clone();
    let there = |name: &str| engine.look(&id(name));
    match step {
        Step::Run(number) => {
            let name = run_name(*number);
            let run = engine::Container {
                image: format!("sha256:{}", number % 4),
                mounts: vec![engine::Mount {
                    destination: "/data".to_owned(),
                    kind: "volume".to_owned(),
                    name: volume_name(number / 2),
                    ..engine::Mount::default()
                }],
                ..container(&name, "running")
            };
            engine.put_container(run, "start");
        }
        Step::Turn(number, state) => {
            if let Some(mut found) = there(&run_name(*number)) {
                (*state).clone_into(&mut found.state);
                asked.turned(found.id.clone());
                engine.put_container(found, "die");
            }
        }
        Step::Remove(number) => engine.take_container(&id(&run_name(*number))),
        Step::Tag(number, tag) => {
            let tag = format!("box:{tag}");
            engine.put_image(image(&number.to_string(), &[tag.as_str()]), "tag");
        }
        Step::RemoveImage(number) => engine.take_image(&format!("sha256:{number}")),
        Step::MakeVolume(number) => engine.put_volume(volume(&volume_name(*number))),
        Step::RemoveVolume(number) => engine.take_volume(&volume_name(*number)),
        Step::Delete(number) => {
            let id = id(&run_name(*number));
            // An unclear answer may be an accepted one.
            let deleted = story
                .api::<Container>()
                .delete(&id, &DeleteParams::default())
                .await;
            if !is_refused(&deleted) {
                asked.removals.insert(format!("remove {id}"));
                asked.identities.removed(&id);
            }
            if waits_for_the_engine(deleted.ok().and_then(|deleted| deleted.left())) {
                asked.gone.insert(id);
            }
        }
        Step::DeleteImage(tag) => {
            let tag = format!("box:{tag}");
            for mirror in story.seen::<Image>().await {
                let status = mirror.status.clone().unwrap_or_default();
                if status.repo_tag.as_ref() != Some(&tag) {
                    continue;
                }
                asked.removals.insert(format!("remove {tag}"));
                let ids = (0..4).map(|number| format!("sha256:{number}"));
                asked.identities.tag_removed(&tag, ids);
                let api = story.api::<Image>();
                drop(
                    api.delete(&mirror.name_any(), &DeleteParams::default())
                        .await,
                );
            }
        }
        Step::DeleteVolume(number) => {
            let name = volume_name(*number);
            for mirror in story.seen::<Volume>().await {
                if mirror
                    .status
                    .as_ref()
                    .is_none_or(|status| status.name != name)
                {
                    continue;
                }
                asked.removals.insert(format!("remove {name}"));
                asked.identities.removed(&mirror.name_any());
                let api = story.api::<Volume>();
                let deleted = api
                    .delete(&mirror.name_any(), &DeleteParams::default())
                    .await;
                if waits_for_the_engine(deleted.ok().and_then(|deleted| deleted.left())) {
                    asked.gone.insert(name.clone());
                }
            }
        }
        Step::Act(number, action) => act(story, *number, action, asked).await,
        Step::Want(number, state) => {
            asked.turned(id(&run_name(*number)));
            drop(
                story
                    .patch(&run_name(*number), json!({"spec": {"state": state}}))
                    .await,
            );
        }
        Step::StripFinalizer(number) => {
            let patch = json!({"metadata": {"finalizers": null}});
            let stripped = story.patch(&run_name(*number), patch).await;
            if !is_refused(&stripped) {
                // Whoever does this takes the engine out of it; the mirror that comes
                // back is another one.
                asked.gone.remove(&id(&run_name(*number)));
                asked.identities.removed(&id(&run_name(*number)));
            }
        }
        // An unclear answer may be an accepted one; what exists in the end is judged.
        Step::AskForContainer(number) => {
            let spec = json!({"image": "base:1", "name": request_name(*number)});
            drop(ask::<ContainerCreateRequest>(story, &request_name(*number), spec).await);
        }
        Step::AskForVolume(number) => {
            let spec = json!({"name": request_name(*number)});
            drop(ask::<VolumeCreateRequest>(story, &request_name(*number), spec).await);
        }
        Step::AskForImage(number) => {
            let tag = format!("{}:1", request_name(*number));
            engine.offer(&tag, &format!("sha256:pulled{number}"));
            let spec = json!({"repoTag": tag});
            drop(ask::<ImagePullRequest>(story, &request_name(*number), spec).await);
        }
        Step::Fault(Fault::FailWrites) => story.lab.store.fail_one_write_in(4),
        Step::Fault(fault) => engine.fault(|faults| match fault {
            Fault::Down => faults.down = true,
            Fault::LoseEvents => faults.lose_one_event_in = 3,
            Fault::RepeatEvents => faults.repeat_events = true,
            Fault::ReverseEvents => faults.hold_events = true,
            Fault::FailInspections => faults.fail_one_inspection_in = 4,
            Fault::RefuseRemovals(status) => faults.refuse_removals = Some(*status),
            Fault::ClockAhead(seconds) => faults.clock_ahead = *seconds,
            Fault::Hang => faults.hang = true,
            Fault::LoseAnswers => faults.lose_answers = true,
            Fault::RefuseCreations => faults.refuse_creations = Some(500),
            Fault::FailWrites => {}
        }),
        Step::Mend => {
            engine.fault(|faults| *faults = Faults::default());
            story.lab.store.fail_one_in(0);
        }
        Step::Cut => engine.cut_streams(),
        Step::Unreadable(number) => engine.fault(|faults| {
            let image = format!("sha256:{}", number % 4);
            let names = [id(&run_name(*number)), image, volume_name(*number)];
            faults.unreadable.extend(names);
        }),
        Step::Crash => crash(story, asked).await,
        Step::ActAndCrash(number, action, writes) => {
            let store = &story.lab.store;
            // The first of them is the user's own.
            let place = key("containers", &id(&run_name(*number)));
            store.fail_writes_below(&place, writes + 1);
            act(story, *number, action, asked).await;
            let end = Instant::now() + MOMENT;
            while !store.has_failed_there() && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            crash(story, asked).await;
            story.lab.store.heal();
        }
    }
}

async fn act(story: &Story, number: usize, action: &'static str, asked: &mut Asked) {
    let name = run_name(number);
    let annotation = json!({"metadata": {"annotations": {names::ACTION_ANNOTATION: action}}});
    let accepted = story.patch(&name, annotation).await;
    if !is_refused(&accepted) {
        let certain = accepted.is_ok();
        let of_it = asked.actions.entry(id(&name)).or_default();
        of_it.push(Action {
            word: action,
            certain,
        });
    }
}

async fn crash(story: &mut Story, asked: &mut Asked) {
    // The lease cannot be taken over while its writes fail.
    story.lab.store.fail_one_in(0);
    drop(story.manager.take());
    asked.starts += 1;
    let start = format!("start-again-{}", asked.starts);
    story.lab.begin(&start).await;
    let started = rdd_manager::start(story.lab.options("*", &start)).await;
    story.manager = Some(started.expect("it starts"));
}

/// Whether a deletion was accepted and goes on in the engine.
fn waits_for_the_engine<K: kube::Resource>(left: Option<K>) -> bool {
    let Some(object) = left else {
        return false;
    };
    object
        .finalizers()
        .iter()
        .any(|name| name == names::MIRROR_FINALIZER)
}

/// Whether the server has said no, rather than failed.
fn is_refused<T>(answer: &kube::Result<T>) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.code < 500)
}

impl Story {
    /// What there is, as far as the server answers.
    async fn seen<K>(&self) -> Vec<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let list = self
            .api::<K>()
            .list(&kube::api::ListParams::default())
            .await;
        list.map(|list| list.items).unwrap_or_default()
    }
}

/// Everything of one side, in words that both sides share.
pub(crate) async fn shown(story: &Story) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for mirror in story.all::<Container>().await {
        let status = mirror.status.clone().unwrap_or_default();
        let state = serde_json::to_value(status.status).expect("a word");
        let asked = mirror.annotations().get(names::ACTION_ANNOTATION);
        let open = status
            .last_action
            .is_some_and(|last| last.state == "InProgress");
        let whole = mirror.finalizers() == [names::MIRROR_FINALIZER];
        all.insert(format!(
            "{} {}{}{}{}{}",
            mirror.name_any(),
            state.as_str().unwrap_or_default(),
            if asked.is_some() { ", still asked" } else { "" },
            if open { ", still in progress" } else { "" },
            if whole { "" } else { ", without finalizer" },
            if mirror.metadata.deletion_timestamp.is_some() {
                ", still going"
            } else {
                ""
            },
        ));
    }
    for mirror in story.all::<Image>().await {
        let status = mirror.status.unwrap_or_default();
        all.insert(format!(
            "{} {} {}",
            status.id,
            status.repo_tag.unwrap_or_default(),
            if status.in_use { "used" } else { "free" }
        ));
    }
    for mirror in story.all::<Volume>().await {
        let status = mirror.status.unwrap_or_default();
        all.insert(format!(
            "{} {}",
            status.name,
            if status.in_use { "used" } else { "free" }
        ));
    }
    all
}

pub(crate) async fn there(engine: &engine::Fake) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let (mut images, mut volumes) = (BTreeSet::new(), BTreeSet::new());
    for id in engine.containers().await.expect("it is up") {
        let Some(found) = engine.look(&id) else {
            continue;
        };
        images.insert(found.image);
        volumes.extend(found.mounts.into_iter().map(|mount| mount.name));
        all.insert(format!("{id} {}", found.state));
    }
    for image in engine.images().await.expect("it is up") {
        let used = if images.contains(&image.id) {
            "used"
        } else {
            "free"
        };
        if image.tags.is_empty() {
            all.insert(format!("{}  {used}", image.id));
        }
        for tag in image.tags {
            all.insert(format!("{} {tag} {used}", image.id));
        }
    }
    for volume in engine.volumes().await.expect("it is up") {
        let used = if volumes.contains(&volume.name) {
            "used"
        } else {
            "free"
        };
        all.insert(format!("{} {used}", volume.name));
    }
    all
}

/// Plays a history and tells what it breaks.
async fn judge(mut story: Story, steps: &[Step]) {
    let asked = play(&mut story, steps).await;
    // Standing wishes may act again at any time; nobody wants anything any more.
    for mirror in story.all::<Container>().await {
        if mirror.spec.state != DesiredState::Unknown {
            let patch = json!({"spec": {"state": "unknown"}});
            drop(
                story
                    .api::<Container>()
                    .patch(
                        &mirror.name_any(),
                        &PatchParams::default(),
                        &Patch::Merge(&patch),
                    )
                    .await,
            );
        }
    }
    eventually("mirrors and engine agree", || async {
        let (shown, there) = (shown(&story).await, there(&story.engine).await);
        let only_shown: Vec<_> = shown.difference(&there).cloned().collect();
        let only_there: Vec<_> = there.difference(&shown).cloned().collect();
        let gone: Vec<_> = asked
            .gone
            .iter()
            .filter(|name| there.iter().any(|line| line.starts_with(&format!("{name} "))))
            .cloned()
            .collect();
        if only_shown.is_empty() && only_there.is_empty() && gone.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "only in the API: {only_shown:?}; only in the engine: {only_there:?}; asked to go: {gone:?}"
            ))
        }
    })
    .await;
    let calls = story.calls();
    for call in calls.iter().filter(|call| call.starts_with("remove ")) {
        assert!(asked.removals.contains(call), "nobody asked to {call}");
    }
    actions_hold(&story, &asked).await;
    requests_hold(&story).await;
    asked.identities.judge(&story.lab.store).await;
}

async fn actions_hold(story: &Story, asked: &Asked) {
    let effects = story.engine.effects();
    let mirrors = story.all::<Container>().await;
    for (id, actions) in &asked.actions {
        let turns = asked.turns.get(id).copied().unwrap_or_default();
        let times = |word: &str| {
            effects
                .iter()
                .filter(|effect| **effect == format!("{word} {id}"))
                .count()
        };
        let accepted = |word: &str| actions.iter().filter(|action| action.word == word).count();
        let restarts = times("restart");
        assert!(
            restarts <= accepted("restart"),
            "{id} was restarted {restarts} times, {} were asked for",
            accepted("restart")
        );
        for word in ["start", "stop", "pause", "unpause"] {
            // One that is taken up again after a crash, and meets what somebody else did
            // meanwhile, does it again.
            let reasons = actions.len() + turns;
            let times = times(word);
            assert!(
                times <= reasons,
                "{id}: {times} times {word}, for {reasons} reasons"
            );
        }
        let is_same =
            |mirror: &&Container| mirror.name_any() == *id && asked.identities.is_first(id);
        let (Some(mirror), Some(last)) = (mirrors.iter().find(is_same), actions.last()) else {
            continue;
        };
        let status = mirror
            .status
            .as_ref()
            .and_then(|status| status.last_action.clone());
        if !actions.iter().any(|action| action.certain) {
            continue;
        }
        let outcome = status.unwrap_or_else(|| panic!("{id} has no outcome"));
        if !last.certain {
            continue;
        }
        assert_eq!(outcome.action, last.word, "{id}: {outcome:?}");
        if last.word == "restart" && outcome.state == "Succeeded" && actions.len() == 1 {
            assert_eq!(restarts, 1, "{id} says that it was restarted");
        }
        assert!(
            outcome.state == "Succeeded" || last.word != "restart",
            "{id}: {outcome:?}"
        );
    }
}

/// Waits until the requests of a kind have ended; their names, and what came of them.
async fn ended<K: Kind>(story: &Story) -> Vec<(String, RequestStatus)> {
    eventually("every request ends", || async {
        let all = story.all::<K>().await;
        let status = |request: &K| request.status().cloned().unwrap_or_default();
        let is_over = |request: &K| {
            let status = status(request);
            holds(&status, condition::COMPLETE) != holds(&status, condition::FAILED)
        };
        match all.iter().find(|request| !is_over(request)) {
            None => Ok(all
                .iter()
                .map(|request| (request.name_any(), status(request)))
                .collect()),
            Some(open) => Err((open.name_any(), status(open))),
        }
    })
    .await
}

async fn requests_hold(story: &Story) {
    let containers = ended::<ContainerCreateRequest>(story).await;
    let volumes = ended::<VolumeCreateRequest>(story).await;
    let images = ended::<ImagePullRequest>(story).await;
    let calls = story.calls();
    let once = |call: String| {
        let times = calls.iter().filter(|made| **made == call).count();
        assert!(times <= 1, "{times} times: {call}");
    };
    let is_done = |status: &RequestStatus| holds(status, condition::COMPLETE);
    for (name, status) in &containers {
        once(format!("create {name}"));
        let made = status.name.as_ref().and_then(|id| story.engine.look(id));
        if is_done(status) {
            let made = made.unwrap_or_else(|| panic!("{name} is Complete and was not made"));
            assert_eq!(
                (made.name, made.state),
                (format!("/{name}"), "running".to_owned())
            );
        }
    }
    for (name, status) in &volumes {
        once(format!("create volume {name}"));
        let made = story.engine.volume(name).await.expect("it is up");
        assert!(
            made.is_some() || !is_done(status),
            "{name} is Complete and was not made"
        );
    }
    for (name, status) in &images {
        once(format!("pull {name}:1"));
        let made = story
            .engine
            .image(&format!("{name}:1"))
            .await
            .expect("it is up");
        assert!(
            made.is_some() || !is_done(status),
            "{name} is Complete and was not fetched"
        );
    }
}

/// Whether a history breaks anything; what it says if so.
fn breaks(steps: &[Step]) -> Option<String> {
    let steps = steps.to_vec();
    let broken = Arc::new(Mutex::new(None));
    let said = Arc::clone(&broken);
    let loses_events = steps.contains(&Step::Fault(Fault::LoseEvents));
    let every = if loses_events { EVERY } else { NEVER };
    verified_story(every, move |story| async move {
        let judged = AssertUnwindSafe(judge(story, &steps)).catch_unwind().await;
        if let Err(panic) = judged {
            let text = panic.downcast_ref::<String>().cloned();
            *said.lock() = Some(text.unwrap_or_else(|| "it panicked".to_owned()));
        }
    });
    broken.lock().take()
}

/// Leaves out what is not needed to break it.
fn smaller(mut steps: Vec<Step>) -> Vec<Step> {
    let mut attempts = 0;
    let end = Instant::now() + SHRINKING;
    let goes_on = |attempts| attempts < ATTEMPTS && Instant::now() < end;
    let mut size = steps.len() / 2;
    while size > 0 && goes_on(attempts) {
        let mut start = 0;
        while start < steps.len() && goes_on(attempts) {
            let mut rest = steps.clone();
            rest.drain(start..(start + size).min(rest.len()));
            attempts += 1;
            if breaks(&rest).is_some() {
                steps = rest;
            } else {
                start += size;
            }
        }
        size /= 2;
    }
    steps
}

/// More of the same, when asked for.
fn asked(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "the test's own")]
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn whatever_happens_mirrors_and_engine_agree_in_the_end() {
    let (first, count) = (asked("RDD_HISTORY").unwrap_or(0), asked("RDD_HISTORIES"));
    for seed in first..first + count.unwrap_or(HISTORIES) {
        let steps = history(seed);
        if let Some(broken) = breaks(&steps) {
            let small = smaller(steps);
            panic!("history {seed} breaks a promise: {broken}\na smaller one: {small:#?}");
        }
    }
}

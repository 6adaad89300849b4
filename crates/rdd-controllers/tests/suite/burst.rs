//! Many containers of a real dockerd, and more events than it remembers while nobody
//! listens.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use rdd_api::{Container, ContainerState, condition, names};
use rdd_controllers::{DockerEngines, World};
use rdd_engine::{Docker, Endpoint, Engine as _, NewContainer};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::dockerd::Dockerd;
use crate::lab::{self, Lab};
use crate::story::{LIMIT, Story, eventually, id, story};

/// How many containers there are.
const MANY: usize = 500;

/// Creations at once.
const AT_ONCE: usize = 8;

/// Passes a socket on, until it is cut.
pub(crate) struct Line {
    path: PathBuf,
    target: PathBuf,
    passing: Option<AbortOnDropHandle<()>>,
}

impl Line {
    pub(crate) fn new(folder: &std::path::Path, target: &str) -> Self {
        let mut line = Self {
            path: folder.join("line.sock"),
            target: target.trim_start_matches("unix://").into(),
            passing: None,
        };
        line.mend();
        line
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    pub(crate) fn mend(&mut self) {
        let listener = UnixListener::bind(&self.path).expect("a socket");
        let target = self.target.clone();
        self.passing = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                let target = target.clone();
                passing.spawn(async move {
                    if let Ok(mut to) = UnixStream::connect(target).await {
                        // Either side may end it.
                        let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        })));
    }

    /// Ends every connection, and refuses new ones.
    pub(crate) fn cut(&mut self) {
        self.passing = None;
        std::fs::remove_file(&self.path).expect("it was there");
    }
}

async fn create(docker: &Docker, numbers: std::ops::Range<usize>) {
    let made = stream::iter(numbers).map(|number| async move {
        let new = NewContainer {
            name: Some(format!("c{number}")),
            image: "box:1".to_owned(),
            path: Some("/bin/sh".to_owned()),
            ..NewContainer::default()
        };
        docker.create_container(&new).await.expect("it is made")
    });
    let all: Vec<String> = made.buffer_unordered(AT_ONCE).collect().await;
    assert!(!all.is_empty());
}

async fn remove(docker: &Docker, ids: Vec<String>) {
    let removed = stream::iter(ids).map(|id| async move { docker.remove_container(&id).await });
    let removed: Vec<_> = removed.buffer_unordered(AT_ONCE).collect().await;
    assert!(removed.iter().all(Result::is_ok));
}

/// Waits until mirrors and engine have the same containers.
async fn agree(lab: &Lab, docker: &Docker, count: usize) {
    let mirrors: Api<Container> = Api::namespaced(lab.client.clone(), "default");
    let there: BTreeSet<String> = docker
        .containers()
        .await
        .expect("a list")
        .into_iter()
        .collect();
    assert_eq!(there.len(), count);
    lab.eventually("mirrors and engine agree", || async {
        let list = mirrors.list(&ListParams::default()).await.ok()?;
        let complete = list.items.iter().all(|mirror| mirror.status.is_some());
        let shown: BTreeSet<String> = list.items.iter().map(ResourceExt::name_any).collect();
        (complete && shown == there).then_some(())
    })
    .await;
}

#[test]
fn many_containers_are_mirrored_also_after_more_events_than_docker_remembers() {
    lab::run(|mut lab| async move {
        let dockerd = Dockerd::start("burst");
        dockerd.import("box:1");
        let folder = tempfile::tempdir().expect("a folder");
        let mut line = Line::new(folder.path(), &dockerd.endpoint());
        lab.use_world(World::new(
            lab.machine.clone(),
            Arc::new(DockerEngines::default()),
        ));
        let manager = lab.start("*").await;
        let app = json!({"apiVersion": names::APP_API_VERSION, "kind": "App",
            "metadata": {"name": names::APP},
            "spec": {"running": true,
                "containerEngine": {"name": "moby", "endpoint": line.endpoint()}}});
        let params = PatchParams::apply("test").force();
        lab.apps()
            .patch(names::APP, &params, &Patch::Apply(&app))
            .await
            .expect("it is accepted");
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        let endpoint = Endpoint::parse(&dockerd.endpoint()).expect("an endpoint");
        let docker = Docker::connect(&endpoint).await.expect("it connects");

        create(&docker, 0..MANY).await;
        agree(&lab, &docker, MANY).await;
        let mirrors: Api<Container> = Api::namespaced(lab.client.clone(), "default");
        let first = docker.containers().await.expect("a list").remove(0);
        let before = mirrors.get(&first).await.expect("it is mirrored").uid();

        line.cut();
        let ready = condition::CONTAINER_ENGINE_READY;
        lab.app_says(ready, "False", "ConnectFailed").await;
        let gone = docker.containers().await.expect("a list");
        remove(&docker, gone[MANY - 200..].to_vec()).await;
        create(&docker, MANY..MANY + 150).await;
        let shown = mirrors.list(&ListParams::default()).await.expect("a list");
        assert_eq!(shown.items.len(), MANY, "a lost engine keeps every mirror");
        line.mend();
        lab.app_says(ready, "True", "Connected").await;
        agree(&lab, &docker, MANY - 50).await;
        let after = mirrors.get(&first).await.expect("it is mirrored").uid();
        assert_eq!(before, after);
        assert!(manager.stop().await.is_empty());
    });
}

/// Requests to the API so far, watches apart.
async fn requests(lab: &Lab) -> u64 {
    requests_with(lab, &["verb=\"WATCH\""], "").await
}

/// Requests to the API so far that have a label, and none of some others.
async fn requests_with(lab: &Lab, without: &[&str], label: &str) -> u64 {
    let request = http::Request::get("/metrics").body(Vec::new());
    let text = lab.client.request_text(request.expect("a request")).await;
    let text = text.expect("figures");
    let lines = text.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && line.contains(label)
            && !without.iter().any(|label| line.contains(label))
    });
    let count = |line: &str| line.rsplit_once(' ')?.1.parse::<u64>().ok();
    lines.filter_map(count).sum()
}

/// Events whose cost is measured together.
const EVENTS: usize = 20;

/// What they cost: looks at the engine, and requests to the API.
async fn cost(story: &Story, state: ContainerState) -> (usize, u64) {
    let word = format!("{state:?}").to_lowercase();
    let name = |number: usize| format!("one{number}");
    let mut shown =
        pin!(watcher(story.api::<Container>(), watcher::Config::default()).applied_objects());
    let before = (story.engine.inspections(), requests(&story.lab).await);
    for number in 0..EVENTS {
        let run = crate::story::container(&name(number), &word);
        story.engine.put_container(run, "start");
    }
    let mut missing: BTreeSet<String> = (0..EVENTS).map(|number| id(&name(number))).collect();
    let complete = async {
        while !missing.is_empty() {
            let mirror = shown.next().await.expect("it goes on");
            let mirror = mirror.expect("it is readable");
            let status = mirror.status.clone().unwrap_or_default();
            let running = condition::find(&status.conditions, "Running");
            let follows =
                running.is_some_and(|found| found.is_true() == (state == ContainerState::Running));
            if status.status == state && follows {
                missing.remove(&mirror.name_any());
            }
        }
    };
    let complete = timeout(LIMIT, complete).await;
    complete.expect("all are shown in time");
    let after = (story.engine.inspections(), requests(&story.lab).await);
    (after.0 - before.0, after.1 - before.1)
}

/// Containers of the first pass whose cost is counted.
const FIRST: usize = 300;

#[test]
fn a_first_pass_looks_once_at_each_container_and_writes_it_once() {
    story(|mut story| async move {
        story.end().await;
        for number in 0..FIRST {
            let run = crate::story::container(&format!("c{number}"), "running");
            story.engine.put_container(run, "start");
        }
        let asked = || async {
            // The test itself reads lists.
            let reads = ["verb=\"WATCH\"", "verb=\"LIST\""];
            requests_with(&story.lab, &reads, "resource=\"containers\"").await
        };
        let before = (story.engine.inspections(), asked().await);
        story.lab.begin("start-again").await;
        let started = rdd_manager::start(story.lab.options("*", "start-again")).await;
        story.manager = Some(started.expect("it starts"));
        eventually("all are mirrored, and their conditions follow", || async {
            let all = story.all::<Container>().await;
            let told = |mirror: &&Container| {
                let status = mirror.status.as_ref();
                status.is_some_and(|status| !status.conditions.is_empty())
            };
            let told = all.iter().filter(told).count();
            if told > FIRST { Ok(()) } else { Err(told) }
        })
        .await;
        let looks = story.engine.inspections() - before.0;
        let asked = asked().await - before.1;
        // Image, volume and the container that was there are looked at too.
        assert!(looks <= FIRST + 10, "{looks} looks");
        // The object, its state, and the conditions that follow, all at once.
        let writes = u64::try_from(FIRST).expect("small");
        assert!(asked <= writes + 10, "{asked} requests");
    });
}

#[test]
fn an_event_costs_the_same_with_many_containers() {
    story(|story| async move {
        let made = cost(&story, ContainerState::Running).await;
        let few = cost(&story, ContainerState::Exited).await;
        for number in 0..MANY {
            let run = crate::story::container(&format!("c{number}"), "running");
            story.engine.put_container(run, "start");
        }
        let settled = |mirror: &Container| {
            let status = mirror.status.as_ref();
            status.is_some_and(|status| !status.conditions.is_empty())
        };
        eventually("all are mirrored, and their conditions follow", || async {
            let all = story.all::<Container>().await;
            let done = all.iter().filter(|mirror| settled(mirror)).count();
            if done >= MANY + EVENTS {
                Ok(())
            } else {
                Err(done)
            }
        })
        .await;
        let many = cost(&story, ContainerState::Running).await;
        // One look each, and another where an event came during the first. One write each:
        // the state, with the conditions that follow. A few more for the App.
        let events = u64::try_from(EVENTS).expect("small");
        for (what, (looks, requests)) in [("made", made), ("few", few), ("many", many)] {
            assert!(looks <= 2 * EVENTS + 5, "{what}: {looks} looks");
            assert!(requests <= 2 * events + 10, "{what}: {requests} requests");
        }
    });
}

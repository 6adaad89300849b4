//! What each action, and each standing wish, does to a container in each state: one
//! table, for a real dockerd and for the fake that stands in for it elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use rdd_api::{Container, ContainerState, LastAction, condition, names};
use rdd_controllers::{DockerEngines, World};
use rdd_manager::Manager;
use serde_json::{Value, json};

use crate::dockerd::Dockerd;
use crate::lab::{self, Lab};
use crate::story;

/// An action, the state that it finds, the state that it leaves, and what a refusal says.
type Cell = (
    &'static str,
    ContainerState,
    ContainerState,
    Option<&'static str>,
);

use ContainerState::{Created, Exited, Paused, Restarting, Running};

const ACTIONS: [Cell; 20] = [
    ("start", Created, Running, None),
    ("start", Running, Running, None),
    (
        "start",
        Paused,
        Paused,
        Some("cannot start a paused container"),
    ),
    ("start", Exited, Running, None),
    ("stop", Created, Created, None),
    ("stop", Running, Exited, None),
    ("stop", Paused, Exited, None),
    ("stop", Exited, Exited, None),
    ("pause", Created, Created, Some("is not running")),
    ("pause", Running, Paused, None),
    ("pause", Paused, Paused, None),
    ("pause", Exited, Exited, Some("is not running")),
    ("unpause", Created, Created, Some("not running")),
    ("unpause", Running, Running, None),
    ("unpause", Paused, Running, None),
    ("unpause", Exited, Exited, Some("not running")),
    ("restart", Created, Running, None),
    ("restart", Running, Running, None),
    ("restart", Paused, Running, None),
    ("restart", Exited, Running, None),
];

/// Where dockerd starts a container that ends at once again and again, with growing pauses.
const ACTIONS_WHILE_RESTARTING: [Cell; 3] = [
    ("start", Restarting, Restarting, None),
    ("stop", Restarting, Exited, None),
    ("pause", Restarting, Restarting, Some("is restarting")),
];

/// A standing wish, the state that it finds, and the state that it leads to.
const WISHES: [(&str, ContainerState, ContainerState); 12] = [
    ("running", Created, Running),
    ("running", Running, Running),
    ("running", Paused, Running),
    ("running", Exited, Running),
    ("created", Created, Created),
    ("created", Running, Exited),
    ("created", Paused, Exited),
    ("created", Exited, Exited),
    ("unknown", Created, Created),
    ("unknown", Running, Running),
    ("unknown", Paused, Paused),
    ("unknown", Exited, Exited),
];

/// Where the containers are made.
enum Engine {
    Real(Dockerd),
    Fake(rdd_engine::Fake),
}

impl Engine {
    /// Makes a container and brings it into this state; its identifier.
    fn container(&self, name: &str, state: ContainerState) -> String {
        let dockerd = match self {
            Self::Fake(fake) => {
                let word = format!("{state:?}").to_lowercase();
                fake.put_container(story::container(name, &word), "start");
                return story::id(name);
            }
            Self::Real(dockerd) => dockerd,
        };
        let make = |words: &[&str]| {
            let always = ["--net=none", "--stop-timeout=1", "--name", name];
            let words: Vec<&str> = words.iter().chain(&always).copied().collect();
            let command: &[&str] = if state == Restarting {
                &["box:1", "/bin/sh", "-c", "exit 1"]
            } else {
                const LOOP: &str = "trap 'exit 0' TERM; while true; do read -t 1 line; done";
                &["box:1", "/bin/sh", "-c", LOOP]
            };
            let words: Vec<&str> = words.iter().chain(command).copied().collect();
            dockerd.docker(&words)
        };
        match state {
            Created => make(&["create"]),
            Restarting => make(&["run", "-d", "--restart=always"]),
            _ => {
                let id = make(&["run", "-d"]);
                match state {
                    Paused => pause(dockerd, &id),
                    Exited => drop(dockerd.docker(&["stop", &id])),
                    _ => {}
                }
                id
            }
        }
    }
}

/// On a busy machine the runtime gives up freezing: not what the table is about.
const UNABLE: &str = "unable to freeze";

fn pause(dockerd: &Dockerd, id: &str) {
    let begin = Instant::now();
    while let Err(error) = dockerd.ask(&["pause", id]) {
        assert!(error.contains(UNABLE), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(60), "{error}");
    }
}

struct Table {
    lab: Lab,
    engine: Engine,
}

impl Table {
    fn api(&self) -> Api<Container> {
        Api::namespaced(self.lab.client.clone(), "default")
    }

    async fn find(&self, id: &str, what: &str, fits: impl Fn(&Container) -> bool) -> Container {
        self.lab
            .eventually(what, || async {
                let found = self.api().get_opt(id).await;
                found.expect("the server works").filter(&fits)
            })
            .await
    }

    async fn patch(&self, id: &str, patch: Value) {
        let patched = self
            .api()
            .patch(id, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.expect("it is accepted");
    }

    /// Asks for an action and waits for its outcome.
    async fn ask(&self, id: &str, action: &str, what: &str) -> LastAction {
        let annotation = json!({"metadata": {"annotations": {names::ACTION_ANNOTATION: action}}});
        self.patch(id, annotation).await;
        let mirror = self
            .find(id, what, |mirror| {
                let last = mirror
                    .status
                    .as_ref()
                    .and_then(|status| status.last_action.as_ref());
                let taken_away = !mirror.annotations().contains_key(names::ACTION_ANNOTATION);
                taken_away && last.is_some_and(|last| last.completed_at.is_some())
            })
            .await;
        let last = mirror.status.and_then(|status| status.last_action);
        last.expect("it was just seen")
    }

    async fn action(&self, id: &str, cell: &Cell) {
        let (action, from, to, refusal) = *cell;
        let what = format!("{action} in state {from:?}");
        self.find(id, &what, |mirror| state(mirror) == Some(from))
            .await;
        let mut last = self.ask(id, action, &what).await;
        while last
            .error
            .as_ref()
            .is_some_and(|error| error.contains(UNABLE))
        {
            last = self.ask(id, action, &what).await;
        }
        let error = last.error.unwrap_or_default();
        match refusal {
            None => assert_eq!(
                (last.state.as_str(), error.as_str()),
                ("Succeeded", ""),
                "{what}"
            ),
            Some(text) => {
                assert_eq!(last.state, "Failed", "{what}");
                assert!(error.contains(text), "{what}: {error}");
            }
        }
        self.find(id, &what, |mirror| state(mirror) == Some(to))
            .await;
    }

    async fn wish(&self, id: &str, wish: &str, from: ContainerState, to: ContainerState) {
        let what = format!("{wish} is wished in state {from:?}");
        self.find(id, &what, |mirror| state(mirror) == Some(from))
            .await;
        self.patch(id, json!({"spec": {"state": wish}})).await;
        self.find(id, &what, |mirror| state(mirror) == Some(to))
            .await;
    }
}

fn state(mirror: &Container) -> Option<ContainerState> {
    mirror.status.as_ref().map(|status| status.status)
}

async fn check(table: &Table, actions: &[Cell]) {
    let cells: Vec<(String, &Cell)> = actions
        .iter()
        .enumerate()
        .map(|(at, cell)| (table.engine.container(&format!("a{at}"), cell.1), cell))
        .collect();
    join_all(cells.iter().map(|(id, cell)| table.action(id, cell))).await;
    let cells: Vec<_> = WISHES
        .iter()
        .enumerate()
        .map(|(at, cell)| (table.engine.container(&format!("w{at}"), cell.1), cell))
        .collect();
    join_all(
        cells
            .iter()
            .map(|(id, (wish, from, to))| table.wish(id, wish, *from, *to)),
    )
    .await;
}

async fn begin(lab: &Lab, spec: Value) -> Manager {
    let manager = lab.start("*").await;
    let app = json!({"apiVersion": names::APP_API_VERSION, "kind": "App",
        "metadata": {"name": names::APP}, "spec": spec});
    let params = PatchParams::apply("test").force();
    let applied = lab
        .apps()
        .patch(names::APP, &params, &Patch::Apply(&app))
        .await;
    applied.expect("it is accepted");
    lab.app_says(condition::CONTAINER_ENGINE_READY, "True", "Connected")
        .await;
    manager
}

#[test]
fn a_real_engine_answers_every_action_and_wish_as_the_table_says() {
    lab::run(|mut lab| async move {
        let dockerd = Dockerd::start("verbs");
        dockerd.import("box:1");
        lab.use_world(World::new(
            lab.machine.clone(),
            Arc::new(DockerEngines::default()),
        ));
        let endpoint = dockerd.endpoint();
        let engine = json!({"name": "moby", "endpoint": endpoint});
        let manager = begin(&lab, json!({"running": true, "containerEngine": engine})).await;
        let table = Table {
            lab,
            engine: Engine::Real(dockerd),
        };
        check(&table, &ACTIONS).await;
        for (at, cell) in ACTIONS_WHILE_RESTARTING.iter().enumerate() {
            let id = table.engine.container(&format!("r{at}"), cell.1);
            // After some rounds the pause is far longer than an action takes.
            table
                .find(&id, "the engine gave it several tries", |mirror| {
                    let status = mirror.status.as_ref();
                    let tries = status.and_then(|status| status.restart_count);
                    tries >= Some(6) && state(mirror) == Some(Restarting)
                })
                .await;
            table.action(&id, cell).await;
        }
        assert!(manager.stop().await.is_empty());
    });
}

#[test]
fn the_fake_engine_answers_as_the_table_says() {
    lab::run(|lab| async move {
        let manager = begin(&lab, json!({"running": true})).await;
        let engine = Engine::Fake(lab.engine.clone());
        check(&Table { lab, engine }, &ACTIONS).await;
        assert!(manager.stop().await.is_empty());
    });
}

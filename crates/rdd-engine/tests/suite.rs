//! One suite over every engine: what the mirror relies on holds for Docker and for the
//! fake alike, so that a test on the fake says something about Docker.
//!
//! The Docker half starts a dockerd of its own; it needs root, docker.io and
//! busybox-static, and fails where they are missing.

#[path = "suite/dockerd.rs"]
mod dockerd;
#[path = "suite/podman.rs"]
mod podman;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use rdd_engine::{
    Action, Container, Docker, Endpoint, Engine, Error, Event, EventStream, Fake, Image, Kind,
    Volume,
};
use tokio::time::timeout;

use dockerd::Dockerd;
use podman::Podman;

/// The limit of anything that the suite waits for.
const LIMIT: Duration = Duration::from_secs(30);

/// The other side of an engine: somebody who uses it without us.
#[async_trait]
trait Outside: Send + Sync {
    /// Makes an image with this tag; the identifier.
    async fn image(&self, tag: &str) -> String;
    async fn tag(&self, id: &str, tag: &str);
    /// Creates a container without starting it; the identifier.
    async fn container(&self, name: &str, image: &str) -> String;
    async fn rename(&self, id: &str, name: &str);
    async fn remove(&self, id: &str);
    async fn volume(&self, name: &str);
}

/// Reads on until an event matches.
async fn until(stream: &mut EventStream, matches: impl Fn(&Event) -> bool) -> Event {
    let mut seen = Vec::new();
    let found = timeout(LIMIT, async {
        loop {
            let event = stream.next().await.expect("the stream stands");
            let event = event.expect("the stream is readable");
            if matches(&event) {
                return event;
            }
            seen.push(event);
        }
    });
    let found = found.await;
    found.unwrap_or_else(|_| panic!("the event does not come; what came: {seen:#?}"))
}

async fn state(engine: &dyn Engine, id: &str) -> String {
    let found = engine.container(id).await.expect("it can be inspected");
    found.expect("it exists").state
}

async fn suite(engine: &dyn Engine, outside: &dyn Outside) {
    let (info, moment) = engine.identify().await.expect("it answers");
    assert!(!info.id.is_empty());
    assert_eq!(&info, engine.info());
    let mut stream = engine.events(moment).await.expect("it has events");

    images(engine, outside, &mut stream).await;
    containers(engine, outside, &mut stream).await;
    volumes(engine, outside, &mut stream).await;

    // A stream from an earlier moment tells again what happened since.
    let mut replayed = engine.events(moment).await.expect("it has events");
    let event = until(&mut replayed, |event| {
        event.kind == Kind::Volume && event.id == "My_Volume.1"
    });
    assert!(event.await.at >= moment.expect("it has a clock"));
}

async fn images(engine: &dyn Engine, outside: &dyn Outside, stream: &mut EventStream) {
    let id = outside.image("localhost/box:1").await;
    until(stream, |event| event.kind == Kind::Image).await;
    outside.tag(&id, "registry.example:5000/a/box:2").await;
    until(stream, |event| {
        event.kind == Kind::Image && event.action == "tag" && event.id == id
    })
    .await;

    let by_id = engine.image(&id).await.expect("it answers").expect("it is");
    assert_eq!(
        by_id.tags,
        ["localhost/box:1", "registry.example:5000/a/box:2"]
    );
    let by_tag = engine.image("registry.example:5000/a/box:2").await;
    assert_eq!(by_tag.expect("it answers"), Some(by_id));
    let listed = engine.images().await.expect("it answers");
    let listed = listed.iter().find(|image| image.id == id);
    assert_eq!(listed.expect("it is listed").tags.len(), 2);
    assert_eq!(
        engine.image("nobody/none:9").await.expect("it answers"),
        None
    );

    engine
        .remove_image("registry.example:5000/a/box:2")
        .await
        .expect("a tag can go");
    until(stream, |event| event.action == "untag" && event.id == id).await;
    let left = engine.image(&id).await.expect("it answers").expect("it is");
    assert_eq!(left.tags, ["localhost/box:1"]);
    engine
        .remove_image("nobody/none:9")
        .await
        .expect("what is absent is removed already");
}

async fn containers(engine: &dyn Engine, outside: &dyn Outside, stream: &mut EventStream) {
    let id = outside.container("web", "localhost/box:1").await;
    until(stream, |event| event.id == id && event.action == "create").await;
    assert_eq!(state(engine, &id).await, "created");
    assert!(engine.containers().await.expect("a list").contains(&id));

    for (action, reached) in [
        (Action::Start, "running"),
        (Action::Start, "running"),
        (Action::Pause, "paused"),
        (Action::Pause, "paused"),
        (Action::Unpause, "running"),
        (Action::Unpause, "running"),
        (Action::Restart, "running"),
        (Action::Stop, "exited"),
        (Action::Stop, "exited"),
    ] {
        let acted = engine.act(&id, action).await;
        assert!(acted.is_ok(), "{action:?}: {acted:?}");
        assert_eq!(state(engine, &id).await, reached, "{action:?}");
    }
    for action in [Action::Pause, Action::Unpause] {
        let refused = engine.act(&id, action).await.expect_err("it does not run");
        assert!(matches!(refused, Error::Refused { .. }), "{refused:?}");
        assert!(refused.to_string().contains("not running"), "{refused}");
    }
    let unknown = engine.act(&"0".repeat(64), Action::Start).await;
    assert!(matches!(unknown, Err(Error::NotFound(_))), "{unknown:?}");

    outside.rename(&id, "renamed").await;
    until(stream, |event| event.id == id && event.action == "rename").await;
    let renamed = engine.container(&id).await.expect("it answers");
    assert_eq!(renamed.expect("it is").name, "/renamed");

    // An image in use stays; what uses it goes first, running or not.
    engine.act(&id, Action::Start).await.expect("it starts");
    let refused = engine.remove_image("localhost/box:1").await;
    assert!(
        matches!(refused, Err(Error::Refused { status: 409, .. })),
        "{refused:?}"
    );
    engine.remove_container(&id).await.expect("it goes");
    until(stream, |event| event.id == id && event.action == "destroy").await;
    assert_eq!(engine.container(&id).await.expect("it answers"), None);
    engine
        .remove_container(&id)
        .await
        .expect("what is absent is removed already");

    let other = outside.container("other", "localhost/box:1").await;
    outside.remove(&other).await;
    until(stream, |event| {
        event.id == other && event.action == "destroy"
    })
    .await;
}

async fn volumes(engine: &dyn Engine, outside: &dyn Outside, stream: &mut EventStream) {
    outside.volume("My_Volume.1").await;
    until(stream, |event| {
        event.kind == Kind::Volume && event.id == "My_Volume.1" && event.action == "create"
    })
    .await;
    let volume = engine.volume("My_Volume.1").await.expect("it answers");
    let volume = volume.expect("it is");
    assert_eq!(
        (volume.name.as_str(), volume.driver.as_str()),
        ("My_Volume.1", "local")
    );
    let names: BTreeSet<String> = engine
        .volumes()
        .await
        .expect("a list")
        .into_iter()
        .map(|volume| volume.name)
        .collect();
    assert!(names.contains("My_Volume.1"));
    engine.remove_volume("My_Volume.1").await.expect("it goes");
    until(stream, |event| {
        event.kind == Kind::Volume && event.action == "destroy"
    })
    .await;
    assert_eq!(
        engine.volume("My_Volume.1").await.expect("it answers"),
        None
    );
    engine
        .remove_volume("My_Volume.1")
        .await
        .expect("what is absent is removed already");
}

// === the fake ===

#[async_trait]
impl Outside for Fake {
    async fn image(&self, tag: &str) -> String {
        let id = format!("sha256:{}", "1".repeat(64));
        let image = Image {
            id: id.clone(),
            tags: vec![tag.to_owned()],
            ..Image::default()
        };
        self.put_image(image, "import");
        id
    }

    async fn tag(&self, id: &str, tag: &str) {
        let mut image = Engine::image(self, id).await.expect("up").expect("it is");
        image.tags.push(tag.to_owned());
        image.tags.sort();
        self.put_image(image, "tag");
    }

    async fn container(&self, name: &str, image: &str) -> String {
        let id = format!("{:0<64}", hex(name));
        let container = Container {
            id: id.clone(),
            name: format!("/{name}"),
            image: Engine::image(self, image)
                .await
                .expect("up")
                .expect("it is")
                .id,
            image_name: image.to_owned(),
            state: "created".to_owned(),
            ..Container::default()
        };
        self.put_container(container, "create");
        id
    }

    async fn rename(&self, id: &str, name: &str) {
        let found = Engine::container(self, id).await.expect("up");
        let mut container = found.expect("it is");
        container.name = format!("/{name}");
        self.put_container(container, "rename");
    }

    async fn remove(&self, id: &str) {
        self.take_container(id);
    }

    async fn volume(&self, name: &str) {
        self.put_volume(Volume {
            name: name.to_owned(),
            driver: "local".to_owned(),
            ..Volume::default()
        });
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_fake_behaves_like_an_engine() {
    let fake = Fake::new("fake");
    suite(&fake, &fake).await;
}

// === Docker ===

#[async_trait]
impl Outside for Dockerd {
    async fn image(&self, tag: &str) -> String {
        self.import(tag)
    }

    async fn tag(&self, id: &str, tag: &str) {
        self.docker(&["tag", id, tag]);
    }

    async fn container(&self, name: &str, image: &str) -> String {
        self.docker(&[
            "create",
            "--net=none",
            "--stop-timeout=1",
            "--name",
            name,
            image,
            "/bin/sh",
            "-c",
            "trap 'exit 0' TERM; while true; do read -t 1 line; done",
        ])
    }

    async fn rename(&self, id: &str, name: &str) {
        self.docker(&["rename", id, name]);
    }

    async fn remove(&self, id: &str) {
        self.docker(&["rm", id]);
    }

    async fn volume(&self, name: &str) {
        self.docker(&["volume", "create", name]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_behaves_like_an_engine() {
    let dockerd = Dockerd::start("suite");
    let endpoint = Endpoint::parse(&dockerd.endpoint()).expect("an endpoint");
    let engine = Docker::connect(&endpoint).await.expect("it connects");
    suite(&engine, &dockerd).await;

    // A tag moves to a new image, and the old one stays without.
    let (old, new) = (dockerd.import("moved:1"), dockerd.import_other("moved:1"));
    assert_ne!(old, new);
    let now = engine.image("moved:1").await.expect("it answers");
    assert_eq!(now.expect("it is").id, new);
    let left = engine.image(&old).await.expect("it answers");
    assert!(left.expect("it is").tags.iter().all(|tag| tag != "moved:1"));
}

// === Podman ===

#[async_trait]
impl Outside for Podman {
    async fn image(&self, tag: &str) -> String {
        self.import(tag)
    }

    async fn tag(&self, id: &str, tag: &str) {
        self.podman(&["tag", id, tag]);
    }

    async fn container(&self, name: &str, image: &str) -> String {
        self.podman(&[
            "create",
            "--net=none",
            "--stop-timeout=1",
            "--name",
            name,
            image,
            "/bin/sh",
            "-c",
            "trap 'exit 0' TERM; while true; do read -t 1 line; done",
        ])
    }

    async fn rename(&self, id: &str, name: &str) {
        self.podman(&["rename", id, name]);
    }

    async fn remove(&self, id: &str) {
        self.podman(&["rm", id]);
    }

    async fn volume(&self, name: &str) {
        self.podman(&["volume", "create", name]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_behaves_like_an_engine() {
    let podman = Podman::start();
    let endpoint = Endpoint::parse(&podman.endpoint()).expect("an endpoint");
    let engine = Docker::connect(&endpoint).await.expect("it connects");
    suite(&engine, &podman).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dockerd_that_goes_ends_the_stream_and_says_that_nobody_listens() {
    let mut dockerd = Dockerd::start("gone");
    let endpoint = Endpoint::parse(&dockerd.endpoint()).expect("an endpoint");
    let engine = Docker::connect(&endpoint).await.expect("it connects");
    let before = engine.info().clone();
    let mut stream = engine.events(None).await.expect("it has events");
    dockerd.stop();
    let ended = timeout(LIMIT, stream.next())
        .await
        .expect("it ends in time");
    assert!(ended.is_none_or(|event| event.is_err()));
    let refused = Docker::connect(&endpoint).await.expect_err("it is gone");
    assert!(matches!(refused, Error::NotListening { .. }), "{refused:?}");

    dockerd.start_again();
    let again = Docker::connect(&endpoint).await.expect("it connects again");
    assert_eq!(again.info(), &before, "it is the same engine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_engines_of_one_machine_have_two_identities() {
    let (one, other) = (Dockerd::start("one"), Dockerd::start("other"));
    let mut identities = BTreeSet::new();
    for dockerd in [&one, &other] {
        let endpoint = Endpoint::parse(&dockerd.endpoint()).expect("an endpoint");
        let engine = Docker::connect(&endpoint).await.expect("it connects");
        identities.insert(engine.info().identity());
    }
    assert_eq!(identities.len(), 2);
}

#[tokio::test]
async fn a_place_where_nobody_listens_is_named() {
    let endpoint = Endpoint::parse("unix:///nonexistent/docker.sock").expect("an endpoint");
    let refused = Docker::connect(&endpoint)
        .await
        .expect_err("nobody listens");
    assert!(matches!(refused, Error::NotListening { .. }), "{refused:?}");
    assert!(
        refused
            .to_string()
            .contains("unix:///nonexistent/docker.sock")
    );
}

#[tokio::test]
async fn a_host_that_ssh_cannot_reach_is_told_in_the_words_of_ssh() {
    let endpoint = Endpoint::parse("ssh://nobody@127.0.0.1:1").expect("an endpoint");
    let refused = Docker::connect(&endpoint)
        .await
        .expect_err("nobody listens");
    assert!(refused.is_connection(), "{refused:?}");
    let why = std::error::Error::source(&refused).map(ToString::to_string);
    assert!(
        why.as_ref().is_some_and(|why| why.contains("ssh")),
        "{why:?}"
    );
}

//! How far pulls of a real dockerd are, from a registry that holds layers back. Needs root,
//! docker.io, docker-registry and busybox-static.

use std::io::Write as _;
use std::net::TcpListener as Ports;
use std::process::{Child, Command, Stdio};

use futures::StreamExt as _;
use kube::api::{Api, WatchEvent, WatchParams};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rdd_api::{ImagePullRequest, Progress, condition};
use rdd_engine::split_reference;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::complete::begin;
use crate::dockerd::Dockerd;
use crate::lab::{self, Lab};
use crate::story::{LIMIT, eventually};

/// Layers that the registry holds back, and the size of each in bytes.
const LAYERS: usize = 3;
const LAYER: usize = 4 * 1024 * 1024;

/// What passes over a connection before it is held back.
const FREE: usize = LAYER / 2;

/// The shortest pause between two writes of progress.
const TELL: std::time::Duration = std::time::Duration::from_millis(500);

/// Debian's registry on a loopback port; ended when dropped.
struct Registry {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Registry {
    async fn start() -> Self {
        let port = {
            let free = Ports::bind("127.0.0.1:0").expect("a port");
            free.local_addr().expect("an address").port()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            folder.path().display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).expect("a file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self {
            child,
            port,
            _folder: folder,
        };
        let end = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < end, "the registry does not listen");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The way to a registry, which can be narrowed: then each connection carries so much of
/// its answers and no more until it is wide again.
struct Way {
    port: u16,
    narrow: watch::Sender<bool>,
    _passing: AbortOnDropHandle<()>,
}

impl Way {
    async fn to(registry: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (narrow, told) = watch::channel(false);
        let passing = tokio::spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((from, _)) = listener.accept().await {
                let told = told.clone();
                passing.spawn(async move {
                    if let Ok(to) = TcpStream::connect(("127.0.0.1", registry)).await {
                        pass(from, to, told).await;
                    }
                });
            }
        });
        Self {
            port,
            narrow,
            _passing: AbortOnDropHandle::new(passing),
        }
    }
}

async fn pass(from: TcpStream, to: TcpStream, mut narrow: watch::Receiver<bool>) {
    let (mut asks, mut hears) = from.into_split();
    let (mut answers, mut asked) = to.into_split();
    let asking = async move {
        // Either side may end it.
        let _ended = tokio::io::copy(&mut asks, &mut asked).await;
    };
    let answering = async move {
        let mut carried = 0;
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = answers.read(&mut buffer).await {
            if *narrow.borrow() {
                carried += count;
            }
            if carried > FREE && narrow.wait_for(|narrow| !narrow).await.is_err() {
                return;
            }
            if hears.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(asking, answering);
}

/// Makes an image of several layers that do not shrink when they are packed.
fn build(dockerd: &Dockerd, tag: &str) {
    dockerd.import("base:0");
    let folder = tempfile::tempdir().expect("a folder");
    let mut dice = StdRng::seed_from_u64(7);
    for layer in 0..LAYERS {
        let file = folder.path().join(format!("layer{layer}"));
        let mut bytes = vec![0_u8; LAYER];
        dice.fill(&mut bytes[..]);
        let mut written = std::fs::File::create(&file).expect("a file");
        written.write_all(&bytes).expect("it is written");
        let base = format!("base:{layer}");
        let id = dockerd.docker(&["create", &base, "/bin/sh"]);
        dockerd.docker(&["cp", &file.display().to_string(), &format!("{id}:/")]);
        dockerd.docker(&["commit", &id, &format!("base:{}", layer + 1)]);
        dockerd.docker(&["rm", &id]);
    }
    dockerd.docker(&["tag", &format!("base:{LAYERS}"), tag]);
}

async fn progress(lab: &Lab, wanted: impl Fn(&Progress) -> bool) -> Progress {
    let api: Api<ImagePullRequest> = Api::namespaced(lab.client.clone(), "default");
    eventually("the pull is so far", || async {
        let found = api.get("down").await.expect("it is there");
        let progress = found.status.and_then(|status| status.progress);
        match progress {
            Some(progress) if wanted(&progress) => Ok(progress),
            other => Err(other),
        }
    })
    .await
}

#[test]
fn a_pull_of_several_layers_tells_how_far_it_is_also_when_nothing_moves() {
    lab::run(|mut lab| async move {
        let dockerd = Dockerd::start("pulls");
        let registry = Registry::start().await;
        let way = Way::to(registry.port).await;
        let manager = begin(&mut lab, &dockerd.endpoint()).await;
        let tag = format!("127.0.0.1:{}/app:1", way.port);
        build(&dockerd, &tag);
        dockerd.docker(&["push", &tag]);
        dockerd.docker(&["rmi", &tag]);
        for layer in (0..=LAYERS).rev() {
            dockerd.docker(&["rmi", &format!("base:{layer}")]);
        }

        way.narrow.send_replace(true);
        let api: Api<ImagePullRequest> = Api::namespaced(lab.client.clone(), "default");
        let request = serde_json::from_value(json!({
            "apiVersion": "containers.rancherdesktop.io/v1alpha1", "kind": "ImagePullRequest",
            "metadata": {"name": "down"}, "spec": {"repoTag": tag}}));
        let request: ImagePullRequest = request.expect("a request");
        let begin = Instant::now();
        let made = api.create(&Default::default(), &request).await;
        let version = made.expect("it is accepted").metadata.resource_version;
        let mut changes = Box::pin(
            api.watch(&WatchParams::default(), &version.expect("a version"))
                .await
                .expect("it is watched"),
        );
        let big = i64::try_from(LAYERS * LAYER).expect("small");
        let held = progress(&lab, |progress| {
            progress.total_bytes >= big && progress.layers == 4 && progress.bytes > 0
        })
        .await;
        assert!(held.bytes < held.total_bytes, "{held:?}");
        assert!(held.layers_done < held.layers, "{held:?}");
        assert!(held.text.contains("/4 layers"), "{held:?}");

        way.narrow.send_replace(false);
        let mut told = Vec::new();
        let over = async {
            loop {
                let change = changes.next().await.expect("it goes on");
                let WatchEvent::Modified(request) = change.expect("it is readable") else {
                    continue;
                };
                let status = request.status.expect("it has begun");
                let ended = [condition::COMPLETE, condition::FAILED].iter().any(|kind| {
                    condition::find(&status.conditions, kind)
                        .is_some_and(rdd_api::Condition::is_true)
                });
                told.push(status);
                if ended {
                    return;
                }
            }
        };
        timeout(LIMIT, over).await.expect("it ends");
        let last = told.last().expect("it was told");
        assert!(
            condition::find(&last.conditions, condition::COMPLETE)
                .is_some_and(rdd_api::Condition::is_true),
            "{last:?}"
        );
        let end = last.progress.clone().expect("it is told");
        assert_eq!(end.text, "100%, 4/4 layers");
        assert_eq!(end.bytes, end.total_bytes);
        let bytes: Vec<i64> = told
            .iter()
            .filter_map(|status| Some(status.progress.as_ref()?.bytes))
            .collect();
        assert!(
            bytes.is_sorted(),
            "what was fetched stays fetched: {bytes:?}"
        );
        // As seldom as promised, and what begins and ends it.
        let most = begin.elapsed().as_millis() / TELL.as_millis() + 4;
        assert!(told.len() as u128 <= most, "{} writes", told.len());
        let (repository, _) = split_reference(&tag);
        assert!(dockerd.docker(&["images"]).contains(repository));
        assert!(manager.stop().await.is_empty());
    });
}

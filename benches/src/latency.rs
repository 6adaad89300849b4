//! How long after dockerd emitted an event a watcher of the API sees it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, WatchEvent, WatchParams};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::Figure;
use crate::lab::Lab;
use crate::statistics::Samples;

/// Events per measurement.
const EVENTS: usize = 100;

/// No event may take longer than this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Renames one container again and again while `counts` containers exist.
pub(crate) async fn engine_to_watch(lab: &Lab, counts: &[usize]) -> Result<Vec<Figure>> {
    lab.rdd(&["start"])?;
    let socket = lab.path("docker_socket")?;
    image(&socket)?;
    let mut figures = Vec::new();
    let mut existing = 0;
    for &count in counts {
        while existing < count {
            create(&socket, &format!("bench-{existing}")).await?;
            existing += 1;
        }
        figures.push(measure(lab, &socket, count).await?);
    }
    Ok(figures)
}

/// What a thousand changes of one container cost the daemon, with hundreds beside it.
pub(crate) async fn processor_time(lab: &Lab) -> Result<Figure> {
    const CHANGES: u32 = 1000;
    const BESIDE: usize = 200;
    lab.rdd(&["start"])?;
    let socket = lab.path("docker_socket")?;
    image(&socket)?;
    for number in 0..BESIDE {
        create(&socket, &format!("bench-{number}")).await?;
    }
    let kind = GroupVersionKind::gvk("containers.rancherdesktop.io", "v1alpha1", "Container");
    let resource = ApiResource::from_gvk_with_plural(&kind, "containers");
    let api: Api<DynamicObject> = Api::all_with(lab.client().await?, &resource);
    settle(&api, BESIDE).await?;
    let before = lab.processor_time()?;
    let mut last = "bench-0".to_owned();
    for change in 0..CHANGES {
        let next = format!("bench-x{change}");
        let path = format!("/containers/{last}/rename?name={next}");
        request(&socket, "POST", &path, None).await?;
        last = next;
    }
    let mut seen = Box::pin(api.watch(&WatchParams::default(), "0").await?);
    let shown = async {
        while let Some(event) = seen.next().await {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event?
                && object.data["status"]["name"] == last
            {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    let shown = timeout(PATIENCE, shown).await;
    shown.context("the last change did not show")??;
    let used = lab.processor_time()?.saturating_sub(before);
    Ok(Figure {
        name: format!("processor time for {CHANGES} engine events, {BESIDE} containers"),
        value: format!("{} ms", used.as_millis()),
        floor: "none".to_owned(),
        target: "<= 1 ms each",
    })
}

async fn measure(lab: &Lab, socket: &Path, count: usize) -> Result<Figure> {
    let client = lab.client().await?;
    let kind = GroupVersionKind::gvk("containers.rancherdesktop.io", "v1alpha1", "Container");
    let api: Api<DynamicObject> = Api::all_with(
        client,
        &ApiResource::from_gvk_with_plural(&kind, "containers"),
    );
    settle(&api, count).await?;
    let version = api
        .list(&kube::api::ListParams::default().limit(1))
        .await?
        .metadata
        .resource_version
        .context("the list has no revision")?;
    let mut seen = Box::pin(api.watch(&WatchParams::default(), &version).await?);
    let mut raw = events(socket).await?;

    let mut floor = Vec::new();
    let mut figure = Vec::new();
    for round in 0..EVENTS {
        let (from, to) = if round % 2 == 0 {
            ("bench-0", "bench-x")
        } else {
            ("bench-x", "bench-0")
        };
        request(
            socket,
            "POST",
            &format!("/containers/{from}/rename?name={to}"),
            None,
        )
        .await?;
        let emitted = timeout(PATIENCE, next_rename(&mut raw))
            .await
            .context("dockerd emitted no event")??;
        floor.push(since(emitted));
        let arrived = timeout(PATIENCE, async {
            while let Some(event) = seen.next().await {
                let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event? else {
                    continue;
                };
                if object.data["status"]["name"] == to {
                    return Ok(since(emitted));
                }
            }
            bail!("the watch ended")
        });
        figure.push(arrived.await.context("the watch saw no event")??);
    }
    Ok(Figure {
        name: format!("engine event to watch event, {count} containers"),
        value: Samples::new(figure).to_string(),
        floor: format!("dockerd's own stream: {}", Samples::new(floor)),
        target: "p50 <= 3 ms, p99 <= 15 ms, flat",
    })
}

async fn settle(api: &Api<DynamicObject>, count: usize) -> Result<()> {
    let mut seen: HashMap<String, bool> = HashMap::new();
    let mut watch = Box::pin(api.watch(&WatchParams::default(), "0").await?);
    let all = async {
        while let Some(event) = watch.next().await {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event? {
                let named = object.data["status"]["name"].is_string();
                seen.insert(object.metadata.name.unwrap_or_default(), named);
                if seen.values().filter(|named| **named).count() >= count {
                    return Ok(());
                }
            }
        }
        bail!("the watch ended before {count} containers were mirrored")
    };
    timeout(Duration::from_secs(120), all)
        .await
        .with_context(|| format!("{count} containers were not mirrored in time"))?
}

fn since(nanoseconds: u64) -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(nanoseconds))
}

fn image(socket: &Path) -> Result<()> {
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    std::fs::create_dir(folder.path().join("bin")).context("failed to make a folder")?;
    std::fs::copy("/bin/busybox", folder.path().join("bin/sh"))
        .context("failed to copy busybox")?;
    let line = format!(
        "tar -C {} -c . | docker -H unix://{} import - bench:latest",
        folder.path().display(),
        socket.display()
    );
    let output = Command::new("sh")
        .args(["-c", &line])
        .output()
        .context("failed to run sh")?;
    ensure!(
        output.status.success(),
        "failed to import an image: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

async fn create(socket: &Path, name: &str) -> Result<()> {
    let body = serde_json::json!({"Image": "bench:latest", "Cmd": ["/bin/sh"]}).to_string();
    request(
        socket,
        "POST",
        &format!("/containers/create?name={name}"),
        Some(&body),
    )
    .await
}

async fn request(socket: &Path, method: &str, path: &str, body: Option<&str>) -> Result<()> {
    let mut stream = UnixStream::connect(socket)
        .await
        .context("failed to reach dockerd")?;
    let body = body.unwrap_or_default();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream
        .write_all(text.as_bytes())
        .await
        .context("failed to ask dockerd")?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .context("failed to read dockerd's answer")?;
    ensure!(
        answer.starts_with("HTTP/1.1 2"),
        "dockerd refused {method} {path}: {answer}"
    );
    Ok(())
}

async fn events(socket: &Path) -> Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(PathBuf::from(socket))
        .await
        .context("failed to reach dockerd")?;
    stream
        .write_all(b"GET /events HTTP/1.1\r\nHost: docker\r\n\r\n")
        .await
        .context("failed to ask for events")?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        ensure!(
            reader.read_line(&mut line).await? > 0,
            "dockerd closed the event stream"
        );
    }
    Ok(reader)
}

/// The time in nanoseconds at which dockerd emitted the next rename.
async fn next_rename(reader: &mut BufReader<UnixStream>) -> Result<u64> {
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(
            reader.read_line(&mut line).await? > 0,
            "dockerd closed the event stream"
        );
        // Lines between the events are chunk sizes of the transfer encoding.
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line.trim()) else {
            continue;
        };
        if event["Action"] == "rename" {
            return event["timeNano"]
                .as_u64()
                .context("an event without a time");
        }
    }
}

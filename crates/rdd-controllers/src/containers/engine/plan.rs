//! What a mirror should be: pure functions from the engine's words to ours.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use rdd_api::names::MOBY;
use rdd_api::{
    Binding, Container, ContainerState, ContainerStatus, Image, ImageStatus, Mount, Network, Port,
    Volume, VolumeStatus,
};
use rdd_engine as engine;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Labels by which compose marks what it made.
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";

/// The name of an image's mirror under one of its tags, or without any.
pub(super) fn image_name(id: &str, tag: Option<&str>) -> String {
    let mut hash = Sha256::new();
    hash.update(id.as_bytes());
    if let Some(tag) = tag {
        hash.update([0]);
        hash.update(tag.as_bytes());
    }
    format!("img-{}", hex::encode(hash.finalize()))
}

/// The name of a volume's mirror.
pub(super) fn volume_name(name: &str) -> String {
    format!("vol-{}", hex::encode(Sha256::digest(name.as_bytes())))
}

/// The value of the label that marks an engine's mirrors: as much of its own word as a
/// label can hold, and a hash of its whole identity.
pub(super) fn engine_label(info: &engine::EngineInfo) -> String {
    /// A label holds 63 characters; a dash and eight digits follow.
    const WORD_MAX: usize = 54;
    let letter = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    let word: String = info.id.chars().map(letter).take(WORD_MAX).collect();
    let hash = hex::encode(Sha256::digest(info.identity().as_bytes()));
    format!("{word}-{}", &hash[..8])
        .trim_start_matches('-')
        .to_owned()
}

/// Splits `/ns/name` into the engine's namespace and the name; moby's own has no prefix.
pub(super) fn split_name(name: &str) -> (&str, &str) {
    let name = name.strip_prefix('/').unwrap_or(name);
    name.split_once('/').unwrap_or((MOBY, name))
}

/// What a container's mirror should say.
pub(super) fn container_status(container: &engine::Container) -> ContainerStatus {
    let (namespace, name) = split_name(&container.name);
    let number = |value: i64| i32::try_from(value).ok();
    let label = |name: &str| container.labels.get(name).cloned().unwrap_or_default();
    ContainerStatus {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        path: container.path.clone(),
        args: container.args.clone(),
        image: container.image.clone(),
        image_name: container.image_name.clone(),
        command: command(container),
        ports: container.ports.iter().map(port).collect(),
        ports_text: ports_text(&container.ports),
        labels: container.labels.clone(),
        status: state(&container.state),
        state_text: state_text(container),
        health: container.health.clone(),
        pid: number(container.pid),
        exit_code: number(container.exit_code),
        error: container.error.clone(),
        oom_killed: Some(container.oom_killed),
        restart_count: number(container.restart_count),
        restart_policy: container.restart_policy.clone(),
        mounts: container.mounts.iter().map(mount).collect(),
        networks: container.networks.iter().map(network).collect(),
        compose_project: label(COMPOSE_PROJECT),
        compose_service: label(COMPOSE_SERVICE),
        created_at: container.created_at.clone(),
        started_at: container.started_at.clone(),
        finished_at: container.finished_at.clone(),
        conditions: Vec::new(),
        last_action: None,
    }
}

/// What an image's mirror should say.
fn image_status(image: &engine::Image, tag: Option<&str>, in_use: bool) -> ImageStatus {
    ImageStatus {
        namespace: MOBY.to_owned(),
        id: image.id.clone(),
        repo_tag: tag.map(str::to_owned),
        repo_digests: image.digests.clone(),
        created_at: image.created_at.clone(),
        architecture: image.architecture.clone(),
        os: image.os.clone(),
        size: image.size,
        size_text: size_text(image.size),
        in_use,
        labels: image.labels.clone(),
    }
}

/// What a volume's mirror should say.
pub(super) fn volume_status(
    volume: &engine::Volume,
    in_use: bool,
    size: Option<i64>,
) -> VolumeStatus {
    VolumeStatus {
        name: volume.name.clone(),
        namespace: MOBY.to_owned(),
        created_at: volume.created_at.clone(),
        driver: volume.driver.clone(),
        mountpoint: volume.mountpoint.clone(),
        scope: volume.scope.clone(),
        labels: volume.labels.clone(),
        options: volume.options.clone(),
        in_use,
        size,
        size_text: size.map(size_text).unwrap_or_default(),
    }
}

/// The mirrors that an image should have: one per tag, or one without.
pub(super) fn image_mirrors(image: &engine::Image, in_use: bool) -> Vec<(String, ImageStatus)> {
    if image.tags.is_empty() {
        return vec![(
            image_name(&image.id, None),
            image_status(image, None, in_use),
        )];
    }
    let mirror = |tag: &String| {
        (
            image_name(&image.id, Some(tag)),
            image_status(image, Some(tag), in_use),
        )
    };
    image.tags.iter().map(mirror).collect()
}

/// Whether a container's mirror says this already; what others own in it does not count.
pub(super) fn container_stands(mirror: &Container, wanted: &ContainerStatus) -> bool {
    mirror.status.as_ref().is_some_and(|status| {
        let mut ours = status.clone();
        ours.conditions.clear();
        ours.last_action = None;
        ours == *wanted
    })
}

/// Whether an image's mirror says this already.
pub(super) fn image_stands(mirror: &Image, wanted: &ImageStatus) -> bool {
    mirror.status.as_ref() == Some(wanted)
}

/// Whether a volume's mirror says this already.
pub(super) fn volume_stands(mirror: &Volume, wanted: &VolumeStatus) -> bool {
    mirror.status.as_ref() == Some(wanted)
}

fn state(word: &str) -> ContainerState {
    /// Words that were logged: each once, however often the engine says it.
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let state = serde_json::from_value(Value::from(word)).unwrap_or_default();
    if state == ContainerState::Unknown && SAID.lock().insert(word.to_owned()) {
        tracing::warn!(word, "the engine reports a state that is not known");
    }
    state
}

fn port(port: &engine::Port) -> Port {
    let binding = |binding: &engine::Binding| Binding {
        host_ip: binding.host_ip.clone(),
        host_port: binding.host_port.clone(),
    };
    Port {
        name: port.name.clone(),
        bindings: port.bindings.iter().map(binding).collect(),
    }
}

fn mount(mount: &engine::Mount) -> Mount {
    Mount {
        destination: mount.destination.clone(),
        r#type: mount.kind.clone(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        read_only: mount.read_only,
    }
}

fn network(network: &engine::Network) -> Network {
    Network {
        name: network.name.clone(),
        ip_address: network.ip_address.clone(),
        ipv6_address: network.ipv6_address.clone(),
    }
}

/// The engine's word, and what the exit code says where there is one.
fn state_text(container: &engine::Container) -> String {
    let word = &container.state;
    if !matches!(word.as_str(), "exited" | "dead" | "restarting") {
        return word.clone();
    }
    let memory = if container.oom_killed { ", OOM" } else { "" };
    format!("{word} ({}{memory})", container.exit_code)
}

/// A number of bytes as Docker shows it: three digits and a unit of thousands.
fn size_text(bytes: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    // Three digits are shown: what a float leaves out is none of them.
    let mut size = bytes.max(0) as f64;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let digits = match size {
        _ if unit == 0 => 0,
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{size:.digits$}{}", UNITS[unit])
}

/// A run of published ports: as many of the host as of the container, side by side.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Published<'port> {
    /// Empty for every address.
    address: &'port str,
    protocol: &'port str,
    container: u16,
    host: u16,
    /// How many more there are.
    more: u16,
}

/// Published ports as `docker ps` shows them: each host port once, runs as ranges.
fn ports_text(ports: &[engine::Port]) -> String {
    let mut all = BTreeSet::new();
    for port in ports {
        let (number, protocol) = port.name.split_once('/').unwrap_or((&port.name, "tcp"));
        for binding in &port.bindings {
            let everywhere = matches!(binding.host_ip.as_str(), "" | "0.0.0.0" | "::");
            // Nothing else is a port.
            let (Ok(container), Ok(host)) = (number.parse(), binding.host_port.parse()) else {
                continue;
            };
            all.insert(Published {
                address: if everywhere { "" } else { &binding.host_ip },
                protocol,
                container,
                host,
                more: 0,
            });
        }
    }
    let mut runs: Vec<Published<'_>> = Vec::new();
    for port in all {
        let next = runs.last_mut().filter(|run| {
            let distance = run.more + 1;
            (run.address, run.protocol) == (port.address, port.protocol)
                && run.container.checked_add(distance) == Some(port.container)
                && run.host.checked_add(distance) == Some(port.host)
        });
        match next {
            Some(run) => run.more += 1,
            None => runs.push(port),
        }
    }
    let range = |first: u16, more: u16| match more {
        0 => first.to_string(),
        more => format!("{first}-{}", u32::from(first) + u32::from(more)),
    };
    let texts = runs.iter().map(|run| {
        let separator = if run.address.is_empty() { "" } else { ":" };
        format!(
            "{}{separator}{}->{}/{}",
            run.address,
            range(run.host, run.more),
            range(run.container, run.more),
            run.protocol
        )
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// The command line for people, quoted where blanks would mislead.
fn command(container: &engine::Container) -> String {
    let words = std::iter::once(&container.path).chain(&container.args);
    let quoted = words.filter(|word| !word.is_empty()).map(|word| {
        if word.contains(char::is_whitespace) {
            format!("{word:?}")
        } else {
            word.clone()
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_the_first_slash_behind_the_leading_one() {
        for (name, wanted) in [
            ("/web", ("moby", "web")),
            ("web", ("moby", "web")),
            ("/ns/a/b", ("ns", "a/b")),
            ("", ("moby", "")),
        ] {
            assert_eq!(split_name(name), wanted, "{name}");
        }
    }

    #[test]
    fn mirror_names_are_hashes_of_what_they_stand_for() {
        assert_eq!(
            volume_name("My_Volume"),
            format!("vol-{}", hex::encode(Sha256::digest(b"My_Volume")))
        );
        assert_eq!(
            image_name("sha256:1", Some("busybox:latest")),
            format!(
                "img-{}",
                hex::encode(Sha256::digest(b"sha256:1\0busybox:latest"))
            )
        );
        assert_ne!(
            image_name("sha256:1", None),
            image_name("sha256:1", Some(""))
        );
    }

    #[test]
    fn an_image_has_one_mirror_per_tag_or_one_without() {
        let mut image = engine::Image {
            id: "sha256:1".into(),
            tags: vec!["a:1".into(), "b:1".into()],
            ..engine::Image::default()
        };
        assert_eq!(image_mirrors(&image, false).len(), 2);
        image.tags.clear();
        let mirrors = image_mirrors(&image, true);
        assert_eq!(mirrors.len(), 1);
        assert_eq!(mirrors[0].1.repo_tag, None);
        assert!(mirrors[0].1.in_use);
    }

    #[test]
    fn engine_identities_become_labels() {
        let label = |id: &str, root: &str| {
            engine_label(&engine::EngineInfo {
                id: id.to_owned(),
                data_root: root.to_owned(),
                ..engine::EngineInfo::default()
            })
        };
        assert!(label("7TRN:IPZB:QYBB", "/a").starts_with("7TRN-IPZB-QYBB-"));
        assert_ne!(label("7TRN:IPZB:QYBB", "/a"), label("7TRN:IPZB:QYBB", "/b"));
        for id in ["", "::", "ä", &"a".repeat(100)] {
            let label = label(id, "/a");
            assert!((1..=63).contains(&label.len()), "{label}");
            let ends = [label.chars().next(), label.chars().last()];
            let fits = |end: &Option<char>| end.is_some_and(|end| end.is_ascii_alphanumeric());
            assert!(ends.iter().all(fits), "{label}");
        }
    }

    #[test]
    fn published_ports_read_like_docker_ps() {
        let binding = |ip: &str, port: &str| engine::Binding {
            host_ip: ip.into(),
            host_port: port.into(),
        };
        let port = |name: &str, bindings: &[(&str, &str)]| engine::Port {
            name: name.to_owned(),
            bindings: bindings
                .iter()
                .map(|(ip, port)| binding(ip, port))
                .collect(),
        };
        let ports = [
            port("53/udp", &[]),
            port("80/tcp", &[("0.0.0.0", "8080"), ("::", "8080")]),
            port("81/tcp", &[("127.0.0.1", "8081")]),
        ];
        assert_eq!(ports_text(&ports), "8080->80/tcp, 127.0.0.1:8081->81/tcp");
        let ports = [
            port("10000/tcp", &[("", "10000")]),
            port("443/udp", &[("", "10002")]),
            port("9998/tcp", &[("", "9998"), ("", "7000")]),
            port("9999/tcp", &[("", "9999")]),
            port("65535/tcp", &[("fd00::1", "65535")]),
            port("odd", &[("", "1"), ("", "")]),
        ];
        assert_eq!(
            ports_text(&ports),
            "7000->9998/tcp, 9998-10000->9998-10000/tcp, 10002->443/udp, fd00::1:65535->65535/tcp"
        );
    }

    #[test]
    fn sizes_read_like_those_of_docker() {
        for (bytes, text) in [
            (-1, "0B"),
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (1_982_256, "1.98MB"),
            (19_822_560, "19.8MB"),
            (198_225_600, "198MB"),
            (999_600_000, "1.00GB"),
            (i64::MAX, "9.22EB"),
        ] {
            assert_eq!(size_text(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn who_ended_shows_how() {
        let text = |state: &str, exit_code: i64, oom_killed: bool| {
            state_text(&engine::Container {
                state: state.to_owned(),
                exit_code,
                oom_killed,
                ..engine::Container::default()
            })
        };
        assert_eq!(text("running", 0, false), "running");
        assert_eq!(text("exited", 0, false), "exited (0)");
        assert_eq!(text("exited", 137, true), "exited (137, OOM)");
        assert_eq!(text("restarting", 1, false), "restarting (1)");
    }

    #[test]
    fn unknown_state_words_become_unknown() {
        assert_eq!(state("running"), ContainerState::Running);
        assert_eq!(state("hibernating"), ContainerState::Unknown);
        assert_eq!(state(""), ContainerState::Unknown);
    }
}

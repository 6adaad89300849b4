//! From the engine's answers to our objects. Anything may be missing or null.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::engine::{Event, Kind, Moment};
use crate::object::{Binding, Container, Image, ImageSummary, Mount, Network, Port, Volume};

/// What the engine says about an image without tags in older versions.
const NONE: &str = "<none>:<none>";

pub(super) fn container(value: &Value) -> Container {
    let (state, config, network) = (&value["State"], &value["Config"], &value["NetworkSettings"]);
    Container {
        id: text(&value["Id"]),
        name: text(&value["Name"]),
        path: text(&value["Path"]),
        args: texts(&value["Args"]),
        image: text(&value["Image"]),
        image_name: text(&config["Image"]),
        ports: ports(&network["Ports"]),
        labels: map(&config["Labels"]),
        state: text(&state["Status"]),
        health: match text(&state["Health"]["Status"]) {
            none if none == "none" => String::new(),
            health => health,
        },
        pid: state["Pid"].as_i64().unwrap_or_default(),
        exit_code: state["ExitCode"].as_i64().unwrap_or_default(),
        error: text(&state["Error"]),
        oom_killed: state["OOMKilled"].as_bool().unwrap_or_default(),
        tty: config["Tty"].as_bool().unwrap_or_default(),
        restart_count: value["RestartCount"].as_i64().unwrap_or_default(),
        restart_policy: restart_policy(&value["HostConfig"]["RestartPolicy"]),
        mounts: mounts(&value["Mounts"]),
        networks: networks(&network["Networks"]),
        created_at: time(&value["Created"]),
        started_at: time(&state["StartedAt"]),
        finished_at: time(&state["FinishedAt"]),
    }
}

pub(super) fn image_summary(value: &Value) -> ImageSummary {
    ImageSummary {
        id: text(&value["Id"]),
        tags: tags(&value["RepoTags"]),
    }
}

pub(super) fn image(value: &Value) -> Image {
    let mut digests = texts(&value["RepoDigests"]);
    digests.sort();
    Image {
        id: text(&value["Id"]),
        tags: tags(&value["RepoTags"]),
        digests,
        created_at: time(&value["Created"]),
        architecture: text(&value["Architecture"]),
        os: text(&value["Os"]),
        size: value["Size"].as_i64().unwrap_or_default(),
        labels: map(&value["Config"]["Labels"]),
    }
}

pub(super) fn volume(value: &Value) -> Volume {
    Volume {
        name: text(&value["Name"]),
        driver: text(&value["Driver"]),
        mountpoint: text(&value["Mountpoint"]),
        scope: text(&value["Scope"]),
        created_at: time(&value["CreatedAt"]),
        labels: map(&value["Labels"]),
        options: map(&value["Options"]),
    }
}

/// Whether this is an image's identifier without the name of its hash.
fn is_digest(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `None` for events about other things. Podman's words are turned into Docker's. What
/// joins a network or leaves it is a container.
pub(super) fn event(value: &Value) -> Option<Event> {
    let actor = &value["Actor"];
    let seconds = || value["time"].as_i64().unwrap_or_default() * 1_000_000_000;
    let at = Moment(value["timeNano"].as_i64().unwrap_or_else(seconds));
    let kind = match value["Type"].as_str()? {
        "container" => Kind::Container,
        "image" => Kind::Image,
        "volume" => Kind::Volume,
        "network" => {
            let id = actor["Attributes"]["container"].as_str();
            return Some(Event {
                kind: Kind::Container,
                id: id.filter(|id| !id.is_empty())?.to_owned(),
                tag: None,
                action: text(&value["Action"]),
                at,
            });
        }
        _ => return None,
    };
    // Podman names volumes among the attributes only.
    let id = actor["ID"].as_str().filter(|id| !id.is_empty());
    let id = id.or_else(|| actor["Attributes"]["name"].as_str())?;
    Some(Event {
        kind,
        id: match kind {
            Kind::Image if is_digest(id) => format!("sha256:{id}"),
            _ => id.to_owned(),
        },
        tag: tag_of(kind, actor),
        action: match (kind, value["Action"].as_str().unwrap_or_default()) {
            (Kind::Container | Kind::Volume, "remove") => "destroy".to_owned(),
            (Kind::Image, "remove") => "delete".to_owned(),
            (_, action) => action.to_owned(),
        },
        at,
    })
}

/// Docker names the tag, and where there is none the image again.
fn tag_of(kind: Kind, actor: &Value) -> Option<String> {
    let name = actor["Attributes"]["name"].as_str()?;
    let tells = kind == Kind::Image
        && !name.is_empty()
        && actor["ID"] != name
        && !is_digest(name.trim_start_matches("sha256:"));
    tells.then(|| name.to_owned())
}

pub(super) fn moment(text: &str) -> Option<Moment> {
    let time: Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(Moment)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

fn tags(value: &Value) -> Vec<String> {
    let mut tags = texts(value);
    tags.retain(|tag| tag != NONE);
    tags.sort();
    tags.dedup();
    tags
}

fn map(value: &Value) -> BTreeMap<String, String> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Whole seconds; the zero time of Go means that there is none.
fn time(value: &Value) -> Option<String> {
    let time: Timestamp = value.as_str()?.parse().ok()?;
    let text = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    (!text.starts_with("0001-01-01")).then_some(text)
}

fn ports(value: &Value) -> Vec<Port> {
    let mut ports: Vec<Port> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, bindings)| {
            let mut bindings: Vec<Binding> = bindings
                .as_array()
                .into_iter()
                .flatten()
                .map(|binding| Binding {
                    host_ip: text(&binding["HostIp"]),
                    host_port: text(&binding["HostPort"]),
                })
                .collect();
            bindings.sort();
            bindings.dedup();
            Port {
                name: name.clone(),
                bindings,
            }
        })
        .collect();
    ports.sort();
    ports
}

fn mounts(value: &Value) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|mount| Mount {
            destination: text(&mount["Destination"]),
            kind: text(&mount["Type"]),
            name: text(&mount["Name"]),
            source: text(&mount["Source"]),
            read_only: mount["RW"].as_bool() == Some(false),
        })
        .filter(|mount| !mount.destination.is_empty())
        .collect();
    mounts.sort();
    mounts.dedup_by(|one, other| one.destination == other.destination);
    mounts
}

/// As the Docker client writes it: `always`, `on-failure:3`.
fn restart_policy(value: &Value) -> String {
    let name = text(&value["Name"]);
    match value["MaximumRetryCount"].as_i64() {
        Some(most) if most > 0 => format!("{name}:{most}"),
        _ => name,
    }
}

fn networks(value: &Value) -> Vec<Network> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .map(|(name, network)| Network {
            name: name.clone(),
            ip_address: text(&network["IPAddress"]),
            ipv6_address: text(&network["GlobalIPv6Address"]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inspected() -> Value {
        json!({
            "Id": "abc", "Name": "/web", "Path": "sh", "Args": ["-c", "x"], "Image": "sha256:1",
            "Created": "2026-01-02T03:04:05.678901234Z", "RestartCount": 2,
            "State": {"Status": "running", "Pid": 7, "ExitCode": 0, "Error": "", "OOMKilled": false,
                "StartedAt": "2026-01-02T03:04:06.1Z", "FinishedAt": "0001-01-01T00:00:00Z",
                "Health": {"Status": "healthy"}},
            "Config": {"Image": "busybox", "Labels": {"a": "b"}},
            "HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}},
            "Mounts": [{"Type": "volume", "Name": "v", "Source": "/x", "Destination": "/data", "RW": false}],
            "NetworkSettings": {
                "Ports": {"80/tcp": [{"HostIp": "::", "HostPort": "8080"}, {"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": null},
                "Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": "fd00::2"}}}
        })
    }

    #[test]
    fn an_inspection_becomes_a_container() {
        let container = container(&inspected());
        assert_eq!(
            container.created_at.as_deref(),
            Some("2026-01-02T03:04:05Z")
        );
        assert_eq!(container.finished_at, None);
        assert_eq!(container.health, "healthy");
        let ports: Vec<(&str, usize)> = container
            .ports
            .iter()
            .map(|port| (port.name.as_str(), port.bindings.len()))
            .collect();
        assert_eq!(ports, [("53/udp", 0), ("80/tcp", 2)]);
        assert_eq!(container.ports[1].bindings[0].host_ip, "0.0.0.0");
        assert!(container.mounts[0].read_only);
        assert_eq!(container.restart_policy, "on-failure:3");
        let network = &container.networks[0];
        assert_eq!(network.ip_address, "172.17.0.2");
        assert_eq!(network.ipv6_address, "fd00::2");
    }

    /// Removes or nulls one place after the other, at every depth.
    fn shrunk(value: &Value) -> Vec<Value> {
        let Some(fields) = value.as_object() else {
            return vec![Value::Null];
        };
        let mut all = Vec::new();
        for (name, child) in fields {
            let mut without = value.clone();
            without.as_object_mut().expect("an object").remove(name);
            all.push(without);
            for smaller in shrunk(child) {
                let mut changed = value.clone();
                changed[name] = smaller;
                all.push(changed);
            }
        }
        all
    }

    #[test]
    fn anything_may_be_missing_or_null() {
        for answer in shrunk(&inspected()) {
            container(&answer);
            image(&answer);
            volume(&answer);
            event(&answer);
        }
        assert_eq!(container(&Value::Null), Container::default());
    }

    #[test]
    fn events_of_podman_read_like_those_of_docker() {
        let id = "a".repeat(64);
        let read = |kind: &str, action: &str| {
            let value = json!({"Type": kind, "Action": action, "Actor": {"ID": id}, "time": 1});
            let event = event(&value).expect("it is about an object");
            (event.id, event.action)
        };
        assert_eq!(
            read("container", "remove"),
            (id.clone(), "destroy".to_owned())
        );
        assert_eq!(
            read("image", "remove"),
            (format!("sha256:{id}"), "delete".to_owned())
        );
        assert_eq!(read("image", "tag").1, "tag");
    }

    #[test]
    fn an_event_about_a_tag_names_it() {
        let id = format!("sha256:{}", "a".repeat(64));
        for (actor, name, wanted) in [
            (id.as_str(), "box:1", Some("box:1")),
            (&id, &id, None),
            ("box:1", "box:1", None),
            (&id, "", None),
        ] {
            let value = json!({"Type": "image", "Action": "tag", "time": 1,
                "Actor": {"ID": actor, "Attributes": {"name": name}}});
            let event = event(&value).expect("it is about an image");
            assert_eq!(event.tag.as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn who_joins_a_network_is_a_container() {
        let joins = json!({"Type": "network", "Action": "connect", "time": 1,
            "Actor": {"ID": "n", "Attributes": {"container": "c", "name": "bridge"}}});
        let event = event(&joins).expect("it is about a container");
        assert_eq!((event.kind, event.id.as_str()), (Kind::Container, "c"));
        for made in [
            json!({"Type": "network", "Action": "create", "Actor": {"ID": "n", "Attributes": {"name": "x"}}}),
            json!({"Type": "network", "Action": "connect", "Actor": {"Attributes": {"container": ""}}}),
            json!({"Type": "daemon", "Action": "reload", "Actor": {"ID": "d"}}),
        ] {
            assert_eq!(super::event(&made), None, "{made}");
        }
    }

    #[test]
    fn tags_are_sorted_and_none_is_no_tag() {
        let image = image(&json!({"Id": "sha256:1", "RepoTags": ["b:1", "a:1", "<none>:<none>"]}));
        assert_eq!(image.tags, ["a:1", "b:1"]);
    }
}

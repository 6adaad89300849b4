//! The Docker Engine API.

mod convert;
mod create;
mod streams;
mod tls;
mod transfer;
mod transport;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::engine::{Action, Engine, EngineInfo, EventStream, Moment, optional};
use crate::error::{Error, Result};
use crate::object::{Container, Image, ImageSummary, Volume};
use crate::stream::{Exec, ExecOptions, LogOptions, Output};
use crate::wish::{Credentials, NewContainer, NewVolume, Transfer};
pub use tls::Certificates;
use transport::Transport;

/// The newest version of the API whose answers were checked.
const API_MAX: (u32, u32) = (1, 51);

/// The oldest version that has all that is needed.
const API_MIN: (u32, u32) = (1, 41);

/// The limit of calls that the engine answers from memory.
const CALL: Duration = Duration::from_secs(30);

/// The limit of a first word from the engine.
const HELLO: Duration = Duration::from_secs(5);

/// The limit of a sign of life, which even a busy engine has to spare.
const ALIVE: Duration = Duration::from_secs(15);

/// The limit of a look at every file of every volume.
const MEASURE: Duration = Duration::from_secs(300);

/// The limit of stops and removals, which wait for the container's own grace.
const STOP: Duration = Duration::from_secs(120);

/// A connected Docker engine, or one that speaks like it.
#[derive(Debug)]
pub struct Docker {
    transport: Transport,
    info: EngineInfo,
    is_podman: bool,
}

impl Docker {
    /// Connects, agrees on a version of the API, and learns who the engine is.
    ///
    /// # Errors
    /// Says what listens, or why nothing does.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self> {
        Self::connect_with(endpoint, None).await
    }

    /// The same, over TLS when the endpoint is a TCP port and there are certificates for it.
    ///
    /// # Errors
    /// Says what listens, or why nothing does; also when a port of another machine has no
    /// certificates, or its engine does not prove itself by them.
    pub async fn connect_with(
        endpoint: &Endpoint,
        certificates: Option<&Certificates>,
    ) -> Result<Self> {
        let mut transport = Transport::new(endpoint.clone(), certificates)?;
        let version = transport.get("/version", HELLO).await?;
        let api = negotiate(&version)?;
        transport.prefix = format!("/v{}.{}", api.0, api.1);
        let mut docker = Self {
            transport,
            info: EngineInfo::default(),
            is_podman: items(&version["Components"])
                .any(|component| component["Name"] == "Podman Engine"),
        };
        (docker.info, _) = docker.identify().await?;
        Ok(docker)
    }

    async fn remove(&self, path: &str) -> Result<()> {
        optional(self.transport.call(Method::DELETE, path, STOP).await).map(drop)
    }

    async fn state(&self, id: &str) -> Result<(bool, bool)> {
        let inspected = self
            .transport
            .get(&format!("/containers/{}/json", segment(id)), CALL)
            .await?;
        let flag = |name: &str| inspected["State"][name].as_bool().unwrap_or(false);
        Ok((flag("Running"), flag("Paused")))
    }
}

/// Asks whether an engine answers there at all.
///
/// # Errors
/// Says why none does.
pub async fn ping(endpoint: &Endpoint, limit: Duration) -> Result<()> {
    let transport = Transport::new(endpoint.clone(), None)?;
    transport.probe("/_ping", limit).await
}

#[async_trait]
impl Engine for Docker {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    async fn identify(&self) -> Result<(EngineInfo, Option<Moment>)> {
        let info = self.transport.get("/info", HELLO).await?;
        let text = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
        let moment = info["SystemTime"].as_str().and_then(convert::moment);
        let info = EngineInfo {
            // Podman makes one up for every answer; its machine and where it keeps its data
            // have to do.
            id: if self.is_podman {
                format!("podman-{}", text("Name"))
            } else {
                text("ID")
            },
            data_root: text("DockerRootDir"),
            version: text("ServerVersion"),
            api_version: self.transport.prefix.trim_start_matches("/v").to_owned(),
            endpoint: self.transport.endpoint().to_string(),
        };
        Ok((info, moment))
    }

    async fn ping(&self) -> Result<()> {
        self.transport.probe("/_ping", ALIVE).await
    }

    async fn events(&self, since: Option<Moment>) -> Result<EventStream> {
        let filters = escape(r#"{"type":["container","image","volume","network"]}"#);
        let since = since.map_or(String::new(), |moment| {
            format!(
                "&since={}.{:09}",
                moment.0 / 1_000_000_000,
                moment.0 % 1_000_000_000
            )
        });
        self.transport
            .events(&format!("/events?filters={filters}{since}"), CALL)
            .await
    }

    async fn containers(&self) -> Result<Vec<String>> {
        let list = self
            .transport
            .get("/containers/json?all=true", CALL)
            .await?;
        Ok(items(&list)
            .filter_map(|item| item["Id"].as_str().map(str::to_owned))
            .collect())
    }

    async fn images(&self) -> Result<Vec<ImageSummary>> {
        let list = self.transport.get("/images/json?all=true", CALL).await?;
        Ok(items(&list).map(convert::image_summary).collect())
    }

    async fn volumes(&self) -> Result<Vec<Volume>> {
        let list = self.transport.get("/volumes", CALL).await?;
        Ok(items(&list["Volumes"]).map(convert::volume).collect())
    }

    async fn container(&self, id: &str) -> Result<Option<Container>> {
        let path = format!("/containers/{}/json", segment(id));
        let found = optional(self.transport.look(&path, CALL).await)?;
        let found = found.as_ref().map(convert::container);
        named(found, |container| &container.id)
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let path = format!("/images/{}/json", reference_path(reference));
        let found = optional(self.transport.look(&path, CALL).await)?;
        named(found.as_ref().map(convert::image), |image| &image.id)
    }

    async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        let path = format!("/volumes/{}", segment(name));
        let found = optional(self.transport.look(&path, CALL).await)?;
        named(found.as_ref().map(convert::volume), |volume| &volume.name)
    }

    async fn volume_sizes(&self) -> Result<BTreeMap<String, i64>> {
        let usage = self
            .transport
            .get("/system/df?type=volume", MEASURE)
            .await?;
        let size = |item: &Value| {
            let name = item["Name"].as_str()?.to_owned();
            let size = item["UsageData"]["Size"].as_i64()?;
            // What the engine cannot measure has the size -1.
            (size >= 0).then_some((name, size))
        };
        Ok(items(&usage["Volumes"]).filter_map(size).collect())
    }

    async fn create_container(&self, new: &NewContainer) -> Result<String> {
        create::container(self, new).await
    }

    async fn labelled_container(&self, label: &str) -> Result<Option<String>> {
        create::labelled(self, "/containers/json?all=true", label, CALL).await
    }

    async fn create_volume(&self, new: &NewVolume) -> Result<Volume> {
        create::volume(self, new).await
    }

    async fn labelled_volume(&self, label: &str) -> Result<Option<String>> {
        create::labelled(self, "/volumes", label, CALL).await
    }

    async fn pull(&self, reference: &str, credentials: Option<&Credentials>) -> Result<Transfer> {
        transfer::pull(self, reference, credentials).await
    }

    async fn push(&self, reference: &str, credentials: Option<&Credentials>) -> Result<Transfer> {
        transfer::push(self, reference, credentials).await
    }

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<Output> {
        streams::logs(self, id, options).await
    }

    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<Exec> {
        streams::exec(self, id, options).await
    }

    async fn resize(&self, exec: &str, columns: u16, rows: u16) -> Result<()> {
        let path = format!("/exec/{}/resize?w={columns}&h={rows}", segment(exec));
        self.transport
            .call(Method::POST, &path, CALL)
            .await
            .map(drop)
    }

    async fn exit_code(&self, exec: &str) -> Result<Option<i64>> {
        let path = format!("/exec/{}/json", segment(exec));
        let found = self.transport.get(&path, CALL).await?;
        let runs = found["Running"].as_bool() == Some(true);
        Ok(found["ExitCode"].as_i64().filter(|_| !runs))
    }

    async fn act(&self, id: &str, action: Action) -> Result<()> {
        let word = match action {
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Restart => "restart",
            Action::Pause => match self.state(id).await? {
                (_, true) => return Ok(()),
                _ => "pause",
            },
            Action::Unpause => match self.state(id).await? {
                (true, false) => return Ok(()),
                (false, false) => {
                    return Err(Error::Refused {
                        status: 409,
                        message: format!("cannot unpause container {id}: not running"),
                    });
                }
                _ => "unpause",
            },
        };
        let path = format!("/containers/{}/{word}", segment(id));
        self.transport
            .call(Method::POST, &path, STOP)
            .await
            .map(drop)
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.remove(&format!("/containers/{}?force=true&v=false", segment(id)))
            .await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.remove(&format!(
            "/images/{}?force=false&noprune=false",
            reference_path(reference)
        ))
        .await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.remove(&format!("/volumes/{}?force=true", segment(name)))
            .await
    }
}

/// An answer about an object that does not say which is about none: nothing is known.
fn named<T>(found: Option<T>, name: impl Fn(&T) -> &String) -> Result<Option<T>> {
    match found {
        Some(object) if name(&object).is_empty() => Err(Error::Answer(
            "the engine's answer does not say what it is about".into(),
        )),
        found => Ok(found),
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn negotiate(version: &Value) -> Result<(u32, u32)> {
    let parse = |name: &str| -> Option<(u32, u32)> {
        let (major, minor) = version[name].as_str()?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let found = parse("ApiVersion").unwrap_or_default();
    let oldest = parse("MinAPIVersion").unwrap_or_default();
    let agreed = found.min(API_MAX);
    if agreed < API_MIN || agreed < oldest {
        return Err(Error::TooOld {
            found: format!("{}.{}", found.0, found.1),
            wanted: "1.41",
        });
    }
    Ok(agreed)
}

/// One segment of a path, so that no name can reach another endpoint.
fn segment(text: &str) -> String {
    escape(text)
}

/// Image references hold slashes and colons that the engine expects as they are.
fn reference_path(reference: &str) -> String {
    let parts: Vec<String> = reference
        .split('/')
        .map(|part| escape(part).replace("%3A", ":").replace("%40", "@"))
        .collect();
    parts.join("/")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                escaped.push(byte.into())
            }
            // A name of dots alone would change the path.
            b'.' if !text.bytes().all(|byte| byte == b'.') => escaped.push('.'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_version_is_the_newest_that_both_know() {
        for (found, oldest, wanted) in [
            ("1.41", "1.12", Ok((1, 41))),
            ("1.99", "1.44", Ok((1, 51))),
            ("1.40", "1.12", Err(())),
            ("1.99", "1.60", Err(())),
            ("", "", Err(())),
        ] {
            let version = json!({"ApiVersion": found, "MinAPIVersion": oldest});
            assert_eq!(
                negotiate(&version).map_err(|_| ()),
                wanted,
                "{found} {oldest}"
            );
        }
    }

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(segment("../info"), "..%2Finfo");
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(segment("a?b#c"), "a%3Fb%23c");
        assert_eq!(
            reference_path("localhost:5000/a/b:1@sha256:x"),
            "localhost:5000/a/b:1@sha256:x"
        );
        assert_eq!(reference_path("a/../b"), "a/%2E%2E/b");
    }
}

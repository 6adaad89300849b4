//! Making containers and volumes.

use std::time::Duration;

use http::Method;
use serde_json::{Map, Value, json};

use super::{Docker, convert, escape, items};
use crate::error::{Error, Result};
use crate::object::Volume;
use crate::wish::{NewContainer, NewVolume};

/// The limit of a creation: a volume plug-in may have to reach other machines.
const CREATE: Duration = Duration::from_secs(120);

pub(super) async fn container(docker: &Docker, new: &NewContainer) -> Result<String> {
    let name = match &new.name {
        Some(name) => format!("?name={}", escape(name)),
        None => String::new(),
    };
    let path = format!("/containers/create{name}");
    let answer = docker
        .transport
        .send_json(Method::POST, &path, &container_body(new), CREATE)
        .await?;
    let id = answer["Id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Error::Answer("the new container has no identifier".into()))
}

pub(super) async fn volume(docker: &Docker, new: &NewVolume) -> Result<Volume> {
    let mut body = json!({
        "Driver": new.driver,
        "Labels": new.labels,
        "DriverOpts": new.options,
    });
    if let Some(name) = &new.name {
        body["Name"] = json!(name);
    }
    let answer = docker
        .transport
        .send_json(Method::POST, "/volumes/create", &body, CREATE)
        .await?;
    Ok(convert::volume(&answer))
}

/// What has a label: the first of containers or volumes by identifier or name.
pub(super) async fn labelled(
    docker: &Docker,
    list: &str,
    label: &str,
    limit: Duration,
) -> Result<Option<String>> {
    let filters = escape(&json!({"label": [label]}).to_string());
    let separator = if list.contains('?') { '&' } else { '?' };
    let path = format!("{list}{separator}filters={filters}");
    let found = docker.transport.get(&path, limit).await?;
    let (found, field) = match found.get("Volumes") {
        Some(volumes) => (volumes, "Name"),
        None => (&found, "Id"),
    };
    let mut names = items(found).filter_map(|item| item[field].as_str());
    Ok(names.next().map(str::to_owned))
}

fn container_body(new: &NewContainer) -> Value {
    let mut body = json!({
        "Image": new.image,
        "Env": new.env,
        "Labels": new.labels,
    });
    if let Some(path) = &new.path {
        body["Entrypoint"] = json!([path]);
    }
    if let Some(args) = &new.args {
        body["Cmd"] = json!(args);
    }
    let (mut exposed, mut published) = (Map::new(), Map::new());
    for port in &new.ports {
        exposed.insert(port.name.clone(), json!({}));
        let bindings: Vec<Value> = port
            .bindings
            .iter()
            .map(|binding| json!({"HostIp": binding.host_ip, "HostPort": binding.host_port}))
            .collect();
        if !bindings.is_empty() {
            published.insert(port.name.clone(), Value::Array(bindings));
        }
    }
    body["ExposedPorts"] = Value::Object(exposed);
    let mounts: Vec<Value> = new
        .mounts
        .iter()
        .map(|mount| {
            let source = match mount.kind.as_str() {
                "volume" => &mount.name,
                _ => &mount.source,
            };
            let mut wanted = json!({
                "Type": mount.kind,
                "Target": mount.destination,
                "ReadOnly": mount.read_only,
            });
            if !source.is_empty() {
                wanted["Source"] = json!(source);
            }
            wanted
        })
        .collect();
    body["HostConfig"] = json!({"PortBindings": published, "Mounts": mounts});
    if !new.restart_policy.is_empty() {
        body["HostConfig"]["RestartPolicy"] = json!({"Name": new.restart_policy});
    }
    body
}

//! Containers by what people call them.

use crate::connection::{Connection, JSON};
use crate::error::{Error, Result};
use crate::resources::Resources;
use crate::verbs::targets::real_name;

/// The shortest beginning of an identifier that stands for it.
const PREFIX_MIN: usize = 4;

/// The identifier of a container: given whole, by its beginning, or by the container's
/// name; `container/` before it may stand, as for every object.
pub(crate) async fn identifier(connection: &Connection, name: &str) -> Result<String> {
    let resources = Resources::discover(connection).await?;
    let (kind, name) = name.split_once('/').unwrap_or(("containers", name));
    let resource = resources.find(kind)?;
    if resource.qualified() != "containers.containers.rancherdesktop.io" {
        return Err(Error::new(format_args!(
            "{kind:?} are no containers; only containers have logs and run commands"
        )));
    }
    let found = real_name(connection, resource, name).await?;
    let path = resource.object_path(&connection.namespace, &found);
    let missing = match connection.get(&path, JSON).await {
        Ok(_) => return Ok(found),
        Err(error) if error.status() == Some(404) => error,
        Err(error) => return Err(error),
    };
    if name.len() < PREFIX_MIN || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(missing);
    }
    let list = connection
        .get(&resource.path(Some(&connection.namespace)), JSON)
        .await?;
    let items = list["items"].as_array().into_iter().flatten();
    let mut fitting = items
        .filter_map(|item| item["metadata"]["name"].as_str())
        .filter(|id| id.starts_with(name));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one.to_owned()),
        (Some(_), Some(_)) => Err(Error::new(format_args!(
            "several containers begin with {name:?}; give more of the identifier"
        ))),
        (None, _) => Err(missing),
    }
}

//! Which objects a command line means.

use serde_json::Value;

use crate::args::Select;
use crate::connection::{Connection, JSON, escape};
use crate::error::{Error, Result};
use crate::resources::{Resource, Resources};

/// One named object, or a whole collection.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) name: Option<String>,
}

/// `TYPE[,TYPE…] [NAME…]` or `TYPE/NAME …`.
pub(crate) fn parse<'a>(resources: &'a Resources, words: &[String]) -> Result<Vec<Wanted<'a>>> {
    let Some(first) = words.first() else {
        return Err(Error::new(
            "Required resource not specified; see `api-resources`, and name one, such as `get containers`",
        ));
    };
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| {
                let (kind, name) = word.split_once('/').filter(|(kind, name)| !kind.is_empty() && !name.is_empty()).ok_or_else(|| {
                    Error::new("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'")
                })?;
                Ok(Wanted { resource: resources.find(kind)?, name: Some(name.to_owned()) })
            })
            .collect();
    }
    let kinds = resources.find_all(first)?;
    let names = &words[1..];
    if names.is_empty() {
        return Ok(kinds
            .into_iter()
            .map(|resource| Wanted {
                resource,
                name: None,
            })
            .collect());
    }
    let named = kinds.into_iter().flat_map(|resource| {
        names.iter().map(move |name| Wanted {
            resource,
            name: Some(name.clone()),
        })
    });
    Ok(named.collect())
}

/// The query of a selection, without the question mark.
pub(crate) fn query(select: &Select) -> String {
    let mut parts = Vec::new();
    if let Some(labels) = &select.selector {
        parts.push(format!("labelSelector={}", escape(labels)));
    }
    if let Some(fields) = &select.field_selector {
        parts.push(format!("fieldSelector={}", escape(fields)));
    }
    parts.join("&")
}

/// The real name of an object: mirrors of containers and volumes are also found by
/// the name that people gave them, in `status.name`.
pub(crate) async fn real_name(
    connection: &Connection,
    resource: &Resource,
    name: &str,
) -> Result<String> {
    if !matches!(
        resource.qualified().as_str(),
        "containers.containers.rancherdesktop.io" | "volumes.containers.rancherdesktop.io"
    ) {
        return Ok(name.to_owned());
    }
    let path = resource.object_path(&connection.namespace, name);
    match connection.get(&path, JSON).await {
        Err(error) if error.status() == Some(404) => {}
        other => return other.map(|_| name.to_owned()),
    }
    let selector = escape(&format!("status.name={name}"));
    let path = format!(
        "{}?fieldSelector={selector}",
        resource.path(Some(&connection.namespace))
    );
    let list = connection.get(&path, JSON).await?;
    let found: Vec<&str> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    match found.as_slice() {
        [one] => Ok((*one).to_owned()),
        _ => Ok(name.to_owned()),
    }
}

/// Every object that is meant, read from the server.
pub(crate) async fn read(
    connection: &Connection,
    resources: &Resources,
    words: &[String],
    select: &Select,
    all: bool,
) -> Result<Vec<(Resource, Value)>> {
    let mut found = Vec::new();
    for wanted in parse(resources, words)? {
        match &wanted.name {
            Some(name) => {
                let name = real_name(connection, wanted.resource, name).await?;
                let object = connection
                    .get(
                        &wanted.resource.object_path(&connection.namespace, &name),
                        JSON,
                    )
                    .await?;
                found.push((wanted.resource.clone(), object));
            }
            None => {
                if !all && select.selector.is_none() && select.field_selector.is_none() {
                    return Err(Error::new(
                        "resource(s) were provided, but no name was specified",
                    ));
                }
                let namespace = (!select.all_namespaces).then_some(connection.namespace.as_str());
                let path = format!("{}?{}", wanted.resource.path(namespace), query(select));
                let mut list = connection.get(&path, JSON).await?;
                let items = list["items"]
                    .as_array_mut()
                    .map(std::mem::take)
                    .unwrap_or_default();
                for mut item in items {
                    item["apiVersion"] = wanted.resource.api_version().into();
                    item["kind"] = wanted.resource.kind.clone().into();
                    found.push((wanted.resource.clone(), item));
                }
            }
        }
    }
    Ok(found)
}

/// The path of an object that was read.
pub(crate) fn path(connection: &Connection, resource: &Resource, object: &Value) -> String {
    let namespace = object["metadata"]["namespace"]
        .as_str()
        .unwrap_or(&connection.namespace);
    resource.object_path(
        namespace,
        object["metadata"]["name"].as_str().unwrap_or_default(),
    )
}

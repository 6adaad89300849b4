//! `api-resources`, `api-versions` and `version`.

use serde_json::json;

use crate::args::{ApiResources, Version};
use crate::connection::{Connection, JSON};
use crate::error::{Error, Result};
use crate::output::Format;
use crate::resources::Resources;
use crate::table::{Table, terminal_width};
use crate::yaml;

/// Shows the served types.
pub(crate) async fn resources(connection: &Connection, wanted: &ApiResources) -> Result<()> {
    let resources = Resources::discover(connection).await?;
    let mut shown: Vec<_> = resources
        .0
        .iter()
        .filter(|resource| {
            resource.preferred
                && !resource.verbs.is_empty()
                && wanted
                    .namespaced
                    .is_none_or(|namespaced| resource.namespaced == namespaced)
                && wanted
                    .api_group
                    .as_ref()
                    .is_none_or(|group| resource.group == *group)
                && wanted
                    .categories
                    .iter()
                    .all(|category| resource.categories.contains(category))
                && wanted
                    .verbs
                    .iter()
                    .all(|verb| resource.verbs.contains(verb))
        })
        .collect();
    shown.sort_by(|one, other| (&one.group, &one.plural).cmp(&(&other.group, &other.plural)));
    if wanted.output.as_deref() == Some("name") {
        for resource in shown {
            println!("{}", resource.qualified());
        }
        return Ok(());
    }
    let wide = match wanted.output.as_deref() {
        None | Some("") => false,
        Some("wide") => true,
        Some(other) => {
            return Err(Error::new(format_args!(
                "unable to match a printer suitable for the output format {other:?}, allowed formats are: name,wide"
            )));
        }
    };
    let mut headings: Vec<String> = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]
        .map(str::to_owned)
        .to_vec();
    if wide {
        headings.extend(["VERBS", "CATEGORIES"].map(str::to_owned));
    }
    let rows = shown.into_iter().map(|resource| {
        let mut row = vec![
            resource.plural.clone(),
            resource.short_names.join(","),
            resource.api_version(),
            resource.namespaced.to_string(),
            resource.kind.clone(),
        ];
        if wide {
            row.extend([resource.verbs.join(","), resource.categories.join(",")]);
        }
        row
    });
    let table = Table {
        headings,
        rows: rows.collect(),
    };
    for line in table.lines(!wanted.no_headers, terminal_width()) {
        println!("{line}");
    }
    Ok(())
}

/// Shows the served versions.
pub(crate) async fn versions(connection: &Connection) -> Result<()> {
    let resources = Resources::discover(connection).await?;
    let mut versions: Vec<String> = resources
        .0
        .iter()
        .map(crate::resources::Resource::api_version)
        .collect();
    versions.sort();
    versions.dedup();
    for version in versions {
        println!("{version}");
    }
    Ok(())
}

/// Shows the versions of client and server.
pub(crate) async fn version(connection: &Connection, wanted: &Version) -> Result<()> {
    let client = json!({"gitVersion": concat!("v", env!("CARGO_PKG_VERSION"))});
    let mut document = json!({"clientVersion": client});
    if !wanted.client {
        document["serverVersion"] = connection.get("/version", JSON).await?;
    }
    match Format::parse(wanted.show.output.as_deref())? {
        Format::Json => println!("{document:#}"),
        Format::Yaml => print!("{}", yaml::to_string(&document)),
        _ => {
            println!(
                "Client Version: {}",
                client["gitVersion"].as_str().unwrap_or_default()
            );
            if let Some(server) = document["serverVersion"]["gitVersion"].as_str() {
                println!("Server Version: {server}");
            }
        }
    }
    Ok(())
}

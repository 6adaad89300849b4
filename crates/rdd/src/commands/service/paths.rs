//! `rdd service paths`: pure computation, creates and starts nothing.

use anyhow::anyhow;
use rdd_instance::PathKey;
use serde_json::{Map, Value};

use crate::exit::Outcome;
use crate::output::{self, Output};
use crate::settings::Settings;

/// Prints all paths, or one.
pub(super) fn run(settings: &Settings, key: Option<&str>, output: &str) -> Outcome {
    let output = Output::parse(output, &[Output::Table, Output::Json, Output::Shell])?;
    let wanted: Vec<PathKey> = PathKey::ALL
        .into_iter()
        .filter(|path| key.is_none_or(|key| key == path.name()))
        .collect();
    if wanted.is_empty() {
        let names = PathKey::ALL.map(PathKey::name).join(", ");
        return Err(anyhow!(
            "unknown key {:?}; valid keys: {names}",
            key.unwrap_or_default()
        )
        .into());
    }
    let rows: Vec<(String, String)> = wanted
        .into_iter()
        .map(|path| {
            let place = settings.instance.path(path).display().to_string();
            (path.name().to_owned(), place)
        })
        .collect();
    match output {
        Output::Table if key.is_some() => output::line(&rows[0].1),
        Output::Table => output::pairs(&rows),
        Output::Shell => {
            for (name, place) in rows {
                let quoted = place
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('$', "\\$")
                    .replace('`', "\\`");
                output::line(format_args!(
                    "export RDD_{}=\"{quoted}\"",
                    name.to_uppercase()
                ));
            }
        }
        _ => {
            let object: Map<String, Value> = rows
                .into_iter()
                .map(|(name, place)| (name, place.into()))
                .collect();
            output::document(&Value::Object(object), output);
        }
    }
    Ok(())
}

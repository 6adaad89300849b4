//! `config`: shows the kubeconfig; changes nothing.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::args::Config;
use crate::error::{Error, Result};
use crate::output::Format;
use crate::table::Table;
use crate::yaml;

/// Secrets that are not shown unless asked for.
const SECRETS: [&str; 4] = [
    "token",
    "password",
    "client-key-data",
    "client-certificate-data",
];

/// Runs one of the commands.
pub(crate) fn run(what: &Config, path: Option<&Path>) -> Result<()> {
    let path = path.ok_or_else(|| Error::new("no kubeconfig; name one with --kubeconfig"))?;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    let mut config = yaml::parse(&text)
        .with_context(|| format!("error parsing {}", path.display()))?
        .into_iter()
        .next()
        .unwrap_or_default();
    let names = |list: &str| -> Vec<String> {
        let entries = config[list].as_array().into_iter().flatten();
        entries
            .filter_map(|entry| entry["name"].as_str().map(str::to_owned))
            .collect()
    };
    match what {
        Config::CurrentContext => match config["current-context"]
            .as_str()
            .filter(|name| !name.is_empty())
        {
            Some(name) => println!("{name}"),
            None => return Err(Error::new("current-context is not set")),
        },
        Config::GetClusters => list("NAME", &names("clusters")),
        Config::GetUsers => list("NAME", &names("users")),
        Config::GetContexts { show } => {
            if show.output.as_deref() == Some("name") {
                for name in names("contexts") {
                    println!("{name}");
                }
                return Ok(());
            }
            let rows = config["contexts"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|entry| {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let current = entry["name"] == config["current-context"];
                    let context = &entry["context"];
                    vec![
                        if current { "*" } else { "" }.to_owned(),
                        text(&entry["name"]),
                        text(&context["cluster"]),
                        text(&context["user"]),
                        text(&context["namespace"]),
                    ]
                });
            let table = Table {
                headings: ["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"]
                    .map(str::to_owned)
                    .to_vec(),
                rows: rows.collect(),
            };
            for line in table.lines(true, None) {
                println!("{line}");
            }
        }
        Config::View {
            minify,
            flatten,
            raw,
            show,
        } => {
            if *minify {
                self::minify(&mut config)?;
            }
            if !raw && !flatten {
                redact(&mut config);
            }
            let format = Format::parse(show.output.as_deref().or(Some("yaml")))?;
            format.print(&config, &|_| String::new())?;
        }
    }
    Ok(())
}

fn list(heading: &str, names: &[String]) {
    println!("{heading}");
    for name in names {
        println!("{name}");
    }
}

/// Keeps what the current context uses.
fn minify(config: &mut Value) -> Result<()> {
    let current = config["current-context"].clone();
    let contexts = config["contexts"].as_array().into_iter().flatten();
    let context = contexts
        .into_iter()
        .find(|entry| entry["name"] == current)
        .cloned();
    let context =
        context.ok_or_else(|| Error::new("current-context must exist in order to minify"))?;
    for (list, name) in [
        ("contexts", current),
        ("clusters", context["context"]["cluster"].clone()),
        ("users", context["context"]["user"].clone()),
    ] {
        if let Some(entries) = config[list].as_array_mut() {
            entries.retain(|entry| entry["name"] == name);
        }
    }
    Ok(())
}

fn redact(config: &mut Value) {
    for entry in config["users"].as_array_mut().into_iter().flatten() {
        for secret in SECRETS {
            if let Some(value) = entry["user"].get_mut(secret) {
                *value = json!("REDACTED");
            }
        }
    }
    for entry in config["clusters"].as_array_mut().into_iter().flatten() {
        if let Some(value) = entry["cluster"].get_mut("certificate-authority-data") {
            *value = json!("DATA+OMITTED");
        }
    }
}

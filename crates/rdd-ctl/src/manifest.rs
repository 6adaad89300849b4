//! Objects from files, folders and standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::yaml;

/// Reads every object that the names hold; `-` is standard input, lists are taken apart.
pub(crate) fn read(names: &[PathBuf]) -> Result<Vec<Value>> {
    if names.is_empty() {
        return Err(Error::new("must specify one of -f and -k"));
    }
    let mut objects = Vec::new();
    for name in names {
        if name == Path::new("-") {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("failed to read standard input")?;
            take("STDIN", &text, &mut objects)?;
        } else if name.is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(name)
                .with_context(|| format!("failed to read {}", name.display()))?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    path.extension()
                        .is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
                })
                .collect();
            files.sort();
            for file in files {
                take_file(&file, &mut objects)?;
            }
        } else {
            take_file(name, &mut objects)?;
        }
    }
    if objects.is_empty() {
        return Err(Error::new("no objects passed"));
    }
    Ok(objects)
}

fn take_file(path: &Path, objects: &mut Vec<Value>) -> Result<()> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let path = path.display();
            return Err(Error::new(format_args!("the path {path:?} does not exist")));
        }
        text => text.with_context(|| format!("the path {:?} cannot be read", path.display()))?,
    };
    take(&path.display().to_string(), &text, objects)
}

fn take(source: &str, text: &str, objects: &mut Vec<Value>) -> Result<()> {
    let documents = yaml::parse(text).with_context(|| format!("error parsing {source}"))?;
    for document in documents {
        let is_list = document["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"));
        match document.get("items").and_then(Value::as_array) {
            Some(items) if is_list => objects.extend(items.iter().cloned()),
            _ => {
                if !document["kind"].is_string() || !document["apiVersion"].is_string() {
                    return Err(Error::new(format_args!(
                        "error validating {source:?}: apiVersion and kind must be set"
                    )));
                }
                objects.push(document);
            }
        }
    }
    Ok(())
}

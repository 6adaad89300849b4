//! Objects from files, folders and standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::yaml;

/// An object, and where it was read.
#[derive(Clone, Debug)]
pub(crate) struct Sourced {
    /// A file's path, or `STDIN`.
    pub(crate) source: String,
    pub(crate) object: Value,
}

/// Reads every object that the names hold; `-` is standard input, lists are taken apart.
/// That there is none is no error yet.
pub(crate) fn read(names: &[PathBuf]) -> Result<Vec<Sourced>> {
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
    Ok(objects)
}

/// The same for a verb that needs at least one.
pub(crate) fn read_some(names: &[PathBuf], verb: &str) -> Result<Vec<Sourced>> {
    let objects = read(names)?;
    if objects.is_empty() {
        return Err(Error::new(format_args!("no objects passed to {verb}")));
    }
    Ok(objects)
}

fn take_file(path: &Path, objects: &mut Vec<Sourced>) -> Result<()> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let path = path.display();
            return Err(Error::new(format_args!("the path {path:?} does not exist")));
        }
        text => text.with_context(|| format!("the path {:?} cannot be read", path.display()))?,
    };
    take(&path.display().to_string(), &text, objects)
}

fn take(source: &str, text: &str, objects: &mut Vec<Sourced>) -> Result<()> {
    let documents = yaml::parse(text).with_context(|| format!("error parsing {source}"))?;
    let sourced = |object| Sourced {
        source: source.to_owned(),
        object,
    };
    for document in documents {
        let is_list = document["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"));
        match document.get("items").and_then(Value::as_array) {
            Some(items) if is_list => objects.extend(items.iter().cloned().map(sourced)),
            _ => {
                check(source, &document)?;
                objects.push(sourced(document));
            }
        }
    }
    Ok(())
}

/// Whether an object says what it is.
fn check(source: &str, object: &Value) -> Result<()> {
    let is_set = |field: &str| object[field].as_str().is_some_and(|text| !text.is_empty());
    let problem = match (is_set("apiVersion"), is_set("kind")) {
        (true, true) => return Ok(()),
        (true, false) => "kind not set",
        (false, true) => "apiVersion not set",
        (false, false) => "[apiVersion not set, kind not set]",
    };
    Err(Error::new(format_args!(
        "error validating {source:?}: error validating data: {problem}; if you choose to ignore these errors, turn validation off with --validate=false"
    )))
}

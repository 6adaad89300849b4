//! `args.json`: the saved start arguments of an instance, and the mark that it exists.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::instance::{Instance, PathKey};
use crate::process::write_private;

/// Saved start arguments; the first two are always the port of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments(Vec<String>);

impl Arguments {
    /// The port pair, followed by what a create command was given.
    #[must_use]
    pub fn new(instance: &Instance, more: impl IntoIterator<Item = String>) -> Self {
        let mut list = vec![
            "--secure-port".to_owned(),
            instance.secure_port().to_string(),
        ];
        list.extend(more);
        Self(list)
    }

    /// The words, in order; later ones win.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// What was saved; `None` when the instance does not exist.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(instance: &Instance) -> Result<Option<Self>> {
        let path = instance.path(PathKey::ArgsFile);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        match serde_json::from_slice(&text) {
            Ok(list) => Ok(Some(Self(list))),
            Err(source) => Err(Error::Arguments { path, source }),
        }
    }

    /// Creates the instance: its directory, and the file by which it exists.
    ///
    /// # Errors
    /// When either cannot be written; then the instance does not exist.
    pub fn save(&self, instance: &Instance) -> Result<()> {
        create_dir(&instance.path(PathKey::Dir))?;
        let mut text =
            serde_json::to_string_pretty(&self.0).expect("a list of strings is always JSON");
        text.push('\n');
        write_private(&instance.path(PathKey::ArgsFile), text.as_bytes())
    }
}

/// Creates a directory that only its owner may enter, and its parents.
///
/// # Errors
/// When it cannot be made. One that is there is left as it is.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::file("create", path))
}

/// The boolean words that flags, variables and properties take.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Whether `RDD_DEVELOPER_MODE` switches the mode on; text that is no boolean does not.
#[must_use]
pub fn developer_mode_text(value: Option<&str>) -> Option<bool> {
    let value = value?.trim();
    (!value.is_empty()).then(|| parse_bool(value).unwrap_or(false))
}

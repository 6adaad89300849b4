//! What goes to stdout: data, in the form that was asked for.

use std::io::Write as _;

use anyhow::{Result, bail};
use serde_json::Value;

/// The form of a command's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Aligned columns for people.
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// `export` lines for a shell.
    Shell,
}

impl Output {
    /// Reads the name of one of the formats that a command has.
    pub(crate) fn parse(text: &str, valid: &[Self]) -> Result<Self> {
        let found = valid.iter().find(|output| output.name() == text);
        let Some(found) = found else {
            let names: Vec<&str> = valid.iter().map(|output| output.name()).collect();
            let (last, others) = names.split_last().expect("a command has formats");
            bail!(
                "unknown output format {text:?}; valid formats: {}, or {last}",
                others.join(", ")
            );
        };
        Ok(*found)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Shell => "shell",
        }
    }
}

/// Prints text as it is. A reader that has gone away ends the output quietly.
pub(crate) fn text(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A closed pipe means that the reader has seen enough.
    let _closed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Prints one line.
pub(crate) fn line(line: impl std::fmt::Display) {
    text(&format!("{line}\n"));
}

/// Prints a document.
pub(crate) fn document(value: &Value, output: Output) {
    if output == Output::Yaml {
        text(&rdd_ctl::yaml::to_string(value));
    } else {
        line(value);
    }
}

/// Two columns, the second one aligned.
pub(crate) fn pairs(rows: &[(String, String)]) {
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    for (name, value) in rows {
        line(format_args!("{name:width$}  {value}"));
    }
}

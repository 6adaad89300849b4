//! What every command knows, after the raw words were resolved.

use anyhow::Result;
use rdd_instance::{Environment, Instance, developer_mode_text};

use crate::logging::{Format, Verbosity};

/// The version of this program.
pub(crate) const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Resolved settings; commands see only these.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The instance that the command is about.
    pub(crate) instance: Instance,
    /// How much is said.
    pub(crate) verbosity: Verbosity,
    /// In which form.
    pub(crate) format: Format,
    /// Shows hidden commands and skips the version check.
    pub(crate) developer_mode: bool,
}

impl Settings {
    /// Resolves flags over the environment over defaults.
    pub(crate) fn new(
        suffix: Option<&str>,
        log_level: Option<&str>,
        log_format: Option<&str>,
        environment: &Environment,
    ) -> Result<Self> {
        let developer_mode =
            developer_mode_text(environment.developer_mode.as_deref()).unwrap_or(false);
        let default = if developer_mode {
            Verbosity::Debug
        } else {
            Verbosity::Info
        };
        let verbosity = match log_level.or(environment.log_level.as_deref()) {
            Some(text) => Verbosity::parse(text)?,
            None => default,
        };
        let format = log_format
            .map(Format::parse)
            .transpose()?
            .unwrap_or_default();
        Ok(Self {
            instance: Instance::new(suffix, environment.clone())?,
            verbosity,
            format,
            developer_mode,
        })
    }

    /// The instance's name, as messages quote it.
    pub(crate) fn name(&self) -> String {
        self.instance.name()
    }
}

//! What can go wrong with an instance's files and process.

use std::path::{Path, PathBuf};

/// The crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something about an instance could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `HOME` nor anything else names a home directory.
    #[error("no home directory: set HOME")]
    NoHome,
    /// A file or directory could not be read or written.
    #[error("failed to {action} {path}")]
    File {
        /// What was tried, fitting "failed to …".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// `args.json` holds something else than a list of strings.
    #[error(
        "failed to read {path}: it must hold a JSON list of strings; remove it or run `svc delete`"
    )]
    Arguments {
        /// Where.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// Another process is this instance's daemon.
    #[error("control plane {name:?} is already running")]
    Running {
        /// The instance's name.
        name: String,
    },
    /// The daemon's process could not be signalled.
    #[error("failed to signal process {pid}")]
    Signal {
        /// The verified process.
        pid: u32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The daemon could not be started.
    #[error("failed to start {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}

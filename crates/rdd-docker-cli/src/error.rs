//! Why Docker's files could not be used.

use std::io;
use std::path::{Path, PathBuf};

/// The crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure with the file that it is about. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("failed to {doing} {path}")]
    File {
        /// `read`, `write`, `remove`.
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds no JSON object; it is left alone.
    #[error("{path} is not valid, and left alone; repair or remove it")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A credential helper did not do its work.
    #[error("{name} failed: {reason}")]
    Helper {
        /// The program.
        name: String,
        /// How.
        reason: String,
    },
    /// Half of a pair is not there.
    #[error("{0} is missing")]
    Missing(PathBuf),
    /// Others wrote the file again and again.
    #[error("{0} changed at every attempt to change it")]
    Contended(PathBuf),
}

impl Error {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }
}

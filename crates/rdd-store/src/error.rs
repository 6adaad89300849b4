//! What can go wrong, in the store's own words.

use std::path::PathBuf;

use crate::revision::Revision;
use crate::store::Entry;

/// The store's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store did not do what was asked. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key is not in the state that the caller expected; it holds this.
    #[error("the key was changed by another write")]
    Conflict {
        /// The entry that a retry starts from; `None` when the key holds nothing.
        current: Option<Entry>,
    },
    /// The history before `floor` is gone.
    #[error("the history before revision {floor} is compacted")]
    Compacted {
        /// The oldest revision that can still be asked for.
        floor: Revision,
    },
    /// The revision has not been written yet.
    #[error("revision is in the future, current is {current}")]
    Future {
        /// The newest revision.
        current: Revision,
    },
    /// The value exceeds [`crate::VALUE_MAX`].
    #[error("the value has {size} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes offered.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// No space is left where the file lies.
    #[error("the disk is full")]
    Full(#[source] rusqlite::Error),
    /// The file or its folder cannot be written.
    #[error("the database is read-only")]
    ReadOnly(#[source] rusqlite::Error),
    /// The file is damaged or no database.
    #[error("the database is damaged or not a database")]
    Corrupt(#[source] rusqlite::Error),
    /// Another process has the file open for writing.
    #[error("the database is in use by another process")]
    InUse(#[source] rusqlite::Error),
    /// The file was written by a newer release.
    #[error("the database has format {found}, this release knows {known}")]
    Format {
        /// The format in the file.
        found: i64,
        /// The newest format that this release reads.
        known: i64,
    },
    /// Any other failure of the file.
    #[error("the database failed")]
    Database(#[source] rusqlite::Error),
    /// The folder or file could not be prepared.
    #[error("failed to prepare {path}")]
    Prepare {
        /// What was being prepared.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The store is closed, or its writer ended.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// The same failure for another write of the same transaction.
    pub(crate) fn again(&self) -> Self {
        let copy = |error: &rusqlite::Error| match error {
            rusqlite::Error::SqliteFailure(code, text) => {
                rusqlite::Error::SqliteFailure(*code, text.clone())
            }
            _ => rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR),
                Some(error.to_string()),
            ),
        };
        match self {
            Self::Full(error) => Self::Full(copy(error)),
            Self::ReadOnly(error) => Self::ReadOnly(copy(error)),
            Self::Corrupt(error) => Self::Corrupt(copy(error)),
            Self::InUse(error) => Self::InUse(copy(error)),
            Self::Database(error) => Self::Database(copy(error)),
            _ => Self::Closed,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly(error)
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse(error),
            _ => Self::Database(error),
        }
    }
}

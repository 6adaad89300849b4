//! Why an engine did not do what was asked.

use std::time::Duration;

/// The crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, sorted by what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint's text has no meaning.
    #[error("invalid endpoint {text:?}: {reason}")]
    Endpoint {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody listens.
    #[error("no engine listens on {endpoint}; is it running?")]
    NotListening {
        /// Where.
        endpoint: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The socket may not be used by this user.
    #[error("no permission to use {endpoint}; run rdd as a user of the socket's group, or as root")]
    PermissionDenied {
        /// Where.
        endpoint: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("connection lost to {endpoint}")]
    Connection {
        /// Where.
        endpoint: String,
        /// How.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer came in time.
    #[error("the engine did not answer within {limit:?}")]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
    /// The engine speaks no version of the API that is understood here.
    #[error("the engine speaks API {found}, at least {wanted} is needed")]
    TooOld {
        /// What it speaks.
        found: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// Events were lost, because they came faster than they were read.
    #[error("events came faster than they were read; everything has to be read again")]
    Overrun,
    /// There is no such object.
    #[error("{0}")]
    NotFound(String),
    /// The engine refused, in its own words.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The answer could not be understood.
    #[error("the engine's answer could not be understood")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether the connection is gone rather than the request refused.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        matches!(
            self,
            Self::NotListening { .. }
                | Self::PermissionDenied { .. }
                | Self::Connection { .. }
                | Self::Timeout { .. }
        )
    }
}

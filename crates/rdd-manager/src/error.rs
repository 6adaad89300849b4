//! Why a start ended.

use crate::discovery::EntryError;
use crate::selection::UnknownController;

/// The crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a start, or a later duty of the manager, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry is not complete.
    #[error("the list of controllers is broken")]
    Registry(#[source] UnknownController),
    /// The API refused something.
    #[error("failed to {action}")]
    Api {
        /// What was tried, fitting "failed to …".
        action: String,
        /// Why it failed.
        #[source]
        source: kube::Error,
    },
    /// The server did not serve a definition in time.
    #[error("the definition {name} was not established within {seconds} s: {state}")]
    NotEstablished {
        /// Which.
        name: String,
        /// How long was waited.
        seconds: u64,
        /// What the server said about it.
        state: String,
    },
    /// Another manager runs the controller.
    #[error(
        "controller {controller:?} is already run by {holder:?}; stop that manager, or exclude the controller"
    )]
    Held {
        /// Which.
        controller: &'static str,
        /// Who holds its lease.
        holder: String,
    },
    /// A controller's caches were not filled in time.
    #[error("controller {controller:?} was not ready to reconcile within {seconds} s")]
    NotSynced {
        /// Which.
        controller: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// A controller ended before it reconciled.
    #[error("controller {controller:?} ended during its start: {text}")]
    Ended {
        /// Which.
        controller: &'static str,
        /// Its whole chain of causes.
        text: String,
    },
    /// The admission rules could not be put into service.
    #[error("failed to put admission rules into service: {text}")]
    Admission {
        /// The whole chain of causes.
        text: String,
    },
    /// A port could not be opened.
    #[error("failed to listen on loopback")]
    Listen(#[source] std::io::Error),
    /// What a manager wrote about itself cannot be understood.
    #[error(transparent)]
    Entry(EntryError),
}

impl Error {
    /// Says what was tried.
    pub(crate) fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Api { action, source }
    }
}

/// An error with all its causes in one line, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

//! Why a machine did not do what was asked.

use std::path::PathBuf;

use crate::machine::Backend;

/// The crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The other two ways beside an engine without root.
const OTHERWISE: &str =
    "or run rdd as root, or mirror a Docker that you may use: rdd attach ENDPOINT";

/// A failure; the text says what to do where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such engine.
    #[error("{}", not_installed(*.0))]
    NotInstalled(Backend),
    /// The user is not root, and something is missing for an engine without root.
    #[error("no engine without root: {0}; {OTHERWISE}")]
    Rootless(String),
    /// The user's settings cannot be passed on.
    #[error("{path}: {reason}")]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A program that is needed failed.
    #[error("`{command}` failed: {output}")]
    Command {
        /// What was run.
        command: String,
        /// What it printed.
        output: String,
    },
    /// The engine ended, or never answered.
    #[error("{} {what}; the end of {log}:\n{tail}", backend.program())]
    Engine {
        /// Which one.
        backend: Backend,
        /// What happened.
        what: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A file could not be read or written.
    #[error("failed to {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A process could not be ended.
    #[error("process {pid} of the engine cannot be ended")]
    Stuck {
        /// Its number.
        pid: u32,
    },
}

fn not_installed(backend: Backend) -> String {
    let (package, else_what) = match backend {
        Backend::Moby => ("docker.io", "mirror one elsewhere: rdd attach ENDPOINT"),
        Backend::Containerd => (
            "containerd",
            "use the other one: rdd set containerEngine.name=moby",
        ),
    };
    format!(
        "no {} on this machine; install it (Debian, Ubuntu: apt-get install -y {package}), or {else_what}",
        backend.program()
    )
}

impl Error {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}

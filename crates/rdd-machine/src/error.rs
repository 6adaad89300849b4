//! Why a machine did not do what was asked.

use std::path::PathBuf;

use crate::machine::Backend;

/// The crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Without root there are two ways: to have it, or to mirror a Docker that needs none.
const NOT_ROOT: &str = "an engine of its own needs root: run rdd as root, or mirror a Docker that you may use: rdd attach. \
     A Docker of yours without root (Debian, Ubuntu: apt-get install -y docker.io rootlesskit uidmap slirp4netns) is set up with \
     /usr/share/docker.io/contrib/dockerd-rootless-setuptool.sh install, and then mirrored with \
     rdd attach unix:///run/user/$(id -u)/docker.sock";

/// A failure; the text says what to do where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such engine.
    #[error("{}", not_installed(*.0))]
    NotInstalled(Backend),
    /// The user may not run an engine.
    #[error("{}", NOT_ROOT)]
    NotRoot,
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

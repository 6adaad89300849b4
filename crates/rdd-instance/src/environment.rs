//! The environment variables that rdd knows: the one place that reads them.

use std::ffi::OsString;
use std::path::PathBuf;

/// A documented variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub effect: &'static str,
}

/// Every variable that rdd reads, for its documentation.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "HOME",
        effect: "Where the instance's directories lie.",
    },
    Variable {
        name: "RDD_INSTANCE",
        effect: "The instance to use; `2` when unset or empty.",
    },
    Variable {
        name: "RDD_DEVELOPER_MODE",
        effect: "Shows hidden commands and flags, and skips the version check.",
    },
    Variable {
        name: "RDD_LOG_LEVEL",
        effect: "The log level; `--log-level` wins.",
    },
    Variable {
        name: "RDD_KEEP_LOGS",
        effect: "Keeps every log file, also when an instance is deleted.",
    },
    Variable {
        name: "RDD_LOG_DIR",
        effect: "Replaces the log directory.",
    },
    Variable {
        name: "RDD_LOG_TITLE",
        effect: "The first line of every new service log.",
    },
    Variable {
        name: "DOCKER_CONFIG",
        effect: "The directory of Docker's client configuration, instead of ~/.docker.",
    },
    Variable {
        name: "DOCKER_HOST",
        effect: "The endpoint that `rdd attach` takes when none is given; a service started with it leaves the selected Docker context alone.",
    },
    Variable {
        name: "DOCKER_CONTEXT",
        effect: "The Docker context that `rdd attach` takes when none is given; a service started with it leaves the selected one alone.",
    },
    Variable {
        name: "KUBECONFIG",
        effect: "The clusters of `rdd kubectl`; `rdd ctl` ignores it.",
    },
    Variable {
        name: "PATH",
        effect: "Where dockerd, docker and kubectl are looked for.",
    },
    Variable {
        name: "XDG_RUNTIME_DIR",
        effect: "Handed to an engine without root, which asks the user's systemd for cgroups there.",
    },
    Variable {
        name: "KUBE_EDITOR",
        effect: "The editor of `rdd ctl edit`; then EDITOR, then VISUAL.",
    },
    Variable {
        name: "EDITOR",
        effect: "See KUBE_EDITOR.",
    },
    Variable {
        name: "VISUAL",
        effect: "See KUBE_EDITOR.",
    },
];

/// The variables as they were when the process started; empty ones count as unset.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `RDD_INSTANCE`.
    pub instance: Option<String>,
    /// `RDD_DEVELOPER_MODE`, as written.
    pub developer_mode: Option<String>,
    /// `RDD_LOG_LEVEL`, trimmed.
    pub log_level: Option<String>,
    /// Whether `RDD_KEEP_LOGS` is set.
    pub keep_logs: bool,
    /// `RDD_LOG_DIR`.
    pub log_dir: Option<PathBuf>,
    /// `RDD_LOG_TITLE`.
    pub log_title: Option<String>,
    /// `DOCKER_CONFIG`.
    pub docker_config: Option<PathBuf>,
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `KUBECONFIG`.
    pub kubeconfig: Option<OsString>,
    /// `PATH`.
    pub path: Option<OsString>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// The first of `KUBE_EDITOR`, `EDITOR`, `VISUAL`.
    pub editor: Option<String>,
}

/// The home directory of this user's account, for a process that was given none.
fn account_home() -> Option<PathBuf> {
    // An account that cannot be looked up has no home directory that is known.
    let account = nix::unistd::User::from_uid(nix::unistd::Uid::current());
    account.ok().flatten().map(|account| account.dir)
}

impl Environment {
    /// Reads this process's environment.
    #[must_use]
    pub fn read() -> Self {
        let os = |name: &str| {
            #[expect(
                clippy::disallowed_methods,
                reason = "the one place that reads the environment"
            )]
            std::env::var_os(name).filter(|value| !value.is_empty())
        };
        let text = |name: &str| os(name).and_then(|value| value.into_string().ok());
        Self {
            home: os("HOME").map(PathBuf::from).or_else(account_home),
            instance: text("RDD_INSTANCE"),
            developer_mode: text("RDD_DEVELOPER_MODE"),
            log_level: text("RDD_LOG_LEVEL").map(|level| level.trim().to_owned()),
            keep_logs: os("RDD_KEEP_LOGS").is_some(),
            log_dir: os("RDD_LOG_DIR").map(PathBuf::from),
            log_title: text("RDD_LOG_TITLE"),
            docker_config: os("DOCKER_CONFIG").map(PathBuf::from),
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            kubeconfig: os("KUBECONFIG"),
            path: os("PATH"),
            runtime_dir: os("XDG_RUNTIME_DIR").map(PathBuf::from),
            editor: ["KUBE_EDITOR", "EDITOR", "VISUAL"]
                .into_iter()
                .find_map(text),
        }
    }

    /// Where a program may lie: on `PATH`, then in the system's folders.
    pub fn places(&self, program: &str) -> impl Iterator<Item = PathBuf> {
        let folders = self.folders().into_iter();
        folders.map(move |folder| folder.join(program))
    }

    /// The folders of `PATH` and the system's, where programs lie.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let path = self.path.clone().unwrap_or_default();
        std::env::split_paths(&path)
            .filter(|folder| folder.is_absolute())
            .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
            .collect()
    }

    /// Where a program lies on `PATH` or in the system's folders.
    #[must_use]
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        self.places(program).find(|file| file.is_file())
    }
}

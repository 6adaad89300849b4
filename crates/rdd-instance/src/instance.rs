//! Names, paths and ports of one instance.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::error::{Error, Result};

/// The suffix when nothing else is asked for.
const DEFAULT_SUFFIX: &str = "2";

/// One side-by-side copy of rdd.
#[derive(Clone, Debug)]
pub struct Instance {
    suffix: String,
    home: PathBuf,
    environment: Environment,
}

/// The paths that `svc paths` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKey {
    /// The saved start arguments; they exist exactly when the instance does.
    ArgsFile,
    /// The kubeconfig of the control plane.
    Config,
    /// The service directory.
    Dir,
    /// The engine's socket.
    DockerSocket,
    /// A copy of the kubeconfig of a Kubernetes inside a machine.
    K3sConfig,
    /// Where Lima keeps its machines.
    LimaHome,
    /// Where logs go.
    LogDir,
    /// The daemon's process number.
    PidFile,
    /// The directory for sockets, whose paths must be short.
    ShortDir,
    /// Certificates and keys.
    TlsDir,
}

impl PathKey {
    /// All of them, in alphabetical order of their names.
    pub const ALL: [Self; 10] = [
        Self::ArgsFile,
        Self::Config,
        Self::Dir,
        Self::DockerSocket,
        Self::K3sConfig,
        Self::LimaHome,
        Self::LogDir,
        Self::PidFile,
        Self::ShortDir,
        Self::TlsDir,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ArgsFile => "args_file",
            Self::Config => "config",
            Self::Dir => "dir",
            Self::DockerSocket => "docker_socket",
            Self::K3sConfig => "k3s_config",
            Self::LimaHome => "lima_home",
            Self::LogDir => "log_dir",
            Self::PidFile => "pid_file",
            Self::ShortDir => "short_dir",
            Self::TlsDir => "tls_dir",
        }
    }
}

impl Instance {
    /// The instance that `suffix`, else `RDD_INSTANCE`, else the default names.
    ///
    /// # Errors
    /// Without a home directory.
    pub fn new(suffix: Option<&str>, environment: Environment) -> Result<Self> {
        let suffix = suffix
            .filter(|suffix| !suffix.is_empty())
            .or(environment.instance.as_deref())
            .unwrap_or(DEFAULT_SUFFIX)
            .to_owned();
        let home = environment.home.clone().ok_or(Error::NoHome)?;
        Ok(Self {
            suffix,
            home,
            environment,
        })
    }

    /// What was asked for: `2`, `dev`, ….
    #[must_use]
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// `rancher-desktop-<suffix>`: also the name of its Docker and Kubernetes contexts.
    #[must_use]
    pub fn name(&self) -> String {
        format!("rancher-desktop-{}", self.suffix)
    }

    /// 1 to 99 for such a suffix, else 100 plus a checksum of it below 100.
    #[must_use]
    pub fn index(&self) -> u16 {
        match self.suffix.parse::<u16>() {
            Ok(number @ 1..=99) => number,
            _ => {
                let sum: u32 = self.suffix.chars().map(u32::from).sum();
                100 + u16::try_from(sum % 100).expect("below 100")
            }
        }
    }

    /// The environment that the instance was made with.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The user's home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// One of the paths of `svc paths`.
    #[must_use]
    pub fn path(&self, key: PathKey) -> PathBuf {
        let (data, logs) = if cfg!(target_os = "macos") {
            ("Library/Application Support", "Library/Logs")
        } else {
            (".local/share", ".local/state")
        };
        let dir = || self.home.join(data).join(self.name());
        let short = || self.home.join(format!(".rd{}", self.suffix));
        match key {
            PathKey::Dir => dir(),
            PathKey::ShortDir => short(),
            PathKey::LogDir => match &self.environment.log_dir {
                Some(folder) => folder.clone(),
                None => self.home.join(logs).join(self.name()),
            },
            PathKey::LimaHome => short().join("lima"),
            PathKey::DockerSocket => short().join("docker.sock"),
            PathKey::TlsDir => dir().join("tls"),
            PathKey::Config => dir().join("config.yaml"),
            PathKey::K3sConfig => dir().join("k3s.yaml"),
            PathKey::PidFile => dir().join("rdd.pid"),
            PathKey::ArgsFile => dir().join("args.json"),
        }
    }

    /// The file whose lock says that a daemon lives.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.path(PathKey::Dir).join("rdd.lock")
    }

    /// Where the engine of this instance keeps its images, containers and volumes.
    #[must_use]
    pub fn engine_dir(&self) -> PathBuf {
        self.path(PathKey::Dir).join("docker")
    }

    /// The user's settings for engines that rdd starts, shared by all instances.
    #[must_use]
    pub fn engine_settings(&self) -> PathBuf {
        self.home.join(".config/rdd/daemon.json")
    }

    /// The Docker client's configuration directory.
    #[must_use]
    pub fn docker_config(&self) -> PathBuf {
        match &self.environment.docker_config {
            Some(folder) => folder.clone(),
            None => self.home.join(".docker"),
        }
    }

    /// The port that the API server would like.
    #[must_use]
    pub fn secure_port(&self) -> u16 {
        6443 + self.index()
    }

    /// Whether `args.json` is there, which is what "exists" means.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path(PathKey::ArgsFile).exists()
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(suffix: &str) -> Instance {
        let environment = Environment {
            home: Some("/home/a".into()),
            ..Environment::default()
        };
        Instance::new(Some(suffix), environment).expect("a home is given")
    }

    #[test]
    fn indexes_are_the_number_or_a_checksum() {
        for (suffix, index) in [
            ("1", 1),
            ("2", 2),
            ("99", 99),
            ("cc", 198),
            ("0", 148),
            ("100", 145),
            ("-1", 194),
        ] {
            assert_eq!(instance(suffix).index(), index, "{suffix}");
        }
    }

    #[test]
    fn an_argument_wins_over_the_environment_and_both_over_the_default() {
        let environment = Environment {
            home: Some("/home/a".into()),
            instance: Some("env".into()),
            ..Environment::default()
        };
        let name = |suffix| {
            Instance::new(suffix, environment.clone())
                .expect("a home")
                .name()
        };
        assert_eq!(name(Some("arg")), "rancher-desktop-arg");
        assert_eq!(name(Some("")), "rancher-desktop-env");
        assert_eq!(name(None), "rancher-desktop-env");
        assert_eq!(instance("").name(), "rancher-desktop-2");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn paths_follow_from_home_and_suffix() {
        let instance = instance("7");
        let paths: Vec<String> = PathKey::ALL
            .map(|key| instance.path(key).display().to_string())
            .to_vec();
        assert_eq!(
            paths,
            [
                "/home/a/.local/share/rancher-desktop-7/args.json",
                "/home/a/.local/share/rancher-desktop-7/config.yaml",
                "/home/a/.local/share/rancher-desktop-7",
                "/home/a/.rd7/docker.sock",
                "/home/a/.local/share/rancher-desktop-7/k3s.yaml",
                "/home/a/.rd7/lima",
                "/home/a/.local/state/rancher-desktop-7",
                "/home/a/.local/share/rancher-desktop-7/rdd.pid",
                "/home/a/.rd7",
                "/home/a/.local/share/rancher-desktop-7/tls",
            ]
        );
        assert_eq!(instance.secure_port(), 6450);
    }
}

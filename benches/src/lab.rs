//! A home directory and an instance of its own for one measurement.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::wire::Server;

/// An instance in an empty home directory; deleted with everything in it when dropped.
pub(crate) struct Lab {
    binary: PathBuf,
    home: tempfile::TempDir,
}

impl Lab {
    /// Prepares a home directory; starts nothing.
    pub(crate) fn new(binary: &Path) -> Result<Self> {
        // A short path: sockets below it must fit into 104 bytes.
        let home = tempfile::Builder::new()
            .prefix("rddb")
            .tempdir_in("/tmp")
            .context("failed to make a home directory")?;
        Ok(Self {
            binary: binary.to_path_buf(),
            home,
        })
    }

    /// `rdd` with this lab's instance.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("RDD_INSTANCE", "bench");
        command
    }

    /// Runs `rdd` to its end and returns what it printed.
    pub(crate) fn rdd(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .command(arguments)
            .output()
            .with_context(|| format!("failed to start {}", self.binary.display()))?;
        if !output.status.success() {
            bail!(
                "`rdd {}` failed: {}\n{}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// One of the instance's paths, by its key of `svc paths`.
    pub(crate) fn path(&self, key: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(self.rdd(&["svc", "paths", key])?))
    }

    /// A client with the administrator's credentials.
    pub(crate) async fn client(&self) -> Result<kube::Client> {
        let kubeconfig = Kubeconfig::read_from(self.path("config")?)
            .context("failed to read the kubeconfig of the instance")?;
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .context("failed to use the kubeconfig of the instance")?;
        kube::Client::try_from(config).context("failed to make a client")
    }

    /// The server, for clients that cost next to nothing.
    pub(crate) fn server(&self) -> Result<Server> {
        let text = self.rdd(&["ctl", "config", "view", "--raw", "-o", "json"])?;
        let kubeconfig = serde_json::from_str(&text).context("the kubeconfig is no JSON")?;
        Server::of(&kubeconfig)
    }

    /// The daemon's resident memory in kibibytes.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        self.memory_kib("VmRSS:")
    }

    /// The most that it ever was.
    pub(crate) fn peak_kib(&self) -> Result<u64> {
        self.memory_kib("VmHWM:")
    }

    /// Processor time that the daemon has used.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))
            .context("failed to read the daemon's times")?;
        // The second field may hold blanks; it ends with the last bracket.
        let fields: Vec<&str> = text
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |index: usize| -> u64 {
            fields
                .get(index)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        // Linux counts in hundredths of a second.
        Ok(Duration::from_millis(10 * (ticks(11) + ticks(12))))
    }

    fn pid(&self) -> Result<String> {
        let file = self.path("pid_file")?;
        let pid = std::fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        Ok(pid.trim().to_owned())
    }

    fn memory_kib(&self, line: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))
            .context("failed to read the daemon's memory")?;
        status
            .lines()
            .find_map(|text| text.strip_prefix(line))
            .and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok())
            .context("the kernel reports no resident memory")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.rdd(&["svc", "delete"]) {
            println!("left behind in {}: {error}", self.home.path().display());
        }
    }
}

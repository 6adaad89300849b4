//! A home directory and an instance of its own for one measurement.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};

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

    /// The daemon's resident memory in kibibytes.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let file = self.path("pid_file")?;
        let pid = std::fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()))
            .context("failed to read the daemon's memory")?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
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

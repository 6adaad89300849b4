//! A dockerd for one test, without network, in a folder of its own.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running dockerd; dropping it ends it.
pub(crate) struct Dockerd {
    home: TempDir,
    more: Vec<String>,
    process: Option<Child>,
}

impl Dockerd {
    /// Starts one and waits until it answers.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(name: &str, more: &[&str]) -> Self {
        let home = tempfile::Builder::new()
            .prefix(&format!("rdde-{name}-"))
            .tempdir_in("/tmp")
            .expect("a folder under /tmp");
        let mut dockerd = Self {
            home,
            more: more.iter().map(|word| (*word).to_owned()).collect(),
            process: None,
        };
        dockerd.start_again();
        dockerd
    }

    /// Starts it after [`Self::stop`].
    pub(crate) fn start_again(&mut self) {
        let home = self.home.path();
        let log = std::fs::File::create(home.join("dockerd.log")).expect("a log");
        let path = |name: &str| format!("{}/{name}", home.display());
        // The system's own settings are none of ours.
        std::fs::write(home.join("daemon.json"), "{}").expect("a file of settings");
        let mut process = Command::new("/usr/sbin/dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "-H", &self.endpoint()])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--config-file", &path("daemon.json")])
            .args(&self.more)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("/usr/sbin/dockerd starts: apt-get install docker.io, and run as root");
        let begin = Instant::now();
        while !self
            .try_docker(&["version"])
            .is_ok_and(|output| output.status.success())
        {
            let log = std::fs::read_to_string(home.join("dockerd.log")).unwrap_or_default();
            let ended = process.try_wait().expect("it is our child");
            assert!(ended.is_none(), "dockerd ended: {log}");
            assert!(begin.elapsed() < Duration::from_secs(60), "dockerd: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.process = Some(process);
    }

    /// Ends it gracefully.
    pub(crate) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        // A failure shows as a process that does not end.
        let _sent = Command::new("kill").arg(process.id().to_string()).status();
        process.wait().expect("dockerd ends");
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}/docker.sock", self.home.path().display())
    }

    fn try_docker(&self, words: &[&str]) -> std::io::Result<std::process::Output> {
        Command::new("docker")
            .args(["-H", &self.endpoint()])
            .args(words)
            .output()
    }

    /// Runs a docker command; its output, or what it complained about.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String, String> {
        let output = self.try_docker(words).expect("docker is installed");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Runs a docker command that works; its output.
    pub(crate) fn docker(&self, words: &[&str]) -> String {
        let done = self.ask(words);
        done.unwrap_or_else(|errors| panic!("docker {words:?}: {errors}"))
    }

    /// Makes an image from the static busybox; its identifier.
    pub(crate) fn import(&self, tag: &str) -> String {
        // The time of the only file would make every image another one.
        self.import_with(tag, "2020-01-01")
    }

    /// Makes another image than [`Self::import`] does.
    pub(crate) fn import_other(&self, tag: &str) -> String {
        self.import_with(tag, "2021-01-01")
    }

    fn import_with(&self, tag: &str, time: &str) -> String {
        let root = self.home.path().join("image");
        std::fs::create_dir_all(root.join("bin")).expect("a folder");
        std::fs::copy("/bin/busybox", root.join("bin/sh"))
            .expect("/bin/busybox is there: apt-get install busybox-static");
        let archive = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .args(["--mtime", time, "-c", "."])
            .output()
            .expect("tar is installed");
        let mut import = Command::new("docker")
            .args(["-H", &self.endpoint(), "import", "-", tag])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker is installed");
        let mut input = import.stdin.take().expect("it is piped");
        input.write_all(&archive.stdout).expect("it is read");
        drop(input);
        let output = import.wait_with_output().expect("it ends");
        assert!(output.status.success(), "docker import");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // With live restore, containers and the data folder's mount outlive the engine.
        if self.process.is_some()
            && let Ok(containers) = self.ask(&["ps", "--all", "--quiet"])
        {
            for container in containers.lines() {
                let _gone = self.ask(&["rm", "--force", container]);
            }
        }
        self.stop();
        let data = self.home.path().join("data");
        let _unmounted = Command::new("umount").args(["-lq"]).arg(data).status();
    }
}

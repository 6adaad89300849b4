//! A podman service for one test, without network, in a folder of its own.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running service; dropping it ends it.
pub(crate) struct Podman {
    home: TempDir,
    process: Option<Child>,
}

impl Podman {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Self {
        let home = tempfile::Builder::new()
            .prefix("rdde-podman-")
            .tempdir_in("/tmp")
            .expect("a folder under /tmp");
        // Its own limits may be above what a test may set.
        let limits = "[containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1024:1024\"]\n";
        std::fs::write(home.path().join("conf"), limits).expect("a file");
        let mut podman = Self {
            home,
            process: None,
        };
        let log = std::fs::File::create(podman.home.path().join("log")).expect("a log");
        let process = podman
            .command()
            .args(["system", "service", "--time=0", &podman.endpoint()])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("podman starts: apt-get install podman, and run as root");
        podman.process = Some(process);
        let socket = podman.home.path().join("podman.sock");
        let begin = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let log = std::fs::read_to_string(podman.home.path().join("log")).unwrap_or_default();
            assert!(begin.elapsed() < Duration::from_secs(60), "podman: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        podman
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}/podman.sock", self.home.path().display())
    }

    fn command(&self) -> Command {
        let path = |name: &str| self.home.path().join(name).display().to_string();
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", path("conf"))
            .args(["--root", &path("root"), "--runroot", &path("run")])
            .args(["--tmpdir", &path("tmp"), "--storage-driver=vfs"])
            .args(["--cgroup-manager=cgroupfs", "--events-backend=file"])
            .stdin(Stdio::null());
        command
    }

    /// Runs a podman command beside the service; its output.
    pub(crate) fn podman(&self, words: &[&str]) -> String {
        let output = self.command().args(words).output();
        let output = output.expect("podman is installed");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "podman {words:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes an image from the static busybox; its identifier.
    pub(crate) fn import(&self, tag: &str) -> String {
        let root = self.home.path().join("image");
        std::fs::create_dir_all(root.join("bin")).expect("a folder");
        std::fs::copy("/bin/busybox", root.join("bin/sh"))
            .expect("/bin/busybox is there: apt-get install busybox-static");
        let archive = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .args(["-c", "."])
            .output()
            .expect("tar is installed");
        let mut import = self
            .command()
            .args(["import", "-q", "-", tag])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("podman is installed");
        let mut input = import.stdin.take().expect("it is piped");
        input.write_all(&archive.stdout).expect("it is read");
        drop(input);
        let output = import.wait_with_output().expect("it ends");
        assert!(output.status.success(), "podman import");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Containers of a failed test go with their folder.
        let _removed = self.command().args(["rm", "-af", "-t0"]).output();
        if let Some(process) = &mut self.process {
            let _ended = process.kill();
            let _reaped = process.wait();
        }
        let _unmounted = Command::new("umount")
            .args([
                "-R",
                "-q",
                &self.home.path().join("root").display().to_string(),
            ])
            .output();
    }
}

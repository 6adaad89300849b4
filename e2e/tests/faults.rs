//! What goes wrong around the program: a full disk, a socket of somebody else, a Ctrl-C.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use rdd_e2e::{Done, Lab, binary, shell, wait_until};

/// A file system of a few megabytes; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/tmp").expect("a folder");
        shell(&format!(
            "mount -t tmpfs -o size=6m tmpfs {}",
            folder.path().display()
        ));
        Self(folder)
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let file = self.0.path().join("fill");
        let full = Command::new("dd")
            .arg("if=/dev/zero")
            .arg(format!("of={}", file.display()))
            .arg("bs=1k")
            .output()
            .expect("dd is there");
        assert!(!full.status.success(), "the disk has no end");
    }

    fn make_room(&self) {
        fs::remove_file(self.0.path().join("fill")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_heals() {
    // Declared first, so that it goes after the instance on it.
    let disk = SmallDisk::new();
    let lab = Lab::new("full");
    fs::create_dir_all(lab.home().join(".local")).expect("a folder");
    symlink(disk.0.path(), lab.home().join(".local/share")).expect("a link");
    lab.rdd("svc start --controllers=").ok();
    lab.rdd("ctl create configmap before --from-literal=a=b")
        .ok();
    disk.fill();
    let big = format!("--from-literal=a={}", "x".repeat(100_000));
    let refused = lab.run(&["ctl", "create", "configmap", "big", &big]);
    let text = refused.fails(1);
    assert_eq!(
        text,
        "error: failed to create configmap: the store cannot take writes now: the disk is full"
    );
    assert_eq!(
        lab.rdd("ctl get configmap before -o jsonpath={.data.a}")
            .ok(),
        "b"
    );
    assert!(
        lab.rdd("ctl get configmap big")
            .fails(1)
            .contains("NotFound")
    );
    disk.make_room();
    lab.run(&["ctl", "create", "configmap", "big", &big]).ok();
    lab.rdd("svc stop").ok();
    lab.rdd("svc start --controllers=").ok();
    lab.rdd("ctl get configmap before big").ok();
    lab.rdd("svc delete").ok();

    disk.fill();
    for _ in 0..2 {
        let text = lab.rdd("svc start --controllers=").fails(1);
        assert!(
            text.contains("disk is full") || text.contains("No space left"),
            "{text}"
        );
    }
    disk.make_room();
    lab.rdd("svc start --controllers=").ok();
}

/// A user without rights, who has a copy of the program.
struct Nobody<'lab> {
    lab: &'lab Lab,
    instance: &'static str,
}

impl<'lab> Nobody<'lab> {
    fn new(lab: &'lab Lab, instance: &'static str) -> Self {
        let home = lab.home().display();
        // The binary may lie where nobody else may look.
        shell(&format!(
            "cp {} {home}/rdd && chmod 755 {home} {home}/rdd && mkdir {home}/nobody && chown 65534 {home}/nobody",
            binary().display()
        ));
        Self { lab, instance }
    }

    fn rdd(&self, words: &[&str]) -> Done {
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(self.lab.home().join("rdd"))
            .args(words)
            .env_clear()
            .env("HOME", self.lab.home().join("nobody"))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("RDD_INSTANCE", self.instance)
            .output()
            .expect("setpriv is there")
            .into()
    }
}

#[test]
fn a_user_without_rights_is_told_at_once_what_an_engine_lacks() {
    let lab = Lab::new("rootless");
    let nobody = Nobody::new(&lab, "rootless");
    // Nothing will change by itself: no limit is needed to get the answer.
    let started = nobody.rdd(&["start", "--timeout=0"]);
    let stopped = nobody.rdd(&["stop", "--timeout=60s"]);
    let deleted = nobody.rdd(&["svc", "delete"]);
    let text = started.fails(1);
    for words in [
        "NotSupported",
        "/etc/subuid grants nobody fewer than 65536 subordinate ids",
        "usermod --add-subuids ",
        "run rdd as root",
        "rdd attach ENDPOINT",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    stopped.ok();
    deleted.ok();
}

#[test]
fn a_socket_of_somebody_else_is_named_with_the_reason() {
    let lab = Lab::new("foreign");
    let socket = lab.home().join("docker.sock");
    let _listener = UnixListener::bind(&socket).expect("it is free");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let nobody = Nobody::new(&lab, "foreign");
    let endpoint = format!("unix://{}", socket.display());
    let attached = nobody.rdd(&["attach", &endpoint, "--timeout=10s"]);
    let deleted = nobody.rdd(&["svc", "delete"]);
    assert_ne!(attached.code, 0, "{attached:?}");
    assert!(
        attached.stderr.contains("ermission denied")
            && attached.stderr.contains(&socket.display().to_string()),
        "{attached:?}"
    );
    deleted.ok();
}

#[test]
fn a_waiting_command_can_be_interrupted_and_leaves_the_daemon_serving() {
    let lab = Lab::new("interrupt");
    lab.rdd("svc start --controllers=").ok();
    let mut waiting = lab
        .command(&[
            "ctl",
            "wait",
            "--for=create",
            "configmap/never",
            "--timeout=60s",
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    wait_until("it watches", || connections(waiting.id()) > 0);
    shell(&format!("kill -INT {}", waiting.id()));
    assert!(!waiting.wait().expect("it ends").success());
    assert_eq!(lab.rdd("ctl get --raw /readyz").ok(), "ok");
    // Two Ctrl-C on the whole foreground group, while a start waits.
    lab.rdd("svc stop").ok();
    let mut start = Command::new("setsid")
        .arg(binary())
        .args(["svc", "start", "--controllers="])
        .env_clear()
        .env("HOME", lab.home())
        .env("RDD_INSTANCE", "interrupt")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    wait_until("the daemon lives", || {
        !lab.rdd("svc status").stdout.contains("PID is: 0")
    });
    shell(&format!("kill -INT -{} 2>/dev/null || true", start.id()));
    start.wait().expect("it ends");
    wait_until("the daemon became ready", || {
        lab.rdd("ctl get --raw /readyz").stdout.trim() == "ok"
    });
}

/// How many sockets a process holds.
fn connections(pid: u32) -> usize {
    let folder = format!("/proc/{pid}/fd");
    let Ok(files) = fs::read_dir(Path::new(&folder)) else {
        return 0;
    };
    files
        .filter_map(Result::ok)
        .filter_map(|file| fs::read_link(file.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

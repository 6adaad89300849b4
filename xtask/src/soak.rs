//! `cargo xtask soak`: many lives of one instance, with faults, and nothing left at the end.
//!
//! Every cycle starts the instance, does it harm in one way, and stops it in order; then
//! no process, socket, mount, bridge or firewall chain of it may be there. At the end the
//! instance is deleted, and its home directory must be as empty as before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{capture, cargo, run, target};
use crate::setup;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// One way to harm an instance: it is started before, and stopped in order after.
type Fault = (&'static str, fn(&Soak) -> Result<()>);

const FAULTS: &[Fault] = &[
    ("none", |_| Ok(())),
    ("kill the daemon", |soak| soak.kill_daemon()),
    ("kill dockerd", |soak| {
        let before = soak.engine().context("no dockerd runs")?;
        kill("KILL", before)?;
        soak.wait("another dockerd serves", || {
            Ok(soak.engine().is_some_and(|now| now != before) && soak.docker(&["ps"]).is_ok())
        })
    }),
    ("kill both", |soak| {
        let engine = soak.engine().context("no dockerd runs")?;
        soak.kill_daemon()?;
        kill("KILL", engine)?;
        soak.wait("dockerd is gone", || Ok(!is_alive(engine)))
    }),
    ("terminate during a start", |soak| {
        soak.rdd(&["svc", "stop"])?;
        soak.rdd(&["svc", "start", "--wait=false"])?;
        let daemon = soak.daemon()?;
        if daemon != 0 {
            kill("TERM", daemon)?;
        }
        soak.wait("it has ended", || Ok(!is_alive(daemon)))?;
        soak.is_clean("a start that was terminated")
    }),
    ("kill during a start", |soak| {
        soak.rdd(&["svc", "stop"])?;
        soak.rdd(&["svc", "start", "--wait=false"])?;
        soak.kill_daemon()
    }),
    ("signal twice", |soak| {
        let daemon = soak.daemon()?;
        kill("INT", daemon)?;
        kill("TERM", daemon)?;
        soak.wait("it has ended", || Ok(!is_alive(daemon)))
    }),
    ("stop and start the engine", |soak| {
        soak.rdd(&["set", "running=false"])?;
        soak.rdd(&["set", "running=true"])
    }),
    ("start and stop at once", |soak| {
        let words: [&[&str]; 4] = [
            &["svc", "start"],
            &["svc", "stop"],
            &["svc", "start"],
            &["svc", "start", "--wait=false"],
        ];
        let mut children = Vec::new();
        for words in words {
            let mut command = soak.command(words);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            children.push(command.spawn().context("failed to start rdd")?);
        }
        for mut child in children {
            let code = child.wait().context("failed to wait for rdd")?.code();
            ensure!(
                code.is_some_and(|code| code < 2),
                "a start or stop ended with {code:?}"
            );
        }
        Ok(())
    }),
];

/// Runs so many cycles; fails at the first thing that is left over.
pub(crate) fn run_soak(cycles: usize, install: bool) -> Result<()> {
    setup::packages(&[setup::ENGINE], install)?;
    run(cargo().args(["build", "--package", "rdd", "--bins"]))?;
    let soak = Soak::new()?;
    println!("{cycles} cycles in {}", soak.home.display());
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for cycle in 0..cycles {
        let (name, fault) = FAULTS[cycle % FAULTS.len()];
        let begin = Instant::now();
        soak.cycle(fault).with_context(|| {
            format!(
                "cycle {cycle} ({name}) failed; what is left lies in {}",
                soak.home.display()
            )
        })?;
        times.entry(name).or_default().push(begin.elapsed());
        if (cycle + 1) % FAULTS.len() == 0 {
            println!("  {} cycles done", cycle + 1);
        }
    }
    soak.rdd(&["svc", "delete"])?;
    soak.is_clean("the end")?;
    soak.is_empty()?;
    fs::remove_dir_all(&soak.home).context("failed to remove the home directory")?;
    println!(
        "\n{:<28} {:>6} {:>9} {:>9}",
        "fault", "cycles", "mean", "longest"
    );
    for (name, times) in &times {
        let all: Duration = times.iter().sum();
        let mean = all.as_secs_f64() / f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
        let longest = times
            .iter()
            .max()
            .copied()
            .unwrap_or_default()
            .as_secs_f64();
        println!("{name:<28} {:>6} {mean:>8.2}s {longest:>8.2}s", times.len());
    }
    println!("\nNothing is left: no process, socket, mount, bridge, chain, lease or file.");
    Ok(())
}

struct Soak {
    home: PathBuf,
    binary: PathBuf,
}

impl Soak {
    fn new() -> Result<Self> {
        // Short, because sockets lie below it.
        let home = PathBuf::from(format!("/tmp/soak{}", std::process::id()));
        fs::create_dir(&home).with_context(|| format!("failed to make {}", home.display()))?;
        // A copy: a build meanwhile changes nothing, and each process names the folder.
        let binary = home.join("rdd");
        fs::copy(target()?.join("debug/rdd"), &binary).context("failed to copy rdd")?;
        Ok(Self { home, binary })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(words)
            .env_clear()
            .env("HOME", &self.home)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("RDD_INSTANCE", "soak");
        command
    }

    fn rdd(&self, words: &[&str]) -> Result<()> {
        capture(&mut self.command(words)).map(drop)
    }

    fn docker(&self, words: &[&str]) -> Result<String> {
        let socket = self.home.join(".rdsoak/docker.sock");
        capture(
            Command::new("docker")
                .arg("-H")
                .arg(format!("unix://{}", socket.display()))
                .args(words),
        )
    }

    fn cycle(&self, fault: fn(&Self) -> Result<()>) -> Result<()> {
        self.rdd(&["start"])?;
        self.has_leases_of_this_start()?;
        self.run_a_container()?;
        fault(self)?;
        // Whatever the fault left: the next start takes it over, and an orderly stop ends it.
        self.rdd(&["svc", "start"])?;
        self.rdd(&["svc", "stop"])?;
        self.is_clean("an orderly stop")
    }

    /// A container with a volume; what an earlier cycle left of it is replaced.
    fn run_a_container(&self) -> Result<()> {
        if self.docker(&["images", "-q"])?.is_empty() {
            let folder = self.home.join("image/bin");
            fs::create_dir_all(&folder).context("failed to make the image")?;
            fs::copy("/bin/busybox", folder.join("sh")).context("failed to copy busybox")?;
            let archive = self.home.join("image.tar");
            capture(
                Command::new("tar")
                    .arg("-C")
                    .arg(self.home.join("image"))
                    .args(["-c", "-f"])
                    .arg(&archive)
                    .arg("."),
            )?;
            self.docker(&["import", &archive.display().to_string(), "box:1"])?;
            fs::remove_file(&archive).context("failed to remove the archive")?;
            fs::remove_dir_all(self.home.join("image")).context("failed to remove the image")?;
        }
        self.docker(&["rm", "--force", "--volumes", "one"])
            .or_else(|error| {
                let gone = error.to_string().contains("No such container");
                if gone { Ok(String::new()) } else { Err(error) }
            })?;
        self.docker(&[
            "run",
            "--detach",
            "--name",
            "one",
            // It does not heed the first signal.
            "--stop-timeout",
            "1",
            "--volume",
            "kept:/data",
            "--publish",
            "127.0.0.1::80",
            "box:1",
            "/bin/sh",
            "-c",
            "mkfifo /f; read x < /f",
        ])
        .map(drop)
    }

    fn daemon(&self) -> Result<u32> {
        let status = capture(&mut self.command(&["svc", "status"]))?;
        let number = status.rsplit(' ').next().unwrap_or_default();
        number.parse().context("failed to read the daemon's pid")
    }

    fn kill_daemon(&self) -> Result<()> {
        let daemon = self.daemon()?;
        kill("KILL", daemon)?;
        self.wait("the daemon is gone", || Ok(!is_alive(daemon)))
    }

    fn engine(&self) -> Option<u32> {
        let file = self.home.join(".rdsoak/run/dockerd.pid");
        let pid = fs::read_to_string(file).ok()?.trim().parse().ok()?;
        is_alive(pid).then_some(pid)
    }

    fn wait(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !holds()? {
            ensure!(
                begin.elapsed() < PATIENCE,
                "{what}: not within {PATIENCE:?}"
            );
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// No controller is held by an earlier life.
    fn has_leases_of_this_start(&self) -> Result<()> {
        let read = |words: &[&str]| capture(&mut self.command(words));
        let start = read(&[
            "ctl",
            "get",
            "configmap",
            "rdd-controller-manager",
            "-n",
            "rdd-system",
            "-o",
            r"jsonpath={.metadata.annotations.rdd\.rancherdesktop\.io/start-id}",
        ])?;
        let holders = read(&[
            "ctl",
            "get",
            "leases",
            "-n",
            "rdd-system",
            "-o",
            "jsonpath={.items[*].spec.holderIdentity}",
        ])?;
        let wanted = format!("embedded/{start}");
        ensure!(
            !holders.is_empty() && holders.split(' ').all(|holder| holder == wanted),
            "leases are held by {holders:?} and not by {wanted:?}"
        );
        Ok(())
    }

    /// Nothing of the instance runs or is set up on this machine.
    fn is_clean(&self, when: &str) -> Result<()> {
        let home = self.home.display().to_string();
        let mut left = Vec::new();
        for pid in processes() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if (line.contains(&home) || is_in_a_container(pid, &home)) && is_alive(pid) {
                left.push(format!("process {pid}: {line}"));
            }
        }
        for (file, what) in [
            ("/proc/net/unix", "socket"),
            ("/proc/self/mountinfo", "mount"),
        ] {
            let text =
                fs::read_to_string(file).with_context(|| format!("failed to read {file}"))?;
            let lines = text.lines().filter(|line| line.contains(&home));
            left.extend(lines.map(|line| format!("{what}: {line}")));
        }
        let links = capture(Command::new("ip").args(["-brief", "link"]))?;
        let links = links
            .lines()
            .filter(|line| line.starts_with("rdd") && line.contains("-soak"));
        left.extend(links.map(|line| format!("bridge: {line}")));
        for table in ["filter", "nat"] {
            let rules = capture(Command::new("iptables").args(["-w", "-t", table, "-S"]))?;
            let rules = rules.lines().filter(|line| line.contains("-soak"));
            left.extend(rules.map(|line| format!("rule in {table}: {line}")));
        }
        if left.is_empty() {
            return Ok(());
        }
        bail!("after {when} there is still:\n  {}", left.join("\n  "))
    }

    /// No file is left; folders that every program shares are.
    fn is_empty(&self) -> Result<()> {
        let mut left = Vec::new();
        files(&self.home, &mut left)?;
        // The Docker client's own file, which its contexts live beside, is the user's.
        left.retain(|file| !file.starts_with(self.home.join(".docker")) && *file != self.binary);
        ensure!(left.is_empty(), "files are left: {left:?}");
        Ok(())
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    for entry in entries {
        let path = entry.context("failed to read a folder")?.path();
        if path.is_dir() && !path.is_symlink() {
            files(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a process has its root on layers that lie in this folder.
fn is_in_a_container(pid: u32, folder: &str) -> bool {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    mounts.lines().any(|line| {
        line.split(' ').nth(4) == Some("/") && line.contains(" overlay ") && line.contains(folder)
    })
}

/// Whether some thread of the process still runs.
fn is_alive(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().any(|thread| {
        let text = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = text.rsplit_once(')').map(|(_, fields)| fields.trim_start());
        state.is_some_and(|state| !state.starts_with(['Z', 'X']))
    })
}

/// Signals one verified process.
fn kill(signal: &str, pid: u32) -> Result<()> {
    ensure!(pid > 1, "no process to signal");
    capture(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()])).map(drop)
}

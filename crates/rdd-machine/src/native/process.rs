//! A process by number and start time, so that a recycled number is never signalled.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, Uid};
use rustix::process::PidfdFlags;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A verified process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// The kernel's start time, in ticks since boot.
    pub(super) started: u64,
    /// Which boot: the ticks begin anew with each.
    boot: String,
}

impl Process {
    /// The process that has this number now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let started = start_time(pid)?;
        Some(Self {
            pid,
            started,
            boot: boot(),
        })
    }

    /// Whether the number still means the same process.
    pub(super) fn is_alive(&self) -> bool {
        self.pid > 1 && start_time(self.pid) == Some(self.started) && self.boot == boot()
    }

    /// Waits for its end, which the kernel tells.
    pub(super) async fn ended(&self) -> io::Result<()> {
        let pid =
            rustix::process::Pid::from_raw(self.id().as_raw()).ok_or(io::ErrorKind::NotFound)?;
        let handle = match rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            opened => opened?,
        };
        // The number may have meant another process by the time the handle was made.
        if !self.is_alive() {
            return Ok(());
        }
        #[expect(
            deprecated,
            reason = "its replacement is unsafe; an owned descriptor that nobody else closes is sound"
        )]
        let watched = AsyncFd::with_interest(handle, Interest::READABLE)?;
        watched.readable().await.map(drop)
    }

    /// What it started and has not lost.
    pub(super) fn children(&self) -> Vec<Self> {
        all()
            .filter(|pid| parent(*pid) == Some(self.pid))
            .filter_map(Self::of)
            .collect()
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    pub(super) fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    pub(super) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends the process and everything that it started in its group.
    pub(super) fn kill_group(&self) {
        if self.is_alive()
            && let Err(error) = killpg(self.id(), Signal::SIGKILL)
        {
            tracing::warn!(pid = self.pid, %error, "failed to kill the engine's group");
        }
    }

    /// Whether it ended within the limit.
    pub(super) async fn wait(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        while self.is_alive() {
            if begin.elapsed() >= limit {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }

    fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.pid).expect("the kernel's numbers fit"))
    }

    fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Err(error) = kill(self.id(), signal)
        {
            tracing::warn!(pid = self.pid, %signal, %error, "failed to signal the engine");
        }
    }
}

/// Field 22 of proc(5) stat; a zombie has ended.
fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if fields.next() == Some("Z") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// The kernel's identity of this boot.
fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Every process number in use.
fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes that hold containers in this containerd namespace, as far as the
/// containers' folders lie here: other engines may use a namespace of the same name.
pub(super) fn shims(namespace: &str, containers: &Path) -> Vec<Shim> {
    shims_with(|after| {
        after("-namespace").as_deref() == Some(namespace)
            && after("-id").is_some_and(|id| !id.is_empty() && containers.join(id).is_dir())
    })
}

/// The processes that hold containers of the containerd that listens here.
pub(super) fn shims_at(socket: &Path) -> Vec<Shim> {
    shims_with(|after| after("-address").is_some_and(|address| Path::new(&address) == socket))
}

/// A process that holds a container.
pub(super) struct Shim {
    pub(super) process: Process,
    /// The containerd namespace of the container.
    pub(super) namespace: String,
    /// The container's identifier there.
    pub(super) container: String,
}

/// The shims whose flags are as wanted; the judge asks for the word after a flag.
fn shims_with(judge: impl Fn(&dyn Fn(&str) -> Option<String>) -> bool) -> Vec<Shim> {
    let shim = |pid: u32| {
        let words = words(pid);
        let after = |flag: &str| {
            let mut words = words.iter().skip_while(|word| *word != flag);
            words.nth(1).cloned()
        };
        let program = program(&words)?;
        if !program.starts_with("containerd-shim") || !judge(&after) {
            return None;
        }
        Some(Shim {
            process: Process::of(pid)?,
            namespace: after("-namespace").unwrap_or_default(),
            container: after("-id").unwrap_or_default(),
        })
    };
    all().filter_map(shim).collect()
}

/// The containerd that an engine with this folder started for itself.
pub(super) fn containerd(exec: &Path) -> Option<Process> {
    let is_ours = |pid: &u32| {
        let words = words(*pid);
        program(&words) == Some("containerd")
            && words.iter().any(|word| Path::new(word).starts_with(exec))
    };
    all().find(is_ours).and_then(Process::of)
}

/// The rootlesskit of this user that was started with this word.
pub(super) fn rootlesskit(word: &str) -> Option<Process> {
    let is_ours = |pid: &u32| {
        let words = words(*pid);
        program(&words) == Some("rootlesskit")
            && words.iter().any(|other| other == word)
            && user(*pid) == Some(Uid::effective())
    };
    all().find(is_ours).and_then(Process::of)
}

/// What the process was started with.
pub(super) fn words(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .filter_map(|word| std::str::from_utf8(word).ok())
        .map(str::to_owned)
        .collect()
}

/// Who the process is of.
pub(super) fn user(pid: u32) -> Option<Uid> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(format!("/proc/{pid}")).ok()?;
    Some(Uid::from_raw(metadata.uid()))
}

/// The program's name without its folder.
fn program(words: &[String]) -> Option<&str> {
    words.first().and_then(|first| first.rsplit('/').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_identifies_nothing() {
        let own = Process::of(std::process::id()).expect("this process lives");
        assert!(own.is_alive());
        let check = |process: Process| assert!(!process.is_alive(), "{process:?}");
        check(Process {
            started: own.started + 1,
            ..own.clone()
        });
        check(Process {
            boot: "another".to_owned(),
            ..own.clone()
        });
        check(Process {
            pid: 1,
            ..own.clone()
        });
        check(Process { pid: 0, ..own });
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_told() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat is there");
        let process = Process::of(child.id()).expect("it lives");
        let own = Process::of(std::process::id()).expect("this process lives");
        assert!(own.children().contains(&process));
        drop(child.stdin.take());
        tokio::time::timeout(Duration::from_secs(10), process.ended())
            .await
            .expect("its end is told in time")
            .expect("the kernel tells it");
        assert!(!process.is_alive(), "a zombie does not live");
        child.wait().expect("it is reaped");
    }
}

//! A process by number and start time, so that a recycled number is never signalled.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A verified process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// The kernel's start time, in ticks since boot.
    pub(super) started: u64,
}

impl Process {
    /// The process that has this number now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let started = start_time(pid)?;
        Some(Self { pid, started })
    }

    /// Whether the number still means the same process.
    pub(super) fn is_alive(&self) -> bool {
        self.pid > 1 && start_time(self.pid) == Some(self.started)
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

/// Whether a process of this program runs with exactly this argument.
pub(super) fn any_with_argument(argument: &str, program: &str) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else {
        return false;
    };
    entries.flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let is_program = words.next().is_some_and(|first| {
            String::from_utf8_lossy(first)
                .rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with(program))
        });
        is_program && words.any(|word| word == argument.as_bytes())
    })
}

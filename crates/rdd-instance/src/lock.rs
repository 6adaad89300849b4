//! Who is the daemon: a lock that dies with its process, and a verified identity.
//!
//! ```text
//! rdd.lock   held with flock(2) by the living daemon; its content names the process:
//!            pid, the kernel's start time of that process, and a random start identity
//! rdd.pid    the pid alone, for people and scripts; never trusted
//! ```
//!
//! A process number may be recycled and a file may outlive its writer, so neither
//! proves anything. The lock proves that a daemon lives; the start time proves
//! that the number in it is still that daemon. The road not taken is matching
//! command lines, which any other process may resemble.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::arguments::create_dir;
use crate::error::{Error, Result};
use crate::instance::{Instance, PathKey};
use crate::process::{self, write_private};

/// How long processes that look at the lock may be in the way of a daemon.
const LOOKERS: Duration = Duration::from_secs(10);

/// The pause between two attempts to get past them.
const PAUSE: Duration = Duration::from_micros(500);

/// A living daemon, as its lock names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its process number.
    pub pid: u32,
    /// The kernel's start time of that process, in its own ticks.
    pub started: u64,
    /// A random identity of this start; what waiters match readiness against.
    pub start_id: String,
    /// The version that it was built as.
    pub version: String,
    /// The words it was started with, for readers that must know its controllers.
    pub arguments: Vec<String>,
}

/// The right to be an instance's daemon; released when dropped or when the process ends.
#[derive(Debug)]
pub struct Lock {
    daemon: Daemon,
    pid_file: PathBuf,
    _held: Flock<File>,
}

impl Lock {
    /// Becomes the daemon.
    ///
    /// # Errors
    /// `Running` when another process is it.
    pub fn acquire(instance: &Instance, version: &str, arguments: Vec<String>) -> Result<Self> {
        create_dir(&instance.path(PathKey::Dir))?;
        let path = instance.lock_file();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        let begin = Instant::now();
        let mut held = loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => break held,
                Err((file, nix::errno::Errno::EWOULDBLOCK)) => file,
                Err((_, errno)) => return Err(Error::file("lock", &path)(errno.into())),
            };
            // Whoever only looks shares the lock for an instant; a daemon does not share it.
            file = match Flock::lock(file, FlockArg::LockSharedNonblock) {
                Ok(shared) if begin.elapsed() < LOOKERS => shared
                    .unlock()
                    .map_err(|(_, errno)| Error::file("unlock", &path)(errno.into()))?,
                Ok(_) | Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                    return Err(Error::Running {
                        name: instance.name(),
                    });
                }
                Err((_, errno)) => return Err(Error::file("lock", &path)(errno.into())),
            };
            std::thread::sleep(PAUSE);
        };
        let pid = std::process::id();
        let daemon = Daemon {
            pid,
            started: process::start_time(pid).unwrap_or_default(),
            start_id: uuid::Uuid::new_v4().to_string(),
            version: version.to_owned(),
            arguments,
        };
        let text = serde_json::to_vec(&daemon).expect("plain data is always JSON");
        held.set_len(0)
            .and_then(|()| held.seek(SeekFrom::Start(0)))
            .and_then(|_| held.write_all(&text))
            .and_then(|()| held.sync_data())
            .map_err(Error::file("write", &path))?;
        let pid_file = instance.path(PathKey::PidFile);
        write_private(&pid_file, pid.to_string().as_bytes())?;
        Ok(Self {
            daemon,
            pid_file,
            _held: held,
        })
    }

    /// This process's own identity.
    #[must_use]
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A pid file that stays is harmless: nobody trusts it without the lock.
        let _left = fs::remove_file(&self.pid_file);
    }
}

impl Daemon {
    /// The instance's living daemon, if there is one; see [`Daemon::is_named`]. A pid
    /// file that a dead one left is removed.
    ///
    /// # Errors
    /// When the lock cannot be looked at.
    pub fn find(instance: &Instance) -> Result<Option<Self>> {
        let path = instance.lock_file();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                remove_stale(instance);
                return Ok(None);
            }
            Err(error) => return Err(Error::file("open", &path)(error)),
        };
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_free) => {
                remove_stale(instance);
                Ok(None)
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                file.read_to_string(&mut text)
                    .map_err(Error::file("read", &path))?;
                // A daemon that holds the lock and has not written yet is starting; until
                // then the file is empty, or names the one before.
                let named = serde_json::from_str(&text).ok().filter(Self::is_alive);
                Ok(Some(named.unwrap_or_else(|| Self {
                    pid: 0,
                    started: 0,
                    start_id: String::new(),
                    version: String::new(),
                    arguments: Vec::new(),
                })))
            }
            Err((_, errno)) => Err(Error::file("lock", &path)(errno.into())),
        }
    }

    /// Whether the daemon has said who it is. One that has not is just starting.
    #[must_use]
    pub fn is_named(&self) -> bool {
        !self.start_id.is_empty()
    }

    /// Whether the process that the lock named still is that process.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.pid > 1 && process::start_time(self.pid) == Some(self.started)
    }
}

fn remove_stale(instance: &Instance) {
    // Best effort: a stale pid file is never trusted.
    let _left = fs::remove_file(instance.path(PathKey::PidFile));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn instance(home: &tempfile::TempDir) -> Instance {
        let environment = Environment {
            home: Some(home.path().to_path_buf()),
            ..Environment::default()
        };
        Instance::new(Some("t"), environment).expect("a home is given")
    }

    #[test]
    fn only_the_lock_says_that_a_daemon_lives() {
        let home = tempfile::tempdir().expect("a folder");
        let instance = instance(&home);
        create_dir(&instance.path(PathKey::Dir)).expect("a folder");
        let mut bystander = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep is there");
        let own = std::process::id().to_string();
        let foreign = bystander.id().to_string();
        for text in [
            "",
            "garbage",
            "0",
            "-1",
            "1",
            own.as_str(),
            foreign.as_str(),
        ] {
            fs::write(instance.path(PathKey::PidFile), text).expect("writes");
            assert_eq!(Daemon::find(&instance).expect("it looks"), None, "{text:?}");
            assert!(
                !instance.path(PathKey::PidFile).exists(),
                "{text:?} is stale"
            );
        }
        assert!(
            bystander.try_wait().expect("it looks").is_none(),
            "a bystander is never signalled"
        );
        bystander.kill().expect("it is ours");
        bystander.wait().expect("it ends");
    }

    #[test]
    fn a_second_daemon_is_refused_until_the_first_is_gone() {
        let home = tempfile::tempdir().expect("a folder");
        let instance = instance(&home);
        let lock = Lock::acquire(&instance, "v1", vec!["a".into()]).expect("it is free");
        let second = Lock::acquire(&instance, "v1", vec![]);
        assert!(matches!(second, Err(Error::Running { .. })), "{second:?}");
        let found = Daemon::find(&instance)
            .expect("it looks")
            .expect("it lives");
        assert_eq!(&found, lock.daemon());
        assert!(found.is_alive());
        drop(lock);
        assert_eq!(Daemon::find(&instance).expect("it looks"), None);
        Lock::acquire(&instance, "v1", vec![]).expect("it is free again");
    }

    #[test]
    fn who_only_looks_is_never_taken_for_a_daemon() {
        let home = tempfile::tempdir().expect("a folder");
        let instance = instance(&home);
        create_dir(&instance.path(PathKey::Dir)).expect("a folder");
        let end = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !end.load(std::sync::atomic::Ordering::Relaxed) {
                        Daemon::find(&instance).expect("it looks");
                    }
                });
            }
            let failed = (0..100).find_map(|_| Lock::acquire(&instance, "v1", vec![]).err());
            end.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    }

    #[test]
    fn a_recycled_number_is_not_alive() {
        let daemon = Daemon {
            pid: std::process::id(),
            started: 1,
            start_id: String::new(),
            version: String::new(),
            arguments: Vec::new(),
        };
        assert!(!daemon.is_alive());
        assert!(
            !Daemon {
                pid: 0,
                ..daemon.clone()
            }
            .is_alive()
        );
        assert!(!Daemon { pid: 1, ..daemon }.is_alive());
    }
}

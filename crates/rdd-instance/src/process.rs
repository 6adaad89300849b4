//! Starting, detaching and signalling processes, and writing private files.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::lock::Daemon;

/// How firmly a daemon is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `SIGINT`: drain and end; the second one ends at once.
    Interrupt,
    /// `SIGTERM`: the same, for when the first was not heard.
    Terminate,
}

/// The kernel's start time of a process, in ticks since boot: with the number it
/// identifies a process. `None` when there is no such process.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    // Field 22 of proc(5) stat; the name in field 2 may itself hold blanks and parentheses.
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    // A zombie has ended: it only waits for its parent to notice.
    if fields.split_whitespace().next() == Some("Z") {
        return None;
    }
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Signals a daemon after checking that its number is still its own.
///
/// # Errors
/// When the kernel refuses. A process that is gone is no error.
pub fn request(daemon: &Daemon, request: Request) -> Result<()> {
    if !daemon.is_alive() {
        return Ok(());
    }
    let signal = match request {
        Request::Interrupt => Signal::SIGINT,
        Request::Terminate => Signal::SIGTERM,
    };
    let pid = i32::try_from(daemon.pid).expect("the kernel's numbers fit");
    match signal::kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::Signal {
            pid: daemon.pid,
            source: errno.into(),
        }),
    }
}

/// Starts this program again as a daemon with its own output files. The child must
/// call [`detach`] before anything else.
///
/// # Errors
/// When it cannot be started.
pub fn spawn_daemon(arguments: &[String], stdout: File, stderr: File) -> Result<Child> {
    let program =
        std::env::current_exe().map_err(Error::file("find", Path::new("this program")))?;
    Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|source| Error::Spawn { program, source })
}

/// Leaves the caller's session and closes every descriptor that it handed down
/// beside the standard three, so that neither its terminal nor its pipes reach here.
///
/// # Errors
/// When the process already leads a group, which a child of [`spawn_daemon`] does not.
pub fn detach() -> Result<()> {
    nix::unistd::setsid().map_err(|errno| {
        Error::file("leave the session of", Path::new("this process"))(errno.into())
    })?;
    let folder = Path::new("/dev/fd");
    let inherited: Vec<i32> = fs::read_dir(folder)
        .map_err(Error::file("read", folder))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in inherited {
        // The listing's own descriptor is among them and is closed already.
        let _closed = nix::unistd::close(descriptor);
    }
    Ok(())
}

/// How many files and connections this process may have open.
///
/// # Errors
/// When the kernel does not say.
pub fn descriptors() -> Result<u64> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .map(|(soft, _)| soft)
        .map_err(|errno| Error::file("read the limits of", Path::new("this process"))(errno.into()))
}

/// The exit code that a shell would report: the status, or 128 plus the signal.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Replaces a file as a whole with mode 0600: readers see the old or the new one.
///
/// # Errors
/// When it cannot be written; the old one stays.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let written = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // Best effort: the half-written copy is of no use to anyone.
        let _left = fs::remove_file(&temporary);
        Error::file("write", path)(error)
    })
}

//! Tests of the built binary from outside, one file per user story.
//!
//! Every test has a home directory and an instance of its own, so that none can see
//! another's or the developer's.
//!
//! Invariant: knows the program by its command line alone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// No condition may take longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An instance in an empty home directory; stopped and removed when dropped.
#[derive(Debug)]
pub struct Lab {
    home: tempfile::TempDir,
    suffix: String,
    /// Who runs `rdd`, unless it is the user of the test.
    user: Option<User>,
}

/// An ordinary user, and their copy of the program.
#[derive(Debug)]
struct User {
    name: String,
    rdd: PathBuf,
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its exit code; 255 after a signal.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Done {
    /// The standard output of a success.
    ///
    /// # Panics
    /// For anything else, with all that was said.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout.trim_end().to_owned()
    }

    /// The standard error of a failure with this code.
    ///
    /// # Panics
    /// For anything else, with all that was said.
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr.trim_end().to_owned()
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(255),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The binary under test.
///
/// # Panics
/// Without one: `RDD_BIN` names it, else it lies in the target folder of this build.
#[must_use]
pub fn binary() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test run hands the binary over"
    )]
    let named = std::env::var_os("RDD_BIN").map(PathBuf::from);
    let beside = || {
        let test = std::env::current_exe().ok()?;
        Some(test.parent()?.parent()?.join("rdd"))
    };
    let binary = named.or_else(beside).expect("a place for the binary");
    assert!(
        binary.is_file(),
        "{} is missing; run `cargo build -p rdd` or `cargo xtask test`",
        binary.display()
    );
    binary
}

/// A program that `cargo xtask test` provides and names in the environment.
///
/// # Panics
/// Without one.
#[must_use]
pub fn provided(variable: &str) -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test run hands its tools over"
    )]
    let named = std::env::var_os(variable).map(PathBuf::from);
    let program = named.unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`"));
    assert!(program.exists(), "{} is missing", program.display());
    program
}

impl Lab {
    /// An instance of this name, which must be unique among the tests.
    ///
    /// # Panics
    /// When no directory can be made.
    #[must_use]
    pub fn new(suffix: &str) -> Self {
        // Short, because sockets lie below it.
        let home = tempfile::Builder::new()
            .prefix("e2e")
            .tempdir_in("/tmp")
            .expect("a home directory");
        Self {
            home,
            suffix: suffix.to_owned(),
            user: None,
        }
    }

    /// The same for a user who is not root: the one of the test or, where that is root,
    /// the one that `cargo xtask test` made for this.
    ///
    /// # Panics
    /// When there is no such user.
    #[must_use]
    pub fn without_root(suffix: &str) -> Self {
        let mut lab = Self::new(suffix);
        if shell("id -u") == "0" {
            #[expect(
                clippy::disallowed_methods,
                reason = "the test run hands its user over"
            )]
            let name = std::env::var("RDD_TEST_USER")
                .expect("RDD_TEST_USER is not set: run `cargo xtask test`");
            // The binary may lie where nobody else may look.
            let rdd = lab.home().join("rdd");
            std::fs::copy(binary(), &rdd).expect("the program can be copied");
            shell(&format!("chown -R {name}: {}", lab.home().display()));
            lab.user = Some(User { name, rdd });
        }
        lab
    }

    /// The name of the user who runs `rdd` here.
    #[must_use]
    pub fn user(&self) -> String {
        match &self.user {
            Some(user) => user.name.clone(),
            None => shell("id -un"),
        }
    }

    /// The home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// `rdd` in this lab's environment and no other.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = match &self.user {
            None => Command::new(binary()),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .args([
                        format!("--reuid={0}", user.name),
                        format!("--regid={0}", user.name),
                    ])
                    .arg("--init-groups")
                    .arg(&user.rdd);
                command
            }
        };
        self.environment(command.args(words));
        command
    }

    /// Gives another program the environment in which `rdd` finds this lab's instance.
    pub fn environment<'command>(&self, command: &'command mut Command) -> &'command mut Command {
        command
            .env_clear()
            .env("HOME", self.home())
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("RDD_INSTANCE", &self.suffix)
    }

    /// Runs `rdd` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn rdd(&self, line: &str) -> Done {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.run(&words)
    }

    /// Runs `rdd` with words that hold blanks.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Done {
        self.command(words).output().expect("rdd starts").into()
    }

    /// Starts a program that lies beside `rdd`, in this lab's environment.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn program(&self, name: &str, words: &[&str]) -> Program {
        let log = tempfile::Builder::new()
            .prefix(name)
            .suffix(".log")
            .tempfile_in(self.home())
            .expect("a log");
        let file = binary().with_file_name(name);
        let mut command = Command::new(&file);
        self.environment(command.args(words))
            .stdin(Stdio::null())
            .stdout(log.reopen().expect("a log"))
            .stderr(log.reopen().expect("a log"));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", file.display()));
        Program { child, log }
    }

    /// One of the instance's paths.
    #[must_use]
    pub fn path(&self, key: &str) -> PathBuf {
        PathBuf::from(self.rdd(&format!("svc paths {key}")).ok())
    }

    /// The process number of the daemon, from `svc status`.
    ///
    /// # Panics
    /// When the status cannot be read.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let status = self.rdd("svc status").ok();
        let number = status.rsplit(' ').next().expect("a status");
        number.parse().expect("a number")
    }

    /// The process number of the instance's dockerd, if one lives.
    #[must_use]
    pub fn engine_pid(&self) -> Option<u32> {
        let file = self.path("short_dir").join("run/dockerd.pid");
        let pid = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
        is_alive(pid).then_some(pid)
    }

    /// Processes that belong to the instance, one a line: each names its folder.
    #[must_use]
    pub fn processes(&self) -> String {
        shell(&format!(
            "pgrep -a -f {} | grep -v -e pgrep -e 'sh -c' -e ' ctl get ' || true",
            self.home().display()
        ))
    }

    /// The docker client on this instance's engine.
    ///
    /// # Panics
    /// When it fails.
    pub fn docker(&self, line: &str) -> String {
        let socket = self.path("docker_socket");
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = Command::new("docker")
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .args(words)
            .output()
            .expect("docker is installed");
        Done::from(output).ok()
    }

    /// Makes the image `box:1` of a static busybox; no registry is needed.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn import_image(&self) {
        let socket = self.path("docker_socket");
        let folder = self.home().join("image");
        shell(&format!(
            "mkdir -p {0}/bin && cp /bin/busybox {0}/bin/sh && tar -C {0} -c . | docker -H unix://{1} import - box:1",
            folder.display(),
            socket.display()
        ));
    }
}

/// A program beside `rdd`; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Program {
    /// What it has said.
    ///
    /// # Panics
    /// When its log cannot be read.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log.path()).expect("a log")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, name: &str) {
        shell(&format!("kill -{name} {}", self.child.id()));
    }

    /// Its exit code, once it has ended by itself; 255 after a signal.
    ///
    /// # Panics
    /// When it goes on.
    pub fn ends(&mut self) -> i32 {
        let mut code = None;
        wait_until("the program ends", || {
            let status = self.child.try_wait().expect("it is a child");
            code = status.map(|status| status.code().unwrap_or(255));
            code.is_some()
        });
        code.expect("it has ended")
    }

    /// Whether it goes on.
    ///
    /// # Panics
    /// When it is no child of this process.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended cannot be killed; the log tells a failing test why.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "it is a failing test's output")]
            {
                eprintln!("{}", self.said());
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let deleted = self.rdd("svc delete --timeout=60s");
        // A failing test keeps its own message; a passing one must clean up.
        assert!(std::thread::panicking() || deleted.code == 0, "{deleted:?}");
    }
}

/// Runs a shell line; returns what it printed.
///
/// # Panics
/// When it fails.
pub fn shell(line: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", line])
        .output()
        .expect("sh is there");
    Done::from(output).ok()
}

/// Kills a process, and returns once it is gone: a signal takes effect later than it is
/// sent, on a busy machine much later.
///
/// # Panics
/// When it cannot be killed.
pub fn kill(pid: u32) {
    shell(&format!("kill -9 {pid}"));
    wait_until("a killed process is gone", || !is_alive(pid));
}

/// Whether a process has not ended. One of which only the number is left has; a thread that
/// still runs keeps its files and locks, whatever has become of the first one.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.filter_map(Result::ok).any(|thread| {
        let text = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = text.rsplit_once(')').map(|(_, fields)| fields.trim_start());
        state.is_some_and(|state| !state.starts_with(['Z', 'X']))
    })
}

/// Waits until something holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

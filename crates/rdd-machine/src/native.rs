//! A dockerd of our own.
//!
//! ```text
//! stopped ──start──▶ network up ─▶ dockerd spawned ─▶ socket answers ─▶ running
//!    ▲                                                                    │
//!    └── network down ◀─ process gone ◀─ SIGTERM ◀─ live-restore off ◀────┘ stop
//! ```
//!
//! It shares nothing with a Docker that the system runs: data, sockets, containerd
//! namespaces, bridge, address range and firewall chain are its own. `live-restore`
//! keeps containers running when dockerd dies; so that an orderly stop ends them all
//! the same, the setting is taken back (SIGHUP, confirmed through the API) before
//! SIGTERM. The road not taken is stopping each container through the API, which
//! would mark it as stopped by the user and lose its restart policy.

mod network;
mod process;
mod settings;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, Result};
use crate::machine::Machine;
use network::Network;
use process::Process;

/// How long dockerd may take until it answers: it restores containers first.
const START: Duration = Duration::from_secs(60);

/// How long dockerd may take to end its containers and itself.
const STOP: Duration = Duration::from_secs(30);

/// How long dockerd may take to notice changed settings.
const RELOAD: Duration = Duration::from_secs(5);

/// Pause between two looks while starting and stopping.
const LOOK: Duration = Duration::from_millis(20);

/// Pause between two looks at a process that is not our child.
const WATCH: Duration = Duration::from_secs(1);

/// Lines of the log that an error shows.
const TAIL: usize = 8;

/// Where everything of one engine lies.
#[derive(Clone, Debug)]
pub struct NativeOptions {
    /// Names the bridge, the firewall chain and containerd's namespaces: `2`, `demo`.
    pub suffix: String,
    /// Picks the address range: instances side by side have different ones.
    pub index: u16,
    /// dockerd, if there is one.
    pub dockerd: Option<PathBuf>,
    /// Images, containers, volumes.
    pub data: PathBuf,
    /// Sockets and what lives only while the engine runs; must be short.
    pub run: PathBuf,
    /// The engine's socket.
    pub socket: PathBuf,
    /// What is remembered about the running process.
    pub state: PathBuf,
    /// The user's settings, in dockerd's own form; may be absent.
    pub settings: PathBuf,
    /// dockerd's log, appended to.
    pub log: PathBuf,
}

/// See the module.
#[derive(Debug)]
pub struct Native {
    options: NativeOptions,
    /// One start or stop at a time.
    turn: Mutex<()>,
}

/// What must be known again after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    process: Process,
    network: Network,
}

impl Native {
    /// Takes the paths; starts nothing.
    #[must_use]
    pub fn new(options: NativeOptions) -> Self {
        Self {
            options,
            turn: Mutex::new(()),
        }
    }

    fn remembered(&self) -> Option<Remembered> {
        let text = fs::read(&self.options.state).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn alive(&self) -> Option<Remembered> {
        self.remembered()
            .filter(|remembered| remembered.process.is_alive())
    }

    fn config_file(&self) -> PathBuf {
        self.options.run.join("dockerd.json")
    }

    async fn spawn(&self, dockerd: &Path) -> Result<Process> {
        let options = &self.options;
        let remembered = self.remembered().map(|remembered| remembered.network);
        let network = match remembered {
            Some(network) => network,
            None => Network::choose(&options.suffix, options.index).await?,
        };
        network.up().await?;
        settings::write(&options.settings, &self.config_file(), true)?;
        // The socket of a dead engine would look like one that refuses.
        remove_file(&options.socket)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&options.log)
            .map_err(Error::file("open", &options.log))?;
        let second = log.try_clone().map_err(Error::file("open", &options.log))?;
        let namespace = format!("rdd-{}", options.suffix);
        let mut command = Command::new(dockerd);
        command
            .arg("--config-file")
            .arg(self.config_file())
            .arg("--data-root")
            .arg(&options.data)
            .arg("--exec-root")
            .arg(options.run.join("exec"))
            .arg("--pidfile")
            .arg(options.run.join("dockerd.pid"))
            .arg("--host")
            .arg(self.endpoint())
            .args(["--containerd-namespace", &namespace])
            .args([
                "--containerd-plugins-namespace",
                &format!("{namespace}-plugins"),
            ])
            .args(["--bridge", &network.bridge])
            .args([
                "--default-address-pool",
                &format!("base={},size=24", network.range()),
            ])
            .args(["--iptables=false", "--ip6tables=false"])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second)
            .process_group(0);
        let mut child = command.spawn().map_err(Error::file("start", dockerd))?;
        let pid = child.id().unwrap_or_default();
        let process = Process::of(pid).ok_or_else(|| self.failed("ended at once"))?;
        tokio::spawn(async move {
            // Only to take its exit status: who cares about the process watches it.
            let _status = child.wait().await;
        });
        let remembered = Remembered {
            process: process.clone(),
            network,
        };
        let text = serde_json::to_vec_pretty(&remembered).expect("plain data is always JSON");
        write(&options.state, &text)?;
        Ok(process)
    }

    async fn answers(&self) -> bool {
        self.get("/_ping")
            .await
            .is_some_and(|answer| answer.contains("200 OK"))
    }

    /// One request, the whole answer as text.
    async fn get(&self, path: &str) -> Option<String> {
        let ask = async {
            let mut stream = UnixStream::connect(&self.options.socket).await.ok()?;
            let request = format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok()?;
            Some(String::from_utf8_lossy(&answer).into_owned())
        };
        timeout(RELOAD, ask).await.ok().flatten()
    }

    /// From now on the engine's end is its containers' end too.
    async fn take_live_restore_back(&self, process: &Process) -> Result<()> {
        settings::write(&self.options.settings, &self.config_file(), false)?;
        process.reload();
        let begin = Instant::now();
        while begin.elapsed() < RELOAD {
            let info = self.get("/info").await.unwrap_or_default();
            if info.contains("\"LiveRestoreEnabled\":false") {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        tracing::warn!(
            "dockerd did not take back live-restore; its containers may go on without it"
        );
        Ok(())
    }

    fn failed(&self, what: &str) -> Error {
        let text = fs::read_to_string(&self.options.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        Error::Engine {
            what: what.to_owned(),
            log: self.options.log.clone(),
            tail: lines[lines.len().saturating_sub(TAIL)..].join("\n"),
        }
    }

    async fn stop_process(&self) -> Result<()> {
        let Some(Remembered { process, .. }) = self.alive() else {
            return Ok(());
        };
        self.take_live_restore_back(&process).await?;
        process.terminate();
        if process.wait(STOP).await {
            return Ok(());
        }
        tracing::warn!(
            pid = process.pid,
            "dockerd did not end in time and is killed"
        );
        process.kill_group();
        if process.wait(STOP).await {
            Ok(())
        } else {
            Err(Error::Stuck { pid: process.pid })
        }
    }

    /// Containers that run without their engine, because it died and was not started again.
    fn has_orphans(&self) -> bool {
        process::any_with_argument(&format!("rdd-{}", self.options.suffix), "containerd-shim")
    }
}

#[async_trait]
impl Machine for Native {
    fn endpoint(&self) -> String {
        format!("unix://{}", self.options.socket.display())
    }

    async fn start(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        let process = match self.alive() {
            Some(remembered) => remembered.process,
            None => {
                let dockerd = self.options.dockerd.clone().ok_or(Error::NotInstalled)?;
                if !nix::unistd::Uid::effective().is_root() {
                    return Err(Error::NotRoot);
                }
                for folder in [&self.options.run, &self.options.data] {
                    fs::DirBuilder::new()
                        .recursive(true)
                        .mode(0o700)
                        .create(folder)
                        .map_err(Error::file("create", folder))?;
                }
                self.spawn(&dockerd).await?
            }
        };
        let begin = Instant::now();
        while !self.answers().await {
            if !process.is_alive() {
                return Err(self.failed("ended while it started"));
            }
            if begin.elapsed() >= START {
                return Err(self.failed("does not answer"));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn is_running(&self) -> bool {
        self.alive().is_some()
    }

    async fn ended(&self) {
        while self.alive().is_some() {
            sleep(WATCH).await;
        }
    }

    async fn stop(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.stop_process().await?;
        if let Some(Remembered { network, .. }) = self.remembered() {
            network.down().await?;
        }
        remove_file(&self.options.socket)?;
        remove_file(&self.options.state)
    }

    async fn destroy(&self) -> Result<()> {
        if !self.is_running().await && self.has_orphans() && self.options.dockerd.is_some() {
            // Only an engine knows how to end its containers.
            self.start().await?;
        }
        self.stop().await?;
        for folder in [&self.options.data, &self.options.run] {
            unmount_below(folder).await?;
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("remove", folder)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Detaches mounts that a killed engine left, deepest first.
async fn unmount_below(folder: &Path) -> Result<()> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(Error::file("read", table))?;
    let mut mounts: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .filter(|place| place.starts_with(folder))
        .collect();
    mounts.sort();
    for place in mounts.into_iter().rev() {
        network::run("umount", &["-l", &place.to_string_lossy()]).await?;
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Replaces a file as a whole.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let temporary = path.with_extension("new");
    let mut options = File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    options
        .open(&temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(Error::file("write", path))
}

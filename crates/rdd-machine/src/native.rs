//! A dockerd, or a containerd, of our own.
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
//!
//! A user who is not root has the same engine in namespaces of their own, with a network
//! of their own instead of the bridge and the chain.

mod http;
mod lacks;
mod network;
mod process;
mod rootless;
mod settings;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};
use crate::machine::{Backend, Machine};
use http::http;
use network::Network;
use process::{Process, Shim};
use rootless::{Namespaces, Rootless};

/// How long dockerd may take until it answers: it restores containers first.
const START: Duration = Duration::from_secs(60);

/// The longest that a stop takes, whatever has to be done: [`GRACEFUL`] until the engine
/// is killed, then [`KILL`] for each of it, its containerd and its containers. The
/// namespaces of an engine without root take [`rootless::END`] from the graceful part.
pub const STOP_MAX: Duration = Duration::from_secs(37);

/// How long the engine may take to end its containers and itself, an engine that has to
/// be started for that included.
const GRACEFUL: Duration = STOP_MAX.saturating_sub(KILL.saturating_mul(3));

/// How much of [`GRACEFUL`] may pass until an engine answers that only comes to end
/// containers.
const REVIVE: Duration = Duration::from_secs(10);

/// Where a containerd lets runc keep the state of containers, whatever its own folders are.
const RUNC_STATE: &str = "/run/containerd/runc";

/// How long the kernel may take to end what was killed.
const KILL: Duration = Duration::from_secs(3);

/// How long an engine's containerd may take to notice that it is alone, and then to heed
/// a signal.
const CONTAINERD: Duration = Duration::from_millis(1500);

/// How long containers may take to heed the end of a containerd that they belong to, as
/// dockerd grants its own.
const CONTAINERS: Duration = Duration::from_secs(10);

/// How long dockerd may take to notice changed settings.
const RELOAD: Duration = Duration::from_secs(5);

/// Pause between two looks while starting and stopping.
const LOOK: Duration = Duration::from_millis(20);

/// Pause between two looks at a process whose end the kernel cannot tell.
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
    /// Where dockerd may be, in order. Looked at again by every start: it may be
    /// installed meanwhile.
    pub dockerd: Vec<PathBuf>,
    /// Where containerd may be, for an engine without dockerd.
    pub containerd: Vec<PathBuf>,
    /// Images, containers, volumes.
    pub data: PathBuf,
    /// Sockets and what lives only while the engine runs; must be short.
    pub run: PathBuf,
    /// dockerd's socket; containerd's, without dockerd, lies beside it.
    pub socket: PathBuf,
    /// What is remembered about the running process.
    pub state: PathBuf,
    /// The user's settings, in dockerd's own form; may be absent.
    pub settings: PathBuf,
    /// dockerd's log, appended to.
    pub log: PathBuf,
    /// Where rootlesskit and its helpers may be, for a user who is not root.
    pub folders: Vec<PathBuf>,
    /// That user's `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
}

/// See the module.
#[derive(Debug)]
pub struct Native {
    options: NativeOptions,
    /// How namespaces are made, for a user who is not root.
    rootless: Option<Rootless>,
    /// One start or stop at a time.
    turn: Mutex<()>,
}

/// What must be known again after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    /// Absent between choosing the network and starting the engine.
    process: Option<Process>,
    /// What dockerd's containers are connected to.
    #[serde(default)]
    network: Option<Network>,
    #[serde(default)]
    backend: Backend,
    /// Where an engine without root runs.
    #[serde(default)]
    namespaces: Option<Namespaces>,
}

impl Native {
    /// Takes the paths; starts nothing.
    #[must_use]
    pub fn new(options: NativeOptions) -> Self {
        let root = nix::unistd::Uid::effective().is_root();
        let rootless = (!root).then(|| Rootless::new(&options));
        Self {
            options,
            rootless,
            turn: Mutex::new(()),
        }
    }

    fn remembered(&self) -> Option<Remembered> {
        let text = fs::read(&self.options.state).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Written before what it describes is made, so that a crash or an error in
    /// between leaves nothing that nobody knows of.
    fn remember(&self, remembered: &Remembered) -> Result<()> {
        let text = serde_json::to_vec_pretty(remembered).expect("plain data is always JSON");
        write(&self.options.state, &text)
    }

    fn alive(&self) -> Option<Process> {
        let remembered = self.remembered()?;
        // Without who holds them open, namespaces have no way to the outside any more.
        let held = remembered
            .namespaces
            .is_none_or(|them| them.holder.is_alive());
        remembered
            .process
            .filter(|process| held && process.is_alive())
    }

    /// Who holds the namespaces open, as long as it lives.
    fn holder(&self) -> Option<Process> {
        let namespaces = self.remembered()?.namespaces?;
        Some(namespaces.holder).filter(Process::is_alive)
    }

    /// The engine that runs, or ran last.
    fn backend(&self) -> Backend {
        self.remembered().unwrap_or_default().backend
    }

    /// Tells our containers from those of other users of the same containerd.
    fn containerd_namespace(&self) -> String {
        // A namespace takes letters and digits, with single separators between them.
        let letters = self.options.suffix.chars();
        let letters: String = letters
            .filter(char::is_ascii_alphanumeric)
            .take(40)
            .collect();
        format!("rdd-{}-i{letters}", self.options.index)
    }

    fn config_file(&self) -> PathBuf {
        self.options.run.join("dockerd.json")
    }

    fn program(&self, backend: Backend) -> Option<&Path> {
        let places = match backend {
            Backend::Moby => &self.options.dockerd,
            Backend::Containerd => &self.options.containerd,
        };
        let mut places = places.iter().map(PathBuf::as_path);
        places.find(|place| place.is_file())
    }

    /// Where a containerd without dockerd listens.
    fn containerd_socket(&self) -> PathBuf {
        self.options.socket.with_file_name("containerd.sock")
    }

    fn exec_root(&self) -> PathBuf {
        self.options.run.join("exec")
    }

    /// The containerd of an engine that is gone ends with it, a moment later.
    async fn end_containerd(&self) -> Result<()> {
        if let Some(containerd) = process::containerd(&self.exec_root())
            && !containerd.wait(CONTAINERD).await
        {
            containerd.terminate();
            if !containerd.wait(CONTAINERD).await {
                return Err(Error::Stuck {
                    pid: containerd.pid,
                });
            }
        }
        Ok(())
    }

    /// Removes what a dead engine left and a new one would believe.
    async fn clear_the_way(&self) -> Result<()> {
        self.end_containerd().await?;
        // Numbers of processes that are gone: dockerd takes a zombie, or whoever has
        // the number now, for the owner, and waits for it in vain or refuses to start.
        remove_file(&self.exec_root().join("containerd/containerd.pid"))?;
        remove_file(&self.pid_file())?;
        // The socket would look like one that refuses.
        remove_file(&self.options.socket)
    }

    fn pid_file(&self) -> PathBuf {
        self.options.run.join("dockerd.pid")
    }

    fn log(&self) -> Result<File> {
        let log = &self.options.log;
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        options.open(log).map_err(Error::file("open", log))
    }

    /// Namespaces for an engine without root: those that live, or new ones.
    async fn namespaces(
        &self,
        rootless: &Rootless,
        backend: Backend,
        until: Instant,
    ) -> Result<Namespaces> {
        let remembered = self.remembered().unwrap_or_default();
        let namespaces = match remembered.namespaces {
            Some(namespaces) if namespaces.holder.is_alive() => namespaces,
            _ => {
                if let Some(what) = rootless.lacks() {
                    return Err(Error::Rootless(what));
                }
                // What runs in namespaces that nobody holds is cut off for ever.
                self.kill_engine().await?;
                self.end_containerd().await?;
                self.end_orphans().await?;
                rootless.end(None).await?;
                let namespaces = rootless.spawn(self.log()?)?;
                self.remember(&Remembered {
                    backend,
                    namespaces: Some(namespaces.clone()),
                    ..Remembered::default()
                })?;
                namespaces
            }
        };
        if !rootless.ready(&namespaces, until).await {
            let failed = self.failed(backend, "got no namespaces");
            rootless.end(Some(&namespaces.holder)).await?;
            return Err(failed);
        }
        if let Some(why) = &namespaces.no_network {
            tracing::warn!("containers have no network: {why}");
        }
        Ok(namespaces)
    }

    async fn spawn(
        &self,
        backend: Backend,
        program: &Path,
        namespaces: Option<&Namespaces>,
    ) -> Result<Process> {
        let command = match (&self.rootless, namespaces) {
            (Some(rootless), Some(namespaces)) => rootless.engine(namespaces, program)?,
            _ => Command::new(program),
        };
        let mut command = match backend {
            Backend::Moby => self.dockerd(command, namespaces).await?,
            Backend::Containerd => self.containerd(command)?,
        };
        let log = self.log()?;
        let second = self.log()?;
        command
            .env("PATH", search_path(program))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second)
            .process_group(0);
        let mut child = command.spawn().map_err(Error::file("start", program))?;
        let pid = child.id().unwrap_or_default();
        let process = Process::of(pid).ok_or_else(|| self.failed(backend, "ended at once"))?;
        tokio::spawn(async move {
            // Only to take its exit status: who cares about the process watches it.
            let _status = child.wait().await;
        });
        self.remember(&Remembered {
            process: Some(process.clone()),
            backend,
            ..self.remembered().unwrap_or_default()
        })?;
        Ok(process)
    }

    /// A containerd that shares nothing with one that the system runs.
    fn containerd(&self, mut command: Command) -> Result<Command> {
        let (data, run) = (&self.options.data, &self.options.run);
        // Images and volumes for Kubernetes' own interface are no business of this engine.
        let config = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        let file = run.join("containerd.toml");
        write(&file, config.as_bytes())?;
        self.remember(&Remembered {
            process: None,
            network: None,
            backend: Backend::Containerd,
            ..self.remembered().unwrap_or_default()
        })?;
        remove_file(&self.containerd_socket())?;
        command
            .arg("--config")
            .arg(file)
            .arg("--root")
            .arg(data.join("containerd-alone"))
            .arg("--state")
            .arg(run.join("containerd-alone"))
            .arg("--address")
            .arg(self.containerd_socket());
        Ok(command)
    }

    /// A dockerd on a network of its own.
    async fn dockerd(
        &self,
        mut command: Command,
        namespaces: Option<&Namespaces>,
    ) -> Result<Command> {
        let options = &self.options;
        settings::write(&options.settings, &self.config_file(), true)?;
        let namespace = self.containerd_namespace();
        match namespaces {
            Some(namespaces) => self.use_namespaces(&mut command, namespaces).await?,
            None => self.use_bridge(&mut command).await?,
        }
        command
            .arg("--config-file")
            .arg(self.config_file())
            .arg("--data-root")
            .arg(&options.data)
            .arg("--exec-root")
            .arg(self.exec_root())
            .arg("--pidfile")
            .arg(self.pid_file())
            .arg("--host")
            .arg(self.endpoint())
            .args(["--containerd-namespace", &namespace])
            .args([
                "--containerd-plugins-namespace",
                &format!("{namespace}-plugins"),
            ]);
        Ok(command)
    }

    /// The host's network, with a bridge and rules that are nobody else's.
    async fn use_bridge(&self, command: &mut Command) -> Result<()> {
        let options = &self.options;
        let network = match self.remembered().and_then(|remembered| remembered.network) {
            Some(network) => network,
            None => Network::choose(&options.suffix, options.index).await?,
        };
        self.remember(&Remembered {
            network: Some(network.clone()),
            ..Remembered::default()
        })?;
        network.up().await?;
        self.clear_the_way().await?;
        command
            .args(["--bridge", &network.bridge])
            .args([
                "--default-address-pool",
                &format!("base={},size=24", network.range()),
            ])
            .args(["--iptables=false", "--ip6tables=false"]);
        Ok(())
    }

    /// The network of namespaces is the engine's alone: it does there what it likes.
    async fn use_namespaces(&self, command: &mut Command, namespaces: &Namespaces) -> Result<()> {
        self.clear_the_way().await?;
        if let Some(rootless) = &self.rootless {
            rootless.release_ports().await;
        }
        command.arg("--rootless");
        if namespaces.no_network.is_some() {
            command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
        }
        Ok(())
    }

    async fn answers(&self, backend: Backend) -> bool {
        match backend {
            Backend::Moby => {
                let answer = http(&self.options.socket, "GET", "/_ping").await;
                answer.is_some_and(|answer| answer.contains("200 OK"))
            }
            // It listens once it serves.
            Backend::Containerd => UnixStream::connect(self.containerd_socket()).await.is_ok(),
        }
    }

    /// From now on the engine's end is its containers' end too.
    async fn take_live_restore_back(&self, process: &Process) -> Result<()> {
        settings::write(&self.options.settings, &self.config_file(), false)?;
        process.reload();
        let begin = Instant::now();
        while begin.elapsed() < RELOAD {
            let info = http(&self.options.socket, "GET", "/info").await;
            let info = info.unwrap_or_default();
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

    fn failed(&self, backend: Backend, what: &str) -> Error {
        let text = fs::read_to_string(&self.options.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        Error::Engine {
            backend,
            what: what.to_owned(),
            log: self.options.log.clone(),
            tail: lines[lines.len().saturating_sub(TAIL)..].join("\n"),
        }
    }

    /// Ends the engine, and with it its containers; by force once the time is over.
    async fn stop_process(&self, until: Instant) -> Result<()> {
        let Some(process) = self.alive() else {
            return self.kill_engine().await;
        };
        match self.backend() {
            Backend::Moby => self.take_live_restore_back(&process).await?,
            Backend::Containerd => self.end_containers(until).await?,
        }
        process.terminate();
        if process
            .wait(until.saturating_duration_since(Instant::now()))
            .await
        {
            return Ok(());
        }
        tracing::warn!(
            pid = process.pid,
            "dockerd did not end in time and is killed"
        );
        self.kill_engine().await
    }

    /// Ends the engine's process whatever it does.
    async fn kill_engine(&self) -> Result<()> {
        let process = self.remembered().and_then(|remembered| remembered.process);
        let Some(process) = process.filter(Process::is_alive) else {
            return Ok(());
        };
        process.kill_group();
        if process.wait(KILL).await {
            Ok(())
        } else {
            Err(Error::Stuck { pid: process.pid })
        }
    }

    /// Ends what a containerd runs: it would let it go on without itself.
    async fn end_containers(&self, until: Instant) -> Result<()> {
        let until = until.min(Instant::now() + CONTAINERS);
        let shims = self.shims_of_containerd();
        let shims: Vec<Process> = shims.into_iter().map(|shim| shim.process).collect();
        let inside: Vec<Process> = shims.iter().flat_map(Process::children).collect();
        match &self.rootless {
            Some(rootless) => {
                rootless
                    .signal(self.holder().as_ref(), &inside, "TERM")
                    .await
            }
            None => inside.iter().for_each(Process::terminate),
        }
        for process in &inside {
            process
                .wait(until.saturating_duration_since(Instant::now()))
                .await;
        }
        self.kill_all(inside.into_iter().chain(shims).collect())
            .await
    }

    /// Containers of dockerd that run without it: it died, or had to be killed.
    fn orphans_of_dockerd(&self) -> Vec<Shim> {
        process::shims(
            &self.containerd_namespace(),
            &self.options.data.join("containers"),
        )
    }

    /// Containers of a containerd alone, whether or not it lives.
    fn shims_of_containerd(&self) -> Vec<Shim> {
        process::shims_at(&self.containerd_socket())
    }

    /// Ends containers that no engine can end any more.
    async fn end_orphans(&self) -> Result<()> {
        let mut killed = Vec::new();
        let alone = self.shims_of_containerd();
        let of_dockerd = self.orphans_of_dockerd();
        for Shim { process: shim, .. } in alone.iter().chain(&of_dockerd) {
            tracing::warn!(pid = shim.pid, "a container without an engine is killed");
            killed.extend(shim.children());
            killed.push(shim.clone());
        }
        self.kill_all(killed).await?;
        if self.rootless.is_some() {
            // Everything else of them ends with the namespaces.
            return Ok(());
        }
        // What runc keeps of them lies outside our folders, and would be in the way of
        // another container of the same name.
        for Shim {
            namespace,
            container,
            ..
        } in alone
        {
            let root = Path::new(RUNC_STATE).join(&namespace);
            if !root.join(&container).is_dir() {
                continue;
            }
            let root = root.to_string_lossy();
            let words = ["--root", &root, "delete", "--force", &container];
            if let Err(error) = network::run("runc", &words).await {
                tracing::warn!(container, %error, "what runc keeps of a killed container stays");
            }
        }
        Ok(())
    }

    /// All at once, so that many take no longer than one.
    async fn kill_all(&self, processes: Vec<Process>) -> Result<()> {
        match &self.rootless {
            Some(rootless) => {
                rootless
                    .signal(self.holder().as_ref(), &processes, "KILL")
                    .await
            }
            None => processes.iter().for_each(Process::kill),
        }
        let until = Instant::now() + KILL;
        for process in processes {
            let left = until.saturating_duration_since(Instant::now());
            if !process.wait(left).await {
                return Err(Error::Stuck { pid: process.pid });
            }
        }
        Ok(())
    }

    async fn start_in_turn(&self, backend: Backend, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        let process = match self.alive() {
            Some(process) => process,
            None => {
                let program = self.program(backend).ok_or(Error::NotInstalled(backend))?;
                for folder in [&self.options.run, &self.options.data] {
                    fs::DirBuilder::new()
                        .recursive(true)
                        .mode(0o700)
                        .create(folder)
                        .map_err(Error::file("create", folder))?;
                }
                let namespaces = match &self.rootless {
                    Some(rootless) => {
                        Some(self.namespaces(rootless, backend, begin + limit).await?)
                    }
                    None => None,
                };
                self.spawn(backend, program, namespaces.as_ref()).await?
            }
        };
        while !self.answers(backend).await {
            if !process.is_alive() {
                return Err(self.failed(backend, "ended while it started"));
            }
            if begin.elapsed() >= limit {
                return Err(self.failed(backend, "does not answer"));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn stop_in_turn(&self) -> Result<()> {
        let graceful = if self.rootless.is_some() {
            GRACEFUL.saturating_sub(rootless::END)
        } else {
            GRACEFUL
        };
        let until = Instant::now() + graceful;
        network::quiet().await;
        let can_start = self.rootless.is_none() || self.holder().is_some();
        if self.alive().is_none()
            && can_start
            && self.backend() == Backend::Moby
            && !self.orphans_of_dockerd().is_empty()
        {
            // An engine ends its containers better than a signal does.
            if let Err(error) = self.start_in_turn(Backend::Moby, REVIVE).await {
                tracing::warn!(%error, "no engine comes up to end the containers of the one before");
            }
        }
        self.stop_process(until).await?;
        self.end_containerd().await?;
        self.end_orphans().await?;
        if let Some(rootless) = &self.rootless {
            rootless.end(self.holder().as_ref()).await?;
        }
        // An engine that was killed has not taken its own mounts away.
        for folder in [&self.options.data, &self.options.run] {
            unmount_below(folder).await?;
        }
        if let Some(network) = self.remembered().and_then(|remembered| remembered.network) {
            network.down().await?;
        }
        remove_file(&self.options.socket)?;
        remove_file(&self.containerd_socket())?;
        remove_file(&self.options.state)
    }
}

#[async_trait]
impl Machine for Native {
    fn endpoint(&self) -> String {
        format!("unix://{}", self.options.socket.display())
    }

    async fn probe(&self, backend: Backend) -> Result<()> {
        self.program(backend).ok_or(Error::NotInstalled(backend))?;
        match self.rootless.as_ref().and_then(Rootless::lacks) {
            Some(what) => Err(Error::Rootless(what)),
            None => Ok(()),
        }
    }

    fn remark(&self) -> Option<String> {
        let why = self.remembered()?.namespaces?.no_network?;
        Some(format!("without root, containers have no network: {why}"))
    }

    async fn start(&self, backend: Backend) -> Result<()> {
        let _turn = self.turn.lock().await;
        // Also one of which only containers are left.
        if self.remembered().is_some() && self.backend() != backend {
            self.stop_in_turn().await?;
        }
        self.start_in_turn(backend, START).await
    }

    async fn is_running(&self) -> bool {
        self.alive().is_some()
    }

    async fn ended(&self) {
        while let Some(process) = self.alive() {
            let ended = match self.holder() {
                Some(holder) => tokio::select! {
                    ended = process.ended() => ended,
                    ended = holder.ended() => ended,
                },
                None => process.ended().await,
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "the kernel does not tell when the engine ends");
                sleep(WATCH).await;
            }
        }
    }

    async fn stop(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.stop_in_turn().await
    }

    async fn destroy(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.stop_in_turn().await?;
        let folders = [&self.options.data, &self.options.run];
        for folder in folders {
            match (fs::remove_dir_all(folder), &self.rootless) {
                (Err(error), Some(rootless))
                    if error.kind() == std::io::ErrorKind::PermissionDenied =>
                {
                    return rootless.remove(&folders).await;
                }
                (Err(error), _) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("remove", folder)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where dockerd finds its own helpers, whatever path this process was started with.
fn search_path(dockerd: &Path) -> std::ffi::OsString {
    let mut path = dockerd
        .parent()
        .unwrap_or(Path::new("/usr/sbin"))
        .as_os_str()
        .to_owned();
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
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

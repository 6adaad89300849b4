//! Namespaces in which an ordinary user is root, so that an engine needs no other rights.
//!
//! rootlesskit makes them and holds them open. The engine is no child of it but enters
//! them: so they, and the containers in them, outlive an engine that dies, and the next
//! one takes them over. Numbers of processes are the host's, inside as well as outside.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::http::http;
use super::process::{self, Process};
use super::{KILL, LOOK, NativeOptions, lacks, remove_file};
use crate::error::{Error, Result};

/// Who holds namespaces may take so long to end what it started, before it is killed.
const HOLDER: Duration = Duration::from_secs(2);

/// The longest that the end of namespaces takes.
pub(super) const END: Duration = HOLDER.saturating_add(KILL);

/// Runs inside first: makes room for files of its own where links to the host's are, says
/// that it is ready, and keeps the namespaces.
const KEEP: &str = "rm -f /run/docker /run/containerd /run/runc /run/xtables.lock && : > \"$0\" && exec sleep infinity";

/// Namespaces that live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Namespaces {
    /// rootlesskit.
    pub(super) holder: Process,
    /// Why they have no network of their own; then containers have none at all.
    pub(super) no_network: Option<String>,
}

/// How namespaces are made and found.
#[derive(Debug)]
pub(super) struct Rootless {
    /// Where programs may be.
    folders: Vec<PathBuf>,
    /// What a login would have as `XDG_RUNTIME_DIR`.
    runtime: PathBuf,
    /// Where rootlesskit keeps its state; short, since sockets lie in it.
    state: PathBuf,
    /// Exists once they are ready.
    mark: PathBuf,
}

impl Rootless {
    pub(super) fn new(options: &NativeOptions) -> Self {
        let run = &options.run;
        let runtime = options.runtime.clone().filter(|folder| folder.is_dir());
        Self {
            folders: options.folders.clone(),
            runtime: runtime.unwrap_or_else(|| run.clone()),
            state: run.join("kit"),
            mark: run.join("kit.ready"),
        }
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        let mut places = self.folders.iter().map(|folder| folder.join(program));
        places.find(|place| place.is_file())
    }

    /// What keeps this user from having namespaces, and what to do about it.
    pub(super) fn lacks(&self) -> Option<String> {
        let user = lacks::User {
            uid: Uid::effective().as_raw(),
            name: nix::unistd::User::from_uid(Uid::effective())
                .ok()
                .flatten()
                .map(|user| user.name),
        };
        lacks::lacks(Path::new("/"), &user, |program| self.find(program))
    }

    /// Begins to make namespaces; what is said about it goes to the log.
    pub(super) fn spawn(&self, log: File) -> Result<Namespaces> {
        remove_file(&self.mark)?;
        let kit = self
            .find("rootlesskit")
            .ok_or_else(|| Error::Rootless("rootlesskit is not installed".to_owned()))?;
        let no_network = lacks::no_network(Path::new("/"), |program| self.find(program));
        let second = log.try_clone().map_err(Error::file("open", &self.state))?;
        let mut command = Command::new(&kit);
        command.arg(state_word(&self.state)).args([
            "--copy-up=/etc",
            "--copy-up=/run",
            "--propagation=rslave",
        ]);
        match &no_network {
            None => command.args([
                "--net=slirp4netns",
                "--mtu=65520",
                "--slirp4netns-sandbox=auto",
                "--slirp4netns-seccomp=auto",
                "--disable-host-loopback",
                "--port-driver=builtin",
            ]),
            Some(_) => command.arg("--net=host"),
        };
        command
            .args(["sh", "-c", KEEP])
            .arg(&self.mark)
            .env("PATH", self.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second)
            .process_group(0);
        let mut child = command.spawn().map_err(Error::file("start", &kit))?;
        let holder = child.id().and_then(Process::of).ok_or_else(|| {
            Error::Rootless("rootlesskit ended at once; the engine's log says why".to_owned())
        })?;
        tokio::spawn(async move {
            // Only to take its exit status.
            let _status = child.wait().await;
        });
        Ok(Namespaces { holder, no_network })
    }

    /// Whether they are made before that moment. `false` as soon as they cannot be any more.
    pub(super) async fn ready(&self, namespaces: &Namespaces, until: Instant) -> bool {
        while !self.mark.exists() {
            if !namespaces.holder.is_alive() || Instant::now() >= until {
                return false;
            }
            sleep(LOOK).await;
        }
        namespaces.holder.is_alive()
    }

    /// A process inside, through which others enter.
    pub(super) fn door(&self, holder: &Process) -> Option<Process> {
        let word = state_word(&self.state);
        let mut inside = holder.children().into_iter();
        inside.find(|child| process::words(child.pid).contains(&word))
    }

    /// A program among the users and mounts of this process, as root of them. More words for
    /// `nsenter`, and then the program, follow.
    fn enter(&self, door: &Process) -> Result<Command> {
        let nsenter = self.find("nsenter").ok_or_else(|| {
            Error::Rootless(
                "nsenter is not installed (Debian, Ubuntu: apt-get install -y util-linux)"
                    .to_owned(),
            )
        })?;
        let mut command = Command::new(nsenter);
        command
            .args(["--target", &door.pid.to_string()])
            .args(["--user", "--preserve-credentials", "--mount"])
            .env("PATH", self.path());
        Ok(command)
    }

    /// An engine in these namespaces.
    pub(super) fn engine(&self, namespaces: &Namespaces, program: &Path) -> Result<Command> {
        let door = self.door(&namespaces.holder).ok_or_else(|| {
            Error::Rootless("the namespaces of the engine ended while it started".to_owned())
        })?;
        let mut command = self.enter(&door)?;
        if namespaces.no_network.is_none() {
            command.arg("--net");
        }
        command
            .arg(program)
            .env("ROOTLESSKIT_STATE_DIR", &self.state)
            .env("ROOTLESSKIT_PARENT_EUID", Uid::effective().to_string())
            .env("ROOTLESSKIT_PARENT_EGID", Gid::effective().to_string());
        // dockerd insists on one, also where no login has made it.
        command.env("XDG_RUNTIME_DIR", &self.runtime);
        Ok(command)
    }

    /// Takes back ports that a dead engine published: the next one publishes them anew.
    pub(super) async fn release_ports(&self) {
        let socket = self.state.join("api.sock");
        let Some(answer) = http(&socket, "GET", "/v1/ports").await else {
            return;
        };
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let ports: Vec<serde_json::Value> = serde_json::from_str(body).unwrap_or_default();
        for port in ports {
            let path = format!("/v1/ports/{}", port["id"]);
            if http(&socket, "DELETE", &path).await.is_none() {
                tracing::warn!(%port, "a published port of the engine before stays taken");
            }
        }
    }

    /// Signals processes inside, also those of other users there.
    pub(super) async fn signal(&self, holder: Option<&Process>, who: &[Process], signal: &str) {
        let living: Vec<&Process> = who.iter().filter(|process| process.is_alive()).collect();
        let own = |process: &&&Process| process::user(process.pid) == Some(Uid::effective());
        let door = holder
            .and_then(|holder| self.door(holder))
            .or_else(|| living.iter().find(own).map(|process| (*process).clone()));
        let Some(door) = door else {
            return;
        };
        let send = async {
            let mut command = self.enter(&door)?;
            command
                .args(["sh", "-c", "kill -s \"$0\" -- \"$@\" 2>&1 || :", signal])
                .args(living.iter().map(|process| process.pid.to_string()))
                .stdin(Stdio::null());
            command
                .output()
                .await
                .map_err(Error::file("run", "nsenter"))
        };
        match send.await {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                tracing::warn!(said, "failed to signal processes of the engine");
            }
            Err(error) => tracing::warn!(%error, "failed to signal processes of the engine"),
        }
    }

    /// Ends the namespaces, also those that nobody remembers.
    pub(super) async fn end(&self, remembered: Option<&Process>) -> Result<()> {
        let stray = process::rootlesskit(&state_word(&self.state));
        for holder in remembered.into_iter().chain(&stray) {
            holder.terminate();
            if !holder.wait(HOLDER).await {
                holder.kill_group();
                if !holder.wait(KILL).await {
                    return Err(Error::Stuck { pid: holder.pid });
                }
            }
        }
        remove_file(&self.mark)?;
        remove_folder(&self.state)
    }

    /// Removes folders in which other users of the namespaces own files.
    pub(super) async fn remove(&self, folders: &[&PathBuf]) -> Result<()> {
        let kit = self.find("rootlesskit").ok_or_else(|| {
            Error::Rootless(
                "files of containers can only be removed with rootlesskit, which is not installed any more"
                    .to_owned(),
            )
        })?;
        // Beside what is removed.
        let state = self
            .state
            .parent()
            .unwrap_or(&self.state)
            .with_extension("rm");
        let output = Command::new(kit)
            .arg(state_word(&state))
            .args(["rm", "-rf", "--"])
            .args(folders)
            .env("PATH", self.path())
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(Error::file("run", "rootlesskit"))?;
        remove_folder(&state)?;
        if output.status.success() {
            return Ok(());
        }
        let folders: Vec<String> = folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        Err(Error::Command {
            command: format!("rootlesskit rm -rf {}", folders.join(" ")),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    fn path(&self) -> OsString {
        std::env::join_paths(&self.folders).unwrap_or_default()
    }
}

fn state_word(state: &Path) -> String {
    format!("--state-dir={}", state.display())
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

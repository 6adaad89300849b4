//! `cargo xtask demo`: from a bare machine to containers in a Kubernetes API.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{capture, cargo, find, run, target};
use crate::setup;

/// The demo's own side-by-side copy of rdd, so that it never touches the user's.
const INSTANCE: &str = "--instance=demo";

/// What the demo runs: name, whether it mounts the volume, and the shell line.
const CONTAINERS: &[(&str, &str)] = &[
    (
        "web",
        "echo 'hello from rdd' > /data/index.html && exec httpd -f -p 80 -h /data",
    ),
    (
        "clock",
        "while true; do date > /data/time.txt; sleep 1; done",
    ),
];

const IMAGE: &str = "rdd-demo:latest";
const VOLUME: &str = "rdd-demo-data";

/// Sets the machine up, starts everything and shows it.
pub(crate) fn run_demo(install: bool) -> Result<()> {
    println!(
        "This demo needs the Debian packages docker.io and busybox-static, a release build of rdd,"
    );
    println!(
        "and starts a control plane `demo` with a Docker daemon of its own. It leaves the machine's"
    );
    println!("Docker and its containers alone. `cargo xtask demo --clean` removes what it made.\n");
    setup::packages(&[setup::ENGINE], install)?;
    run(cargo().args(["build", "--release", "--package", "rdd"]))?;
    let rdd = Rdd::new()?;
    run(rdd.command().arg("start"))?;
    let socket = capture(rdd.command().args(["svc", "paths", "docker_socket"]))?;
    let docker = Docker::new(&socket)?;
    import_image(&docker)?;
    run(docker.command().args(["volume", "create", VOLUME]))?;
    for (name, line) in CONTAINERS {
        // A second run of the demo starts from fresh containers.
        capture(docker.command().args(["rm", "--force", name]))?;
        run(docker
            .command()
            .args(["run", "--detach", "--name", name])
            .args([
                "--publish",
                "127.0.0.1::80",
                "--volume",
                &format!("{VOLUME}:/data"),
                IMAGE,
                "sh",
                "-c",
                line,
            ]))?;
    }
    for name in CONTAINERS.iter().map(|(name, _)| name) {
        let id = capture(
            docker
                .command()
                .args(["inspect", "--format", "{{.Id}}", name]),
        )?;
        let object = format!("container/{id}");
        capture(rdd.command().args([
            "ctl",
            "wait",
            "--for=condition=Running",
            &object,
            "--timeout=30s",
        ]))?;
    }
    println!();
    run(rdd
        .command()
        .args(["ctl", "get", "containers,images,volumes"]))?;
    let shown = rdd.binary.display();
    println!("\nTry next:");
    println!(
        "  {shown} {INSTANCE} ctl get containers -w      and, in another terminal, docker -H unix://{socket} stop web"
    );
    println!(
        "  {shown} {INSTANCE} ctl annotate container --all containers.rancherdesktop.io/action=restart --overwrite"
    );
    println!(
        "  KUBECONFIG=$({shown} {INSTANCE} svc paths config) kubectl get containers -o wide      (or k9s)"
    );
    Ok(())
}

/// Removes the demo's instance and everything that belongs to it.
pub(crate) fn clean() -> Result<()> {
    let binary = release_binary()?;
    if binary.exists() {
        run(Rdd::new()?.command().args(["svc", "delete"]))?;
    } else {
        println!(
            "{} is not built: there is no demo to remove",
            binary.display()
        );
    }
    let folder = image_folder()?;
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    println!("The demo is gone.");
    Ok(())
}

struct Rdd {
    binary: PathBuf,
}

impl Rdd {
    fn new() -> Result<Self> {
        Ok(Self {
            binary: release_binary()?,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(INSTANCE);
        command
    }
}

struct Docker {
    program: PathBuf,
    endpoint: String,
}

impl Docker {
    fn new(socket: &str) -> Result<Self> {
        Ok(Self {
            program: find("docker").context("no docker client on the path")?,
            endpoint: format!("unix://{socket}"),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--host").arg(&self.endpoint);
        command
    }
}

fn release_binary() -> Result<PathBuf> {
    Ok(target()?.join("release/rdd"))
}

fn image_folder() -> Result<PathBuf> {
    Ok(target()?.join("demo-image"))
}

/// A root file system of one static busybox: no registry is needed.
fn import_image(docker: &Docker) -> Result<()> {
    let folder = image_folder()?;
    let archive = folder.with_extension("tar");
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "data"] {
        let path = folder.join(name);
        fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
    }
    let busybox = find("busybox").context("no busybox on the path")?;
    let inside = folder.join("bin/busybox");
    fs::copy(&busybox, &inside).with_context(|| format!("failed to copy {}", busybox.display()))?;
    for applet in [
        "sh", "date", "echo", "httpd", "sleep", "ls", "cat", "ps", "wget",
    ] {
        link(Path::new("busybox"), &folder.join("bin").join(applet))?;
    }
    capture(
        Command::new("tar")
            .arg("-C")
            .arg(&folder)
            .arg("-cf")
            .arg(&archive)
            .arg("."),
    )?;
    run(docker
        .command()
        .args(["import", "--change", "CMD [\"sh\"]"])
        .arg(&archive)
        .arg(IMAGE))?;
    fs::remove_file(&archive).with_context(|| format!("failed to remove {}", archive.display()))
}

fn link(target: &Path, place: &Path) -> Result<()> {
    match std::os::unix::fs::symlink(target, place) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("failed to link {}", place.display()))
        }
        _ => Ok(()),
    }
}

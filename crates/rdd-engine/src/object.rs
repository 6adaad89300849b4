//! What engines have, with every list in a canonical order.

use std::collections::BTreeMap;

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name as the engine keeps it, with a leading slash.
    pub name: String,
    /// What runs in it.
    pub path: String,
    /// With these arguments.
    pub args: Vec<String>,
    /// The identifier of its image.
    pub image: String,
    /// The name by which the image was asked for.
    pub image_name: String,
    /// Exposed and published ports, by name.
    pub ports: Vec<Port>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `running`, `exited`, …, in the engine's word.
    pub state: String,
    /// `starting`, `healthy`, `unhealthy`, or empty without a check.
    pub health: String,
    /// The number of its first process; 0 is none.
    pub pid: i64,
    /// How it ended.
    pub exit_code: i64,
    /// Why it could not run.
    pub error: String,
    /// Whether the kernel ended it for its memory.
    pub oom_killed: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// How often the engine restarted it.
    pub restart_count: i64,
    /// When the engine restarts it.
    pub restart_policy: String,
    /// What is mounted, by destination.
    pub mounts: Vec<Mount>,
    /// Its networks, by name.
    pub networks: Vec<Network>,
    /// Times in RFC 3339 with whole seconds; absent when the engine reports none.
    pub created_at: Option<String>,
    /// When it last started.
    pub started_at: Option<String>,
    /// When it last ended.
    pub finished_at: Option<String>,
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// `80/tcp`.
    pub name: String,
    /// Where it is published.
    pub bindings: Vec<Binding>,
}

/// Where a port is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The address.
    pub host_ip: String,
    /// The port.
    pub host_port: String,
}

/// A mount of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// Where in the container.
    pub destination: String,
    /// `bind`, `volume`, `tmpfs`.
    pub kind: String,
    /// The volume's name.
    pub name: String,
    /// Where on the engine's machine.
    pub source: String,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// A network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The container's address.
    pub ip_address: String,
    /// Its address of the newer protocol, where the network has such addresses.
    pub ipv6_address: String,
}

/// What a list says about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSummary {
    /// `sha256:…`.
    pub id: String,
    /// Its tags, sorted, without `<none>:<none>`.
    pub tags: Vec<String>,
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`.
    pub id: String,
    /// Its tags, sorted, without `<none>:<none>`.
    pub tags: Vec<String>,
    /// Its digests in registries, sorted.
    pub digests: Vec<String>,
    /// When it was built.
    pub created_at: Option<String>,
    /// For which processors.
    pub architecture: String,
    /// For which system.
    pub os: String,
    /// In bytes.
    pub size: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// What keeps it.
    pub driver: String,
    /// Where on the engine's machine.
    pub mountpoint: String,
    /// `local` or `global`.
    pub scope: String,
    /// When it was made, if its driver says.
    pub created_at: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
}

//! `config.yaml`: how clients find this start and who they are.

use std::net::SocketAddr;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdd_instance::process::write_private;
use rdd_instance::{Instance, PathKey};

/// The tokens of one start; another start has others.
pub(crate) struct Tokens {
    /// Of `system-admin`, who may do everything.
    pub(crate) admin: String,
    /// Of `user`, who may do what is granted.
    pub(crate) user: String,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self {
            admin: uuid::Uuid::new_v4().to_string(),
            user: uuid::Uuid::new_v4().to_string(),
        }
    }
}

/// Writes the file; readers see the old one or the whole new one.
pub(crate) fn write(
    instance: &Instance,
    address: SocketAddr,
    authority: &str,
    tokens: &Tokens,
) -> Result<()> {
    let name = instance.name();
    let authority = STANDARD.encode(authority);
    let Tokens { admin, user } = tokens;
    // A server that listens everywhere is reached over loopback from here.
    let host = if address.ip().is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    } else {
        address
    };
    let text = format!(
        "# The control plane {name} of rdd, rewritten at each start.\n\
apiVersion: v1
kind: Config
clusters:
- name: root
  cluster:
    server: https://{host}
    certificate-authority-data: {authority}
users:
- name: system-admin
  user:
    token: {admin}
- name: user
  user:
    token: {user}
contexts:
- name: root
  context:
    cluster: root
    user: system-admin
- name: user
  context:
    cluster: root
    user: user
current-context: root
"
    );
    Ok(write_private(
        &instance.path(PathKey::Config),
        text.as_bytes(),
    )?)
}

//! What an engine can be asked to make or to move.

use std::collections::BTreeMap;
use std::fmt;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::error::Result;
use crate::object::{Mount, Port};

/// A container to be made. What is empty is the image's own or the engine's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewContainer {
    /// Its name; without one the engine makes one up.
    pub name: Option<String>,
    /// The image, by identifier or reference; it must be there.
    pub image: String,
    /// What runs in it, in the place of the image's entry point.
    pub path: Option<String>,
    /// Its arguments, in the place of the image's command.
    pub args: Option<Vec<String>>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Ports to expose, and where to publish them.
    pub ports: Vec<Port>,
    /// Labels, beside the image's.
    pub labels: BTreeMap<String, String>,
    /// What to mount: binds by `source`, volumes by `name`, tmpfs by neither.
    pub mounts: Vec<Mount>,
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub restart_policy: String,
}

/// A volume to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name; without one the engine makes one up.
    pub name: Option<String>,
    /// What keeps it.
    pub driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
}

/// Who is asking a registry. Never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password, unless there is a token.
    pub password: String,
    /// A token that stands for both.
    pub identity_token: String,
    /// The registry that they are for.
    pub server: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// A step of a pull or a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferStep {
    /// The layer that it is about, if it is about one.
    pub layer: Option<String>,
    /// The engine's word for what happens: `Downloading`, `Pull complete`, `Pushed`, ….
    pub status: String,
    /// Bytes done and to do, where the engine tells.
    pub done: Option<u64>,
    /// See `done`.
    pub total: Option<u64>,
    /// The digest of what was moved, told once at the end.
    pub digest: Option<String>,
}

/// A pull or a push that goes on. It ends well when [`Transfer::next`] says `None`;
/// dropping it earlier cancels it.
#[derive(Debug)]
pub struct Transfer {
    pub(crate) steps: mpsc::Receiver<Result<TransferStep>>,
    pub(crate) _reader: AbortOnDropHandle<()>,
}

impl Transfer {
    /// The next step. An error is the last one.
    pub async fn next(&mut self) -> Option<Result<TransferStep>> {
        self.steps.recv().await
    }
}

/// Splits a reference to an image into its repository and its tag or digest; without
/// either it means `latest`, as for the Docker client.
#[must_use]
pub fn split_reference(reference: &str) -> (&str, &str) {
    if let Some((repository, digest)) = reference.split_once('@') {
        return (repository, digest);
    }
    let name = reference.rfind('/').map_or(0, |slash| slash + 1);
    match reference[name..].rfind(':') {
        Some(colon) => (&reference[..name + colon], &reference[name + colon + 1..]),
        None => (reference, "latest"),
    }
}

/// The registry of a reference; `None` for Docker's own.
#[must_use]
pub fn registry_of(reference: &str) -> Option<&str> {
    let (first, _) = reference.split_once('/')?;
    (first.contains(['.', ':']) || first == "localhost").then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_split_as_docker_splits_them() {
        for (reference, wanted, registry) in [
            ("busybox", ("busybox", "latest"), None),
            ("a/b:1", ("a/b", "1"), None),
            ("localhost/a", ("localhost/a", "latest"), Some("localhost")),
            (
                "127.0.0.1:5000/a",
                ("127.0.0.1:5000/a", "latest"),
                Some("127.0.0.1:5000"),
            ),
            ("r.io/a/b:1", ("r.io/a/b", "1"), Some("r.io")),
            ("r.io/a@sha256:12", ("r.io/a", "sha256:12"), Some("r.io")),
            ("", ("", "latest"), None),
        ] {
            assert_eq!(split_reference(reference), wanted, "{reference}");
            assert_eq!(registry_of(reference), registry, "{reference}");
        }
    }

    #[test]
    fn credentials_are_never_printed() {
        let credentials = Credentials {
            password: "secret".to_owned(),
            identity_token: "secret".to_owned(),
            ..Credentials::default()
        };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}

//! dockerd's configuration file: the user's settings plus what rdd decides while running.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Keys by which instances and the system's Docker are kept apart.
const OWNED: &[&str] = &[
    "bip",
    "bridge",
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "data-root",
    "default-address-pools",
    "exec-root",
    "graph",
    "hosts",
    "ip6tables",
    "iptables",
    "live-restore",
    "pidfile",
];

/// Writes the file that dockerd reads, at its start and when told to look again.
pub(super) fn write(user: &Path, target: &Path, live_restore: bool) -> Result<()> {
    let mut settings = read(user)?;
    settings.insert("live-restore".to_owned(), live_restore.into());
    let text = serde_json::to_vec_pretty(&settings).expect("JSON is always text");
    super::write(target, &text)
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        other => other.map_err(Error::file("read", path))?,
    };
    let refuse = |reason: String| Error::Settings {
        path: path.to_path_buf(),
        reason,
    };
    let settings: Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| refuse(format!("no JSON object: {error}")))?;
    for key in OWNED {
        if settings.contains_key(*key) {
            return Err(refuse(format!("{key:?} is decided by rdd; remove it")));
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(user: Option<&str>, wanted: Result<&str, &str>) {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, target) = (
            folder.path().join("daemon.json"),
            folder.path().join("out.json"),
        );
        if let Some(user) = user {
            fs::write(&path, user).expect("writes");
        }
        match (write(&path, &target, true), wanted) {
            (Ok(()), Ok(wanted)) => {
                let text = fs::read_to_string(&target).expect("written");
                assert_eq!(text.replace(['\n', ' '], ""), wanted);
            }
            (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
            (got, wanted) => panic!("{got:?} instead of {wanted:?}"),
        }
    }

    #[test]
    fn the_users_settings_are_passed_on_and_ours_are_not_theirs() {
        check(None, Ok(r#"{"live-restore":true}"#));
        check(
            Some(r#"{"log-driver": "local"}"#),
            Ok(r#"{"live-restore":true,"log-driver":"local"}"#),
        );
        check(
            Some(r#"{"data-root": "/x"}"#),
            Err("\"data-root\" is decided by rdd"),
        );
        check(Some("{"), Err("no JSON object"));
        check(Some("[]"), Err("no JSON object"));
    }
}

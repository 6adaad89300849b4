//! Who the user is to a registry, as `docker login` left it: in `config.json`, or with a
//! helper program that it names.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdd_engine::Credentials;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::files::Files;

/// How Docker's own registry is called in its files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// How long a helper may take: it may have to unlock a key ring.
const HELPER: Duration = Duration::from_secs(30);

/// Finds a program by its name.
pub type FindProgram = Arc<dyn Fn(&str) -> Option<PathBuf> + Send + Sync>;

/// The user's credentials.
#[derive(Clone)]
pub struct CredentialStore {
    files: Files,
    find: FindProgram,
}

impl fmt::Debug for CredentialStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CredentialStore")
            .finish_non_exhaustive()
    }
}

impl CredentialStore {
    /// Credentials from these files and from helpers that `find` finds.
    #[must_use]
    pub fn new(files: Files, find: FindProgram) -> Self {
        Self { files, find }
    }

    /// The credentials for a registry; Docker's own without a name. `None` when the user
    /// is not logged in there.
    ///
    /// # Errors
    /// When the configuration cannot be read or a helper fails. The text holds no secret.
    pub async fn get(&self, registry: Option<&str>) -> Result<Option<Credentials>> {
        let config = self.files.config_value()?;
        let server = registry.unwrap_or(DOCKER_HUB);
        let helper = config["credHelpers"][server]
            .as_str()
            .or_else(|| config["credsStore"].as_str())
            .filter(|helper| !helper.is_empty());
        match helper {
            Some(helper) => self.ask(helper, server).await,
            None => Ok(stored(&config, server)),
        }
    }

    /// The protocol of docker-credential-helpers: the server on standard input, a
    /// document on standard output.
    async fn ask(&self, helper: &str, server: &str) -> Result<Option<Credentials>> {
        let name = format!("docker-credential-{helper}");
        let failed = |reason: String| Error::Helper {
            name: name.clone(),
            reason,
        };
        if helper.contains('/') {
            return Err(failed("its name is no program's".to_owned()));
        }
        let program = (self.find)(&name).ok_or_else(|| failed("it is not installed".to_owned()))?;
        let mut child = Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let asked = async {
            if let Some(mut stdin) = child.stdin.take() {
                match stdin.write_all(server.as_bytes()).await {
                    // Who answers without having read the question answers all the same.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                    written => written?,
                }
            }
            child.wait_with_output().await
        };
        let output = match timeout(HELPER, asked).await {
            Err(_) => return Err(failed(format!("it did not answer within {HELPER:?}"))),
            Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            if said.contains("credentials not found") {
                return Ok(None);
            }
            return Err(failed(format!("it ended with {}", output.status)));
        }
        let answer: Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| failed("its answer cannot be read".to_owned()))?;
        let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
        let (username, secret) = (text("Username"), text("Secret"));
        let mut credentials = Credentials {
            server: server.to_owned(),
            ..Credentials::default()
        };
        if username == "<token>" {
            credentials.identity_token = secret;
        } else {
            credentials.username = username;
            credentials.password = secret;
        }
        Ok(Some(credentials))
    }
}

fn stored(config: &Value, server: &str) -> Option<Credentials> {
    let entries = config["auths"].as_object()?;
    let (_, entry) = entries
        .iter()
        .find(|(name, _)| *name == server)
        .or_else(|| entries.iter().find(|(name, _)| host(name) == host(server)))?;
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let mut credentials = Credentials {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
        server: server.to_owned(),
    };
    if let Ok(pair) = STANDARD.decode(text("auth")) {
        let pair = String::from_utf8_lossy(&pair);
        if let Some((username, password)) = pair.trim_end_matches('\0').split_once(':') {
            username.clone_into(&mut credentials.username);
            password.clone_into(&mut credentials.password);
        }
    }
    let given = !credentials.username.is_empty() || !credentials.identity_token.is_empty();
    given.then_some(credentials)
}

/// Entries of older clients are addresses.
fn host(name: &str) -> &str {
    let name = name
        .strip_prefix("https://")
        .or_else(|| name.strip_prefix("http://"))
        .unwrap_or(name);
    name.split('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn store(config: &str, helper: Option<&str>) -> (tempfile::TempDir, CredentialStore) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("config.json"), config).expect("a file");
        let program = folder.path().join("helper");
        if let Some(script) = helper {
            // Written by another process: a program cannot be run while a child that this one
            // starts at the same moment has it open for writing.
            let written = std::process::Command::new("/bin/sh")
                .args(["-c", r#"printf '%s\n' "$1" > "$0" && chmod 755 "$0""#])
                .arg(&program)
                .arg(format!("#!/bin/sh\n{script}"))
                .status();
            assert!(written.expect("a shell").success());
        }
        let find = move |_: &str| program.is_file().then(|| program.clone());
        let store = CredentialStore::new(Files::new(folder.path().to_owned()), Arc::new(find));
        (folder, store)
    }

    #[tokio::test]
    async fn what_docker_login_stored_is_found_under_any_form_of_the_name() {
        // `me:pass:word`
        let config = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6cGFzczp3b3Jk"},
            "https://r.example/v2/": {"auth": "bWU6cGFzczp3b3Jk", "identitytoken": "t"},
            "empty.example": {}}}"#;
        let (_folder, store) = store(config, None);
        let hub = store.get(None).await.expect("readable").expect("known");
        assert_eq!(
            (hub.username.as_str(), hub.password.as_str()),
            ("me", "pass:word")
        );
        let other = store
            .get(Some("r.example"))
            .await
            .expect("readable")
            .expect("known");
        assert_eq!(other.identity_token, "t");
        for unknown in ["x.example", "empty.example"] {
            assert_eq!(
                store.get(Some(unknown)).await.expect("readable"),
                None,
                "{unknown}"
            );
        }
    }

    #[tokio::test]
    async fn a_helper_is_asked_where_one_is_named() {
        let config = r#"{"credHelpers": {"r.example": "x"}}"#;
        let answer = r#"read server; echo "{\"Username\": \"<token>\", \"Secret\": \"$server\"}""#;
        let (_folder, found) = store(config, Some(answer));
        let token = found
            .get(Some("r.example"))
            .await
            .expect("readable")
            .expect("known");
        assert_eq!(token.identity_token, "r.example");
        assert_eq!(
            found.get(Some("other.example")).await.expect("readable"),
            None
        );
        let (_folder, none) = store(
            config,
            Some("echo credentials not found in native keychain; exit 1"),
        );
        assert_eq!(none.get(Some("r.example")).await.expect("readable"), None);
        // One that ends without having read what it is asked for: more than a pipe holds.
        let long = "r".repeat(200_000);
        let config = json!({"credHelpers": {long.as_str(): "x"}}).to_string();
        let (_folder, deaf) = store(&config, Some("echo credentials not found; exit 1"));
        assert_eq!(deaf.get(Some(&long)).await.expect("readable"), None);
        let config = r#"{"credHelpers": {"r.example": "x"}}"#;
        for broken in [Some("exit 3"), Some("echo secret"), None] {
            let (_folder, broken) = store(config, broken);
            let error = broken.get(Some("r.example")).await.expect_err("it fails");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}

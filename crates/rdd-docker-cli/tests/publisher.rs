//! The context of an instance, in folders like a user's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdd_docker_cli::{Files, Options, Publisher};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

const OURS: &str = "rancher-desktop-t";

struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("docker")).expect("a folder");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("docker/config.json")
    }

    fn files(&self) -> Files {
        Files::new(self.path("docker"))
    }

    fn options(&self) -> Options {
        Options {
            folder: self.path("docker"),
            context: OURS.to_owned(),
            memory: self.path("memory"),
            default_endpoint: format!("unix://{}", self.path("default.sock").display()),
            decided_by: None,
        }
    }

    fn publisher(&self) -> Publisher {
        Publisher::new(self.options())
    }

    /// A publisher whose context leads to `/x.sock`.
    async fn published(&self) -> Publisher {
        let publisher = self.publisher();
        let written = publisher.publish("unix:///x.sock").await;
        written.expect("it is written");
        publisher
    }

    fn selected(&self) -> Option<String> {
        self.files().current().expect("it is readable")
    }

    async fn becomes(&self, selected: Option<&str>) {
        let begin = Instant::now();
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while self.selected().as_deref() != selected {
            looks.tick().await;
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "never {selected:?}"
            );
        }
    }

    /// A context as docker makes it.
    fn add_context(&self, name: &str, endpoints: &Value) {
        use sha2::{Digest as _, Sha256};
        let id = hex::encode(Sha256::digest(name.as_bytes()));
        let folder = self.path("docker/contexts/meta").join(id);
        fs::create_dir_all(&folder).expect("a folder");
        let meta = json!({"Name": name, "Metadata": {}, "Endpoints": endpoints});
        fs::write(folder.join("meta.json"), meta.to_string()).expect("a file");
    }
}

/// Answers pings like an engine.
fn engine(path: &Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            if stream.read(&mut head).await.is_ok() {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK";
                drop(stream.write_all(answer).await);
            }
        }
    })
}

#[tokio::test]
async fn a_context_is_made_selected_in_place_of_a_dead_one_and_withdrawn() {
    let home = Home::new();
    let publisher = home.published().await;
    let context = home.files().context(OURS).expect("readable").expect("made");
    assert_eq!(context.host.as_deref(), Some("unix:///x.sock"));
    home.becomes(Some(OURS)).await;
    publisher
        .publish("unix:///y.sock")
        .await
        .expect("it is replaced");
    let context = home.files().context(OURS).expect("readable").expect("made");
    assert_eq!(context.host.as_deref(), Some("unix:///y.sock"));
    publisher.withdraw().await.expect("it goes");
    assert_eq!(home.selected(), None);
    assert_eq!(home.files().context(OURS).expect("readable"), None);
    publisher.withdraw().await.expect("again is nothing");
    assert!(!home.path("memory").exists());
}

#[tokio::test]
async fn only_what_is_provably_dead_is_replaced() {
    let home = Home::new();
    let alive = engine(&home.path("alive.sock"));
    let tls = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let open = tls.local_addr().expect("a port").port();
    let closed = {
        let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        gone.local_addr().expect("a port").port()
    };
    let docker = |host: &str| json!({"docker": {"Host": host}});
    let unix = |name: &str| docker(&format!("unix://{}", home.path(name).display()));
    for (name, endpoints, replaced) in [
        ("alive", unix("alive.sock"), false),
        ("dead", unix("dead.sock"), true),
        ("ssh", docker("ssh://nobody@nowhere.invalid"), false),
        ("pipe", docker("npipe:////./pipe/x"), false),
        ("open", docker(&format!("tcp://127.0.0.1:{open}")), false),
        ("closed", docker(&format!("tcp://127.0.0.1:{closed}")), true),
        ("malformed", docker("tcp://"), false),
        ("nothing", json!({}), false),
    ] {
        home.add_context(name, &endpoints);
        fs::write(home.config(), json!({"currentContext": name}).to_string()).expect("a file");
        let publisher = home.published().await;
        if replaced {
            home.becomes(Some(OURS)).await;
        }
        // Awaits the probe; a healthy selection is untouched, a replaced one comes back.
        publisher.withdraw().await.expect("it goes");
        assert_eq!(home.selected().as_deref(), Some(name), "{name}");
    }
    fs::write(home.config(), r#"{"currentContext": "unknown"}"#).expect("a file");
    let publisher = home.published().await;
    home.becomes(Some(OURS)).await;
    publisher.withdraw().await.expect("it goes");
    assert_eq!(
        home.selected(),
        None,
        "a selection that does not exist is not brought back"
    );
    alive.abort();
}

#[tokio::test]
async fn a_living_default_engine_keeps_the_selection_empty() {
    let home = Home::new();
    let engine = engine(&home.path("default.sock"));
    let publisher = home.published().await;
    publisher.withdraw().await.expect("it goes");
    assert!(!home.config().exists());
    engine.abort();
}

#[tokio::test]
async fn a_selection_that_the_environment_decides_is_left_alone() {
    let home = Home::new();
    let publisher = Publisher::new(Options {
        decided_by: Some("DOCKER_HOST"),
        ..home.options()
    });
    publisher
        .publish("unix:///x.sock")
        .await
        .expect("it is written");
    assert!(home.files().context(OURS).expect("readable").is_some());
    publisher.withdraw().await.expect("it goes");
    assert!(!home.config().exists());
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_never_written() {
    let home = Home::new();
    for text in ["{", "[]", r#"{"currentContext": 1}"#] {
        fs::write(home.config(), text).expect("a file");
        let publisher = home.publisher();
        publisher
            .publish("unix:///x.sock")
            .await
            .expect("the context is another file");
        publisher.withdraw().await.expect_err("it is malformed");
        assert_eq!(fs::read_to_string(home.config()).expect("a file"), text);
    }
}

#[tokio::test]
async fn what_a_crash_left_is_repaired_by_the_next_start() {
    let home = Home::new();
    let docker =
        json!({"docker": {"Host": format!("unix://{}", home.path("dead.sock").display())}});
    home.add_context("before", &docker);
    fs::write(home.config(), r#"{"currentContext": "before"}"#).expect("a file");
    let crashed = home.published().await;
    home.becomes(Some(OURS)).await;
    drop(crashed);
    home.publisher().withdraw().await.expect("it goes");
    assert_eq!(home.selected().as_deref(), Some("before"));
}

#[tokio::test]
async fn links_modes_and_foreign_fields_survive() {
    let home = Home::new();
    let target = home.path("real.json");
    fs::write(
        &target,
        r#"{"auths": {"r": {"auth": "c2VjcmV0"}}, "x": {"b": 1, "a": 2}}"#,
    )
    .expect("a file");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).expect("a mode");
    std::os::unix::fs::symlink(&target, home.config()).expect("a link");
    let publisher = home.published().await;
    home.becomes(Some(OURS)).await;
    publisher.withdraw().await.expect("it goes");
    assert!(home.config().is_symlink());
    assert_eq!(
        fs::metadata(&target).expect("a file").permissions().mode() & 0o777,
        0o640
    );
    let text = fs::read_to_string(&target).expect("a file");
    assert!(
        text.contains(r#"{"b": 1, "a": 2}"#) && text.contains("c2VjcmV0"),
        "{text}"
    );
    let left: Vec<_> = fs::read_dir(home.folder.path())
        .expect("a folder")
        .flatten()
        .collect();
    assert_eq!(left.len(), 2, "no temporary file stays: {left:?}");
}

/// Writes as `docker login` does: read, change, temporary file, rename.
fn log_in(config: &Path, registry: usize) {
    let text = fs::read(config).expect("a file");
    let mut config_value: Value = serde_json::from_slice(&text).expect("whole at every moment");
    config_value["auths"][format!("r{registry}")] = json!({"auth": "eA=="});
    let folder = config.parent().expect("a folder");
    let file = tempfile::NamedTempFile::new_in(folder).expect("a file");
    fs::write(file.path(), config_value.to_string()).expect("a file");
    file.persist(config).expect("renamed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_whole_at_every_moment_while_others_write_it() {
    let home = Home::new();
    fs::write(home.config(), r#"{"auths": {}}"#).expect("a file");
    let (round, rounds) = std::sync::mpsc::sync_channel(0);
    let writer = std::thread::spawn({
        let config = home.config();
        move || {
            let mut last = 0;
            for () in rounds {
                // Fewer than a change of ours is tried: on a busy machine it would never win.
                for _ in 0..20 {
                    last += 1;
                    log_in(&config, last);
                }
            }
            last
        }
    });
    for _ in 0..50 {
        round.send(()).expect("the writer lives");
        let publisher = home.published().await;
        home.becomes_or_not().await;
        publisher.withdraw().await.expect("it goes");
    }
    drop(round);
    let last = writer.join().expect("every read was whole");
    // With nobody in between, a last login and a last selection both stand.
    log_in(&home.config(), last + 1);
    let publisher = home.published().await;
    home.becomes(Some(OURS)).await;
    publisher.withdraw().await.expect("it goes");
    let text = fs::read_to_string(home.config()).expect("a file");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    assert!(config["auths"].get(format!("r{}", last + 1)).is_some());
}

/// The docker client with this configuration and no other.
fn run_docker(home: &Home, words: &[&str]) -> std::process::Output {
    let mut docker = std::process::Command::new("docker");
    docker
        .env_clear()
        .env("HOME", home.folder.path())
        .arg("--config")
        .arg(home.path("docker"))
        .args(words)
        .output()
        .expect("docker is installed")
}

/// What [`run_docker`] printed when nothing failed.
fn docker(home: &Home, words: &[&str]) -> String {
    let output = run_docker(home, words);
    assert!(output.status.success(), "docker {words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Selects a context while ours comes and goes. The client reads which context is
/// selected and then looks for it: one that is withdrawn in between it calls missing,
/// and has done nothing.
fn select_meanwhile(home: &Home, context: &str) {
    let words = ["context", "use", context];
    let gone = format!("Current context \"{OURS}\" is not found");
    loop {
        let output = run_docker(home, &words);
        if output.status.success() {
            return;
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains(&gone), "docker {words:?}: {output:?}");
    }
}

/// What a command would use now. (`docker context show` is younger than Debian's client.)
fn selected_by_docker(home: &Home) -> String {
    let current = "{{if .Current}}{{.Name}}{{end}}";
    docker(home, &["context", "ls", "--format", current])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_itself_reads_what_is_written_and_nothing_of_its_own_is_lost() {
    const ROUNDS: usize = 10;
    let home = Arc::new(Home::new());
    fs::write(
        home.config(),
        r#"{"auths": {"r": {"auth": "eDp5"}}, "psFormat": "{{.ID}}", "HttpHeaders": {"Z": "1", "A": "2"}}"#,
    )
    .expect("a file");
    for name in ["one", "two"] {
        let host = format!("host=unix://{}", home.path(name).display());
        docker(&home, &["context", "create", name, "--docker", &host]);
    }
    let user = std::thread::spawn({
        let home = Arc::clone(&home);
        move || {
            for _ in 0..ROUNDS {
                select_meanwhile(&home, "one");
                select_meanwhile(&home, "two");
            }
        }
    });
    while !user.is_finished() {
        let publisher = home.published().await;
        home.becomes_or_not().await;
        publisher.withdraw().await.expect("it goes");
        assert_ne!(home.selected().as_deref(), Some(OURS));
    }
    user.join().expect("docker read a whole file each time");
    let text = fs::read_to_string(home.config()).expect("a file");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["auths"]["r"]["auth"], "eDp5");
    assert_eq!(config["psFormat"], "{{.ID}}");
    assert_eq!(config["HttpHeaders"], json!({"Z": "1", "A": "2"}));
    docker(&home, &["context", "use", "one"]);
    let publisher = home.published().await;
    home.becomes(Some(OURS)).await;
    assert_eq!(selected_by_docker(&home), OURS);
    let host = "{{.Endpoints.docker.Host}}";
    assert_eq!(
        docker(&home, &["context", "inspect", OURS, "-f", host]),
        "unix:///x.sock"
    );
    publisher.withdraw().await.expect("it goes");
    assert_eq!(selected_by_docker(&home), "one");
    assert_eq!(
        docker(&home, &["context", "ls", "-q"])
            .lines()
            .collect::<Vec<_>>(),
        ["default", "one", "two"]
    );
}

impl Home {
    /// Lets a probe get anywhere: it may have been overtaken by a login.
    async fn becomes_or_not(&self) {
        let mut looks = tokio::time::interval(Duration::from_micros(500));
        for _ in 0..4 {
            looks.tick().await;
        }
    }
}

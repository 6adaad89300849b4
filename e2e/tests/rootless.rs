//! A user who is not root has an engine of their own all the same.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdd_e2e::{Lab, is_alive, kill, shell, wait_until};
use serde_json::Value;

/// The tests share a user, and look at everything that the user runs.
static TURN: Mutex<()> = Mutex::new(());

/// The state file of the engine.
fn engine(lab: &Lab) -> Value {
    let text = fs::read(lab.path("dir").join("engine.json")).expect("an engine is remembered");
    serde_json::from_slice(&text).expect("JSON")
}

fn number(value: &Value) -> u32 {
    value
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok())
        .expect("a process number")
}

fn running(lab: &Lab) -> String {
    lab.run(&[
        "ctl",
        "get",
        "app/app",
        "-o",
        "jsonpath={.status.conditions[?(@.type==\"Running\")].message}",
    ])
    .ok()
}

/// When the container was started last, and its process.
fn container(lab: &Lab, name: &str) -> String {
    let words = ["inspect", "-f", "{{.State.StartedAt}}@{{.State.Pid}}", name];
    lab.docker(&words.join(" "))
}

fn is_mirrored_as(lab: &Lab, name: &str, state: &str) -> bool {
    let all = "jsonpath={range .items[*]}{.status.name}={.status.status} {end}";
    let all = lab.run(&["ctl", "get", "containers", "-o", all]);
    all.code == 0
        && all
            .stdout
            .split(' ')
            .any(|one| one == format!("{name}={state}"))
}

fn answers(port: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("served"))
}

/// Mounts, and processes that belong to the engine or one of its containers.
fn left(lab: &Lab) -> String {
    shell(&format!(
        "grep -F {0} /proc/mounts || true; pgrep -af -e {0} | grep -v -e pgrep -e 'svc serve' || true; \
         pgrep -afx '(busybox )?sleep 98765' || true; pgrep -u {1} -afx 'sleep infinity' || true",
        lab.home().display(),
        lab.user()
    ))
}

/// A static busybox, and a page that it can serve.
fn image(lab: &Lab) {
    shell(&format!(
        "mkdir -p {0}/box/bin {0}/box/www && cp /bin/busybox {0}/box/bin/busybox && echo served > {0}/box/www/index.html \
         && tar -C {0}/box -c . | docker -H unix://{1} import - box:1",
        lab.home().display(),
        lab.path("docker_socket").display()
    ));
}

fn serve(lab: &Lab) -> String {
    image(lab);
    lab.docker("volume create shared");
    // Others than root of the container own files and processes, which the user may not touch.
    let run = "run --rm --network none -v shared:/v";
    lab.docker(&format!("{run} box:1 busybox mkdir -m 700 /v/private"));
    lab.docker(&format!("{run} box:1 busybox chown 1000:1000 /v/private"));
    lab.docker(&format!(
        "{run} --user 1000:1000 box:1 busybox touch /v/private/file"
    ));
    lab.docker(
        "run -d --stop-signal KILL --name other --user 1000:1000 --restart unless-stopped box:1 busybox sleep 98765",
    );
    lab.docker("run -d --stop-signal KILL --name web --restart unless-stopped -p 127.0.0.1::80 box:1 busybox httpd -f -h /www");
    let port = lab.docker("port web 80/tcp");
    port.rsplit(':').next().expect("a port").to_owned()
}

#[test]
fn an_engine_without_root_is_mirrored_adopted_healed_and_leaves_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::without_root("ordinary");
    let has_network = fs::metadata("/dev/net/tun").is_ok();
    assert!(has_network, "/dev/net/tun is missing: modprobe tun");
    lab.rdd("set running=true").ok();
    assert_eq!(running(&lab), "The container engine is running");
    let first = engine(&lab);
    let (dockerd, holder) = (
        &first["process"]["pid"],
        &first["namespaces"]["holder"]["pid"],
    );
    let owner = shell(&format!("ps -o uid= -p {dockerd}"));
    assert_ne!(owner, "0", "dockerd runs as the user");
    let port = serve(&lab);
    wait_until("both are mirrored", || {
        is_mirrored_as(&lab, "web", "running") && is_mirrored_as(&lab, "other", "running")
    });
    assert!(lab.rdd("run docker ps").ok().contains("web"));
    wait_until("a published port answers on the host", || answers(&port));

    // The daemon dies: nothing else happens, and the next one takes all of it over.
    let (web, other) = (container(&lab, "web"), container(&lab, "other"));
    kill(lab.pid());
    lab.rdd("start").ok();
    assert_eq!(engine(&lab), first);
    assert_eq!(
        (container(&lab, "web"), container(&lab, "other")),
        (web.clone(), other.clone())
    );

    // The engine dies: its containers go on, and the next one takes them over.
    kill(number(dockerd));
    wait_until("another dockerd runs", || {
        let now = &engine(&lab)["process"]["pid"];
        now != dockerd && is_alive(number(now))
    });
    lab.rdd("start").ok();
    assert_eq!(engine(&lab)["namespaces"], first["namespaces"]);
    assert_eq!(
        (container(&lab, "web"), container(&lab, "other")),
        (web, other.clone())
    );
    wait_until("the published port is published again", || answers(&port));

    // What keeps the namespaces dies: all in them is cut off, and made anew.
    kill(number(holder));
    wait_until("other namespaces are made", || {
        let now = &engine(&lab)["namespaces"]["holder"]["pid"];
        !now.is_null() && now != holder
    });
    lab.rdd("start").ok();
    wait_until("containers are started again, as they are to be", || {
        is_mirrored_as(&lab, "web", "running") && is_mirrored_as(&lab, "other", "running")
    });
    assert_ne!(container(&lab, "other"), other);

    // An orderly stop leaves data alone.
    lab.rdd("set running=false").ok();
    assert_eq!(left(&lab), "");
    let short = lab.path("short_dir");
    for name in ["docker.sock", "run/kit", "run/kit.ready", "run/dockerd.pid"] {
        assert!(!short.join(name).exists(), "{name}");
    }
    assert!(!lab.path("dir").join("engine.json").exists());

    // Everything dies at once, and the engine is not wanted any more.
    lab.rdd("start").ok();
    wait_until("it is back", || is_mirrored_as(&lab, "other", "running"));
    let now = engine(&lab);
    kill(lab.pid());
    kill(number(&now["process"]["pid"]));
    kill(number(&now["namespaces"]["holder"]["pid"]));
    lab.rdd("stop").ok();
    assert_eq!(left(&lab), "");

    let folder = lab.path("dir");
    lab.rdd("start").ok();
    lab.rdd("svc delete").ok();
    assert_eq!(left(&lab), "");
    assert!(
        !folder.exists() && !short.exists(),
        "files of other users are removed as well"
    );
}

#[test]
fn an_engine_without_root_takes_the_place_of_another() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::without_root("ordinary2");
    lab.rdd("set running=true containerEngine.name=containerd")
        .ok();
    let remembered = engine(&lab);
    let holder = number(&remembered["namespaces"]["holder"]["pid"]);
    // A containerd's client makes mounts and pipes itself, and so has to be where it is.
    let inside = number(&remembered["process"]["pid"]);
    let socket = lab.path("short_dir").join("containerd.sock");
    let ctr = format!(
        "nsenter --target {inside} --user --mount --net ctr --address {}",
        socket.display()
    );
    shell(&format!("{ctr} version"));
    lab.rdd("set containerEngine.name=moby").ok();
    assert!(!is_alive(inside) && !is_alive(holder));
    assert!(!socket.exists());
    image(&lab);
    lab.docker("run --rm box:1 busybox true");
    lab.rdd("stop").ok();
    assert_eq!(left(&lab), "");
}

#[test]
fn without_a_network_device_there_is_an_engine_that_says_what_it_lacks() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::without_root("ordinary3");
    let closed = lab.home().join("closed");
    fs::write(&closed, "").expect("writes");
    // Only the daemon of this instance sees it: mounts are its own.
    let start = lab.command(&["start"]);
    let words: Vec<String> = std::iter::once(start.get_program())
        .chain(start.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut command = std::process::Command::new("unshare");
    lab.environment(&mut command)
        .args(["--mount", "sh", "-c"])
        .arg("chmod 0 \"$0\" && mount --bind \"$0\" /dev/net/tun && exec \"$@\"")
        .arg(&closed)
        .args(words);
    let done = rdd_e2e::Done::from(command.output().expect("unshare is there"));
    done.ok();
    let said = running(&lab);
    assert!(
        said.contains("containers have no network: /dev/net/tun cannot be used: Permission denied"),
        "{said}"
    );
    assert!(said.contains("chmod 666 /dev/net/tun"), "{said}");
    image(&lab);
    lab.docker("run -d --stop-signal KILL --name alone box:1 busybox sleep 98765");
    wait_until("it is mirrored", || {
        is_mirrored_as(&lab, "alone", "running")
    });
    lab.rdd("stop").ok();
    assert_eq!(left(&lab), "");
    assert!(Path::new("/dev/net/tun").exists());
}

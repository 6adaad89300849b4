//! A real dockerd: started, adopted, killed and stopped. Needs root and docker.io.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rdd_machine::{Backend, Machine as _, Native, NativeOptions};

fn options(home: &Path, suffix: &str, index: u16) -> NativeOptions {
    NativeOptions {
        suffix: suffix.to_owned(),
        index,
        dockerd: vec![PathBuf::from("/usr/sbin/dockerd")],
        containerd: vec![PathBuf::from("/usr/bin/containerd")],
        data: home.join("data"),
        run: home.join("run"),
        socket: home.join("docker.sock"),
        state: home.join("engine.json"),
        settings: home.join("daemon.json"),
        log: home.join("dockerd.log"),
        folders: Vec::new(),
        runtime: None,
    }
}

fn shell(line: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", line])
        .output()
        .expect("sh is there");
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn docker(home: &Path, words: &str) -> String {
    shell(&format!(
        "docker -H unix://{}/docker.sock {words}",
        home.display()
    ))
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pid(home: &Path) -> String {
    let text = std::fs::read_to_string(home.join("engine.json")).expect("it runs");
    text.lines()
        .find_map(|line| line.trim().strip_prefix("\"pid\": "))
        .expect("it names a process")
        .trim_end_matches(',')
        .to_owned()
}

/// Links, addresses and firewall rules of the engine under test and of no other.
fn left_on_the_host(range: &str) -> String {
    shell(&format!(
        "ip -o link | grep rdd150 || true; ip -o -4 address | grep -F ' {range}' || true; iptables-save | grep RDD-150 || true"
    ))
}

fn run_container(home: &Path) {
    shell(&format!(
        "mkdir -p {0}/image/bin && cp /bin/busybox {0}/image/bin/sh && cp /bin/busybox {0}/image/bin/busybox && tar -C {0}/image -c . | docker -H unix://{0}/docker.sock import - box:1",
        home.display()
    ));
    docker(
        home,
        "run -d --restart=unless-stopped --name survivor box:1 /bin/sh -c 'while true; do read -t 1 x; done'",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_is_started_adopted_restarted_and_stopped_without_a_trace() {
    let home = tempfile::Builder::new()
        .prefix("rddm")
        .tempdir_in("/tmp")
        .expect("a folder");
    let home = home.path();
    let machine = Native::new(options(home, "machinetest", 150));
    machine.start(Backend::Moby).await.expect("it starts");
    let first = pid(home);
    let range = shell(
        "ip -o -4 address show dev rdd150-machi | sed 's/.* inet \\(10[.][0-9]*[.]\\).*/\\1/'",
    );
    assert!(range.starts_with("10.") && range.len() <= 7, "{range}");
    assert_ne!(left_on_the_host(&range), "");
    run_container(home);
    let started = docker(home, "inspect -f '{{.State.StartedAt}}' survivor");

    // A network of the user, and a port that is published from it.
    docker(home, "network create mine");
    docker(
        home,
        "run -d --rm --name web --network mine -p 127.0.0.1::80 box:1 busybox httpd -f -p 80 -h /bin",
    );
    let address = docker(home, "port web 80/tcp");
    wait_until("the published port answers", || {
        let answer = shell(&format!(
            "busybox wget -q -O - http://{address}/sh 2>/dev/null | wc -c"
        ));
        answer != "0"
    });

    // Another owner, as after a crash of rdd, adopts the same process.
    let machine = Native::new(options(home, "machinetest", 150));
    assert!(machine.is_running().await);
    machine.start(Backend::Moby).await.expect("it adopts");
    assert_eq!(pid(home), first);

    // The engine dies; its containers do not, and the next engine has them again.
    shell(&format!("kill -9 {first}"));
    tokio::time::timeout(Duration::from_secs(10), machine.ended())
        .await
        .expect("its end is seen");
    machine.start(Backend::Moby).await.expect("it starts again");
    assert_ne!(pid(home), first);
    assert_eq!(
        docker(home, "inspect -f '{{.State.StartedAt}}' survivor"),
        started
    );
    assert_eq!(
        docker(home, "inspect -f '{{.State.Running}}' survivor"),
        "true"
    );

    machine.stop().await.expect("it stops");
    machine.stop().await.expect("stopping again is fine");
    assert!(!home.join("docker.sock").exists());
    let left = format!(
        "ps ax -o args | grep -v grep | grep '{0}' || true; grep ' {0}' /proc/self/mountinfo || true",
        home.display()
    );
    assert_eq!(shell(&left), "", "no process and no mount is left");
    assert_eq!(left_on_the_host(&range), "");

    // An orderly stop ended the container and kept it, with its restart policy.
    machine.start(Backend::Moby).await.expect("it starts");
    wait_until("the restart policy holds", || {
        docker(home, "inspect -f '{{.State.Running}}' survivor") == "true"
    });

    // Without an engine that could end it, the container is ended all the same.
    shell(&format!("kill -9 {}", pid(home)));
    let engineless = Native::new(NativeOptions {
        dockerd: Vec::new(),
        ..options(home, "machinetest", 150)
    });
    wait_until("a container outlives its engine", || {
        let line = format!(
            "ps ax -o args | grep -v grep | grep -c '^/usr/bin/containerd-shim.*{}' || true",
            home.display()
        );
        shell(&line) == "1"
    });
    engineless.destroy().await.expect("it is removed");
    assert!(!home.join("data").exists());
    assert!(!home.join("run").exists());
    assert_eq!(left_on_the_host(&range), "");
    let left = shell(&format!(
        "grep -c ' {}' /proc/self/mountinfo || true",
        home.display()
    ));
    assert_eq!(left, "0", "no mount is left");
}

#[tokio::test]
async fn settings_that_dockerd_refuses_are_shown_in_its_words() {
    let home = tempfile::Builder::new()
        .prefix("rddm")
        .tempdir_in("/tmp")
        .expect("a folder");
    let machine = Native::new(options(home.path(), "-1 ü", 151));
    std::fs::write(
        home.path().join("daemon.json"),
        r#"{"no-such-setting": true}"#,
    )
    .expect("writes");
    let error = machine
        .start(Backend::Moby)
        .await
        .expect_err("dockerd refuses it")
        .to_string();
    assert!(error.contains("no-such-setting"), "{error}");
    machine.destroy().await.expect("it is removed");
}

#[tokio::test]
async fn a_machine_without_dockerd_says_how_to_install_it() {
    let home = tempfile::tempdir().expect("a folder");
    let machine = Native::new(NativeOptions {
        dockerd: Vec::new(),
        ..options(home.path(), "machinenone", 152)
    });
    let error = machine
        .start(Backend::Moby)
        .await
        .expect_err("there is none")
        .to_string();
    assert!(error.contains("apt-get install -y docker.io"), "{error}");
    assert!(machine.probe(Backend::Moby).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_engine_takes_the_place_of_the_first_and_ends_its_containers() {
    let home = tempfile::Builder::new()
        .prefix("rddm")
        .tempdir_in("/tmp")
        .expect("a folder");
    let home = home.path();
    let processes = || {
        shell(&format!(
            "ps ax -o args | grep -v grep | grep '{0}' || true; grep ' {0}' /proc/self/mountinfo || true",
            home.display()
        ))
    };
    let ctr = |words: &str| {
        shell(&format!(
            "ctr --address {}/containerd.sock {words}",
            home.display()
        ))
    };
    let machine = Native::new(options(home, "machineswitch", 151));
    machine.start(Backend::Moby).await.expect("it starts");
    run_container(home);
    machine.start(Backend::Containerd).await.expect("it starts");
    assert!(!home.join("docker.sock").exists());
    assert!(
        !processes().contains("dockerd"),
        "the first one is gone: {}",
        processes()
    );

    // Containers of its own, made of a root file system that lies here. runc keeps the
    // state of those of all containerds in one place.
    let [one, two] = ["one", "two"].map(|name| format!("{name}-{}", std::process::id()));
    let first = pid(home);
    ctr("version");
    shell(&format!(
        "mkdir -p {0}/image/proc {0}/image/sys {0}/image/dev",
        home.display()
    ));
    ctr(&format!(
        "run --detach --rootfs {}/image {one} /bin/sh -c 'trap \"exit 0\" TERM; mkfifo /f; read x < /f'",
        home.display()
    ));
    assert!(ctr("tasks ls").contains("RUNNING"));
    // Another owner, as after a crash of rdd, adopts it.
    let machine = Native::new(options(home, "machineswitch", 151));
    machine.start(Backend::Containerd).await.expect("it adopts");
    assert_eq!(pid(home), first);
    assert!(ctr("tasks ls").contains("RUNNING"));

    machine.start(Backend::Moby).await.expect("it starts again");
    assert!(!home.join("containerd.sock").exists());
    wait_until("the restart policy holds", || {
        docker(home, "inspect -f '{{.State.Running}}' survivor") == "true"
    });

    // A containerd that dies leaves its containers, and a stop ends them all the same.
    machine.start(Backend::Containerd).await.expect("it starts");
    ctr(&format!("container rm {one}"));
    ctr(&format!(
        "run --detach --rootfs {}/image {two} /bin/sh -c 'mkfifo /g; read x < /g'",
        home.display()
    ));
    shell(&format!("kill -9 {}", pid(home)));
    tokio::time::timeout(Duration::from_secs(30), machine.ended())
        .await
        .expect("its end is seen");
    machine.stop().await.expect("it stops");
    assert_eq!(processes(), "", "no process and no mount is left");
    let state = Path::new("/run/containerd/runc/default").join(&two);
    assert!(!state.exists(), "runc keeps nothing of it");
    machine.destroy().await.expect("it is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_dropped_anywhere_leaves_nothing_that_a_stop_does_not_find() {
    let home = tempfile::Builder::new()
        .prefix("rddm")
        .tempdir_in("/tmp")
        .expect("a folder");
    let home = home.path();
    let machine = Native::new(options(home, "machinedrop", 152));
    for polls in 1..=16 {
        let mut start = Box::pin(machine.start(Backend::Moby));
        let mut left = polls;
        std::future::poll_fn(|context| {
            left -= 1;
            if start.as_mut().poll(context).is_ready() || left == 0 {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        drop(start);
        machine.stop().await.expect("it stops");
        let left = shell("ip -o link | grep rdd152 || true; iptables-save | grep RDD-152 || true");
        assert_eq!(left, "", "dropped after {polls} polls");
    }
    machine.destroy().await.expect("it is removed");
}

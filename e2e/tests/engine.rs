//! The engine of this machine in the API, and the API's wishes in the engine.

use std::process::{Command, Stdio};

use rdd_e2e::{Done, Lab, kill, shell, wait_until};

fn names(lab: &Lab, kind: &str, path: &str) -> Vec<String> {
    let template = format!("jsonpath={{range .items[*]}}{{{path}}}{{\"\\n\"}}{{end}}");
    let mut names: Vec<String> = lab
        .run(&["ctl", "get", kind, "-o", &template])
        .ok()
        .lines()
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

fn field(lab: &Lab, object: &str, path: &str) -> String {
    let (kind, name) = object.split_once('/').expect("kind and name");
    let done = lab.run(&[
        "ctl",
        "get",
        kind,
        name,
        "-o",
        &format!("jsonpath={{{path}}}"),
    ]);
    if done.code == 0 {
        done.stdout
    } else {
        String::new()
    }
}

fn becomes(lab: &Lab, object: &str, path: &str, wanted: &str) {
    wait_until(&format!("{object} {path} becomes {wanted}"), || {
        field(lab, object, path) == wanted
    });
}

/// A container that stays without burning the processor.
fn start(lab: &Lab, name: &str) -> String {
    let socket = lab.path("docker_socket");
    shell(&format!(
        "docker -H unix://{} run -d --name {name} box:1 /bin/sh -c 'mkfifo /f; read x < /f'",
        socket.display()
    ))
}

/// The Docker client as the user has it: no endpoint named, only its own files.
fn docker_as_user(lab: &Lab, words: &[&str]) -> Done {
    let mut docker = Command::new("docker");
    docker.env_clear().env("HOME", lab.home()).args(words);
    docker.output().expect("docker is installed").into()
}

#[test]
fn docker_reaches_the_engine_by_a_context_as_long_as_it_runs() {
    let lab = Lab::new("context");
    let config = lab.home().join(".docker/config.json");
    std::fs::create_dir(lab.home().join(".docker")).expect("a folder");
    // A selection that leads nowhere, whatever engine this machine may have.
    let text = r#"{"currentContext": "gone", "psFormat": "{{.Names}}", "auths": {"registry.example": {"auth": "eDp5"}}}"#;
    std::fs::write(&config, text).expect("a file");
    lab.rdd("start").ok();
    wait_until("docker uses our context", || {
        docker_as_user(&lab, &["context", "inspect", "-f", "{{.Name}}"])
            .stdout
            .trim()
            == "rancher-desktop-context"
    });
    let there = docker_as_user(&lab, &["info", "-f", "{{.DockerRootDir}}"]).ok();
    assert_eq!(there, lab.docker("info -f {{.DockerRootDir}}"));
    let kept = std::fs::read_to_string(&config).expect("a file");
    assert!(
        kept.contains(r#"{"registry.example": {"auth": "eDp5"}}"#),
        "{kept}"
    );
    lab.rdd("stop").ok();
    let contexts = docker_as_user(&lab, &["context", "ls", "-q"]).ok();
    assert_eq!(contexts, "default");
    assert!(
        !std::fs::read_to_string(&config)
            .expect("a file")
            .contains("currentContext")
    );
}

#[test]
fn what_docker_does_shows_and_what_the_api_asks_is_done() {
    let lab = Lab::new("both");
    lab.rdd("start").ok();
    lab.import_image();
    let id = start(&lab, "web");
    let object = format!("container/{id}");
    becomes(&lab, &object, ".status.status", "running");
    assert_eq!(field(&lab, &object, ".spec.state"), "unknown");
    assert_eq!(field(&lab, &object, ".status.lastAction"), "");
    lab.docker("rename web api");
    becomes(&lab, &object, ".status.name", "api");
    lab.docker("pause api");
    becomes(&lab, &object, ".status.status", "paused");
    lab.docker("unpause api");
    becomes(&lab, &object, ".status.status", "running");

    // Images: one object per tag, and tags that come and go.
    lab.docker("tag box:1 other:2");
    wait_until("both tags show", || {
        names(&lab, "images", ".status.repoTag") == ["box:1", "other:2"]
    });
    lab.docker("rmi other:2");
    wait_until("one tag is left", || {
        names(&lab, "images", ".status.repoTag") == ["box:1"]
    });

    // Volumes whose names are no object names.
    lab.docker("volume create Data_1");
    wait_until("the volume shows", || {
        names(&lab, "volumes", ".status.name") == ["Data_1"]
    });
    lab.rdd("ctl delete volume Data_1").ok();
    assert_eq!(lab.docker("volume ls -q"), "");

    // One-shot actions, by the container's own name.
    lab.rdd("ctl annotate container api containers.rancherdesktop.io/action=pause")
        .ok();
    becomes(&lab, &object, ".status.lastAction.state", "Succeeded");
    assert_eq!(lab.docker("inspect -f {{.State.Paused}} api"), "true");
    becomes(&lab, &object, ".metadata.annotations", "");
    let refused = lab
        .rdd("ctl annotate container api containers.rancherdesktop.io/action=explode")
        .fails(1);
    assert!(refused.contains(r#"admission webhook "container-mutating.containers.rancherdesktop.io" denied the request: invalid containers.rancherdesktop.io/action annotation "explode""#), "{refused}");

    // A standing wish.
    lab.run(&[
        "ctl",
        "patch",
        "container",
        "api",
        "--type=merge",
        "-p",
        r#"{"spec":{"state":"running"}}"#,
    ])
    .ok();
    wait_until("it runs", || {
        lab.docker("inspect -f {{.State.Status}} api") == "running"
    });
    lab.run(&[
        "ctl",
        "patch",
        "container",
        "api",
        "--type=merge",
        "-p",
        r#"{"spec":{"state":"unknown"}}"#,
    ])
    .ok();

    // An image in use is refused, says so, and goes by itself when it can.
    let image = names(&lab, "images", ".metadata.name").remove(0);
    lab.rdd(&format!("ctl delete image {image} --wait=false"))
        .ok();
    becomes(
        &lab,
        &format!("image/{image}"),
        ".status.conditions[?(@.type==\"DeletionBlocked\")].status",
        "True",
    );
    assert_ne!(lab.docker("images -q"), "");
    lab.rdd(&format!("ctl delete container {id}")).ok();
    assert_eq!(lab.docker("ps -aq"), "");
    wait_until("the image goes", || lab.docker("images -q").is_empty());

    // What everything stands on comes back.
    let before = field(&lab, "containernamespace/moby", ".metadata.uid");
    lab.rdd("ctl delete containernamespace moby --timeout=10s")
        .ok();
    wait_until("moby is back", || {
        let now = field(&lab, "containernamespace/moby", ".metadata.uid");
        !now.is_empty() && now != before
    });

    // Stopped means that nothing is left.
    lab.import_image();
    start(&lab, "again");
    lab.rdd("set running=false").ok();
    for kind in ["containers", "images", "volumes", "containernamespaces"] {
        assert_eq!(names(&lab, kind, ".metadata.name"), [""; 0], "{kind}");
    }
    assert!(!lab.path("docker_socket").exists());
}

#[test]
fn a_killed_engine_and_a_killed_control_plane_heal_in_place() {
    let lab = Lab::new("heal");
    lab.rdd("start").ok();
    lab.import_image();
    let id = start(&lab, "survivor");
    let object = format!("container/{id}");
    becomes(&lab, &object, ".status.status", "running");
    let uid = field(&lab, &object, ".metadata.uid");
    let started = lab.docker("inspect -f {{.State.StartedAt}} survivor");
    let engine = || {
        shell(&format!(
            "cat {}/run/dockerd.pid",
            lab.path("short_dir").display()
        ))
    };

    let first = engine();
    kill(first.parse().expect("a number"));
    wait_until("another engine serves", || {
        std::fs::read_to_string(lab.path("short_dir").join("run/dockerd.pid"))
            .is_ok_and(|pid| pid.trim() != first)
            && Done::from(
                Command::new("docker")
                    .args([
                        "-H",
                        &format!("unix://{}", lab.path("docker_socket").display()),
                        "ps",
                    ])
                    .output()
                    .expect("docker"),
            )
            .code
                == 0
    });
    assert_eq!(
        lab.docker("inspect -f {{.State.StartedAt}} survivor"),
        started
    );
    becomes(&lab, &object, ".status.status", "running");
    assert_eq!(field(&lab, &object, ".metadata.uid"), uid);

    let second = engine();
    kill(lab.pid());
    let other = start(&lab, "meanwhile");
    lab.rdd("start").ok();
    assert_eq!(engine(), second, "the engine is adopted");
    becomes(
        &lab,
        &format!("container/{other}"),
        ".status.status",
        "running",
    );
    assert_eq!(field(&lab, &object, ".metadata.uid"), uid);
    assert_eq!(
        lab.docker("inspect -f {{.State.StartedAt}} survivor"),
        started
    );
}

#[test]
fn a_stop_leaves_no_process_and_no_complaint_about_the_store() {
    let lab = Lab::new("orderly");
    lab.rdd("start").ok();
    lab.import_image();
    start(&lab, "busy");
    // A watch that is open while everything goes.
    let mut watch = lab
        .command(&["ctl", "get", "containers", "-w"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    lab.rdd("svc stop").ok();
    assert_eq!(lab.processes(), "");
    let logs = lab.path("log_dir");
    let complaints = shell(&format!(
        "grep -rniE 'store|database|sqlite|panicked' {} | grep -iE 'error|fail|panicked' || true",
        logs.display()
    ));
    assert_eq!(complaints, "");
    watch.kill().expect("it may have ended");
    watch.wait().expect("it ends");
}

#[test]
fn an_attached_engine_is_mirrored_and_left_running() {
    let lab = Lab::new("attach");
    let folder = tempfile::Builder::new()
        .prefix("e2e")
        .tempdir_in("/tmp")
        .expect("a folder");
    let socket = format!("unix://{}/docker.sock", folder.path().display());
    let mut engine = Command::new("dockerd")
        .args(["--data-root", &format!("{}/data", folder.path().display())])
        .args(["--exec-root", &format!("{}/exec", folder.path().display())])
        .args([
            "--pidfile",
            &format!("{}/pid", folder.path().display()),
            "-H",
            &socket,
        ])
        .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
        .args([
            "--containerd-namespace",
            "e2e-attach",
            "--containerd-plugins-namespace",
            "e2e-attach-plugins",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("dockerd is installed");
    let docker = |line: &str| {
        Done::from(
            Command::new("docker")
                .arg("-H")
                .arg(&socket)
                .args(line.split_whitespace())
                .output()
                .expect("docker"),
        )
    };
    wait_until("the other engine serves", || docker("ps").code == 0);
    docker("volume create theirs").ok();

    lab.rdd(&format!("attach {socket}")).ok();
    assert_eq!(names(&lab, "volumes", ".status.name"), ["theirs"]);
    docker("volume create more").ok();
    wait_until("changes show", || {
        names(&lab, "volumes", ".status.name") == ["more", "theirs"]
    });
    lab.rdd("ctl delete volume more").ok();
    assert_eq!(docker("volume ls -q").ok(), "theirs");
    lab.rdd("stop").ok();
    assert_eq!(names(&lab, "volumes", ".status.name"), [""; 0]);
    assert_eq!(docker("volume ls -q").ok(), "theirs");
    lab.rdd("svc stop").ok();
    assert!(
        engine.try_wait().expect("looks").is_none(),
        "it is not ours to stop"
    );
    shell(&format!("kill {}", engine.id()));
    engine.wait().expect("it ends");
}

#[test]
fn settings_that_are_not_the_users_to_decide_are_refused_by_name() {
    let lab = Lab::new("settings");
    std::fs::create_dir_all(lab.home().join(".config/rdd")).expect("a folder");
    std::fs::write(
        lab.home().join(".config/rdd/daemon.json"),
        r#"{"data-root": "/x"}"#,
    )
    .expect("writes");
    let text = lab.rdd("start --timeout=20s");
    assert_ne!(text.code, 0, "{text:?}");
    assert!(text.stderr.contains("is decided by rdd"), "{text:?}");
}

#[test]
fn another_engine_takes_the_place_of_the_first_before_set_returns() {
    let lab = Lab::new("switch");
    lab.rdd("start").ok();
    lab.import_image();
    start(&lab, "kept");
    let first = lab.engine_pid().expect("dockerd lives");
    let ready = || {
        field(
            &lab,
            "app/app",
            ".status.conditions[?(@.type==\"ContainerEngineReady\")].reason",
        )
    };
    let fresh = || {
        let generation = field(&lab, "app/app", ".metadata.generation");
        let seen = field(&lab, "app/app", ".status.conditions[*].observedGeneration");
        seen.split(' ').all(|seen| seen == generation)
    };
    lab.rdd("set containerEngine.name=containerd").ok();
    assert!(!rdd_e2e::is_alive(first), "dockerd is gone");
    assert!(!lab.path("docker_socket").exists());
    shell(&format!(
        "ctr --address {}/containerd.sock version",
        lab.path("short_dir").display()
    ));
    assert_eq!(ready(), "NotApplicable");
    assert!(fresh());
    assert_eq!(names(&lab, "containers", ".metadata.name"), [""; 0]);
    lab.rdd("set containerEngine.name=moby").ok();
    assert_ne!(lab.engine_pid().expect("dockerd lives"), first);
    assert_eq!(ready(), "Connected");
    assert!(fresh());
    assert_eq!(names(&lab, "containers", ".status.name"), ["kept"]);
    assert!(!lab.path("short_dir").join("containerd.sock").exists());
}

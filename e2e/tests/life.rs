//! The life of a control plane: created, started, broken, stopped and deleted.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rdd_e2e::{Lab, kill, shell, wait_until};

#[test]
fn an_instance_is_created_started_stopped_and_deleted() {
    let lab = Lab::new("life");
    let created = lab.rdd("svc create");
    assert!(
        created
            .stderr
            .contains(r#"msg="successfully created \"rancher-desktop-life\" control plane""#),
        "{created:?}"
    );
    assert!(
        lab.rdd("svc create")
            .stderr
            .contains("control plane already exists")
    );
    let arguments = fs::read_to_string(lab.path("args_file")).expect("it exists");
    assert!(
        arguments.contains("--secure-port") && arguments.contains("--controllers"),
        "{arguments}"
    );
    let started = lab.rdd("svc start");
    assert!(
        started
            .stderr
            .contains(r#"\"rancher-desktop-life\" control plane is ready"#),
        "{started:?}"
    );
    assert!(lab.rdd("svc start").stderr.contains("is already running"));
    for secret in ["config", "args_file", "pid_file"] {
        let mode = fs::metadata(lab.path(secret))
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    for folder in ["dir", "log_dir", "tls_dir"] {
        let mode = fs::metadata(lab.path(folder))
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
    let refused = lab.rdd("svc start --controllers=app").fails(1);
    assert!(
        refused.contains("rdd svc stop && rdd svc start --controllers app"),
        "{refused}"
    );
    assert!(
        lab.rdd("svc stop")
            .stderr
            .contains("control plane has stopped")
    );
    assert!(lab.rdd("svc stop").stderr.contains("is already stopped"));
    assert!(
        lab.rdd("svc delete")
            .stderr
            .contains("control plane has been deleted")
    );
    assert!(
        lab.rdd("svc delete")
            .stderr
            .contains("control plane does not exist")
    );
    assert_eq!(
        shell(&format!(
            "find {} -mindepth 1 | grep -v -e '/.local$' -e '/share$' -e '/state$' || true",
            lab.home().display()
        )),
        ""
    );
}

#[test]
fn paths_version_and_help_leave_no_trace() {
    let lab = Lab::new("trace");
    for line in [
        "svc paths",
        "svc paths --output=json",
        "svc paths docker_socket",
        "--version",
        "version",
        "--help",
        "svc --help",
        "set --help",
        "ctl --help",
        "completion bash",
        "svc status",
    ] {
        assert_eq!(lab.rdd(line).code, 0, "{line}");
    }
    assert_eq!(fs::read_dir(lab.home()).expect("a home").count(), 0);
    let unknown = lab.rdd("svc paths nonsense").fails(1);
    assert!(
        unknown.contains(r#"unknown key \"nonsense\"; valid keys: args_file, config"#),
        "{unknown}"
    );
    assert!(lab.rdd("svc bogus").fails(1).contains("unknown command"));
    assert!(
        lab.rdd("svc --instance=x status")
            .fails(1)
            .contains("unknown flag: --instance")
    );
}

#[test]
fn a_caller_gets_its_pipe_back_and_a_killed_daemon_leaves_nothing_behind() {
    let lab = Lab::new("pipe");
    // The daemon must not hold the pipe or a descriptor of its caller.
    let mut child = lab
        .command(&["svc", "start"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut text = String::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut text)
        .expect("it ends with the command");
    assert!(child.wait().expect("it ends").success());
    let pid = lab.pid();
    let open = shell(&format!("ls -l /proc/{pid}/fd | grep -c 'pipe:' || true"));
    assert_eq!(open, "0");

    lab.rdd("ctl create configmap kept --from-literal=k=v").ok();
    kill(pid);
    assert_eq!(
        lab.rdd("svc status").ok().lines().nth(1),
        Some(r#""rancher-desktop-pipe" control plane has been started: false"#)
    );
    // The next command starts it again, and what was stored is there.
    assert_eq!(
        lab.run(&[
            "ctl",
            "get",
            "configmap",
            "kept",
            "-o",
            "jsonpath={.data.k}"
        ])
        .ok(),
        "v"
    );
    assert_ne!(lab.pid(), pid);
}

#[test]
fn a_stale_or_foreign_pid_file_misleads_nobody() {
    let lab = Lab::new("stale");
    lab.rdd("svc create").ok();
    let mut bystander = std::process::Command::new("sleep")
        .arg("100")
        .spawn()
        .expect("sleep is there");
    for text in [
        bystander.id().to_string(),
        "0".into(),
        "garbage".into(),
        String::new(),
        "1".into(),
    ] {
        fs::write(lab.path("pid_file"), &text).expect("writes");
        assert!(
            lab.rdd("svc stop").stderr.contains("is already stopped"),
            "{text}"
        );
    }
    fs::write(lab.path("pid_file"), bystander.id().to_string()).expect("writes");
    lab.rdd("svc start").ok();
    assert!(
        bystander.try_wait().expect("looks").is_none(),
        "a bystander is never signalled"
    );
    bystander.kill().expect("it is ours");
    bystander.wait().expect("it ends");
}

#[test]
fn a_daemon_that_hangs_is_not_deleted_under_itself() {
    let lab = Lab::new("hang");
    lab.rdd("svc start").ok();
    let pid = lab.pid();
    let files = || {
        shell(&format!(
            "cd {} && find . -type f -not -name '*.log' -exec md5sum {{}} + | sort",
            lab.path("dir").display()
        ))
    };
    shell(&format!("kill -STOP {pid}"));
    let before = files();
    // The outcome must not depend on when the signals arrive.
    for _ in 0..50 {
        let text = lab.rdd("svc delete --timeout=10ms").fails(4);
        assert!(text.contains("context deadline exceeded"), "{text}");
        assert_eq!(files(), before);
    }
    shell(&format!("kill -CONT {pid}"));
    wait_until("it ends once it can", || {
        lab.rdd("svc status").stdout.contains("PID is: 0")
    });
}

#[test]
fn a_busy_port_is_replaced() {
    let lab = Lab::new("port");
    lab.rdd("svc create").ok();
    let arguments = fs::read_to_string(lab.path("args_file")).expect("it exists");
    let port: u16 = arguments
        .split('"')
        .find_map(|word| word.parse().ok())
        .expect("a port");
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    lab.rdd("svc start").ok();
    let config = fs::read_to_string(lab.path("config")).expect("it is there");
    assert!(
        !config.contains(&format!("https://127.0.0.1:{port}\n")),
        "{config}"
    );
    lab.rdd("ctl get namespaces").ok();
}

#[test]
fn a_damaged_database_ends_the_start_with_a_cure() {
    let lab = Lab::new("damage");
    lab.rdd("svc create").ok();
    let database = lab.path("dir").join("rdd.sqlite3");
    fs::write(
        &database,
        "this is no database, and long enough to be taken for one. ".repeat(100),
    )
    .expect("writes");
    let text = lab.rdd("svc start").fails(1);
    assert!(text.contains("damaged or not a database"), "{text}");
    assert!(text.contains("rdd svc delete"), "{text}");
    assert!(
        fs::read_to_string(&database)
            .expect("it is left alone")
            .starts_with("this is no database")
    );
}

#[test]
fn a_directory_that_cannot_be_written_ends_every_command_with_its_name() {
    let lab = Lab::new("readonly");
    fs::create_dir_all(lab.home().join(".local")).expect("a folder");
    // A file in the way stops root, too.
    fs::write(lab.home().join(".local/share"), "").expect("writes");
    let text = lab.rdd("svc create").fails(1);
    assert!(
        text.contains(".local/share/rancher-desktop-readonly"),
        "{text}"
    );
    fs::remove_file(lab.home().join(".local/share")).expect("it is ours");
}

#[test]
fn a_second_daemon_is_refused() {
    let lab = Lab::new("second");
    lab.rdd("svc start").ok();
    let text = lab.rdd("svc serve").fails(1);
    assert!(
        text.contains(r#"control plane \"rancher-desktop-second\" is already running"#),
        "{text}"
    );
}

#[test]
fn concurrent_starts_and_stops_end_in_a_daemon_or_a_clear_error() {
    let lab = Lab::new("race");
    lab.rdd("svc create").ok();
    for _ in 0..5 {
        let starts: Vec<_> = (0..3)
            .map(|_| {
                lab.command(&["svc", "start", "--timeout=30s"])
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("starts")
            })
            .collect();
        let stop = lab
            .command(&["svc", "stop"])
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        for mut child in starts {
            let code = child.wait().expect("ends").code();
            assert!(
                code == Some(0) || code == Some(1),
                "a start ends at a deadline: {code:?}"
            );
        }
        let mut stop = stop;
        assert_eq!(stop.wait().expect("ends").code(), Some(0));
    }
    lab.rdd("svc start").ok();
}

#[test]
fn a_stop_is_heard_at_any_moment_of_a_start_also_in_a_script_that_ignores_interrupts() {
    let lab = Lab::new("ignored");
    lab.rdd("svc create").ok();
    let rdd = lab.command(&[]);
    let variables = rdd.get_envs();
    let mut shell = std::process::Command::new("sh");
    shell
        .env_clear()
        .envs(variables.filter_map(|(name, value)| Some((name, value?))));
    shell.arg("-c").arg(
        "trap '' INT; for round in 1 2 3 4 5 6 7 8; do
           \"$0\" svc start --wait=false && \"$0\" svc stop --timeout=60s || exit 9
           \"$0\" svc status | grep -q 'PID is: 0' || exit 8
         done",
    );
    let done = shell.arg(rdd.get_program()).output().expect("a shell");
    let text = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{text}");
}

#[test]
fn set_judges_its_words_before_it_starts_anything() {
    let lab = Lab::new("words");
    for (line, wanted) in [
        ("set running", "expected PROPERTY=VALUE format"),
        ("set =x", "property name must not be empty"),
    ] {
        assert!(lab.rdd(line).fails(1).contains(wanted), "{line}");
    }
    assert!(!lab.path("args_file").exists());
    for (line, wanted) in [
        (
            "set nonsense=1",
            "valid properties: containerEngine, kubernetes, machine, running",
        ),
        ("set running=maybe", "expected boolean"),
        (
            "set containerEngine.name=podman",
            "valid values: moby, containerd",
        ),
        ("set namespace=x", "unknown property"),
    ] {
        assert!(lab.rdd(line).fails(1).contains(wanted), "{line}");
    }
    let dry = lab.rdd("set running=false --dry-run");
    assert!(dry.stderr.contains("App validated (dry run)"), "{dry:?}");
    assert!(lab.rdd("ctl get app app").fails(1).contains("not found"));
    assert!(
        lab.rdd("stop")
            .stderr
            .contains("App does not exist; nothing to stop")
    );
}

#[test]
fn a_stop_in_the_middle_of_a_start_leaves_no_engine() {
    let lab = Lab::new("midway");
    let state = lab.path("dir").join("engine.json");
    let config = lab.path("config");
    let moments: [(&str, &dyn Fn() -> bool); 3] = [
        ("at once", &|| true),
        ("the daemon is named", &|| {
            !lab.rdd("svc status").stdout.contains("PID is: 0")
        }),
        ("the API is served", &|| config.exists()),
    ];
    for (moment, come) in moments {
        // An engine outlives a crash; the next start takes it over, however far it comes.
        lab.rdd("start").ok();
        kill(lab.pid());
        lab.rdd("svc start --wait=false").ok();
        wait_until(moment, come);
        lab.rdd("svc stop").ok();
        assert_eq!(lab.processes(), "", "stopped when {moment}");
        assert!(!state.exists(), "stopped when {moment}");
    }
}

#[test]
fn a_second_signal_ends_a_stop_that_drains_and_the_next_start_takes_over() {
    let lab = Lab::new("twice");
    lab.rdd("start").ok();
    lab.import_image();
    // Docker grants a container that does not listen ten seconds.
    shell(&format!(
        "docker -H unix://{} run -d --name deaf box:1 /bin/sh -c 'trap \"\" TERM; mkfifo /f; read x < /f'",
        lab.path("docker_socket").display()
    ));
    let (daemon, engine) = (lab.pid(), lab.engine_pid().expect("it lives"));
    shell(&format!("kill -INT {daemon}"));
    let log = lab.path("log_dir").join("rdd.stderr.log");
    wait_until("it drains", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("stopping"))
    });
    // What asks meanwhile is served, or told at once.
    let asked = std::time::Instant::now();
    let answer = lab.rdd("ctl get --raw /readyz");
    assert!(
        answer.code == 0 || asked.elapsed() < rdd_e2e::PATIENCE / 2,
        "{answer:?}"
    );
    shell(&format!("kill -TERM {daemon}"));
    wait_until("it ends at once", || !rdd_e2e::is_alive(daemon));
    assert!(
        fs::read_to_string(&log)
            .expect("a log")
            .contains("terminated while stopping")
    );
    lab.rdd("start").ok();
    assert!(
        lab.engine_pid()
            .is_some_and(|now| now == engine || !rdd_e2e::is_alive(engine)),
        "the engine is adopted, or another one is started after its end"
    );
    lab.rdd("svc stop").ok();
    assert_eq!(lab.processes(), "");
}

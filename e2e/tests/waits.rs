//! Every command that waits: how it ends at its deadline, when the server refuses, at a
//! Ctrl-C, and when it was called wrongly.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdd_e2e::{Done, Lab, shell, wait_until};

/// How soon a command ends that has been interrupted, on a machine that is busy.
const SOON: Duration = Duration::from_secs(20);

/// An endpoint behind which nobody will ever answer, so that the App never settles.
const NOWHERE: &str = "unix:///nowhere/docker.sock";

/// Starts a command and lets it run.
fn begin(lab: &Lab, line: &str) -> Child {
    let words: Vec<&str> = line.split_whitespace().collect();
    lab.command(&words)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rdd starts")
}

/// Whether a process has a handler for SIGINT by now.
fn listens(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 2 != 0))
}

/// Interrupts a command that waits; it ends soon, with a word of its own and never as if a
/// deadline had passed.
fn interrupt(mut child: Child, line: &str) -> String {
    let pid = child.id();
    wait_until(&format!("{line} listens"), || listens(pid));
    assert!(
        child.try_wait().expect("it can be asked").is_none(),
        "{line} does not wait"
    );
    let begin = Instant::now();
    shell(&format!("kill -INT {pid}"));
    let done: Done = child.wait_with_output().expect("it ends").into();
    assert!(begin.elapsed() < SOON, "{line}: {:?}", begin.elapsed());
    let text = done.fails(1);
    assert!(text.contains("cancelled"), "{line}: {text}");
    assert!(!text.contains("deadline"), "{line}: {text}");
    text
}

#[test]
fn waits_for_the_app_end_by_deadline_refusal_and_interrupt() {
    let lab = Lab::new("waits");
    let attach = format!("attach {NOWHERE}");
    // What nobody can serve never settles.
    lab.rdd(&format!("{attach} --wait=false")).ok();
    for line in [attach.as_str(), "start", "set running=true"] {
        let text = lab.rdd(&format!("{line} --timeout=1s")).fails(4);
        assert!(text.contains("context deadline exceeded"), "{line}: {text}");
        // What blocks it is named.
        assert!(text.contains("ConnectFailed"), "{line}: {text}");
        interrupt(begin(&lab, &format!("{line} --timeout=0")), line);
        // Without a wait there is no limit either.
        lab.rdd(&format!("{line} --wait=false --timeout=1ns")).ok();
    }
    interrupt(begin(&lab, "run true"), "run");
    let text = lab.rdd("stop --timeout=1ns").fails(4);
    assert!(text.contains("context deadline exceeded"), "{text}");
    lab.rdd("stop").ok();

    // A rule of the server's administrator refuses every change of the App.
    let manifest = lab.home().join("policy.json");
    let policy = r#"{"apiVersion":"v1","kind":"List","items":[
        {"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"frozen"},"spec":{"matchConstraints":{"resourceRules":[{"apiGroups":["app.rancherdesktop.io"],"apiVersions":["*"],"operations":["UPDATE"],"resources":["apps"]}]},"validations":[{"expression":"false","message":"the App is frozen"}]}},
        {"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{"name":"frozen"},"spec":{"policyName":"frozen","validationActions":["Deny"]}}]}"#;
    fs::write(&manifest, policy).expect("it can be written");
    lab.run(&["ctl", "create", "-f", &manifest.display().to_string()])
        .ok();
    wait_until("the policy is in force", || {
        lab.rdd("set running=true --dry-run").code == 3
    });
    for line in [
        attach.as_str(),
        "start",
        "stop",
        "set running=true",
        "run true",
    ] {
        let text = lab.rdd(line).fails(3);
        assert!(text.contains("the App is frozen"), "{line}: {text}");
    }
    // A value that the definition or a rule refuses.
    let text = lab.rdd("attach nonsense").fails(3);
    assert!(text.contains("is not supported"), "{text}");
}

#[test]
fn waits_for_the_control_plane_end_by_deadline_and_interrupt() {
    let lab = Lab::new("frozen");
    lab.rdd("svc start --controllers=").ok();
    let daemon = lab.pid();
    let files = || {
        shell(&format!(
            "cd {} && find . -type f -not -name '*.log' -exec md5sum {{}} + | sort",
            lab.path("dir").display()
        ))
    };
    shell(&format!("kill -STOP {daemon}"));
    let before = files();
    // The start first: a stop leaves a signal behind, which is heard when the daemon wakes.
    for line in ["svc start", "svc stop", "svc delete"] {
        let text = lab.rdd(&format!("{line} --timeout=1s")).fails(4);
        assert!(text.contains("context deadline exceeded"), "{line}: {text}");
        interrupt(begin(&lab, &format!("{line} --timeout=0")), line);
        assert_eq!(files(), before, "{line}");
    }
    for line in [
        "ctl get namespaces",
        "set running=true",
        "start",
        "stop",
        "attach",
        "run true",
    ] {
        let mut child = begin(&lab, line);
        let pid = child.id();
        wait_until(&format!("{line} listens"), || listens(pid));
        shell(&format!("kill -INT {pid}"));
        let begin = Instant::now();
        let code = child.wait().expect("it ends").code();
        assert!(begin.elapsed() < SOON, "{line}");
        let wanted = if line.starts_with("ctl") { 130 } else { 1 };
        assert_eq!(code, Some(wanted), "{line}");
    }
    shell(&format!("kill -CONT {daemon}"));
    wait_until("it ends once it can", || !rdd_e2e::is_alive(daemon));
    lab.rdd("svc stop").ok();
}

#[test]
fn wrong_usage_is_told_before_anything_starts() {
    let lab = Lab::new("usage");
    for line in [
        "svc start --timeout=soon",
        "svc start --wait=perhaps",
        "svc start --nonsense",
        "svc stop --timeout=5",
        "svc stop extra",
        "svc delete --wait=false",
        "svc delete extra",
        "set",
        "set running",
        "set running=true --timeout=-1s",
        "start extra",
        "start --timeout=",
        "stop --wait=2",
        "attach one two",
        "attach --timeout=x",
        "run",
        "svc config extra",
    ] {
        let done = lab.rdd(line);
        assert_eq!(done.code, 1, "{line}: {done:?}");
        assert!(
            !done.stderr.is_empty() && done.stdout.is_empty(),
            "{line}: {done:?}"
        );
    }
    assert_eq!(fs::read_dir(lab.home()).expect("a home").count(), 0);
}

#[test]
fn help_needs_no_home_and_no_control_plane() {
    let lab = Lab::new("nohome");
    // The binary may lie where nobody else may look.
    let program = lab.home().join("rdd");
    shell(&format!(
        "cp {} {} && chmod 755 {} {}",
        rdd_e2e::binary().display(),
        program.display(),
        lab.home().display(),
        program.display()
    ));
    for line in [
        "--help",
        "help",
        "--version",
        "version",
        "completion bash",
        "svc --help",
        "svc start --help",
        "svc stop --help",
        "svc delete --help",
        "svc paths --help",
        "set --help",
        "start --help",
        "stop --help",
        "attach --help",
        "run --help",
        "ctl --help",
        "ctl get --help",
        "kubectl --help",
        "svc status",
    ] {
        // A user without an account and without a home directory.
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=54321", "--regid=54321", "--clear-groups"])
            .arg(&program)
            .args(line.split_whitespace());
        let done: Done = lab
            .environment(&mut command)
            .env_remove("HOME")
            .output()
            .expect("setpriv is there")
            .into();
        if line == "svc status" {
            let text = done.fails(1);
            assert!(text.contains("no home directory: set HOME"), "{text}");
            continue;
        }
        assert_eq!(done.code, 0, "{line}: {done:?}");
        assert!(!done.stdout.is_empty(), "{line}: {done:?}");
    }
    // A user with an account has the home directory that the account names.
    let mut command = lab.command(&["svc", "paths", "dir"]);
    let done: Done = command
        .env_remove("HOME")
        .output()
        .expect("it starts")
        .into();
    let home = shell("getent passwd $(id -u) | cut -d: -f6");
    assert!(done.ok().starts_with(&home));
}

#[test]
fn what_changes_nothing_or_cannot_be_returns_at_once() {
    let lab = Lab::new("prompt");
    lab.rdd("start").ok();
    for line in [
        "start",
        "set running=true",
        "set kubernetes.enabled=false",
        "set containerEngine.name=moby machine.type=native",
    ] {
        lab.rdd(&format!("{line} --timeout=60s")).ok();
    }
    // Nothing will change by itself: no limit is needed to get the answer.
    let text = lab.rdd("set kubernetes.enabled=true --timeout=0").fails(1);
    assert!(text.contains("NotSupported"), "{text}");
    let text = lab
        .rdd("set kubernetes.enabled=true kubernetes.version=9.9.9")
        .fails(3);
    assert!(
        text.contains(r#"spec.kubernetes.version \"9.9.9\" is not supported"#),
        "{text}"
    );
    // A field that may be missing is cleared by an empty value.
    lab.rdd(&format!(
        "set kubernetes.enabled=false containerEngine.endpoint={NOWHERE} --wait=false"
    ))
    .ok();
    lab.rdd("set containerEngine.endpoint= --timeout=60s").ok();
    let endpoint = lab
        .rdd("ctl get app app -o jsonpath={.spec.containerEngine.endpoint}")
        .ok();
    assert_eq!(endpoint, "");
    lab.rdd("stop --timeout=60s").ok();
    lab.rdd("stop --timeout=60s").ok();
}

#[test]
fn first_changes_at_the_same_time_are_all_made() {
    let lab = Lab::new("first");
    let lines = [
        "set running=false --timeout=60s",
        "set containerEngine.name=containerd --timeout=60s",
        "set kubernetes.enabled=false --timeout=60s",
        "set machine.type=native --timeout=60s",
    ];
    // Not even the instance exists: each of them creates, starts and waits.
    let children: Vec<Child> = lines.iter().map(|line| begin(&lab, line)).collect();
    for (child, line) in children.into_iter().zip(lines) {
        let done: Done = child.wait_with_output().expect("it ends").into();
        assert_eq!(done.code, 0, "{line}: {done:?}");
    }
    let spec = lab.rdd("ctl get app app -o jsonpath={.spec}").ok();
    for wanted in [
        r#""containerEngine":{"name":"containerd"}"#,
        r#""kubernetes":{"enabled":false}"#,
        r#""machine":{"type":"native"}"#,
        r#""running":false"#,
    ] {
        assert!(spec.contains(wanted), "{wanted}: {spec}");
    }
}

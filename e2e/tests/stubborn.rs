//! What takes its time, and what never ends by itself: frozen engines, daemons and
//! programs, names that are taken, too few descriptors.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rdd_e2e::{Done, Lab, shell, wait_until};

/// A definition that has the names of one of ours, and another name itself.
const RIVAL: &str = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"rivals.rdd.rancherdesktop.io"},"spec":{"group":"rdd.rancherdesktop.io","scope":"Namespaced","names":{"plural":"rivals","singular":"rival","kind":"Notary"},"versions":[{"name":"v1alpha1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}"#;

fn begin(lab: &Lab, line: &str) -> Child {
    let words: Vec<&str> = line.split_whitespace().collect();
    lab.command(&words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rdd starts")
}

/// Reads what a command says until these words are in it.
fn says(child: &mut Child, words: &str) -> String {
    let stderr = child.stderr.as_mut().expect("piped");
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.contains(words) {
        let read = stderr.read(&mut byte).expect("it speaks");
        assert_eq!(read, 1, "it ended without {words:?}: {text}");
        text.push(char::from(byte[0]));
    }
    text
}

fn apply(lab: &Lab, name: &str, document: &str) -> Done {
    let file = lab.home().join(name);
    std::fs::write(&file, document).expect("writes");
    lab.run(&["ctl", "create", "-f", &file.display().to_string()])
}

fn notary(lab: &Lab, name: &str, value: &str) -> Done {
    let document = format!(
        r#"{{"apiVersion":"rdd.rancherdesktop.io/v1alpha1","kind":"Notary","metadata":{{"name":"{name}"}},"spec":{{"value":"{value}","configMapName":"{name}-log"}}}}"#
    );
    apply(lab, &format!("{name}.json"), &document)
}

/// The annotation that says that a start is through.
fn ready(lab: &Lab) -> String {
    let path = r"jsonpath={.metadata.annotations.rdd\.rancherdesktop\.io/ready}";
    let kubeconfig = lab.path("config").display().to_string();
    // Without `rdd ctl`, which waits until it is there.
    lab.run(&[
        "kubectl",
        "--kubeconfig",
        &kubeconfig,
        "get",
        "configmap",
        "-n",
        "rdd-system",
        "rdd-controller-manager",
        "-o",
        path,
    ])
    .stdout
}

#[test]
fn a_wait_of_more_than_a_second_says_what_it_is_for_and_a_shorter_one_nothing() {
    let lab = Lab::new("phases");
    lab.rdd("svc start --controllers=").ok();
    let asked = lab.rdd("ctl get namespaces");
    assert_eq!((asked.code, asked.stderr.as_str()), (0, ""), "{asked:?}");
    let again = lab.rdd("svc start");
    assert!(!again.stderr.contains("waiting"), "{again:?}");

    // A daemon that does not answer.
    let daemon = lab.pid();
    shell(&format!("kill -STOP {daemon}"));
    let mut starting = begin(&lab, "svc start --timeout=0");
    says(&mut starting, "waiting for API server");
    let mut listing = begin(&lab, "ctl get namespaces");
    says(&mut listing, "waiting for API server");
    shell(&format!("kill -CONT {daemon}"));
    for mut child in [starting, listing] {
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
    }
    shell(&format!("kill -STOP {daemon}"));
    let mut stopping = begin(&lab, "svc stop --timeout=0");
    says(&mut stopping, &format!("with pid {daemon} to stop"));
    shell(&format!("kill -CONT {daemon}"));
    assert_eq!(stopping.wait().expect("it ends").code(), Some(0));

    // Controllers that somebody else still holds.
    lab.rdd("svc start --controllers=").ok();
    let mut program = lab.program("rdd-controller", &[]);
    wait_until("it runs", || {
        program.said().contains("the controllers are running")
    });
    program.signal("STOP");
    lab.rdd("svc stop").ok();
    let mut starting = begin(&lab, "svc start --timeout=0");
    says(&mut starting, "waiting for controllers to register");
    assert_eq!(ready(&lab), "");
    assert_eq!(starting.wait().expect("it ends").code(), Some(0));
    assert_eq!(ready(&lab), "true");
    // Woken, it finds out that it was succeeded, and writes nothing.
    program.signal("CONT");
    assert_ne!(program.ends(), 255, "{}", program.said());
    assert!(notary(&lab, "n", "invalid").fails(1).contains("denied"));
    notary(&lab, "n", "a").ok();
}

#[test]
fn a_frozen_engine_is_ended_by_force_within_its_budget_and_the_log_says_so() {
    let lab = Lab::new("icy");
    lab.rdd("start").ok();
    let engine = lab.engine_pid().expect("it lives");
    shell(&format!("kill -STOP {engine}"));
    let begin = Instant::now();
    lab.rdd("svc stop").ok();
    // 45 seconds are granted to the whole; a busy machine adds some.
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(lab.processes(), "");
    let log = lab.path("log_dir").join("rdd.stderr.log");
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(
        log.contains("dockerd did not end in time and is killed"),
        "{log}"
    );
    assert!(!log.contains("shutting down took longer"), "{log}");
    // Nothing is in the way of the next one.
    lab.rdd("start").ok();
    lab.rdd("stop").ok();
}

#[test]
fn a_definition_whose_names_are_taken_delays_ready_and_then_fails_the_start() {
    let lab = Lab::new("rival");
    lab.rdd("svc start --controllers=").ok();
    apply(&lab, "rival.json", RIVAL).ok();
    lab.rdd("ctl wait --for=condition=Established crd/rivals.rdd.rancherdesktop.io")
        .ok();
    lab.rdd("svc stop").ok();

    // The start waits as long as there is hope, and is not ready before.
    let mut starting = begin(&lab, "svc start --timeout=0");
    says(&mut starting, "waiting for controllers to register");
    assert_eq!(ready(&lab), "");
    let kubeconfig = lab.path("config").display().to_string();
    let delete = format!(
        "kubectl --kubeconfig {kubeconfig} delete crd rivals.rdd.rancherdesktop.io --wait=false"
    );
    lab.rdd(&delete).ok();
    let done: Done = starting.wait_with_output().expect("it ends").into();
    done.ok();
    assert_eq!(ready(&lab), "true");
    assert!(notary(&lab, "n", "invalid").fails(1).contains("denied"));
    lab.rdd("svc delete").ok();

    // Names that stay taken end it, with the reason.
    lab.rdd("svc start --controllers=").ok();
    apply(&lab, "rival.json", RIVAL).ok();
    lab.rdd("ctl wait --for=condition=Established crd/rivals.rdd.rancherdesktop.io")
        .ok();
    lab.rdd("svc stop").ok();
    let text = lab.rdd("svc start --timeout=0").fails(1);
    for words in ["notaries.rdd.rancherdesktop.io", "Notary", "in use"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(lab.rdd("svc status").stdout.contains("PID is: 0"));
    assert_eq!(lab.processes(), "");
}

#[test]
fn a_start_with_too_few_descriptors_is_ready_or_ends_with_the_cause() {
    let lab = Lab::new("few");
    lab.rdd("svc create").ok();
    let (mut ready, mut failed) = (0, 0);
    for limit in (8..=120).step_by(8) {
        let rdd = lab.command(&[]);
        let variables = rdd.get_envs();
        let done: Done = std::process::Command::new("sh")
            .env_clear()
            .envs(variables.filter_map(|(name, value)| Some((name, value?))))
            .arg("-c")
            .arg(format!("ulimit -n {limit} && exec \"$0\" svc start"))
            .arg(rdd.get_program())
            .output()
            .expect("a shell")
            .into();
        if done.code == 0 {
            ready += 1;
            // Ready means what it says.
            let refused = notary(&lab, "bad", "invalid").fails(1);
            assert!(refused.contains("denied"), "{limit}: {refused}");
            lab.rdd("svc stop").ok();
        } else {
            failed += 1;
            let text = done.fails(1);
            assert!(
                text.contains("Too many open files") || text.contains("ulimit -n"),
                "{limit}: {text}"
            );
            let status = lab.rdd("svc status").stdout;
            assert!(status.contains("PID is: 0"), "{limit}: {status}");
        }
    }
    assert!(
        ready > 0 && failed > 0,
        "{ready} were ready, {failed} failed"
    );
}

#[test]
fn twenty_programs_in_a_row_judge_and_reconcile_when_they_are_listed() {
    let lab = Lab::new("many");
    lab.rdd("svc start --controllers=").ok();
    for round in 0..20 {
        let mut program = lab.program("rdd-controller", &[]);
        wait_until("it is listed", || {
            let path = "jsonpath={.data.rdd}";
            let words = [
                "ctl",
                "get",
                "configmap",
                "-n",
                "rdd-system",
                "rdd-controller-manager",
                "-o",
            ];
            !lab.run(&[&words[..], &[path]].concat()).stdout.is_empty()
        });
        // At once, by its own rule, with no failed connection in between.
        let refused = notary(&lab, "bad", "invalid").fails(1);
        let rule = r#"admission webhook "notary.rdd.rancherdesktop.io" denied the request: spec.value cannot start with 'invalid' (case-insensitive): "invalid""#;
        assert!(refused.ends_with(rule), "round {round}: {refused}");
        let name = format!("n{round}");
        notary(&lab, &name, "a").ok();
        lab.run(&[
            "ctl",
            "wait",
            "--for=create",
            &format!("configmap/{name}-log"),
            "--timeout=60s",
        ])
        .ok();
        program.signal("TERM");
        assert_eq!(program.ends(), 0, "{}", program.said());
    }
}

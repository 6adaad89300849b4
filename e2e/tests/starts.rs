//! What "ready" promises, and what a start says when it cannot keep it.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use rdd_e2e::{Done, Lab, kill, shell};

/// `rdd ctl create -f -` with this document.
fn create(lab: &Lab, document: &str) -> Done {
    let mut child = lab
        .command(&["ctl", "create", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rdd starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(document.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends").into()
}

fn notary(name: &str, value: &str) -> String {
    format!(
        r#"{{"apiVersion":"rdd.rancherdesktop.io/v1alpha1","kind":"Notary","metadata":{{"name":"{name}"}},"spec":{{"value":"{value}","configMapName":"{name}-log"}}}}"#
    )
}

/// The ready record of the present start.
fn start_id(lab: &Lab) -> String {
    lab.run(&[
        "ctl",
        "get",
        "configmap",
        "rdd-controller-manager",
        "-n",
        "rdd-system",
        "-o",
        r"jsonpath={.metadata.annotations.rdd\.rancherdesktop\.io/ready} {.metadata.annotations.rdd\.rancherdesktop\.io/start-id}",
    ])
    .ok()
}

#[test]
fn twenty_starts_in_a_row_are_ready_when_they_say_so() {
    let lab = Lab::new("twenty");
    let mut seen = Vec::new();
    for round in 0..20 {
        lab.rdd("svc start").ok();
        // Judged by its own rule, with no failed connection in between.
        let refused = create(&lab, &notary("bad", "invalid")).fails(1);
        let rule = r#"admission webhook "notary.rdd.rancherdesktop.io" denied the request: spec.value cannot start with 'invalid' (case-insensitive): "invalid""#;
        assert!(
            refused.starts_with("Error from server (Forbidden): ") && refused.ends_with(rule),
            "round {round}: {refused}"
        );
        // Accepted, and carried out without any further event.
        let name = format!("n{round}");
        let created = create(&lab, &notary(&name, "a")).ok();
        assert_eq!(
            created,
            format!("notary.rdd.rancherdesktop.io/{name} created")
        );
        lab.run(&[
            "ctl",
            "wait",
            "--for=create",
            &format!("configmap/{name}-log"),
            "--timeout=60s",
        ])
        .ok();
        // The record is that of this start, whatever an earlier one left.
        let record = start_id(&lab);
        assert!(record.starts_with("true "), "{record}");
        assert!(!seen.contains(&record), "round {round}: {record}");
        seen.push(record);
        if round % 2 == 0 {
            kill(lab.pid());
        } else {
            lab.rdd("svc stop").ok();
        }
    }
}

/// A definition of one of our names that cannot be replaced by ours: the scope differs.
const FOREIGN: &str = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"notaries.rdd.rancherdesktop.io"},"spec":{"group":"rdd.rancherdesktop.io","scope":"Cluster","names":{"plural":"notaries","singular":"notary","kind":"Notary"},"versions":[{"name":"v1alpha1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}"#;

#[test]
fn a_start_that_fails_ends_with_its_cause_and_is_never_ready() {
    let lab = Lab::new("unready");
    lab.rdd("svc start --controllers=").ok();
    create(&lab, FOREIGN).ok();
    lab.rdd("svc stop").ok();
    let text = lab.rdd("svc start --timeout=60s").fails(1);
    assert!(
        text.contains("control plane ended before it was ready"),
        "{text}"
    );
    let log = fs::read_to_string(lab.path("log_dir").join("rdd.stderr.log")).expect("a log");
    for words in [&text, &log] {
        assert!(
            words.contains("notaries.rdd.rancherdesktop.io") && words.contains("spec.scope"),
            "{words}"
        );
    }
    assert!(lab.rdd("svc status").stdout.contains("PID is: 0"));
    // Without the controller that cannot start, everything else does.
    lab.rdd("svc start --controllers=*,-notary").ok();
    lab.rdd("ctl delete crd notaries.rdd.rancherdesktop.io")
        .ok();
    lab.rdd("svc stop").ok();
    lab.rdd("svc start").ok();
}

#[test]
fn nobody_waits_for_a_controller_that_is_not_there() {
    let lab = Lab::new("absent");
    lab.rdd("svc start").ok();
    lab.rdd("svc stop").ok();
    // The definition stays; who acts on it is gone.
    lab.rdd("svc start --controllers=*,-app").ok();
    let text = lab.rdd("set running=false --timeout=0").fails(1);
    assert!(
        text.contains("no app controller runs") && text.contains("--controllers"),
        "{text}"
    );
    lab.rdd("set running=false --wait=false").ok();
}

#[test]
fn words_that_select_nothing_are_told_where_they_were_typed() {
    let lab = Lab::new("words2");
    let started = lab.rdd("svc start --controllers=ap,notary,mock");
    assert_eq!(started.code, 0, "{started:?}");
    for words in [
        r#"\"ap\" is neither a controller nor a group; groups: app, containers, rdd"#,
        r#"\"mock\" runs in a program of its own only: mock-controller"#,
    ] {
        assert!(started.stderr.contains(words), "{words}: {started:?}");
    }
    assert_eq!(
        started.stderr.matches("level=warning").count(),
        2,
        "{started:?}"
    );
}

#[test]
fn managers_answer_on_the_ports_of_their_instance_or_on_others() {
    // 100 and a checksum, which no other test has: 97 + 97 + 98, below 100.
    let lab = Lab::new("aab");
    let index = 192;
    let port = |lab: &Lab, key: &str, field: &str| -> u16 {
        let path = format!("jsonpath={{.data.{key}}}");
        let words = [
            "ctl",
            "get",
            "configmap",
            "-n",
            "rdd-system",
            "rdd-controller-manager",
            "-o",
        ];
        let entry = lab.run(&[&words[..], &[&path]].concat()).ok();
        let (_, rest) = entry.split_once(&format!("\"{field}\":")).expect(field);
        rest.split([',', '}'])
            .next()
            .expect("a number")
            .parse()
            .expect("a number")
    };
    let wanted = 8083 + 4 * index;
    let taken = std::net::TcpListener::bind(("127.0.0.1", wanted));
    lab.rdd("svc start").ok();
    assert_ne!(port(&lab, "embedded", "healthPort"), wanted);
    lab.rdd("svc stop").ok();
    // Whether this test or somebody else had the port: now it is as free as it can be.
    drop(taken);
    let is_free = std::net::TcpListener::bind(("127.0.0.1", wanted)).is_ok();
    lab.rdd("svc start").ok();
    assert_eq!(port(&lab, "embedded", "healthPort") == wanted, is_free);
    let health = port(&lab, "embedded", "healthPort");
    assert_eq!(
        shell(&format!("curl -sS http://127.0.0.1:{health}/healthz")),
        "ok"
    );
    let metrics = port(&lab, "embedded", "metricsPort");
    let figures = shell(&format!("curl -sS http://127.0.0.1:{metrics}/metrics"));
    assert!(
        figures.contains("rdd_controller_reconciles_total"),
        "{figures}"
    );
}

#[test]
fn another_version_is_told_by_both_names_and_the_cure() {
    let lab = Lab::new("versions");
    lab.rdd("svc create").ok();
    let version = lab.rdd("version").ok();
    let own = std::process::id();
    let stat = fs::read_to_string(format!("/proc/{own}/stat")).expect("this process lives");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let started = fields.split_whitespace().nth(19).expect("a start time");
    let path = lab.path("dir").join("rdd.lock");
    let mut lock = fs::File::create(&path).expect("it can be made");
    lock.lock().expect("it is free");
    write!(
        lock,
        r#"{{"pid":{own},"started":{started},"start_id":"x","version":"v0.0.1","arguments":[]}}"#
    )
    .expect("it can be written");
    let text = lab.rdd("ctl get namespaces").fails(1);
    for words in ["v0.0.1", &version, "rdd svc stop"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    drop(lock);
    fs::remove_file(path).expect("it is ours");
}

#[test]
fn no_option_is_dropped_in_silence() {
    let lab = Lab::new("options");
    lab.rdd("svc create --controllers=").ok();
    let arguments = fs::read_to_string(lab.path("args_file")).expect("it exists");
    let again = lab.rdd("svc create --controllers=app");
    assert_eq!(again.code, 0, "{again:?}");
    assert!(
        again.stderr.contains("control plane already exists")
            && again.stderr.contains("rdd svc start --controllers app"),
        "{again:?}"
    );
    let after = fs::read_to_string(lab.path("args_file")).expect("it exists");
    assert_eq!(after, arguments, "what was saved stays");
    // Words for the control plane are taken also when the instance exists.
    lab.rdd("svc start -- --controllers=notary").ok();
    let listed = lab
        .rdd("ctl get configmap rdd-controller-manager -n rdd-system -o jsonpath={.data.embedded}")
        .ok();
    assert!(
        listed.contains(r#""enabledControllers":["notary"]"#),
        "{listed}"
    );
    let refused = lab.rdd("svc start -- --controllers=app").fails(1);
    assert!(
        refused.contains("already running") && refused.contains("--controllers=app"),
        "{refused}"
    );
}

#[test]
fn what_the_control_plane_goes_by_cannot_be_deleted_under_it() {
    let lab = Lab::new("record");
    lab.rdd("svc start").ok();
    let before = start_id(&lab);
    for line in [
        "ctl delete configmap -n rdd-system rdd-controller-manager",
        "ctl delete namespace rdd-system",
        "ctl delete lease -n rdd-system controller-app",
    ] {
        let refused = lab.rdd(line).fails(1);
        assert!(
            refused.contains("(Forbidden)") && refused.contains("goes only with it"),
            "{line}: {refused}"
        );
    }
    // What is beside it in a wide delete goes, and it stays.
    lab.rdd("ctl create configmap -n rdd-system other --from-literal=a=b")
        .ok();
    assert_eq!(lab.rdd("ctl delete configmap --all -A").code, 1);
    let left = lab.rdd("ctl get configmap -n rdd-system -o name").ok();
    assert!(!left.contains("configmap/other"), "{left}");
    assert_eq!(start_id(&lab), before);
    lab.rdd("svc stop").ok();
    lab.rdd("svc start").ok();
    assert_ne!(start_id(&lab), before);
}

#[test]
fn webhooks_find_their_services_where_the_start_says() {
    let lab = Lab::new("services");
    let refused = lab
        .rdd("svc start --controllers= --webhook-service=hook=127.0.0.1")
        .fails(1);
    assert!(
        refused.contains("is not of the form NAMESPACE/NAME=HOST[:PORT]"),
        "{refused}"
    );
    // Nobody listens on port 1 of loopback.
    lab.rdd("svc start --controllers= --webhook-service=default/hook=127.0.0.1:1")
        .ok();
    for (name, said) in [
        ("hook", "dial tcp 127.0.0.1:1: connect: connection refused"),
        ("other", "service \"other\" not found"),
    ] {
        let file = lab.home().join("webhook.json");
        let configuration = format!(
            r#"{{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration",
            "metadata":{{"name":"hook"}},"webhooks":[{{"name":"hook.example.com","sideEffects":"None",
            "admissionReviewVersions":["v1"],"clientConfig":{{"service":{{"namespace":"default","name":"{name}"}}}},
            "rules":[{{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["configmaps"]}}]}}]}}"#
        );
        std::fs::write(&file, configuration).expect("writes");
        lab.run(&["ctl", "apply", "-f", &file.display().to_string()])
            .ok();
        let refused = lab.rdd("ctl create configmap a").fails(1);
        assert!(
            refused.contains(&format!(
                "Post \"https://{name}.default.svc:443/?timeout=10s\": {said}"
            )),
            "{refused}"
        );
    }
}

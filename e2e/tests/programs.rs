//! Controllers in programs of their own, beside a control plane that does without them.

use std::process::Command;
use std::time::{Duration, Instant};

use rdd_e2e::{Done, Lab, Program, provided, shell, wait_until};

const VALIDATOR: &str = "notary.rdd.rancherdesktop.io";

/// One manager's entry in the discovery ConfigMap; empty when there is none.
fn entry(lab: &Lab, key: &str) -> String {
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
    lab.run(&[&words[..], &[&path]].concat())
        .stdout
        .trim()
        .to_owned()
}

fn registers(lab: &Lab, key: &str) -> String {
    wait_until(&format!("{key} is listed"), || !entry(lab, key).is_empty());
    entry(lab, key)
}

/// A text field of an entry.
fn text<'entry>(entry: &'entry str, field: &str) -> &'entry str {
    let begin = format!("\"{field}\":\"");
    let (_, rest) = entry
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{field}: {entry}"));
    rest.split('"').next().expect("it is closed")
}

fn holder(lab: &Lab, controller: &str) -> String {
    let lease = format!("controller-{controller}");
    let path = "jsonpath={.spec.holderIdentity}";
    lab.run(&[
        "ctl",
        "get",
        "lease",
        "-n",
        "rdd-system",
        &lease,
        "-o",
        path,
    ])
    .ok()
}

fn configurations(lab: &Lab) -> Vec<String> {
    let names = lab
        .rdd("ctl get validatingwebhookconfigurations -o name")
        .ok();
    let names = names.lines().filter_map(|line| line.split_once('/'));
    names.map(|(_, name)| name.to_owned()).collect()
}

fn notarise(lab: &Lab, name: &str, value: &str) -> Done {
    let file = lab.home().join(format!("{name}.yaml"));
    let text = format!(
        "apiVersion: rdd.rancherdesktop.io/v1alpha1\nkind: Notary\nmetadata: {{name: {name:?}}}\n\
         spec: {{value: {value:?}, configMapName: {name:?}}}\n"
    );
    std::fs::write(&file, text).expect("writes");
    lab.run(&["ctl", "apply", "-f", &file.display().to_string()])
}

fn counts(lab: &Lab, name: &str) -> String {
    let path = "jsonpath={.status.changeCount}";
    lab.run(&["ctl", "get", "notary", name, "-o", path]).stdout
}

fn rdd_controller(lab: &Lab) -> (Program, String) {
    let program = lab.program("rdd-controller", &[]);
    let entry = registers(lab, "rdd");
    (program, entry)
}

#[test]
fn a_program_mirrors_an_engine_whose_app_the_service_runs() {
    let lab = Lab::new("outside");
    lab.rdd("svc start --controllers=app").ok();
    let mut program = lab.program("containers-controller", &[]);
    let listed = registers(&lab, "containers");
    assert!(
        listed.contains(
            r#""enabledControllers":["container","containernamespace","engine","image","volume"]"#
        ),
        "{listed}"
    );
    // The wait is for the engine that this other process mirrors.
    let started = lab.rdd("start");
    for wanted in ["ContainerEngineReady=True", "Settled=True"] {
        assert!(started.stderr.contains(wanted), "{started:?}");
    }
    assert_eq!(started.code, 0);
    lab.import_image();
    let socket = lab.path("docker_socket");
    let id = shell(&format!(
        "docker -H unix://{} run -d --name talker box:1 /bin/sh -c 'echo hello; mkfifo /f; read x < /f'",
        socket.display()
    ));
    wait_until("it is mirrored", || {
        lab.run(&["ctl", "get", "container", &id]).code == 0
    });
    // Its log comes through both processes, over a WebSocket.
    wait_until("its log is read", || {
        lab.rdd("ctl logs talker").stdout == "hello\n"
    });
    let refused = lab
        .run(&[
            "ctl",
            "annotate",
            "container",
            &id,
            "containers.rancherdesktop.io/action=dance",
        ])
        .fails(1);
    let wanted = r#"admission webhook "container-mutating.containers.rancherdesktop.io" denied the request: invalid containers.rancherdesktop.io/action annotation "dance""#;
    assert!(refused.contains(wanted), "{refused}");
    lab.run(&[
        "ctl",
        "annotate",
        "container",
        &id,
        "containers.rancherdesktop.io/action=stop",
    ])
    .ok();
    wait_until("it is stopped", || {
        let path = "jsonpath={.status.status}";
        lab.run(&["ctl", "get", "container", &id, "-o", path])
            .stdout
            == "exited"
    });

    // Its rules are webhooks here. Whoever deletes what mirrors stand on is told that it
    // will not last.
    let listed = configurations(&lab);
    for name in ["container-mutating", "container-namespace-deleting"] {
        assert!(listed.iter().any(|other| other == name), "{listed:?}");
    }
    let uid = || {
        let path = "jsonpath={.metadata.uid}";
        lab.run(&["ctl", "get", "containernamespace", "moby", "-o", path])
            .stdout
    };
    let before = uid();
    let deleted = lab.rdd("ctl delete containernamespace moby");
    let notice = r#"Warning: ContainerNamespace "moby" is made again while the engine is mirrored"#;
    assert!(deleted.stderr.contains(notice), "{deleted:?}");
    deleted.ok();
    wait_until("it is made again", || {
        let now = uid();
        !now.is_empty() && now != before
    });

    program.signal("TERM");
    assert_eq!(program.ends(), 0, "{}", program.said());
    assert_eq!(entry(&lab, "containers"), "");
    assert_eq!(configurations(&lab), ["app-validator", "namespace-guard"]);
    for controller in ["engine", "container", "image"] {
        assert_eq!(holder(&lab, controller), "");
    }
    // Nobody serves its log now, and what it mirrored stays.
    let gone = lab.rdd(&format!("ctl get --raw /passthrough/engine/logs/{id}"));
    assert!(gone.stderr.contains("no manager serves this"), "{gone:?}");
    lab.run(&["ctl", "get", "container", &id]).ok();

    // The next one goes on where that one ended.
    let _program = lab.program("containers-controller", &[]);
    registers(&lab, "containers");
    lab.rdd("stop").ok();
    wait_until("the mirrors are swept", || {
        lab.rdd("ctl get containers -o name").ok().is_empty()
    });
}

#[test]
fn rules_are_listed_wherever_they_run_and_judge_in_the_same_words() {
    let lab = Lab::new("judged");
    lab.rdd("svc start --controllers=rdd").ok();
    let inside = notarise(&lab, "n", "invalid").fails(1);
    assert!(inside.contains(VALIDATOR), "{inside}");
    assert_eq!(configurations(&lab), ["notary-validator"]);
    let url = "jsonpath={.webhooks[0].clientConfig.url}";
    let url = lab
        .run(&[
            "ctl",
            "get",
            "validatingwebhookconfiguration",
            "notary-validator",
            "-o",
            url,
        ])
        .ok();
    assert!(
        url.ends_with("/validate-rdd-rancherdesktop-io-v1alpha1-notary"),
        "{url}"
    );
    // What is listed answers, too, to whoever trusts the instance.
    let authority = lab.path("tls_dir").join("webhook-ca.crt");
    let question = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","kind":{"group":"rdd.rancherdesktop.io","version":"v1alpha1","kind":"Notary"},"resource":{"group":"rdd.rancherdesktop.io","version":"v1alpha1","resource":"notaries"},"name":"n","operation":"CREATE","userInfo":{},"object":{"spec":{"value":"invalid"}}}}"#;
    let answer = shell(&format!(
        "curl -sS --cacert {} -d '{question}' {url}",
        authority.display()
    ));
    assert!(
        answer.contains(r#""allowed":false"#) && answer.contains(r#""code":403"#),
        "{answer}"
    );
    lab.rdd("svc stop").ok();

    // Nobody runs the controller: nothing judges, and nothing stands in the way.
    lab.rdd("svc start --controllers=").ok();
    assert_eq!(configurations(&lab), [""; 0]);
    notarise(&lab, "free", "invalid").ok();

    let (mut program, _) = rdd_controller(&lab);
    assert_eq!(configurations(&lab), ["notary-validator"]);
    assert_eq!(
        notarise(&lab, "n", "invalid").fails(1).replace("n2", "n"),
        inside
    );
    notarise(&lab, "good", "good").ok();
    wait_until("it is recorded", || counts(&lab, "good") == "1");
    program.signal("INT");
    assert_eq!(program.ends(), 0);
    assert_eq!(configurations(&lab), [""; 0]);
    notarise(&lab, "n", "invalid").ok();
}

#[test]
fn what_runs_already_is_left_alone() {
    let lab = Lab::new("skipped");
    // Also starts the control plane.
    let mut program = lab.program("app-controller", &["--metrics-port=0", "-v", "2"]);
    assert_eq!(program.ends(), 0);
    let said = program.said();
    assert!(
        said.contains("All controllers are already running in RDD controller manager, exiting"),
        "{said}"
    );
    for controller in ["app", "demo"] {
        let wanted = format!("controller={controller} ");
        let line = said
            .lines()
            .find(|line| line.contains(&wanted))
            .expect("it is told");
        assert!(line.contains("health=http://localhost:"), "{line}");
    }
    assert_eq!(lab.program("app-controller", &["--nonsense"]).ends(), 2);
    assert_eq!(lab.program("app-controller", &["--help"]).ends(), 0);
    let mut nowhere = lab.program("app-controller", &["--kubeconfig", "/nonexistent"]);
    assert_eq!(nowhere.ends(), 1);
    assert!(
        nowhere
            .said()
            .contains("failed to read the kubeconfig /nonexistent")
    );
    assert_eq!(entry(&lab, "app"), "");
}

#[test]
fn a_program_ends_with_its_control_plane_however_that_ends() {
    let lab = Lab::new("leaves");
    lab.rdd("svc start --controllers=").ok();
    let (mut program, _) = rdd_controller(&lab);
    lab.rdd("svc stop").ok();
    assert_eq!(program.ends(), 0, "{}", program.said());

    lab.rdd("svc start --controllers=").ok();
    let (mut program, _) = rdd_controller(&lab);
    let begin = Instant::now();
    shell(&format!("kill -9 {}", lab.pid()));
    assert_eq!(program.ends(), 0, "{}", program.said());
    // Five seconds to notice, and on a machine that does much else a few more.
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "{:?}",
        begin.elapsed()
    );

    // One that comes back at once does not know the program any more.
    lab.rdd("svc start --controllers=").ok();
    let (mut program, _) = rdd_controller(&lab);
    lab.rdd("svc stop").ok();
    let begin = Instant::now();
    lab.rdd("svc start").ok();
    // What it held it has given up: nobody waits for its leases to run out.
    assert!(
        begin.elapsed() < Duration::from_secs(12),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(program.ends(), 0, "{}", program.said());
    assert!(holder(&lab, "notary").starts_with("embedded/"));
    assert_eq!(entry(&lab, "rdd"), "");
    notarise(&lab, "n", "a").ok();
    wait_until("it is recorded", || counts(&lab, "n") == "1");
}

#[test]
fn a_program_leaves_a_control_plane_that_hangs() {
    let lab = Lab::new("hangs");
    lab.rdd("svc start --controllers=").ok();
    let (mut program, _) = rdd_controller(&lab);
    let pid = lab.pid();
    shell(&format!("kill -STOP {pid}"));
    let begin = Instant::now();
    let code = program.ends();
    let taken = begin.elapsed();
    shell(&format!("kill -CONT {pid}"));
    assert_eq!(code, 0, "{}", program.said());
    // To notice, to drain, to give up signing off, and what a busy machine adds.
    assert!(taken < Duration::from_secs(30), "{taken:?}");
    // What it could not take away, the control plane does.
    wait_until("it is taken off the list", || entry(&lab, "rdd").is_empty());
    assert_eq!(configurations(&lab), [""; 0]);
}

#[test]
fn a_killed_program_is_taken_off_the_list_and_succeeded() {
    let lab = Lab::new("killed");
    lab.rdd("svc start --controllers=").ok();
    let (mut first, _) = rdd_controller(&lab);
    first.signal("KILL");
    assert_eq!(first.ends(), 255);
    // While it is listed its rules stand, and nobody can ask them.
    let refused = notarise(&lab, "n", "a");
    assert!(
        refused.code != 0 && refused.stderr.contains("failed calling webhook"),
        "{refused:?}"
    );
    let (_second, _) = {
        wait_until("the dead one is taken off the list", || {
            entry(&lab, "rdd").is_empty()
        });
        assert_eq!(configurations(&lab), [""; 0]);
        rdd_controller(&lab)
    };
    notarise(&lab, "n", "a").ok();
    wait_until("it is recorded", || counts(&lab, "n") == "1");
}

#[test]
fn of_two_programs_one_runs_and_a_paused_one_writes_nothing_later() {
    let lab = Lab::new("paused");
    lab.rdd("svc start --controllers=").ok();
    let (mut first, entry) = rdd_controller(&lab);
    let owner = text(&entry, "identity").to_owned();
    let mut late = lab.program("rdd-controller", &[]);
    assert_eq!(late.ends(), 0);
    assert!(late.said().contains("already running"));

    first.signal("STOP");
    let mut second = lab.program("rdd-controller", &[]);
    wait_until("the second has taken over", || {
        let entry = self::entry(&lab, "rdd");
        !entry.is_empty() && text(&entry, "identity") != owner
    });
    let successor = text(&self::entry(&lab, "rdd"), "identity").to_owned();
    notarise(&lab, "n", "a").ok();
    wait_until("it is recorded", || counts(&lab, "n") == "1");
    first.signal("CONT");
    notarise(&lab, "m", "b").ok();
    assert_eq!(first.ends(), 1, "{}", first.said());
    assert!(first.said().contains("lease"), "{}", first.said());
    wait_until("it is recorded", || counts(&lab, "m") == "1");
    // What the first took away with it was its own.
    assert!(second.lives());
    assert_eq!(text(&self::entry(&lab, "rdd"), "identity"), successor);
    assert_eq!(holder(&lab, "notary"), successor);
    assert_eq!(configurations(&lab), ["notary-validator"]);
    assert!(notarise(&lab, "n", "invalid").fails(1).contains(VALIDATOR));
    assert_eq!(
        (counts(&lab, "n"), counts(&lab, "m")),
        ("1".to_owned(), "1".to_owned())
    );
}

#[test]
fn a_control_plane_waits_until_a_program_has_let_go() {
    let lab = Lab::new("waits");
    lab.rdd("svc start --controllers=").ok();
    let (mut program, entry) = rdd_controller(&lab);
    let owner = text(&entry, "identity").to_owned();
    program.signal("STOP");
    lab.rdd("svc stop").ok();
    let begin = Instant::now();
    lab.rdd("svc start --controllers=rdd").ok();
    assert!(
        begin.elapsed() > Duration::from_secs(10),
        "its lease had to run out"
    );
    assert!(holder(&lab, "notary").starts_with("embedded/"));
    program.signal("CONT");
    assert_ne!(program.ends(), 255, "{}", program.said());
    assert_ne!(holder(&lab, "notary"), owner);
    assert_eq!(configurations(&lab), ["notary-validator"]);
    assert!(notarise(&lab, "n", "invalid").fails(1).contains(VALIDATOR));
}

/// What a program sees that opens endpoints by itself.
const PRELUDE: &str = r#"
import base64, os, socket, ssl, struct, sys, urllib.request, yaml
config = yaml.safe_load(open(os.environ["KUBECONFIG"]))
cluster = config["clusters"][0]["cluster"]
tokens = {user["name"]: user["user"]["token"] for user in config["users"]}
host, port = cluster["server"].removeprefix("https://").split(":")
context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
def ask(path, *headers):
    stream = context.wrap_socket(socket.create_connection((host, int(port)), timeout=20), server_hostname=host)
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", *headers]
    stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    file = stream.makefile("rb")
    status, length = int(file.readline().split()[1]), 0
    while (line := file.readline().strip()):
        name, value = line.decode().split(":", 1)
        if name.lower() == "content-length": length = int(value)
    return status, file.read(length).decode() if status != 101 else "", file
def frame(file):
    first, second = file.read(2)
    return first & 15, file.read(second & 127)
admin = "Authorization: Bearer " + tokens["system-admin"]
user = "Authorization: Bearer " + tokens["user"]
ws = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()]
"#;

const DEMO: &str = r#"
print(ask("/passthrough/demo/hello/x")[0])
print(ask("/passthrough/demo/hello/x", "Authorization: Bearer wrong")[0])
print(ask("/passthrough/demo/hello/x", user)[:2])
print(ask("/passthrough/demo/hello/x", admin, "Origin: https://evil.example")[0])
print(ask("/passthrough/demo/nothing/x", admin)[0])
print(ask("/passthrough/demo", admin)[0])
print(ask("/passthrough/demo/hello", admin)[0])
status, _, file = ask("/passthrough/demo/websocket", *ws, admin)
print(status, frame(file), frame(file))
"#;

fn python(lab: &Lab, script: &str) -> String {
    let script = format!("{PRELUDE}{script}");
    let output = Command::new(provided("RDD_TEST_PYTHON"))
        .args(["-c", &script])
        .env("KUBECONFIG", lab.path("config"))
        .output()
        .expect("python runs");
    Done::from(output).ok()
}

#[test]
fn endpoints_of_the_service_are_where_its_entry_says() {
    let lab = Lab::new("served");
    lab.rdd("svc start").ok();
    let entry = registers(&lab, "embedded");
    let place = text(&entry, "passthroughEndpoint");
    let port = place
        .strip_prefix("https://localhost:")
        .and_then(|rest| rest.strip_suffix("/passthrough/"))
        .unwrap_or_else(|| panic!("{entry}"));
    let config = std::fs::read_to_string(lab.path("config")).expect("a kubeconfig");
    assert!(config.contains(&format!(":{port}\n")), "{port}: {config}");
    // It is the API that answers there, and it wants to know who asks.
    let ask = |from: &str| {
        shell(&format!(
            "curl -sk -o /dev/null -w '%{{http_code}}' {from} {place}demo/hello/"
        ))
    };
    let token = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: "))
        .expect("a token");
    assert_eq!(ask(""), "403");
    assert_eq!(ask(&format!("-H 'Authorization: Bearer {token}'")), "200");
}

#[test]
fn endpoints_of_a_program_are_reached_through_the_control_plane_alone() {
    let lab = Lab::new("passed");
    lab.rdd("svc start --controllers=").ok();
    let mut program = lab.program("app-controller", &[]);
    let entry = registers(&lab, "app");
    assert!(
        entry.contains(r#""enabledPassthroughs":{"demo":["hello","websocket"]}"#),
        "{entry}"
    );
    let hello = lab
        .rdd("ctl get --raw /passthrough/demo/hello/a/b?c=d")
        .ok();
    for wanted in [
        "Hello, world!",
        "X-Forwarded-For = [\"127.0.0.1\"]",
        "Path = \"/a/b\"",
    ] {
        assert!(hello.contains(wanted), "{hello}");
    }
    for secret in ["Authorization", "X-Remote"] {
        assert!(!hello.contains(secret), "{hello}");
    }
    let text_of = python(&lab, DEMO);
    let lines: Vec<&str> = text_of.lines().collect();
    assert_eq!(lines[0], "403", "nobody: {text_of}");
    assert_eq!(lines[1], "401", "a wrong token: {text_of}");
    assert!(
        lines[2].starts_with("(403, 'User \"user\" cannot get demos/hello"),
        "{text_of}"
    );
    assert_eq!(lines[3..7], ["403", "404", "404", "200"], "{text_of}");
    assert_eq!(
        lines[7],
        r"101 (1, b'hello from websocket') (8, b'\x03\xe8')"
    );

    // The way there is closed to everybody else, whatever he says he is.
    let direct = text(&entry, "passthroughEndpoint");
    assert!(direct.starts_with("https://localhost:"), "{direct}");
    let refused = shell(&format!(
        "curl -sSk -H 'X-Remote-User: x' -H 'X-Remote-Group: system:masters' {direct}demo/hello/ 2>&1; echo $?"
    ));
    assert!(
        !refused.contains("Hello") && !refused.ends_with("\n0"),
        "{refused}"
    );

    // What has the port of a dead manager is not the manager.
    let port = text(&entry, "healthEndpoint");
    let port = port
        .trim_start_matches("http://localhost:")
        .trim_end_matches("/healthz");
    program.signal("KILL");
    program.ends();
    let squatter = lab.home().join("squatter");
    std::fs::create_dir_all(&squatter).expect("a folder");
    std::fs::write(squatter.join("healthz"), "ok").expect("writes");
    let mut squatter = Command::new("python3")
        .args(["-m", "http.server", "--bind", "127.0.0.1", port])
        .current_dir(&squatter)
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("python runs");
    wait_until("somebody answers there", || {
        let line = format!("curl -s http://127.0.0.1:{port}/healthz || true");
        shell(&line) == "ok"
    });
    let gone = lab.rdd("ctl get --raw /passthrough/demo/hello");
    squatter.kill().expect("it runs");
    squatter.wait().expect("it is a child");
    assert!(gone.stderr.contains("does not answer"), "{gone:?}");
}

#[test]
fn the_mock_shows_mirrors_without_an_engine_and_not_beside_one() {
    let lab = Lab::new("mock");
    lab.rdd("svc start --controllers=containers,-engine").ok();
    let mut program = lab.program("mock-controller", &[]);
    registers(&lab, "mock");
    let shown = |kind: &str| {
        let line = format!("ctl get {kind} -n rancher-desktop -o name");
        lab.rdd(&line)
            .ok()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    wait_until("everything is there", || shown("containers").len() == 3);
    assert_eq!((shown("images").len(), shown("volumes").len()), (3, 2));
    assert!(
        shown("containernamespaces")
            .iter()
            .any(|name| name.ends_with("/buildkit"))
    );
    let all = shown("containers");
    let (_, first) = all[0].split_once('/').expect("kind and name");
    let of_first = |path: &str| {
        let path = format!("jsonpath={{{path}}}");
        lab.run(&[
            "ctl",
            "get",
            "container",
            first,
            "-n",
            "rancher-desktop",
            "-o",
            &path,
        ])
        .stdout
    };
    assert_eq!(of_first(".metadata.ownerReferences[0].name"), "rdd-mocks");
    let uid = of_first(".metadata.uid");
    lab.run(&["ctl", "delete", "container", first, "-n", "rancher-desktop"])
        .ok();
    wait_until("it is made again", || {
        let now = of_first(".metadata.uid");
        !now.is_empty() && now != uid && !of_first(".status.name").is_empty()
    });
    let refused = lab.rdd("ctl delete namespace rdd-mocks").fails(1);
    assert!(
        refused.contains("deletion of mock namespace is not allowed"),
        "{refused}"
    );

    let web = all
        .iter()
        .filter_map(|name| name.split_once('/'))
        .map(|(_, id)| id)
        .find(|id| {
            let path = "jsonpath={.status.name}";
            lab.run(&[
                "ctl",
                "get",
                "container",
                id,
                "-n",
                "rancher-desktop",
                "-o",
                path,
            ])
            .stdout
                == "web"
        })
        .expect("one is called web");
    let said = python(
        &lab,
        &format!(
            "print(ask('/passthrough/mock/logs/XYZ', *ws, admin)[:2])\n\
             print(ask('/passthrough/mock/logs/' + '0' * 64, *ws, admin)[:2])\n\
             file = ask('/passthrough/mock/logs/{web}', *ws, admin)[2]\n\
             for _ in range(5): print(frame(file))"
        ),
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], r"(400, 'Invalid container ID\n')");
    assert_eq!(lines[1], r"(404, 'Container not found\n')");
    assert_eq!(lines[2], format!(r"(2, b'Logs for container {web}\n')"));
    assert_eq!(lines[5], r"(2, b'Label: tier\tfront\n')");
    assert_eq!(lines[6], r"(8, b'\x03\xe8')");
    program.signal("TERM");
    assert_eq!(program.ends(), 0);
    lab.rdd("svc stop").ok();

    lab.rdd("svc start").ok();
    let file = lab.home().join("app.json");
    let app = r#"{"apiVersion":"app.rancherdesktop.io/v1alpha1","kind":"App","metadata":{"name":"app"},"spec":{"running":false,"namespace":"rancher-desktop"}}"#;
    std::fs::write(&file, app).expect("writes");
    lab.run(&["ctl", "create", "-f", &file.display().to_string()])
        .ok();
    let mut program = lab.program("mock-controller", &[]);
    assert_eq!(program.ends(), 1);
    let wanted = r#"mirrors into namespace \"rancher-desktop\"; start the control plane with --controllers=containers,-engine"#;
    assert!(program.said().contains(wanted), "{}", program.said());
}

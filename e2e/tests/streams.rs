//! Logs and commands of containers, from the command line and as other programs see them.

use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use rdd_e2e::{Done, Lab, provided, shell, wait_until};

/// A container named `name` that runs a line of shell and then waits.
fn start(lab: &Lab, name: &str, flags: &str, line: &str) -> String {
    let socket = lab.path("docker_socket");
    let id = shell(&format!(
        "docker -H unix://{} run -d {flags} --name {name} box:1 /bin/sh -c '{line}; mkfifo /f; read x < /f'",
        socket.display()
    ));
    wait_until("it is mirrored", || {
        lab.run(&["ctl", "get", "container", &id]).code == 0
    });
    id
}

fn lab(name: &str) -> Lab {
    let lab = Lab::new(name);
    lab.rdd("start").ok();
    lab.import_image();
    lab
}

fn said(lab: &Lab, line: &str, wanted: &str) {
    wait_until(&format!("{line} says {wanted:?}"), || {
        lab.rdd(line).stdout == wanted
    });
}

fn with_input(lab: &Lab, words: &[&str], input: &[u8]) -> Output {
    let mut child = lab
        .command(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rdd starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn logs_are_read_by_name_identifier_and_its_beginning() {
    let lab = lab("logs");
    let line = r#"for i in 1 2 3; do echo out $i; done; echo err >&2; printf "\303\251\000\n""#;
    let id = start(&lab, "talker", "", line);
    wait_until("everything is said", || {
        lab.command(&["ctl", "logs", "talker"])
            .output()
            .is_ok_and(|done| {
                let holds = |part: &[u8]| done.stdout.windows(part.len()).any(|at| at == part);
                holds(b"out 3\n") && holds(b"err\n") && holds("é\0".as_bytes())
            })
    });
    let whole = lab
        .command(&["ctl", "logs", &id])
        .output()
        .expect("it runs")
        .stdout;
    let short = lab
        .command(&["ctl", "logs", &id[..12]])
        .output()
        .expect("it runs");
    assert_eq!(short.stdout, whole);
    assert!(
        lab.rdd("ctl logs --tail=0 container/talker")
            .ok()
            .is_empty()
    );
    let stamped = lab.rdd("ctl logs --timestamps --tail=2 talker").ok();
    assert!(stamped.starts_with("20"), "{stamped}");
    assert!(
        lab.rdd("ctl logs --since-time=2100-01-01T00:00:00Z talker")
            .ok()
            .is_empty()
    );

    for (line, wanted) in [
        ("ctl logs nobody", "\"nobody\" not found"),
        ("ctl logs ffff", "\"ffff\" not found"),
        ("ctl logs image/x", "only containers have logs"),
        ("ctl logs --since=soon talker", "invalid duration"),
        ("ctl exec talker", "you must specify at least one command"),
    ] {
        let text = lab.rdd(line).fails(1);
        assert!(text.contains(wanted), "{line}: {text}");
    }

    // A terminal's log is passed on as it is.
    start(&lab, "screen", "-t", "echo shown");
    said(&lab, "ctl logs screen", "shown\r\n");
}

/// What bash offers for the last of these words.
fn offered(lab: &Lab, words: &[&str]) -> Vec<String> {
    let line = format!(
        "source <({0} completion bash); COMP_WORDS=({0} {1}); COMP_CWORD=${{#COMP_WORDS[@]}}; \
         ((COMP_CWORD--)); \
         _rdd_with_objects \"$COMP_WORDS\" \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        rdd_e2e::binary().display(),
        words
            .iter()
            .map(|word| format!("'{word}'"))
            .collect::<Vec<_>>()
            .join(" "),
    );
    let mut bash = Command::new("bash");
    lab.environment(bash.args(["-c", &line]));
    let done = Done::from(bash.output().expect("bash is there")).ok();
    let lines = done.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// What fish offers for the last word of this line.
fn offered_by_fish(lab: &Lab, line: &str) -> Vec<String> {
    let script = format!(
        "source ({rdd} completion fish | psub); function rdd; {rdd} $argv; end; complete -C 'rdd {line}'",
        rdd = rdd_e2e::binary().display()
    );
    let mut fish = Command::new("fish");
    lab.environment(fish.args(["--no-config", "-c", &script]));
    let done = Done::from(fish.output().expect("fish is there")).ok();
    // What something is for follows behind a tab.
    let words = done.lines().filter_map(|line| line.split('\t').next());
    words.map(str::to_owned).collect()
}

/// The words of this line as a zsh hands them over after the tab key, on a terminal.
fn completed_by_zsh(lab: &Lab, line: &str) -> String {
    let (rdd, out) = (rdd_e2e::binary(), lab.home().join("typed"));
    let (rdd, out) = (rdd.display(), out.display());
    let script = format!(
        r#"zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'autoload -U compinit; compinit -u -D; source <({rdd} completion zsh)'
        zpty -w shell 'rdd() {{ if [[ "$*" == *__complete* ]]; then {rdd} "$@"; else print -r -- "$*" > {out}; fi }}'
        zpty -w -n shell $'rdd {line}\t\n'
        zpty -w shell exit
        while zpty -r shell line; do :; done"#
    );
    let mut zsh = Command::new("zsh");
    lab.environment(zsh.args(["-f", "-c", &script]));
    let done: Done = zsh.output().expect("zsh is there").into();
    let typed = std::fs::read_to_string(lab.home().join("typed"));
    let typed = typed.unwrap_or_else(|error| panic!("{line}: {error}: {done:?}"));
    typed.trim_end().to_owned()
}

#[test]
fn shells_offer_containers_by_name_and_by_identifier() {
    let lab = lab("completion");
    assert_eq!(offered(&lab, &["ctl", "lo"]), ["logs"]);
    let id = start(&lab, "talker", "", "true");
    start(&lab, "taller", "", "true");
    assert_eq!(offered(&lab, &["ctl", "logs", "ta"]), ["talker", "taller"]);
    assert_eq!(offered(&lab, &["ctl", "logs", "-f", "talk"]), ["talker"]);
    assert_eq!(
        offered(&lab, &["ctl", "exec", "-it", &id[..5]]),
        [&id[..12]]
    );
    assert_eq!(
        offered(
            &lab,
            &["--instance", "completion", "ctl", "get", "containern"]
        ),
        ["containernamespaces"]
    );
    assert_eq!(
        offered(&lab, &["ctl", "delete", "container", "tall"]),
        ["taller"]
    );
    assert_eq!(offered(&lab, &["ctl", "get", "pods", "x"]), [""; 0]);
    for (line, wanted) in [
        ("ctl logs ta", vec!["talker", "taller"]),
        ("ctl exec -it talk", vec!["talker"]),
        (
            "--instance completion ctl get containern",
            vec!["containernamespaces"],
        ),
        (
            "--instance=completion ctl delete container/tall",
            vec!["container/taller"],
        ),
        ("ctl get pods x", vec![]),
        ("service statu", vec!["status"]),
    ] {
        assert_eq!(offered_by_fish(&lab, line), wanted, "{line}");
        if let [only] = wanted[..] {
            let (before, _) = line.rsplit_once(' ').expect("two words");
            assert_eq!(
                completed_by_zsh(&lab, line),
                format!("{before} {only}"),
                "{line}"
            );
        }
    }
    // The rest of the program is completed as before.
    assert!(offered(&lab, &["service", "sta"]).contains(&"status".to_owned()));
    // Nobody starts anything by typing.
    lab.rdd("svc stop").ok();
    assert_eq!(offered(&lab, &["ctl", "logs", "ta"]), [""; 0]);
    assert_eq!(offered(&lab, &["ctl", "lo"]), ["logs"]);
    assert!(lab.rdd("svc status").ok().ends_with("PID is: 0"));
}

#[test]
fn a_log_is_followed_until_its_end_and_until_its_reader_goes() {
    let lab = lab("follow");
    start(&lab, "slow", "", "echo first");
    let mut follower = lab
        .command(&["ctl", "logs", "-f", "slow"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("rdd starts");
    let mut out = follower.stdout.take().expect("piped");
    let mut first = [0; 6];
    out.read_exact(&mut first)
        .expect("said before the container ends");
    assert_eq!(&first, b"first\n");
    lab.docker("rm -f slow");
    assert_eq!(follower.wait().expect("it ends").code(), Some(0));

    // A reader that has seen enough is no failure.
    start(
        &lab,
        "chatty",
        "",
        "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done",
    );
    let head = shell(&format!(
        "HOME={} RDD_INSTANCE=follow {} ctl logs chatty | head -n 1",
        lab.home().display(),
        rdd_e2e::binary().display()
    ));
    assert_eq!(head, "line 1");
}

#[test]
fn commands_run_with_input_output_and_exit_code() {
    let lab = lab("exec");
    start(&lab, "box", "", "true");
    assert_eq!(lab.rdd("ctl exec box -- sh -c exit").code, 0);
    let done: Done = lab
        .command(&[
            "ctl",
            "exec",
            "box",
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 7",
        ])
        .output()
        .expect("it runs")
        .into();
    assert_eq!((done.code, done.stdout.as_str()), (7, "out\n"));
    assert_eq!(done.stderr, "err\ncommand terminated with exit code 7\n");
    let all: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let echoed = with_input(
        &lab,
        &["ctl", "exec", "-i", "box", "--", "sh", "-c", "cat"],
        &all,
    );
    assert_eq!(echoed.status.code(), Some(0));
    assert_eq!(echoed.stdout.len(), all.len());
    assert!(echoed.stdout == all, "arbitrary bytes pass unchanged");
    let text = lab
        .run(&[
            "ctl",
            "exec",
            "-e",
            "GREETING=hi there",
            "-w",
            "/bin",
            "box",
            "--",
            "sh",
            "-c",
            "echo $GREETING; pwd",
        ])
        .ok();
    assert_eq!(text, "hi there\n/bin");
    let missing = lab.rdd("ctl exec box -- /none");
    assert_ne!(missing.code, 0, "{missing:?}");

    // With a terminal of its own, as large as ours.
    let session = format!(
        "stty rows 31 cols 77; HOME={} RDD_INSTANCE=exec {} ctl exec -it box -- sh -c \"until stty size 2>/dev/null | grep 31; do sleep 0.02; done; exit 3\"",
        lab.home().display(),
        rdd_e2e::binary().display()
    );
    let typed = Command::new("script")
        .args(["-qec", &session, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("script is there");
    let shown = String::from_utf8_lossy(&typed.stdout);
    assert!(shown.contains("31 77"), "{shown}");
    assert_eq!(typed.status.code(), Some(3), "{shown}");

    lab.docker("kill box");
    wait_until("it has ended", || {
        lab.rdd("ctl exec box -- sh").stderr
            == "Error from server: Container is not running: it is exited\n"
    });
}

/// What a program sees that opens the endpoints by itself.
const PROGRAM: &str = r#"
import base64, json, os, socket, ssl, struct, sys, urllib.request, urllib.error
import yaml
config = yaml.safe_load(open(os.environ["KUBECONFIG"]))
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
host, port = cluster["server"].removeprefix("https://").split(":")
context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
def connect(path, headers):
    plain = socket.create_connection((host, int(port)), timeout=20)
    stream = context.wrap_socket(plain, server_hostname=host)
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", *headers]
    stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    file = stream.makefile("rb")
    status = int(file.readline().split()[1])
    length = 0
    while (line := file.readline().strip()):
        name, value = line.decode().split(":", 1)
        if name.lower() == "content-length": length = int(value)
    text = file.read(length).decode().strip() if status != 101 else ""
    return status, text, stream, file
key = "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()
ws = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key]
auth = "Authorization: Bearer " + user["token"]
def answer(path, *headers):
    status, text, stream, _ = connect(path, [*ws, *headers])
    stream.close()
    return f"{status} {text}"
def frame(file):
    first, second = file.read(2)
    size = second & 127
    if size == 126: size = struct.unpack(">H", file.read(2))[0]
    return first & 15, file.read(size)
id = sys.argv[1]
logs = f"/passthrough/engine/logs/{id}"
print(answer(logs))
print(answer(logs, "Authorization: Bearer wrong"))
print(answer(logs, auth, "Origin: https://evil.example"))
print(answer(logs, auth, f"Origin: https://{host}:{port}"))
print(answer("/passthrough/engine/logs/XYZ", auth))
print(answer("/passthrough/engine/logs/" + "0" * 64, auth))
print(answer(logs + "?follow=maybe", auth))
print(answer(logs + "?tail=x", auth))
print(answer("/passthrough/engine/nothing/x", auth))
print(answer(f"/passthrough/engine/exec/{id}?command=sh", auth))
_, _, stream, file = connect(logs + "?follow=false", [*ws, auth])
print(frame(file))
print(frame(file))
# A client that vanishes frees what was opened for it.
for _ in range(20):
    connect(logs, [*ws, auth])[2].close()
"#;

#[test]
fn endpoints_answer_as_promised_before_and_after_the_upgrade() {
    let lab = lab("endpoints");
    let id = start(&lab, "one", "", "echo hello");
    said(&lab, "ctl logs one", "hello\n");
    let output = Command::new(provided("RDD_TEST_PYTHON"))
        .args(["-c", PROGRAM, &id])
        .env("KUBECONFIG", lab.path("config"))
        .output()
        .expect("python runs");
    let text = Done::from(output).ok();
    let lines: Vec<&str> = text.lines().collect();
    let statuses: Vec<&str> = lines.iter().map(|line| &line[..3]).take(10).collect();
    assert_eq!(
        statuses,
        [
            "403", "401", "403", "101", "400", "404", "400", "400", "404", "400"
        ],
        "{text}"
    );
    for (line, wanted) in [
        (4, "Invalid container ID"),
        (5, "Container not found"),
        (6, "Invalid follow parameter"),
        (7, "Invalid argument"),
        (9, "v5.channel.k8s.io"),
    ] {
        assert!(lines[line].contains(wanted), "{text}");
    }
    assert_eq!(lines[10], r"(2, b'hello\n')", "a binary message per chunk");
    assert_eq!(lines[11], r"(8, b'\x03\xe8Closing connection')");
    let pid = lab.pid();
    wait_until("nothing is left of those that vanished", || {
        let sockets = shell(&format!("ls -l /proc/{pid}/fd | grep -c socket || true"));
        sockets.parse::<u32>().is_ok_and(|count| count < 20)
    });
    // Without an engine there is nothing to read, and that is what it says.
    lab.rdd("stop").ok();
    let gone = lab.rdd(&format!("ctl get --raw /passthrough/engine/logs/{id}"));
    assert!(gone.stderr.contains("Container not found"), "{gone:?}");
    let listed = lab
        .rdd("ctl get configmap rdd-controller-manager -n rdd-system -o jsonpath={.data.embedded}")
        .ok();
    assert!(listed.contains(r#""engine":["exec","logs"]"#), "{listed}");
}

//! Controllers that others write: what `docs/writing-a-controller.md` shows, and that it works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rdd_e2e::{Lab, provided, wait_until};

/// The root of the source tree.
fn root() -> PathBuf {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    tree.expect("the crate lies in the tree").to_path_buf()
}

/// A program that is killed with its test.
struct Program(Child);

impl Program {
    fn start(lab: &Lab, command: &mut Command) -> Self {
        let child = lab
            .environment(command)
            .env("KUBECONFIG", lab.path("config"))
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("it starts"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; the test says so where it matters.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same story for every program that keeps Tallies.
fn keeps_tallies(instance: &str, mut command: Command) {
    let lab = Lab::new(instance);
    lab.rdd("svc start --controllers=").ok();
    let program = Program::start(&lab, &mut command);
    wait_until("its kind is served", || {
        lab.rdd("ctl get tallies").code == 0
    });
    let manifest = lab.home().join("tally.json");
    let put = |name: &str, value: &str| {
        let text = format!(
            r#"{{"apiVersion":"example.com/v1","kind":"Tally","metadata":{{"name":"{name}"}},"spec":{{"value":"{value}"}}}}"#
        );
        fs::write(&manifest, text).expect("it can be written");
        lab.run(&["ctl", "apply", "-f", &manifest.display().to_string()])
            .ok();
    };
    let recorded = |name: &str, wanted: &str| {
        wait_until(&format!("{name} has {wanted}"), || {
            let object = format!("{name}-record");
            let done = lab.run(&["ctl", "get", "configmap", &object, "-o", "jsonpath={.data}"]);
            done.stdout == wanted
        });
    };
    put("a", "one");
    recorded("a", r#"{"change_000":"one"}"#);
    put("a", "two");
    recorded("a", r#"{"change_000":"one","change_001":"two"}"#);
    wait_until("its status follows", || {
        let done = lab.rdd("ctl get tally a -o jsonpath={.status}");
        done.stdout == r#"{"count":2,"recorded":"two"}"#
    });
    // What happens while it is away is made up for.
    drop(program);
    put("a", "three");
    put("b", "one");
    lab.rdd("ctl delete tally b").ok();
    put("c", "one");
    let mut program = Program::start(&lab, &mut command);
    recorded(
        "a",
        r#"{"change_000":"one","change_001":"two","change_002":"three"}"#,
    );
    recorded("c", r#"{"change_000":"one"}"#);
    // The server collects what belongs to an object that is gone.
    lab.rdd("ctl delete tally a").ok();
    wait_until("the record goes, too", || {
        lab.rdd("ctl get configmap a-record").code != 0
    });
    assert!(
        program.0.try_wait().expect("it can be asked").is_none(),
        "it has ended"
    );
}

#[test]
fn a_program_in_rust_keeps_tallies() {
    let test = std::env::current_exe().expect("this test is a file");
    let folder = test.ancestors().nth(2).expect("a target folder");
    let program = folder.join("examples/tally");
    assert!(
        program.is_file(),
        "run `cargo build -p rdd-e2e --example tally`"
    );
    keeps_tallies("tallyrs", Command::new(program));
}

#[test]
fn a_program_in_python_keeps_tallies() {
    let mut command = Command::new(provided("RDD_TEST_PYTHON"));
    command.arg(root().join("docs/examples/tally.py"));
    keeps_tallies("tallypy", command);
}

#[test]
fn the_page_quotes_what_is_in_the_files() {
    let page = fs::read_to_string(root().join("docs/writing-a-controller.md")).expect("the page");
    let mut quoted = 0;
    for part in page.split("\nFrom `").skip(1) {
        let (file, rest) = part
            .split_once("`:\n\n```")
            .expect("a fenced block follows");
        let (_, rest) = rest.split_once('\n').expect("its language ends the line");
        let (block, _) = rest.split_once("\n```").expect("the block ends");
        let text = fs::read_to_string(root().join(file)).expect("the page names a file");
        assert!(text.contains(block), "{file} does not hold:\n{block}");
        quoted += 1;
    }
    assert!(quoted >= 5, "{quoted}");
}

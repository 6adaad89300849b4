//! `cargo xtask test` and `cargo xtask bench`.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::command::{cargo, root, run, target};
use crate::setup;

/// Runs every check, or with `fast` those of the inner loop.
pub(crate) fn run_all(fast: bool, install: bool) -> Result<()> {
    let mut steps = Steps::default();
    steps.step("format", || run(cargo().args(["fmt", "--all", "--check"])))?;
    if fast {
        steps.step("unit tests", || {
            run(cargo().args(["test", "--quiet", "--workspace", "--lib", "--bins"]))
        })?;
        steps.finish();
        return Ok(());
    }
    steps.step("set-up", || {
        setup::packages(&[setup::ENGINE, setup::TESTS], install)
    })?;
    let user = setup::ordinary_user(install)?;
    let deny = setup::cargo_deny(install)?;
    let python = setup::python_kubernetes(install)?;
    let kubectl = setup::debian_kubectl(install)?;
    let node = setup::node_clients(install)?;
    steps.step("dependencies", || {
        // A new machine has no sources yet, and cargo-deny must not look for them in the network.
        run(cargo().args(["fetch", "--quiet", "--locked"]))?;
        run(Command::new(&deny).current_dir(root()).args([
            "--offline",
            "check",
            "bans",
            "licenses",
            "sources",
        ]))
    })?;
    steps.step("lints", || {
        run(cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    // The end-to-end tests start this binary; they fail when it is missing.
    steps.step("build", || {
        run(cargo().args(["build", "--package", "rdd", "--bins"]))
    })?;
    let binary = target()?.join("debug/rdd");
    steps.step("tests", || {
        run(cargo()
            .args(["test", "--workspace", "--no-fail-fast"])
            .env("RDD_BIN", &binary)
            .env("RDD_TEST_USER", &user)
            .env("RDD_TEST_PYTHON", &python)
            .env("RDD_TEST_KUBECTL", &kubectl)
            .env("RDD_TEST_KUBECTL_NEW", &node.kubectl)
            .env("RDD_TEST_HELM", &node.helm)
            .env("RDD_TEST_NODE_MODULES", &node.modules)
            .env("RDD_TEST_ORACLE", oracle()))
    })?;
    steps.finish();
    Ok(())
}

/// Builds for release and runs the benches whose names match.
pub(crate) fn bench(filter: &[String], install: bool) -> Result<()> {
    setup::packages(&[setup::ENGINE, setup::BENCHES], install)?;
    run(cargo().args([
        "build",
        "--release",
        "--package",
        "rdd",
        "--package",
        "rdd-benches",
    ]))?;
    let release = target()?.join("release");
    run(Command::new(release.join("rdd-benches"))
        .env("RDD_BIN", release.join("rdd"))
        .args(filter))
}

/// The recorded answers of a real kube-apiserver, which lie beside the source tree.
fn oracle() -> String {
    root()
        .parent()
        .unwrap_or(Path::new("/"))
        .join("shared/oracle")
        .display()
        .to_string()
}

#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, f64)>,
}

impl Steps {
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        work().with_context(|| format!("step `{name}` failed"))?;
        self.done.push((name, start.elapsed().as_secs_f64()));
        Ok(())
    }

    fn finish(&self) {
        println!("\nAll steps passed:");
        for (name, seconds) in &self.done {
            println!("  {name:<14} {seconds:7.1} s");
        }
    }
}

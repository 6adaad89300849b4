//! Rules of the house that the compiler does not know; also a test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{capture, root};

/// Who may import whom, of our own crates. What is absent is the architecture.
const IMPORTS: &[(&str, &[&str])] = &[
    (
        "rdd",
        &[
            "rdd-instance",
            "rdd-api",
            "rdd-ctl",
            "rdd-control-plane",
            "rdd-controllers",
            "rdd-docker-cli",
        ],
    ),
    (
        "rdd-control-plane",
        &[
            "rdd-apiserver",
            "rdd-store",
            "rdd-controllers",
            "rdd-manager",
            "rdd-docker-cli",
            "rdd-engine",
            "rdd-machine",
            "rdd-instance",
            "rdd-api",
            "rdd-admission",
        ],
    ),
    (
        "rdd-controllers",
        &[
            "rdd-api",
            "rdd-manager",
            "rdd-admission",
            "rdd-docker-cli",
            "rdd-engine",
            "rdd-machine",
            "rdd-instance",
        ],
    ),
    ("rdd-manager", &["rdd-admission"]),
    (
        "rdd-apiserver",
        &[
            "rdd-store",
            "rdd-apply",
            "rdd-cel",
            "rdd-schema",
            "rdd-admission",
            "rdd-jsonpath",
        ],
    ),
    ("rdd-apply", &["rdd-schema"]),
    ("rdd-cel", &["rdd-schema"]),
    ("rdd-store", &[]),
    ("rdd-docker-cli", &["rdd-engine"]),
    ("rdd-engine", &[]),
    ("rdd-machine", &[]),
    ("rdd-schema", &[]),
    ("rdd-admission", &[]),
    ("rdd-api", &[]),
    ("rdd-instance", &[]),
    ("rdd-ctl", &["rdd-jsonpath"]),
    ("rdd-jsonpath", &[]),
    (
        "rdd-testkit",
        &[
            "rdd-api",
            "rdd-apiserver",
            "rdd-control-plane",
            "rdd-controllers",
            "rdd-engine",
            "rdd-instance",
            "rdd-machine",
            "rdd-manager",
            "rdd-store",
        ],
    ),
];

/// Tools and suites outside the product; they may import anything.
const OUTSIDE: &[&str] = &["xtask", "rdd-e2e", "rdd-benches", "rdd-fuzz-targets"];

/// A file beyond this many lines holds more than one idea.
const LINES_MAX: usize = 900;

/// Pages that name the tests which show what they say.
const PROOFS: &[&str] = &["docs/design/failures.md", "docs/design/promises.md"];

/// Words that mean unfinished work.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "#[ignore", "FIXME", "XXX"];

/// Fails with every broken rule, each with the file and the cure.
pub(crate) fn check() -> Result<()> {
    let mut broken = Vec::new();
    imports(&mut broken)?;
    let mut functions = BTreeSet::new();
    for file in sources()? {
        let text = read(&file)?;
        source(&file, &text, &mut broken);
        functions.extend(declared(&text).map(str::to_owned));
    }
    for page in PROOFS {
        let text = read(&root().join(page))?;
        for name in named(&text) {
            let known = match name.strip_suffix("_…") {
                Some(begin) => functions.iter().any(|found| found.starts_with(begin)),
                None => functions.contains(name),
            };
            if !known {
                broken.push(format!("{page}: there is no test `{name}`"));
            }
        }
    }
    if broken.is_empty() {
        println!("tidy: nothing to complain about");
        return Ok(());
    }
    bail!("{} rules broken:\n  {}", broken.len(), broken.join("\n  "))
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
}

/// The names of the functions that a source declares.
fn declared(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| {
        let (_, name) = line.split_once("fn ")?;
        name.split(|letter: char| !is_of_name(letter)).next()
    })
}

/// The tests that a page names: they are sentences, no other name there has four words.
fn named(page: &str) -> impl Iterator<Item = &str> {
    page.split(|letter: char| !is_of_name(letter) && letter != '…')
        .filter(|name| name.matches('_').count() >= 3)
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
}

fn imports(broken: &mut Vec<String>) -> Result<()> {
    let text = capture(
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
            .current_dir(root()),
    )?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("failed to read cargo metadata")?;
    let table: BTreeMap<&str, BTreeSet<&str>> = IMPORTS
        .iter()
        .map(|(name, allowed)| (*name, allowed.iter().copied().collect()))
        .collect();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if OUTSIDE.contains(&name) {
            continue;
        }
        let Some(allowed) = table.get(name) else {
            broken.push(format!(
                "crate {name} is not in the import table of xtask/src/tidy.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or_default();
            let ours = table.contains_key(other);
            let development = dependency["kind"].as_str() == Some("dev");
            if ours && !development && !allowed.contains(other) {
                broken.push(format!("{name} must not import {other}"));
            }
            if other == "rdd-testkit" && !development {
                broken.push(format!("{name}: only dev-dependencies name rdd-testkit"));
            }
        }
    }
    Ok(())
}

fn sources() -> Result<Vec<PathBuf>> {
    let list = capture(
        Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "--",
                "*.rs",
            ])
            .current_dir(root()),
    )?;
    Ok(list
        .lines()
        .map(|line| root().join(line))
        .filter(|file| file.exists())
        .collect())
}

fn source(file: &Path, text: &str, broken: &mut Vec<String>) {
    let shown = file
        .strip_prefix(root())
        .unwrap_or(file)
        .display()
        .to_string();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        broken.push(format!(
            "{shown}: {lines} lines; split it by idea (at most {LINES_MAX})"
        ));
    }
    if shown == "xtask/src/tidy.rs" {
        return;
    }
    for word in UNFINISHED {
        if text.contains(word) {
            broken.push(format!("{shown}: unfinished: `{word}`"));
        }
    }
    if shown.ends_with("/mod.rs") {
        broken.push(format!(
            "{shown}: name the file after its module, beside the folder"
        ));
    }
    if shown.starts_with("crates/") && shown.ends_with("/src/lib.rs") {
        if !text.starts_with("//! ") {
            broken.push(format!("{shown}: begins with the crate's story"));
        }
        if !text.contains("//! Invariant:") {
            broken.push(format!("{shown}: the story ends with a line `Invariant:`"));
        }
    }
    let test = shown.contains("/tests/") || shown.starts_with("e2e/");
    if test && text.contains("sleep(Duration::from_secs") {
        broken.push(format!(
            "{shown}: a test waits on a condition with short looks, it does not sleep for seconds"
        ));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_house_is_tidy() {
        super::check().expect("every rule holds");
    }
}

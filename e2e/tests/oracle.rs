//! The recorded answers of a real kube-apiserver, replayed against the built binary.
//!
//! `oracle-areas.txt` names the areas; what does not end as recorded yet stands in
//! `oracle-open.txt`, each with what is missing. A scenario that fails and is not in
//! that list is replayed once more by itself before it counts: on a busy machine some
//! run into their own time limits.

#![expect(
    clippy::print_stdout,
    reason = "the figures belong to the test's report"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use rdd_e2e::{Done, Lab};

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The areas are dealt to this many servers, side by side: most scenarios wait for something.
const SERVERS: usize = 3;

#[test]
fn the_server_answers_as_kube_apiserver_did_in_the_first_areas() {
    replay_share(0);
}

#[test]
fn the_server_answers_as_kube_apiserver_did_in_the_second_areas() {
    replay_share(1);
}

#[test]
fn the_server_answers_as_kube_apiserver_did_in_the_third_areas() {
    replay_share(2);
}

/// Replays every [`SERVERS`]th area of the list, beginning with this one, on a server of its own.
fn replay_share(share: usize) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test run says where the recordings lie"
    )]
    let folder = std::env::var_os("RDD_TEST_ORACLE")
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir());
    let Some(folder) = folder else {
        println!("RDD_TEST_ORACLE names no recordings: nothing to compare with");
        return;
    };
    let lab = Lab::new(&format!("oracle-{share}"));
    let tokens = lab.home().join("tokens.csv");
    std::fs::write(
        &tokens,
        "ADMIN,admin,admin-uid,\"system:masters\"\nOTHER,alice,alice-uid,\"devs\"\n",
    )
    .expect("writes");
    lab.run(&[
        "svc",
        "start",
        "--controllers=",
        "--token-file",
        &tokens.display().to_string(),
    ])
    .ok();
    let server = lab
        .run(&[
            "ctl",
            "config",
            "view",
            "-o",
            "jsonpath={.clusters[0].cluster.server}",
        ])
        .ok();
    let replay = |patterns: &[String]| -> BTreeSet<String> {
        let done: Done = Command::new("python3")
            .arg(folder.join("oracle.py"))
            .args([
                "run",
                "--server",
                &server,
                "--token",
                "ADMIN",
                "--token-user2",
                "OTHER",
            ])
            .args(patterns)
            .output()
            .expect("python3 is installed")
            .into();
        let summary = done
            .stdout
            .lines()
            .rev()
            .find(|line| line.contains(" passed, "));
        println!(
            "{}",
            summary.unwrap_or_else(|| panic!("no summary: {done:?}"))
        );
        let failed = done
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("FAIL "));
        failed
            .filter_map(|line| line.split(' ').next().map(str::to_owned))
            .collect()
    };
    let open: BTreeSet<String> = lines(include_str!("../oracle-open.txt"))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    let areas: Vec<&str> = lines(include_str!("../oracle-areas.txt"))
        .skip(share)
        .step_by(SERVERS)
        .collect();
    let open: BTreeSet<String> = open
        .into_iter()
        .filter(|name| {
            areas
                .iter()
                .any(|area| name.split('/').next() == Some(area))
        })
        .collect();
    let areas: Vec<String> = areas.iter().map(|area| format!("{area}/*")).collect();
    let failed = replay(&areas);
    let mended: Vec<&String> = open.difference(&failed).collect();
    if !mended.is_empty() {
        println!("as recorded by now, remove them from oracle-open.txt: {mended:?}");
    }
    let unexpected: Vec<String> = failed.difference(&open).cloned().collect();
    if unexpected.is_empty() {
        return;
    }
    let still: Vec<String> = replay(&unexpected).into_iter().collect();
    assert!(still.is_empty(), "not as recorded: {still:?}");
}

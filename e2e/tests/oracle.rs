//! The recorded answers of a real kube-apiserver, replayed against the built binary.
//!
//! Areas are claimed one by one in `oracle-claims.txt`; scenarios that cannot or should
//! not be matched stand in `oracle-exceptions.txt`, each with its reason.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use rdd_e2e::{Done, Lab};

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn the_server_answers_as_kube_apiserver_did() {
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
    let lab = Lab::new("oracle");
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
    let claims: Vec<String> = lines(include_str!("../oracle-claims.txt"))
        .map(|area| format!("{area}/*"))
        .collect();
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
        .args(&claims)
        .output()
        .expect("python3 is installed")
        .into();
    let exceptions: BTreeSet<&str> = lines(include_str!("../oracle-exceptions.txt"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let failed: BTreeSet<&str> = done
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("FAIL "))
        .filter_map(|line| line.split([' ', ':']).next())
        .collect();
    let summary = done
        .stdout
        .lines()
        .rev()
        .find(|line| line.contains(" passed"))
        .unwrap_or_default();
    println!("{summary}");
    assert!(summary.contains("passed"), "{done:?}");
    let unexpected: Vec<&&str> = failed.difference(&exceptions).collect();
    assert!(unexpected.is_empty(), "not as recorded: {unexpected:?}");
    let mended: Vec<&&str> = exceptions.difference(&failed).collect();
    assert!(
        mended.is_empty(),
        "no exceptions any more, remove them from the list: {mended:?}"
    );
}

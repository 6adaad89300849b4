//! What an older release left: it opens, is brought up to date, and can be deleted.

use std::fs;

use rdd_e2e::{Lab, wait_until};

/// The Container that was deleted before the upgrade, and the one that was not.
const GOING: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
const STAYING: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// An instance over a copy of the older store.
fn older(suffix: &str) -> Lab {
    let lab = Lab::new(suffix);
    lab.rdd("svc create").ok();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/release-0.1.sqlite3");
    fs::copy(fixture, lab.path("dir").join("rdd.sqlite3")).expect("it can be copied");
    lab
}

#[test]
fn a_store_of_the_release_before_opens_and_everything_in_it_can_go() {
    let lab = older("upgrade");
    lab.rdd("svc start").ok();
    // What the user stored is as it was.
    for (object, path, wanted) in [
        ("configmap kept", ".data", r#"{"k":"v"}"#),
        ("secret kept", ".data", r#"{"k":"dg=="}"#),
        ("widget w", ".spec", r#"{"size":3}"#),
        ("namespace team", ".status.phase", "Active"),
        ("clusterrole kept", ".rules[0].verbs", r#"["get"]"#),
        ("notary n", ".status.lastRecordedValue", "one"),
        ("configmap n-log", ".data.change_count", "0"),
        ("cmrs s", ".status.readyReplicas", "2"),
        ("demo demo", ".status.processedCount", "3"),
        ("app app", ".spec.running", "false"),
    ] {
        let read = lab.rdd(&format!("ctl get {object} -o jsonpath={{{path}}}"));
        assert_eq!(read.ok(), wanted, "{object}");
    }
    // Definitions are those of this release: a field that was unknown is stored.
    let patch = r#"{"spec":{"value":"two"}}"#;
    lab.run(&["ctl", "patch", "notary", "n", "--type=merge", "-p", patch])
        .ok();
    wait_until("the new field is stored", || {
        lab.rdd("ctl get notary n -o jsonpath={.status.changeCount}")
            .stdout
            == "2"
    });
    // A finalizer of an older name is let go, whether its object was to go or not.
    wait_until("what was deleted before is gone", || {
        lab.rdd(&format!("ctl get container {GOING}")).code != 0
    });
    for object in [
        format!("container/{STAYING}"),
        "image/img-1".to_owned(),
        "volume/vol-1".to_owned(),
        "containernamespace/mine".to_owned(),
        "containercreaterequest/r1".to_owned(),
        "imagepullrequest/r2".to_owned(),
        "imagepushrequest/r3".to_owned(),
        "imagescanrequest/r4".to_owned(),
        "volumecreaterequest/r5".to_owned(),
        "notary/n".to_owned(),
        "cmrs/s".to_owned(),
        "demo/demo".to_owned(),
        "app/app".to_owned(),
        "widget/w".to_owned(),
        "namespace/team".to_owned(),
    ] {
        let done = lab.rdd(&format!(
            "ctl delete {object} --ignore-not-found --timeout=60s"
        ));
        assert_eq!(done.code, 0, "{object}: {done:?}");
    }
    for kind in [
        "notaries",
        "cmrs",
        "demos",
        "apps",
        "containers",
        "images",
        "volumes",
    ] {
        assert_eq!(
            lab.rdd(&format!("ctl get {kind} -o name")).ok(),
            "",
            "{kind}"
        );
    }
}

#[test]
fn mirrors_of_the_release_before_make_room_for_those_of_an_engine() {
    let lab = older("upmirror");
    lab.rdd("start").ok();
    // None of them is of this engine.
    for object in [
        format!("container {STAYING}"),
        format!("container {GOING}"),
        "image img-1".to_owned(),
        "volume vol-1".to_owned(),
    ] {
        wait_until(&format!("{object} is gone"), || {
            lab.rdd(&format!("ctl get {object}")).code != 0
        });
    }
    // What was asked for, and could not be done without an engine, is done now.
    wait_until("the volume that was asked for shows", || {
        lab.rdd("ctl get volumes -o jsonpath={.items[*].status.name}")
            .stdout
            == "data"
    });
    lab.import_image();
    wait_until("the engine's own image shows", || {
        lab.rdd("ctl get images -o jsonpath={.items[*].status.repoTag}")
            .stdout
            == "box:1"
    });
}

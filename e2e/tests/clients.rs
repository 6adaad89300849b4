//! Clients that know nothing of rdd: kubectl, Helm, kube-rs, Python and JavaScript.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt as _, watcher};
use rdd_e2e::{Done, Lab};
use serde_json::json;

const CRD: &str = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
"metadata":{"name":"widgets.example.com"},"spec":{"group":"example.com","scope":"Namespaced",
"names":{"plural":"widgets","singular":"widget","kind":"Widget","shortNames":["wd"],"categories":["all"]},
"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{}},
"additionalPrinterColumns":[{"name":"Size","type":"integer","jsonPath":".spec.size"}],
"schema":{"openAPIV3Schema":{"type":"object","properties":{
"spec":{"type":"object","properties":{"size":{"type":"integer","minimum":1,"description":"How large."},"color":{"type":"string","default":"red"}}},
"status":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}}}]}}"#;

/// Debian's kubectl, the oldest that must work, and one as new as the server.
fn kubectls() -> [PathBuf; 2] {
    ["RDD_TEST_KUBECTL", "RDD_TEST_KUBECTL_NEW"].map(rdd_e2e::provided)
}

fn kubectl(program: &Path, lab: &Lab, words: &[&str], stdin: &str) -> Done {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .arg("--kubeconfig")
        .arg(lab.path("config"))
        .args(words)
        .env("HOME", lab.home())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(stdin.as_bytes())
        .expect("it reads");
    child.wait_with_output().expect("it ends").into()
}

/// The same command through kubectl and through `rdd ctl`.
#[test]
fn rdd_ctl_answers_as_kubectl_does() {
    let lab = Lab::new("ctl");
    lab.rdd("svc start --controllers=").ok();
    let manifest = lab.home().join("crd.json");
    std::fs::write(&manifest, CRD).expect("writes");
    lab.run(&["ctl", "apply", "-f", &manifest.display().to_string()])
        .ok();
    lab.rdd("ctl wait --for=condition=Established crd/widgets.example.com")
        .ok();
    let widget = lab.home().join("w.yaml");
    std::fs::write(
        &widget,
        "apiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: w1\nspec:\n  size: 3\n",
    )
    .expect("writes");
    let widget = widget.display().to_string();
    assert_eq!(
        lab.run(&["ctl", "apply", "-f", &widget]).ok(),
        "widget.example.com/w1 created"
    );
    assert_eq!(
        lab.run(&["ctl", "apply", "-f", &widget]).ok(),
        "widget.example.com/w1 unchanged"
    );
    lab.rdd("ctl create configmap plain --from-literal=a=1")
        .ok();

    let newest = rdd_e2e::provided("RDD_TEST_KUBECTL_NEW");
    for (line, wanted) in [
        ("get widgets", "NAME   SIZE\nw1     3"),
        ("get wd w1 -o name", "widget.example.com/w1"),
        ("get widgets w1 -o jsonpath={.spec.color}", "red"),
        (
            "get widget.example.com/w1 -o custom-columns=N:.metadata.name,S:.spec.size",
            "N     S\nw1    3",
        ),
        ("label widget w1 a=b", "widget.example.com/w1 labeled"),
        ("get widgets -l a=b -o name", "widget.example.com/w1"),
        ("get widgets -l a!=b -o name", ""),
        ("annotate widget w1 a=b", "widget.example.com/w1 annotated"),
        (
            "patch widget w1 --type=merge -p {\"spec\":{\"size\":4}}",
            "widget.example.com/w1 patched",
        ),
        (
            "patch widget w1 --type=json -p [{\"op\":\"replace\",\"path\":\"/spec/size\",\"value\":5}]",
            "widget.example.com/w1 patched",
        ),
        ("get widgets w1 -o jsonpath={.spec.size}", "5"),
        ("get configmap plain -o jsonpath={.data}", "{\"a\":\"1\"}"),
        (
            "api-resources --api-group=example.com",
            "NAME      SHORTNAMES   APIVERSION       NAMESPACED   KIND\nwidgets   wd           example.com/v1   true         Widget",
        ),
        (
            "get widgets -o jsonpath={range.items[*]}{.metadata.name};{end}",
            "w1;",
        ),
        ("get -f WIDGET", "NAME   SIZE\nw1     5"),
        (
            "get widgets --show-kind",
            "NAME                    SIZE\nwidget.example.com/w1   5",
        ),
        ("label widget w1 a-", "widget.example.com/w1 unlabeled"),
        (
            "label widget w1 a-",
            "label \"a\" not found.\nwidget.example.com/w1 not labeled",
        ),
    ] {
        let line = line.replace("WIDGET", &widget);
        let words: Vec<&str> = line.split(' ').collect();
        let ours = lab.run(&[&["ctl"], words.as_slice()].concat());
        assert_eq!(ours.clone().ok(), wanted, "{line}");
        if line.starts_with("get") {
            let theirs = kubectl(&newest, &lab, &words, "");
            assert_eq!(
                (ours.code, &ours.stdout),
                (theirs.code, &theirs.stdout),
                "{line}: {theirs:?}"
            );
        }
    }
    for (line, wanted) in [
        (
            "get widget nope",
            r#"Error from server (NotFound): widgets.example.com "nope" not found"#,
        ),
        (
            "get widget w1 -l a=b",
            "error: name cannot be provided when a selector is specified",
        ),
        (
            "get -f /nowhere",
            r#"error: the path "/nowhere" does not exist"#,
        ),
        (
            "get nonsense",
            r#"error: the server doesn't have a resource type "nonsense""#,
        ),
        (
            "get widget w1 -n nowhere",
            r#"Error from server (NotFound): namespaces "nowhere" not found"#,
        ),
        (
            "get widgets one two",
            "Error from server (NotFound): widgets.example.com \"one\" not found\nError from server (NotFound): widgets.example.com \"two\" not found",
        ),
        (
            "get widget w1 -A",
            "error: a resource cannot be retrieved by name across all namespaces",
        ),
        (
            "get widgets -l !!",
            r#"Error from server (BadRequest): Unable to find "example.com/v1, Resource=widgets" that match label selector "!!", field selector "": unable to parse requirement: found '!', expected: identifier"#,
        ),
        (
            "create -f WIDGET",
            r#"Error from server (AlreadyExists): error when creating "WIDGET": widgets.example.com "w1" already exists"#,
        ),
        (
            "create configmap plain",
            r#"error: failed to create configmap: configmaps "plain" already exists"#,
        ),
        (
            "annotate widget w1 a=c",
            "error: --overwrite is false but found the following declared annotation(s): 'a' already has a value (b)",
        ),
        (
            "label widget w1 x=1 x-",
            "error: can not both modify and remove a label in the same command",
        ),
        (
            "patch widget nope --type=merge -p {}",
            r#"Error from server (NotFound): widgets.example.com "nope" not found"#,
        ),
        (
            "wait widget/w1 --for=jsonpath={.spec.size}=",
            "error: jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3",
        ),
        ("wait widget/w1", r#"error: unrecognized condition: """#),
        (
            "wait widget/w1 configmap/plain --for=jsonpath={.nothing}=1 --timeout=1s",
            "error: timed out waiting for the condition on widgets/w1\nerror: timed out waiting for the condition on configmaps/plain",
        ),
        (
            "delete widget nope",
            r#"Error from server (NotFound): widgets.example.com "nope" not found"#,
        ),
    ] {
        let (line, wanted) = (
            line.replace("WIDGET", &widget),
            wanted.replace("WIDGET", &widget),
        );
        let words: Vec<&str> = line.split(' ').collect();
        let ours = lab.run(&[&["ctl"], words.as_slice()].concat());
        assert_eq!(ours.stderr.trim_end(), wanted, "{line}");
        let theirs = kubectl(&newest, &lab, &words, "");
        // For several kubectl leaves its own prefix out.
        let stderr = match wanted.lines().count() {
            1 => theirs.stderr,
            _ => theirs.stderr.replace("\ntimed out", "\nerror: timed out"),
        };
        let stderr = match stderr.strip_prefix("timed out") {
            Some(rest) => format!("error: timed out{rest}"),
            None => stderr,
        };
        assert_eq!((ours.code, ours.stderr), (theirs.code, stderr), "{line}");
    }
    // What was read from standard input is named.
    let mut child = lab
        .command(&["ctl", "create", "-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let text = std::fs::read(&widget).expect("it is there");
    let mut stdin = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, &text).expect("it reads");
    drop(stdin);
    let done: Done = child.wait_with_output().expect("it ends").into();
    assert_eq!(
        done.fails(1),
        r#"Error from server (AlreadyExists): error when creating "STDIN": widgets.example.com "w1" already exists"#
    );
    let bad = lab.home().join("bad.yaml");
    std::fs::write(
        &bad,
        "apiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: w2\nspec:\n  size: 0\n",
    )
    .expect("writes");
    let refused = lab
        .run(&["ctl", "apply", "-f", &bad.display().to_string()])
        .fails(1);
    assert_eq!(
        refused,
        r#"The Widget "w2" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"#
    );
}

#[test]
fn every_kubectl_applies_explains_waits_and_deletes() {
    for program in kubectls() {
        applies_explains_waits_and_deletes(&program);
    }
}

fn applies_explains_waits_and_deletes(program: &Path) {
    let kubectl = |lab: &Lab, words: &[&str], stdin: &str| kubectl(program, lab, words, stdin);
    let lab = Lab::new("kubectl");
    lab.rdd("svc start --controllers=").ok();
    kubectl(&lab, &["apply", "-f", "-"], CRD).ok();
    kubectl(
        &lab,
        &[
            "wait",
            "--for=condition=Established",
            "crd/widgets.example.com",
            "--timeout=60s",
        ],
        "",
    )
    .ok();
    let widget = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w1"},"spec":{"size":3}}"#;
    assert_eq!(
        kubectl(&lab, &["apply", "-f", "-"], widget).ok(),
        "widget.example.com/w1 created"
    );
    assert_eq!(
        kubectl(&lab, &["apply", "-f", "-"], widget).ok(),
        "widget.example.com/w1 unchanged"
    );
    let made = widget.replace("w1", "w4");
    kubectl(&lab, &["create", "-f", "-"], &made).ok();
    let wanted = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w4"},"spec":{"color":"blue"}}"#;
    let words = [
        "apply",
        "--server-side",
        "--field-manager=painter",
        "--force-conflicts",
        "-f",
        "-",
    ];
    let applied = kubectl(&lab, &words, wanted).ok();
    assert_eq!(applied, "widget.example.com/w4 serverside-applied");
    let shown = kubectl(
        &lab,
        &[
            "get",
            "widget",
            "w4",
            "-o",
            "jsonpath={.spec.size} {.spec.color}",
        ],
        "",
    )
    .ok();
    assert_eq!(shown, "3 blue");
    let unknown = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w3"},"spec":{"nope":1}}"#;
    let refused = kubectl(&lab, &["create", "-f", "-"], unknown).fails(1);
    // The older one looks at the schema itself.
    assert!(
        refused.contains(r#"unknown field "spec.nope""#)
            || refused.contains(r#"unknown field "nope" in com.example.v1.Widget.spec"#),
        "{refused}"
    );
    assert!(
        kubectl(&lab, &["explain", "widget.spec.size"], "")
            .ok()
            .contains("How large.")
    );
    assert!(
        kubectl(&lab, &["describe", "widget", "w1"], "")
            .ok()
            .contains("Size:")
    );
    assert!(
        kubectl(&lab, &["api-versions"], "")
            .ok()
            .contains("example.com/v1")
    );
    kubectl(&lab, &["delete", "widget", "--all", "--timeout=60s"], "").ok();
    let namespace = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"tmp"}}"#;
    kubectl(&lab, &["create", "-f", "-"], namespace).ok();
    kubectl(&lab, &["-n", "tmp", "create", "-f", "-"], widget).ok();
    kubectl(&lab, &["delete", "namespace", "tmp", "--timeout=60s"], "").ok();
    kubectl(
        &lab,
        &["delete", "crd", "widgets.example.com", "--timeout=60s"],
        "",
    )
    .ok();
}

#[test]
fn the_python_client_reads_writes_and_resumes() {
    let python = rdd_e2e::provided("RDD_TEST_PYTHON");
    let lab = Lab::new("python");
    lab.rdd("svc start --controllers=").ok();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python_client.py");
    let done: Done = Command::new(python)
        .arg(script)
        .arg(lab.path("config"))
        .output()
        .expect("python starts")
        .into();
    assert!(done.clone().ok().starts_with("python client: "), "{done:?}");
}

#[test]
fn the_javascript_client_reads_writes_and_keeps_informed_over_a_restart() {
    let lab = Lab::new("node");
    lab.rdd("svc start --controllers=").ok();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/node_client.mjs");
    let restart = "\"$0\" svc stop && \"$0\" svc start --controllers=";
    let done: Done = lab
        .environment(&mut Command::new("node"))
        .arg(script)
        .arg(rdd_e2e::provided("RDD_TEST_NODE_MODULES"))
        .arg(lab.path("config"))
        .args(["sh", "-c", restart])
        .arg(rdd_e2e::provided("RDD_BIN"))
        .output()
        .expect("node starts")
        .into();
    assert!(
        done.clone().ok().starts_with("javascript client: "),
        "{done:?}"
    );
}

#[test]
fn helm_installs_upgrades_rolls_back_and_removes_a_chart() {
    let lab = Lab::new("helm");
    lab.rdd("svc start --controllers=").ok();
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/chart");
    let helm = |words: &str| -> Done {
        Command::new(rdd_e2e::provided("RDD_TEST_HELM"))
            .args(words.replace("CHART", chart).split_whitespace())
            .env("HOME", lab.home())
            .env("KUBECONFIG", lab.path("config"))
            .output()
            .expect("helm starts")
            .into()
    };
    let size = || lab.rdd("ctl get gadget one -o jsonpath={.spec.size}").ok();
    helm("install one CHART --wait --timeout 60s").ok();
    assert_eq!(size(), "1");
    helm("upgrade one CHART --set size=3 --wait --timeout 60s").ok();
    assert_eq!(size(), "3");
    let refused = helm("upgrade one CHART --set size=0").fails(1);
    assert!(
        refused.contains("spec.size in body should be greater than or equal to 1"),
        "{refused}"
    );
    helm("rollback one 1 --wait --timeout 60s").ok();
    assert_eq!(size(), "1");
    let history = helm("history one -o json").ok();
    assert_eq!(history.matches("\"revision\"").count(), 4, "{history}");
    helm("install two CHART --dry-run=server").ok();
    assert_eq!(helm("list -q").ok(), "one");
    helm("uninstall one --wait --timeout 60s").ok();
    let left = lab.rdd("ctl get gadgets,secrets,serviceaccounts,roles -o name");
    assert_eq!(left.ok(), "serviceaccount/default");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_rs_writes_applies_and_watches_over_a_restart() {
    let lab = Lab::new("kubers");
    lab.rdd("svc start --controllers=").ok();
    let client = async || {
        let kubeconfig = Kubeconfig::read_from(lab.path("config")).expect("a kubeconfig");
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .expect("usable");
        kube::Client::try_from(config).expect("a client")
    };
    let api: Api<ConfigMap> = Api::default_namespaced(client().await);
    let map = |name: &str, value: &str| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": value}}))
            .expect("a ConfigMap")
    };
    let made = api
        .create(&PostParams::default(), &map("a", "1"))
        .await
        .expect("created");
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"applied": "yes"}});
    let applied = api
        .patch("a", &PatchParams::apply("kube-rs"), &Patch::Apply(&body))
        .await
        .expect("applied");
    assert_eq!(applied.data.expect("data").len(), 2);
    let mut stale = made.clone();
    stale.data = map("a", "stale").data;
    let conflict = api.replace("a", &PostParams::default(), &stale).await;
    assert!(matches!(conflict, Err(kube::Error::Api(status)) if status.code == 409));
    let version = made.metadata.resource_version.expect("a revision");
    let since: u64 = version.parse().expect("a number");

    // A watcher sees what happens, also across a restart of the server, and each change once.
    lab.rdd("svc stop").ok();
    lab.rdd("svc start --controllers=").ok();
    let api: Api<ConfigMap> = Api::default_namespaced(client().await);
    let mut seen = Box::pin(
        api.watch(&kube::api::WatchParams::default().timeout(5), &version)
            .await
            .expect("history is kept"),
    );
    let first = tokio::time::timeout(rdd_e2e::PATIENCE, seen.next())
        .await
        .expect("at once")
        .expect("open")
        .expect("readable");
    let kube::api::WatchEvent::Modified(object) = first else {
        panic!("the apply comes first: {first:?}");
    };
    assert!(
        object
            .metadata
            .resource_version
            .expect("a revision")
            .parse::<u64>()
            .expect("a number")
            > since
    );

    let stream = watcher(
        api.clone(),
        watcher::Config::default().fields("metadata.name=b"),
    )
    .default_backoff()
    .applied_objects();
    let mut stream = Box::pin(stream);
    api.create(&PostParams::default(), &map("b", "1"))
        .await
        .expect("created");
    let next = tokio::time::timeout(rdd_e2e::PATIENCE, stream.next())
        .await
        .expect("in time")
        .expect("open")
        .expect("readable");
    assert_eq!(next.metadata.name.as_deref(), Some("b"));
    api.delete("b", &DeleteParams::default())
        .await
        .expect("deleted");
    assert!(api.get_opt("b").await.expect("reads").is_none());
}

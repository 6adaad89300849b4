//! Every verb of kubectl that has a meaning without pods, with Debian's release and a new
//! one: the rungs of `docs/clients.md` that are kubectl's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rdd_e2e::{Done, Lab, wait_until};
use serde_json::{Value, json};

/// A control plane without controllers, and one of the two kubectls.
struct Bench {
    lab: Lab,
    program: PathBuf,
    /// Debian's, of 2021.
    old: bool,
}

/// Runs a story with each kubectl.
fn with_each(name: &str, story: impl Fn(&Bench)) {
    for (variable, old) in [("RDD_TEST_KUBECTL", true), ("RDD_TEST_KUBECTL_NEW", false)] {
        let lab = Lab::new(&format!("{name}{}", u8::from(old)));
        lab.rdd("svc start --controllers=").ok();
        let program = rdd_e2e::provided(variable);
        story(&Bench { lab, program, old });
    }
}

impl Bench {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(self.lab.path("config"))
            .args(line.split(' '))
            .env("HOME", self.lab.home())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// kubectl with these words, which are parted by blanks, and this input.
    fn reads(&self, line: &str, input: &str) -> Done {
        let mut child = self.command(line).spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("piped");
        // A kubectl that refuses its flags does not read.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends").into()
    }

    fn run(&self, line: &str) -> Done {
        self.reads(line, "")
    }

    /// The standard output of a success.
    fn ok(&self, line: &str) -> String {
        self.run(line).ok()
    }

    /// Applies or creates a document.
    fn put(&self, line: &str, document: &Value) -> String {
        self.reads(line, &document.to_string()).ok()
    }

    /// The document that `get -o json` shows.
    fn get(&self, what: &str) -> Value {
        let text = self.ok(&format!("get {what} -o json"));
        serde_json::from_str(&text).expect("JSON")
    }

    fn define_widgets(&self) {
        self.put("apply -f -", &definition());
        self.ok("wait --for=condition=Established crd/widgets.example.com --timeout=60s");
    }
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
                },
                "additionalPrinterColumns": [
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object", "description": "A thing.",
                    "properties": {
                        "spec": {"type": "object", "description": "What is wanted.", "properties": {
                            "replicas": {"type": "integer", "description": "How many."},
                            "color": {"type": "string"}
                        }},
                        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}
                    }
                }}
            }]
        }
    })
}

fn config_map(name: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "a"}}, "data": data
    })
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

#[test]
fn it_finds_the_server_and_what_is_served() {
    with_each("kfind", |bench| {
        assert!(bench.ok("version").contains("Server Version"));
        assert!(
            bench
                .ok("get --raw /readyz?verbose")
                .contains("readyz check passed")
        );
        assert!(
            bench
                .ok("api-versions")
                .lines()
                .any(|line| line == "rbac.authorization.k8s.io/v1")
        );
        let listed = bench.ok("api-resources --verbs=list -o name");
        for resource in [
            "configmaps",
            "leases.coordination.k8s.io",
            "roles.rbac.authorization.k8s.io",
        ] {
            assert!(listed.lines().any(|line| line == resource), "{listed}");
        }
        assert!(!listed.lines().any(|line| line == "pods"), "{listed}");
        let refused = bench.run("get pods").fails(1);
        assert!(
            refused.contains("the server doesn't have a resource type \"pods\""),
            "{refused}"
        );
    });
}

#[test]
fn it_shows_objects_in_every_form() {
    with_each("kshow", |bench| {
        for (name, size) in [("b", "2"), ("a", "3"), ("c", "1")] {
            bench.put("create -f -", &config_map(name, json!({"size": size})));
        }
        let names = "-o custom-columns=N:.metadata.name --no-headers -l app";
        assert_eq!(bench.ok(&format!("get cm {names}")), "a\nb\nc");
        assert_eq!(
            bench.ok(&format!("get cm {names} --sort-by=.data.size")),
            "c\nb\na"
        );
        assert_eq!(
            bench.ok(&format!("get cm {names} --chunk-size=1")),
            "a\nb\nc"
        );
        assert_eq!(
            bench.ok("get cm -l app=a -o name"),
            "configmap/a\nconfigmap/b\nconfigmap/c"
        );
        assert!(bench.ok("get cm a --show-labels").contains("app=a"));
        assert!(bench.ok("get cm -A -o wide").starts_with("NAMESPACE"));
        assert!(bench.ok("get cm a -o yaml").contains("size: \"3\""));
        assert_eq!(bench.ok("get cm a -o jsonpath={.data.size}"), "3");
        assert_eq!(bench.ok("get cm a -o go-template={{.data.size}}"), "3");
        assert_eq!(
            bench.ok("get cm --field-selector=metadata.name=b -o name"),
            "configmap/b"
        );
        assert!(bench.ok("get ns").contains("kube-system"));
        assert!(bench.ok("describe cm a").contains("size:"));
        assert!(bench.ok("describe ns default").contains("Active"));
        let managed = if bench.old {
            ""
        } else {
            " --show-managed-fields"
        };
        assert!(
            bench
                .ok(&format!("get cm a -o yaml{managed}"))
                .contains("f:size")
        );
        let missing = bench.run("get cm nope").fails(1);
        assert_eq!(
            missing,
            r#"Error from server (NotFound): configmaps "nope" not found"#
        );
        assert_eq!(bench.ok("get cm nope --ignore-not-found"), "");
    });
}

#[test]
fn it_creates_each_kind_that_it_knows_how_to() {
    with_each("kmake", |bench| {
        for (line, wanted) in [
            ("create ns team", "namespace/team created"),
            (
                "-n team create cm c --from-literal=a=b",
                "configmap/c created",
            ),
            (
                "-n team create secret generic s --from-literal=a=b",
                "secret/s created",
            ),
            ("-n team create sa robot", "serviceaccount/robot created"),
            (
                "-n team create role reader --verb=get --resource=configmaps",
                "role.rbac.authorization.k8s.io/reader created",
            ),
            (
                "-n team create rolebinding reader --role=reader --serviceaccount=team:robot",
                "rolebinding.rbac.authorization.k8s.io/reader created",
            ),
            (
                "create clusterrole sees --verb=list --resource=namespaces",
                "clusterrole.rbac.authorization.k8s.io/sees created",
            ),
            (
                "create clusterrolebinding sees --clusterrole=sees --group=readers",
                "clusterrolebinding.rbac.authorization.k8s.io/sees created",
            ),
        ] {
            assert_eq!(bench.ok(line), wanted, "{line}");
        }
        assert_eq!(
            bench.ok("-n team get secret s -o jsonpath={.data.a}"),
            "Yg=="
        );
        let planned = bench.ok("create cm dry --from-literal=a=b --dry-run=server -o yaml");
        assert!(planned.contains("uid: "), "{planned}");
        assert!(bench.run("get cm dry").fails(1).contains("NotFound"));
        let twice = bench.run("create ns team").fails(1);
        assert!(
            twice.contains(r#"namespaces "team" already exists"#),
            "{twice}"
        );
        let text = bench.put("create -f -", &json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "t"}, "stringData": {"k": "v"}
        }));
        assert_eq!(text, "secret/t created");
        assert_eq!(bench.ok("get secret t -o jsonpath={.data.k}"), "dg==");
    });
}

#[test]
fn it_applies_replaces_edits_and_compares() {
    with_each("kapply", |bench| {
        bench.define_widgets();
        let apply = "apply -f -";
        let first = config_map("a", json!({"keep": "1", "drop": "1"}));
        assert_eq!(bench.put(apply, &first), "configmap/a created");
        assert_eq!(bench.put(apply, &first), "configmap/a unchanged");
        let second = config_map("a", json!({"keep": "2"}));
        let compared = bench.reads("diff -f -", &second.to_string());
        assert_eq!(compared.code, 1, "{compared:?}");
        assert!(compared.stdout.contains("-  drop: \"1\""), "{compared:?}");
        assert_eq!(bench.put(apply, &second), "configmap/a configured");
        assert_eq!(bench.get("cm a")["data"], json!({"keep": "2"}));
        assert!(
            bench
                .ok("apply view-last-applied cm a")
                .contains("keep: \"2\"")
        );
        assert_eq!(bench.reads("diff -f -", &second.to_string()).code, 0);

        assert_eq!(bench.ok("label cm a tier=x"), "configmap/a labeled");
        assert_eq!(bench.ok("annotate cm a note=y"), "configmap/a annotated");
        for (patch, line) in [
            ("strategic", r#"{"data":{"s":"1"}}"#),
            ("merge", r#"{"data":{"m":"1"}}"#),
            ("json", r#"[{"op":"add","path":"/data/j","value":"1"}]"#),
        ] {
            bench.ok(&format!("patch cm a --type={patch} -p {line}"));
        }
        let data = bench.get("cm a")["data"].clone();
        assert_eq!(data, json!({"keep": "2", "s": "1", "m": "1", "j": "1"}));
        assert_eq!(bench.put("replace -f -", &second), "configmap/a replaced");
        let uid = bench.get("cm a")["metadata"]["uid"].clone();
        bench.put("replace --force -f -", &second);
        assert_ne!(bench.get("cm a")["metadata"]["uid"], uid);

        for (what, from, to) in [
            ("cm a", "keep: \"2\"", "keep: \"3\""),
            ("wd w", "replicas: 1", "replicas: 4"),
        ] {
            if what == "wd w" {
                bench.put("create -f -", &widget("w", json!({"replicas": 1})));
            }
            let edited = bench
                .command(&format!("edit {what}"))
                .env("KUBE_EDITOR", format!("sed -i 's/{from}/{to}/'"))
                .output()
                .expect("kubectl starts");
            let edited = Done::from(edited).ok();
            assert!(edited.ends_with(" edited"), "{edited}");
        }
        assert_eq!(bench.get("cm a")["data"]["keep"], "3");
        assert_eq!(bench.get("wd w")["spec"]["replicas"], 4);

        bench.put(apply, &config_map("b", json!({})));
        let wanted = format!("{}\n{second}", config_map("c", json!({})));
        let kinds = if bench.old {
            "--prune-whitelist"
        } else {
            "--prune-allowlist"
        };
        let pruned = bench
            .reads(
                &format!("apply -f - --prune -l app=a {kinds}=core/v1/ConfigMap"),
                &wanted,
            )
            .ok();
        assert!(pruned.contains("configmap/b pruned"), "{pruned}");
        assert_eq!(
            bench.ok("get cm -l app=a -o name"),
            "configmap/a\nconfigmap/c"
        );
    });
}

#[test]
fn it_applies_on_the_server_and_moves_there() {
    with_each("kssa", |bench| {
        let by = |manager: &str, more: &str, document: &Value| {
            let line = format!("apply --server-side --field-manager={manager}{more} -f -");
            bench.reads(&line, &document.to_string())
        };
        assert_eq!(
            by("one", "", &config_map("a", json!({"x": "1"}))).ok(),
            "configmap/a serverside-applied"
        );
        let refused = by("two", "", &config_map("a", json!({"x": "2"}))).fails(1);
        assert!(refused.contains("conflict with \"one\""), "{refused}");
        assert!(refused.contains(".data.x"), "{refused}");
        by(
            "two",
            " --force-conflicts",
            &config_map("a", json!({"x": "2"})),
        )
        .ok();
        assert_eq!(bench.get("cm a")["data"]["x"], "2");

        bench.put(
            "apply -f -",
            &config_map("m", json!({"keep": "1", "drop": "1"})),
        );
        let moved = by("kubectl", "", &config_map("m", json!({"keep": "1"})));
        // A kubectl of before the migration cannot move what it applied itself.
        if !bench.old {
            moved.ok();
            assert_eq!(bench.get("cm m")["data"], json!({"keep": "1"}));
        }
    });
}

#[test]
fn it_deletes_with_every_policy() {
    with_each("kdel", |bench| {
        let family = |owner: &str| {
            bench.put("create -f -", &config_map(owner, json!({})));
            let uid = bench.get(&format!("cm {owner}"))["metadata"]["uid"].clone();
            let mut child = config_map(&format!("{owner}-child"), json!({}));
            child["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid,
                "blockOwnerDeletion": true
            }]);
            bench.put("create -f -", &child);
        };
        let gone = |name: &str| {
            wait_until("a dependent is collected", || {
                bench
                    .ok(&format!("get cm {name} --ignore-not-found -o name"))
                    .is_empty()
            });
        };
        family("bg");
        bench.ok("delete cm bg --dry-run=server");
        assert_eq!(bench.get("cm bg")["metadata"]["name"], "bg");
        assert_eq!(
            bench.ok("delete cm bg --timeout=60s"),
            "configmap \"bg\" deleted".to_owned()
                + if bench.old {
                    ""
                } else {
                    " from default namespace"
                }
        );
        gone("bg-child");
        // The older one knows two of the three policies, under other names.
        if !bench.old {
            family("fg");
            bench.ok("delete cm fg --cascade=foreground --timeout=60s");
            assert!(bench.run("get cm fg-child").fails(1).contains("NotFound"));
        }
        family("or");
        bench.ok("delete cm or --cascade=orphan --timeout=60s");
        wait_until("the orphan knows of no owner", || {
            bench.get("cm or-child")["metadata"]["ownerReferences"].is_null()
        });
        bench.ok("delete cm --all --timeout=60s");
        bench.ok("create ns n");
        bench.put("-n n create -f -", &config_map("x", json!({})));
        bench.ok("delete ns n --timeout=60s");
        assert!(bench.run("get ns n").fails(1).contains("NotFound"));
    });
}

#[test]
fn it_waits_and_watches() {
    with_each("kwait", |bench| {
        bench.define_widgets();
        bench.put("create -f -", &widget("w", json!({"color": "red"})));
        let mut watch = bench
            .command("get wd -w -o custom-columns=N:.metadata.name,C:.spec.color --no-headers")
            .spawn()
            .expect("kubectl starts");
        let stdout = watch.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines();
        let mut next = || lines.next().expect("a line").expect("text");
        assert_eq!(next(), "w     red");
        bench.ok(r#"patch wd w --type=merge -p {"spec":{"color":"blue"}}"#);
        assert_eq!(next().split_whitespace().collect::<Vec<_>>(), ["w", "blue"]);
        watch.kill().expect("it runs");
        watch.wait().expect("it ends");

        bench.ok(r#"patch wd w --type=merge -p {"metadata":{"finalizers":["example.com/hold"]}}"#);
        bench.ok("delete wd w --wait=false");
        let mut waiting = bench
            .command("wait wd/w --for=delete --timeout=60s -v=6")
            .spawn()
            .expect("kubectl starts");
        // It tells of its requests: from the watch on, what happens is seen.
        let stderr = waiting.stderr.take().expect("piped");
        let mut told = BufReader::new(stderr).lines().map_while(Result::ok);
        assert!(told.any(|line| line.contains("watch=true")));
        bench.ok(r#"patch wd w --type=merge -p {"metadata":{"finalizers":null}}"#);
        told.for_each(drop);
        assert!(waiting.wait().expect("it ends").success());
        if bench.old {
            return;
        }
        let made = bench
            .command("wait wd/late --for=create --timeout=60s")
            .spawn();
        let made = made.expect("kubectl starts");
        bench.put("create -f -", &widget("late", json!({"color": "red"})));
        Done::from(made.wait_with_output().expect("it ends")).ok();
        bench.ok("wait wd/late --for=jsonpath={.spec.color}=red --timeout=60s");
        bench.put("create -f -", &json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "type": "Normal",
            "reason": "Painted", "message": "red", "lastTimestamp": "2026-01-01T00:00:00Z",
            "involvedObject": {"apiVersion": "example.com/v1", "kind": "Widget", "name": "late", "namespace": "default", "uid": bench.get("wd late")["metadata"]["uid"]}
        }));
        assert!(bench.ok("events --for widget/late").contains("Painted"));
        assert!(bench.ok("describe wd late").contains("Painted"));
    });
}

#[test]
fn it_explains_scales_and_patches_subresources() {
    with_each("kcr", |bench| {
        bench.define_widgets();
        bench.put("create -f -", &widget("w", json!({"replicas": 1})));
        assert_eq!(
            bench.ok("scale wd w --replicas=3"),
            "widget.example.com/w scaled"
        );
        assert!(
            bench
                .run("scale wd w --replicas=5 --current-replicas=1")
                .fails(1)
                .contains("3")
        );
        assert_eq!(
            bench.ok("get wd w --no-headers").split_whitespace().last(),
            Some("3")
        );
        assert!(bench.ok("explain wd.spec.replicas").contains("How many."));
        let all = bench.ok("explain wd --recursive");
        assert!(all.contains("color") && all.contains("finalizers"), "{all}");
        assert!(bench.ok("explain cm.data").contains("map[string]string"));
        if !bench.old {
            bench
                .ok(r#"patch wd w --subresource=status --type=merge -p {"status":{"replicas":2}}"#);
            assert_eq!(
                bench.ok("get wd w --subresource=status -o jsonpath={.status.replicas}"),
                "2"
            );
            assert!(
                bench
                    .ok("explain wd.spec --output=plaintext-openapiv2")
                    .contains("color")
            );
        }
        bench.ok("delete crd widgets.example.com --timeout=60s");
        assert!(bench.run("get wd").code != 0);
    });
}

#[test]
fn it_knows_who_may_what() {
    with_each("kauth", |bench| {
        bench.ok("create sa robot");
        bench.ok("create role reader --verb=get,list --resource=configmaps");
        bench.ok("create rolebinding reader --role=reader --serviceaccount=default:robot");
        let robot = "--as=system:serviceaccount:default:robot";
        assert_eq!(bench.ok("auth can-i create crds"), "yes");
        assert_eq!(bench.ok(&format!("auth can-i list cm {robot}")), "yes");
        let denied = bench.run(&format!("auth can-i create cm {robot}"));
        assert_eq!((denied.code, denied.stdout.trim_end()), (1, "no"));
        let rules = bench.ok(&format!("auth can-i --list {robot}"));
        assert!(rules.contains("configmaps"), "{rules}");
        let refused = bench.run(&format!("get secrets {robot}")).fails(1);
        assert!(
            refused.contains(
                r#"User "system:serviceaccount:default:robot" cannot list resource "secrets""#
            ),
            "{refused}"
        );
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "reader", "namespace": "default"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
        });
        let reconciled = bench.reads("auth reconcile -f -", &role.to_string());
        assert!(reconciled.ok().contains("reconciled"));
        assert_eq!(
            bench.get("role reader")["rules"].as_array().map(Vec::len),
            Some(2)
        );
        if bench.old {
            return;
        }
        assert!(bench.ok("auth whoami").contains("system:masters"));
        let token = bench.ok("create token robot --duration=10m");
        let mine = bench.lab.home().join("robot");
        let shown = Command::new(&bench.program)
            .arg(format!("--token={token}"))
            .args([
                "auth",
                "whoami",
                "-o",
                "jsonpath={.status.userInfo.username}",
            ])
            .arg("--kubeconfig")
            .arg(bare(bench, &mine))
            .output()
            .expect("kubectl starts");
        assert_eq!(
            Done::from(shown).ok(),
            "system:serviceaccount:default:robot"
        );
    });
}

/// The instance's kubeconfig without its credentials, which would win over a token.
fn bare(bench: &Bench, path: &std::path::Path) -> PathBuf {
    let text = std::fs::read_to_string(bench.lab.path("config")).expect("it is there");
    let without: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("token:"))
        .collect();
    let without = without
        .join("\n")
        .replace("  user:\n- name", "  user: {}\n- name")
        .replace("  user:\ncontexts", "  user: {}\ncontexts");
    std::fs::write(path, without).expect("writes");
    path.to_owned()
}

#[test]
fn its_proxy_carries_lists_and_watches() {
    with_each("kproxy", |bench| {
        let mut proxy = bench
            .command("proxy --port=0")
            .spawn()
            .expect("kubectl starts");
        let stdout = proxy.stdout.take().expect("piped");
        let said = BufReader::new(stdout)
            .lines()
            .next()
            .expect("a line")
            .expect("text");
        let address = said.rsplit(' ').next().expect("an address").to_owned();
        let listed = rdd_e2e::shell(&format!("curl -sf http://{address}/api/v1/namespaces"));
        proxy.kill().expect("it runs");
        proxy.wait().expect("it ends");
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        assert_eq!(listed["kind"], "NamespaceList");
    });
}

#[test]
fn policies_from_files_deny_and_warn() {
    with_each("kpolicy", |bench| {
        bench.put("apply -f -", &json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "short"},
            "spec": {
                "failurePolicy": "Fail",
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["configmaps"]
                }]},
                "matchConditions": [{"name": "ours", "expression": "object.metadata.name.startsWith('p-')"}],
                "validations": [{
                    "expression": "size(object.metadata.name) <= int(params.data.most)",
                    "messageExpression": "'at most ' + params.data.most + ' letters'"
                }]
            }
        }));
        bench.put("create -f -", &config_map("limits", json!({"most": "5"})));
        let bind = |actions: Value| {
            bench.put("apply -f -", &json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": {"name": "short"},
                "spec": {
                    "policyName": "short", "validationActions": actions,
                    "paramRef": {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
                }
            }));
        };
        bind(json!(["Deny"]));
        bench.ok("create cm p-ok");
        let refused = bench.run("create cm p-long-name").fails(1);
        assert!(refused.contains("ValidatingAdmissionPolicy 'short' with binding 'short' denied request: at most 5 letters"), "{refused}");
        assert!(
            bench
                .run("create cm p-long-name --dry-run=server")
                .fails(1)
                .contains("denied request")
        );
        bind(json!(["Warn"]));
        let warned = bench.run("create cm p-long-name");
        assert_eq!(warned.code, 0, "{warned:?}");
        assert!(
            warned
                .stderr
                .contains("Warning: Validation failed for ValidatingAdmissionPolicy 'short'"),
            "{warned:?}"
        );
    });
}

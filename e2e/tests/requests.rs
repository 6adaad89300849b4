//! Requests as a user makes them: YAML in, the engine does it once, and says how it went.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rdd_e2e::{Lab, wait_until};

/// A registry on a loopback port; ended when dropped.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    fn start(lab: &Lab) -> Self {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port");
            free.local_addr().expect("an address").port()
        };
        let folder = lab.home().join("registry");
        fs::create_dir(&folder).expect("a folder");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            folder.display()
        );
        let file = folder.join("config.yml");
        fs::write(&file, config).expect("a file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self { child, port };
        wait_until("the registry listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn apply(lab: &Lab, yaml: &str) {
    let file = lab.home().join("request.yaml");
    fs::write(&file, yaml).expect("a file");
    lab.run(&["ctl", "create", "-f", &file.display().to_string()])
        .ok();
}

fn request(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: containers.rancherdesktop.io/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\nspec: {spec}\n"
    )
}

/// Makes a request and waits until it holds what is wanted.
fn ask(lab: &Lab, kind: &str, name: &str, spec: &str, wanted: &str) {
    apply(lab, &request(kind, name, spec));
    let object = format!("{}/{name}", kind.to_lowercase());
    let condition = format!("--for=condition={wanted}");
    let waited = lab.run(&["ctl", "wait", &condition, "--timeout=60s", &object]);
    let shown = lab.run(&["ctl", "get", &kind.to_lowercase(), name, "-o", "yaml"]);
    assert_eq!(waited.code, 0, "{waited:?}\n{}", shown.stdout);
}

fn field(lab: &Lab, kind: &str, name: &str, path: &str) -> String {
    let template = format!("jsonpath={{{path}}}");
    lab.run(&["ctl", "get", kind, name, "-o", &template]).ok()
}

#[test]
fn images_go_to_a_registry_and_come_back() {
    let lab = Lab::new("registry");
    lab.rdd("start").ok();
    lab.import_image();
    let registry = Registry::start(&lab);
    let tag = format!("127.0.0.1:{}/app:1", registry.port);
    lab.docker(&format!("tag box:1 {tag}"));
    let mirror = || {
        let selector = format!("--field-selector=status.repoTag={tag}");
        lab.run(&[
            "ctl",
            "get",
            "images",
            &selector,
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ])
        .ok()
    };
    wait_until("the tag is mirrored", || !mirror().is_empty());
    ask(
        &lab,
        "ImagePushRequest",
        "up",
        &format!("{{imageRef: {}}}", mirror()),
        "Complete",
    );
    let pushed = field(&lab, "imagepushrequest", "up", ".status.digest");
    assert!(pushed.starts_with("sha256:"), "{pushed}");
    lab.docker(&format!("rmi {tag} box:1"));
    wait_until("the tag is gone", || mirror().is_empty());
    let pull = format!("{{repoTag: '{tag}'}}");
    ask(&lab, "ImagePullRequest", "down", &pull, "Complete");
    assert_eq!(
        field(&lab, "imagepullrequest", "down", ".status.digest"),
        pushed
    );
    let progress = field(&lab, "imagepullrequest", "down", ".status.progress.text");
    assert_eq!(progress, "100%, 1/1 layers");
    wait_until("the tag is mirrored again", || !mirror().is_empty());

    // What fails says why.
    let absent = format!("{{repoTag: '127.0.0.1:{}/none:1'}}", registry.port);
    ask(&lab, "ImagePullRequest", "absent", &absent, "Failed");
    let why = field(
        &lab,
        "imagepullrequest",
        "absent",
        ".status.conditions[?(@.type==\"Failed\")].message",
    );
    assert!(why.contains("none:1"), "{why}");
    ask(
        &lab,
        "ImagePullRequest",
        "bad",
        "{repoTag: 'UPPER/:x'}",
        "Failed",
    );
    drop(registry);
    ask(&lab, "ImagePullRequest", "down-2", &pull, "Failed");
    let table = lab.rdd("ctl get imagepullrequests").ok();
    assert!(
        table.contains("PullFailed") && table.contains("Completed"),
        "{table}"
    );
}

#[test]
fn containers_and_volumes_are_made_as_asked() {
    let lab = Lab::new("create");
    lab.rdd("start").ok();
    lab.import_image();
    ask(
        &lab,
        "VolumeCreateRequest",
        "data",
        "{name: Data_1, labels: {a: b}}",
        "Complete",
    );
    assert_eq!(lab.docker("volume inspect -f {{.Labels.a}} Data_1"), "b");
    let spec = "{image: 'box:1', name: web, path: /bin/sh, \
        args: ['-c', 'echo $GREETING > /data/said; mkfifo /f; read x < /f'], \
        env: [{name: GREETING, value: hello}], labels: {team: a}, \
        ports: [{name: 80/tcp, bindings: [{hostIP: 127.0.0.1, hostPort: '0'}]}], \
        mounts: [{type: volume, name: Data_1, destination: /data}], restartPolicy: unless-stopped}";
    ask(&lab, "ContainerCreateRequest", "web", spec, "Complete");
    let id = field(&lab, "containercreaterequest", "web", ".status.name");
    assert_eq!(
        lab.docker("inspect -f {{.Id}}/{{.State.Status}} web"),
        format!("{id}/running")
    );
    assert_eq!(
        lab.docker("inspect -f {{.HostConfig.RestartPolicy.Name}} web"),
        "unless-stopped"
    );
    assert_eq!(lab.docker("inspect -f {{.Config.Labels.team}} web"), "a");
    wait_until("it wrote into its volume", || {
        let said = lab.docker("volume inspect -f {{.Mountpoint}} Data_1");
        fs::read_to_string(format!("{said}/said")).is_ok_and(|text| text == "hello\n")
    });
    wait_until("its mirror shows where it is published", || {
        field(&lab, "container", &id, ".status.portsText").contains("->80/tcp")
    });

    // A name that is taken, an image that is not there, a start that fails.
    ask(
        &lab,
        "ContainerCreateRequest",
        "again",
        "{image: 'box:1', name: web}",
        "Failed",
    );
    let reason = ".status.conditions[?(@.type==\"Failed\")].reason";
    assert_eq!(
        field(&lab, "containercreaterequest", "again", reason),
        "CreateFailed"
    );
    ask(
        &lab,
        "ContainerCreateRequest",
        "none",
        "{image: 'none:1'}",
        "Failed",
    );
    ask(
        &lab,
        "ContainerCreateRequest",
        "nothing",
        "{image: 'box:1', name: broken, path: /none}",
        "Failed",
    );
    assert_eq!(
        field(&lab, "containercreaterequest", "nothing", reason),
        "StartFailed"
    );
    let broken = field(&lab, "containercreaterequest", "nothing", ".status.name");
    assert_eq!(lab.docker("inspect -f {{.Id}} broken"), broken);
    lab.docker("rm -f web broken");
}

//! The sample controllers as a client sees them: endpoints, warnings, conditions.

use std::fs;
use std::process::Command;

use rdd_e2e::{Done, Lab, provided};

/// Opens Demo's WebSocket as a client of the cluster would, and prints what it says.
const LISTEN: &str = r#"
import websocket
from kubernetes import client, config
config.load_kube_config()
settings = client.Configuration.get_default_copy()
url = settings.host.replace("https", "wss") + "/passthrough/demo/websocket/"
socket = websocket.create_connection(
    url, header=["Authorization: " + settings.get_api_key_with_prefix("BearerToken")], sslopt={"ca_certs": settings.ssl_ca_cert})
print(socket.recv())
"#;

#[test]
fn demo_answers_beside_the_api_and_notary_warns() {
    let lab = Lab::new("samples");
    lab.rdd("svc start --controllers=demo,notary").ok();
    for (path, rest) in [("hello", "/"), ("hello/", "/"), ("hello/a/b", "/a/b")] {
        let text = lab
            .rdd(&format!("ctl get --raw /passthrough/demo/{path}"))
            .ok();
        assert!(text.starts_with("Hello, world!\n"), "{text}");
        assert!(text.ends_with(&format!("\nPath = \"{rest}\"")), "{text}");
        assert!(text.contains("\nHost = [\"127.0.0.1"), "{text}");
        assert!(
            !text.contains("Bearer"),
            "a credential is nobody's business"
        );
    }
    let said: Done = Command::new(provided("RDD_TEST_PYTHON"))
        .args(["-c", LISTEN])
        .env("KUBECONFIG", lab.path("config"))
        .output()
        .expect("python starts")
        .into();
    assert_eq!(said.ok(), "hello from websocket");

    let manifest = lab.home().join("notary.json");
    let value = "a value of thirty characters..";
    let text = format!(
        r#"{{"apiVersion":"rdd.rancherdesktop.io/v1alpha1","kind":"Notary","metadata":{{"name":"n"}},"spec":{{"value":"{value}","configMapName":"n"}}}}"#
    );
    fs::write(&manifest, text).expect("it can be written");
    let created = lab.run(&["ctl", "create", "-f", &manifest.display().to_string()]);
    assert_eq!(created.code, 0, "{created:?}");
    assert_eq!(
        created.stderr.trim_end(),
        "Warning: spec.value is longer than 24 characters (30 chars) - consider using a shorter value for better readability"
    );
    lab.rdd("ctl wait --for=create configmap/n --timeout=60s")
        .ok();
}

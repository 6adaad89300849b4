//! A real dockerd that is reached over TCP, with certificates on both sides.

use std::net::TcpListener;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rdd_controllers::{Connect as _, DockerEngines};
use rdd_docker_cli::Files;
use rdd_engine::Error;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::dockerd::Dockerd;
use crate::lab;

struct Authority {
    text: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let text = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        Self { text, issuer }
    }

    /// Writes `ca.pem`, and a certificate with its key.
    fn fill(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("it is signed");
        for (name, text) in [
            ("ca.pem", self.text.clone()),
            ("cert.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(folder.join(name), text).expect("a file");
        }
    }
}

/// A Docker configuration with a context for this endpoint.
fn context(folder: &Path, authority: &Authority, endpoint: &str) -> Files {
    let digest = hex::encode(Sha256::digest("remote"));
    let meta = folder.join("contexts/meta").join(&digest);
    std::fs::create_dir_all(&meta).expect("a folder");
    let text = json!({"Name": "remote", "Endpoints": {"docker": {"Host": endpoint}}});
    std::fs::write(meta.join("meta.json"), text.to_string()).expect("a file");
    authority.fill(&folder.join("contexts/tls").join(&digest).join("docker"));
    Files::new(folder.to_owned())
}

#[test]
fn an_engine_behind_tls_is_reached_with_the_certificates_of_its_context() {
    lab::run(|_lab| async move {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let authority = Authority::new();
        authority.fill(&at("server"));
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port");
            free.local_addr().expect("it is bound").port()
        };
        let endpoint = format!("tcp://127.0.0.1:{port}");
        let file = |name: &str| at("server").join(name).display().to_string();
        let dockerd = Dockerd::start_with(
            "tls",
            &[
                "-H",
                &endpoint,
                "--tlsverify",
                "--tlscacert",
                &file("ca.pem"),
                "--tlscert",
                &file("cert.pem"),
                "--tlskey",
                &file("key.pem"),
            ],
        );
        let files = context(&at("good"), &authority, &endpoint);
        let engines = DockerEngines { files: Some(files) };
        let engine = engines.connect(&endpoint).await.expect("both are proven");
        let id = dockerd.docker(&["info", "--format={{.ID}}"]);
        assert_eq!(engine.info().id, id);
        let mut events = engine.events(None).await.expect("a stream");
        dockerd.docker(&["volume", "create", "one"]);
        events.next().await.expect("it goes on").expect("an event");

        let foreign = context(&at("foreign"), &Authority::new(), &endpoint);
        let engines = DockerEngines {
            files: Some(foreign),
        };
        let error = engines.connect(&endpoint).await.err();
        assert!(
            matches!(&error, Some(Error::Connection { source, .. }) if source.to_string().contains("invalid peer certificate")),
            "{error:?}"
        );
    });
}

#[test]
fn an_engine_of_another_machine_is_not_reached_without_certificates() {
    lab::run(|_lab| async move {
        let folder = tempfile::tempdir().expect("a folder");
        let engines = DockerEngines {
            files: Some(Files::new(folder.path().to_owned())),
        };
        let error = engines.connect("tcp://192.0.2.1:2375").await.err();
        let error = error.expect("it is refused").to_string();
        assert!(error.contains("docker context create"), "{error}");
    });
}

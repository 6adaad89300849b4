//! Client certificates, over real connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rdd_apiserver::auth::ClientAuthority;
use rdd_apiserver::http::serve::{Security, serve};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::bed::{ALICE, Server};
use crate::lab::DEADLINE;

/// An authority, and what it signed.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

type Pair = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Signer {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str, group: &str) -> Pair {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        (certificate.der().clone(), key)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The status line and the body that a client with this certificate and token gets.
async fn get(
    address: SocketAddr,
    signer: &Signer,
    shown: Option<Pair>,
    token: Option<&str>,
) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(signer.certificate.clone()).expect("usable");
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots);
    let config = match shown {
        Some((certificate, key)) => builder
            .with_client_auth_cert(vec![certificate], key)
            .expect("fits"),
        None => builder.with_no_client_auth(),
    };
    let socket = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .expect("a handshake");
    let token = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let request = format!(
        "GET /api/v1/namespaces/default/secrets HTTP/1.1\r\nHost: localhost\r\n{token}Connection: close\r\n\r\n"
    );
    tls.write_all(request.as_bytes()).await.expect("sent");
    let mut text = Vec::new();
    let read = tokio::time::timeout(DEADLINE, tls.read_to_end(&mut text)).await;
    // The server may close without TLS's own farewell.
    let _end = read.expect("an answer in time");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_certificate_says_who_asks_and_a_foreign_one_is_refused() {
    let (signer, foreign) = (Signer::new(), Signer::new());
    let authority = ClientAuthority::new(&signer.pem).expect("usable");
    let asks = authority.asks();
    let server = Server::start_with(|known| known.set_client_authority(authority)).await;
    let (certificate, key) = signer.sign("server", "servers");
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_client_cert_verifier(asks)
        .with_single_cert(vec![certificate], key)
        .expect("fits");
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let security = Security::Tls(Arc::new(config));
    let drain = Duration::from_secs(1);
    let serving = serve(socket, server.router.clone(), security, stop.clone(), drain);
    let serving = tokio::spawn(serving);

    let check = async |shown: Option<Pair>, token, code: &str, text: &str| {
        let answer = get(address, &signer, shown, token).await;
        let head = format!("HTTP/1.1 {code}");
        assert!(
            answer.starts_with(&head) && answer.contains(text),
            "{answer}"
        );
    };
    let root = signer.sign("eve", "system:masters");
    check(Some(root), None, "200", "SecretList").await;
    let bob = || signer.sign("bob", "devs");
    check(Some(bob()), None, "403", "User \\\"bob\\\"").await;
    check(Some(bob()), Some(ALICE), "403", "User \\\"bob\\\"").await;
    let stranger = || foreign.sign("eve", "system:masters");
    check(Some(stranger()), None, "401", "Unauthorized").await;
    check(Some(stranger()), Some(ALICE), "403", "User \\\"alice\\\"").await;
    check(None, None, "403", "system:anonymous").await;
    stop.cancel();
    serving.await.expect("it ends");
}

//! The instance's own certificate authority, and the server's certificate.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rdd_apiserver::auth::ClientAuthority;
use rdd_instance::certificate::{RENEW, ends_in, is_usable};
use rdd_instance::create_dir;
use rdd_instance::process::write_private;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long the authority is valid.
const AUTHORITY_DAYS: u32 = 3650;

/// How long a server certificate is valid.
const SERVER_DAYS: u32 = 365;

/// What clients trust and what the server shows.
pub(crate) struct Pki {
    /// The authority's certificate, PEM.
    pub(crate) authority: String,
    /// The server's side of TLS.
    pub(crate) server: Arc<ServerConfig>,
    /// Knows clients by certificates of the same authority.
    pub(crate) clients: ClientAuthority,
}

/// Loads what is there and valid for these names, and makes what is not.
pub(crate) fn prepare(folder: &Path, names: &[String]) -> Result<Pki> {
    create_dir(folder)?;
    let mut wanted: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "127.0.0.1",
        "::1",
    ]
    .map(str::to_owned)
    .to_vec();
    wanted.extend_from_slice(names);

    let (authority, key) = authority(folder)?;
    let (certificate_file, key_file) = (folder.join("apiserver.crt"), folder.join("apiserver.key"));
    let stored = fs::read_to_string(&certificate_file)
        .ok()
        .zip(fs::read_to_string(&key_file).ok());
    let usable = stored
        .filter(|(certificate, _)| is_usable(certificate, &authority, &wanted, SystemTime::now()));
    let (certificate, server_key) = match usable {
        Some(pair) => pair,
        None => {
            let pair = issue(key, &wanted)?;
            write_private(&key_file, pair.1.as_bytes())?;
            write_private(&certificate_file, pair.0.as_bytes())?;
            pair
        }
    };
    let clients =
        ClientAuthority::new(&authority).context("failed to use the authority's certificate")?;
    let server = config(&certificate, &server_key, &clients).with_context(|| {
        format!(
            "failed to use {}; remove it to have it made again",
            certificate_file.display()
        )
    })?;
    Ok(Pki {
        authority,
        server: Arc::new(server),
        clients,
    })
}

/// The key that signs tokens of ServiceAccounts: what is there, or a new one. Tokens
/// outlive a restart.
pub(crate) fn token_issuer(folder: &Path) -> Result<rdd_apiserver::auth::Issuer> {
    use rdd_apiserver::auth::Issuer;
    let file = folder.join("service-account.key");
    let key = match fs::read(&file) {
        Ok(key) => key,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = Issuer::generate().context("failed to generate a key")?;
            write_private(&file, &key)?;
            key
        }
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", file.display()));
        }
    };
    Issuer::new(&key).with_context(|| {
        format!(
            "failed to use {}; remove it to have it made again, which ends all tokens of ServiceAccounts",
            file.display()
        )
    })
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "rdd");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + DAY * AUTHORITY_DAYS).into();
    params
}

fn authority(folder: &Path) -> Result<(String, KeyPair)> {
    let (certificate_file, key_file) = (folder.join("ca.crt"), folder.join("ca.key"));
    let stored = fs::read_to_string(&certificate_file)
        .ok()
        .zip(fs::read_to_string(&key_file).ok());
    if let Some((certificate, key)) = stored
        && let Ok(key) = KeyPair::from_pem(&key)
        && ends_in(&certificate, SystemTime::now()).is_some_and(|left| left > RENEW)
    {
        return Ok((certificate, key));
    }
    let key = KeyPair::generate().context("failed to generate a key")?;
    let certificate = authority_params()
        .self_signed(&key)
        .context("failed to sign the authority")?
        .pem();
    write_private(&key_file, key.serialize_pem().as_bytes())?;
    write_private(&certificate_file, certificate.as_bytes())?;
    Ok((certificate, key))
}

fn issue(authority: KeyPair, names: &[String]) -> Result<(String, String)> {
    let issuer = Issuer::new(authority_params(), authority);
    let key = KeyPair::generate().context("failed to generate a key")?;
    let mut params = CertificateParams::new(names.to_vec()).context("failed to name the server")?;
    params
        .distinguished_name
        .push(DnType::CommonName, "rdd-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + DAY * SERVER_DAYS).into();
    debug_assert!(
        params
            .subject_alt_names
            .iter()
            .any(|name| matches!(name, SanType::IpAddress(_)))
    );
    let certificate = params
        .signed_by(&key, &issuer)
        .context("failed to sign the server's certificate")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn config(certificate: &str, key: &str, clients: &ClientAuthority) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("the certificate is no PEM")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("the key is no PEM")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS 1.3 is not available")?
        .with_client_cert_verifier(clients.asks())
        .with_single_cert(chain, key)
        .context("certificate and key do not fit")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn certificates_are_kept_while_they_fit_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |name: &str| fs::read(folder.path().join(name)).expect("it is there");
        let first = prepare(folder.path(), &[]).expect("made");
        let (authority, server) = (read("ca.crt"), read("apiserver.crt"));
        let second = prepare(folder.path(), &[]).expect("kept");
        assert_eq!(first.authority, second.authority);
        assert_eq!(read("apiserver.crt"), server);
        for name in ["ca.key", "apiserver.key"] {
            let mode = fs::metadata(folder.path().join(name))
                .expect("it is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        // A new name needs a new certificate of the same authority.
        prepare(folder.path(), &["rdd.example.com".to_owned()]).expect("made");
        assert_ne!(read("apiserver.crt"), server);
        assert_eq!(read("ca.crt"), authority);
    }

    #[test]
    fn damaged_certificates_are_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path(), &[]).expect("made");
        fs::write(folder.path().join("apiserver.crt"), "garbage").expect("writes");
        prepare(folder.path(), &[]).expect("made again");
        fs::write(folder.path().join("ca.key"), "garbage").expect("writes");
        prepare(folder.path(), &[]).expect("made again");
    }
}

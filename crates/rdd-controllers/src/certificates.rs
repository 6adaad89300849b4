//! Certificates between the control plane and managers: one authority per instance.
//!
//! ```text
//! tls/webhook-ca.{crt,key}        the authority: made by whoever comes first, then shared
//! tls/webhook-<manager>.{crt,key} what a manager shows to those who ask its rules
//! (in memory)                     what the control plane shows to a manager's endpoints
//! ```
//!
//! The authority is not the one of the API server: who holds its key can pass for a
//! manager, and still not for a user of the API.
//!
//! A certificate is looked at whenever a connection begins, and issued again in time:
//! nothing has to be restarted for it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rdd_instance::certificate::{RENEW, ends_in, is_usable};
use rdd_instance::create_dir;
use rdd_instance::process::write_private;
use rdd_manager::Tls;
use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long the authority is valid.
const AUTHORITY_DAYS: u32 = 3650;

/// An authority that ends earlier than this is made anew: what it signs lasts a year.
const AUTHORITY_RENEW: Duration = Duration::from_secs(400 * 24 * 3600);

/// How long a certificate of a manager is valid.
const MANAGER_DAYS: u32 = 365;

/// What time it is; a test has its own.
type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The authority of an instance.
pub struct Certificates {
    folder: PathBuf,
    authority: String,
    issuer: Issuer<'static, KeyPair>,
    clock: Clock,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Certificates")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// Loads the authority in this folder, or makes it. Of several processes that come
    /// at once, one makes it and all get the same.
    ///
    /// # Errors
    /// When its files cannot be read or written.
    pub fn open(folder: &Path) -> Result<Arc<Self>> {
        Self::open_at(folder, Arc::new(SystemTime::now))
    }

    fn open_at(folder: &Path, clock: Clock) -> Result<Arc<Self>> {
        create_dir(folder)?;
        let lock = lock(&folder.join("webhook-ca.lock"))?;
        let files = Files::new(folder, "webhook-ca");
        let known = files.read().and_then(|(certificate, key)| {
            let left = ends_in(&certificate, clock())?;
            let key = KeyPair::from_pem(&key).ok()?;
            (left > AUTHORITY_RENEW).then_some((certificate, key))
        });
        let (authority, key) = match known {
            Some(known) => known,
            None => {
                let key = KeyPair::generate().context("failed to generate a key")?;
                let certificate = authority_params(clock())
                    .self_signed(&key)
                    .context("failed to sign the authority of managers")?
                    .pem();
                files.write(&certificate, &key.serialize_pem())?;
                (certificate, key)
            }
        };
        drop(lock);
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            authority,
            issuer: Issuer::new(authority_params(clock()), key),
            clock,
        }))
    }

    /// What protects the listeners of a manager that runs these controllers.
    ///
    /// # Errors
    /// When no certificate can be issued.
    pub fn of_manager<'a>(
        self: &Arc<Self>,
        manager: &str,
        controllers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Tls> {
        let own = Arc::new(Renewed {
            certificates: Arc::clone(self),
            files: Some(Files::new(&self.folder, &format!("webhook-{manager}"))),
            common_name: "webhook-server",
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            names: names(controllers),
            current: Mutex::new(None),
        });
        // The first one now, so that a folder that cannot be written ends the start.
        own.current()
            .context("failed to issue the manager's certificate")?;
        let provider = Arc::new(ring::default_provider());
        let builder = || {
            ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .context("TLS is not available")
        };
        let webhooks = builder()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&own) as _);
        let clients = WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots()?),
            Arc::clone(&provider),
        )
        .build()
        .context("failed to use the authority of managers")?;
        let endpoints = builder()?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(own);
        Ok(Tls {
            webhooks: Arc::new(webhooks),
            endpoints: Arc::new(endpoints),
            authority: self.authority.clone(),
        })
    }

    /// How the control plane goes to the endpoints of managers.
    ///
    /// # Errors
    /// When no certificate can be issued.
    pub fn of_control_plane(self: &Arc<Self>) -> Result<Arc<ClientConfig>> {
        let own = Renewed {
            certificates: Arc::clone(self),
            files: None,
            common_name: "rdd-control-plane",
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            names: Vec::new(),
            current: Mutex::new(None),
        };
        own.current()
            .context("failed to issue the control plane's certificate")?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS is not available")?
            .with_root_certificates(self.roots()?)
            .with_client_cert_resolver(Arc::new(own));
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.authority.as_bytes())
            .map_err(|error| anyhow!("the authority of managers is no PEM: {error}"))?;
        roots
            .add(certificate)
            .context("failed to use the authority of managers")?;
        Ok(roots)
    }

    fn issue(
        &self,
        common_name: &str,
        usage: &ExtendedKeyUsagePurpose,
        names: &[String],
    ) -> Result<(String, String)> {
        let key = KeyPair::generate().context("failed to generate a key")?;
        let mut params =
            CertificateParams::new(names.to_vec()).context("failed to name the manager")?;
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage.clone()];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let now = (self.clock)();
        params.not_before = (now - DAY).into();
        params.not_after = (now + DAY * MANAGER_DAYS).into();
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("failed to sign a certificate")?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn authority_params(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "webhook-ca");
    name.push(DnType::OrganizationName, "Rancher Desktop Daemon Webhook");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * AUTHORITY_DAYS).into();
    params
}

/// Every name under which the rules of these controllers may be asked for.
fn names<'a>(controllers: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let of_controllers = controllers
        .into_iter()
        .map(|controller| format!("{controller}-webhook"));
    for service in std::iter::once("webhook-service".to_owned()).chain(of_controllers) {
        for suffix in ["", ".default", ".default.svc", ".default.svc.cluster.local"] {
            names.push(format!("{service}{suffix}"));
        }
    }
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    names
}

/// A certificate and its key, PEM.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(folder: &Path, stem: &str) -> Self {
        Self {
            certificate: folder.join(format!("{stem}.crt")),
            key: folder.join(format!("{stem}.key")),
        }
    }

    fn read(&self) -> Option<(String, String)> {
        let certificate = fs::read_to_string(&self.certificate).ok()?;
        Some((certificate, fs::read_to_string(&self.key).ok()?))
    }

    fn write(&self, certificate: &str, key: &str) -> Result<()> {
        write_private(&self.key, key.as_bytes())?;
        write_private(&self.certificate, certificate.as_bytes())?;
        Ok(())
    }
}

/// Held until dropped; released by the kernel if the process dies.
fn lock(path: &Path) -> Result<File> {
    let open = || -> std::io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?;
        file.lock()?;
        Ok(file)
    };
    open().with_context(|| format!("failed to lock {}", path.display()))
}

/// A certificate that is issued again before it ends.
struct Renewed {
    certificates: Arc<Certificates>,
    files: Option<Files>,
    common_name: &'static str,
    usage: ExtendedKeyUsagePurpose,
    names: Vec<String>,
    current: Mutex<Option<(SystemTime, Arc<CertifiedKey>)>>,
}

impl std::fmt::Debug for Renewed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Renewed")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Renewed {
    /// What is shown now.
    fn current(&self) -> Result<Arc<CertifiedKey>> {
        let now = (self.certificates.clock)();
        let mut current = self.current.lock();
        if let Some((due, key)) = &*current
            && now < *due
        {
            return Ok(Arc::clone(key));
        }
        let renewed = self.load(now);
        match (renewed, &*current) {
            (Ok((certificate, key)), _) => {
                let left = ends_in(&certificate, now).unwrap_or_default();
                let key = certified(&certificate, &key)?;
                *current = Some((now + left.saturating_sub(RENEW), Arc::clone(&key)));
                Ok(key)
            }
            // It still holds for a while, and the next connection tries again.
            (Err(error), Some((_, key))) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a certificate was not renewed"
                );
                Ok(Arc::clone(key))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// What is kept, if it is still good, or a new one, which is kept.
    fn load(&self, now: SystemTime) -> Result<(String, String)> {
        let authority = &self.certificates.authority;
        let kept = self.files.as_ref().and_then(Files::read);
        let usable = kept.filter(|(certificate, key)| {
            is_usable(certificate, authority, &self.names, now)
                && certified(certificate, key).is_ok()
        });
        if let Some(usable) = usable {
            return Ok(usable);
        }
        let issued = self
            .certificates
            .issue(self.common_name, &self.usage, &self.names)?;
        if let Some(files) = &self.files {
            files.write(&issued.0, &issued.1)?;
        }
        Ok(issued)
    }

    fn shown(&self) -> Option<Arc<CertifiedKey>> {
        self.current()
            .inspect_err(|error| tracing::error!(error = format!("{error:#}"), "no certificate"))
            .ok()
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown()
    }
}

impl ResolvesClientCert for Renewed {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.shown()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified(certificate: &str, key: &str) -> Result<Arc<CertifiedKey>> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow!("the certificate is no PEM: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| anyhow!("the key is no PEM: {error}"))?;
    let provider: CryptoProvider = ring::default_provider();
    let certified =
        CertifiedKey::from_der(chain, key, &provider).context("certificate and key do not fit")?;
    Ok(Arc::new(certified))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn read(folder: &Path, name: &str) -> Vec<u8> {
        fs::read(folder.join(name)).expect("it is there")
    }

    #[test]
    fn an_instance_has_one_authority_and_managers_keep_their_certificates() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Certificates::open(at).expect("opened")))
                .collect();
            let opened = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            opened.collect()
        });
        for one in &opened {
            assert_eq!(one.authority, opened[0].authority);
        }
        opened[0].of_manager("app", ["app"]).expect("issued");
        let first = read(at, "webhook-app.crt");
        opened[1].of_manager("app", ["app"]).expect("kept");
        assert_eq!(read(at, "webhook-app.crt"), first);
        opened[1]
            .of_manager("app", ["app", "demo"])
            .expect("a name is missing");
        assert_ne!(read(at, "webhook-app.crt"), first);
        fs::write(at.join("webhook-app.key"), "garbage").expect("writes");
        opened[1].of_manager("app", ["app"]).expect("made again");
        for name in ["webhook-ca.key", "webhook-app.key"] {
            let mode = fs::metadata(at.join(name))
                .expect("it is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_certificate_is_renewed_before_it_ends_without_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let days = Arc::new(AtomicU64::new(0));
        let (begin, passed) = (SystemTime::now(), Arc::clone(&days));
        let clock =
            move || begin + DAY * u32::try_from(passed.load(Ordering::SeqCst)).expect("days");
        let certificates = Certificates::open_at(folder.path(), Arc::new(clock)).expect("opened");
        for files in [Some(Files::new(folder.path(), "webhook-app")), None] {
            days.store(0, Ordering::SeqCst);
            let own = Renewed {
                certificates: Arc::clone(&certificates),
                files,
                common_name: "webhook-server",
                usage: ExtendedKeyUsagePurpose::ServerAuth,
                names: names(["app"]),
                current: Mutex::new(None),
            };
            let shown = || own.current().expect("there is one").cert.clone();
            let first = shown();
            days.store(300, Ordering::SeqCst);
            assert_eq!(shown(), first);
            days.store(340, Ordering::SeqCst);
            let second = shown();
            assert_ne!(second, first);
            days.store(600, Ordering::SeqCst);
            assert_eq!(shown(), second);
            days.store(700, Ordering::SeqCst);
            assert_ne!(shown(), second);
        }
    }

    #[test]
    fn an_authority_that_ends_soon_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let begin = SystemTime::now();
        let open = |days: u32| {
            let clock: Clock = Arc::new(move || begin + DAY * days);
            Certificates::open_at(folder.path(), clock)
                .expect("opened")
                .authority
                .clone()
        };
        let first = open(0);
        assert_eq!(open(3200), first);
        assert_ne!(open(3300), first);
    }
}

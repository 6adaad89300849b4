//! Clients that show a certificate: CN is the user, each O is a group.
//!
//! ```text
//! handshake: ask, never insist, check only that the client holds the key
//!     └─▶ once per connection: signed by our authority, for clients, valid now?
//!             └─▶ every request: still valid? ─▶ that user, whatever token comes along
//! ```
//!
//! As with kube-apiserver, a certificate that is no good ends no handshake: a token may
//! still say who asks, and without one the request is refused with 401.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::auth::Identity;

/// Which credential was shown, among the user's extras.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The authority cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authority for client certificates is not usable")]
pub struct AuthorityError;

/// Knows the clients whose certificates it signed.
#[derive(Clone, Debug)]
pub struct ClientAuthority(Arc<dyn ClientCertVerifier>);

impl ClientAuthority {
    /// An authority of these certificates, PEM.
    ///
    /// # Errors
    /// When there is no usable certificate among them.
    pub fn new(pem: &str) -> Result<Self, AuthorityError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| AuthorityError)?;
            roots.add(certificate).map_err(|_| AuthorityError)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map(Self)
            .map_err(|_| AuthorityError)
    }

    /// What the server's side of TLS needs in order to ask for certificates.
    #[must_use]
    pub fn asks(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Asks {
            hints: self.0.root_hint_subjects().to_vec(),
            provider: rustls::crypto::ring::default_provider(),
        })
    }

    /// Whose chain this is, the client's own certificate first.
    pub(crate) fn read(&self, chain: &[CertificateDer<'_>]) -> Presented {
        let Some((own, intermediates)) = chain.split_first() else {
            return Presented::Nothing;
        };
        let verified = self
            .0
            .verify_client_cert(own, intermediates, UnixTime::now());
        if let Err(error) = verified {
            tracing::debug!(%error, "a client's certificate is refused");
            return Presented::Refused;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(own) else {
            return Presented::Refused;
        };
        let Some(mut identity) = identity(&certificate) else {
            return Presented::Nothing;
        };
        let id = format!("X509SHA256={}", hex::encode(Sha256::digest(own)));
        identity.extra.insert(CREDENTIAL_ID.to_owned(), vec![id]);
        Presented::Known {
            identity: Arc::new(identity),
            until: certificate.validity().not_after.timestamp(),
        }
    }
}

/// The last CN is the user, as in Go; a certificate without one names nobody.
fn identity(certificate: &X509Certificate<'_>) -> Option<Identity> {
    let subject = certificate.subject();
    let name = subject
        .iter_common_name()
        .filter_map(|name| name.as_str().ok())
        .last()
        .filter(|name| !name.is_empty())?;
    let groups = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok());
    Some(Identity::new(name, "", groups))
}

/// What a client showed when it connected.
#[derive(Clone, Debug)]
pub(crate) enum Presented {
    /// No certificate, or one that names nobody.
    Nothing,
    /// A good one; `until` is in seconds since 1970.
    Known { identity: Arc<Identity>, until: i64 },
    /// One that somebody else signed, that is not for clients, or not valid at this time.
    Refused,
}

impl Presented {
    /// Who that is now.
    ///
    /// # Errors
    /// When the certificate does not count, or does no longer.
    pub(crate) fn identity(&self) -> Result<Option<Arc<Identity>>, Expired> {
        match self {
            Self::Nothing => Ok(None),
            Self::Refused => Err(Expired),
            Self::Known { identity, until } => {
                if UnixTime::now().as_secs().cast_signed() > *until {
                    return Err(Expired);
                }
                Ok(Some(Arc::clone(identity)))
            }
        }
    }
}

/// A certificate that does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired;

/// Asks for a certificate and takes any, or none; only the proof that the client holds
/// its key is checked.
#[derive(Debug)]
struct Asks {
    hints: Vec<DistinguishedName>,
    provider: CryptoProvider,
}

impl ClientCertVerifier for Asks {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use std::time::{Duration, SystemTime};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    struct Signer {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Signer {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, "ca");
            let key = KeyPair::generate().expect("a key");
            let pem = params.self_signed(&key).expect("signed").pem();
            Self {
                issuer: Issuer::new(params, key),
                pem,
            }
        }

        fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "alice");
            params
                .distinguished_name
                .push(DnType::OrganizationName, "devs");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            change(&mut params);
            let key = KeyPair::generate().expect("a key");
            params
                .signed_by(&key, &self.issuer)
                .expect("signed")
                .der()
                .clone()
        }
    }

    #[test]
    fn a_certificate_of_the_authority_names_a_user_and_groups() {
        let signer = Signer::new();
        let authority = ClientAuthority::new(&signer.pem).expect("usable");
        let chain = [signer.sign(|_| {})];
        let identity = authority.read(&chain).identity().expect("counts");
        let identity = identity.expect("somebody");
        assert_eq!(identity.name, "alice");
        assert_eq!(identity.groups, ["devs", "system:authenticated"]);
        let id = &identity.extra[CREDENTIAL_ID][0];
        assert!(id.starts_with("X509SHA256=") && id.len() == 75, "{id}");
    }

    #[test]
    fn certificates_that_do_not_count_are_refused_and_one_without_name_is_nobodys() {
        let (signer, foreign) = (Signer::new(), Signer::new());
        let authority = ClientAuthority::new(&signer.pem).expect("usable");
        let now = SystemTime::now();
        let refused = [
            foreign.sign(|_| {}),
            signer.sign(|params| params.not_after = (now - HOUR).into()),
            signer.sign(|params| params.not_before = (now + HOUR).into()),
            signer.sign(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ];
        for certificate in refused {
            assert_eq!(authority.read(&[certificate]).identity(), Err(Expired));
        }
        let nameless = signer.sign(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
        });
        assert_eq!(authority.read(&[nameless]).identity(), Ok(None));
        assert_eq!(authority.read(&[]).identity(), Ok(None));
    }

    #[test]
    fn a_certificate_that_expires_during_a_connection_counts_no_longer() {
        let known = |until| Presented::Known {
            identity: Arc::new(Identity::new("a", "", [] as [&str; 0])),
            until,
        };
        let now = UnixTime::now().as_secs().cast_signed();
        assert!(known(now + 60).identity().is_ok());
        assert_eq!(known(now - 1).identity(), Err(Expired));
    }
}

//! Whose certificates a webhook may show.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

/// The certificates of a PEM bundle.
pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
        // One that cannot be read is skipped, as Go does; the others count.
        let _ = store.add(certificate);
    }
    if store.is_empty() {
        return Err(
            "unable to load root certificates: unable to parse bytes as PEM block".to_owned(),
        );
    }
    Ok(store)
}

/// The certificates that the system trusts.
pub(super) fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

/// Verifies as the web does, and also takes a certificate that is itself among the
/// trusted ones: webhooks are often given a single certificate that signs for itself.
#[derive(Debug)]
pub(super) struct Verifier {
    web: Option<Arc<WebPkiServerVerifier>>,
    trusted: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let trusted = Arc::new(roots);
        let web = if trusted.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(
                Arc::clone(&trusted),
                Arc::clone(&provider),
            );
            Some(builder.build().map_err(|error| error.to_string())?)
        };
        Ok(Self {
            web,
            trusted,
            provider,
        })
    }

    /// Whether a certificate is one of the trusted ones, and holds now.
    fn is_trusted_itself(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
            return false;
        };
        let Ok(anchor) = webpki_anchor(certificate) else {
            return false;
        };
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = parsed.validity();
        self.trusted.roots.contains(&anchor)
            && (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&seconds)
    }
}

/// A certificate in the form in which trusted ones are kept: its name and its key.
fn webpki_anchor(
    certificate: &CertificateDer<'_>,
) -> Result<rustls::pki_types::TrustAnchor<'static>, rustls::Error> {
    let mut store = RootCertStore::empty();
    store.add(certificate.clone().into_owned())?;
    store
        .roots
        .pop()
        .ok_or_else(|| rustls::Error::General("no trust anchor".to_owned()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.is_trusted_itself(end_entity, now) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &self.web {
            Some(web) => {
                web.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What a failed handshake is called in Go.
pub(super) fn handshake_problem(error: &io::Error) -> String {
    const UNVERIFIED: &str = "tls: failed to verify certificate: x509:";
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("{UNVERIFIED} certificate signed by unknown authority")
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                format!("{UNVERIFIED} certificate has expired or is not yet valid")
            }
            CertificateError::NotValidForName => {
                format!("{UNVERIFIED} certificate is not valid for any names")
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => {
                let presented: Vec<String> =
                    presented.iter().map(|name| dns_or_address(name)).collect();
                format!(
                    "{UNVERIFIED} certificate is valid for {}, not {}",
                    presented.join(", "),
                    expected.to_str()
                )
            }
            other => format!("{UNVERIFIED} {other}"),
        },
        Some(rustls::Error::InvalidMessage(_)) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        Some(other) => format!("tls: {other}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

/// `DnsName("a.b")` and `IpAddress(…)` as certificates show them, without the form.
fn dns_or_address(name: &str) -> String {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"').to_owned()
}

//! Encryption of the way to an engine on another machine.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// What proves an engine to us, and us to it; all of it PEM.
///
/// Shows none of it when printed.
#[derive(Clone)]
pub struct Certificates {
    /// Who signs the engine's certificate.
    pub authority: Vec<u8>,
    /// Our certificate and its private key, if the engine asks who we are.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Certificates")
            .field("client", &self.client.is_some())
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// The settings of a connection, or what is wrong with the certificates.
    pub(super) fn configuration(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.authority) {
            let certificate = certificate.map_err(|error| format!("ca.pem: {error}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("ca.pem: {error}"))?;
        }
        if roots.is_empty() {
            return Err("ca.pem holds no certificate".to_owned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let Some((certificate, key)) = &self.client else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("cert.pem: {error}"))?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("key.pem: {error}"))?;
        let configuration = builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("cert.pem and key.pem: {error}"))?;
        Ok(Arc::new(configuration))
    }
}

//! Looking at certificates that are kept in files: whether they may be shown any longer.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// A certificate that ends earlier than this is issued again.
pub const RENEW: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a certificate, PEM, is still valid; `None` when it is none, or not valid any more.
#[must_use]
pub fn ends_in(pem: &str, now: SystemTime) -> Option<Duration> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let end = certificate.validity().not_after.timestamp();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(end).ok()?);
    end.duration_since(now).ok()
}

/// Whether a certificate is the authority's, lasts for [`RENEW`], and carries all of
/// these names and addresses.
#[must_use]
pub fn is_usable(pem: &str, authority: &str, names: &[String], now: SystemTime) -> bool {
    if ends_in(pem, now).is_none_or(|left| left <= RENEW) {
        return false;
    }
    let parse = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let (Some(der), Some(issuer)) = (parse(pem), parse(authority)) else {
        return false;
    };
    let (Ok((_, certificate)), Ok((_, issuer))) = (
        X509Certificate::from_der(&der),
        X509Certificate::from_der(&issuer),
    ) else {
        return false;
    };
    let signed = certificate
        .verify_signature(Some(issuer.public_key()))
        .is_ok();
    let Ok(Some(carried)) = certificate.subject_alternative_name() else {
        return false;
    };
    let carries = |name: &String| {
        let mut all = carried.value.general_names.iter();
        all.any(|carried| match (carried, name.parse::<IpAddr>()) {
            (GeneralName::DNSName(carried), Err(_)) => carried == name,
            (GeneralName::IPAddress(bytes), Ok(IpAddr::V4(address))) => *bytes == address.octets(),
            (GeneralName::IPAddress(bytes), Ok(IpAddr::V6(address))) => *bytes == address.octets(),
            _ => false,
        })
    };
    signed && names.iter().all(carries)
}

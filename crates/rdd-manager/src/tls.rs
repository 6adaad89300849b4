//! What protects the listeners of a manager that others reach: its rules and its endpoints.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;

/// The TLS sides of a manager's listeners.
#[derive(Clone)]
pub struct Tls {
    /// For rules, which anybody on this machine may ask.
    pub webhooks: Arc<ServerConfig>,
    /// For endpoints. It must demand a certificate that only the control plane has:
    /// who shows it is believed when it says on whose behalf it asks.
    pub endpoints: Arc<ServerConfig>,
    /// Who signed what the listeners show, PEM.
    pub authority: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").finish_non_exhaustive()
    }
}

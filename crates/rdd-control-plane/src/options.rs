//! What a start can be told.

use std::net::IpAddr;
use std::path::PathBuf;

use rdd_apiserver::{ServiceAt, audit::AuditOptions};

/// What a start can be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The version of the program.
    pub version: String,
    /// Which controllers run; see [`rdd_controllers::CONTROLLERS_HELP`].
    pub controllers: String,
    /// Where to listen.
    pub bind_address: IpAddr,
    /// The wanted port; a busy one is replaced by any free one.
    pub secure_port: u16,
    /// Names and addresses that the certificate carries beside loopback's.
    pub tls_names: Vec<String>,
    /// Origins of web pages that may open endpoints, beside the server's own.
    pub allowed_origins: Vec<String>,
    /// Where the Services listen that webhooks name.
    pub webhook_services: Vec<ServiceAt>,
    /// Further users.
    pub token_file: Option<PathBuf>,
    /// Where requests are recorded, if anywhere.
    pub audit_log: Option<AuditOptions>,
    /// The words of this start, for those who ask what runs.
    pub arguments: Vec<String>,
}

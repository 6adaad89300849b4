//! What a start can be told.

use std::net::IpAddr;
use std::path::PathBuf;

use rdd_apiserver::audit::AuditOptions;

/// The help text of `--controllers`, wherever the flag stands.
pub const CONTROLLERS_HELP: &str = "Controllers to run: * for all, or a comma-separated list of controllers \
    and groups (rdd, app, containers); a leading - excludes, as in '*,-demo' or 'containers,-engine'";

/// What a start can be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The version of the program.
    pub version: String,
    /// Which controllers run; see [`CONTROLLERS_HELP`].
    pub controllers: String,
    /// Where to listen.
    pub bind_address: IpAddr,
    /// The wanted port; a busy one is replaced by any free one.
    pub secure_port: u16,
    /// Names and addresses that the certificate carries beside loopback's.
    pub tls_names: Vec<String>,
    /// Origins of web pages that may open endpoints, beside the server's own.
    pub allowed_origins: Vec<String>,
    /// Further users.
    pub token_file: Option<PathBuf>,
    /// Where requests are recorded, if anywhere.
    pub audit_log: Option<AuditOptions>,
    /// The words of this start, for those who ask what runs.
    pub arguments: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_group() {
        for def in rdd_controllers::REGISTRY {
            assert!(CONTROLLERS_HELP.contains(def.group), "{}", def.group);
        }
    }
}

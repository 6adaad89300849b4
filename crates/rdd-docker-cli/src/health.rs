//! Whether the selected context still leads to an engine.

use std::time::Duration;

use rdd_engine::Endpoint;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::files::Files;

/// Where Docker looks without any context.
pub const DEFAULT_ENDPOINT: &str = "unix:///var/run/docker.sock";

/// How long a sign of life may take.
const LIMIT: Duration = Duration::from_secs(3);

/// Whether the context is provably absent or dead. Whatever cannot be decided, such as
/// a certificate or a scheme that only Docker understands, counts as alive.
pub(crate) async fn is_dead(files: &Files, default: &str, selected: Option<&str>) -> bool {
    let host = match selected {
        None | Some("default") => default.to_owned(),
        Some(name) => match files.context(name) {
            Ok(None) => return true,
            Ok(Some(context)) => match context.host {
                Some(host) => host,
                None => return false,
            },
            Err(error) => {
                tracing::debug!(%error, "the selected Docker context cannot be read");
                return false;
            }
        },
    };
    if let Some(address) = host.strip_prefix("tcp://") {
        // With or without a certificate: somebody listens, or nobody does.
        let address = address.trim_end_matches('/').to_owned();
        if address.rsplit_once(':').is_none() {
            return false;
        }
        return match timeout(LIMIT, TcpStream::connect(address)).await {
            Err(_) => true,
            Ok(Err(error)) => error.kind() != std::io::ErrorKind::InvalidInput,
            Ok(Ok(_)) => false,
        };
    }
    match Endpoint::parse(&host) {
        Ok(endpoint @ Endpoint::Unix(_)) => rdd_engine::ping(&endpoint, LIMIT).await.is_err(),
        _ => false,
    }
}

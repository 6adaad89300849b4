//! A Kubernetes client without a network: every request still runs through every handler.

use crate::{api_server::ApiServer, auth::Identity};

impl ApiServer {
    /// A client that acts as this identity. No connection, TLS or token is involved;
    /// authorisation, admission and everything after it are.
    #[must_use]
    pub fn client(&self, who: Identity) -> kube::Client {
        kube::Client::new(self.router().acting_as(who), "default")
    }
}

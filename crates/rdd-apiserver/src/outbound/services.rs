//! Where the Services listen that webhooks name.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// Where one Service listens: `NAMESPACE/NAME=HOST` or `NAMESPACE/NAME=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAt {
    namespace: String,
    name: String,
    /// `host` or `host:port`; without a port, the one that the webhook names is used.
    address: String,
}

impl FromStr for ServiceAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not of the form NAMESPACE/NAME=HOST[:PORT]");
        let (service, address) = text.split_once('=').ok_or_else(form)?;
        let (namespace, name) = service.split_once('/').ok_or_else(form)?;
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            return Err(form());
        }
        let authority: http::uri::Authority = address
            .parse()
            .map_err(|_| format!("{address:?} is no address: HOST or HOST:PORT is wanted"))?;
        let whole = match authority.port_u16() {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        };
        if whole != address {
            return Err(format!(
                "{address:?} is no address: HOST or HOST:PORT is wanted"
            ));
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            address: whole,
        })
    }
}

impl fmt::Display for ServiceAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}={}", self.namespace, self.name, self.address)
    }
}

/// Where the Services are that webhooks name. There are no Services on this server, so
/// whoever starts it says where each one listens.
#[derive(Clone, Debug, Default)]
pub struct Services(BTreeMap<(String, String), String>);

impl Services {
    /// Says that a Service is reached at `address`, which is `host` or `host:port`;
    /// without a port, the one that the webhook names is used.
    #[must_use]
    pub fn with(mut self, namespace: &str, name: &str, address: &str) -> Self {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.insert(key, address.to_owned());
        self
    }

    /// `host:port` of a Service, if anybody said where it is.
    pub(super) fn resolve(&self, namespace: &str, name: &str, port: u64) -> Option<String> {
        let address = self.0.get(&(namespace.to_owned(), name.to_owned()))?;
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Some(if has_port {
            address.clone()
        } else {
            format!("{address}:{port}")
        })
    }
}

impl FromIterator<ServiceAt> for Services {
    fn from_iter<I: IntoIterator<Item = ServiceAt>>(places: I) -> Self {
        let places = places.into_iter();
        Self(
            places
                .map(|at| ((at.namespace, at.name), at.address))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_where_it_was_said_to_be() {
        for text in ["a/b=127.0.0.1", "a/b=[::1]:9443", "a/b=example.com:1"] {
            assert_eq!(
                text.parse::<ServiceAt>().expect("a place").to_string(),
                text
            );
        }
        for text in [
            "", "a", "a/b", "a=b", "/b=c", "a/=c", "a/b/c=d", "a/b=", "a/b=x@y", "a/b=h:p",
        ] {
            assert!(text.parse::<ServiceAt>().is_err(), "{text}");
        }
        let places = ["a/b=127.0.0.1:9443", "a/c=localhost"];
        let services: Services = places
            .map(|text| text.parse().expect("a place"))
            .into_iter()
            .collect();
        assert_eq!(
            services.resolve("a", "b", 443).as_deref(),
            Some("127.0.0.1:9443")
        );
        assert_eq!(
            services.resolve("a", "c", 8443).as_deref(),
            Some("localhost:8443")
        );
        assert_eq!(services.resolve("b", "b", 443), None);
    }
}

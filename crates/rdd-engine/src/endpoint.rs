//! Where an engine listens.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// A parsed endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A TCP port; on another machine only with certificates.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Whatever `docker system dial-stdio` reaches on another machine.
    Ssh {
        /// `host` or `user@host`.
        destination: String,
        /// Port, when it is not the usual one.
        port: Option<u16>,
    },
}

impl Endpoint {
    /// Reads `unix:///path`, `tcp://host:port` or `ssh://[user@]host[:port]`.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |reason: &str| Error::Endpoint {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| refuse("expected unix://, tcp:// or ssh://"))?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err(refuse("the path of the socket must be absolute")),
            "tcp" => {
                let (host, port) = rest
                    .trim_end_matches('/')
                    .rsplit_once(':')
                    .ok_or_else(|| refuse("expected tcp://host:port"))?;
                let port = port.parse().map_err(|_| refuse("the port is no number"))?;
                let host = host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned();
                if host.is_empty() {
                    return Err(refuse("expected tcp://host:port"));
                }
                Ok(Self::Tcp { host, port })
            }
            "ssh" => {
                let rest = rest.trim_end_matches('/');
                let (destination, port) = match rest.rsplit_once(':') {
                    Some((destination, port)) => {
                        let port = port.parse().map_err(|_| refuse("the port is no number"))?;
                        (destination, Some(port))
                    }
                    None => (rest, None),
                };
                // A leading dash would be an option of ssh.
                if destination.is_empty()
                    || destination.starts_with('-')
                    || destination.contains(char::is_whitespace)
                {
                    return Err(refuse("expected ssh://[user@]host[:port]"));
                }
                Ok(Self::Ssh {
                    destination: destination.to_owned(),
                    port,
                })
            }
            _ => Err(refuse("expected unix://, tcp:// or ssh://")),
        }
    }
}

impl Endpoint {
    /// Whether what is said never leaves this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                let address = host.parse::<std::net::IpAddr>();
                host == "localhost" || address.is_ok_and(|address| address.is_loopback())
            }
            Self::Ssh { .. } => false,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => {
                write!(formatter, "tcp://[{host}]:{port}")
            }
            Self::Tcp { host, port } => write!(formatter, "tcp://{host}:{port}"),
            Self::Ssh {
                destination,
                port: None,
            } => write!(formatter, "ssh://{destination}"),
            Self::Ssh {
                destination,
                port: Some(port),
            } => write!(formatter, "ssh://{destination}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written_back() {
        for text in [
            "unix:///var/run/docker.sock",
            "tcp://127.0.0.1:2375",
            "tcp://[::1]:2375",
            "tcp://host.example:2376",
            "ssh://host",
            "ssh://me@host:2222",
        ] {
            assert_eq!(Endpoint::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        for text in [
            "",
            "docker.sock",
            "unix://relative",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:x",
            "tcp://:2375",
            "http://x",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://a b",
            "npipe:////./pipe/x",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}

//! The server's URL, taken apart.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};

/// Where the server is.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Address to connect to.
    pub(super) address: SocketAddr,
    /// Host and port as the URL has them, for the `Host` header.
    pub(super) authority: String,
    /// Path of the Socket.IO door, such as `/ws/`.
    pub(super) path: String,
}

impl Target {
    /// Takes an `http` or `ws` URL apart and resolves its host.
    ///
    /// # Errors
    /// If it is another kind of URL or its host has no address.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://")) else {
            bail!("--url must begin with http:// or ws:// (TLS would measure the tool's own cryptography): {url}");
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "ws/"));
        let path = if path.is_empty() { "ws/" } else { path };
        let with_port = if has_port(authority) { authority.to_owned() } else { format!("{authority}:80") };
        let address = with_port
            .to_socket_addrs()
            .with_context(|| format!("--url: no address for {authority:?}"))?
            .next()
            .with_context(|| format!("--url: no address for {authority:?}"))?;
        Ok(Self { address, authority: authority.to_owned(), path: format!("/{path}") })
    }
}

fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_means_the_default_door() {
        for url in ["http://127.0.0.1:5000", "http://127.0.0.1:5000/", "ws://127.0.0.1:5000/ws/"] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.path.as_str(), target.address.port()), ("/ws/", 5000), "{url}");
        }
    }

    #[test]
    fn tls_is_refused_by_name() {
        assert!(Target::parse("https://localhost").unwrap_err().to_string().contains("TLS"));
    }
}

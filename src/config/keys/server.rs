//! Keys of `[server]`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// `[server]`: where to listen and how to stop.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address to listen on. Defaults to `127.0.0.1`.
    pub host: String,
    /// Port to listen on; 0 picks a free one. Defaults to 5000.
    pub port: u16,
    /// Path of the Socket.IO door. Defaults to `/ws`.
    pub path: String,
    /// Further paths of the Socket.IO door, for tools with a fixed path. Defaults to `["/socket.io"]`.
    pub path_aliases: Vec<String>,
    /// Browser origins that may connect; the server's own origin always may, and `*` means any.
    /// Defaults to `http://localhost:3000` and `http://localhost:5173`.
    pub cors_origins: Vec<String>,
    /// How long a stopping server waits for what is under way. Defaults to 5,000.
    pub shutdown_grace_ms: u64,
    /// Over how long the clients of a server that drains are sent away, before it stops; 0 is at once, with word of it.
    /// Defaults to 0.
    pub drain_ms: u64,
    /// How long a server that drains says that it is not ready before it lets nobody in any more. Defaults to 0.
    pub drain_notice_ms: u64,
    /// How long a client may take to send the head of a request, and before that for what the proxy protocol and TLS
    /// need, and may ask for nothing. Defaults to 10,000.
    pub header_timeout_ms: u64,
    /// How long a client may take to send the body of a request, or the attachments of an event. Defaults to 30,000.
    pub body_timeout_ms: u64,
    /// Addresses and networks (`10.0.0.0/8`) of proxies whose word on the client's address, scheme and host counts.
    /// Defaults to none.
    pub trusted_proxies: Vec<String>,
    /// Whether each connection of a trusted proxy begins with the PROXY protocol, version 1 or 2. Defaults to false.
    pub proxy_protocol: bool,
    /// `[server.tls]`: HTTPS.
    pub tls: Tls,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 5000,
            path: "/ws".into(),
            path_aliases: vec!["/socket.io".into()],
            cors_origins: vec!["http://localhost:3000".into(), "http://localhost:5173".into()],
            shutdown_grace_ms: 5_000,
            drain_ms: 0,
            drain_notice_ms: 0,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            tls: Tls::default(),
        }
    }
}

impl Server {
    /// The networks of trusted proxies, as far as they can be read.
    pub fn trusted_networks(&self) -> Vec<IpNet> {
        self.trusted_proxies.iter().filter_map(|text| network(text)).collect()
    }
}

/// A network, or a single address; an IPv4 one that is written as IPv6 is what it stands for.
pub(in crate::config) fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
    text.parse().ok().or_else(address)
}

/// `[server.tls]`: HTTPS and wss on every listener.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate and those between it and a root that clients know; without one, as by default,
    /// there is no TLS.
    pub cert_file: String,
    /// PEM file of the certificate's private key.
    pub key_file: String,
    /// The oldest version that is spoken. Defaults to `1.2`.
    pub min_version: TlsVersion,
    /// How often the files are looked at for a new pair. Defaults to 10,000.
    pub reload_interval_ms: u64,
}

impl Tls {
    /// Whether it is spoken at all.
    pub fn is_on(&self) -> bool {
        !self.cert_file.is_empty()
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            cert_file: String::new(),
            key_file: String::new(),
            min_version: TlsVersion::V1_2,
            reload_interval_ms: 10_000,
        }
    }
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

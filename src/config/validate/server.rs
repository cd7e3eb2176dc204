//! TLS and proxies, and who can reach the server by them.

use super::{Findings, is_loopback};
use crate::config::Config;
use crate::config::keys::network;

/// What lets others than the programs of this machine reach the server, and the key that says so.
pub(super) fn exposure(config: &Config) -> Option<(&'static str, String)> {
    let server = &config.server;
    if !is_loopback(&server.host) {
        return Some(("server.host", format!("others can reach {:?}", server.host)));
    }
    if server.tls.is_on() {
        return Some(("server.tls.cert_file", "TLS is there for others than this machine".to_owned()));
    }
    if !server.trusted_proxies.is_empty() {
        return Some(("server.trusted_proxies", "proxies pass on what others send".to_owned()));
    }
    server.proxy_protocol.then(|| ("server.proxy_protocol", "proxies pass on what others send".to_owned()))
}

/// Everything about TLS and proxies that cannot be meant.
pub(super) fn check(config: &Config, found: &mut Findings) {
    let server = &config.server;
    for (one, file, other, missing) in [
        ("server.tls.cert_file", &server.tls.cert_file, "server.tls.key_file", &server.tls.key_file),
        ("server.tls.key_file", &server.tls.key_file, "server.tls.cert_file", &server.tls.cert_file),
    ] {
        if !file.is_empty() && missing.is_empty() {
            found.contradiction(&[one, other], format!("{one} is set and {other} is not; TLS needs both"));
        }
    }
    for (index, proxy) in server.trusted_proxies.iter().enumerate() {
        if let Err(why) = check_proxy(proxy) {
            found.add(format!("server.trusted_proxies[{index}]"), why);
        }
    }
    if server.proxy_protocol && server.trusted_proxies.is_empty() {
        found.contradiction(
            &["server.proxy_protocol", "server.trusted_proxies"],
            "the PROXY protocol is only read from trusted proxies, and there are none; name their addresses in \
             server.trusted_proxies"
                .to_owned(),
        );
    }
}

fn check_proxy(proxy: &str) -> Result<(), String> {
    let expected = "expected an IP address or a network, such as \"192.0.2.7\" or \"10.0.0.0/8\"";
    let network = network(proxy).ok_or_else(|| format!("{expected}, found {proxy:?}"))?;
    if network.prefix_len() == 0 {
        return Err(format!("{proxy:?} is everybody, and then clients choose their addresses; name the proxies"));
    }
    if network.trunc() != network {
        let meant = network.trunc();
        return Err(format!("{proxy:?} is an address within a network; write {meant} or the address alone"));
    }
    Ok(())
}

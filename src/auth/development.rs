//! The development rule: what is served without keys or tokens.
//!
//! Behind a proxy the whole internet looks like loopback, so a request counts
//! as local only if nothing about it smells of one.

use std::net::SocketAddr;

use http::HeaderMap;
use http::header::{HOST, ORIGIN, VIA};

/// What the rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Address the server is bound to.
    pub bound: SocketAddr,
    /// Address of the other side.
    pub peer: SocketAddr,
    /// Headers of the request.
    pub headers: &'a HeaderMap,
    /// Whether the `Origin`, if there is one, is allowed.
    pub origin_allowed: bool,
}

/// What keeps a request from being served without keys; nothing if it is local.
pub fn unmet(request: Request<'_>) -> Option<&'static str> {
    let headers = request.headers;
    if !request.bound.ip().to_canonical().is_loopback() {
        return Some("the server listens on an address that others can reach");
    }
    if !request.peer.ip().to_canonical().is_loopback() {
        return Some("the request comes from another machine");
    }
    let forwarded = headers.keys().any(|name| name.as_str().contains("forwarded"));
    if forwarded || headers.contains_key(VIA) || headers.contains_key("x-real-ip") {
        return Some("the request came through a proxy");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    if hosts.next().is_some() || !host.is_some_and(is_local_host) {
        return Some("its Host is not localhost, 127.0.0.1 or [::1]");
    }
    let origins = headers.get_all(ORIGIN).iter().count();
    (origins > 1 || (origins == 1 && !request.origin_allowed)).then_some("its Origin is not allowed")
}

fn is_local_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bound: &str, peer: &str, headers: &[(&'static str, &'static str)], origin_allowed: bool) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        let address = |text: &str| text.parse().expect("an address");
        unmet(Request { bound: address(bound), peer: address(peer), headers: &map, origin_allowed }).is_none()
    }

    #[test]
    fn only_requests_that_are_local_in_every_way_pass() {
        let local = ("host", "localhost:5000");
        assert!(check("127.0.0.1:5000", "127.0.0.1:9", &[local], false));
        assert!(check("[::1]:5000", "[::1]:9", &[("host", "[::1]:5000")], false));
        assert!(check("127.0.0.1:5000", "127.0.0.1:9", &[("host", "127.0.0.1")], false));
        assert!(check("127.0.0.1:5000", "127.0.0.1:9", &[local, ("origin", "http://localhost:3000")], true));
        assert!(!check("0.0.0.0:5000", "127.0.0.1:9", &[local], true));
        assert!(!check("127.0.0.1:5000", "10.0.0.1:9", &[local], true));
        assert!(!check("127.0.0.1:5000", "127.0.0.1:9", &[local, ("origin", "http://evil.test")], false));
        assert!(!check("127.0.0.1:5000", "127.0.0.1:9", &[("host", "evil.test")], true));
        assert!(!check("127.0.0.1:5000", "127.0.0.1:9", &[("host", "localhost.evil.test")], true));
        assert!(!check("127.0.0.1:5000", "127.0.0.1:9", &[local, local], true));
        assert!(!check("127.0.0.1:5000", "127.0.0.1:9", &[], true));
        // An address of IPv4 that is written as one of IPv6 is the same.
        assert!(check("[::ffff:127.0.0.1]:5000", "[::ffff:127.0.0.1]:9", &[local], true));
        assert!(check("127.0.0.1:5000", "127.0.0.2:9", &[local], true));
        assert!(!check("[::]:5000", "[::1]:9", &[local], true));
        assert!(!check("[::1]:5000", "[::ffff:10.0.0.1]:9", &[local], true));
        assert!(!check("[::ffff:10.0.0.1]:5000", "[::1]:9", &[local], true));
        for header in
            ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-original-forwarded-for", "x-real-ip", "via"]
        {
            assert!(!check("127.0.0.1:5000", "127.0.0.1:9", &[local, (header, "1.2.3.4")], true), "{header}");
        }
    }
}

//! Who a request is from, when it came through proxies.
//!
//! A trusted proxy is believed about the hop before it, and so on up to the
//! first address that nobody vouches for: that one is the client's. Headers of
//! anybody else are a claim of the client's, and ignored.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::config::Server;
use crate::doors::{Hop, Peer, Scheme};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The proxies that are believed.
#[derive(Debug)]
pub(super) struct Proxies {
    trusted: Vec<IpNet>,
    /// Whether they begin connections with the proxy protocol.
    proxy_protocol: bool,
}

/// What proxies tell of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told<'a> {
    client: Option<SocketAddr>,
    scheme: Option<&'a str>,
    host: Option<&'a str>,
}

impl Proxies {
    /// Those of the config.
    pub(super) fn new(config: &Server) -> Self {
        Self { trusted: config.trusted_networks(), proxy_protocol: config.proxy_protocol }
    }

    /// Nobody is believed.
    pub(super) fn none() -> Self {
        Self { trusted: Vec::new(), proxy_protocol: false }
    }

    /// Whether a connection from this address begins with the proxy protocol. The protocol has no way to tell by
    /// looking, so it is expected of every trusted proxy and of nobody else.
    pub(super) fn announces(&self, address: SocketAddr) -> bool {
        self.proxy_protocol && self.trusts(address)
    }

    /// Who a request is from: `hop` is at the other end of its connection, and `client` who that speaks for by the
    /// proxy protocol. The `Host` becomes the one that the client has named.
    pub(super) fn peer(&self, hop: SocketAddr, client: SocketAddr, scheme: Scheme, headers: &mut HeaderMap) -> Peer {
        let mut peer = Peer { client: canonical(client), hop: Hop { address: hop, scheme } };
        if !self.trusts(client) {
            return peer;
        }
        let told = self.told(headers);
        peer.client = told.client.unwrap_or(peer.client);
        peer.hop.scheme = match told.scheme {
            Some("https" | "wss") => Scheme::Https,
            Some("http" | "ws") => Scheme::Http,
            _ => scheme,
        };
        let host = told.host.and_then(|host| HeaderValue::from_str(host).ok());
        if let Some(host) = host {
            headers.insert(HOST, host);
        }
        peer
    }

    /// Whether who is at an address speaks for others.
    pub(super) fn trusts(&self, address: SocketAddr) -> bool {
        let address = address.ip().to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// What the headers tell.
    fn told<'a>(&self, headers: &'a HeaderMap) -> Told<'a> {
        let standard = headers.contains_key(FORWARDED).then(|| self.forwarded(headers));
        let customary = headers.contains_key(X_FORWARDED_FOR).then(|| self.x_forwarded(headers));
        match (standard, customary) {
            (Some(told), None) => told,
            (None, Some(told)) => told,
            (Some(standard), Some(customary)) if same(standard.client, customary.client) => standard,
            // A proxy that writes one of them passes on what the client has put into the other.
            (Some(_), Some(_)) => Told::default(),
            (None, None) => Told { client: None, ..self.x_forwarded(headers) },
        }
    }

    /// RFC 7239.
    fn forwarded<'a>(&self, headers: &'a HeaderMap) -> Told<'a> {
        let mut told = Told::default();
        for element in from_the_right(headers, &FORWARDED) {
            let Some(hop) = element.and_then(Told::parse) else { break };
            let trusted = hop.client.is_some_and(|address| self.trusts(address));
            told = Told { client: hop.client.or(told.client), ..hop };
            if !trusted {
                break;
            }
        }
        told
    }

    fn x_forwarded<'a>(&self, headers: &'a HeaderMap) -> Told<'a> {
        let last = |name| from_the_right(headers, name).next().flatten();
        let mut told =
            Told { client: None, scheme: last(&X_FORWARDED_PROTO), host: last(&X_FORWARDED_HOST).filter(is_host) };
        for address in from_the_right(headers, &X_FORWARDED_FOR) {
            let Some(address) = address.and_then(node) else { break };
            told.client = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        told
    }
}

impl<'a> Told<'a> {
    /// One element of `Forwarded`; none if it is malformed.
    fn parse(element: &'a str) -> Option<Self> {
        let mut told = Self::default();
        for pair in element.split(';') {
            let (name, value) = pair.trim().split_once('=')?;
            let value = match value.strip_prefix('"') {
                Some(quoted) => quoted.strip_suffix('"')?,
                None => value,
            };
            if value.contains(['"', '\\']) {
                return None;
            }
            match name.to_ascii_lowercase().as_str() {
                "for" => told.client = node(value),
                "proto" => told.scheme = Some(value),
                "host" => told.host = Some(value).filter(is_host),
                _ => {}
            }
        }
        Some(told)
    }
}

/// The elements of all headers of a name, the last one first; none for one that is no text. Proxies add theirs at the
/// end, and without a comma, so that nothing the client has written can reach into them.
fn from_the_right<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Option<&'a str>> {
    headers.get_all(name).iter().rev().flat_map(|value| {
        let text = value.to_str().ok();
        let elements = text.map(|text| text.rsplit(',').map(|element| Some(element.trim())));
        elements.into_iter().flatten().chain(text.is_none().then_some(None))
    })
}

/// The address of a hop: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`; none for a
/// name that hides it.
fn node(text: &str) -> Option<SocketAddr> {
    let bare = || text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = |ip: IpAddr| SocketAddr::new(ip, 0);
    text.parse().ok().or_else(|| bare().parse().ok().map(address)).map(canonical)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn same(one: Option<SocketAddr>, other: Option<SocketAddr>) -> bool {
    one.map(|address| address.ip()) == other.map(|address| address.ip())
}

fn is_host(host: &&str) -> bool {
    host.parse::<http::uri::Authority>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who the request is from, by its headers in their order, and its `Host`.
    fn peer(hop: &str, headers: &[(&'static str, &str)]) -> (String, Scheme, String) {
        let trusted = ["10.0.0.0/8".to_owned(), "192.0.2.1".to_owned(), "2001:db8::/32".to_owned()];
        let proxies = Proxies::new(&Server { trusted_proxies: trusted.into(), ..Server::default() });
        let mut map = HeaderMap::from_iter([(HOST, HeaderValue::from_static("inner"))]);
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a header"));
        }
        let hop = SocketAddr::new(hop.parse().expect("an address"), 7);
        let Peer { client, hop: Hop { address, scheme } } = proxies.peer(hop, hop, Scheme::Http, &mut map);
        assert_eq!(address, hop);
        (client.ip().to_string(), scheme, map[HOST].to_str().expect("a host").to_owned())
    }

    fn client(hop: &str, headers: &[(&'static str, &str)]) -> String {
        peer(hop, headers).0
    }

    #[test]
    fn strangers_are_believed_nothing() {
        for name in ["x-forwarded-for", "forwarded"] {
            for hop in ["203.0.113.5", "::1", "127.0.0.1"] {
                assert_eq!(client(hop, &[(name, "1.2.3.4"), (name, "for=1.2.3.4")]), hop);
            }
        }
        let headers = [("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.example")];
        assert_eq!(peer("203.0.113.5", &headers), ("203.0.113.5".into(), Scheme::Http, "inner".into()));
    }

    #[test]
    fn the_first_address_that_nobody_vouches_for_is_the_clients() {
        for (header, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
            ("6.6.6.6, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
            ("203.0.113.9,192.0.2.1 ,\t10.1.1.1", "203.0.113.9"),
            ("10.2.2.2, 10.1.1.1", "10.2.2.2"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("2a00::1, 2001:db8::7", "2a00::1"),
            ("[2a00::1]:4711", "2a00::1"),
            ("[2a00::1]", "2a00::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
        ] {
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", header)]), expected, "{header}");
        }
        let lines =
            [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "10.1.1.1")];
        assert_eq!(client("10.0.0.1", &lines), "203.0.113.9");
        assert_eq!(client("::ffff:10.0.0.1", &lines), "203.0.113.9");
    }

    #[test]
    fn the_standard_header_says_the_same() {
        for (header, expected) in [
            ("for=203.0.113.9", "203.0.113.9"),
            ("For=\"203.0.113.9:80\";proto=https", "203.0.113.9"),
            ("for=6.6.6.6, for=\"[2a00::1]:4711\";by=10.0.0.1, for=10.1.1.1", "2a00::1"),
            ("by=10.0.0.1 ; for=203.0.113.9", "203.0.113.9"),
            // The one before an address that is hidden.
            ("for=6.6.6.6, for=unknown, for=10.1.1.1", "10.1.1.1"),
            ("for=6.6.6.6, for=_hidden", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[("forwarded", header)]), expected, "{header}");
        }
    }

    #[test]
    fn what_is_malformed_leaves_the_last_good_hop() {
        for header in
            ["", ",", "nonsense", "999.1.1.1", "1.2.3.4.5", "203.0.113.9:", "[::1", "2a00::1]", "\"1.2.3.4\"", "\u{e9}"]
        {
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", header)]), "10.0.0.1", "{header}");
            let behind = format!("6.6.6.6, {header}, 10.1.1.1");
            assert_eq!(
                client("10.0.0.1", &[("x-forwarded-for", &behind)]),
                if header == "\u{e9}" { "10.0.0.1" } else { "10.1.1.1" }
            );
        }
        for header in [
            "",
            ";",
            "for",
            "for=",
            "for=\"1.2.3.4",
            "for=1.2.3.4\"",
            "for=\"1.2.3.4\"x",
            "for=\"1.2.3.\\4\"",
            "1.2.3.4",
        ] {
            assert_eq!(client("10.0.0.1", &[("forwarded", header)]), "10.0.0.1", "{header}");
        }
    }

    #[test]
    fn a_client_cannot_reach_into_what_a_proxy_adds() {
        for open in ["for=\"", "for=6.6.6.6;x=\"", "for=\"6.6.6.6, for=6.6.6.6;x=\"", "for=6.6.6.6;x=\"\\"] {
            for added in ["for=203.0.113.9", "for=\"203.0.113.9\"", "for=203.0.113.9;host=\"a\""] {
                let header = format!("{open}, {added}");
                assert_eq!(client("10.0.0.1", &[("forwarded", &header)]), "203.0.113.9", "{header}");
            }
        }
    }

    #[test]
    fn two_headers_that_disagree_tell_nothing() {
        let forged = [("forwarded", "for=6.6.6.6;host=evil.example"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(peer("10.0.0.1", &forged), ("10.0.0.1".into(), Scheme::Http, "inner".into()));
        let both = [("forwarded", "for=\"203.0.113.9:1\";proto=https"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(peer("10.0.0.1", &both), ("203.0.113.9".into(), Scheme::Https, "inner".into()));
    }

    #[test]
    fn the_host_and_the_scheme_are_those_of_the_client() {
        let customary = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "live.example:8443"),
        ];
        let expected = ("203.0.113.9".to_owned(), Scheme::Https, "live.example:8443".to_owned());
        assert_eq!(peer("10.0.0.1", &customary), expected);
        let standard = "for=203.0.113.9;proto=https;host=\"live.example:8443\", for=10.1.1.1;proto=http;host=edge";
        assert_eq!(peer("10.0.0.1", &[("forwarded", standard)]), expected);
        let without_address = peer("10.0.0.1", &customary[1..]);
        assert_eq!(without_address, ("10.0.0.1".into(), expected.1, expected.2));
        let nonsense = [("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a b")];
        assert_eq!(peer("10.0.0.1", &nonsense), ("10.0.0.1".into(), Scheme::Http, "inner".into()));
    }
}

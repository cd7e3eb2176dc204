//! Origins of browsers, and the patterns that say which may come in.
//!
//! An origin is compared as a browser writes it, in lower case and punycode:
//! <https://html.spec.whatwg.org/#ascii-serialisation-of-an-origin>.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What `cors_origins` and the `origins` of a door hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// `*`: any.
    Any,
    /// `scheme://host[:port]`, where the host may begin with `*.` and the port may be `*`.
    These {
        /// The scheme, in lower case.
        scheme: String,
        /// The host.
        host: HostPattern,
        /// The port; none is the scheme's own.
        port: PortPattern,
    },
}

/// The host of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// This one.
    Exactly(String),
    /// Everything under this one, at any depth, but not itself.
    Under(String),
}

/// The port of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortPattern {
    /// This one.
    Exactly(Option<u16>),
    /// Any.
    Any,
}

/// What is expected of a pattern.
pub(super) const EXPECTED: &str = "expected \"*\" or scheme://host[:port] in lower case and without a path, where the host \
                                   may begin with \"*.\" for what is under it, and the port may be \"*\"";

impl OriginPattern {
    /// Reads a pattern; none if no browser's origin could match it, or more than anybody means.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (scheme, host, port) = parts(text)?;
        let port = if port == Some("*") { PortPattern::Any } else { PortPattern::Exactly(number(scheme, port)?) };
        let host = match host.strip_prefix("*.") {
            // Nobody owns all of a top-level domain.
            Some(parent) if is_name(parent) && (parent.contains('.') || parent == "localhost") => {
                HostPattern::Under(parent.to_owned())
            }
            Some(_) => return None,
            None if is_host(host) => HostPattern::Exactly(host.to_owned()),
            None => return None,
        };
        Some(Self::These { scheme: scheme.to_owned(), host, port })
    }

    /// Whether an origin, as a browser sends it, is one of these.
    pub fn allows(&self, origin: &str) -> bool {
        let Self::These { scheme, host, port } = self else { return true };
        let Some((its_scheme, its_host, its_port)) = parts(origin) else { return false };
        let Some(its_port) = number(its_scheme, its_port) else { return false };
        let is_host_meant = match host {
            HostPattern::Exactly(host) => host == its_host,
            HostPattern::Under(parent) => {
                let below = its_host.strip_suffix(parent.as_str()).and_then(|rest| rest.strip_suffix('.'));
                below.is_some() && is_name(its_host)
            }
        };
        let is_port_meant = *port == PortPattern::Any || *port == PortPattern::Exactly(its_port);
        scheme == its_scheme && is_host_meant && is_port_meant
    }
}

/// Scheme, host and port of an origin; nothing may stand behind them.
fn parts(origin: &str) -> Option<(&str, &str, Option<&str>)> {
    let (scheme, authority) = origin.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
    let in_brackets = authority.find(']').map_or(0, |end| end + 1);
    let (host, port) = match authority[in_brackets..].split_once(':') {
        Some((rest, port)) => (&authority[..in_brackets + rest.len()], Some(port)),
        None => (authority, None),
    };
    is_scheme.then_some((scheme, host, port))
}

/// A port as a number, none for that of the scheme.
fn number(scheme: &str, port: Option<&str>) -> Option<Option<u16>> {
    let Some(port) = port else { return Some(None) };
    let is_plain = port.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|_| is_plain)?;
    Some((!matches!((scheme, port), ("http", 80) | ("https", 443))).then_some(port))
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address),
        None => is_name(host) || host.parse::<Ipv4Addr>().is_ok(),
    }
}

/// Whether a text is a name in lower case, which is no address and has no dot at its end.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    host.len() <= 253 && host.split('.').all(is_label) && !host.rsplit('.').next().is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, origin: &str) -> bool {
        OriginPattern::parse(pattern).unwrap_or_else(|| panic!("{pattern} is no pattern")).allows(origin)
    }

    #[test]
    fn an_origin_is_allowed_as_it_is_written_and_not_otherwise() {
        let dashboard = "https://dash.example.com";
        assert!(allows(dashboard, dashboard));
        assert!(allows("https://dash.example.com:443", dashboard) && allows(dashboard, "https://dash.example.com:443"));
        for other in [
            "http://dash.example.com",
            "https://dash.example.com:8443",
            "https://DASH.example.com",
            "https://dash.example.com.",
            "https://dash.example.com.evil.test",
            "https://evil.test/https://dash.example.com",
            "https://dash.example.com https://evil.test",
            "https://x@dash.example.com",
            "https://dash.example.com/",
            "null",
            "",
        ] {
            assert!(!allows(dashboard, other), "{other}");
        }
        assert!(allows("http://[::1]:5173", "http://[::1]:5173") && !allows("http://[::1]:5173", "http://[::2]:5173"));
        assert!(allows("*", "null"));
    }

    #[test]
    fn a_star_stands_for_what_is_under_a_domain_at_any_depth() {
        let pattern = "https://*.example.com";
        for origin in ["https://a.example.com", "https://a.b.example.com", "https://xn--bcher-kva.example.com"] {
            assert!(allows(pattern, origin), "{origin}");
        }
        for other in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://example.com.evil.test",
            "https://a.example.com.evil.test",
            "https://a.example.com.",
            "https://a.EXAMPLE.com",
            "https://evil.test#.example.com",
            "https://evil.test/.example.com",
            "https://evil.test?.example.com",
            "https://evil.test\\.example.com",
            "https://evil.test@a.example.com",
            "https://evil.test:80.example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "null",
        ] {
            assert!(!allows(pattern, other), "{other}");
        }
    }

    #[test]
    fn a_port_may_be_any() {
        let pattern = "http://*.localhost:*";
        assert!(allows(pattern, "http://a.localhost") && allows(pattern, "http://a.b.localhost:65535"));
        for other in ["http://localhost:80", "http://a.localhost:", "http://a.localhost:x", "http://a.localhost:99999"]
        {
            assert!(!allows(pattern, other), "{other}");
        }
        assert!(allows("http://[::1]:*", "http://[::1]:9") && !allows("http://[::1]:*", "http://[::1]:+9"));
    }

    #[test]
    fn what_means_too_much_or_nothing_is_no_pattern() {
        for text in [
            "https://*",
            "https://*.com",
            "https://*.*.com",
            "https://a.*.com",
            "https://*example.com",
            "https://a*.example.com",
            "https://*.",
            "https://*..com",
            "https://*.0.0.1",
            "https://*.[::1]",
            "*.example.com",
            "*://a.example.com",
            "https://büro.example",
            "https://a.example.",
            "https://[::1",
            "https://[0:0:0:0:0:0:0:1]",
            "https://a.example:**",
            "null",
        ] {
            assert_eq!(OriginPattern::parse(text), None, "{text}");
        }
    }
}

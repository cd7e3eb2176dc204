//! Origins of browsers, and the CORS headers that follow from them.
//!
//! The protocol: <https://fetch.spec.whatwg.org/#http-cors-protocol>.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HOST, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue};

use super::state::Scheme;
use crate::config::OriginPattern;

/// The origins that may connect.
#[derive(Debug)]
pub struct Origins {
    allowed: Vec<OriginPattern>,
}

impl Origins {
    /// The origins of the config.
    pub fn new(allowed: &[String]) -> Self {
        Self { allowed: allowed.iter().filter_map(|pattern| OriginPattern::parse(pattern)).collect() }
    }

    /// Whether a request may come from where it says it does; one without an `Origin` is not a browser's, or it is that
    /// of a page of ours, or of one that could not read the answer: <https://www.w3.org/TR/fetch-metadata/>.
    pub fn allow(&self, headers: &HeaderMap, scheme: Scheme) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
        };
        let Ok(origin) = origin.to_str() else { return false };
        // No browser sends two, so whoever does means to be taken for what it is not.
        origins.next().is_none()
            && (self.allowed.iter().any(|allowed| allowed.allows(origin)) || is_own(origin, headers, scheme))
    }

    /// Adds the headers that let a browser's page read the response.
    pub fn put_headers(&self, request: &HeaderMap, scheme: Scheme, response: &mut HeaderMap) {
        response.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = request.get(ORIGIN) else { return };
        if self.allow(request, scheme) {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// Adds the headers that answer a preflight.
    pub fn put_preflight(&self, request: &HeaderMap, response: &mut HeaderMap) {
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,POST,OPTIONS"));
        response.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            response.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    }
}

/// The server's own pages may always connect: those of its host, and where the client speaks TLS only those that came
/// over TLS too. Whether it does is not known where a proxy is not trusted, so that there both may.
fn is_own(origin: &str, headers: &HeaderMap, scheme: Scheme) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none()).and_then(|host| host.to_str().ok());
    let insecure = || origin.strip_prefix("http://").filter(|_| scheme == Scheme::Http);
    let authority = origin.strip_prefix("https://").or_else(insecure);
    host.is_some() && host == authority
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::state::Scheme::{Http, Https};

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn listed_and_own_origins_are_allowed() {
        let origins = Origins::new(&["http://localhost:3000".into()]);
        assert!(origins.allow(&headers(&[]), Http));
        assert!(origins.allow(&headers(&[("origin", "http://localhost:3000")]), Http));
        assert!(origins.allow(&headers(&[("origin", "http://localhost:5000"), ("host", "localhost:5000")]), Http));
        assert!(!origins.allow(&headers(&[("origin", "http://evil.test"), ("host", "localhost:5000")]), Http));
        assert!(!origins.allow(&headers(&[("origin", "null")]), Http));
        for (site, is_allowed) in [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)] {
            assert_eq!(origins.allow(&headers(&[("sec-fetch-site", site)]), Http), is_allowed, "{site}");
        }
        let two = headers(&[("origin", "http://localhost:3000"), ("origin", "http://evil.test")]);
        assert!(!origins.allow(&two, Http) && !Origins::new(&["*".into()]).allow(&two, Http));
        let own = [("origin", "http://a.test"), ("host", "a.test"), ("host", "b.test")];
        assert!(!origins.allow(&headers(&own), Http));
        assert!(Origins::new(&["*".into()]).allow(&headers(&[("origin", "http://evil.test")]), Http));
    }

    #[test]
    fn over_tls_only_pages_that_came_over_tls_are_the_servers_own() {
        let origins = Origins::new(&[]);
        let page = |origin| headers(&[("origin", origin), ("host", "live.test:5000")]);
        assert!(origins.allow(&page("https://live.test:5000"), Https));
        assert!(!origins.allow(&page("http://live.test:5000"), Https));
        assert!(origins.allow(&page("http://live.test:5000"), Http));
        assert!(origins.allow(&page("https://live.test:5000"), Http));
        for other in ["https://live.test", "https://live.test:5001", "wss://live.test:5000", "live.test:5000"] {
            assert!(!origins.allow(&page(other), Https), "{other}");
            assert!(!origins.allow(&page(other), Http), "{other}");
        }
    }

    #[test]
    fn the_concrete_origin_is_named_and_credentials_are_allowed() {
        let origins = Origins::new(&["*".into()]);
        let mut response = HeaderMap::new();
        origins.put_headers(&headers(&[("origin", "http://a.test")]), Http, &mut response);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "http://a.test");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(response[VARY], "origin");
    }
}

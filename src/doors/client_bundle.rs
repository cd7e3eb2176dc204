//! The official browser client, served beside the Socket.IO door like the
//! reference server does: `<script src="/ws/socket.io.js">`.
//!
//! `build.rs` embeds the files. The entity tag is the client's version, since
//! a version's files never change.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::headers::RESOURCE_POLICY;

include!(concat!(env!("OUT_DIR"), "/client_bundle.rs"));

/// The names that this door answers to, whether or not their files are embedded.
const NAMES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];

/// The client file of that name, or nothing where the name is none of the client's.
pub(crate) fn serve(name: &str, headers: &HeaderMap) -> Option<Response> {
    NAMES.contains(&name).then(|| {
        let mut response = found(name, headers);
        // Pages of other sites load it, whether or not they may connect.
        response.headers_mut().insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
        response
    })
}

fn found(name: &str, headers: &HeaderMap) -> Response {
    match VERSION {
        Some(version) => embedded(version, FILES, name, headers),
        None => {
            (StatusCode::NOT_FOUND, "The Socket.IO client is not embedded; `make build` embeds it.\n").into_response()
        }
    }
}

/// The answer of a server that has the client.
fn embedded(version: &str, files: &[(&str, &'static [u8])], name: &str, headers: &HeaderMap) -> Response {
    let Some((_, content)) = files.iter().find(|(file, _)| *file == name) else {
        return (StatusCode::NOT_FOUND, "The embedded Socket.IO client has no such file.\n").into_response();
    };
    let tag = format!("\"{version}\"");
    let known = is_known(&tag, headers);
    let caching = [(CACHE_CONTROL, "public, max-age=0".to_owned()), (ETAG, tag)];
    if known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(CONTENT_TYPE, content_type(name))], *content).into_response()
}

/// Whether the client says that it holds this tag. The comparison is the weak
/// one that RFC 9110 (13.1.2) asks for: proxies that compress turn tags weak.
fn is_known(tag: &str, headers: &HeaderMap) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|held| held == "*" || held.strip_prefix("W/").unwrap_or(held) == tag)
}

fn content_type(name: &str) -> &'static str {
    if name.ends_with(".map") { "application/json; charset=utf-8" } else { "application/javascript; charset=utf-8" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[(&str, &[u8])] = &[("socket.io.js", b"js"), ("socket.io.js.map", b"{}")];

    fn asked(name: &str, if_none_match: Option<&'static str>) -> Response {
        let held = if_none_match.map(|value| (IF_NONE_MATCH, HeaderValue::from_static(value)));
        embedded("4.8.4", SAMPLE, name, &held.into_iter().collect())
    }

    async fn body(response: Response) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("the body is in memory").to_vec()
    }

    #[tokio::test]
    async fn a_file_comes_with_its_type_tag_and_caching() {
        let response = asked("socket.io.js", None);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/javascript; charset=utf-8");
        assert_eq!(response.headers()[CACHE_CONTROL], "public, max-age=0");
        assert_eq!(response.headers()[ETAG], "\"4.8.4\"");
        assert_eq!(response.headers().get_all(CONTENT_TYPE).iter().count(), 1);
        assert_eq!(body(response).await, b"js");
    }

    #[test]
    fn a_source_map_is_json() {
        assert_eq!(asked("socket.io.js.map", None).headers()[CONTENT_TYPE], "application/json; charset=utf-8");
    }

    #[tokio::test]
    async fn a_held_version_is_not_sent_again() {
        for held in ["\"4.8.4\"", "W/\"4.8.4\"", "\"4.8.3\", W/\"4.8.4\"", "\"4.8.3\",\"4.8.4\"", "*"] {
            let response = asked("socket.io.js", Some(held));
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{held}");
            assert_eq!(response.headers()[ETAG], "\"4.8.4\"", "{held}");
            assert!(body(response).await.is_empty(), "{held}");
        }
    }

    #[test]
    fn another_version_is_sent() {
        for held in ["\"4.8.3\"", "4.8.4", "\"14.8.4\"", ""] {
            assert_eq!(asked("socket.io.js", Some(held)).status(), StatusCode::OK, "{held}");
        }
    }

    #[test]
    fn a_file_that_the_client_does_not_ship_is_not_found() {
        assert_eq!(asked("socket.io.min.js", None).status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn only_the_clients_own_names_are_answered() {
        for name in ["", "socket.io", "../package.json", "socket.io.JS", "socket.io.js.map.map", "package.json"] {
            assert!(serve(name, &HeaderMap::new()).is_none(), "{name}");
        }
    }

    #[tokio::test]
    async fn every_build_is_served_or_the_hint_says_how() {
        for name in NAMES {
            let response = serve(name, &HeaderMap::new()).expect("a known name");
            if VERSION.is_some() {
                assert_eq!(response.status(), StatusCode::OK, "{name}");
                assert!(!body(response).await.is_empty(), "{name}");
            } else {
                assert_eq!(response.status(), StatusCode::NOT_FOUND, "{name}");
                assert!(String::from_utf8_lossy(&body(response).await).contains("make build"), "{name}");
            }
        }
    }
}

//! What every response says to browsers: that it is no page to be framed, guessed at, kept or read by other sites.
//!
//! A response that says something else about one of these keeps its word.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, StatusCode};

use super::http::ApiError;

/// Who may load a response without asking: <https://fetch.spec.whatwg.org/#cross-origin-resource-policy-header>.
pub(super) const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// For pages: scripts and styles from files of this server only, and calls to it.
pub(super) const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

const DEFAULTS: [(HeaderName, HeaderValue); 7] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (OPENER_POLICY, HeaderValue::from_static("same-origin")),
    (RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Adds what a response does not say yet.
pub(super) async fn complete(mut response: Response) -> Response {
    // What follows a switch of protocols is no document.
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        for (name, value) in &DEFAULTS {
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
    }
    response
}

/// The answer to a request whose handling has failed in a way that nobody expected; the panic itself is on stderr.
pub(super) fn panicked(_: Box<dyn std::any::Any + Send>) -> http::Response<Body> {
    ApiError::internal().into_response()
}

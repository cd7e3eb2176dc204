//! Who reads what is of clients: a backend with its key, or a client with its own token.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::caller::Caller;
use super::error::ApiError;
use crate::auth::Identity;
use crate::doors::state::Doors;

/// Either of both.
#[derive(Debug)]
pub(in crate::doors) enum Reader {
    /// A backend.
    Caller(Caller),
    /// A client.
    Client(Box<Identity>),
}

impl FromRequestParts<Arc<Doors>> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, doors: &Arc<Doors>) -> Result<Self, ApiError> {
        let authenticator = doors.sessions.authenticator();
        match bearer(&parts.headers).filter(|text| is_token(text) && authenticator.tokens().is_ok()) {
            Some(token) => Ok(Self::Client(Box::new(authenticator.bearer(token, None)?))),
            None => Caller::from_request_parts(parts, doors).await.map(Self::Caller),
        }
    }
}

/// Whether a text has the shape of a token (RFC 7515, section 7.1), which no key of ours has.
fn is_token(text: &str) -> bool {
    text.split('.').count() == 3
}

/// `Authorization: Bearer <text>`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, text) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

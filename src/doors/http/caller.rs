//! Who calls, from the headers of a request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::error::ApiError;
use crate::auth::{self, Identity, Request};
use crate::config::Right;
use crate::doors::state::{Doors, Peer};
use crate::rooms::Id;

/// A caller whose key is known, or who needs none.
#[derive(Debug)]
pub(in crate::doors) struct Caller(auth::Caller);

impl Caller {
    /// Fails unless the caller has a right.
    pub(in crate::doors) fn require(&self, right: Right) -> Result<(), ApiError> {
        if self.0.has(right) {
            return Ok(());
        }
        let right = serde_json::to_string(&right).unwrap_or_default();
        Err(ApiError::forbidden(format!("this key lacks the right {right}")))
    }

    /// Name of the caller's key.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether the caller may touch an organization; what belongs to none is only for unbound callers.
    pub(in crate::doors) fn may_touch(&self, organization: Option<&Id>) -> bool {
        organization.map_or_else(|| self.0.is_unbound(), |organization| self.0.may_touch(organization))
    }
}

impl FromRequestParts<Arc<Doors>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, doors: &Arc<Doors>) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<Peer>().ok_or_else(|| ApiError::forbidden("no address"))?;
        let headers = &parts.headers;
        let origin_allowed = doors.origins.allow(headers);
        let request = Request { bound: doors.bound, peer: peer.0, headers, origin_allowed };
        Ok(Self(doors.keys.caller(key(headers), request)?))
    }
}

/// `Authorization: Bearer <key>` or `X-API-Key: <key>`.
fn key(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()))
}

/// A reader or a bearer of a token: either a key of the API, or a client with its own token.
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

/// Whether a text has the shape of a token (RFC 7515, section 7.1), which no key has.
pub(super) fn is_token(text: &str) -> bool {
    text.split('.').count() == 3
}

/// `Authorization: Bearer <text>`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, text) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

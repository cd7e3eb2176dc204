//! Who calls, from the headers of a request, and what they may do.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::error::ApiError;
use super::rates::KeyRates;
use super::refusals::Who;
use crate::auth::{self, Reach, Request};
use crate::config::Right;
use crate::doors::state::{Doors, Peer};
use crate::rooms::Id;

/// A caller whose key is known, or who needs none.
#[derive(Debug)]
pub(in crate::doors) struct Caller {
    known: auth::Caller,
    rates: Option<Arc<KeyRates>>,
}

impl Caller {
    /// Fails unless the caller has a right.
    pub(in crate::doors) fn require(&self, right: Right) -> Result<(), ApiError> {
        if self.known.has(right) {
            return Ok(());
        }
        let right = serde_json::to_string(&right).unwrap_or_default();
        Err(ApiError::forbidden(format!("this key lacks the right {right}")))
    }

    /// Counts an event that the caller publishes.
    ///
    /// # Errors
    /// If it may publish none, or not so many.
    pub(in crate::doors) async fn may_publish(&self) -> Result<(), ApiError> {
        self.require(Right::Publish)?;
        match &self.rates {
            Some(rates) => rates.publishes().await,
            None => Ok(()),
        }
    }

    /// Counts a call that publishes nothing.
    ///
    /// # Errors
    /// If the caller lacks the right, or calls too often.
    pub(in crate::doors) fn may_call(&self, right: Right) -> Result<(), ApiError> {
        self.require(right)?;
        self.rates.as_ref().map_or(Ok(()), |rates| rates.reads())
    }

    /// Name of the caller's key.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.known.name
    }

    /// Whether the caller may touch an organization; what belongs to none is only for unbound callers.
    pub(in crate::doors) fn may_touch(&self, organization: Option<&Id>) -> bool {
        self.reach().contains(organization)
    }

    /// The organizations that the caller may touch.
    pub(super) fn reach(&self) -> &Reach {
        self.known.reach()
    }
}

impl FromRequestParts<Arc<Doors>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, doors: &Arc<Doors>) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<Peer>().ok_or_else(|| ApiError::forbidden("no address"))?;
        let headers = &parts.headers;
        let origin_allowed = doors.origins.allow(headers, peer.hop.scheme);
        let request = Request { bound: doors.bound, peer: peer.hop.address, headers, origin_allowed };
        let outcome = doors.keys.caller(key(headers)?, request);
        let known = doors.attempts.judge(peer.client.ip(), outcome)?;
        if let Some(who) = parts.extensions.get::<Who>() {
            who.is(&known.name);
        }
        Ok(Self { rates: doors.rates.of(&known.name), known })
    }
}

/// `Authorization: Bearer <key>` or `X-API-Key: <key>`; said twice, it has to be the same.
fn key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok()?.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
    let plain = headers.get_all("x-api-key").iter().filter_map(|value| value.to_str().ok()).map(str::trim);
    let mut keys = bearer.chain(plain);
    let first = keys.next();
    if keys.any(|other| Some(other) != first) {
        return Err(ApiError::bad_request("the call has several keys; give one"));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Result<Option<String>, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        key(&map).map(|key| key.map(str::to_owned)).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn a_call_has_one_key_in_whatever_header() {
        let key = Ok(Some("k".to_owned()));
        for headers in [
            &[("authorization", "Bearer k")][..],
            &[("authorization", "bearer  k ")],
            &[("x-api-key", "k")],
            &[("authorization", "Basic YTpi"), ("x-api-key", "k")],
            &[("authorization", "Bearer k"), ("x-api-key", "k")],
        ] {
            assert_eq!(read(headers), key, "{headers:?}");
        }
        for headers in [&[("authorization", "k")][..], &[("authorization", "Basic k")], &[("cookie", "key=k")], &[]] {
            assert_eq!(read(headers), Ok(None), "{headers:?}");
        }
        for headers in [
            [("authorization", "Bearer k"), ("x-api-key", "other")],
            [("x-api-key", "k"), ("x-api-key", "other")],
            [("authorization", "Bearer k"), ("authorization", "Bearer other")],
        ] {
            assert_eq!(read(&headers), Err(400), "{headers:?}");
        }
    }
}

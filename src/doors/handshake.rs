//! Handshakes: who may open a connection, decided before one exists.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::origin::Origins;
use super::state::Doors;
use crate::auth::{self, Bearer, Request};
use crate::config::AuthMode;
use crate::connection::{EngineIo, Peer};
use crate::limits::Seat;
use crate::stats::Refusal;
use crate::wire::{Code, Forms, WireError};

/// The query of an Engine.IO request; it cannot be printed, since it holds the session id and a token.
#[derive(Default)]
pub(super) struct Query<'a> {
    /// Version of the protocol, if it is one we speak.
    pub(super) protocol: Option<EngineIo>,
    pub(super) transport: Option<&'a str>,
    /// Engine.IO's session id.
    pub(super) sid: Option<&'a str>,
    /// The node that holds the session, in front of the id: `<node>.<sid>`.
    pub(super) node: Option<&'a str>,
    pub(super) forms: Option<Forms>,
    /// As it is written, percent-encoded.
    pub(super) token: Option<&'a str>,
}

impl<'a> Query<'a> {
    pub(super) fn parse(query: Option<&'a str>) -> Self {
        let query = query.unwrap_or_default();
        let value = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
        };
        let told = value("sid");
        let split = told.and_then(|told| told.split_once('.'));
        Self {
            protocol: match value("EIO") {
                Some("4") => Some(EngineIo::V4),
                Some("3") => Some(EngineIo::V3),
                _ => None,
            },
            transport: value("transport"),
            sid: split.map(|(_, sid)| sid).or(told),
            node: split.map(|(node, _)| node),
            forms: value("forms").and_then(Forms::parse),
            token: value("token"),
        }
    }
}

/// Where a connection comes in, and what its handshake is checked by.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    /// Address of the listener.
    pub(super) bound: SocketAddr,
    /// Whether a client is taken at its word.
    pub(super) believes: bool,
    /// Which browsers may come in.
    pub(super) origins: Arc<Origins>,
}

impl Doors {
    /// Where Socket.IO clients come in.
    pub(super) fn main_gate(&self) -> Gate {
        let believes = self.config.auth.mode == AuthMode::Trusted;
        Gate { bound: self.bound, believes, origins: self.origins.clone() }
    }

    /// Waits until a new connection's turn has come; else the response that refuses it.
    pub(super) async fn take_turn(
        &self,
        headers: &HeaderMap,
        peer: super::Peer,
        gate: &Gate,
    ) -> Result<(), Box<Response>> {
        // Who is not let in anyway takes nobody's turn.
        self.check_handshake(headers, peer, gate)?;
        // Whoever would wait longer than all that there may be finds no seat either.
        if self.pace.turn(peer.client.ip()).await { Ok(()) } else { Err(self.full(Refusal::Handshakes)) }
    }

    /// A seat for a new connection, or the response that refuses it.
    pub(super) fn admit_handshake(
        &self,
        headers: &HeaderMap,
        peer: super::Peer,
        gate: &Gate,
    ) -> Result<Seat, Box<Response>> {
        self.check_handshake(headers, peer, gate)?;
        self.seats.take(peer.client.ip()).ok_or_else(|| self.full(Refusal::Seats))
    }

    fn check_handshake(&self, headers: &HeaderMap, peer: super::Peer, gate: &Gate) -> Result<(), Box<Response>> {
        if self.is_stopping() || self.draining.refuses() {
            return Err(refused(StatusCode::SERVICE_UNAVAILABLE, &WireError::Stopping));
        }
        if gate.believes && !self.config.auth.allow_trusted {
            let origin_allowed = gate.origins.allow(headers, peer.hop.scheme);
            let request = Request { bound: gate.bound, peer: peer.hop.address, headers, origin_allowed };
            if let Some(reason) = auth::unmet(request) {
                let message = format!(
                    "a client is taken at its word here, which serves only this machine, and {reason}; have clients \
                     prove who they are (auth.mode, or the door's identity), or set auth.allow_trusted"
                );
                let body = json!({ "error": message, "message": message, "code": Code::AuthFailed });
                return Err(Box::new((StatusCode::UNAUTHORIZED, axum::Json(body)).into_response()));
            }
        }
        Ok(())
    }

    /// The refusal of a server that has no seat left, or not for somebody whom nobody knows.
    fn full(&self, refusal: Refusal) -> Box<Response> {
        self.counters.refused(refusal);
        let limit = self.seats.limit();
        let error = if self.seats.taken() < limit { WireError::Crowded } else { WireError::ServerFull(limit) };
        self.counters.error(&error.to_string());
        refused(StatusCode::SERVICE_UNAVAILABLE, &error)
    }
}

/// A refusal that a stock client meets with another try.
fn refused(status: StatusCode, error: &WireError) -> Box<Response> {
    let message = error.to_string();
    let body = json!({ "error": message, "message": message, "code": error.code() });
    let mut response = (status, axum::Json(body)).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
    Box::new(response)
}

/// The other end, as far as its handshake tells.
pub(super) fn peer_of(headers: &HeaderMap, peer: super::Peer, query: &Query<'_>) -> Peer {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    Peer {
        address: peer.client,
        user_agent: agent.map(|agent| agent.chars().take(256).collect::<String>().into()),
        protocol: query.protocol.unwrap_or(EngineIo::V4),
        forms: query.forms,
        bearer: bearer_of(headers, query),
        plain: None,
    }
}

/// The token of a handshake: `?token=`, or else `Authorization: Bearer <token>`.
pub(super) fn bearer_of(headers: &HeaderMap, query: &Query<'_>) -> Option<Bearer> {
    let token = query.token.map(|token| percent_decode_str(token).decode_utf8_lossy());
    token.as_deref().and_then(Bearer::new).or_else(|| {
        let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Bearer::new(token.trim())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_exactly() {
        let query = Query::parse(Some("EIO=4&transport=websocket&sid=abc&forms=named&t=x"));
        assert_eq!(query.protocol, Some(EngineIo::V4));
        assert_eq!((query.transport, query.sid, query.forms), (Some("websocket"), Some("abc"), Some(Forms::Named)));
        assert_eq!(query.node, None);
        let query = Query::parse(Some("EIO=4&sid=node.abc.d"));
        assert_eq!((query.node, query.sid), (Some("node"), Some("abc.d")));
        let query = Query::parse(Some("xEIO=4&EIO=5&xsid=1"));
        assert!(query.protocol.is_none() && query.sid.is_none());
        assert!(Query::parse(None).protocol.is_none());
    }
}

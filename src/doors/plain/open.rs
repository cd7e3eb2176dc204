//! Upgrades to a plain WebSocket: found by path before everything else, and checked before 101 is answered.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::UPGRADE;
use http::{HeaderValue, Request, StatusCode};
use serde_json::json;

use super::clients::Owner;
use super::list::{Place, PlainDoor, parameter, written};
use crate::auth::Credentials;
use crate::config::DoorIdentity;
use crate::connection::Plain;
use crate::doors::handshake::{Gate, Query, bearer_of, peer_of};
use crate::doors::http::ApiError;
use crate::doors::state::{Doors, Peer};
use crate::doors::upgrade::{self, PlainWay};

/// A listener of a door's own: every path leads there.
#[derive(Debug, Clone, Copy)]
pub(in crate::doors) struct Entrance {
    /// Number of the door.
    pub(in crate::doors) door: u8,
    /// Address that the listener is bound to.
    pub(in crate::doors) bound: SocketAddr,
}

/// Takes the upgrades that are for a plain door; everything else goes on.
pub(in crate::doors) async fn first(State(doors): State<Arc<Doors>>, request: Request<Body>, next: Next) -> Response {
    if !upgrade::is_upgrade(request.headers()) {
        return next.run(request).await;
    }
    let entrance = request.extensions().get::<Entrance>().copied();
    let found = match entrance {
        Some(entrance) => Some((entrance.door, Place::default())),
        None => find(&doors, request.uri().path(), request.uri().query().unwrap_or_default()),
    };
    let response = match found {
        Some((number, place)) => {
            let bound = entrance.map_or(doors.bound, |entrance| entrance.bound);
            open(&doors, number, place, bound, request).await
        }
        None => next.run(request).await,
    };
    upgrade::settle(response)
}

/// What a listener of a door's own answers to everything else.
pub(in crate::doors) async fn only() -> Response {
    let message = "this address serves WebSockets only\n";
    (StatusCode::UPGRADE_REQUIRED, [(UPGRADE, HeaderValue::from_static("websocket"))], message).into_response()
}

fn find(doors: &Doors, path: &str, query: &str) -> Option<(u8, Place)> {
    // A query that names the protocol's version is meant for Socket.IO, whatever else is wrong with it.
    if query.split('&').any(|pair| pair.starts_with("EIO=")) && is_socketio(doors, path) {
        return None;
    }
    doors.plain.iter().enumerate().find_map(|(number, door)| Some((number as u8, door.place(path)?)))
}

/// Whether a path is one of the Socket.IO door's.
fn is_socketio(doors: &Doors, path: &str) -> bool {
    let server = &doors.config.server;
    let path = path.strip_suffix('/').unwrap_or(path);
    std::iter::once(&server.path).chain(&server.path_aliases).any(|own| own == path)
}

async fn open(doors: &Arc<Doors>, number: u8, place: Place, bound: SocketAddr, request: Request<Body>) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        return ApiError::forbidden("no address").into_response();
    };
    let PlainDoor { dialect, door, origins, batch_ms, .. } = &doors.plain[usize::from(number)];
    let headers = request.headers();
    let gate = Gate { bound, believes: door.identity == DoorIdentity::Declared, origins: origins.clone() };
    if let Err(refusal) = doors.take_turn(headers, peer, &gate).await {
        return *refusal;
    }
    let query = request.uri().query().unwrap_or_default();
    let token = written(query, "token");
    let bearer = bearer_of(headers, &Query { token, ..Query::default() });
    if let Some(bearer) = &bearer {
        door.look_for_key(bearer).await;
    }
    // Said in the CONNECT, so that whoever names nobody later is still known by it.
    let auth = bearer.map_or_else(|| json!({}), |bearer| json!({ "token": bearer.reveal() })).to_string();
    let mut way = PlainWay { auth, gate, claim: None };
    if let Some(id) = &place.client_id {
        let known = Credentials::read(&way.auth).and_then(|credentials| door.identify(&credentials)).ok().flatten();
        let user = known.filter(|identity| !identity.anonymous).map(|identity| identity.user);
        let owner = Owner { user, address: peer.client.ip().to_canonical() };
        if !doors.clients.may_take(id, &owner) {
            return ApiError::taken(format!("client id {id:?} is in use by somebody else")).into_response();
        }
        let (doors, id) = (doors.clone(), id.clone());
        way.claim = Some(Box::new(move |connection| doors.clients.take(&id, owner, connection)));
    }
    let batch_ms = parameter(query, "batch_ms").and_then(|ms| ms.parse().ok()).unwrap_or(*batch_ms);
    let plain = Plain {
        dialect: dialect.clone(),
        number,
        door: door.clone(),
        client_id: place.client_id.map(Into::into),
        batch_ms,
    };
    let mut other_end = peer_of(headers, peer, &Query::default());
    other_end.plain = Some(Box::new(plain));
    upgrade::open_plain(doors, peer, other_end, way, request)
}

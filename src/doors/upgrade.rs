//! WebSocket upgrades: everything is checked before 101 is answered.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tungstenite::handshake::derive_accept_key;

use super::handshake::{Gate, Query, peer_of};
use super::origin::Origins;
use super::socketio::refusal;
use super::state::{Doors, Peer};
use crate::connection::{self, Connection, EngineIo, EngineStream, Prober, Transport, negotiate};
use crate::limits::{Arrival, Seat};

/// What the stream becomes once the handshake is done.
enum Purpose {
    /// A connection that begins here.
    New(Seat, connection::Peer),
    /// One of a client that does not speak Socket.IO.
    Plain(Seat, connection::Peer, PlainWay),
    /// The upgrade of one that began on polling.
    Upgrade(Prober, String),
}

/// How a client that does not speak Socket.IO comes in.
pub(super) struct PlainWay {
    /// The JSON of its credentials.
    pub(super) auth: String,
    /// Where it does.
    pub(super) gate: Gate,
    /// Takes the id that it has given itself; false if somebody else has it.
    pub(super) claim: Option<Claim>,
}

type Claim = Box<dyn FnOnce(&Arc<Connection>) -> bool + Send>;

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| {
        let value = headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        value.is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    has(UPGRADE, "websocket") && has(CONNECTION, "upgrade")
}

/// The answer to a request that asked for a WebSocket: if it gets none, nothing more is read from its connection, since
/// a proxy may believe that a WebSocket is open and pass on what it would not pass on as a request.
pub(super) fn settle(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Answers 101 and hands the stream to Engine.IO, or refuses.
pub(super) fn open(doors: &Arc<Doors>, peer: Peer, query: &Query<'_>, mut request: Request<Body>) -> Response {
    let key = match check(&request, peer, &doors.origins) {
        Ok(key) => key,
        Err(response) => return *response,
    };
    let headers = request.headers();
    let purpose = match query.sid {
        None => match doors.admit_handshake(headers, peer, &doors.main_gate()) {
            Ok(seat) => Purpose::New(seat, peer_of(headers, peer, query)),
            Err(response) => return *response,
        },
        Some(sid) => match doors.polling.get(sid).and_then(|connection| connection.prober()) {
            Some(prober) => Purpose::Upgrade(prober, sid.to_owned()),
            None => return refusal(1),
        },
    };
    accept(doors, &key, purpose, &mut request)
}

/// The same for a client that does not speak Socket.IO.
pub(super) fn open_plain(
    doors: &Arc<Doors>,
    peer: Peer,
    other_end: connection::Peer,
    way: PlainWay,
    mut request: Request<Body>,
) -> Response {
    let key = match check(&request, peer, &way.gate.origins) {
        Ok(key) => key,
        Err(response) => return *response,
    };
    let seat = match doors.admit_handshake(request.headers(), peer, &way.gate) {
        Ok(seat) => seat,
        Err(response) => return *response,
    };
    accept(doors, &key, Purpose::Plain(seat, other_end, way), &mut request)
}

/// The key of a handshake that is in order.
fn check(request: &Request<Body>, peer: Peer, origins: &Origins) -> Result<HeaderValue, Box<Response>> {
    let headers = request.headers();
    let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    // RFC 6455, section 4.2.1. What would follow as a body could be taken for frames, or the other way round.
    let in_order =
        request.method() == Method::GET && request.version() >= Version::HTTP_11 && request.body().is_end_stream();
    let Some(key) = key(headers).filter(|_| in_order) else {
        return Err(Box::new(refusal(3)));
    };
    if version != Some(b"13") {
        return Err(Box::new((StatusCode::UPGRADE_REQUIRED, [(SEC_WEBSOCKET_VERSION, "13")]).into_response()));
    }
    // Browsers do not guard WebSockets by CORS: a page of any origin could open one.
    if !origins.allow(headers, peer.hop.scheme) {
        return Err(Box::new(refusal(4)));
    }
    Ok(key.clone())
}

/// The one key of a handshake: 16 bytes in base64.
fn key(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().filter(|_| keys.next().is_none())?;
    STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16).then_some(key)
}

fn accept(doors: &Arc<Doors>, key: &HeaderValue, purpose: Purpose, request: &mut Request<Body>) -> Response {
    let accept = derive_accept_key(key.as_bytes());
    let extension = doors.config.compression.compression_enabled.then(|| negotiate(request.headers())).flatten();
    let upgrade = hyper::upgrade::on(&mut *request);
    let arrival = request.extensions_mut().remove::<Arc<Arrival>>();
    let doors = doors.clone();
    doors.plane.clone().spawn(hand_over(doors, upgrade, arrival, purpose, extension.is_some()));
    let accept = HeaderValue::from_str(&accept).expect("base64 is a valid header");
    let headers = [
        (UPGRADE, HeaderValue::from_static("websocket")),
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    if let Some(extension) = extension {
        response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, extension);
    }
    response
}

/// Waits for the bare stream; the request and its buffers are gone by then.
async fn hand_over(
    doors: Arc<Doors>,
    upgrade: OnUpgrade,
    arrival: Option<Arc<Arrival>>,
    purpose: Purpose,
    deflate: bool,
) {
    let Ok(Some((transport, read))) = upgrade.await.map(bare_stream) else { return };
    let (seat, peer, way) = match purpose {
        Purpose::New(seat, peer) => (seat, peer, None),
        Purpose::Plain(seat, peer, way) => (seat, peer, Some(way)),
        Purpose::Upgrade(prober, sid) => {
            return go_over(&doors, prober, (transport, arrival), &read, deflate, &sid).await;
        }
    };
    let address = match peer.protocol {
        EngineIo::V3 => Uri::from_static("/ws/?EIO=3&transport=websocket"),
        EngineIo::V4 => Uri::from_static("/ws/?EIO=4&transport=websocket"),
    };
    let connection = Connection::over_websocket(&doors.plane, peer, seat, transport);
    arrival.into_iter().for_each(|arrival| connection.hold(arrival));
    if deflate {
        connection.set_deflate();
    }
    let stream = match way {
        None => EngineStream::new(connection.clone(), &read),
        Some(PlainWay { claim, auth, .. }) => {
            let stream = EngineStream::plain(connection.clone(), &read, &auth);
            // Two may have asked for the same id at once.
            if claim.is_some_and(|claim| !claim(&connection)) {
                return connection.cut();
            }
            stream
        }
    };
    doors.engine.serve_stream(stream, &connection, address);
}

/// Takes a session over from polling, once its client says that it goes over.
async fn go_over(
    doors: &Doors,
    prober: Prober,
    (transport, arrival): (Transport, Option<Arc<Arrival>>),
    read: &[u8],
    deflate: bool,
    sid: &str,
) {
    let Some((connection, probed)) = prober.probe(&transport, read, deflate).await else { return };
    if !connection.switch(transport, deflate) {
        return;
    }
    arrival.into_iter().for_each(|arrival| connection.hold(arrival));
    let version = if connection.peer().protocol == EngineIo::V3 { 3 } else { 4 };
    let Ok(address) = format!("/ws/?EIO={version}&transport=websocket&sid={sid}").parse() else { return };
    let stream = EngineStream::upgraded(connection.clone(), probed);
    doors.engine.serve_stream(stream, &connection, address);
}

/// The stream that a request came by, and what was read of it behind the request.
fn bare_stream(upgraded: Upgraded) -> Option<(Transport, Vec<u8>)> {
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Some((Transport::Plain(unwatched(parts.io.into_inner())), parts.read_buf.into())),
        Err(upgraded) => upgraded,
    };
    let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
    let (tcp, session) = parts.io.into_inner().into_inner();
    let (transport, behind) = Transport::secured(unwatched(tcp), session).ok()?;
    Some((transport, [&parts.read_buf[..], &behind].concat()))
}

/// From here on a connection watches over its reader itself.
fn unwatched(tcp: TcpStream) -> TcpStream {
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&tcp).set_tcp_user_timeout(None).ok();
    tcp
}

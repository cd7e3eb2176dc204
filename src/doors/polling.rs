//! The polling front: what Engine.IO's polling lacks.
//!
//! Requests get our connection, and their packets are looked through; the
//! public id replaces the Engine.IO session id in CONNECT replies.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::body::HttpBody;
use axum::response::{IntoResponse, Response};
use futures_util::future::poll_immediate;
use futures_util::stream::unfold;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;

use super::handshake::{Query, peer_of};
use super::socketio::refusal;
use super::state::{Doors, Peer};
use crate::connection::{Connection, EngineIo, Format, Handle, Posted, measured};
use crate::stats::Refusal;
use crate::wire::{WireError, packet};

/// Closes a transport.
const CLOSE: &str = "1";

/// Says nothing.
const NOOP: &str = "6";

/// Separates the packets of a payload.
const SEPARATOR: char = '\u{1e}';

pub(super) async fn serve(doors: &Arc<Doors>, peer: Peer, query: &Query<'_>, request: Request<Body>) -> Response {
    let Some(sid) = query.sid else {
        return if request.method() == Method::GET { open(doors, peer, query, request).await } else { refusal(2) };
    };
    let Some(connection) = doors.polling.get(sid) else { return refusal(1) };
    // Engine.IO reads a payload by the version of the request, and we check it by that of the session.
    if query.protocol != Some(connection.peer().protocol) {
        return refusal(3);
    }
    match *request.method() {
        Method::GET => poll(doors, &connection, request).await,
        Method::POST => post(doors, &connection, request).await,
        _ => refusal(3),
    }
}

/// A handshake.
async fn open(doors: &Arc<Doors>, peer: Peer, query: &Query<'_>, request: Request<Body>) -> Response {
    let seat = match doors.admit_handshake(request.headers(), peer, &doors.main_gate()) {
        Ok(seat) => seat,
        Err(response) => return *response,
    };
    let connection = Connection::over_polling(&doors.plane, peer_of(request.headers(), peer, query), seat);
    // Engine.IO keeps the request for as long as the session lives: it gets one without headers.
    let mut bare = Request::get(request.uri().clone()).body(Body::empty()).unwrap_or_default();
    bare.extensions_mut().insert(Handle::Polling(connection.clone()));
    let limit = doors.config.limits.max_message_size_bytes;
    let mut session = None;
    let response = rewrite(doors.engine.serve(bare).await, |payload| {
        let (head, open) = payload.split_at(payload.find('{')?);
        let mut value: serde_json::Value = serde_json::from_str(open).ok()?;
        value["maxPayload"] = limit.into();
        let sid = value["sid"].as_str()?;
        doors.polling.insert(sid, &connection);
        session = sid.parse().ok();
        connection.set_sid(session?);
        if let Some(neighbours) = &doors.neighbours {
            value["sid"] = neighbours.told(sid).into();
        }
        let open = format!("0{value}");
        // Version 3 puts the length in front of every packet.
        Some(if head.contains(':') { format!("{}:{open}", open.chars().count()) } else { open })
    })
    .await;
    if let (Some(sid), EngineIo::V4) = (session, connection.peer().protocol) {
        doors.engine.answer_first_ping(sid).await;
    }
    response
}

/// A client fetches what waits for it.
async fn poll(doors: &Doors, connection: &Arc<Connection>, request: Request<Body>) -> Response {
    let protocol = connection.peer().protocol;
    if connection.is_switching() {
        return payload(protocol, NOOP);
    }
    let (guard, last) = connection.poll();
    let mut served = std::pin::pin!(doors.engine.serve(request));
    let response = match poll_immediate(served.as_mut()).await {
        Some(response) => response,
        None => {
            // Nothing is left to fetch: a session that is retiring closes here.
            if last {
                connection.cut();
            }
            // Engine.IO takes nothing out of its queue before it answers, so a poll can end without an answer.
            tokio::select! {
                biased;
                response = served => response,
                () = connection.poll_should_end() => return payload(protocol, NOOP),
            }
        }
    };
    // It does not wait any more: what comes now is for the next one.
    drop(guard);
    let mut idle = response.status() != StatusCode::OK;
    let response = rewrite(response, |payload| match protocol {
        EngineIo::V3 => {
            idle = !payload.contains(":4");
            for message in measured(payload).flatten() {
                if !passes_mark(message, connection) {
                    // Its CONNECT reply carries no id, so there is nothing to change.
                    welcome(message, connection);
                }
            }
            None
        }
        EngineIo::V4 => {
            idle = !payload.split(SEPARATOR).any(|message| message.starts_with(['4', 'b']));
            let messages = payload.split(SEPARATOR).filter(|message| !passes_mark(message, connection));
            let messages: Vec<String> = messages.map(|message| welcome(message, connection)).collect();
            Some(if messages.is_empty() { NOOP.to_owned() } else { messages.join(&SEPARATOR.to_string()) })
        }
    })
    .await;
    connection.took(response.body().size_hint().lower() as usize);
    // Whoever reads a CONNECT reply counts on being reached.
    connection.all_entered().await;
    // A stock client takes a failed poll for a fault of the network, and what comes in one payload with a
    // close for lost: a session that was cut says so in a payload of its own.
    if idle && connection.is_severed() { payload(protocol, CLOSE) } else { response }
}

/// A payload of one packet.
fn payload(protocol: EngineIo, packet: &str) -> Response {
    let payload = match protocol {
        EngineIo::V3 => format!("{}:{packet}", packet.len()),
        EngineIo::V4 => packet.to_owned(),
    };
    ([(CONTENT_TYPE, "text/plain; charset=UTF-8")], payload).into_response()
}

/// Whether a message is a mark behind which nothing waits, which a poll was quicker to fetch than the WebSocket.
fn passes_mark(message: &str, connection: &Arc<Connection>) -> bool {
    let mark = connection.mark_of(message);
    if let Some(mark) = mark {
        connection.pass_mark(mark);
    }
    mark.is_some()
}

/// A CONNECT reply with our public id; any other message as it is.
fn welcome(message: &str, connection: &Connection) -> String {
    let reply = message.strip_prefix('4').filter(|rest| rest.starts_with('0')).and_then(packet::parse);
    match reply.and_then(|reply| Some((reply.namespace, connection.open(reply.namespace)?))) {
        Some((namespace, admission)) => packet::connect(namespace, &admission),
        None => message.to_owned(),
    }
}

/// A client sends packets.
async fn post(doors: &Doors, connection: &Arc<Connection>, request: Request<Body>) -> Response {
    // As with the reference server: what comes at once has no order, and one body is held at a time.
    let Some(_posting) = connection.post() else {
        doors.counters.refused(Refusal::OverlappingPolls);
        return refusal(3);
    };
    let (parts, body) = request.into_parts();
    let limit = connection.max_held_bytes();
    let body = match Limited::new(body, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            doors.counters.refused(Refusal::LargeMessages);
            return too_large(limit);
        }
        Err(_) => return refusal(3),
    };
    let binary = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/octet-stream");
    let format = match connection.peer().protocol {
        EngineIo::V4 => Format::V4,
        EngineIo::V3 if binary => Format::V3Binary,
        EngineIo::V3 => Format::V3,
    };
    let Some(posted) = Posted::read(format, &body, connection) else { return refusal(3) };
    let closes = posted.closes();
    let packets = unfold(posted, async |mut posted| Some((Ok::<_, Infallible>(posted.next().await?), posted)));
    let mut request = Request::from_parts(parts, Body::from_stream(packets));
    // What is left of it is text.
    request.headers_mut().remove(CONTENT_TYPE);
    request.headers_mut().remove(CONTENT_LENGTH);
    let response = doors.engine.serve(request).await;
    // Engine.IO stops at the first packet it does not like: only what it took has closed the session.
    if closes && response.status() == StatusCode::OK {
        connection.release_seat();
    }
    response
}

pub(super) fn too_large(limit: usize) -> Response {
    let error = WireError::TooLarge { size: limit.saturating_add(1), limit };
    let body = json!({ "error": error.to_string(), "code": error.code() });
    (StatusCode::PAYLOAD_TOO_LARGE, axum::Json(body)).into_response()
}

/// Replaces a text payload, if `change` has something else to say.
async fn rewrite(response: Response, change: impl FnOnce(&str) -> Option<String>) -> Response {
    let text = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if response.status() != StatusCode::OK || !text {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let changed = std::str::from_utf8(&body).ok().and_then(change);
    let body = changed.map_or(body, Into::into);
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    parts.headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Response::from_parts(parts, Body::from(body))
}

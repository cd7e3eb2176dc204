//! Passing on: what came to this node for a session that lives on another.
//!
//! Only what Engine.IO reads goes along: neither cookies nor tokens, and nothing that names the client, since a session
//! knows its client from its handshake. The origin has been checked here.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, request};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::entrance::{PATH, PROOF};
use super::neighbours::Neighbours;
use super::tunnel;
use crate::connection::EngineIo;
use crate::doors::handshake::Query;
use crate::doors::polling::too_large;
use crate::doors::socketio::refusal;
use crate::doors::state::Doors;
use crate::doors::upgrade::is_upgrade;
use crate::limits::Arrival;

/// What a session may need of a request's head. The length keeps a body from being sent in chunks.
const CARRIED: [HeaderName; 5] =
    [CONTENT_TYPE, CONTENT_LENGTH, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_EXTENSIONS];

/// Has the node that holds a session answer. A session that nobody holds is unknown, and so is one whose node is gone
/// or does not answer: its client begins a new one.
pub(in crate::doors) async fn pass_on(doors: &Doors, query: &Query<'_>, mut request: Request<Body>) -> Response {
    let head = doors.neighbours.as_ref().and_then(|others| Some((others, head(others, query, request.headers())?)));
    let Some((neighbours, head)) = head else { return refusal(1) };
    let Ok(head) = head.method(request.method().clone()).body(()) else { return refusal(1) };
    let client = is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let arrival = request.extensions_mut().remove::<Arc<Arrival>>();
    let limit = doors.config.limits.max_message_size_bytes;
    let body = match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return too_large(limit),
        Err(_) => return refusal(3),
    };
    let passed = head.map(|()| Body::from(body));
    let mut response = match tokio::time::timeout(neighbours.patience, neighbours.client.request(passed)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a request could not be passed on to the node of its session");
            return refusal(1);
        }
        Err(_) => return refusal(1),
    };
    match (response.status(), client) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(client)) => {
            let node = hyper::upgrade::on(&mut response);
            doors.tunnels.dig(&doors.plane, tunnel::Ends { client, node }, arrival);
        }
        // It does not know the secret that this node knows, yet.
        (StatusCode::FORBIDDEN, _) => return refusal(1),
        _ => {
            for header in [CONNECTION, TRANSFER_ENCODING] {
                response.headers_mut().remove(header);
            }
        }
    }
    response.map(Body::new)
}

/// The head of what is passed on, but for the method; none if there is nobody who holds the session.
fn head(neighbours: &Neighbours, query: &Query<'_>, headers: &HeaderMap) -> Option<request::Builder> {
    let url = neighbours.url_of(query.node?)?;
    // Nothing else of what the client wrote gets into the address.
    let is_of_an_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let sid = query.sid.filter(|sid| !sid.is_empty() && sid.bytes().all(is_of_an_id))?;
    let version = if query.protocol? == EngineIo::V3 { 3 } else { 4 };
    let transport = if query.transport? == "websocket" { "websocket" } else { "polling" };
    let target = format!("{PATH}?EIO={version}&transport={transport}&sid={sid}");
    let mut head = Request::builder().uri(format!("{url}{target}")).header(PROOF, neighbours.prove(&target)?);
    for name in CARRIED {
        for value in headers.get_all(&name) {
            head = head.header(&name, value);
        }
    }
    if is_upgrade(headers) {
        head = head
            .header(UPGRADE, HeaderValue::from_static("websocket"))
            .header(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    Some(head)
}

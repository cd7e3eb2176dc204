//! The listener of a node for the others: what they pass on.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::header::HeaderName;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};

use crate::doors::handshake::Query;
use crate::doors::socketio::{self, refusal};
use crate::doors::state::{Doors, Peer};

/// Where requests are passed on to.
pub(in crate::doors) const PATH: &str = "/session";

/// Proves that a request is from a node.
pub(super) const PROOF: HeaderName = HeaderName::from_static("x-tiercast-proof");

/// A request for a session that lives here; it is never passed on again.
pub(in crate::doors) async fn receive(
    State(doors): State<Arc<Doors>>,
    Extension(peer): Extension<Peer>,
    request: Request<Body>,
) -> Response {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str()).to_owned();
    let proof = request.headers().get(PROOF).and_then(|proof| proof.to_str().ok()).unwrap_or_default();
    if !doors.neighbours.as_ref().is_some_and(|others| others.is_proven(&target, proof)) {
        return (StatusCode::FORBIDDEN, "this address is for the other nodes of the cluster\n").into_response();
    }
    let query = Query::parse(target.split_once('?').map(|(_, query)| query));
    if query.sid.is_none() || query.node.is_some() {
        return refusal(1);
    }
    // Read whole before anything is answered: a node that is answered while it still sends may not see the answer.
    let (parts, body) = request.into_parts();
    let limit = doors.config.limits.max_message_size_bytes;
    let Ok(body) = Limited::new(body, limit).collect().await else { return refusal(3) };
    let request = Request::from_parts(parts, Body::from(body.to_bytes()));
    socketio::serve(&doors, peer, &query, request).await
}

//! `POST /drain`: this node sends its clients away and stops.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use crate::auth::Deed;
use crate::config::Right;
use crate::doors::state::Doors;

/// Answers 202 with `{success, node, connections, drain_ms, message}`; a second call answers the same.
pub(in crate::doors) async fn begin(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    caller.may_call(Right::Admin)?;
    if !caller.may_touch(None) {
        return Err(ApiError::forbidden("this key is for some organizations, and a drain is for all of them"));
    }
    doors.drain();
    Deed { who: caller.name(), action: "drain", ..Deed::default() }.done();
    let server = &doors.config.server;
    let answer = json!({
        "success": true,
        "node": doors.cluster.id(),
        "connections": doors.left(),
        "drain_ms": server.drain_notice_ms + server.drain_ms,
        "message": "Draining",
    });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

//! `GET /messages/{message_id}/receipts`: who has acknowledged.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use crate::config::Right;
use crate::doors::state::Doors;

pub(in crate::doors) async fn receipts(
    State(doors): State<Arc<Doors>>,
    Path(message_id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    caller.require(Right::Read)?;
    // A foreign message is answered like one that is not there.
    let (organization, progress) =
        doors.hub.progress(&message_id).ok_or_else(|| ApiError::not_found("no receipts are kept for that message"))?;
    if !caller.may_touch(organization.as_ref()) {
        return Err(ApiError::not_found("no receipts are kept for that message"));
    }
    Ok(Json(json!({
        "success": true,
        "message_id": message_id,
        "acknowledged": progress.acknowledged,
        "pending": progress.pending,
    })))
}

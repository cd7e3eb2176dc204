//! WorkMatrix: activity, screenshots and status of a user.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use super::intake::{Call, Message, fields};
use crate::doors::http::{ApiError, Caller, Path};
use crate::doors::state::Doors;

/// `{status}`, and whatever else.
#[derive(Deserialize)]
struct Status {
    #[serde(rename = "status")]
    _status: String,
}

/// `POST /api/ws/workmatrix/users/{user_id}/activity`, `/screenshot`, `/status`: the body is the frame's `data`.
pub(super) async fn publish(
    State(doors): State<Arc<Doors>>,
    Path((user_id, kind)): Path<(String, String)>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let organization = &doors.config.doors.workmatrix.organization;
    let (call, body) =
        Call::read(&doors, &caller, organization, &headers, &["workmatrix", &user_id, &kind], body).await?;
    let event = match kind.as_str() {
        "activity" => "activity_update",
        "screenshot" => "screenshot_update",
        "status" => {
            fields::<Status>(&body)?;
            "status_update"
        }
        _ => return Err(ApiError::not_found("there is no such call; there are activity, screenshot and status")),
    };
    let message = Message { users: Some(vec![user_id]), ..Message::new(event, body) };
    call.publish(message, "Update sent").await.map(Json)
}

//! `GET /messages/{message_id}`: where a message went; `/receipts`: who has acknowledged it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::path::Path;
use crate::config::Right;
use crate::delivery::{envelope, rooms_of};
use crate::doors::state::Doors;
use crate::log::Audience;
use crate::wire::WireError;

/// Answers `{success, message, position, channels[], rooms[], target?, except_socket_ids?}`.
pub(in crate::doors) async fn one(
    State(doors): State<Arc<Doors>>,
    Path(message_id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let hub = doors.hub.clone();
    let found = tokio::task::spawn_blocking(move || hub.message(&message_id)).await.map_err(|_| WireError::Internal)?;
    // A foreign message is answered like one that is not there.
    let nothing = || ApiError::not_found("there is no such message, or the log does not keep it any more");
    let entry = found.ok_or_else(nothing)?;
    let draft = &entry.draft;
    if !caller.may_touch(draft.audience.scope().map(|scope| &scope.organization)) {
        return Err(nothing());
    }
    let catalogue = &doors.hub.catalogue;
    let mut answer = json!({
        "success": true,
        "message": envelope(&entry),
        "position": entry.position.to_string(),
        "channels": catalogue.names(draft.channels).collect::<Vec<_>>(),
        "rooms": rooms_of(draft, catalogue),
    });
    if let Audience::Scope { targets: Some(targets), .. } = &draft.audience {
        answer["target"] = json!({ "user_ids": targets.users, "socket_ids": targets.sockets, "rooms": targets.rooms });
    }
    if !draft.except.is_empty() {
        answer["except_socket_ids"] = json!(draft.except);
    }
    Ok(Json(answer))
}

pub(in crate::doors) async fn receipts(
    State(doors): State<Arc<Doors>>,
    Path(message_id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
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

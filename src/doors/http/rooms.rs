//! `GET /rooms`: every room with its members.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use crate::config::Right;
use crate::doors::state::Doors;
use crate::rooms::{RoomName, Scope};
use crate::wire::{PublicId, iso, now_ms};

pub(in crate::doors) async fn list(State(doors): State<Arc<Doors>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let rooms: Vec<Value> = doors
        .directory
        .rooms()
        .into_iter()
        .filter_map(|(room, members)| {
            let name = RoomName::parse(&room)?;
            let created = doors.directory.created_at_ms(&room).unwrap_or_else(now_ms);
            caller.may_touch(Some(name.organization())).then(|| view(&room, &name, &members, created))
        })
        .collect();
    Ok(Json(json!({ "success": true, "total_count": rooms.len(), "rooms": rooms })))
}

fn view(room: &str, name: &RoomName, members: &[PublicId], created: i64) -> Value {
    let mut view = json!({
        "room_id": room,
        "room_type": room_type(name),
        "organization_id": name.organization(),
        "member_count": members.len(),
        "member_socket_ids": members,
        "created_at": iso(created),
    });
    match name {
        RoomName::Channel(_, scope) | RoomName::Scope(scope) => {
            if let Some(department) = &scope.department {
                view["department_id"] = json!(department);
            }
            if let Some(queue) = &scope.queue {
                view["queue_name"] = json!(queue);
            }
        }
        RoomName::User(_, user) => view["user_id"] = json!(user),
    }
    view
}

/// What kind of room it is.
pub(super) fn room_type(name: &RoomName) -> &'static str {
    match name {
        RoomName::Channel(..) => "custom",
        RoomName::User(..) => "user",
        RoomName::Scope(Scope { queue: Some(_), .. }) => "queue",
        RoomName::Scope(Scope { department: Some(_), .. }) => "department",
        RoomName::Scope(_) => "organization",
    }
}

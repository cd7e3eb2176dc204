//! `GET /rooms`: every room with its members, on whatever nodes they are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::others;
use crate::auth::Reach;
use crate::cluster::Answer;
use crate::config::Right;
use crate::doors::state::Doors;
use crate::rooms::{RoomName, Scope};
use crate::wire::{PublicId, iso, now_ms};

/// The question to other nodes.
const KIND: &str = "rooms";

pub(super) fn answer_others(doors: &Arc<Doors>) {
    others::answer(doors, KIND, |doors, reach: Reach| here(doors, &reach));
}

pub(in crate::doors) async fn list(State(doors): State<Arc<Doors>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let asked = doors.cluster.ask(KIND, caller.reach()).await;
    let mut rooms = here(&doors, caller.reach());
    for (room, theirs) in asked.answers.into_iter().flat_map(|answer: Answer<Rooms>| answer.answer) {
        match rooms.entry(room) {
            Entry::Occupied(mut ours) => join(ours.get_mut(), theirs),
            Entry::Vacant(place) => drop(place.insert(theirs)),
        }
    }
    let rooms: Vec<Value> = rooms.into_values().collect();
    let mut answer = json!({ "success": true, "total_count": rooms.len(), "rooms": rooms });
    others::name(&asked.unanswered, &mut answer);
    Ok(Json(answer))
}

/// Rooms by name.
type Rooms = BTreeMap<String, Value>;

/// The rooms of this node that are within reach.
fn here(doors: &Doors, reach: &Reach) -> Rooms {
    let rooms = doors.directory.rooms().into_iter().filter_map(|(room, members)| {
        let name = RoomName::parse(&room)?;
        let created = doors.directory.created_at_ms(&room).unwrap_or_else(now_ms);
        reach.contains(Some(name.organization())).then(|| (room.to_string(), view(&room, &name, &members, created)))
    });
    rooms.collect()
}

/// Adds the members that a room has on another node.
fn join(ours: &mut Value, mut theirs: Value) {
    let count = |room: &Value| room["member_count"].as_u64().unwrap_or_default();
    ours["member_count"] = json!(count(ours) + count(&theirs));
    if let (Some(members), Some(more)) =
        (ours["member_socket_ids"].as_array_mut(), theirs["member_socket_ids"].as_array_mut())
    {
        members.append(more);
    }
    // The same form makes the earlier time the smaller text.
    if theirs["created_at"].as_str() < ours["created_at"].as_str() {
        ours["created_at"] = theirs["created_at"].take();
    }
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

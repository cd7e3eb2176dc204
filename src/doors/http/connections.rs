//! `GET /connections`, `GET` and `DELETE /connections/{socket_id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::path::Path;
use crate::auth::Deed;
use crate::config::Right;
use crate::doors::state::Doors;
use crate::rooms::Id;
use crate::session::ConnectionView;

/// Connections in an answer when the caller does not say.
const PAGE: usize = 1_000;

/// `?organization_id=&user_id=&room=&cursor=&limit=`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::doors) struct Filter {
    organization_id: Option<String>,
    user_id: Option<String>,
    room: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// All connections the caller may know of, filtered and in pages.
pub(in crate::doors) async fn list(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let Query(filter) = filter?;
    let mut found = doors.sessions.connections();
    found.retain(|view| caller.may_touch(view.organization_id.as_ref()) && filter.passes(view));
    let total = found.len();
    if let Some(cursor) = &filter.cursor {
        found.retain(|view| view.socket_id.as_str() > cursor.as_str());
    }
    let limit = filter.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let more = found.len() > limit;
    found.truncate(limit);
    let mut answer = json!({ "success": true, "connections": found, "total_count": total });
    if more {
        answer["next_cursor"] = json!(found.last().map(|view| &view.socket_id));
    }
    Ok(Json(answer))
}

/// One connection.
pub(in crate::doors) async fn one(
    State(doors): State<Arc<Doors>>,
    Path(socket_id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let view = find(&doors, &caller, &socket_id)?;
    Ok(Json(json!({ "success": true, "connection": view })))
}

/// Ends a connection; its client stays away.
pub(in crate::doors) async fn disconnect(
    State(doors): State<Arc<Doors>>,
    Path(socket_id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Admin)?;
    let view = find(&doors, &caller, &socket_id)?;
    doors.sessions.dismiss(&socket_id);
    let organization = view.organization_id.as_ref().map(Id::as_str);
    let deed = Deed { who: caller.name(), action: "disconnect", organization, ..Deed::default() };
    Deed { socket_id: Some(view.socket_id.as_str()), ..deed }.done();
    Ok(Json(json!({ "success": true, "message": "Connection closed" })))
}

fn find(doors: &Doors, caller: &Caller, socket_id: &str) -> Result<ConnectionView, ApiError> {
    doors
        .sessions
        .connection(socket_id)
        .filter(|view| caller.may_touch(view.organization_id.as_ref()))
        .ok_or_else(|| ApiError::not_found("Connection not found"))
}

impl Filter {
    fn passes(&self, view: &ConnectionView) -> bool {
        let is = |wanted: &Option<String>, id: &Option<Id>| {
            wanted.as_ref().is_none_or(|wanted| id.as_ref().is_some_and(|id| id.as_str() == wanted))
        };
        is(&self.organization_id, &view.organization_id)
            && is(&self.user_id, &view.user_id)
            && self.room.as_ref().is_none_or(|room| view.rooms.iter().any(|name| **name == **room))
    }
}

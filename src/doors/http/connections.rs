//! `GET /connections`, `GET` and `DELETE /connections/{socket_id}`, on whatever node they are.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::others;
use super::path::Path;
use crate::auth::{Deed, Reach};
use crate::cluster::NodeId;
use crate::config::Right;
use crate::doors::state::Doors;
use crate::rooms::Id;
use crate::session::ConnectionView;

/// Connections in an answer when the caller does not say.
const PAGE: usize = 1_000;

/// Questions to other nodes.
const LIST: &str = "connections";
const ONE: &str = "connection";
const DISCONNECT: &str = "disconnect";

/// `?organization_id=&user_id=&room=&cursor=&limit=`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doors) struct Filter {
    organization_id: Option<String>,
    user_id: Option<String>,
    room: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Connections of one node: one more than a page has, if there are so many, and how many there are on all pages.
#[derive(Serialize, Deserialize)]
struct Page {
    connections: Vec<Value>,
    total: usize,
}

/// A socket, for who may know of it.
#[derive(Serialize, Deserialize)]
struct Named {
    socket_id: String,
    reach: Reach,
}

/// A socket that was disconnected.
#[derive(Serialize, Deserialize)]
struct Disconnected {
    organization: Option<Id>,
}

pub(super) fn answer_others(doors: &Arc<Doors>) {
    others::answer(doors, LIST, |doors, (reach, filter): (Reach, Filter)| page(doors, &reach, &filter));
    others::answer(doors, ONE, |doors, named: Named| find(doors, &named));
    others::answer(doors, DISCONNECT, |doors, named: Named| end(doors, &named));
}

/// All connections the caller may know of, filtered and in pages.
pub(in crate::doors) async fn list(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let Query(filter) = filter?;
    let asked = doors.cluster.ask::<Page>(LIST, &(caller.reach(), &filter)).await;
    let Page { connections: mut found, mut total } = page(&doors, caller.reach(), &filter);
    for Page { connections, total: theirs } in asked.answers.into_iter().map(|answer| answer.answer) {
        found.extend(connections);
        total += theirs;
    }
    found.sort_by(|a, b| a["socket_id"].as_str().cmp(&b["socket_id"].as_str()));
    let more = found.len() > filter.limit();
    found.truncate(filter.limit());
    let cursor = found.last().filter(|_| more).map(|view| view["socket_id"].clone());
    let mut answer = json!({ "success": true, "connections": found, "total_count": total });
    if let Some(cursor) = cursor {
        answer["next_cursor"] = cursor;
    }
    others::name(&asked.unanswered, &mut answer);
    Ok(Json(answer))
}

/// One connection.
pub(in crate::doors) async fn one(
    State(doors): State<Arc<Doors>>,
    Path(socket_id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let named = Named { socket_id, reach: caller.reach().clone() };
    let view = match find(&doors, &named) {
        Some(view) => view,
        None => elsewhere(&doors, ONE, &named).await?,
    };
    Ok(Json(json!({ "success": true, "connection": view })))
}

/// Ends a connection; its client stays away.
pub(in crate::doors) async fn disconnect(
    State(doors): State<Arc<Doors>>,
    Path(socket_id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Admin)?;
    let named = Named { socket_id, reach: caller.reach().clone() };
    let Disconnected { organization } = match end(&doors, &named) {
        Some(disconnected) => disconnected,
        None => elsewhere(&doors, DISCONNECT, &named).await?,
    };
    let organization = organization.as_ref().map(Id::as_str);
    let deed = Deed { who: caller.name(), action: "disconnect", organization, ..Deed::default() };
    Deed { socket_id: Some(&named.socket_id), ..deed }.done();
    Ok(Json(json!({ "success": true, "message": "Connection closed" })))
}

/// What the other nodes know of a socket that this one does not have.
async fn elsewhere<A: serde::de::DeserializeOwned>(doors: &Doors, kind: &str, named: &Named) -> Result<A, ApiError> {
    let asked = doors.cluster.ask_until(kind, named, Option::<A>::is_some).await;
    let found = asked.answers.into_iter().find_map(|answer| answer.answer);
    found.ok_or_else(|| not_found(asked.unanswered))
}

/// Whether a socket is there is not known as long as it may be on a node that does not answer.
fn not_found(unanswered: Vec<NodeId>) -> ApiError {
    match unanswered.is_empty() {
        true => ApiError::not_found("Connection not found"),
        false => ApiError::unanswered("no node that answers has that connection; try again", unanswered),
    }
}

fn page(doors: &Doors, reach: &Reach, filter: &Filter) -> Page {
    let mut found = doors.sessions.connections();
    found.retain(|view| reach.contains(view.organization_id.as_ref()) && filter.passes(view));
    let total = found.len();
    if let Some(cursor) = &filter.cursor {
        found.retain(|view| view.socket_id.as_str() > cursor.as_str());
    }
    // One more than there is room for tells that more follow.
    found.truncate(filter.limit() + 1);
    Page { connections: found.iter().map(|view| json!(view)).collect(), total }
}

fn find(doors: &Doors, named: &Named) -> Option<Value> {
    view(doors, named).map(|view| json!(view))
}

fn end(doors: &Doors, named: &Named) -> Option<Disconnected> {
    let organization = view(doors, named)?.organization_id;
    doors.sessions.dismiss(&named.socket_id).then_some(Disconnected { organization })
}

fn view(doors: &Doors, named: &Named) -> Option<ConnectionView> {
    let view = doors.sessions.connection(&named.socket_id)?;
    named.reach.contains(view.organization_id.as_ref()).then_some(view)
}

impl Filter {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE)
    }

    fn passes(&self, view: &ConnectionView) -> bool {
        let is = |wanted: &Option<String>, id: &Option<Id>| {
            wanted.as_ref().is_none_or(|wanted| id.as_ref().is_some_and(|id| id.as_str() == wanted))
        };
        is(&self.organization_id, &view.organization_id)
            && is(&self.user_id, &view.user_id)
            && self.room.as_ref().is_none_or(|room| view.rooms.iter().any(|name| **name == **room))
    }
}

//! `GET /presence`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use crate::config::Right;
use crate::doors::state::Doors;
use crate::presence::{Filter, Listing};
use crate::rooms::Id;
use crate::wire::WireError;

/// Users in an answer when the caller does not say.
const PAGE: usize = 1_000;

/// `?organization_id=&user_id=&channel=&include=&cursor=&limit=`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::doors) struct Request {
    organization_id: Option<String>,
    user_id: Option<String>,
    channel: Option<String>,
    include: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// The users of an organization who are there, filtered and in pages; none of one that the caller may not know of.
pub(in crate::doors) async fn list(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    request: Result<Query<Request>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let Query(request) = request?;
    let presence = doors.sessions.presence();
    if !presence.is_on() {
        return Err(ApiError::not_found("nobody asks who is there; set presence.enabled"));
    }
    let Some(organization) = &request.organization_id else {
        return Err(ApiError::bad_request("organization_id is required"));
    };
    let organization = Id::parse(organization).map_err(|error| WireError::malformed("organization_id", &error))?;
    let with_offline = match request.include.as_deref() {
        None => false,
        Some("offline") => true,
        Some(other) => {
            return Err(ApiError::bad_request(format!("include may be \"offline\", and is {other:?}")));
        }
    };
    let filter = Filter {
        user: request.user_id.as_deref(),
        channel: request.channel.as_deref(),
        with_offline,
        after: request.cursor.as_deref(),
        limit: request.limit.unwrap_or(PAGE).clamp(1, PAGE),
    };
    let listing = if caller.may_touch(Some(&organization)) {
        presence.list(&organization, &filter)?
    } else {
        Listing { users: Vec::new(), total: 0, more: false }
    };
    let mut answer = json!({
        "success": true,
        "organization_id": organization,
        "users": listing.users,
        "total_count": listing.total,
    });
    if listing.more {
        answer["next_cursor"] = json!(listing.users.last().map(|view| &view.user_id));
    }
    Ok(Json(answer))
}

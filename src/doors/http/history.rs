//! `GET /rooms/{room}/messages`: what a member of a room would have received.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::error::ApiError;
use super::path::Path;
use super::reader::Reader;
use crate::config::Right;
use crate::delivery::envelope;
use crate::doors::state::Doors;
use crate::log::Named;
use crate::rooms::RoomName;
use crate::wire::WireError;

/// Messages in an answer, unless the call says otherwise, and at most.
const LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

/// Only its caller may keep an answer, and asks each time whether it still holds.
const KEPT: &str = "private, no-cache";

/// `?since=&limit=`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::doors) struct Options {
    since: Option<String>,
    limit: Option<usize>,
}

impl Reader {
    /// Whether a room is one that the reader may look into: a backend of its organizations', a client its own.
    fn may_read(&self, room: &RoomName) -> bool {
        let client = match self {
            Self::Caller(caller) => return caller.may_touch(Some(room.organization())),
            Self::Client(client) => client,
        };
        match room {
            RoomName::Channel(channel, scope) => client.may_use(channel) && client.claims.contain(scope),
            // What goes to a scope is on all channels.
            RoomName::Scope(scope) => client.channels.is_none() && client.claims.contain(scope),
            RoomName::User(organization, user) => (organization, user) == (&client.organization, &client.user),
        }
    }
}

/// Answers `{success, room, messages[], position, complete, more}`, or 304 when there is nothing new.
pub(in crate::doors) async fn read(
    State(doors): State<Arc<Doors>>,
    Path(room): Path<String>,
    reader: Reader,
    options: Result<Query<Options>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if let Reader::Caller(caller) = &reader {
        caller.may_call(Right::Read)?;
    }
    let Query(options) = options?;
    let nothing = || ApiError::not_found("there is no such room");
    let name = RoomName::parse(&room).filter(|name| reader.may_read(name)).ok_or_else(nothing)?;
    let since = options.since.as_deref().map(|since| {
        Named::parse(since).ok_or_else(|| ApiError::bad_request("since must be a position, as in an answer or a frame"))
    });
    let since = since.transpose()?.map(|named| named.position);
    let limit = options.limit.unwrap_or(LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit must be 1 to {MAX_LIMIT}")));
    }
    let _follower = doors.hub.up_to_date(Some(name.organization())).await;
    let hub = doors.hub.clone();
    let read = tokio::task::spawn_blocking(move || {
        let history = hub.history(&name, since.as_ref(), limit);
        let messages: Vec<_> = history.entries.iter().map(|entry| envelope(entry)).collect();
        (history, messages)
    });
    let (history, messages) = read.await.map_err(|_| WireError::Internal)?;
    let last = history.entries.last().map_or_else(String::new, |entry| entry.position.to_string());
    let tag = format!("\"{last}+{}\"", messages.len());
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag), (CACHE_CONTROL, KEPT.to_owned())]).into_response());
    }
    let body = Json(json!({
        "success": true,
        "room": room,
        "messages": messages,
        "position": history.position.to_string(),
        "complete": history.complete,
        "more": history.more,
    }));
    let mut response = ([(CACHE_CONTROL, KEPT)], body).into_response();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

//! API/er: events of the delivery console, and its figures.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::intake::{Call, Message, fields, payload};
use super::metrics;
use crate::doors::http::{ApiError, Caller};
use crate::doors::state::Doors;

/// What has become of an event.
#[derive(Deserialize)]
struct Change {
    action: Action,
    event: Map<String, Value>,
    #[serde(default)]
    previous_status: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Created,
    Updated,
    Deleted,
}

/// `POST /api/ws/apier/events` `{action, event, previous_status?}`: `action` is `created`, `updated` or `deleted`.
pub(super) async fn event(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let organization = &doors.config.doors.apier.organization;
    let (call, body) = Call::read(&doors, &caller, organization, &headers, &["apier", "events"], body).await?;
    let Change { action, mut event, previous_status } = fields(&body)?;
    if !matches!(event.get("id"), Some(Value::String(_) | Value::Number(_))) {
        return Err(ApiError::bad_request("event.id is required, as text or a number"));
    }
    let (name, action) = match action {
        Action::Created => ("event_created", "created"),
        Action::Updated => ("event_update", "updated"),
        Action::Deleted => ("event_deleted", "deleted"),
    };
    // Its clients find these beside the event, and not in it.
    event.insert("action".into(), action.into());
    if let Some(previous_status) = previous_status {
        event.insert("previous_status".into(), previous_status.into());
    }
    call.publish(Message::new(name, payload(&event)), "Event sent").await.map(Json)
}

/// `POST /api/ws/apier/metrics`: the figures in either shape that the system has had; clients get both.
pub(super) async fn metrics(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let organization = &doors.config.doors.apier.organization;
    let (call, body) = Call::read(&doors, &caller, organization, &headers, &["apier", "metrics"], body).await?;
    let both = metrics::both_shapes(fields(&body)?);
    call.publish(Message::new("metrics_update", payload(&both)), "Metrics sent").await.map(Json)
}

//! AV-Gym: changed members, and notifications.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::intake::{Call, Message};
use crate::doors::http::{ApiError, Caller};
use crate::doors::state::Doors;

/// `POST /api/ws/gym/members`: a member that has changed, as `member_update`.
pub(super) async fn member(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let organization = &doors.config.doors.gym.organization;
    let (call, body) = Call::read(&doors, &caller, organization, &headers, &["gym", "members"], body).await?;
    call.publish(Message::new("member_update", body), "Member update sent").await.map(Json)
}

/// `POST /api/ws/gym/notifications` `{title?, message, type?}`: as `notification`.
pub(super) async fn notification(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let organization = &doors.config.doors.gym.organization;
    let (call, body) = Call::read(&doors, &caller, organization, &headers, &["gym", "notifications"], body).await?;
    let message = Message { channels: vec!["checkins".into()], ..Message::new("notification", body) };
    call.publish(message, "Notification sent").await.map(Json)
}

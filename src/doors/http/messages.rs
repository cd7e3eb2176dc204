//! `GET /messages/{message_id}`: where a message went; `/receipts`: who has acknowledged it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::others;
use super::path::Path;
use crate::cluster::NodeId;
use crate::config::Right;
use crate::delivery::{envelope, rooms_of};
use crate::doors::state::Doors;
use crate::hub::{Acknowledgement, Delivery, Progress};
use crate::log::Audience;
use crate::rooms::Id;
use crate::wire::{PublicId, WireError};

/// Answers `{success, message, position, channels[], rooms[], target?, except_socket_ids?}`.
pub(in crate::doors) async fn one(
    State(doors): State<Arc<Doors>>,
    Path(message_id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    // Nothing but the message itself says which shard it is in.
    let _followers = doors.hub.all_up_to_date().await;
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
    let _followers = doors.hub.all_up_to_date().await;
    // A foreign message is answered like one that is not there.
    let (organization, mut progress) =
        doors.hub.progress(&message_id).ok_or_else(|| ApiError::not_found("no receipts are kept for that message"))?;
    if !caller.may_touch(organization.as_ref()) {
        return Err(ApiError::not_found("no receipts are kept for that message"));
    }
    let unanswered = look_elsewhere(&doors, &message_id, &mut progress).await;
    let mut answer = json!({
        "success": true,
        "message_id": message_id,
        "acknowledged": progress.acknowledged,
        "pending": progress.pending,
    });
    others::name(&unanswered, &mut answer);
    Ok(Json(answer))
}

/// The question to other nodes: to which of these sockets of theirs a message was written.
const WRITTEN: &str = "written";

/// Whom a message was sent to, once a node has delivered it.
const SENT: &str = "sent";

/// What is asked of a message.
#[derive(Serialize, Deserialize)]
struct Sent {
    message_id: String,
    organization: Option<Id>,
    offset: u64,
}

pub(super) fn answer_others(doors: &Arc<Doors>) {
    let asked = doors.clone();
    doors.cluster.answer(SENT, move |Sent { message_id, organization, offset }| {
        let doors = asked.clone();
        async move {
            let deadline = Duration::from_millis(doors.config.cluster.request_timeout_ms);
            let _follower = doors.hub.follow(organization.as_ref());
            let caught_up = doors.hub.caught_up(organization.as_ref(), offset);
            // Who cannot say in time says nothing.
            tokio::time::timeout(deadline, caught_up).await.ok()?;
            Some(doors.hub.recipients_of(&message_id))
        }
    });
    others::answer(doors, WRITTEN, |doors, message_id: String| -> Vec<PublicId> {
        let progress = doors.hub.progress(&message_id).map(|(_, progress)| progress.pending).unwrap_or_default();
        let written = progress.into_iter().filter(|pending| pending.state == Delivery::Written);
        written.filter_map(|pending| pending.socket_id).collect()
    });
}

/// Hears from all nodes whom they have sent a message of an organization to, so that it is known who has yet to
/// acknowledge it; tells which nodes have not said.
pub(super) async fn hear_recipients(
    doors: &Doors,
    message_id: &str,
    organization: Option<&Id>,
    offset: u64,
) -> Vec<NodeId> {
    if doors.cluster.is_alone() {
        return Vec::new();
    }
    let question = Sent { message_id: message_id.to_owned(), organization: organization.cloned(), offset };
    let asked = doors.cluster.ask::<Option<Vec<(PublicId, Option<Id>)>>>(SENT, &question).await;
    let mut unanswered = asked.unanswered;
    for answer in asked.answers {
        match answer.answer {
            Some(sockets) => doors.hub.was_sent(message_id, offset, &sockets),
            None => unanswered.push(answer.node),
        }
    }
    unanswered
}

/// What waits for sockets of other nodes may have been written there; tells which nodes do not say.
pub(super) async fn look_elsewhere(doors: &Doors, message_id: &str, progress: &mut Progress) -> Vec<NodeId> {
    let is_elsewhere = |pending: &Acknowledgement| {
        let socket = pending.socket_id.as_ref().filter(|_| pending.state == Delivery::Queued);
        socket.is_some_and(|socket| doors.directory.recipient(socket.as_str()).is_none())
    };
    if doors.cluster.is_alone() || !progress.pending.iter().any(is_elsewhere) {
        return Vec::new();
    }
    let asked = doors.cluster.ask::<HashSet<PublicId>>(WRITTEN, &message_id).await;
    for pending in progress.pending.iter_mut().filter(|pending| is_elsewhere(pending)) {
        let is_written = |socket: &PublicId| asked.answers.iter().any(|answer| answer.answer.contains(socket));
        if pending.socket_id.as_ref().is_some_and(is_written) {
            pending.state = Delivery::Written;
        }
    }
    asked.unanswered
}

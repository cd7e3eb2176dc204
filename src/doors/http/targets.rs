//! Whether a caller may touch everything that a publication names, on whatever node it is.

use std::sync::Arc;

use super::caller::Caller;
use super::error::ApiError;
use super::others;
use crate::auth::Reach;
use crate::config::Right;
use crate::doors::state::Doors;
use crate::log::{Audience, Draft};
use crate::rooms::RoomName;

/// Everything a publication names must belong to the caller.
///
/// # Errors
/// If it does not, or that cannot be known as long as a node does not answer.
pub(super) async fn check(doors: &Doors, caller: &Caller, draft: &Draft) -> Result<(), ApiError> {
    let Audience::Scope { scope, targets } = &draft.audience else {
        caller.require(Right::Admin)?;
        let message = "only a key that is not bound to organizations reaches everyone";
        return caller.may_touch(None).then_some(()).ok_or_else(|| ApiError::forbidden(message));
    };
    let forbidden = || ApiError::forbidden("this key may not touch everything that the target names");
    let named = targets.iter().flat_map(|targets| targets.sockets.iter().chain(&targets.rooms));
    let foreign: Vec<&String> = named.filter(|name| !may_name(doors, caller.reach(), name)).collect();
    let is_room = |name: &&String| RoomName::parse(name).is_some();
    if !caller.may_touch(Some(&scope.organization)) || foreign.iter().any(is_room) {
        return Err(forbidden());
    }
    if foreign.is_empty() {
        return Ok(());
    }
    // A socket that is not here may be on another node.
    let asked = doors.cluster.ask::<Vec<bool>>(MAY_NAME, &(caller.reach(), &foreign)).await;
    let is_theirs = |place: usize| asked.answers.iter().any(|answer| answer.answer.get(place) == Some(&true));
    if (0..foreign.len()).all(is_theirs) {
        return Ok(());
    }
    if asked.unanswered.is_empty() {
        return Err(forbidden());
    }
    let message = "a socket that the target names may be on a node that does not answer; try again";
    Err(ApiError::unanswered(message, asked.unanswered))
}

/// The question to other nodes: which of these sockets a caller may name.
const MAY_NAME: &str = "may_name";

pub(super) fn answer_others(doors: &Arc<Doors>) {
    others::answer(doors, MAY_NAME, |doors, (reach, names): (Reach, Vec<String>)| -> Vec<bool> {
        names.iter().map(|name| may_name(doors, &reach, name)).collect()
    });
}

/// Whether a caller may name a room or a socket; one that is not there is refused like a foreign one.
fn may_name(doors: &Doors, reach: &Reach, name: &str) -> bool {
    if let Some(room) = RoomName::parse(name) {
        return reach.contains(Some(room.organization()));
    }
    let organization = doors.sessions.connection(name).and_then(|view| view.organization_id);
    reach.contains(organization.as_ref())
}

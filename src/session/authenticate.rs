//! `authenticate`: a socket says who it is.

use serde_json::{Value, json};

use std::sync::Arc;

use super::identify::Identified;
use super::session::Session;
use super::sessions::Sessions;
use crate::auth::{Credentials, Identity};
use crate::rooms::Id;
use crate::wire::{WireError, iso};

/// What comes of it.
pub(super) enum Answer {
    Now(Value),
    /// First this node has to know what is there for this organization.
    After(Id),
}

/// Answers `{success, socket_id, user_id, organization_id, permissions, message}`, with `expires_at` if a token proves
/// it, `restored_subscriptions` if an earlier session had any and `left_subscriptions` if the token covers some no more;
/// and emits `authenticated`.
pub(super) fn handle(session: &Arc<Session>, argument: &str, has_waited: bool) -> Result<Answer, WireError> {
    let result = authenticate(session, argument, has_waited);
    if matches!(result, Ok(Answer::After(_))) {
        return result;
    }
    let message = match &result {
        Ok(_) => "authenticated".to_owned(),
        Err(error) => error.to_string(),
    };
    session.recipient.emit("authenticated", &json!({ "success": result.is_ok(), "message": message }));
    result
}

fn authenticate(session: &Arc<Session>, argument: &str, has_waited: bool) -> Result<Answer, WireError> {
    let sessions = session.sessions().ok_or(WireError::Stopping)?;
    let connection = &session.recipient.connection;
    let credentials = Credentials::read(argument)?;
    let forms = credentials.forms()?;
    let authenticator = &sessions.services.authenticator;
    let proven = session.identity().filter(|identity| identity.proof.is_some());
    let identity = match (proven, connection.plain()) {
        // Many frontends name themselves once more after a handshake with a token.
        (Some(proven), _) if credentials.token()?.is_none() => credentials.check(&proven).map(|()| proven)?,
        (_, Some(plain)) => plain.door.identify(&credentials)?.ok_or_else(|| plain.door.lacks())?,
        (_, None) => authenticator.identify(&credentials)?.ok_or_else(|| authenticator.lacks())?,
    };
    if !has_waited && !sessions.services.hub.is_up_to_date(Some(&identity.organization)) {
        return Ok(Answer::After(identity.organization));
    }
    let earlier = session.last_interest(&identity).filter(|_| session.is_unknown());
    let restored: Vec<Box<str>> =
        earlier.iter().flat_map(|earlier| &earlier.subscriptions).map(|one| one.id.clone()).collect();
    let Identified { owed, mut left } = session.identify(&identity, earlier, forms)?;
    left.append(&mut renew_others(session, &sessions, &identity));
    let mut answer = json!({
        "success": true,
        "socket_id": session.recipient.id,
        "user_id": identity.user,
        "organization_id": identity.organization,
        "permissions": permissions(&sessions, &identity),
        "message": "authenticated",
    });
    if !restored.is_empty() {
        answer["restored_subscriptions"] = json!(restored);
    }
    if !left.is_empty() {
        answer["left_subscriptions"] = json!(left);
    }
    if let Some(proof) = &identity.proof {
        answer["expires_at"] = json!(iso(proof.expires_at_ms));
    }
    if let Some(owed) = owed {
        // What the client sends behind this is handled when it has been told.
        session.queue.hold();
        session.hand_over(owed);
    }
    Ok(Answer::Now(answer))
}

/// A new token holds for all sockets of its bearer on the connection; what they have lost by it.
fn renew_others(session: &Session, sessions: &Sessions, identity: &Identity) -> Vec<Box<str>> {
    if identity.proof.is_none() {
        return Vec::new();
    }
    let ids = session.recipient.connection.public_ids();
    let others = ids.iter().filter(|id| **id != session.recipient.id).filter_map(|id| sessions.get(id.as_str()));
    let same = |other: &Arc<Session>| {
        let other = other.identity();
        other.is_some_and(|other| (&other.user, &other.organization) == (&identity.user, &identity.organization))
    };
    others
        .filter(same)
        .filter_map(|other| other.identify(identity, None, None).ok())
        .flat_map(|other| other.left)
        .collect()
}

/// What a client may do, in words for whoever debugs it.
fn permissions(sessions: &Sessions, identity: &Identity) -> Vec<String> {
    let sends = sessions.services.client_events.of(identity).map(|event| format!("send:{event}"));
    ["subscribe", "acknowledge"].into_iter().map(str::to_owned).chain(sends).collect()
}

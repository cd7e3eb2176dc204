//! `authenticate`: a socket says who it is.

use serde_json::{Value, json};

use std::sync::Arc;

use super::session::Session;
use crate::auth::Credentials;
use crate::config::DoorIdentity;
use crate::wire::WireError;

/// Answers `{success, socket_id, user_id, organization_id, permissions, message}`, with `restored_subscriptions` if an
/// earlier session had any, and emits `authenticated`.
pub(super) fn handle(session: &Arc<Session>, argument: &str) -> Result<Option<Value>, WireError> {
    let result = authenticate(session, argument);
    let message = match &result {
        Ok(_) => "authenticated".to_owned(),
        Err(error) => error.to_string(),
    };
    session.recipient.emit("authenticated", &json!({ "success": result.is_ok(), "message": message }));
    result.map(Some)
}

fn authenticate(session: &Arc<Session>, argument: &str) -> Result<Value, WireError> {
    let credentials = Credentials::read(argument)?;
    let forms = credentials.forms()?;
    let identity = match session.recipient.connection.plain() {
        Some(plain) => {
            plain.door.identify(&credentials)?.ok_or(WireError::CredentialMissing(match plain.door.identity {
                DoorIdentity::Token => "token",
                _ => "user_id",
            }))?
        }
        None => credentials.trusted()?,
    };
    let (user, organization) = (identity.user.clone(), identity.organization.clone());
    let earlier = session.last_interest(&identity).filter(|_| session.is_unknown());
    let restored: Vec<Box<str>> =
        earlier.iter().flat_map(|earlier| &earlier.subscriptions).map(|one| one.id.clone()).collect();
    let owed = session.identify(identity, earlier)?;
    if let Some(forms) = forms {
        session.recipient.set_forms(forms);
    }
    let mut answer = json!({
        "success": true,
        "socket_id": session.recipient.id,
        "user_id": user,
        "organization_id": organization,
        "permissions": ["subscribe", "acknowledge"],
        "message": "authenticated",
    });
    if !restored.is_empty() {
        answer["restored_subscriptions"] = json!(restored);
    }
    if let Some(owed) = owed {
        // What the client sends behind this is handled when it has been told.
        session.queue.hold();
        session.hand_over(owed);
    }
    Ok(answer)
}

//! `authenticate`: a socket says who it is.

use serde_json::{Value, json};

use super::session::Session;
use crate::auth::Credentials;
use crate::wire::WireError;

/// Answers `{success, socket_id, user_id, organization_id, permissions, message}` and emits `authenticated`.
pub(super) fn handle(session: &Session, argument: &str) -> Result<Option<Value>, WireError> {
    let result = authenticate(session, argument);
    let message = match &result {
        Ok(_) => "authenticated".to_owned(),
        Err(error) => error.to_string(),
    };
    session.recipient.emit("authenticated", &json!({ "success": result.is_ok(), "message": message }));
    result.map(Some)
}

fn authenticate(session: &Session, argument: &str) -> Result<Value, WireError> {
    let credentials = Credentials::read(argument)?;
    let forms = credentials.forms()?;
    let identity = credentials.trusted()?;
    let (user, organization) = (identity.user.clone(), identity.organization.clone());
    session.identify(identity)?;
    if let Some(forms) = forms {
        session.recipient.set_forms(forms);
    }
    Ok(json!({
        "success": true,
        "socket_id": session.recipient.id,
        "user_id": user,
        "organization_id": organization,
        "permissions": ["subscribe", "acknowledge"],
        "message": "authenticated",
    }))
}

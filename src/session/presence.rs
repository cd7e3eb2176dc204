//! `presence`: a client gives its user a status.

use serde::Deserialize;
use serde_json::Value;

use super::session::Session;
use crate::presence::Status;
use crate::wire::{WireError, read_object};

#[derive(Deserialize)]
struct Request {
    status: String,
}

/// Answers `{success}`.
pub(super) fn handle(session: &Session, argument: &str) -> Result<Option<Value>, WireError> {
    let sessions = session.sessions().ok_or(WireError::Stopping)?;
    if !sessions.presence().is_on() {
        return session.as_identified("presence", |_| Err(WireError::UnknownEvent("presence".into())));
    }
    let request = session.as_identified("presence", |identity| {
        if identity.anonymous {
            return Err(WireError::NotAuthenticated("presence".into()));
        }
        read_object::<Request>("presence", argument)
    })?;
    session.set_status(Status::parse(&request.status)?)?;
    Ok(None)
}

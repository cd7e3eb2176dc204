//! `ack`: a client acknowledges a message by its id.

use serde::Deserialize;
use serde_json::Value;

use super::session::Session;
use crate::wire::{WireError, read_object};

#[derive(Deserialize)]
struct Acknowledgement {
    message_id: String,
}

/// Records the receipt; a message that is not known, or no longer, is no fault of the client's.
pub(super) fn handle(session: &Session, argument: &str) -> Result<Option<Value>, WireError> {
    let sessions = session.sessions().ok_or(WireError::Stopping)?;
    session.as_identified("ack", |identity| {
        let ack: Acknowledgement = read_object("ack", argument)?;
        sessions.services.hub.acknowledge_message(&ack.message_id, &session.recipient.id, &identity.organization);
        Ok(None)
    })
}

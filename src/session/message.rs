//! `message`: a client sends an envelope.

use serde::Deserialize;
use serde_json::{Value, json};

use super::session::Session;
use crate::wire::{WireError, now_iso, read_object};

#[derive(Deserialize)]
struct Envelope {
    message_id: String,
    event: String,
    #[serde(default)]
    requires_ack: bool,
}

/// Answers `{message_id, status, timestamp}` if the envelope requires it.
pub(super) fn handle(session: &Session, argument: &str) -> Result<Option<Value>, WireError> {
    let sessions = session.sessions().ok_or(WireError::Stopping)?;
    session.as_identified("message", |_| {
        let envelope: Envelope = read_object("message", argument)?;
        if sessions.services.hub.catalogue.event(&envelope.event).is_none() {
            return Err(WireError::UnknownEvent(envelope.event.chars().take(64).collect()));
        }
        let receipt = || json!({ "message_id": envelope.message_id, "status": "received", "timestamp": now_iso() });
        Ok(envelope.requires_ack.then(receipt))
    })
}

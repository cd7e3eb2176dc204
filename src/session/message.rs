//! `message`: a client sends an envelope.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client_events::{self, Handled, Reply, Sent};
use super::session::Session;
use crate::delivery::AnswerTo;
use crate::wire::{WireError, now_iso, read_object};

#[derive(Deserialize)]
struct Envelope {
    message_id: String,
    event: String,
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    requires_ack: bool,
}

/// When an envelope is answered.
pub(super) enum Answer {
    /// With this.
    Now(Option<Value>),
    /// When the event inside it has been handled.
    Later,
}

/// Handles the event inside by its rule, and answers `{message_id, status, timestamp}` if the envelope requires it.
pub(super) fn handle(
    session: &Arc<Session>,
    argument: &str,
    answer_to: Option<&AnswerTo>,
) -> Result<Answer, WireError> {
    let sessions = session.sessions().ok_or(WireError::Stopping)?;
    let envelope: Envelope = session.as_identified("message", |_| read_object("message", argument))?;
    let name = || envelope.event.chars().take(64).collect();
    let receipt = || json!({ "message_id": envelope.message_id, "status": "received", "timestamp": now_iso() });
    let receipt = envelope.requires_ack.then(receipt);
    let data = envelope.data.as_deref().unwrap_or(RawValue::NULL);
    let sent = Sent { name: &envelope.event, argument: data, attachments: None };
    let reply = || Reply::new(session, answer_to).with_receipt(receipt.clone().unwrap_or(json!({ "success": true })));
    match client_events::handle(session, sent, reply)? {
        Handled::Unknown if sessions.services.hub.catalogue.event(&envelope.event).is_none() => {
            Err(WireError::UnknownEvent(name()))
        }
        Handled::Unknown | Handled::Done => Ok(Answer::Now(receipt)),
        Handled::Later => Ok(Answer::Later),
    }
}

//! `client:ping`: works before a socket authenticates.

use serde_json::{Value, json};

use super::session::Session;
use crate::wire::{WireError, now_iso};

/// Answers `{pong, server_time, timestamp?}`, or emits `client:pong` when no answer is asked for.
pub(super) fn handle(session: &Session, argument: &str, answered: bool) -> Result<Option<Value>, WireError> {
    let mut pong = json!({ "server_time": now_iso() });
    let argument: Value = serde_json::from_str(argument).unwrap_or(Value::Null);
    if let Some(timestamp) = argument.get("timestamp") {
        pong["timestamp"] = timestamp.clone();
    }
    if answered {
        pong["pong"] = json!(true);
        return Ok(Some(pong));
    }
    session.recipient.emit("client:pong", &pong);
    Ok(None)
}

//! What a client's packets may do before Engine.IO sees them, on either transport.

use std::borrow::Cow;
use std::sync::Arc;

use super::connection::Connection;
use crate::wire::WireError;
use crate::wire::packet::{self, Kind};

/// Ack ids from here on are ours; socketioxide counts up from 1.
const SHARED_ACK_IDS: u64 = 1 << 40;

/// Longest path of a namespace: three ids of 128 bytes, each byte encoded, and what is between them.
const MAX_NAMESPACE: usize = 3 * 3 * 128 + 32;

/// Longest path that is repeated in a refusal.
const MAX_ECHO: usize = 16 * 1024;

/// Characters of a name that are shown back.
const SHOWN: usize = 64;

/// What becomes of an Engine.IO message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Engine.IO gets it.
    Pass,
    /// Engine.IO gets it, and again if it does not answer.
    Connect,
    /// Nobody gets it.
    Drop,
    /// Engine.IO gets this instead.
    Replace(String),
}

/// Looks at a message that came over a WebSocket.
pub(super) fn inspect(text: &str, connection: &Arc<Connection>) -> Verdict {
    let Some(body) = text.strip_prefix('4') else {
        // Heartbeats: beyond their bound they only cost.
        return if connection.plane().takes_packet(connection) { Verdict::Pass } else { Verdict::Drop };
    };
    let Some(head) = packet::parse(body) else { return Verdict::Pass };
    match head.kind {
        Kind::Connect if !connection.plane().takes_connect(connection) => {
            let refusal = WireError::RateLimited(connection.plane().settings.packets_per_second).connect_error();
            connection.send_connect_error(&packet::connect_error(head.namespace, &refusal));
            Verdict::Drop
        }
        Kind::Ack if !connection.plane().takes_packet(connection) => Verdict::Drop,
        Kind::Connect => connect(&head, connection),
        Kind::Disconnect => {
            connection.begin_leave(head.namespace);
            Verdict::Pass
        }
        Kind::Ack if acknowledge(&head, connection) => Verdict::Drop,
        Kind::Event => nameable(&head).map_or(Verdict::Pass, Verdict::Replace),
        _ => Verdict::Pass,
    }
}

fn connect(head: &packet::Head<'_>, connection: &Arc<Connection>) -> Verdict {
    if let Some(intake) = connection.plane().intake() {
        if !is_plain(head) {
            let refusal = WireError::UnknownNamespace(head.namespace.chars().take(SHOWN).collect()).connect_error();
            // A name that nobody has typed is not sent back.
            if head.namespace.len() <= MAX_ECHO {
                connection.send_connect_error(&packet::connect_error(head.namespace, &refusal));
            }
            return Verdict::Drop;
        }
        if connection.is_open(head.namespace) {
            intake.clone().readmit(connection, head.namespace, head.body);
            return Verdict::Drop;
        }
        if let Err(refusal) = intake.admissible(connection, head.namespace, head.body) {
            connection.send_connect_error(&packet::connect_error(head.namespace, &refusal.connect_error()));
            return Verdict::Drop;
        }
    }
    connection.begin_connect();
    Verdict::Connect
}

/// Whether a CONNECT names a namespace that can be one of ours: socketioxide would make any other, and keep
/// its query as part of its name.
fn is_plain(head: &packet::Head<'_>) -> bool {
    !head.has_query && head.namespace.len() <= MAX_NAMESPACE
}

/// An event whose name socketioxide cannot read, which would end the connection, without its name.
fn nameable(head: &packet::Head<'_>) -> Option<String> {
    let name = head.body.strip_prefix("[\"").unwrap_or("\\");
    let end = name.find(['"', '\\']);
    let plain = end.is_some_and(|end| name.as_bytes()[end] == b'"' && !name[..end].chars().any(char::is_control));
    let whole = || serde_json::from_str::<serde::de::IgnoredAny>(head.body).is_ok();
    (!plain || !whole()).then(|| packet::event(head.namespace, head.id, "\"\""))
}

fn acknowledge(head: &packet::Head<'_>, connection: &Connection) -> bool {
    let Some(id) = head.id.filter(|id| *id >= SHARED_ACK_IDS) else { return false };
    if let Some(intake) = connection.plane().intake() {
        intake.acknowledged(connection, head.namespace, id);
    }
    true
}

/// Looks through the packets of a polling request, as the reader of a WebSocket does; what is left
/// of them if something changed.
pub fn inspect_payload(body: &str, connection: &Arc<Connection>) -> Option<String> {
    let mut changed = false;
    let mut left: Vec<Cow<'_, str>> = Vec::new();
    for message in body.split('\u{1e}') {
        match inspect_polled(message, connection) {
            Verdict::Pass | Verdict::Connect => left.push(message.into()),
            Verdict::Drop => changed = true,
            Verdict::Replace(instead) => {
                changed = true;
                left.push(instead.into());
            }
        }
    }
    changed.then(|| left.join("\u{1e}"))
}

/// Checks a payload of protocol version 3, `<length>:<message>…`, and tells of the shared acks in it; they stay,
/// since socketioxide does not know them either. False if a length does not fit, which Engine.IO's own decoder
/// would puzzle over for ever.
pub fn inspect_payload_v3(body: &str, connection: &Connection) -> bool {
    for message in messages_v3(body) {
        let Some(message) = message else { return false };
        if let Some(head) = message.strip_prefix('4').and_then(packet::parse)
            && head.kind == Kind::Ack
        {
            acknowledge(&head, connection);
        }
    }
    true
}

/// The messages of a payload of protocol version 3; none where a length does not fit.
pub fn messages_v3(mut body: &str) -> impl Iterator<Item = Option<&str>> {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let message = body.split_once(':').and_then(|(length, rest)| {
            let message = first_units(rest, length.parse().ok()?)?;
            Some((message, &rest[message.len()..]))
        });
        body = message.map_or("", |(_, rest)| rest);
        Some(message.map(|(message, _)| message))
    })
}

/// The first so many UTF-16 code units of a text, as JavaScript counts; none if a character would be cut.
fn first_units(text: &str, units: usize) -> Option<&str> {
    let mut left = units;
    for (index, char) in text.char_indices() {
        if left == 0 {
            return Some(&text[..index]);
        }
        left = left.checked_sub(char.len_utf16())?;
    }
    (left == 0).then_some(text)
}

fn inspect_polled(message: &str, connection: &Arc<Connection>) -> Verdict {
    let Some(head) = message.strip_prefix('4').and_then(packet::parse) else { return Verdict::Pass };
    match head.kind {
        Kind::Connect => connect_polled(&head, connection),
        Kind::Disconnect => {
            connection.begin_leave(head.namespace);
            Verdict::Pass
        }
        Kind::Ack if !connection.plane().takes_packet(connection) || acknowledge(&head, connection) => Verdict::Drop,
        Kind::Event => nameable(&head).map_or(Verdict::Pass, Verdict::Replace),
        _ => Verdict::Pass,
    }
}

fn connect_polled(head: &packet::Head<'_>, connection: &Arc<Connection>) -> Verdict {
    let Some(intake) = connection.plane().intake() else { return Verdict::Pass };
    if !is_plain(head) {
        return Verdict::Drop;
    }
    let refusal = if connection.plane().takes_connect(connection) {
        if connection.is_open(head.namespace) {
            intake.clone().readmit(connection, head.namespace, head.body);
            return Verdict::Drop;
        }
        intake.admissible(connection, head.namespace, head.body).err()
    } else {
        Some(WireError::RateLimited(connection.plane().settings.packets_per_second))
    };
    // A client in no namespace is told by socketioxide, whose middleware refuses for the same reason.
    match refusal {
        Some(refusal) if intake.refuse(connection, head.namespace, &refusal) => Verdict::Drop,
        _ => Verdict::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_as_javascript_does_and_never_cut_a_character() {
        assert_eq!(first_units("\u{1f600}x", 2), Some("\u{1f600}"));
        assert_eq!(first_units("\u{1f600}x", 1), None);
        assert_eq!(first_units("ab", 2), Some("ab"));
        assert_eq!(first_units("ab", 3), None);
        assert_eq!(first_units("", 0), Some(""));
    }
}

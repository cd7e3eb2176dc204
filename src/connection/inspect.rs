//! What a client's packets may do before Engine.IO sees them, on either transport.

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

/// The answer to a ping.
pub(super) const PONG: &str = "3";

/// Ends a session.
const CLOSE: &str = "1";

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
        if text == PONG {
            connection.prove();
        }
        return heartbeat(text, connection);
    };
    let Some(head) = packet::parse(body) else { return Verdict::Pass };
    match head.kind {
        Kind::Connect if !connection.plane().takes_connect(connection) => {
            if head.namespace.len() <= MAX_ECHO {
                let refusal = WireError::RateLimited(connection.plane().settings.packets_per_second).connect_error();
                connection.send_connect_error(&packet::connect_error(head.namespace, &refusal));
            }
            Verdict::Drop
        }
        Kind::Ack | Kind::Disconnect | Kind::ConnectError if !takes(text, connection) => Verdict::Drop,
        Kind::BinaryEvent | Kind::BinaryAck if !takes_attachments(&head, connection) => Verdict::Drop,
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

/// A message of Engine.IO itself: beyond their bound heartbeats only cost.
fn heartbeat(text: &str, connection: &Arc<Connection>) -> Verdict {
    connection.check_attachments();
    if text == CLOSE || takes(text, connection) { Verdict::Pass } else { Verdict::Drop }
}

/// Whether a packet that is no event is within its bounds.
fn takes(text: &str, connection: &Arc<Connection>) -> bool {
    connection.plane().takes_packet(connection) && connection.takes_bytes(text.len())
}

/// The same for one with attachments, which ends its connection otherwise: they would be taken for others.
fn takes_attachments(head: &packet::Head<'_>, connection: &Arc<Connection>) -> bool {
    let is_event = head.kind == Kind::BinaryEvent;
    (is_event || connection.plane().takes_packet(connection)) && connection.expect_attachments(head.attachments)
}

fn connect(head: &packet::Head<'_>, connection: &Arc<Connection>) -> Verdict {
    if let Some(intake) = connection.plane().intake() {
        if !is_plain(head) {
            // A name that nobody has typed is not sent back.
            if head.namespace.len() <= MAX_ECHO {
                let refusal = unknown(head).connect_error();
                connection.send_connect_error(&packet::connect_error(head.namespace, &refusal));
            }
            return Verdict::Drop;
        }
        if connection.is_inside(head.namespace) {
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

fn unknown(head: &packet::Head<'_>) -> WireError {
    WireError::UnknownNamespace(head.namespace.chars().take(SHOWN).collect())
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

/// Looks at a packet that came by polling.
pub(super) fn inspect_polled(message: &str, connection: &Arc<Connection>) -> Verdict {
    if message.starts_with('b') {
        connection.take_attachment();
        return Verdict::Pass;
    }
    let Some(body) = message.strip_prefix('4') else {
        return heartbeat(message, connection);
    };
    let Some(head) = packet::parse(body) else { return Verdict::Pass };
    match head.kind {
        Kind::Ack | Kind::Disconnect | Kind::ConnectError if !takes(message, connection) => Verdict::Drop,
        Kind::BinaryEvent | Kind::BinaryAck if !takes_attachments(&head, connection) => Verdict::Drop,
        Kind::Connect => connect_polled(&head, connection),
        Kind::Disconnect => {
            connection.begin_leave(head.namespace);
            Verdict::Pass
        }
        Kind::Ack if acknowledge(&head, connection) => Verdict::Drop,
        Kind::Event => nameable(&head).map_or(Verdict::Pass, Verdict::Replace),
        _ => Verdict::Pass,
    }
}

fn connect_polled(head: &packet::Head<'_>, connection: &Arc<Connection>) -> Verdict {
    let Some(intake) = connection.plane().intake() else { return Verdict::Pass };
    if !is_plain(head) {
        // A name that nobody has typed is not sent back.
        if head.namespace.len() <= MAX_ECHO {
            intake.refuse(connection, head.namespace, &unknown(head));
        }
        return Verdict::Drop;
    }
    let refusal = if connection.plane().takes_connect(connection) {
        if connection.is_inside(head.namespace) {
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
        Some(_) => Verdict::Pass,
        None => {
            connection.begin_connect_polled();
            Verdict::Connect
        }
    }
}

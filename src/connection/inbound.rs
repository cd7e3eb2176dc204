//! What comes in over a WebSocket, frame by frame, before Engine.IO sees it.
//!
//! Frames are checked, unmasked and put together; whole messages are handed on
//! as single frames. A message over the hard limit ends the connection with
//! 1009 before it is held in memory.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::connection::Connection;
use super::deflate::{InflateError, inflate};
use super::frame::{Head, MAX_HEAD, RESERVED_1, close_code, opcode, put_head, unmask};
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

/// What has come in and is not yet handed on.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// A frame that is not complete.
    partial: Vec<u8>,
    /// A message that is not complete.
    message: Option<Partial>,
    /// Whole messages as frames, for Engine.IO.
    ready: Vec<u8>,
    consumed: usize,
    /// Messages behind a CONNECT that is not answered: before that, socketioxide would take
    /// them for a fault.
    held: VecDeque<(u8, Vec<u8>)>,
    /// The CONNECT that was handed on last.
    connect: Vec<u8>,
    pub(super) ended: bool,
    /// Whether Engine.IO's next ping is answered here, in the client's place.
    pub(super) answers_ping: bool,
    /// The reader, as long as that answer is to come.
    pub(super) reader: Option<Waker>,
}

/// The fragments of a message, put together as far as they have come.
#[derive(Debug)]
struct Partial {
    opcode: u8,
    deflated: bool,
    payload: Vec<u8>,
}

impl Inbound {
    /// What is ready for Engine.IO; `consume` takes it away.
    pub(super) fn ready(&self) -> &[u8] {
        &self.ready[self.consumed..]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.consumed += count;
        if self.consumed == self.ready.len() {
            self.ready = Vec::new();
            self.consumed = 0;
        }
    }

    /// Whether messages wait for the answer to a CONNECT.
    pub(super) fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Hands on what waited, up to the next CONNECT.
    pub(super) fn release(&mut self, connection: &Arc<Connection>) {
        while !connection.is_connecting()
            && let Some((opcode, payload)) = self.held.pop_front()
        {
            self.message(opcode, &payload, connection);
        }
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
    }

    /// Answers a ping of Engine.IO in the client's place.
    pub(super) fn pong(&mut self) {
        self.answers_ping = false;
        self.hand_on(opcode::TEXT, b"3");
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Hands the last CONNECT on again.
    pub(super) fn repeat_connect(&mut self) {
        let connect = std::mem::take(&mut self.connect);
        self.hand_on(opcode::TEXT, &connect);
        self.connect = connect;
    }

    /// Takes bytes from the stream.
    pub(super) fn feed(&mut self, bytes: &mut [u8], connection: &Arc<Connection>) {
        let result = if self.partial.is_empty() {
            let result = self.parse(bytes, connection);
            result.map(|used| self.partial.extend_from_slice(&bytes[used..]))
        } else {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(bytes);
            let result = self.parse(&mut partial, connection);
            result.map(|used| {
                partial.drain(..used);
                self.partial = partial;
                if self.partial.is_empty() {
                    self.partial = Vec::new();
                }
            })
        };
        if let Err(code) = result {
            self.ended = true;
            self.partial = Vec::new();
            self.message = None;
            connection.finish(code);
        }
    }

    /// Takes every whole frame, and says how many bytes they had; an error is the close code.
    fn parse(&mut self, bytes: &mut [u8], connection: &Arc<Connection>) -> Result<usize, u16> {
        let limit = connection.plane().settings.max_frame_bytes as u64;
        let mut used = 0;
        while let Some(head) = Head::parse(&bytes[used..]) {
            self.check(&head, limit, connection.takes_deflate())?;
            let start = used + head.size;
            let end = start + head.length as usize;
            if end > bytes.len() {
                break;
            }
            let payload = &mut bytes[start..end];
            unmask(payload, head.mask.ok_or(close_code::PROTOCOL_ERROR)?);
            used = end;
            if head.is_control() {
                self.hand_on(head.opcode, payload);
            } else {
                self.data(&head, payload, connection)?;
            }
        }
        debug_assert!(bytes.len() - used < limit as usize + MAX_HEAD);
        Ok(used)
    }

    fn check(&self, head: &Head, limit: u64, deflate: bool) -> Result<(), u16> {
        let in_order = match head.opcode {
            opcode::CONTINUATION => self.message.is_some(),
            opcode::TEXT | opcode::BINARY => self.message.is_none(),
            _ => head.is_control() && head.fin && head.length <= 125 && head.opcode <= 0xa,
        };
        // Only the first frame of a message says that it is compressed.
        let begins = matches!(head.opcode, opcode::TEXT | opcode::BINARY);
        let reserved = if deflate && begins { head.reserved & !RESERVED_1 } else { head.reserved };
        if reserved != 0 || head.mask.is_none() || !in_order {
            return Err(close_code::PROTOCOL_ERROR);
        }
        let held = self.message.as_ref().map_or(0, |message| message.payload.len() as u64);
        if !head.is_control() && head.length.saturating_add(held) > limit {
            return Err(close_code::TOO_BIG);
        }
        Ok(())
    }

    fn data(&mut self, head: &Head, payload: &[u8], connection: &Arc<Connection>) -> Result<(), u16> {
        let deflated = head.reserved & RESERVED_1 != 0;
        match (self.message.take(), head.fin) {
            (None, true) if !deflated => self.whole(head.opcode, payload, connection),
            (None, true) => self.inflated(head.opcode, payload, connection)?,
            (None, false) => {
                self.message = Some(Partial { opcode: head.opcode, deflated, payload: payload.to_vec() });
            }
            (Some(mut message), fin) => {
                message.payload.extend_from_slice(payload);
                match (fin, message.deflated) {
                    (false, _) => self.message = Some(message),
                    (true, false) => self.whole(message.opcode, &message.payload, connection),
                    (true, true) => self.inflated(message.opcode, &message.payload, connection)?,
                }
            }
        }
        Ok(())
    }

    fn inflated(&mut self, opcode: u8, payload: &[u8], connection: &Arc<Connection>) -> Result<(), u16> {
        let message = inflate(payload, connection.plane().settings.max_frame_bytes).map_err(|error| match error {
            InflateError::Damaged => close_code::INVALID_PAYLOAD,
            InflateError::TooLarge => close_code::TOO_BIG,
        })?;
        self.whole(opcode, &message, connection);
        Ok(())
    }

    fn whole(&mut self, opcode: u8, payload: &[u8], connection: &Arc<Connection>) {
        if self.is_held() || connection.is_connecting() {
            self.held.push_back((opcode, payload.to_vec()));
        } else {
            self.message(opcode, payload, connection);
        }
    }

    fn message(&mut self, opcode: u8, payload: &[u8], connection: &Arc<Connection>) {
        if connection.is_dismissed() {
            return;
        }
        if opcode == opcode::TEXT
            && let Ok(text) = std::str::from_utf8(payload)
        {
            match inspect(text, connection) {
                Verdict::Pass => {}
                Verdict::Connect => self.connect = payload.to_vec(),
                Verdict::Drop => return,
                Verdict::Replace(instead) => return self.hand_on(opcode::TEXT, instead.as_bytes()),
            }
        }
        self.hand_on(opcode, payload);
    }

    /// A mask of zeros costs nothing and is what a server expects of its client.
    fn hand_on(&mut self, opcode: u8, payload: &[u8]) {
        put_head(&mut self.ready, opcode, payload.len(), true);
        self.ready.extend_from_slice(payload);
    }
}

/// What becomes of an Engine.IO message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Engine.IO gets it.
    Pass,
    /// Engine.IO gets it, and again if it does not answer.
    Connect,
    /// Nobody gets it.
    Drop,
    /// Engine.IO gets this instead.
    Replace(String),
}

fn inspect(text: &str, connection: &Arc<Connection>) -> Verdict {
    let Some(body) = text.strip_prefix('4') else {
        // Heartbeats: beyond their bound they only cost.
        return if connection.packets.take() { Verdict::Pass } else { Verdict::Drop };
    };
    let Some(head) = packet::parse(body) else { return Verdict::Pass };
    match head.kind {
        Kind::Connect if !connection.connects.take() => {
            let refusal = WireError::RateLimited(connection.plane().settings.packets_per_second).connect_error();
            connection.send_connect_error(&packet::connect_error(head.namespace, &refusal));
            Verdict::Drop
        }
        Kind::Ack if !connection.packets.take() => Verdict::Drop,
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
pub fn inspect_payload_v3(mut body: &str, connection: &Connection) -> bool {
    while !body.is_empty() {
        let Some((length, rest)) = body.split_once(':') else { return false };
        let Some(message) = length.parse().ok().and_then(|units| first_units(rest, units)) else { return false };
        if let Some(head) = message.strip_prefix('4').and_then(packet::parse)
            && head.kind == Kind::Ack
        {
            acknowledge(&head, connection);
        }
        body = &rest[message.len()..];
    }
    true
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
        Kind::Ack if !connection.packets.take() || acknowledge(&head, connection) => Verdict::Drop,
        Kind::Event => nameable(&head).map_or(Verdict::Pass, Verdict::Replace),
        _ => Verdict::Pass,
    }
}

fn connect_polled(head: &packet::Head<'_>, connection: &Arc<Connection>) -> Verdict {
    let Some(intake) = connection.plane().intake() else { return Verdict::Pass };
    if !is_plain(head) {
        return Verdict::Drop;
    }
    let refusal = if connection.connects.take() {
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

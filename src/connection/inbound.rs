//! What comes in over a WebSocket, frame by frame, before Engine.IO sees it.
//!
//! Frames are checked, unmasked and put together; whole messages are handed on
//! as single frames. A message over the hard limit ends the connection with
//! 1009 before it is held in memory.

use std::sync::Arc;

use super::connection::Connection;
use super::frame::{Head, MAX_HEAD, close_code, opcode, put_head, unmask};
use crate::wire::packet::{self, Kind};

/// Ack ids from here on are ours; socketioxide counts up from 1.
const SHARED_ACK_IDS: u64 = 1 << 40;

/// What has come in and is not yet handed on.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// A frame that is not complete.
    partial: Vec<u8>,
    /// Opcode and payload of a message that is not complete.
    message: Option<(u8, Vec<u8>)>,
    /// Whole messages as frames, for Engine.IO.
    ready: Vec<u8>,
    consumed: usize,
    pub(super) ended: bool,
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
            self.check(&head, limit)?;
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
                self.data(&head, payload, connection);
            }
        }
        debug_assert!(bytes.len() - used < limit as usize + MAX_HEAD);
        Ok(used)
    }

    fn check(&self, head: &Head, limit: u64) -> Result<(), u16> {
        let in_order = match head.opcode {
            opcode::CONTINUATION => self.message.is_some(),
            opcode::TEXT | opcode::BINARY => self.message.is_none(),
            _ => head.is_control() && head.fin && head.length <= 125 && head.opcode <= 0xa,
        };
        if head.reserved != 0 || head.mask.is_none() || !in_order {
            return Err(close_code::PROTOCOL_ERROR);
        }
        let held = self.message.as_ref().map_or(0, |(_, payload)| payload.len() as u64);
        if !head.is_control() && head.length.saturating_add(held) > limit {
            return Err(close_code::TOO_BIG);
        }
        Ok(())
    }

    fn data(&mut self, head: &Head, payload: &[u8], connection: &Arc<Connection>) {
        match (self.message.take(), head.fin) {
            (None, true) => self.whole(head.opcode, payload, connection),
            (None, false) => self.message = Some((head.opcode, payload.to_vec())),
            (Some((opcode, mut message)), fin) => {
                message.extend_from_slice(payload);
                if fin {
                    self.whole(opcode, &message, connection);
                } else {
                    self.message = Some((opcode, message));
                }
            }
        }
    }

    fn whole(&mut self, opcode: u8, payload: &[u8], connection: &Arc<Connection>) {
        if opcode == opcode::TEXT
            && let Ok(text) = std::str::from_utf8(payload)
        {
            match inspect(text, connection) {
                Verdict::Pass => {}
                Verdict::Drop => return,
                Verdict::LeaveFirst(leave) => self.hand_on(opcode::TEXT, leave.as_bytes()),
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
    /// Nobody gets it.
    Drop,
    /// Engine.IO gets this DISCONNECT before it.
    LeaveFirst(String),
}

fn inspect(text: &str, connection: &Arc<Connection>) -> Verdict {
    let Some(body) = text.strip_prefix('4') else {
        if text == "5" {
            connection.set_upgraded();
        }
        // Heartbeats: beyond their bound they only cost.
        return if connection.packets.take() { Verdict::Pass } else { Verdict::Drop };
    };
    match body.as_bytes().first() {
        Some(b'0') => {
            if !connection.packets.take() {
                return Verdict::Drop;
            }
            let Some(head) = packet::parse(body) else { return Verdict::Pass };
            leave_first(head.namespace, connection).map_or(Verdict::Pass, Verdict::LeaveFirst)
        }
        Some(b'3') => {
            if !connection.packets.take() {
                return Verdict::Drop;
            }
            if acknowledge(body, connection) { Verdict::Drop } else { Verdict::Pass }
        }
        _ => Verdict::Pass,
    }
}

/// A CONNECT for a namespace that the connection is in means that the client has left it:
/// socketioxide would ignore the CONNECT without an answer.
fn leave_first(namespace: &str, connection: &Connection) -> Option<String> {
    connection.is_open(namespace).then(|| packet::disconnect(namespace))
}

fn acknowledge(body: &str, connection: &Connection) -> bool {
    let Some(head) = packet::parse(body) else { return false };
    let (Kind::Ack, Some(id)) = (head.kind, head.id) else { return false };
    if id < SHARED_ACK_IDS {
        return false;
    }
    if let Some(intake) = connection.plane().intake() {
        intake.acknowledged(connection, head.namespace, id);
    }
    true
}

/// Looks through the packets of a polling request: tells of shared acks, and puts a DISCONNECT
/// before each CONNECT for a namespace that the connection is in.
pub fn inject_disconnects(body: &str, connection: &Connection) -> Option<String> {
    let mut injected = false;
    let mut out = String::with_capacity(body.len());
    for (index, message) in body.split('\u{1e}').enumerate() {
        if index > 0 {
            out.push('\u{1e}');
        }
        if let Some(head) = message.strip_prefix('4').and_then(packet::parse) {
            match head.kind {
                Kind::Connect => {
                    if let Some(leave) = leave_first(head.namespace, connection) {
                        injected = true;
                        out.push_str(&leave);
                        out.push('\u{1e}');
                    }
                }
                Kind::Ack => {
                    acknowledge(&message[1..], connection);
                }
                _ => {}
            }
        }
        out.push_str(message);
    }
    injected.then_some(out)
}

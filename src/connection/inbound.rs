//! What comes in over a WebSocket on its way to Engine.IO, which gets whole messages as single frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::connection::Connection;
use super::frame::{close_code, opcode, put_head};
use super::inspect::{PONG, Verdict, inspect};
use super::reader::FrameReader;
use crate::dialects::Dialect;
use crate::stats::Refusal;
use crate::wire::WireError;

/// Longest reason that is given, in characters: part of it may be the client's.
const MAX_REASON: usize = 200;

/// What has come in and is not yet handed on.
pub(super) struct Inbound {
    reader: FrameReader,
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
    /// Who waits for messages, as long as that answer is to come.
    pub(super) waiting: Option<Waker>,
}

impl Inbound {
    pub(super) fn new(reader: FrameReader) -> Self {
        Self {
            reader,
            ready: Vec::new(),
            consumed: 0,
            held: VecDeque::new(),
            connect: Vec::new(),
            ended: false,
            answers_ping: false,
            waiting: None,
        }
    }

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
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
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
        let mut reader = std::mem::take(&mut self.reader);
        reader.hold(connection.max_held_bytes());
        let result = reader.feed(bytes, |opcode, payload| self.take(opcode, payload, connection));
        match result {
            Ok(()) => self.reader = reader,
            Err(code) => {
                if code == close_code::TOO_BIG {
                    connection.plane().counters.refused(Refusal::LargeMessages);
                }
                self.ended = true;
                connection.finish(code);
            }
        }
    }

    /// Takes a whole message or a control frame.
    pub(super) fn take(&mut self, opcode: u8, payload: &[u8], connection: &Arc<Connection>) {
        if opcode == opcode::PONG && connection.plain().is_some() {
            self.heartbeat(connection);
        } else if opcode::is_control(opcode) {
            if opcode == opcode::CLOSE {
                connection.leaving.store(true, Ordering::Relaxed);
            } else if !connection.plane().takes_packet(connection) {
                return;
            }
            self.hand_on(opcode, payload);
        } else if self.is_held() || connection.is_connecting() {
            self.held.push_back((opcode, payload.to_vec()));
        } else {
            self.message(opcode, payload, connection);
        }
    }

    fn message(&mut self, opcode: u8, payload: &[u8], connection: &Arc<Connection>) {
        if connection.is_dismissed() {
            return;
        }
        if let Some(plain) = connection.plain() {
            return hear(&*plain.dialect, opcode, payload, connection);
        }
        self.packet(opcode, payload, connection);
    }

    /// Asks for the main namespace in the place of a client that does not speak Socket.IO; `auth` is the JSON of
    /// its credentials.
    pub(super) fn enter(&mut self, auth: &str, connection: &Arc<Connection>) {
        self.packet(opcode::TEXT, format!("40{auth}").as_bytes(), connection);
    }

    /// The answer to our ping in a frame of the WebSocket, as Engine.IO knows it.
    fn heartbeat(&mut self, connection: &Arc<Connection>) {
        if inspect(PONG, connection) == Verdict::Pass {
            self.hand_on(opcode::TEXT, PONG.as_bytes());
        }
    }

    fn packet(&mut self, opcode: u8, payload: &[u8], connection: &Arc<Connection>) {
        if opcode == opcode::TEXT
            && let Ok(text) = std::str::from_utf8(payload)
        {
            match inspect(text, connection) {
                Verdict::Pass => {}
                Verdict::Connect => self.connect = payload.to_vec(),
                Verdict::Drop => return,
                Verdict::Replace(instead) => return self.hand_on(opcode::TEXT, instead.as_bytes()),
            }
        } else {
            connection.take_attachment();
        }
        self.hand_on(opcode, payload);
    }

    /// A mask of zeros costs nothing and is what a server expects of its client.
    pub(super) fn hand_on(&mut self, opcode: u8, payload: &[u8]) {
        put_head(&mut self.ready, opcode, payload.len(), true);
        self.ready.extend_from_slice(payload);
    }
}

/// Has a frame of a client that does not speak Socket.IO read and done.
fn hear(dialect: &dyn Dialect, opcode: u8, payload: &[u8], connection: &Arc<Connection>) {
    let Some(intake) = connection.plane().intake() else { return };
    let limit = connection.plane().settings.max_message_bytes;
    if payload.len() > limit {
        return intake.heard(connection, Err(WireError::TooLarge { size: payload.len(), limit }));
    }
    // Reading costs, whatever is asked for.
    if !connection.plane().takes_packet(connection) {
        let rate = connection.plane().settings.packets_per_second;
        return intake.heard(connection, Err(WireError::RateLimited(rate)));
    }
    let requests = match str::from_utf8(payload) {
        _ if opcode != opcode::TEXT => Err("binary frames are not understood; send text".to_owned()),
        Ok(text) => dialect.read(text),
        Err(_) => Err("the frame is not UTF-8".to_owned()),
    };
    match requests {
        Ok(requests) => requests.into_iter().for_each(|request| intake.heard(connection, Ok(request))),
        Err(why) => intake.heard(connection, Err(WireError::Frame(why.chars().take(MAX_REASON).collect()))),
    }
}

impl std::fmt::Debug for Inbound {
    /// What a client sends may hold a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound").finish_non_exhaustive()
    }
}

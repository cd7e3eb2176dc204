//! The stream that socketioxide gets in place of the client's.
//!
//! Writing never blocks, so that its writer task always ends; what it writes
//! are whole frames, which go to the connection's outbox.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;
use super::frame::{Head, close_code, frame, opcode, text_frame};
use super::inbound::Inbound;
use super::peer::EngineIo;
use super::probe::{self, Probed};
use super::reader::FrameReader;
use super::transport::Inflow;

/// A handle to a connection that reads and writes like a stream after its WebSocket handshake.
#[derive(Debug)]
pub struct EngineStream {
    connection: Arc<Connection>,
    inbound: Box<Inbound>,
}

impl EngineStream {
    /// A stream over a connection that begins; `read` is what came in behind the handshake.
    pub fn new(connection: Arc<Connection>, read: &[u8]) -> Self {
        let limit = connection.plane().settings.max_frame_bytes;
        let mut inbound = Box::new(Inbound::new(FrameReader::new(limit, connection.takes_deflate())));
        // Engine.IO pings at once, its reference server after the first interval: clients expect that.
        inbound.answers_ping = connection.peer().protocol == EngineIo::V4;
        inbound.feed(&mut read.to_vec(), &connection);
        Self { connection, inbound }
    }

    /// The same for a client that does not speak Socket.IO: `auth` is the JSON of its credentials.
    pub fn plain(connection: Arc<Connection>, read: &[u8], auth: &str) -> Self {
        let mut stream = Self::new(connection, &[]);
        stream.inbound.enter(auth, &stream.connection);
        stream.inbound.feed(&mut read.to_vec(), &stream.connection);
        stream
    }

    /// A stream over a connection that goes over to it from polling: Engine.IO is played the probe again.
    pub fn upgraded(connection: Arc<Connection>, probed: Probed) -> Self {
        let mut inbound = Box::new(Inbound::new(probed.reader));
        inbound.hand_on(opcode::TEXT, probe::PING);
        inbound.hand_on(opcode::TEXT, probe::UPGRADE);
        for (opcode, payload) in probed.behind {
            inbound.take(opcode, &payload, &connection);
        }
        Self { connection, inbound }
    }
}

impl Drop for EngineStream {
    fn drop(&mut self) {
        self.connection.end();
    }
}

impl AsyncRead for EngineStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { connection, inbound } = &mut *self;
        let transport = connection.transport.get().expect("a stream is made over a WebSocket");
        if inbound.answers_ping {
            inbound.waiting = Some(cx.waker().clone());
        }
        loop {
            let ready = inbound.ready();
            if !ready.is_empty() {
                let count = ready.len().min(buf.remaining());
                buf.put_slice(&ready[..count]);
                inbound.consume(count);
                return Poll::Ready(Ok(()));
            }
            if connection.take_repeat() {
                inbound.repeat_connect();
                continue;
            }
            if inbound.is_held() {
                if connection.park(cx.waker(), true) {
                    return Poll::Pending;
                }
                inbound.release(connection);
                continue;
            }
            if inbound.ended {
                return Poll::Ready(Ok(()));
            }
            if connection.is_closed() {
                inbound.ended = true;
                continue;
            }
            if transport.tcp().poll_read_ready(cx)?.is_pending() {
                if connection.park(cx.waker(), false) {
                    return Poll::Pending;
                }
                continue;
            }
            match transport.try_read(|bytes| inbound.feed(bytes, connection)) {
                Ok(Inflow::Open) => {}
                Ok(Inflow::Ended) => inbound.ended = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for EngineStream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut rest = bytes;
        while let Some(head) = Head::parse(rest) {
            let end = head.size + head.length as usize;
            let Some(payload) = rest.get(head.size..end) else { break };
            if self.inbound.answers_ping && head.opcode == opcode::TEXT && payload == b"2" {
                self.inbound.pong();
            } else {
                outgoing(&self.connection, head.opcode, payload);
            }
            rest = &rest[end..];
        }
        debug_assert!(rest.is_empty(), "whole frames are written");
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A frame of Engine.IO goes out: two kinds of packets are rewritten on their way.
fn outgoing(connection: &Arc<Connection>, opcode: u8, payload: &[u8]) {
    if opcode == opcode::TEXT
        && let Ok(text) = std::str::from_utf8(payload)
    {
        if connection.is_switching() {
            connection.took(text.len());
            if let Some(mark) = connection.mark_of(text) {
                return connection.pass_mark(mark);
            }
        }
        if connection.plain().is_some() {
            return match payload {
                [b'0', ..] => take_sid(text, connection),
                b"2" => connection.send_ping(),
                [b'4', b'0', ..] => connection.send_connect(text),
                [b'4', b'4', ..] => connection.send_connect_error(text),
                _ => {}
            };
        }
        return match payload {
            // The client has had its answer to the probe.
            probe::PONG => {}
            [b'0', ..] => connection.send_control(text_frame(&advertise(text, connection))),
            b"2" => connection.send_ping(),
            [b'4', b'0', ..] => connection.send_connect(text),
            [b'4', b'4', ..] => connection.send_connect_error(text),
            _ => connection.send_control(connection.frame_for(text)),
        };
    }
    // Engine.IO closes a connection whose client does not answer; what that means for the client its dialect knows.
    if opcode == opcode::CLOSE && connection.plain().is_some() && !connection.leaving.load(Ordering::Relaxed) {
        return connection.finish(close_code::NORMAL);
    }
    connection.send_control(frame(opcode, payload));
}

/// The OPEN packet names the largest message a client should send, not the largest one read.
fn advertise(open: &str, connection: &Connection) -> String {
    take_sid(open, connection);
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(&open[1..]) else { return open.to_owned() };
    value["maxPayload"] = connection.plane().settings.max_message_bytes.into();
    format!("0{value}")
}

/// The OPEN packet tells the session id.
fn take_sid(open: &str, connection: &Connection) {
    #[derive(serde::Deserialize)]
    struct Open<'a> {
        sid: &'a str,
    }
    if let Ok(sid) = serde_json::from_str::<Open<'_>>(&open[1..]).map(|open| open.sid.parse())
        && let Ok(sid) = sid
    {
        connection.set_sid(sid);
    }
}

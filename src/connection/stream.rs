//! The stream that socketioxide gets in place of the TCP stream.
//!
//! Writing never blocks, so that its writer task always ends; what it writes
//! are whole frames, which go to the connection's outbox.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::connection::Connection;
use super::frame::{Head, frame, opcode, text_frame};
use super::inbound::Inbound;

const SCRATCH: usize = 16 * 1024;

thread_local! {
    /// One read buffer a thread, since a connection needs it only while it reads.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// A handle to a connection that reads and writes like a stream after its WebSocket handshake.
#[derive(Debug)]
pub struct EngineStream {
    connection: Arc<Connection>,
    inbound: Box<Inbound>,
}

impl EngineStream {
    /// A stream over a connection; `read` is what came in behind the handshake.
    pub fn new(connection: Arc<Connection>, read: &[u8]) -> Self {
        let mut inbound = Box::<Inbound>::default();
        inbound.feed(&mut read.to_vec(), &connection);
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
        let tcp = connection.tcp().expect("a stream is made over a WebSocket");
        loop {
            let ready = inbound.ready();
            if !ready.is_empty() {
                let count = ready.len().min(buf.remaining());
                buf.put_slice(&ready[..count]);
                inbound.consume(count);
                return Poll::Ready(Ok(()));
            }
            if inbound.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(tcp.poll_read_ready(cx))?;
            let read: io::Result<usize> = BUFFER.with_borrow_mut(|buffer| {
                let count = tcp.try_read(buffer)?;
                inbound.feed(&mut buffer[..count], connection);
                Ok(count)
            });
            match read {
                Ok(0) => inbound.ended = true,
                // A short read has emptied the socket: the next look would only cost a system call.
                Ok(count) if count < SCRATCH => {
                    tcp.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into())).ok();
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for EngineStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut rest = bytes;
        while let Some(head) = Head::parse(rest) {
            let end = head.size + head.length as usize;
            let Some(payload) = rest.get(head.size..end) else { break };
            outgoing(&self.connection, head.opcode, payload);
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
        return match payload {
            [b'0', ..] => connection.send_control(text_frame(&advertise(text, connection))),
            [b'4', b'0', ..] => connection.send_connect(text),
            _ => connection.send_control(text_frame(text)),
        };
    }
    connection.send_control(frame(opcode, payload));
}

/// The OPEN packet names the largest message a client should send, not the largest one read.
fn advertise(open: &str, connection: &Connection) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(&open[1..]) else { return open.to_owned() };
    if let Some(sid) = value["sid"].as_str().and_then(|sid| sid.parse().ok()) {
        connection.set_sid(sid);
    }
    value["maxPayload"] = connection.plane().settings.max_message_bytes.into();
    format!("0{value}")
}

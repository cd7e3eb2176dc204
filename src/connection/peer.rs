//! The other side of a connection, as far as its handshake told.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::auth::{Bearer, Door};
use crate::dialects::{Dialect, Visitor};
use crate::wire::Forms;

/// Versions of the Engine.IO protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineIo {
    /// `EIO=3`: socket.io-client 2.
    V3,
    /// `EIO=4`: socket.io-client 3 and 4.
    V4,
}

/// Who is at the other end, and what the handshake asked for.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Address of the other end.
    pub address: SocketAddr,
    /// Its `User-Agent`.
    pub user_agent: Option<Box<str>>,
    /// Protocol version it speaks.
    pub protocol: EngineIo,
    /// `?forms=` of the handshake.
    pub forms: Option<Forms>,
    /// The token that the handshake carried beside the protocol.
    pub bearer: Option<Bearer>,
    /// What it speaks over a plain WebSocket; none for Socket.IO.
    pub plain: Option<Box<Plain>>,
}

/// A client that does not speak Socket.IO.
#[derive(Debug, Clone)]
pub struct Plain {
    /// What it speaks.
    pub dialect: Arc<dyn Dialect>,
    /// Number of the dialect, by which frames are shared.
    pub number: u8,
    /// The door it came in by.
    pub door: Arc<Door>,
    /// The id that it has given itself in its URL.
    pub client_id: Option<Box<str>>,
    /// How long events are collected into one frame, in milliseconds; 0 is not at all.
    pub batch_ms: u64,
}

impl Plain {
    /// What a greeting tells of it.
    pub fn visitor(&self) -> Visitor<'_> {
        Visitor { client_id: self.client_id.as_deref() }
    }
}

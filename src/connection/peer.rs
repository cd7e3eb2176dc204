//! The other side of a connection, as far as its handshake told.

use std::net::SocketAddr;

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
}

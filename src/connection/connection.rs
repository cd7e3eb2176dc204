//! One connection: an Engine.IO session, whatever carries it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use socketioxide::socket::Sid;
use tokio::net::TcpStream;

use super::frame::{deflated_text_frame, text_frame};
use super::outbox::Outbox;
use super::peer::Peer;
use super::plane::Plane;
use crate::limits::{Bucket, Seat};
use crate::wire::PublicId;

/// An Engine.IO session.
///
/// One that began as a WebSocket is written to through its outbox. One that
/// began on polling is sent to through socketioxide, also after its upgrade,
/// so that its order holds.
#[derive(Debug)]
pub struct Connection {
    pub(super) key: u64,
    pub(super) peer: Peer,
    pub(super) seat: Seat,
    pub(super) plane: Arc<Plane>,
    /// Whether it began as a WebSocket.
    pub(super) direct: bool,
    pub(super) dismissed: AtomicBool,
    /// Bytes that wait in socketioxide's queue, about.
    queued: AtomicUsize,
    /// Whether it closes as soon as the client has fetched what waits.
    pub(super) retiring: AtomicBool,
    pub(super) severed: AtomicBool,
    /// Polls that wait for something to fetch.
    pub(super) polls: AtomicUsize,
    pub(super) polls_begun: AtomicUsize,
    /// Whether its WebSocket takes compressed messages.
    deflate: AtomicBool,
    pub(super) tcp: OnceLock<TcpStream>,
    pub(super) sid: OnceLock<Sid>,
    pub(super) outbox: Mutex<Outbox>,
    /// Heartbeats and acks the client may send.
    pub(super) packets: Bucket,
    /// CONNECTs the client may send: a page that mounts and unmounts sends many at once.
    pub(super) connects: Bucket,
}
/// What Engine.IO keeps of a connection in its handshake, for longer than the connection may last.
#[derive(Debug, Clone)]
pub enum Handle {
    /// Of a session on polling: Engine.IO's is the life it has.
    Polling(Arc<Connection>),
    /// Of a WebSocket, whose stream must be closed when it ends.
    WebSocket(Weak<Connection>),
}

impl Handle {
    /// The connection, if it still is.
    pub fn connection(&self) -> Option<Arc<Connection>> {
        match self {
            Self::Polling(connection) => Some(connection.clone()),
            Self::WebSocket(connection) => connection.upgrade(),
        }
    }
}

impl Connection {
    /// A session that begins as a WebSocket on this stream.
    pub fn over_websocket(plane: &Arc<Plane>, peer: Peer, seat: Seat, tcp: TcpStream) -> Arc<Self> {
        Arc::new(Self::new(plane, peer, seat, Some(tcp)))
    }

    /// A session that begins on polling.
    pub fn over_polling(plane: &Arc<Plane>, peer: Peer, seat: Seat) -> Arc<Self> {
        Arc::new(Self::new(plane, peer, seat, None))
    }

    fn new(plane: &Arc<Plane>, peer: Peer, seat: Seat, tcp: Option<TcpStream>) -> Self {
        let rate = plane.settings.packets_per_second;
        Self {
            key: plane.next_key(),
            peer,
            seat,
            plane: plane.clone(),
            direct: tcp.is_some(),
            dismissed: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            retiring: AtomicBool::new(false),
            severed: AtomicBool::new(false),
            polls: AtomicUsize::new(0),
            polls_begun: AtomicUsize::new(0),
            deflate: AtomicBool::new(false),
            tcp: tcp.map_or_else(OnceLock::new, OnceLock::from),
            sid: OnceLock::new(),
            outbox: Mutex::new(Outbox::new()),
            packets: Bucket::new(rate, rate),
            connects: Bucket::new(rate, rate.saturating_mul(5)),
        }
    }

    /// A number that no other connection of this process has.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// So many bytes more wait in socketioxide's queue; false if that is too much.
    pub fn queues(&self, bytes: usize) -> bool {
        let waiting = self.queued.fetch_add(bytes, Ordering::Relaxed) + bytes;
        waiting <= self.plane.settings.hard_limit_bytes
    }

    /// The client took so many bytes out of socketioxide's queue.
    pub fn took(&self, bytes: usize) {
        self.queued.update(Ordering::Relaxed, Ordering::Relaxed, |waiting| waiting.saturating_sub(bytes));
    }

    /// Its WebSocket takes compressed messages.
    pub fn set_deflate(&self) {
        self.deflate.store(true, Ordering::Relaxed);
    }

    /// Whether its WebSocket takes compressed messages.
    pub fn takes_deflate(&self) -> bool {
        self.deflate.load(Ordering::Relaxed)
    }

    /// The frame of a message for this connection alone, compressed if that is agreed and worth it.
    pub fn frame_for(&self, text: &str) -> Bytes {
        match self.plane.settings.compress_from_bytes {
            Some(least) if text.len() >= least && self.takes_deflate() => deflated_text_frame(text),
            _ => text_frame(text),
        }
    }

    /// Whether a WebSocket carries it, or is about to.
    pub fn has_websocket(&self) -> bool {
        self.tcp.get().is_some()
    }

    /// The transport as clients name it.
    pub fn transport(&self) -> &'static str {
        if self.has_websocket() { "websocket" } else { "polling" }
    }

    /// Tells the connection its Engine.IO session id, once that is known.
    pub fn set_sid(&self, sid: Sid) {
        self.sid.set(sid).ok();
    }

    /// Its Engine.IO session id, which never leaves the server.
    pub fn sid(&self) -> Option<Sid> {
        self.sid.get().copied()
    }

    /// The polling session goes on over this stream; false if it already has one.
    pub fn upgrade(&self, tcp: TcpStream) -> bool {
        self.tcp.set(tcp).is_ok()
    }

    /// Whether [`Self::send`] takes events; otherwise they go through socketioxide.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// A namespace is about to let this connection in, under this public id.
    pub fn enter(&self, namespace: &str, id: PublicId) {
        self.lock().enter(namespace, id);
    }

    /// The socket with this public id has left.
    pub fn leave(&self, id: &PublicId) {
        self.lock().leave(id);
    }

    /// How many namespaces the connection is in.
    pub fn namespaces(&self) -> usize {
        self.lock().members.len()
    }

    /// Whether the connection is in a namespace, or on its way in.
    pub fn has_entered(&self, namespace: &str) -> bool {
        self.lock().members.iter().any(|member| &*member.namespace == namespace)
    }

    /// The client says that it leaves a namespace; Engine.IO has yet to hear it.
    pub(super) fn begin_leave(&self, namespace: &str) {
        self.lock().begin_leave(namespace);
    }

    /// Whether the connection has been let into a namespace, and has not left it since.
    pub fn is_open(&self, namespace: &str) -> bool {
        self.lock().is_open(namespace)
    }

    /// The CONNECT reply of a namespace goes out: the public id that it shall carry.
    pub fn open(&self, namespace: &str) -> Option<PublicId> {
        self.lock().open(namespace)
    }

    /// The public ids of its sockets.
    pub fn public_ids(&self) -> Vec<PublicId> {
        self.lock().members.iter().map(|member| member.id.clone()).collect()
    }

    /// The public id of the socket in a namespace.
    pub fn public_id(&self, namespace: &str) -> Option<PublicId> {
        self.lock().members.iter().find(|member| &*member.namespace == namespace).map(|member| member.id.clone())
    }

    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        self.tcp.get()
    }

    pub(super) fn plane(&self) -> &Plane {
        &self.plane
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

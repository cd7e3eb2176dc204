//! One connection: an Engine.IO session, whatever carries it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use socketioxide::socket::Sid;
use tokio::sync::Notify;

use super::attachments::Attachments;
use super::frame::{deflated_text_frame, text_frame};
use super::journal::Journal;
use super::outbox::Outbox;
use super::peer::{Peer, Plain};
use super::plane::Plane;
use super::probe::Probes;
use super::queues::Number;
use super::transport::Transport;
use crate::limits::{Arrival, Bucket, Seat};
use crate::wire::packet::Admission;
use crate::wire::{PublicId, now_ms};

/// What waits for a client that nobody knows, as a multiple of what may be held of it.
const ANSWERS: usize = 4;

/// How a connection is sent to; it only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Route {
    /// Through socketioxide's queue, from where its polls fetch.
    Polling,
    /// Into its outbox, where events wait until socketioxide's queue is empty.
    Switching,
    /// Into its outbox.
    Direct,
}

/// An Engine.IO session.
///
/// A WebSocket is written to through its outbox; a session on polling is sent
/// to through socketioxide.
pub struct Connection {
    pub(super) key: u64,
    pub(super) peer: Peer,
    pub(super) seat: Seat,
    pub(super) plane: Arc<Plane>,
    /// When it began, in milliseconds since the epoch.
    came_at_ms: i64,
    /// A [`Route`]; changed only by who holds the outbox.
    route: AtomicU8,
    /// Made for a session on polling.
    pub(super) probes: Option<Arc<Probes>>,
    pub(super) dismissed: AtomicBool,
    /// Bytes that wait in socketioxide's queue, about.
    queued: AtomicUsize,
    /// Whether it closes as soon as the client has fetched what waits.
    pub(super) retiring: AtomicBool,
    pub(super) severed: AtomicBool,
    /// Whether the client has said that it closes its WebSocket.
    pub(super) leaving: AtomicBool,
    /// Polls that wait for something to fetch.
    pub(super) polls: AtomicUsize,
    pub(super) polls_begun: AtomicUsize,
    /// Whether its WebSocket takes compressed messages.
    deflate: AtomicBool,
    /// Where it waits in a flusher: the queue of its organization, by [`Number::byte`].
    pub(super) turn: AtomicU8,
    pub(super) transport: OnceLock<Transport>,
    pub(super) sid: OnceLock<Sid>,
    pub(super) outbox: Mutex<Outbox>,
    /// The socket of a CONNECT has been let in or refused, or the client has taken something.
    pub(super) progress: Notify,
    pub(super) packets: Bucket,
    pub(super) connects: Bucket,
    pub(super) bytes: Bucket,
    /// Refusals before it is cut.
    pub(super) patience: Bucket,
    pub(super) attachments: Attachments,
    /// Whether a POST of it is being read.
    posting: AtomicBool,
    /// Its WebSocket among the open TCP connections.
    arrival: OnceLock<Arc<Arrival>>,
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
    pub fn over_websocket(plane: &Arc<Plane>, peer: Peer, seat: Seat, transport: Transport) -> Arc<Self> {
        Self::new(plane, peer, seat, Some(transport))
    }

    /// A session that begins on polling.
    pub fn over_polling(plane: &Arc<Plane>, peer: Peer, seat: Seat) -> Arc<Self> {
        Self::new(plane, peer, seat, None)
    }

    fn new(plane: &Arc<Plane>, peer: Peer, seat: Seat, transport: Option<Transport>) -> Arc<Self> {
        let connection = Arc::new(Self {
            key: plane.next_key(),
            came_at_ms: now_ms(),
            peer,
            seat,
            plane: plane.clone(),
            route: AtomicU8::new(if transport.is_some() { Route::Direct } else { Route::Polling } as u8),
            probes: transport.is_none().then(Arc::default),
            dismissed: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            retiring: AtomicBool::new(false),
            severed: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            polls: AtomicUsize::new(0),
            polls_begun: AtomicUsize::new(0),
            deflate: AtomicBool::new(false),
            turn: AtomicU8::new(Number::COMMON.byte()),
            transport: transport.map_or_else(OnceLock::new, OnceLock::from),
            sid: OnceLock::new(),
            outbox: Mutex::new(Outbox::new(plane.settings.soft_limit_bytes)),
            progress: Notify::new(),
            packets: Bucket::default(),
            connects: Bucket::default(),
            bytes: Bucket::default(),
            patience: Bucket::default(),
            attachments: Attachments::default(),
            posting: AtomicBool::new(false),
            arrival: OnceLock::new(),
        });
        let displaced = Arc::downgrade(&connection);
        connection.seat.when_displaced(move || displaced.upgrade().into_iter().for_each(|one| one.make_room()));
        connection
    }

    /// Counts its WebSocket for as long as that is open.
    pub fn hold(&self, arrival: Arc<Arrival>) {
        self.arrival.set(arrival).ok();
    }

    /// Somebody has said whose connection this is.
    pub fn settle_in(&self) {
        self.seat.settle();
    }

    /// Whether somebody has, or nobody has to.
    pub fn is_settled_in(&self) -> bool {
        self.seat.is_settled()
    }

    /// Largest message, or body, that is held of it.
    pub fn max_held_bytes(&self) -> usize {
        let settings = &self.plane.settings;
        let most = settings.max_frame_bytes;
        if self.is_settled_in() { most } else { most.min(settings.unauthenticated_bytes) }
    }

    /// Bytes that may wait for it.
    pub(super) fn max_waiting_bytes(&self) -> usize {
        let settings = &self.plane.settings;
        let most = settings.hard_limit_bytes;
        if self.is_settled_in() { most } else { most.min(settings.unauthenticated_bytes.saturating_mul(ANSWERS)) }
    }

    /// Whether it may send a message of so many bytes now.
    pub fn takes_bytes(&self, bytes: usize) -> bool {
        self.plane.takes_bytes(self, bytes)
    }

    /// A POST of a client on polling is read until the guard is dropped; none if another one is.
    pub fn post(&self) -> Option<PostGuard<'_>> {
        (!self.posting.swap(true, Ordering::SeqCst)).then_some(PostGuard(self))
    }

    /// A number that no other connection of this process has.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// When it began, in milliseconds since the epoch.
    pub fn came_at_ms(&self) -> i64 {
        self.came_at_ms
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What it speaks, if that is not Socket.IO.
    pub fn plain(&self) -> Option<&Plain> {
        self.peer.plain.as_deref()
    }

    /// So many bytes more wait in socketioxide's queue; false if that is too much.
    pub fn queues(&self, bytes: usize) -> bool {
        let waiting = self.queued.fetch_add(bytes, Ordering::Relaxed) + bytes;
        waiting <= self.max_waiting_bytes()
    }

    /// The client took so many bytes out of socketioxide's queue.
    pub fn took(&self, bytes: usize) {
        self.queued.update(Ordering::Relaxed, Ordering::Relaxed, |waiting| waiting.saturating_sub(bytes));
        self.progress.notify_waiters();
    }

    /// Waits until so little is left to write, or to fetch, that more can be sent without pressure; false if the
    /// connection has ended.
    pub async fn caught_up(&self) -> bool {
        self.waits_for_no_more_than(self.plane.unpressed_bytes()).await
    }

    /// Waits until everything is written, or fetched; false if the connection has ended.
    pub async fn written_out(&self) -> bool {
        self.waits_for_no_more_than(0).await
    }

    async fn waits_for_no_more_than(&self, bytes: usize) -> bool {
        loop {
            let progress = self.progress.notified();
            if self.is_closed() || self.is_severed() {
                return false;
            }
            let little = match self.route() {
                // Its queue is bounded in packets.
                Route::Polling => self.queued.load(Ordering::Relaxed) == 0,
                Route::Switching | Route::Direct => self.lock().waiting() <= bytes,
            };
            if little {
                return true;
            }
            progress.await;
        }
    }

    /// Whether an event that was sent to a socket does not wait any more.
    pub fn has_written(&self, socket: u32, offset: u64) -> bool {
        match self.route() {
            Route::Polling => self.queued.load(Ordering::Relaxed) == 0,
            Route::Switching | Route::Direct => !self.lock().holds(socket, offset),
        }
    }

    /// Whether no event waits, and those that were written to a socket were written in the order of the log.
    pub fn is_settled(&self, socket: u32) -> bool {
        self.lock().is_settled(socket)
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

    /// The transport as clients name it.
    pub fn transport(&self) -> &'static str {
        if self.route() == Route::Polling { "polling" } else { "websocket" }
    }

    /// Tells the connection its Engine.IO session id, once that is known.
    pub fn set_sid(&self, sid: Sid) {
        self.sid.set(sid).ok();
    }

    /// Its Engine.IO session id, which never leaves the server.
    pub fn sid(&self) -> Option<Sid> {
        self.sid.get().copied()
    }

    pub(super) fn route(&self) -> Route {
        match self.route.load(Ordering::Acquire) {
            0 => Route::Polling,
            1 => Route::Switching,
            _ => Route::Direct,
        }
    }

    /// Takes another route; `_outbox` shows that nobody sends meanwhile.
    pub(super) fn set_route(&self, route: Route, _outbox: &MutexGuard<'_, Outbox>) {
        self.route.store(route as u8, Ordering::Release);
    }

    /// Whether everything sent goes through the outbox, and nothing is left in socketioxide's queue.
    pub fn is_direct(&self) -> bool {
        self.route() == Route::Direct
    }

    /// Whether the session has gone over to a WebSocket, and socketioxide's queue is still to be emptied.
    pub fn is_switching(&self) -> bool {
        self.route() == Route::Switching
    }

    /// Sends through socketioxide, if that is still the way; its answer then says whether there was room. The way
    /// does not change while `send` runs.
    pub fn on_polling(&self, send: impl FnOnce() -> bool) -> Option<bool> {
        let _outbox = self.lock();
        (self.route() == Route::Polling).then(send)
    }

    /// Number of the socket with this public id, by which it is sent to.
    pub fn number_of(&self, id: &PublicId) -> u32 {
        self.lock().number_of(id)
    }

    /// socketioxide has let a namespace in, which can be sent to from here on.
    pub fn arrive(&self, namespace: &str) {
        self.lock().arrive(namespace);
    }

    /// A namespace is about to let this connection in, whose client has read this much.
    pub fn enter(&self, namespace: &str, admission: Admission, journal: Journal) {
        self.lock().enter(namespace, admission, journal);
    }

    /// The socket with this public id has left; what was written to it.
    pub fn leave(self: &Arc<Self>, id: &PublicId) -> Journal {
        let (journal, switching) = {
            let mut outbox = self.lock();
            let journal = outbox.leave(id);
            let switching = self.route() == Route::Switching;
            if switching {
                outbox.begin_switch();
            }
            (journal, switching)
        };
        self.progress.notify_waiters();
        // The mark may have been on its way through this very socket.
        if switching {
            self.send_mark();
        }
        journal
    }

    /// What was written to the socket with this public id, if it has not left.
    pub fn journal_of(&self, id: &PublicId) -> Option<Journal> {
        self.lock().journal_of(id)
    }

    /// The client answers a ping: it has read what was written before.
    pub(super) fn prove(&self) {
        let reordered = {
            let mut outbox = self.lock();
            outbox.prove();
            outbox.take_reordered()
        };
        if reordered {
            self.tell_reordered();
        }
    }

    /// Says that the order in which events were written has changed.
    #[cold]
    pub(super) fn tell_reordered(&self) {
        let Some(intake) = self.plane.intake() else { return };
        self.public_ids().iter().for_each(|id| intake.reordered(id));
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
    pub fn is_inside(&self, namespace: &str) -> bool {
        self.lock().is_inside(namespace)
    }

    /// The CONNECT reply of a namespace goes out: what it shall say.
    pub fn open(&self, namespace: &str) -> Option<Admission> {
        self.lock().open(namespace)
    }

    /// The public ids of its sockets.
    pub fn public_ids(&self) -> Vec<PublicId> {
        self.lock().members.iter().map(|member| member.admission.id.clone()).collect()
    }

    /// The public id of the socket in a namespace.
    pub fn public_id(&self, namespace: &str) -> Option<PublicId> {
        self.lock()
            .members
            .iter()
            .find(|member| &*member.namespace == namespace)
            .map(|member| member.admission.id.clone())
    }

    pub(super) fn plane(&self) -> &Plane {
        &self.plane
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A POST that is being read.
#[derive(Debug)]
pub struct PostGuard<'a>(&'a Connection);

impl Drop for PostGuard<'_> {
    fn drop(&mut self) {
        self.0.posting.store(false, Ordering::SeqCst);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(probes) = &self.probes {
            probes.ended.cancel();
        }
    }
}

impl std::fmt::Debug for Connection {
    /// Its session id is a credential, and what waits in its outbox may hold others.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("key", &self.key)
            .field("address", &self.peer.address)
            .finish_non_exhaustive()
    }
}

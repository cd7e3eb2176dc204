//! One connection: an Engine.IO session, whatever carries it.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socketioxide::socket::Sid;
use tokio::net::TcpStream;

use super::frame::{close_code, close_frame, text_frame};
use super::outbox::{Outbox, State};
use super::peer::Peer;
use super::plane::Plane;
use crate::limits::{Bucket, Seat};
use crate::wire::{PublicId, packet};

/// Batches one connection may write before others get their turn.
const BATCHES_PER_TURN: usize = 8;

/// A CONNECT that is not answered after this is handed on again.
const OVERDUE: Duration = Duration::from_millis(500);

/// A poll that waits longer than this has nothing to fetch.
const SETTLED: Duration = Duration::from_millis(100);

/// How long a client on polling has to fetch the packets that dismiss it.
const FAREWELL: Duration = Duration::from_secs(2);

/// An Engine.IO session.
///
/// One that began as a WebSocket is written to through its outbox. One that
/// began on polling is sent to through socketioxide, also after its upgrade,
/// so that its order holds.
#[derive(Debug)]
pub struct Connection {
    key: u64,
    peer: Peer,
    seat: Seat,
    plane: Arc<Plane>,
    /// Whether it began as a WebSocket.
    direct: bool,
    dismissed: AtomicBool,
    /// Whether an upgrade from polling has been finished.
    upgraded: AtomicBool,
    /// Whether it closes as soon as the client has fetched what waits.
    retiring: AtomicBool,
    severed: AtomicBool,
    /// Polls that wait for something to fetch.
    polls: AtomicUsize,
    polls_begun: AtomicUsize,
    tcp: OnceLock<TcpStream>,
    sid: OnceLock<Sid>,
    outbox: Mutex<Outbox>,
    /// Heartbeats and acks the client may send.
    pub(super) packets: Bucket,
    /// CONNECTs the client may send: a page that mounts and unmounts sends many at once.
    pub(super) connects: Bucket,
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
            upgraded: AtomicBool::new(false),
            retiring: AtomicBool::new(false),
            severed: AtomicBool::new(false),
            polls: AtomicUsize::new(0),
            polls_begun: AtomicUsize::new(0),
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

    /// Whether the server has ended the session for good.
    pub fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
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

    /// The public id of one of its sockets.
    pub fn any_public_id(&self) -> Option<PublicId> {
        self.lock().members.first().map(|member| member.id.clone())
    }

    /// The public id of the socket in a namespace.
    pub fn public_id(&self, namespace: &str) -> Option<PublicId> {
        self.lock().members.iter().find(|member| &*member.namespace == namespace).map(|member| member.id.clone())
    }

    /// Queues a frame of a namespace and has it written soon, by a flusher.
    pub fn send(self: &Arc<Self>, namespace: &str, frame: &Bytes) {
        if self.queue(|outbox| outbox.push_event(namespace, frame.clone())) {
            self.plane.flusher(self.key).add(self.clone());
        }
    }

    /// Queues a frame of a namespace and writes it at once.
    pub fn send_now(self: &Arc<Self>, namespace: &str, frame: Bytes) {
        if self.queue(|outbox| outbox.push_event(namespace, frame)) {
            self.flush();
        }
    }

    /// Queues a frame of the protocol and writes it at once.
    pub(super) fn send_control(self: &Arc<Self>, frame: Bytes) {
        if self.queue(|outbox| outbox.push_control(frame)) {
            self.flush();
        }
    }

    /// A CONNECT reply goes out: it carries our public id, and what was kept back for its namespace follows.
    pub fn send_connect(self: &Arc<Self>, reply: &str) {
        let head = reply.get(1..).and_then(packet::parse);
        let mine = self.queue(|outbox| {
            let id = head.and_then(|head| outbox.open(head.namespace));
            let rewritten = match (head, id) {
                (Some(head), Some(id)) if !head.body.is_empty() => packet::connect(head.namespace, id.as_str()),
                _ => reply.to_owned(),
            };
            outbox.answer_connect();
            // Without a member nobody will say that the socket is let in.
            if head.is_none_or(|head| outbox.members.iter().all(|member| *member.namespace != *head.namespace)) {
                outbox.end_connect();
            }
            outbox.push_control(text_frame(&rewritten));
        });
        if mine {
            self.flush();
        }
    }

    /// The socket of a CONNECT is let in: what the client sent behind it may follow.
    ///
    /// From a task of its own: socketioxide marks the socket as connecting until the caller has returned,
    /// and ignores a CONNECT before that.
    pub fn let_in(self: &Arc<Self>) {
        let (connection, turn) = (self.clone(), self.lock().turn());
        self.plane.tasks.spawn(async move {
            tokio::task::yield_now().await;
            connection.lock().let_in(turn);
        });
    }

    /// The refusal of a CONNECT goes out.
    pub fn send_connect_error(self: &Arc<Self>, refusal: &str) {
        let mine = self.queue(|outbox| {
            outbox.push_control(text_frame(refusal));
            outbox.end_connect();
        });
        if mine {
            self.flush();
        }
    }

    /// A CONNECT is handed to Engine.IO: what follows it waits for the answer.
    ///
    /// socketioxide ignores one that comes while it still marks the socket as connecting, which it does for a
    /// moment longer than anybody outside can tell: an unanswered one is handed on again.
    pub fn begin_connect(self: &Arc<Self>) {
        let turn = {
            let mut outbox = self.lock();
            outbox.begin_connect();
            outbox.turn()
        };
        let connection = Arc::downgrade(self);
        self.plane.tasks.spawn(async move {
            loop {
                tokio::time::sleep(OVERDUE).await;
                let Some(connection) = connection.upgrade() else { return };
                if !connection.lock().remind(turn) {
                    return;
                }
            }
        });
    }

    /// Whether the last CONNECT is to be handed on again.
    pub(super) fn take_repeat(&self) -> bool {
        self.lock().take_repeat()
    }

    /// Whether what follows a CONNECT has to wait.
    pub(super) fn is_connecting(&self) -> bool {
        self.lock().is_connecting()
    }

    /// Remembers the reader before it waits; false if it has nothing to wait for: `held` says that it waits
    /// for a CONNECT, else it waits for the client.
    pub(super) fn park(&self, reader: &Waker, held: bool) -> bool {
        let mut outbox = self.lock();
        if outbox.state == State::Closed || (held && !outbox.is_connecting()) {
            return false;
        }
        if outbox.reader.as_ref().is_none_or(|present| !present.will_wake(reader)) {
            outbox.reader = Some(reader.clone());
        }
        true
    }

    /// Whether nothing is read or written any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().state == State::Closed
    }

    /// Queues, and says whether the caller has to see to the writing.
    fn queue(&self, push: impl FnOnce(&mut Outbox)) -> bool {
        let mut outbox = self.lock();
        if outbox.state != State::Open {
            return false;
        }
        push(&mut outbox);
        if outbox.waiting() > self.plane.settings.hard_limit_bytes {
            outbox.close();
            drop(outbox);
            self.plane.counters.overflow();
            self.shut();
            return false;
        }
        outbox.waiting() > 0 && !std::mem::replace(&mut outbox.scheduled, true)
    }

    /// Closes the transport at once; the client comes back by itself.
    pub fn cut(&self) {
        if self.tcp.get().is_some() {
            self.lock().close();
            self.plane.forget_blocked(self.key);
            self.shut();
        } else if let (Some(engine), Some(sid)) = (self.plane.engine(), self.sid.get()) {
            self.severed.store(true, Ordering::SeqCst);
            engine.close(*sid, self.peer.protocol);
        }
    }

    /// Whether a session on polling has been closed, which its next poll should tell.
    pub fn is_severed(&self) -> bool {
        self.severed.load(Ordering::SeqCst)
    }

    /// Too much waits for the client: it is cut, and comes back.
    pub fn overflow(&self) {
        self.plane.counters.overflow();
        self.cut();
    }

    /// Writes what waits, then closes the transport; the client comes back by itself.
    pub fn retire(self: &Arc<Self>) {
        if self.tcp.get().is_none() {
            return self.retire_polling();
        }
        let (engine, sid, namespace) = (self.plane.engine(), self.sid.get(), self.first_namespace());
        match (engine, sid, namespace) {
            // What socketioxide still has to write goes first: behind it comes a mark.
            (Some(engine), Some(sid), Some(namespace)) if !self.direct => {
                if !engine.mark(*sid, &namespace, &self.plane.mark) {
                    self.cut();
                }
            }
            _ => self.finish(close_code::NORMAL),
        }
    }

    /// Closes a session on polling when its client has fetched what waits, or takes too long.
    fn retire_polling(self: &Arc<Self>) {
        self.retiring.store(true, Ordering::SeqCst);
        let connection = self.clone();
        self.plane.tasks.spawn(async move {
            let before = connection.polls_begun.load(Ordering::SeqCst);
            tokio::time::sleep(SETTLED).await;
            // A poll that still waits has nothing left to fetch.
            let waiting = connection.polls.load(Ordering::SeqCst) > 0;
            if !waiting || connection.polls_begun.load(Ordering::SeqCst) != before {
                tokio::time::sleep(FAREWELL).await;
            }
            connection.cut();
        });
    }

    /// A client polls: the guard says for how long, and whether the session closes with this poll.
    pub fn poll(&self) -> (PollGuard<'_>, bool) {
        self.polls_begun.fetch_add(1, Ordering::SeqCst);
        self.polls.fetch_add(1, Ordering::SeqCst);
        (PollGuard(self), self.retiring.load(Ordering::SeqCst))
    }

    fn first_namespace(&self) -> Option<Box<str>> {
        self.lock().members.first().map(|member| member.namespace.clone())
    }

    /// Whether an Engine.IO message is the mark behind what socketioxide had to write.
    pub(super) fn is_mark(&self, text: &str) -> bool {
        !self.direct && text.starts_with("42") && text.contains(&self.plane.mark)
    }

    /// Ends every namespace with a DISCONNECT, then closes the transport; a stock client stays away.
    pub fn dismiss(self: &Arc<Self>) {
        if self.dismissed.swap(true, Ordering::Relaxed) {
            return;
        }
        if self.tcp.get().is_some() {
            self.retire();
        } else if let (Some(engine), Some(sid)) = (self.plane.engine(), self.sid.get()) {
            let namespaces = self.lock().members.iter().map(|member| member.namespace.to_string()).collect();
            engine.disconnect(*sid, namespaces);
            self.retire_polling();
        }
    }

    /// Writes what waits and a close frame, then closes the transport; to a client that is dismissed also
    /// the DISCONNECT of every namespace.
    pub(super) fn finish(self: &Arc<Self>, code: u16) {
        let mine = {
            let mut outbox = self.lock();
            if outbox.state != State::Open {
                return;
            }
            if self.is_dismissed() {
                for index in 0..outbox.members.len() {
                    let disconnect = text_frame(&packet::disconnect(&outbox.members[index].namespace));
                    outbox.push_control(disconnect);
                }
            }
            outbox.farewell = Some(close_frame(code));
            outbox.state = State::Closing;
            outbox.end_connect();
            !std::mem::replace(&mut outbox.scheduled, true)
        };
        if mine {
            self.flush();
        }
    }

    /// The client has finished its upgrade from polling.
    pub(super) fn set_upgraded(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// Engine.IO is done with the stream: what it wrote last goes out, and the seat is free.
    pub(super) fn end(self: &Arc<Self>) {
        if !self.direct && !self.upgraded.load(Ordering::Relaxed) {
            // Engine.IO would answer the polls of a session whose upgrade broke with nothing, for ever.
            if let (Some(engine), Some(sid)) = (self.plane.engine(), self.sid.get()) {
                engine.close(*sid, self.peer.protocol);
            }
        }
        self.seat.release();
        let mine = {
            let mut outbox = self.lock();
            if outbox.state == State::Open {
                outbox.state = State::Closing;
                outbox.end_connect();
            }
            outbox.state == State::Closing && !std::mem::replace(&mut outbox.scheduled, true)
        };
        if mine {
            self.flush();
        }
    }

    /// Frees the seat of a session that the client has ended.
    pub fn release_seat(&self) {
        self.seat.release();
    }

    /// Writes until nothing waits or the kernel takes no more; only for who holds the right to write.
    pub(super) fn flush(self: &Arc<Self>) {
        let Some(tcp) = self.tcp.get() else { return };
        for _ in 0..BATCHES_PER_TURN {
            let batch = {
                let mut outbox = self.lock();
                let batch = outbox.take();
                if batch.is_empty() {
                    outbox.scheduled = false;
                    let closing = outbox.state == State::Closing;
                    if closing {
                        outbox.close();
                    }
                    drop(outbox);
                    if closing {
                        self.linger();
                    }
                    return;
                }
                batch
            };
            let result = match &batch[..] {
                [frame] => tcp.try_write(frame),
                frames => {
                    let slices: smallvec::SmallVec<[IoSlice<'_>; super::outbox::BATCH]> =
                        frames.iter().map(|frame| IoSlice::new(frame)).collect();
                    tcp.try_write_vectored(&slices)
                }
            };
            match result {
                Ok(written) => self.wrote(batch, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.blocked(tcp, batch) {
                        return;
                    }
                }
                Err(_) => return self.broken(),
            }
        }
        self.plane.flusher(self.key).add(self.clone());
    }

    fn wrote(&self, batch: smallvec::SmallVec<[Bytes; super::outbox::BATCH]>, written: usize) {
        let was_blocked = {
            let mut outbox = self.lock();
            if outbox.state != State::Closed {
                outbox.settle(batch, written);
            }
            outbox.blocked_since.take().is_some()
        };
        if was_blocked {
            self.plane.forget_blocked(self.key);
        }
    }

    /// Puts the batch back and asks to be woken; false if the kernel can take more after all.
    fn blocked(self: &Arc<Self>, tcp: &TcpStream, batch: smallvec::SmallVec<[Bytes; super::outbox::BATCH]>) -> bool {
        {
            let mut outbox = self.lock();
            if outbox.state == State::Closed {
                outbox.scheduled = false;
                return true;
            }
            outbox.settle(batch, 0);
            outbox.blocked_since.get_or_insert_with(Instant::now);
        }
        self.plane.note_blocked(self);
        let waker = Waker::from(self.clone());
        match tcp.poll_write_ready(&mut Context::from_waker(&waker)) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(_)) => {
                self.broken();
                true
            }
        }
    }

    fn broken(&self) {
        {
            let mut outbox = self.lock();
            outbox.close();
            outbox.scheduled = false;
        }
        self.plane.forget_blocked(self.key);
        self.shut();
    }

    /// Whether the reader has taken nothing for this long.
    pub(super) fn stalled_for(&self, timeout: Duration) -> bool {
        self.lock().blocked_since.is_some_and(|since| since.elapsed() >= timeout)
    }

    /// Says that nothing more comes, and reads on until the client has read everything: closing at once would
    /// take back what it has not read yet.
    fn linger(self: &Arc<Self>) {
        let Some(tcp) = self.tcp.get() else { return };
        socket2::SockRef::from(tcp).shutdown(Shutdown::Write).ok();
        let connection = self.clone();
        self.plane.tasks.spawn(async move {
            tokio::time::timeout(FAREWELL, connection.discard()).await.ok();
            connection.shut();
        });
    }

    /// Reads and forgets until the client closes.
    async fn discard(&self) {
        let Some(tcp) = self.tcp.get() else { return };
        let mut scratch = [0; 4096];
        while tcp.readable().await.is_ok() {
            match tcp.try_read(&mut scratch) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Shuts the stream down, which wakes whoever reads or waits to write.
    fn shut(&self) {
        if let Some(tcp) = self.tcp.get() {
            socket2::SockRef::from(tcp).shutdown(Shutdown::Both).ok();
        }
    }

    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        self.tcp.get()
    }

    pub(super) fn plane(&self) -> &Plane {
        &self.plane
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A poll that waits for something to fetch.
#[derive(Debug)]
pub struct PollGuard<'a>(&'a Connection);

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        self.0.polls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Wake for Connection {
    /// The kernel takes more: the connection goes back to its flusher.
    fn wake(self: Arc<Self>) {
        self.plane.flusher(self.key).add(self.clone());
    }
}

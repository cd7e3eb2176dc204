//! The ends of a connection: cut, retired or dismissed.
//!
//! A client that is cut or retired comes back by itself; one that is dismissed
//! stays away. What was sent before the end arrives before it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::connection::{Connection, Route};
use super::frame::{close_code, close_frame, text_frame};
use super::outbox::{Outbox, State};
use super::transport::Transport;
use crate::dialects::Ending;
use crate::stats::Refusal;
use crate::wire::packet;

/// A poll that waits longer than this has nothing to fetch.
const SETTLED: Duration = Duration::from_millis(100);

/// How long a client has to fetch the packets that dismiss it.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long it has then to read the packets alone.
const LAST: Duration = Duration::from_secs(5);

impl Connection {
    /// Closes the transport at once; the client comes back by itself.
    pub fn cut(&self) {
        if self.transport.get().is_some() {
            self.lock().close();
            self.plane.forget_blocked(self.key);
            self.progress.notify_waiters();
            self.shut();
        } else if let (Some(engine), Some(sid)) = (self.plane.engine(), self.sid.get()) {
            self.severed.store(true, Ordering::SeqCst);
            self.progress.notify_waiters();
            engine.close(*sid, self.peer.protocol);
        }
    }

    /// Gives its seat to somebody else; the client comes back by itself.
    pub(super) fn make_room(&self) {
        self.plane.counters.refused(Refusal::Unauthenticated);
        self.cut();
        self.seat.release();
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
        let route = {
            let _outbox = self.lock();
            self.retiring.store(true, Ordering::SeqCst);
            self.route()
        };
        match route {
            Route::Polling => self.retire_polling(),
            // What socketioxide still has to write goes first.
            Route::Switching => {}
            Route::Direct => self.finish(close_code::NORMAL),
        }
    }

    /// Closes a session on polling when its client has fetched what waits, or takes too long.
    fn retire_polling(self: &Arc<Self>) {
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

    /// Nothing that the client sends is heard any more; false if that has begun before.
    pub fn begin_dismissal(&self) -> bool {
        let first = !self.dismissed.swap(true, Ordering::SeqCst);
        self.progress.notify_waiters();
        first
    }

    /// Ends every namespace with a DISCONNECT, then closes the transport; a stock client stays away.
    pub fn dismiss(self: &Arc<Self>) {
        // A WebSocket is told when it is finished; a client on polling through the queue that its events take.
        if let (Some(engine), Some(sid)) = (self.plane.engine(), self.sid.get()) {
            let namespaces = self.lock().members.iter().map(|member| member.namespace.to_string()).collect();
            self.on_polling(|| {
                engine.disconnect(*sid, namespaces);
                true
            });
        }
        self.retire();
        if self.route() != Route::Polling {
            self.hurry();
        }
    }

    /// A client that does not read what waits for it gets its DISCONNECT without that, or is cut.
    fn hurry(self: &Arc<Self>) {
        let (connection, stopping) = (Arc::downgrade(self), self.plane.stopping.clone());
        self.plane.spawn(async move {
            stopping.run_until_cancelled(tokio::time::sleep(FAREWELL)).await;
            let Some(slow) = connection.upgrade() else { return };
            slow.lock().forget_events();
            slow.progress.notify_waiters();
            drop(slow);
            stopping.run_until_cancelled(tokio::time::sleep(LAST)).await;
            if let Some(connection) = connection.upgrade() {
                connection.cut();
            }
        });
    }

    /// Whether the server has ended the session for good.
    pub fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::SeqCst)
    }

    /// Writes what waits and a close frame, then closes the transport; to a client that is dismissed also
    /// the DISCONNECT of every namespace.
    pub(super) fn finish(self: &Arc<Self>, code: u16) {
        let mine = {
            let mut outbox = self.lock();
            if outbox.state != State::Open {
                return;
            }
            outbox.farewell = Some(self.farewell(&outbox, code)).filter(|farewell| !farewell.is_empty());
            outbox.corked = false;
            outbox.state = State::Closing;
            outbox.end_connect();
            !std::mem::replace(&mut outbox.scheduled, true)
        };
        if mine {
            self.flush();
        }
    }

    /// The frames that end the connection; none for a client that only understands one that breaks.
    fn farewell(&self, outbox: &Outbox, code: u16) -> Bytes {
        if let Some(plain) = self.plain() {
            let ending = if self.is_dismissed() { Ending::Dismissed } else { Ending::Restart };
            let code = if code == close_code::NORMAL { plain.dialect.close_code(ending) } else { Some(code) };
            return code.map(close_frame).unwrap_or_default();
        }
        let mut farewell = Vec::new();
        if self.is_dismissed() {
            for member in &outbox.members {
                farewell.extend_from_slice(&text_frame(&packet::disconnect(&member.namespace)));
            }
        }
        farewell.extend_from_slice(&close_frame(code));
        farewell.into()
    }

    /// Engine.IO is done with the stream: what it wrote last goes out, and the seat is free.
    pub(super) fn end(self: &Arc<Self>) {
        // Engine.IO would answer the polls of a session whose upgrade broke with nothing, for ever; one whose
        // upgrade succeeded has ended with its stream, and is not there any more.
        if self.is_switching()
            && let (Some(engine), Some(sid)) = (self.plane.engine(), self.sid.get())
        {
            engine.close(*sid, self.peer.protocol);
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

    /// Says that nothing more comes, and reads on until the client has read everything: closing at once would
    /// take back what it has not read yet.
    pub(super) fn linger(self: &Arc<Self>) {
        let Some(transport) = self.transport.get() else { return };
        transport.finish();
        let connection = self.clone();
        self.plane.tasks.spawn(async move {
            tokio::time::timeout(FAREWELL, connection.discard()).await.ok();
            connection.shut();
        });
    }

    /// Reads and forgets until the client closes.
    pub(super) async fn discard(&self) {
        let Some(tcp) = self.transport.get().map(Transport::tcp) else { return };
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
    pub(super) fn shut(&self) {
        if let Some(transport) = self.transport.get() {
            transport.shut();
        }
    }

    /// Does something a little later, whatever has become of the connection.
    pub fn after(&self, wait: Duration, then: impl FnOnce() + Send + 'static) {
        self.plane.tasks.spawn(async move {
            tokio::time::sleep(wait).await;
            then();
        });
    }

    /// Whether it ends, or all its sockets have left.
    pub fn has_ended(&self) -> bool {
        let outbox = self.lock();
        self.is_dismissed() || outbox.state != State::Open || (outbox.members.is_empty() && !outbox.is_connecting())
    }

    /// Whether nothing is read or written any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().state == State::Closed
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

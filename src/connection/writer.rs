//! Writing: into the outbox, and from there to the kernel.
//!
//! Whoever finds nobody bound to write does it, at once or by a flusher; a
//! connection that would block is woken by the kernel.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::Connection;
use super::flusher::Handover;
use super::frame::{frame, opcode, text_frame};
use super::lanes::{Lost, Outgoing};
use super::outbox::{Outbox, State};
use super::queues::Number;
use super::transport::Transport;

/// Batches one connection may write before others get their turn.
const BATCHES_PER_TURN: usize = 8;

thread_local! {
    /// One list of frames a thread, since a connection needs it only while it writes.
    static FRAMES: Cell<Vec<Bytes>> = const { Cell::new(Vec::new()) };
}

impl Connection {
    /// Queues an event for a socket of this number and has it written soon, by a flusher; false if the socket or the
    /// connection is gone.
    pub fn send(self: &Arc<Self>, socket: u32, event: &Outgoing, handover: &mut Handover) -> bool {
        let (mut lost, mut taken) = (Vec::new(), false);
        if self.queue(|outbox| taken = outbox.push_event(socket, event, &mut lost)) {
            handover.add(self);
        }
        for lost in lost {
            match lost {
                Lost::Conflated(event) => {
                    handover.conflated += 1;
                    self.plane.counters.conflated(event);
                }
                Lost::Dropped(event) => {
                    handover.dropped += 1;
                    self.plane.counters.dropped(event);
                }
            }
        }
        taken
    }

    /// Queues an answer to a namespace and writes it at once.
    pub fn answer(self: &Arc<Self>, namespace: &str, frame: Bytes) {
        if self.queue(|outbox| outbox.push_answer(namespace, frame)) {
            self.flush();
        }
    }

    /// Queues a frame of the protocol and writes it at once.
    pub(super) fn send_control(self: &Arc<Self>, frame: Bytes) {
        if self.queue(|outbox| outbox.push_control(frame)) {
            self.flush();
        }
    }

    /// Queues a ping, in the words of the client, and writes it at once.
    pub(super) fn send_ping(self: &Arc<Self>) {
        let mine = self.queue(|outbox| {
            outbox.ask_for_proof();
            outbox.push_control(if self.plain().is_some() { frame(opcode::PING, &[]) } else { text_frame("2") });
        });
        if mine {
            self.flush();
        }
    }

    /// Queues, and says whether the caller has to see to the writing.
    pub(super) fn queue(&self, push: impl FnOnce(&mut Outbox)) -> bool {
        let mut outbox = self.lock();
        if outbox.state != State::Open {
            return false;
        }
        push(&mut outbox);
        if outbox.waiting() > self.max_waiting_bytes() {
            outbox.close();
            drop(outbox);
            self.plane.counters.overflow();
            self.plane.forget_blocked(self.key);
            self.shut();
            return false;
        }
        outbox.waiting() > 0 && !outbox.corked && !std::mem::replace(&mut outbox.scheduled, true)
    }

    /// Keeps what is queued from being written until the cork is dropped.
    pub fn cork(self: &Arc<Self>) -> Cork {
        self.lock().corked = true;
        Cork(self.clone())
    }

    fn uncork(self: &Arc<Self>) {
        let mine = {
            let mut outbox = self.lock();
            outbox.corked = false;
            let waits = outbox.waiting() > 0 && outbox.state != State::Closed && self.transport.get().is_some();
            waits && !std::mem::replace(&mut outbox.scheduled, true)
        };
        if mine {
            self.flush();
        }
    }

    /// From now on it waits for its turn to be written to among those of the organization with this hash.
    pub fn take_turns_of(&self, organization: u64) {
        self.turn.store(Number::of(organization).byte(), Ordering::Relaxed);
    }

    /// Writes until nothing waits or the kernel takes no more; only for who holds the right to write.
    pub(super) fn flush(self: &Arc<Self>) {
        let mut batch = FRAMES.take();
        self.flush_with(&mut batch);
        batch.clear();
        FRAMES.set(batch);
    }

    fn flush_with(self: &Arc<Self>, batch: &mut Vec<Bytes>) {
        let Some(transport) = self.transport.get() else { return };
        let mut written = 0;
        for _ in 0..BATCHES_PER_TURN {
            if !self.next(batch, written) {
                return;
            }
            match transport.try_write(batch) {
                Ok(count) => written = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.blocked(transport, batch) {
                        return;
                    }
                    written = 0;
                }
                Err(_) => return self.broken(),
            }
        }
        self.settle(&mut self.lock(), batch, written);
        self.plane.flusher(self.key).add(self.clone());
    }

    /// Puts back what was not written, and takes out what is written next; false if nothing waits, and the right
    /// to write is given back.
    fn next(self: &Arc<Self>, batch: &mut Vec<Bytes>, written: usize) -> bool {
        let mut outbox = self.lock();
        self.settle(&mut outbox, batch, written);
        outbox.take(batch);
        let reordered = outbox.take_reordered();
        if !batch.is_empty() {
            drop(outbox);
            // Before it is written, so that others know as soon as can be.
            if reordered {
                self.tell_reordered();
            }
            return true;
        }
        outbox.scheduled = false;
        let closing = outbox.state == State::Closing;
        if closing {
            outbox.close();
        }
        drop(outbox);
        if closing {
            self.linger();
        }
        false
    }

    fn settle(&self, outbox: &mut Outbox, batch: &mut Vec<Bytes>, written: usize) {
        if outbox.state == State::Closed {
            batch.clear();
        }
        outbox.settle(batch, written);
        if written > 0 {
            self.progress.notify_waiters();
            if outbox.blocked_since.take().is_some() {
                self.plane.forget_blocked(self.key);
            }
        }
    }

    /// Puts the batch back and asks to be woken; false if the kernel can take more after all.
    fn blocked(self: &Arc<Self>, transport: &Transport, batch: &mut Vec<Bytes>) -> bool {
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
        match transport.tcp().poll_write_ready(&mut Context::from_waker(&waker)) {
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
        self.progress.notify_waiters();
        self.plane.forget_blocked(self.key);
        self.shut();
    }

    /// Whether the reader has taken nothing for this long.
    pub(super) fn stalled_for(&self, timeout: Duration) -> bool {
        self.lock().blocked_since.is_some_and(|since| since.elapsed() >= timeout)
    }
}

/// See [`Connection::cork`].
#[derive(Debug)]
pub struct Cork(Arc<Connection>);

impl Drop for Cork {
    fn drop(&mut self) {
        self.0.uncork();
    }
}

impl Wake for Connection {
    /// The kernel takes more: the connection goes back to its flusher.
    fn wake(self: Arc<Self>) {
        self.plane.flusher(self.key).add(self.clone());
    }
}

//! Writing: into the outbox, and from there to the kernel.
//!
//! Whoever finds nobody bound to write does it, at once or by a flusher; a
//! connection that would block is woken by the kernel.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::net::TcpStream;

use super::connection::Connection;
use super::outbox::{BATCH, Outbox, State};

/// Batches one connection may write before others get their turn.
const BATCHES_PER_TURN: usize = 8;

impl Connection {
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

    /// Queues, and says whether the caller has to see to the writing.
    pub(super) fn queue(&self, push: impl FnOnce(&mut Outbox)) -> bool {
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
                    let slices: SmallVec<[IoSlice<'_>; BATCH]> =
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

    pub(super) fn wrote(&self, batch: SmallVec<[Bytes; BATCH]>, written: usize) {
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
    pub(super) fn blocked(self: &Arc<Self>, tcp: &TcpStream, batch: SmallVec<[Bytes; BATCH]>) -> bool {
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

    pub(super) fn broken(&self) {
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
}

impl Wake for Connection {
    /// The kernel takes more: the connection goes back to its flusher.
    fn wake(self: Arc<Self>) {
        self.plane.flusher(self.key).add(self.clone());
    }
}

//! The events of one socket, in the order sent, one at a time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use socketioxide_core::Value;

/// Events in a row that are handled by who pushes them: a task of its own costs more than most events do, and a
/// long row must not keep the other sockets of a thread waiting.
const AT_ONCE: u8 = 8;

/// An event as it came.
#[derive(Debug)]
pub(super) struct Incoming {
    /// `["name", …]`, and its attachments.
    pub(super) value: Value,
    /// Under which the client wants an answer.
    pub(super) ack_id: Option<i64>,
}

/// A bounded queue with at most one task that works through it.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    limit: usize,
}

#[derive(Debug)]
struct Inner {
    waiting: VecDeque<Incoming>,
    worker: Worker,
    /// Events handled by who pushed them, since the last worker.
    handled: u8,
}

/// Who works through the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worker {
    /// Nobody may yet: the socket cannot be answered before it is let in.
    Held,
    /// Nobody may go on, which who works does not know yet.
    Holding,
    /// Nobody has to.
    Idle,
    /// A task.
    Busy,
    /// Nobody will any more.
    Closed,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Waiting,
    /// It waits, and the caller has to handle it.
    Handle,
    /// It waits, and the caller has to start a worker.
    StartWorker,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { inner: Mutex::new(Inner { waiting: VecDeque::new(), worker: Worker::Held, handled: 0 }), limit }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether there is no room for another event.
    pub(super) fn is_full(&self) -> bool {
        self.lock().waiting.len() >= self.limit
    }

    /// Takes an event in.
    pub(super) fn push(&self, incoming: Incoming) -> Pushed {
        let mut inner = self.lock();
        if inner.worker == Worker::Closed {
            return Pushed::Waiting;
        }
        inner.waiting.push_back(incoming);
        match inner.start() {
            Pushed::StartWorker if inner.handled < AT_ONCE => {
                inner.handled += 1;
                Pushed::Handle
            }
            Pushed::StartWorker => {
                inner.handled = 0;
                Pushed::StartWorker
            }
            pushed => pushed,
        }
    }

    /// The event that is being handled ends later: nothing behind it is worked through until `release`.
    pub(super) fn hold(&self) {
        let mut inner = self.lock();
        if inner.worker == Worker::Busy {
            inner.worker = Worker::Holding;
        }
    }

    /// The socket is let in, or an event has ended: what waits may be worked through.
    pub(super) fn release(&self) -> Pushed {
        let mut inner = self.lock();
        match inner.worker {
            Worker::Held => inner.worker = Worker::Idle,
            // Whoever works goes on.
            Worker::Holding => inner.worker = Worker::Busy,
            Worker::Idle | Worker::Busy | Worker::Closed => {}
        }
        inner.start()
    }

    /// The next event for the worker; none means that it is done.
    pub(super) fn next(&self) -> Option<Incoming> {
        let mut inner = self.lock();
        if matches!(inner.worker, Worker::Holding | Worker::Held) {
            inner.worker = Worker::Held;
            return None;
        }
        let next = inner.waiting.pop_front();
        if next.is_none() {
            inner.waiting = VecDeque::new();
            if inner.worker == Worker::Busy {
                inner.worker = Worker::Idle;
            }
        }
        next
    }

    /// Nothing more is worked through.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.worker = Worker::Closed;
        inner.waiting = VecDeque::new();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn start(&mut self) -> Pushed {
        if self.worker == Worker::Idle && !self.waiting.is_empty() {
            self.worker = Worker::Busy;
            return Pushed::StartWorker;
        }
        Pushed::Waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Incoming {
        Incoming { value: Value::Str("[]".into(), None), ack_id: None }
    }

    #[test]
    fn events_wait_until_the_socket_is_let_in_and_one_worker_takes_them() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(event()), Pushed::Waiting);
        assert_eq!(queue.release(), Pushed::StartWorker);
        assert_eq!(queue.push(event()), Pushed::Waiting);
        assert!(queue.is_full());
        assert!(queue.next().is_some() && queue.next().is_some() && queue.next().is_none());
        for _ in 0..AT_ONCE {
            assert_eq!(queue.push(event()), Pushed::Handle);
            assert!(queue.next().is_some() && queue.next().is_none());
        }
        assert_eq!(queue.push(event()), Pushed::StartWorker);
        queue.close();
        assert!(queue.next().is_none());
        assert_eq!(queue.push(event()), Pushed::Waiting);
        assert!(queue.next().is_none());
    }

    #[test]
    fn what_is_behind_an_event_that_ends_later_waits_for_it() {
        let queue = Queue::new(10);
        queue.release();
        assert_eq!(queue.push(event()), Pushed::Handle);
        assert_eq!(queue.push(event()), Pushed::Waiting);
        assert!(queue.next().is_some());
        queue.hold();
        // It ends before whoever works has noticed, who then goes on.
        assert_eq!(queue.release(), Pushed::Waiting);
        assert!(queue.next().is_some());
        queue.hold();
        assert!(queue.next().is_none());
        assert_eq!(queue.push(event()), Pushed::Waiting);
        assert_eq!(queue.release(), Pushed::StartWorker);
        assert!(queue.next().is_some() && queue.next().is_none());
    }
}

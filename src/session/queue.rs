//! The events of one socket, in the order sent, one at a time.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::value::RawValue;
use socketioxide_core::Value;

use crate::delivery::AnswerTo;
use crate::wire::WireError;

/// Events in a row that are handled by who pushes them: a task of its own costs more than most events do, and a
/// long row must not keep the other sockets of a thread waiting.
const AT_ONCE: u8 = 8;

/// An event as it came.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) said: Said,
    /// How the client wants an answer, if it wants one.
    pub(super) answer_to: Option<AnswerTo>,
    /// Whether it has waited for what it relies on.
    pub(super) has_waited: bool,
}

/// The way an event was said.
pub(super) enum Said {
    /// In a Socket.IO packet: `["name", …]`, and its attachments.
    Packet(Value),
    /// In a frame of a plain WebSocket: its name and its argument.
    Frame(Cow<'static, str>, Box<RawValue>),
    /// In a frame that is refused before it is one, for this reason.
    Refused(WireError),
}

impl fmt::Debug for Said {
    /// An argument may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Said")
    }
}

/// An event's name and its first argument; `null` when it has none.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) argument: &'a RawValue,
}

impl Incoming {
    pub(super) fn new(said: Said, answer_to: Option<AnswerTo>) -> Self {
        Self { said, answer_to, has_waited: false }
    }

    /// Its size in bytes, attachments included.
    pub(super) fn size(&self) -> usize {
        match &self.said {
            Said::Packet(value) => value.len(),
            Said::Frame(name, argument) => name.len() + argument.get().len(),
            Said::Refused(_) => 0,
        }
    }

    /// Its name and argument; none if it is not what an event has to be.
    pub(super) fn call(&self) -> Option<Call<'_>> {
        match &self.said {
            Said::Packet(value) => {
                // Borrowed and not looked into: a payload can be as deep as it likes.
                let parts: Vec<&RawValue> = serde_json::from_str(value.as_str()?).ok()?;
                let name = serde_json::from_str::<String>(parts.first()?.get()).ok()?;
                Some(Call { name: name.into(), argument: parts.get(1).copied().unwrap_or(RawValue::NULL) })
            }
            Said::Frame(name, argument) => Some(Call { name: (&**name).into(), argument }),
            Said::Refused(_) => None,
        }
    }

    /// Whether it has one of these names, without reading all of it.
    pub(super) fn is_named(&self, names: &[&str]) -> bool {
        match &self.said {
            Said::Packet(value) => {
                let text = value.as_str().map_or("[]", |text| text.as_str());
                names.iter().any(|name| text.starts_with(&format!("[\"{name}\"")))
            }
            Said::Frame(name, _) => names.contains(&&**name),
            Said::Refused(_) => false,
        }
    }

    /// Why it is no event.
    pub(super) fn fault(&self) -> WireError {
        match &self.said {
            Said::Refused(error) => error.clone(),
            _ => WireError::malformed("event", &"must be a JSON array that begins with a name"),
        }
    }

    /// What it carries beside its JSON.
    pub(super) fn attachments(&self) -> Option<&VecDeque<Bytes>> {
        match &self.said {
            Said::Packet(Value::Str(_, Some(attachments))) if !attachments.is_empty() => Some(attachments),
            _ => None,
        }
    }
}

/// A bounded queue with at most one task that works through it.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// Events that may wait.
    limit: usize,
    /// Bytes that may; one event always may.
    max_bytes: usize,
}

#[derive(Debug)]
struct Inner {
    waiting: VecDeque<Incoming>,
    bytes: usize,
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
    pub(super) fn new(limit: usize, max_bytes: usize) -> Self {
        let inner = Inner { waiting: VecDeque::new(), bytes: 0, worker: Worker::Held, handled: 0 };
        Self { inner: Mutex::new(inner), limit, max_bytes }
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether there is room for another event, of so many bytes.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        let inner = self.lock();
        inner.waiting.is_empty() || (inner.waiting.len() < self.limit && inner.bytes + bytes <= self.max_bytes)
    }

    /// Takes an event in.
    pub(super) fn push(&self, incoming: Incoming) -> Pushed {
        let mut inner = self.lock();
        if inner.worker == Worker::Closed {
            return Pushed::Waiting;
        }
        inner.bytes += incoming.size();
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

    /// The event that is being handled has to wait: it is handled anew after `release`, and nothing before it.
    pub(super) fn put_back(&self, incoming: Incoming) {
        let mut inner = self.lock();
        if inner.worker == Worker::Busy {
            inner.worker = Worker::Holding;
            inner.bytes += incoming.size();
            inner.waiting.push_front(Incoming { has_waited: true, ..incoming });
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
        inner.bytes -= next.as_ref().map_or(0, Incoming::size);
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
        (inner.waiting, inner.bytes) = (VecDeque::new(), 0);
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
        Incoming::new(Said::Packet(Value::Str("[]".into(), None)), None)
    }

    #[test]
    fn events_wait_until_the_socket_is_let_in_and_one_worker_takes_them() {
        let queue = Queue::new(2, 100);
        assert_eq!(queue.push(event()), Pushed::Waiting);
        assert_eq!(queue.release(), Pushed::StartWorker);
        assert_eq!(queue.push(event()), Pushed::Waiting);
        assert!(!queue.has_room_for(0));
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
        let queue = Queue::new(10, 100);
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

    #[test]
    fn an_event_that_has_to_wait_is_handled_again_before_what_is_behind_it() {
        let queue = Queue::new(10, 100);
        queue.release();
        assert_eq!((queue.push(event()), queue.push(event())), (Pushed::Handle, Pushed::Waiting));
        queue.put_back(queue.next().expect("the first"));
        assert!(queue.next().is_none());
        assert_eq!(queue.release(), Pushed::StartWorker);
        assert!(queue.next().is_some_and(|first| first.has_waited));
        assert!(queue.next().is_some_and(|second| !second.has_waited) && queue.next().is_none());
        queue.close();
        queue.put_back(event());
        assert!(queue.next().is_none());
    }
}

//! What waits to be written to one WebSocket.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use crate::wire::PublicId;

/// Frames that one vectored write carries.
pub(super) const BATCH: usize = 64;

/// Emptied queues that grew beyond this are given back.
const KEPT_CAPACITY: usize = 16;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is used.
    Open,
    /// What waits is written, then it is closed.
    Closing,
    /// Nothing is written any more.
    Closed,
}

/// A namespace that the connection is in, or about to be let into.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) namespace: Box<str>,
    pub(super) id: PublicId,
    /// Whether the client has said that it leaves.
    leaving: bool,
    /// What was sent before the CONNECT reply went out; none once it has.
    early: Option<Vec<Bytes>>,
}

/// What is still to happen to a CONNECT before another one may follow.
#[derive(Debug, Default)]
struct Connecting {
    /// Number of the CONNECT.
    turn: u64,
    /// Its answer is not out.
    unanswered: bool,
    /// Its socket is not let in.
    outside: bool,
    /// It has gone unanswered for too long and is to be handed on again.
    repeat: bool,
}

/// The queues of one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) state: State,
    /// Whether somebody is bound to write: the right to be the only writer.
    pub(super) scheduled: bool,
    pub(super) blocked_since: Option<Instant>,
    pub(super) members: SmallVec<[Member; 1]>,
    /// The CONNECT that has been handed to Engine.IO.
    connecting: Connecting,
    /// The reader, while it waits.
    pub(super) reader: Option<Waker>,
    /// The close frame, written when nothing else waits.
    pub(super) farewell: Option<Bytes>,
    waiting: usize,
    /// Taken out for a write that did not take them; the first may be half written.
    resume: VecDeque<Bytes>,
    control: VecDeque<Bytes>,
    events: VecDeque<Bytes>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            state: State::Open,
            scheduled: false,
            blocked_since: None,
            members: SmallVec::new(),
            connecting: Connecting::default(),
            reader: None,
            farewell: None,
            waiting: 0,
            resume: VecDeque::new(),
            control: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// A frame of the protocol: before all events.
    pub(super) fn push_control(&mut self, frame: Bytes) {
        self.waiting += frame.len();
        self.control.push_back(frame);
    }

    /// An event of a namespace; kept back until its CONNECT reply is out, dropped when it has left.
    pub(super) fn push_event(&mut self, namespace: &str, frame: Bytes) {
        let Some(member) = self.members.iter_mut().find(|member| &*member.namespace == namespace) else { return };
        self.waiting += frame.len();
        match &mut member.early {
            Some(early) => early.push(frame),
            None => self.events.push_back(frame),
        }
    }

    /// A namespace that is about to be let in under this id.
    pub(super) fn enter(&mut self, namespace: &str, id: PublicId) {
        self.members.retain(|member| &*member.namespace != namespace);
        self.members.push(Member { namespace: namespace.into(), id, leaving: false, early: Some(Vec::new()) });
    }

    /// The namespace has left, if it is still the one with this id.
    pub(super) fn leave(&mut self, id: &PublicId) {
        let Some(index) = self.members.iter().position(|member| member.id == *id) else { return };
        let member = self.members.remove(index);
        self.waiting -= member.early.iter().flatten().map(Bytes::len).sum::<usize>();
    }

    /// The CONNECT reply of a namespace goes out: its public id, and everything kept back follows.
    pub(super) fn open(&mut self, namespace: &str) -> Option<PublicId> {
        let member = self.members.iter_mut().find(|member| &*member.namespace == namespace)?;
        if let Some(early) = member.early.take() {
            self.events.extend(early);
        }
        Some(member.id.clone())
    }

    /// A CONNECT is handed to Engine.IO.
    pub(super) fn begin_connect(&mut self) {
        self.connecting = Connecting { turn: self.connecting.turn + 1, unanswered: true, outside: true, repeat: false };
    }

    /// Number of the CONNECT that was handed to Engine.IO last.
    pub(super) fn turn(&self) -> u64 {
        self.connecting.turn
    }

    /// The CONNECT with this number has had its time: if it is unanswered, the reader is to hand it on again.
    pub(super) fn remind(&mut self, turn: u64) -> bool {
        let overdue = self.connecting.turn == turn && self.connecting.unanswered && self.state == State::Open;
        if overdue {
            self.connecting.repeat = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        overdue
    }

    /// Whether the reader is to hand the last CONNECT on again.
    pub(super) fn take_repeat(&mut self) -> bool {
        std::mem::take(&mut self.connecting.repeat)
    }

    /// The answer to the CONNECT goes out.
    pub(super) fn answer_connect(&mut self) {
        self.connecting.unanswered = false;
        self.wake_reader();
    }

    /// The socket of a CONNECT is let in, if that is still the last one.
    pub(super) fn let_in(&mut self, turn: u64) {
        if self.connecting.turn == turn {
            self.connecting.outside = false;
            self.wake_reader();
        }
    }

    /// The CONNECT is refused, or nobody waits for it any more.
    pub(super) fn end_connect(&mut self) {
        self.connecting.outside = false;
        self.answer_connect();
    }

    /// Wakes the reader, if there is nothing left that it waits for.
    pub(super) fn wake_reader(&mut self) {
        if !self.is_connecting()
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
    }

    /// Whether something is still to happen to a CONNECT.
    pub(super) fn is_connecting(&self) -> bool {
        (self.connecting.unanswered || self.connecting.outside) && self.state == State::Open
    }

    /// The client says that it leaves a namespace; Engine.IO has yet to hear it.
    pub(super) fn begin_leave(&mut self, namespace: &str) {
        for member in self.members.iter_mut().filter(|member| &*member.namespace == namespace) {
            member.leaving = true;
        }
    }

    /// Whether the CONNECT reply of a namespace is out, and the client has not left since.
    pub(super) fn is_open(&self, namespace: &str) -> bool {
        let open = |member: &Member| &*member.namespace == namespace && member.early.is_none() && !member.leaving;
        self.members.iter().any(open)
    }

    /// Takes the next frames out, to be written.
    pub(super) fn take(&mut self) -> SmallVec<[Bytes; BATCH]> {
        let mut batch = SmallVec::new();
        for queue in [&mut self.resume, &mut self.control, &mut self.events] {
            let room = BATCH - batch.len();
            batch.extend(queue.drain(..queue.len().min(room)));
            if queue.is_empty() && queue.capacity() > KEPT_CAPACITY {
                *queue = VecDeque::new();
            }
        }
        if batch.is_empty() {
            batch.extend(self.farewell.take());
        }
        batch
    }

    /// So many bytes of a batch were written; the rest comes back, to be written first.
    pub(super) fn settle(&mut self, batch: SmallVec<[Bytes; BATCH]>, mut written: usize) {
        self.waiting -= written.min(self.waiting);
        for mut frame in batch {
            let part = written.min(frame.len());
            written -= part;
            frame.advance(part);
            if !frame.is_empty() {
                self.resume.push_back(frame);
            }
        }
    }

    /// Forgets everything that waits.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
        self.end_connect();
        self.waiting = 0;
        self.blocked_since = None;
        self.resume = VecDeque::new();
        self.control = VecDeque::new();
        self.events = VecDeque::new();
        for member in &mut self.members {
            member.early = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(outbox: &mut Outbox) -> Vec<u8> {
        let batch = outbox.take();
        let bytes = batch.concat();
        outbox.settle(batch, bytes.len());
        bytes
    }

    #[test]
    fn events_wait_for_their_connect_reply_and_control_goes_first() {
        let mut outbox = Outbox::new();
        let id = PublicId::fresh();
        outbox.push_event("/", Bytes::from_static(b"lost"));
        outbox.enter("/", id.clone());
        outbox.push_event("/", Bytes::from_static(b"event"));
        assert!(outbox.take().is_empty() && !outbox.is_open("/"));
        assert_eq!(outbox.open("/"), Some(id.clone()));
        outbox.push_control(Bytes::from_static(b"connect"));
        assert_eq!(written(&mut outbox), b"connectevent");
        outbox.leave(&id);
        outbox.push_event("/", Bytes::from_static(b"lost"));
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn what_a_write_did_not_take_is_written_first() {
        let mut outbox = Outbox::new();
        outbox.push_control(Bytes::from_static(b"abc"));
        outbox.push_control(Bytes::from_static(b"def"));
        let batch = outbox.take();
        outbox.push_control(Bytes::from_static(b"ghi"));
        outbox.settle(batch, 4);
        assert_eq!(outbox.waiting(), 5);
        assert_eq!(written(&mut outbox), b"efghi");
        assert_eq!(outbox.waiting(), 0);
    }
}

//! What waits to be written to one WebSocket.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::journal::Journal;
use super::lanes::{Lanes, Lost, Next, Outgoing};
use crate::wire::PublicId;
use crate::wire::packet::Admission;

/// Frames that one vectored write carries.
pub(super) const BATCH: usize = 64;

/// Bytes after which no further frame is added to a write: what is taken out can no longer be overtaken.
const BATCH_BYTES: usize = 64 * 1024;

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
    pub(super) admission: Admission,
    /// Which of the connection's sockets it is.
    number: u32,
    /// Whether socketioxide has let it in, so that it can be sent to through its queue.
    inside: bool,
    /// Whether the client has said that it leaves.
    leaving: bool,
    /// Whether its socket is in its rooms.
    entered: bool,
    /// Its CONNECT reply, until it is: who has read that counts on being reached.
    reply: Option<Bytes>,
    /// Whether its CONNECT reply has yet to go out.
    unanswered: bool,
    /// Whether something may still wait for it in socketioxide's queue, after the switch from polling.
    switching: bool,
    /// What was sent to it meanwhile, in either case.
    early: Vec<Early>,
    /// What was written to it.
    journal: Journal,
}

/// What has to wait for a CONNECT reply or the switch.
#[derive(Debug)]
enum Early {
    Answer(Bytes),
    Event(Outgoing),
}

impl Early {
    fn len(&self) -> usize {
        match self {
            Self::Answer(frames) | Self::Event(Outgoing { frames, .. }) => frames.len(),
        }
    }
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
    /// Whether more is about to come that can leave in the same write.
    pub(super) corked: bool,
    /// Whether the answer to the last ping proves that everything before it was read.
    proving: bool,
    /// Whether the events of a socket began to be written in another order than that of the log, or that is proven.
    reordered: bool,
    pub(super) blocked_since: Option<Instant>,
    pub(super) members: SmallVec<[Member; 1]>,
    /// The CONNECT that has been handed to Engine.IO.
    connecting: Connecting,
    /// The reader, while it waits.
    pub(super) reader: Option<Waker>,
    /// The close frame, written when nothing else waits.
    pub(super) farewell: Option<Bytes>,
    /// The mark that was sent last through socketioxide's queue.
    marks: u32,
    /// Number of the next socket.
    sockets: u32,
    /// Bytes over which things are lost on purpose.
    soft_limit: usize,
    /// Bytes that wait anywhere but in the lanes.
    waiting: usize,
    /// Taken out for a write that did not take them; the first may be half written.
    resume: VecDeque<Bytes>,
    control: VecDeque<Bytes>,
    /// The only event that waits, and the number of its socket: a client that keeps up needs no lanes.
    single: Option<(u32, Outgoing)>,
    /// Made when several wait, and given back by a heartbeat that finds it empty.
    events: Option<Box<Lanes>>,
}

impl Outbox {
    pub(super) fn new(soft_limit: usize) -> Self {
        Self {
            state: State::Open,
            scheduled: false,
            corked: false,
            proving: false,
            reordered: false,
            blocked_since: None,
            members: SmallVec::new(),
            connecting: Connecting::default(),
            reader: None,
            farewell: None,
            marks: 0,
            sockets: 0,
            soft_limit,
            waiting: 0,
            resume: VecDeque::new(),
            control: VecDeque::new(),
            single: None,
            events: None,
        }
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting + self.events.as_ref().map_or(0, |events| events.bytes())
    }

    /// Whether an event of a socket may still wait.
    pub(super) fn holds(&self, socket: u32, offset: u64) -> bool {
        let member = self.members.iter().find(|member| member.number == socket);
        let early = member.into_iter().flat_map(|member| &member.early);
        let is_early =
            early.into_iter().any(|early| matches!(early, Early::Event(event) if event.kind.offset == offset));
        let single = self.single.as_ref().map(|(socket, event)| (*socket, event.kind.offset));
        // What a write did not take is not told apart.
        let resumes = !self.resume.is_empty();
        let waits = || self.events.as_ref().is_some_and(|events| events.holds(socket, offset));
        is_early || resumes || single == Some((socket, offset)) || waits()
    }

    /// Whether no event waits, and those of a socket were written in the order of the log.
    pub(super) fn is_settled(&self, socket: u32) -> bool {
        let in_order = |member: &Member| member.early.is_empty() && !member.journal.is_open();
        let is_empty = self.single.is_none() && self.events.as_ref().is_none_or(|events| events.is_empty());
        // What a write did not take is not told apart.
        is_empty && self.resume.is_empty() && self.members.iter().find(|one| one.number == socket).is_some_and(in_order)
    }

    /// A frame of the protocol: before all events.
    pub(super) fn push_control(&mut self, frame: Bytes) {
        self.waiting += frame.len();
        self.control.push_back(frame);
    }

    /// An answer to a namespace: before all events, but not before its CONNECT reply.
    pub(super) fn push_answer(&mut self, namespace: &str, frame: Bytes) {
        let Some(member) = self.members.iter_mut().find(|member| &*member.namespace == namespace) else { return };
        self.waiting += frame.len();
        if member.is_early() {
            member.early.push(Early::Answer(frame));
        } else {
            self.control.push_back(frame);
        }
    }

    /// An event for a socket, kept back until its CONNECT reply is out; false if the socket has left.
    pub(super) fn push_event(&mut self, socket: u32, event: &Outgoing, lost: &mut Vec<Lost>) -> bool {
        let Some(member) = self.members.iter_mut().find(|member| member.number == socket) else { return false };
        if member.is_early() {
            self.waiting += event.frames.len();
            member.early.push(Early::Event(event.clone()));
        } else {
            self.queue_event(socket, event.clone(), lost);
        }
        true
    }

    fn queue_event(&mut self, socket: u32, event: Outgoing, lost: &mut Vec<Lost>) {
        let pressed = self.waiting() > self.soft_limit;
        let alone = self.single.is_none() && self.events.as_ref().is_none_or(|events| events.is_empty());
        if alone && !pressed {
            self.waiting += event.frames.len();
            self.single = Some((socket, event));
            return;
        }
        lost.extend(self.lanes().push(socket, event, pressed));
        while pressed
            && self.waiting() > self.soft_limit
            && let Some(shed) = self.lanes().shed()
        {
            lost.push(shed);
        }
    }

    fn lanes(&mut self) -> &mut Lanes {
        let lanes = self.events.get_or_insert_with(|| Box::new(Lanes::new()));
        if let Some((socket, event)) = self.single.take() {
            self.waiting -= event.frames.len();
            lanes.push(socket, event, false);
        }
        lanes
    }

    /// A namespace that is about to be let in under this id.
    pub(super) fn enter(&mut self, namespace: &str, admission: Admission, journal: Journal) {
        if let Some(index) = self.members.iter().position(|member| &*member.namespace == namespace) {
            self.remove(index);
        }
        self.sockets += 1;
        self.members.push(Member {
            namespace: namespace.into(),
            admission,
            number: self.sockets,
            inside: false,
            leaving: false,
            entered: false,
            reply: None,
            unanswered: true,
            switching: self.marks > 0,
            early: Vec::new(),
            journal,
        });
    }

    /// Number of the socket with this id; 0, which none has, if it is not there.
    pub(super) fn number_of(&self, id: &PublicId) -> u32 {
        self.members.iter().find(|member| member.admission.id == *id).map_or(0, |member| member.number)
    }

    /// socketioxide has let a namespace in.
    pub(super) fn arrive(&mut self, namespace: &str) {
        for member in self.members.iter_mut().filter(|member| &*member.namespace == namespace) {
            member.inside = true;
        }
    }

    /// The socket of a namespace is in its rooms; its CONNECT reply follows.
    pub(super) fn entered(&mut self, namespace: &str) {
        let Some(member) = self.members.iter_mut().find(|member| &*member.namespace == namespace) else { return };
        member.entered = true;
        if let Some(reply) = member.reply.take() {
            self.reply(namespace, reply);
        }
    }

    /// The CONNECT reply of a namespace goes out, and everything kept back follows, as soon as its socket is in
    /// its rooms; at once if it comes out of socketioxide's queue, where events may be behind it.
    pub(super) fn reply(&mut self, namespace: &str, reply: Bytes) {
        match self.members.iter_mut().find(|member| &*member.namespace == namespace) {
            Some(member) if !member.entered && !member.switching => member.reply = Some(reply),
            _ => {
                self.push_control(reply);
                self.open(namespace);
            }
        }
    }

    /// Whether a socket is not in its rooms yet.
    pub(super) fn is_entering(&self) -> bool {
        self.members.iter().any(|member| !member.entered)
    }

    /// The namespace has left, if it is still the one with this id; what was written to it.
    pub(super) fn leave(&mut self, id: &PublicId) -> Journal {
        let index = self.members.iter().position(|member| member.admission.id == *id);
        index.map(|index| self.remove(index)).unwrap_or_default()
    }

    /// What was written to the socket with this id.
    pub(super) fn journal_of(&self, id: &PublicId) -> Option<Journal> {
        self.members.iter().find(|member| member.admission.id == *id).map(|member| member.journal.clone())
    }

    /// What waits for a socket must not reach the one that comes after it.
    fn remove(&mut self, index: usize) -> Journal {
        self.forget(index);
        self.members.remove(index).journal
    }

    fn forget(&mut self, index: usize) {
        let member = &mut self.members[index];
        let number = member.number;
        self.waiting -= std::mem::take(&mut member.early).iter().map(Early::len).sum::<usize>();
        if self.single.is_some() || self.events.is_some() {
            self.lanes().forget(number);
        }
    }

    /// What waits for the sockets is not written any more.
    pub(super) fn forget_events(&mut self) {
        (0..self.members.len()).for_each(|index| self.forget(index));
    }

    /// The CONNECT reply of a namespace goes out: what it says, and everything kept back follows.
    pub(super) fn open(&mut self, namespace: &str) -> Option<Admission> {
        let index = self.members.iter().position(|member| &*member.namespace == namespace)?;
        self.members[index].unanswered = false;
        self.release(index);
        Some(self.members[index].admission.clone())
    }

    /// Sends what was kept back for a socket, if nothing keeps it back any more.
    fn release(&mut self, index: usize) {
        let member = &mut self.members[index];
        if member.is_early() {
            return;
        }
        let socket = member.number;
        for early in std::mem::take(&mut member.early) {
            match early {
                Early::Answer(frame) => self.control.push_back(frame),
                Early::Event(event) => {
                    self.waiting -= event.frames.len();
                    // Nothing is lost on purpose here: the client has not had a chance to read it.
                    self.lanes().push(socket, event, false);
                }
            }
        }
    }

    /// What is sent from here on waits until this mark has come out of socketioxide's queue.
    pub(super) fn begin_switch(&mut self) -> u32 {
        self.marks += 1;
        for member in &mut self.members {
            member.switching = true;
        }
        self.marks
    }

    /// The namespace through which a mark can be sent, if there is one.
    pub(super) fn way_in(&self) -> Option<Box<str>> {
        self.members.iter().find(|member| member.inside && !member.leaving).map(|member| member.namespace.clone())
    }

    /// Number of the mark that was sent last.
    pub(super) fn last_mark(&self) -> u32 {
        self.marks
    }

    /// Nothing waits in socketioxide's queue any more.
    pub(super) fn end_switch(&mut self) {
        self.marks = 0;
        for index in 0..self.members.len() {
            self.members[index].switching = false;
            self.release(index);
        }
    }

    /// A CONNECT is handed to Engine.IO; its number.
    pub(super) fn begin_connect(&mut self) -> u64 {
        let turn = self.connecting.turn + 1;
        self.connecting = Connecting { turn, unanswered: true, outside: true, repeat: false };
        turn
    }

    /// A CONNECT that came by polling is handed to Engine.IO.
    pub(super) fn begin_connect_polled(&mut self) {
        self.begin_connect();
        self.connecting.unanswered = false;
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

    /// The socket of the last CONNECT is let in.
    pub(super) fn let_in(&mut self) {
        self.connecting.outside = false;
        self.wake_reader();
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

    /// Whether socketioxide has let a namespace in, and the client has not left since.
    pub(super) fn is_inside(&self, namespace: &str) -> bool {
        let inside = |member: &Member| &*member.namespace == namespace && member.inside && !member.leaving;
        self.members.iter().any(inside)
    }

    /// Takes the next frames out, to be written.
    pub(super) fn take(&mut self, batch: &mut Vec<Bytes>) {
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let frame = if let Some(frame) = self.resume.pop_front().or_else(|| self.control.pop_front()) {
                frame
            } else if let Some((socket, event)) = self.single.take() {
                self.journal(socket, event.kind.offset, false);
                event.frames
            } else if let Some(Next { frames, socket, offset, overtakes }) =
                self.events.as_mut().and_then(|events| events.pop())
            {
                self.waiting += frames.len();
                self.journal(socket, offset, overtakes);
                frames
            } else {
                break;
            };
            bytes += frame.len();
            batch.push(frame);
        }
        for queue in [&mut self.resume, &mut self.control] {
            if queue.is_empty() && queue.capacity() > 0 {
                *queue = VecDeque::new();
                if self.events.as_ref().is_some_and(|events| events.is_empty()) {
                    self.events = None;
                }
            }
        }
        if batch.is_empty() {
            batch.extend(self.farewell.take());
        }
    }

    fn journal(&mut self, socket: u32, offset: u64, overtakes: bool) {
        if let Some(member) = self.members.iter_mut().find(|member| member.number == socket) {
            let was_open = member.journal.is_open();
            member.journal.write(offset, overtakes);
            self.reordered |= !was_open && member.journal.is_open();
            // It may be behind the ping that is under way.
            self.proving &= !member.journal.is_open();
        }
    }

    /// A ping of Engine.IO goes out: its answer proves that the client has read everything before it, if that is
    /// everything there is.
    pub(super) fn ask_for_proof(&mut self) {
        self.proving = self.waiting() == 0 && self.members.iter().any(|member| member.journal.is_open());
    }

    /// The client answers a ping.
    pub(super) fn prove(&mut self) {
        if std::mem::take(&mut self.proving) {
            self.reordered = true;
            self.members.iter_mut().for_each(|member| member.journal.prove());
        }
    }

    /// Whether a journal was opened or closed since this was asked last.
    pub(super) fn take_reordered(&mut self) -> bool {
        std::mem::take(&mut self.reordered)
    }

    /// So many bytes of a batch were written; the rest comes back, to be written first.
    pub(super) fn settle(&mut self, batch: &mut Vec<Bytes>, mut written: usize) {
        self.waiting -= written.min(self.waiting);
        for mut frame in batch.drain(..) {
            let part = written.min(frame.len());
            written -= part;
            if part < frame.len() {
                frame.advance(part);
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
        self.single = None;
        self.events = None;
        for member in &mut self.members {
            member.early = Vec::new();
        }
    }
}

impl Member {
    fn is_early(&self) -> bool {
        self.unanswered || self.switching
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::lanes::Kind;
    use crate::events::Priority;

    fn written(outbox: &mut Outbox) -> Vec<u8> {
        let mut batch = Vec::new();
        outbox.take(&mut batch);
        let bytes = batch.concat();
        outbox.settle(&mut batch, bytes.len());
        bytes
    }

    fn push(outbox: &mut Outbox, text: &'static str) {
        let kind =
            Kind { offset: 1, event: 0, priority: Priority::Medium, requires_ack: false, entity: 1, conflation: None };
        let socket = outbox.members.first().map_or(0, |member| member.number);
        outbox.push_event(socket, &Outgoing { frames: text.into(), kind }, &mut Vec::new());
    }

    #[test]
    fn events_wait_for_their_connect_reply_and_control_goes_first() {
        let mut outbox = Outbox::new(1 << 20);
        let admission = Admission { id: PublicId::fresh(), pid: None };
        push(&mut outbox, "lost");
        outbox.enter("/", admission.clone(), Journal::default());
        push(&mut outbox, "event");
        assert!(written(&mut outbox).is_empty());
        outbox.entered("/");
        assert!(written(&mut outbox).is_empty());
        outbox.reply("/", Bytes::from_static(b"connect"));
        assert_eq!(written(&mut outbox), b"connectevent");
        outbox.leave(&admission.id);
        push(&mut outbox, "lost");
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn a_connect_reply_waits_until_its_socket_is_in_its_rooms() {
        let mut outbox = Outbox::new(1 << 20);
        outbox.enter("/", Admission { id: PublicId::fresh(), pid: None }, Journal::default());
        outbox.reply("/", Bytes::from_static(b"connect"));
        push(&mut outbox, "event");
        assert!(outbox.is_entering());
        assert!(written(&mut outbox).is_empty());
        outbox.entered("/");
        assert!(!outbox.is_entering());
        assert_eq!(written(&mut outbox), b"connectevent");
    }

    #[test]
    fn what_waits_for_sockets_can_be_forgotten_while_they_stay() {
        let mut outbox = Outbox::new(1 << 20);
        for namespace in ["/", "/org/a"] {
            outbox.enter(namespace, Admission { id: PublicId::fresh(), pid: None }, Journal::default());
        }
        push(&mut outbox, "early");
        outbox.forget_events();
        assert_eq!(outbox.waiting(), 0);
        outbox.open("/");
        push(&mut outbox, "single");
        outbox.forget_events();
        push(&mut outbox, "single");
        push(&mut outbox, "second");
        outbox.forget_events();
        outbox.push_control(Bytes::from_static(b"control"));
        assert_eq!(outbox.waiting(), 7);
        assert_eq!(written(&mut outbox), b"control");
        assert_eq!(outbox.members.len(), 2);
    }

    #[test]
    fn what_a_write_did_not_take_is_written_first() {
        let mut outbox = Outbox::new(1 << 20);
        outbox.push_control(Bytes::from_static(b"abc"));
        outbox.push_control(Bytes::from_static(b"def"));
        let mut batch = Vec::new();
        outbox.take(&mut batch);
        outbox.push_control(Bytes::from_static(b"ghi"));
        outbox.settle(&mut batch, 4);
        assert_eq!(outbox.waiting(), 5);
        assert_eq!(written(&mut outbox), b"efghi");
        assert_eq!(outbox.waiting(), 0);
    }
}

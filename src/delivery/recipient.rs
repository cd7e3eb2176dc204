//! One socket, as delivery sees it.

use std::hash::BuildHasher;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use socketioxide::socket::Sid;
use socketioxide_core::packet::{Packet, PacketData};

use super::adapter::RoomAdapter;
use super::batcher::Batcher;
use super::directory::Directory;
use super::interest::{Interest, Subscription};
use super::rendered::Rendered;
use crate::connection::{Connection, Handover, Outgoing};
use crate::log::Entry;
use crate::wire::packet::{self, Admission, Kind};
use crate::wire::{Form, Forms, PublicId};

/// A socket in a namespace: where it is, and what it wants.
#[derive(Debug)]
pub struct Recipient {
    /// Its public id.
    pub id: PublicId,
    /// Its Engine.IO session id, which never leaves the server.
    pub(super) sid: Sid,
    /// The connection it is on.
    pub connection: Arc<Connection>,
    pub(super) rooms: Arc<RoomAdapter>,
    interest: RwLock<Wants>,
    /// The delivery that reached it last, so that one with several matching rooms reaches it once.
    seen: AtomicU64,
    sent: AtomicU64,
    /// Number of its socket on the connection.
    socket: u32,
    /// Number of the dialect that its client speaks, if that is not Socket.IO.
    dialect: Option<u8>,
    /// The forms it wants if it filters nothing out, as a number from 1; else 0.
    unfiltered: AtomicU8,
    /// Whether its frames end with their positions, so that it can take its session up again.
    positioned: bool,
    /// Whether it is being told what it missed, so that what is new has to wait in the log.
    replaying: AtomicBool,
    /// Offset of the last entry that reached it, or was passed over for it.
    reached: AtomicU64,
    /// Made when it asks for batches.
    batcher: OnceLock<Arc<Batcher>>,
}

/// What a socket wants, and the rooms that follow from that.
#[derive(Debug)]
struct Wants {
    interest: Interest,
    /// The rooms it is in; none before it is let in, and after it has left.
    rooms: Option<Box<[Arc<str>]>>,
}

/// What a socket wants, for as long as it is looked at.
#[derive(Debug)]
pub struct Reading<'a>(RwLockReadGuard<'a, Wants>);

impl Deref for Reading<'_> {
    type Target = Interest;

    fn deref(&self) -> &Interest {
        &self.0.interest
    }
}

fn unfiltered(interest: &Interest) -> u8 {
    match interest.forms {
        _ if interest.subscriptions.iter().any(|subscription| subscription.filters.is_some()) => 0,
        Forms::Named => 1,
        Forms::Envelope => 2,
        Forms::Both => 3,
    }
}

impl Recipient {
    /// A socket that has just been let in.
    pub fn new(
        admission: Admission,
        sid: Sid,
        connection: Arc<Connection>,
        rooms: Arc<RoomAdapter>,
        interest: Interest,
    ) -> Self {
        let batch_ms = connection.plain().map_or(0, |plain| plain.batch_ms);
        let dialect = connection.plain().map(|plain| plain.number);
        let recipient = Self {
            socket: connection.number_of(&admission.id),
            dialect,
            unfiltered: AtomicU8::new(unfiltered(&interest)),
            positioned: admission.pid.is_some(),
            replaying: AtomicBool::new(false),
            reached: AtomicU64::new(0),
            id: admission.id,
            sid,
            connection,
            rooms,
            interest: RwLock::new(Wants { interest, rooms: None }),
            seen: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            batcher: OnceLock::new(),
        };
        recipient.set_batch(batch_ms);
        recipient
    }

    /// Changes how long events are collected into one frame, in milliseconds; 0 is not at all.
    pub fn set_batch(&self, ms: u64) {
        self.write_wants().interest.batch_ms = ms;
        if ms == 0 && self.batcher.get().is_none() {
            return;
        }
        let make = || Batcher::new(self.connection.clone(), self.rooms.clone(), self.socket, self.positioned);
        self.batcher.get_or_init(make).set_window(ms);
    }

    /// Writes what is collected.
    pub fn flush(&self) {
        if let Some(batcher) = self.batcher.get() {
            batcher.flush();
        }
    }

    /// Path of its namespace.
    pub fn namespace(&self) -> &str {
        self.rooms.namespace()
    }

    pub(super) fn directory(&self) -> &Directory {
        self.rooms.directory()
    }

    /// What it wants.
    pub fn interest(&self) -> Reading<'_> {
        Reading(self.interest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what it wants, and puts it into the rooms that follow from that.
    pub fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Interest) -> T) -> T {
        let mut wants = self.write_wants();
        let result = change(&mut wants.interest);
        self.unfiltered.store(unfiltered(&wants.interest), Ordering::Relaxed);
        self.take_turns(&wants.interest);
        if let Some(before) = wants.rooms.take() {
            wants.rooms =
                Some(self.rooms.move_between(self, before.into_vec(), &wants.interest.rooms(self.rooms.catalogue())));
        }
        result
    }

    /// The forms it wants, if it filters nothing out.
    pub(super) fn unfiltered(&self) -> Option<Forms> {
        match self.unfiltered.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Forms::Named),
            2 => Some(Forms::Envelope),
            _ => Some(Forms::Both),
        }
    }

    /// It is let in, and goes into its rooms.
    pub(super) fn enter(self: &Arc<Self>) {
        let mut wants = self.write_wants();
        self.take_turns(&wants.interest);
        wants.rooms = Some(self.rooms.move_between(self, Vec::new(), &wants.interest.rooms(self.rooms.catalogue())));
    }

    /// What it is sent takes turns with what other organizations are.
    fn take_turns(&self, interest: &Interest) {
        if let Some((organization, _)) = &interest.identity {
            // By a hash that nobody can foresee, so that no name can be chosen to share a queue with another.
            self.connection.take_turns_of(self.directory().keys().hash_one(organization));
        }
    }

    /// It has left, and goes out of its rooms.
    pub(super) fn leave(self: &Arc<Self>) {
        let mut wants = self.write_wants();
        if let Some(before) = wants.rooms.take() {
            self.rooms.move_between(self, before.into_vec(), &[]);
        }
    }

    fn write_wants(&self) -> RwLockWriteGuard<'_, Wants> {
        self.interest.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rooms it is in, without the unlisted ones.
    pub fn listed_rooms(&self) -> Vec<Arc<str>> {
        let wants = self.interest.read().unwrap_or_else(PoisonError::into_inner);
        wants.rooms.iter().flatten().filter(|room| !room.starts_with("implicit:")).cloned().collect()
    }

    /// How many entries it was sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends through socketioxide, if that is the way; a full queue cuts the client, which comes back.
    pub(super) fn while_polling(&self, send: impl FnOnce() -> bool) -> Option<bool> {
        if self.connection.is_direct() {
            return None;
        }
        let taken = self.connection.on_polling(send)?;
        if !taken {
            self.connection.overflow();
        }
        Some(taken)
    }

    /// Whether its client knows the event of an entry at all.
    pub(super) fn knows(&self, entry: &Entry) -> bool {
        self.connection.plain().is_none_or(|plain| plain.dialect.knows(&entry.draft.event.name))
    }

    /// The same, found out once for all sockets of a dialect.
    pub(super) fn knows_rendered(&self, entry: &Rendered<'_>) -> bool {
        self.dialect.is_none_or(|dialect| entry.is_known_to(dialect))
    }

    /// Marks the socket as reached by a delivery; false if it already was.
    pub(super) fn mark(&self, delivery: u64) -> bool {
        self.seen.swap(delivery, Ordering::Relaxed) != delivery
    }

    /// From here on until `go_live` it is told what it missed, and nothing else.
    pub fn begin_replay(&self) {
        self.replaying.store(true, Ordering::SeqCst);
    }

    /// It has been told what it missed, and everything up to this offset; only the sequencer of its shard says so, between two entries.
    pub fn go_live(&self, delivered: u64) {
        self.reached.store(delivered, Ordering::Relaxed);
        self.replaying.store(false, Ordering::SeqCst);
    }

    /// The same for what a subscription missed; false if it is being told something already.
    pub fn begin_catch_up(&self) -> bool {
        !self.replaying.swap(true, Ordering::SeqCst)
    }

    /// Offset of the last entry that reached it, or was passed over for it.
    pub fn reached(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }

    /// Whether an entry is for it.
    pub fn wants(&self, entry: &Entry) -> bool {
        self.wanted(entry, &self.interest())
    }

    /// Whether an entry was for it when it was published.
    pub fn wanted_then(&self, entry: &Entry) -> bool {
        self.wanted(entry, &self.interest().at(entry.position.offset))
    }

    /// Whether it has been told of an entry, if this is what it wants by now.
    pub fn was_told(&self, entry: &Entry, interest: &Interest) -> bool {
        self.wanted(entry, &interest.told_of(entry.position.offset))
    }

    /// Its subscriptions, but for these, have been told everything after an offset.
    pub fn set_told(&self, but: &[Subscription], offset: u64) {
        let mut wants = self.write_wants();
        let new = wants.interest.subscriptions.iter_mut();
        for subscription in new.filter(|one| but.iter().all(|other| other.id != one.id)) {
            subscription.told = subscription.told.min(offset);
        }
    }

    /// Whether an entry is for it, if this is what it wants.
    pub fn wanted(&self, entry: &Entry, interest: &Interest) -> bool {
        self.knows(entry) && interest.is_reached_by(&entry.draft, &self.id, self.rooms.catalogue())
    }

    /// Whether an entry that names its user may reach it, whatever it is subscribed to.
    pub fn belongs_to(&self, entry: &Entry) -> bool {
        self.knows(entry) && entry.draft.audience.scope().is_some_and(|scope| self.interest().belongs_to(scope))
    }

    /// Sends it an entry that it missed in the forms that it has not read.
    pub fn send_unread(&self, entry: &Entry, unread: &[Form], handover: &mut Handover) {
        let wanted = self.interest().forms;
        let wanted = wanted.list().iter().filter(|form| unread.contains(form)).copied();
        let Some(forms) = Forms::of(wanted) else { return };
        self.send_now(&Rendered::new(entry, self.namespace(), self.directory()), forms, false, handover);
    }

    /// Whether an entry that it was sent does not wait in its queue any more.
    pub fn has_been_written(&self, offset: u64) -> bool {
        let held = self.batcher.get().is_some_and(|batcher| batcher.holds(offset));
        !held && self.connection.has_written(self.socket, offset)
    }

    /// Sends an entry in these forms; false if it cannot take it. While the socket is told what it missed, that is
    /// how it comes to this one.
    pub(super) fn send(&self, entry: &Rendered<'_>, forms: Forms, handover: &mut Handover) -> bool {
        if self.replaying.load(Ordering::SeqCst) {
            return true;
        }
        self.reached.store(entry.offset(), Ordering::Relaxed);
        self.send_now(entry, forms, true, handover)
    }

    fn send_now(&self, entry: &Rendered<'_>, forms: Forms, is_new: bool, handover: &mut Handover) -> bool {
        let deflated = self.connection.takes_deflate();
        if let Some(dialect) = self.dialect {
            // One that it does not know is as good as told.
            let Some(event) = entry.frame(dialect, deflated) else { return true };
            self.sent.fetch_add(1, Ordering::Relaxed);
            return self.hand_on(entry, forms, event, is_new, handover);
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        let through = || forms.list().iter().all(|form| self.send_packet(entry.text(*form, self.positioned)));
        self.while_polling(through).unwrap_or_else(|| {
            self.hand_on(entry, forms, entry.packets(forms, self.positioned, deflated), is_new, handover)
        })
    }

    fn hand_on(
        &self,
        entry: &Rendered<'_>,
        forms: Forms,
        event: &Outgoing,
        is_new: bool,
        handover: &mut Handover,
    ) -> bool {
        match self.batcher.get() {
            Some(batcher) if is_new => batcher.send(entry, forms, event, handover),
            // What it missed is told one by one.
            Some(batcher) => batcher.send_missed(event, handover),
            None => self.connection.send(self.socket, event, handover),
        }
    }

    /// Sends an Engine.IO message through socketioxide; false if its queue is full.
    pub(super) fn send_packet(&self, text: &str) -> bool {
        let Some(head) = text.get(1..).and_then(packet::parse) else { return false };
        let body = socketioxide_core::Value::Str(head.body.to_owned().into(), None);
        let id = head.id.and_then(|id| i64::try_from(id).ok());
        let inner = match head.kind {
            Kind::Ack => PacketData::EventAck(body, id.unwrap_or_default()),
            _ => PacketData::Event(body, id),
        };
        self.connection.queues(text.len())
            && self.rooms.send(self.sid, Packet { inner, ns: self.namespace().to_owned().into() })
    }
}

//! Batches: events that a socket asked to get together, grouped by type into one frame.
//!
//! What is collected is written after a short while, or when it grows large;
//! before what cannot wait, and before what the socket missed. So a socket
//! with batches gets everything in the order of the log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::adapter::RoomAdapter;
use super::rendered::{Content, Rendered};
use crate::config::MAX_BATCH_MS;
use crate::connection::{Connection, Handover, IN_LINE, Kind, Outgoing};
use crate::dialects::grouped;
use crate::events::Priority;
use crate::wire::{Forms, packet};

/// Bytes of contents after which a batch is written at once.
const MAX_BYTES: usize = 64 * 1024;

/// Built batches that are remembered.
const MAX_BUILT: usize = 16;

/// Events after which it is.
const MAX_EVENTS: usize = 256;

/// The batches of one socket.
#[derive(Debug)]
pub(super) struct Batcher {
    connection: Arc<Connection>,
    rooms: Arc<RoomAdapter>,
    socket: u32,
    positioned: bool,
    /// How long events are collected, in milliseconds; 0 is not at all.
    window_ms: AtomicU64,
    /// Whether all that the socket gets is one thing to its outbox, which then keeps it in order; it begins and ends
    /// when nothing waits there.
    in_line: AtomicBool,
    pending: Mutex<Option<Box<Pending>>>,
}

/// What is collected.
#[derive(Debug)]
struct Pending {
    /// The first event as it would be written alone.
    alone: Outgoing,
    /// Type and content of each event.
    parts: Vec<Content>,
    bytes: usize,
    /// Of the last event, with the highest priority of all.
    kind: Kind,
    /// Position of the last event.
    position: String,
}

impl Batcher {
    pub(super) fn new(
        connection: Arc<Connection>,
        rooms: Arc<RoomAdapter>,
        socket: u32,
        positioned: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            connection,
            rooms,
            socket,
            positioned,
            window_ms: AtomicU64::new(0),
            in_line: AtomicBool::new(false),
            pending: Mutex::default(),
        })
    }

    /// Changes how long events are collected.
    pub(super) fn set_window(&self, ms: u64) {
        self.window_ms.store(ms.min(MAX_BATCH_MS), Ordering::Relaxed);
        if ms == 0 {
            self.flush();
        }
    }

    /// Sends an event, now or with others; false if the socket cannot take it. `ordinary` is how it would be written
    /// alone. Only one thread at a time sends events to a socket.
    pub(super) fn send(
        self: &Arc<Self>,
        entry: &Rendered<'_>,
        forms: Forms,
        ordinary: &Outgoing,
        handover: &mut Handover,
    ) -> bool {
        let window = self.window_ms.load(Ordering::Relaxed);
        let Some(alone) = self.in_line(window, ordinary) else {
            return self.connection.send(self.socket, ordinary, handover);
        };
        let waits = window > 0 && !alone.kind.requires_ack && alone.kind.priority != Priority::Urgent;
        let content = if waits { entry.content(self.connection.plain(), forms) } else { None };
        let Some(content) = content.filter(|content| content.1.len() <= MAX_BYTES) else {
            return self.flush_into(handover) && self.connection.send(self.socket, &alone, handover);
        };
        let mut pending = self.lock();
        match &mut *pending {
            Some(pending) => pending.add(content, alone.kind, entry.position()),
            None => {
                let (kind, bytes) = (alone.kind, content.1.len());
                let (parts, position) = (vec![content], entry.position());
                *pending = Some(Box::new(Pending { alone, parts, bytes, kind, position }));
                let batcher = self.clone();
                self.connection.after(Duration::from_millis(window), move || {
                    batcher.flush();
                });
            }
        }
        let full = pending.as_ref().is_some_and(|held| held.parts.len() >= MAX_EVENTS || held.bytes >= MAX_BYTES);
        drop(pending);
        !full || self.flush_into(handover)
    }

    /// Sends an event that the socket missed, behind what is collected.
    pub(super) fn send_missed(&self, ordinary: &Outgoing, handover: &mut Handover) -> bool {
        let alone = self.in_line(self.window_ms.load(Ordering::Relaxed), ordinary);
        self.flush_into(handover) && self.connection.send(self.socket, alone.as_ref().unwrap_or(ordinary), handover)
    }

    /// The event as one of those that are kept in order; none if they are not.
    fn in_line(&self, window: u64, ordinary: &Outgoing) -> Option<Outgoing> {
        let mut in_line = self.in_line.load(Ordering::Relaxed);
        if in_line != (window > 0) && self.lock().is_none() && self.connection.is_settled(self.socket) {
            in_line = window > 0;
            self.in_line.store(in_line, Ordering::Relaxed);
        }
        let kind = Kind { entity: IN_LINE, conflation: None, ..ordinary.kind };
        in_line.then(|| Outgoing { frames: ordinary.frames.clone(), kind })
    }

    /// Whether an event is kept back that is not older.
    pub(super) fn holds(&self, offset: u64) -> bool {
        self.lock().as_ref().is_some_and(|pending| pending.kind.offset >= offset)
    }

    /// Writes what is collected; false if the socket cannot take it.
    pub(super) fn flush(&self) -> bool {
        self.flush_into(&mut Handover::default())
    }

    fn flush_into(&self, handover: &mut Handover) -> bool {
        // While it is held nobody comes between.
        let mut pending = self.lock();
        let Some(collected) = pending.take() else { return true };
        let event = if collected.parts.len() == 1 {
            collected.alone
        } else {
            Outgoing { frames: self.frame(&collected), kind: collected.kind }
        };
        self.connection.send(self.socket, &event, handover)
    }

    /// The frame of a batch; sockets that collected the same share it.
    fn frame(&self, collected: &Pending) -> Bytes {
        let (positioned, deflated) = (self.positioned, self.connection.takes_deflate());
        let key = Key { parts: collected.parts.clone(), positioned, deflated };
        let batches = self.rooms.directory().batches();
        batches.get(&key).unwrap_or_else(|| {
            let frame = self.connection.frame_for(&self.text(collected));
            batches.put(key, frame.clone());
            frame
        })
    }

    fn text(&self, collected: &Pending) -> String {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for part in &collected.parts {
            let (name, content) = (part.0.as_str(), part.1.as_str());
            match groups.iter_mut().find(|(group, _)| *group == name) {
                Some((_, contents)) => contents.push(content),
                None => groups.push((name, vec![content])),
            }
        }
        if let Some(plain) = self.connection.plain() {
            return plain.dialect.batch(&groups);
        }
        let batches = grouped(&groups);
        let position = if self.positioned { format!(",\"{}\"", collected.position) } else { String::new() };
        packet::event(self.rooms.namespace(), None, &format!("\"batch\",{{\"batches\":{batches}}}{position}"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Pending>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn add(&mut self, content: Content, kind: Kind, position: String) {
        self.bytes += content.1.len();
        self.parts.push(content);
        self.position = position;
        self.kind = Kind { priority: self.kind.priority.max(kind.priority), ..kind };
    }
}

/// The batches that were built last: those who collect the same get the same bytes.
#[derive(Debug, Default)]
pub(super) struct Batches {
    built: Mutex<VecDeque<(Key, Bytes)>>,
}

/// What makes batches the same: the very same contents, each of which belongs to one entry, namespace and way of
/// writing it.
#[derive(Debug)]
struct Key {
    parts: Vec<Content>,
    positioned: bool,
    deflated: bool,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |(one, another): (&Content, &Content)| Arc::ptr_eq(one, another);
        (self.positioned, self.deflated, self.parts.len()) == (other.positioned, other.deflated, other.parts.len())
            && self.parts.iter().zip(&other.parts).all(is_same)
    }
}

impl Batches {
    fn get(&self, key: &Key) -> Option<Bytes> {
        self.lock().iter().find(|(known, _)| known == key).map(|(_, frame)| frame.clone())
    }

    fn put(&self, key: Key, frame: Bytes) {
        let mut built = self.lock();
        built.truncate(MAX_BUILT - 1);
        built.push_front((key, frame));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Key, Bytes)>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Batches: events that a socket asked to get together, grouped by type into one frame.
//!
//! What is collected is written after a short while, or when it grows large;
//! before what cannot wait, and before what the socket missed. So a socket
//! with batches gets everything in the order of the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::rendered::Rendered;
use crate::connection::{Connection, Handover, Kind, Outgoing};
use crate::dialects::grouped;
use crate::events::Priority;
use crate::wire::{Forms, packet};

/// Longest time that an event is kept back, in milliseconds.
pub const MAX_BATCH_MS: u64 = 100;

/// Bytes of contents after which a batch is written at once.
const MAX_BYTES: usize = 64 * 1024;

/// Events after which it is.
const MAX_EVENTS: usize = 256;

/// The batches of one socket.
#[derive(Debug)]
pub(super) struct Batcher {
    connection: Arc<Connection>,
    namespace: Box<str>,
    socket: u32,
    positioned: bool,
    /// How long events are collected, in milliseconds; 0 is not at all.
    window_ms: AtomicU64,
    pending: Mutex<Option<Box<Pending>>>,
}

/// What is collected.
#[derive(Debug)]
struct Pending {
    /// The first event as it would be written alone, until there is a second.
    alone: Option<Outgoing>,
    /// Each type with its contents, in order.
    groups: Vec<(String, Vec<String>)>,
    events: usize,
    bytes: usize,
    /// Of the last event, with the highest priority of all.
    kind: Kind,
    /// Position of the last event.
    position: String,
}

impl Batcher {
    pub(super) fn new(connection: Arc<Connection>, namespace: &str, socket: u32, positioned: bool) -> Arc<Self> {
        Arc::new(Self {
            connection,
            namespace: namespace.into(),
            socket,
            positioned,
            window_ms: AtomicU64::new(0),
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
    /// alone.
    pub(super) fn send(
        self: &Arc<Self>,
        entry: &Rendered<'_>,
        forms: Forms,
        ordinary: &Outgoing,
        handover: &mut Handover,
    ) -> bool {
        let window = self.window_ms.load(Ordering::Relaxed);
        // All that one socket gets is one thing to its outbox, which then keeps it in order.
        let kind = Kind { entity: 0, conflation: None, ..ordinary.kind };
        let alone = Outgoing { frames: ordinary.frames.clone(), kind };
        let waits = window > 0 && !kind.requires_ack && kind.priority != Priority::Urgent;
        let content = if waits { entry.content(self.connection.plain(), forms) } else { None };
        let Some(content) = content else {
            return self.flush_into(handover) && self.connection.send(self.socket, &alone, handover);
        };
        let (name, content) = &*content;
        let mut pending = self.lock();
        match &mut *pending {
            Some(pending) => pending.add(name, content, kind, entry.position()),
            None => {
                let first = Pending {
                    alone: Some(alone),
                    groups: vec![(name.clone(), vec![content.clone()])],
                    events: 1,
                    bytes: content.len(),
                    kind,
                    position: entry.position(),
                };
                *pending = Some(Box::new(first));
                let batcher = self.clone();
                self.connection.after(Duration::from_millis(window), move || {
                    batcher.flush();
                });
            }
        }
        let full = pending.as_ref().is_some_and(|pending| pending.events >= MAX_EVENTS || pending.bytes >= MAX_BYTES);
        drop(pending);
        !full || self.flush_into(handover)
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
        let event = match collected.alone {
            Some(alone) => alone,
            None => Outgoing { frames: self.connection.frame_for(&self.text(&collected)), kind: collected.kind },
        };
        self.connection.send(self.socket, &event, handover)
    }

    fn text(&self, collected: &Pending) -> String {
        if let Some(plain) = self.connection.plain() {
            return plain.dialect.batch(&collected.groups);
        }
        let batches = grouped(&collected.groups);
        let position = if self.positioned { format!(",\"{}\"", collected.position) } else { String::new() };
        packet::event(&self.namespace, None, &format!("\"batch\",{{\"batches\":{batches}}}{position}"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Pending>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn add(&mut self, name: &str, content: &str, kind: Kind, position: String) {
        self.alone = None;
        self.events += 1;
        self.bytes += content.len();
        self.position = position;
        let priority = self.kind.priority.max(kind.priority);
        self.kind = Kind { priority, ..kind };
        match self.groups.iter_mut().find(|(group, _)| group == name) {
            Some((_, contents)) => contents.push(content.to_owned()),
            None => self.groups.push((name.to_owned(), vec![content.to_owned()])),
        }
    }
}

//! Entries: what was published, to whom, and how.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::{SetOnce, oneshot};

use super::position::Position;
use super::report::Report;
use crate::events::{ChannelMask, EventSpec, Facts, Priority};
use crate::rooms::{Id, Scope};

/// What a publication names beside its scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Users of the organization.
    pub users: Vec<Id>,
    /// Sockets, by public id.
    pub sockets: Vec<String>,
    /// Rooms, by name.
    pub rooms: Vec<String>,
}

/// Who an entry is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Every socket of the server.
    Everyone,
    /// The sockets of a scope, by the delivery rule, or those of them that are named.
    Scope {
        /// The scope.
        scope: Scope,
        /// What narrows it, if the publisher named anything; an empty list names nobody.
        targets: Option<Targets>,
    },
}

impl Audience {
    /// The scope, unless the entry is for everyone.
    pub fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Everyone => None,
            Self::Scope { scope, .. } => Some(scope),
        }
    }
}

/// A call that may be repeated, and is to be done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What tells calls apart, as a hash.
    pub id: [u8; 32],
    /// What was asked for, as a hash.
    pub asked: [u8; 32],
    /// What it is answered with.
    pub message: String,
}

/// An entry before it has an offset.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Id of the message.
    pub message_id: String,
    /// What the catalogue knows of the event.
    pub event: EventSpec,
    /// The channels it goes out on: the event's own, or those the publisher named.
    pub channels: ChannelMask,
    /// Who it is for.
    pub audience: Audience,
    /// Sockets that are left out, by public id.
    pub except: Vec<String>,
    /// Its priority.
    pub priority: Priority,
    /// Ack id on the wire and time to acknowledge in milliseconds, if acknowledgement is required.
    pub ack: Option<(u64, u64)>,
    /// The payload, byte for byte.
    pub payload: Box<RawValue>,
    /// What filters look at.
    pub facts: Facts,
    /// Whether it is only for who is there when it is delivered.
    pub fleeting: bool,
    /// Whether its publisher asks why it reached whom.
    pub explains: bool,
    /// The call it came with, if that may be repeated.
    pub call: Option<Call>,
    /// When it was published, in milliseconds since the epoch.
    pub published_at_ms: i64,
    /// The same moment on the monotonic clock.
    pub started: Instant,
}

/// An entry of the log.
#[derive(Debug)]
pub struct Entry {
    /// Where it is.
    pub position: Position,
    /// What it is.
    pub draft: Draft,
    report: Mutex<Option<oneshot::Sender<Report>>>,
    prepared: Mutex<Vec<Prepared>>,
    ready: SetOnce<()>,
    /// Whether it could not be stored after all, so that nobody gets it.
    void: AtomicBool,
}

/// Frames of an entry that were built before it was sequenced.
#[derive(Debug)]
pub struct Prepared {
    /// Path of the namespace they are for.
    pub namespace: Box<str>,
    /// Which of the forms they are, as whoever built them tells them apart.
    pub variant: u64,
    frames: Bytes,
    used: AtomicBool,
}

impl Prepared {
    /// Frames that nobody has used yet.
    pub fn new(namespace: &str, variant: u64, frames: Bytes) -> Self {
        Self { namespace: namespace.into(), variant, frames, used: AtomicBool::new(false) }
    }

    /// The frames, which are used from here on.
    fn take(&self) -> Bytes {
        self.used.store(true, Ordering::Relaxed);
        self.frames.clone()
    }

    /// Whether they were used.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

impl Entry {
    /// An entry whose delivery is reported to `report`, if anybody of this process waits for that.
    pub(super) fn new(position: Position, draft: Draft, report: Option<oneshot::Sender<Report>>) -> Self {
        Self {
            position,
            draft,
            report: Mutex::new(report),
            prepared: Mutex::default(),
            ready: SetOnce::new(),
            void: AtomicBool::new(false),
        }
    }

    /// An entry from the store, which nobody waits for.
    pub(super) fn read(position: Position, draft: Draft) -> Self {
        let entry = Self::new(position, draft, None);
        entry.ready.set(()).ok();
        entry
    }

    /// Says that the entry may be delivered, with what was built of it; once.
    pub fn prepare(&self, prepared: Vec<Prepared>) {
        if !prepared.is_empty() {
            *self.lock_prepared() = prepared;
        }
        self.ready.set(()).ok();
    }

    /// Says that the entry could not be stored after all: nobody gets it, and whoever published it is told nothing.
    pub fn abandon(&self) {
        self.void.store(true, Ordering::Release);
        self.report.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.ready.set(()).ok();
    }

    /// Whether it could not be stored.
    pub fn is_void(&self) -> bool {
        self.void.load(Ordering::Acquire)
    }

    /// Whether later readers get it too, and not only who is there when it is delivered.
    pub fn is_kept(&self) -> bool {
        self.draft.event.history && !self.draft.fleeting && !self.is_void()
    }

    /// Whether the entry may be delivered.
    pub fn is_ready(&self) -> bool {
        self.ready.initialized()
    }

    /// Waits until the entry may be delivered.
    pub async fn ready(&self) {
        self.ready.wait().await;
    }

    /// The frames that were built of it for a namespace, if they were.
    pub fn prepared(&self, namespace: &str, variant: u64) -> Option<Bytes> {
        let prepared = self.lock_prepared();
        let fits = |prepared: &&Prepared| *prepared.namespace == *namespace && prepared.variant == variant;
        prepared.iter().find(fits).map(Prepared::take)
    }

    /// Takes what was built of it away: it is delivered, and the log keeps what was published.
    pub fn take_prepared(&self) -> Vec<Prepared> {
        std::mem::take(&mut *self.lock_prepared())
    }

    fn lock_prepared(&self) -> MutexGuard<'_, Vec<Prepared>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process has published it, and has not been told yet what came of it.
    pub fn is_own(&self) -> bool {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Tells whoever published the entry what came of it, and gives that back if it was nobody of this process.
    pub fn report(&self, what: Report) -> Option<Report> {
        match self.report.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(report) => drop(report.send(what)),
            None => return Some(what),
        }
        None
    }
}

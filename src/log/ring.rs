//! The newest entries of a shard, from where they are delivered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::entry::Entry;
use super::position::Position;

/// One shard of the log, as far as it is in memory.
#[derive(Debug)]
pub(super) struct Shard {
    ring: Mutex<Ring>,
    pub(super) appended: Notify,
}

/// The newest entries of a shard.
#[derive(Debug)]
pub(super) struct Ring {
    /// Life of the log and number of the shard: an offset means nothing in another one.
    pub(super) epoch: Arc<str>,
    pub(super) entries: VecDeque<Arc<Entry>>,
    pub(super) bytes: usize,
    /// The newest offset.
    pub(super) last: u64,
    /// From this offset on nothing is missing here.
    first: u64,
    /// Everything up to here is delivered.
    pub(super) delivered: u64,
}

impl Shard {
    /// A shard whose last entry had this offset.
    pub(super) fn new(epoch: String, last: u64) -> Self {
        let (entries, epoch) = (VecDeque::new(), epoch.into());
        let ring = Ring { epoch, entries, bytes: 0, last, first: last + 1, delivered: last };
        Self { ring: Mutex::new(ring), appended: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// A place in this life of the shard.
    pub(super) fn position(&self, offset: u64) -> Position {
        Position { epoch: self.epoch.clone(), offset }
    }

    /// The place of the newest entry.
    pub(super) fn head(&self) -> Position {
        self.position(self.last)
    }

    /// Whether what follows an offset is here.
    pub(super) fn reaches_back_to(&self, offset: u64) -> bool {
        offset.saturating_add(1) >= self.first
    }

    /// Up to `limit` entries after an offset.
    pub(super) fn after(&self, offset: u64, limit: usize) -> Vec<Arc<Entry>> {
        let skip = self.entries.partition_point(|entry| entry.position.offset <= offset);
        self.entries.iter().skip(skip).take(limit).cloned().collect()
    }

    /// What comes from here on follows an offset, of another life if that has an epoch. What is still to be delivered
    /// stays.
    pub(super) fn jump(&mut self, offset: u64, epoch: Option<String>) {
        if let Some(epoch) = epoch {
            self.epoch = epoch.into();
        }
        (self.last, self.first) = (offset, offset + 1);
    }

    /// Lets go of the oldest entry; false if it is still to be delivered, or there is none.
    pub(super) fn forget_first(&mut self) -> bool {
        let delivered = self.delivered;
        let Some(oldest) = self.entries.front().filter(|oldest| oldest.position.offset <= delivered) else {
            return false;
        };
        self.bytes -= oldest.draft.payload.get().len();
        self.first = self.first.max(oldest.position.offset + 1);
        self.entries.pop_front();
        true
    }

    pub(super) fn push(&mut self, entry: Arc<Entry>) -> Arc<Entry> {
        self.last = entry.position.offset;
        self.bytes += entry.draft.payload.get().len();
        self.entries.push_back(entry.clone());
        entry
    }
}

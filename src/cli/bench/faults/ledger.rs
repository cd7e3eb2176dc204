//! How far publishing has come, for everybody to see.

use std::sync::atomic::{AtomicU64, Ordering};

/// The publisher's two counts; events are numbered from 0 and published one after another.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    begun: AtomicU64,
    answered: AtomicU64,
}

impl Ledger {
    /// The event is about to be sent.
    pub(super) fn begin(&self, sequence: u64) {
        self.begun.store(sequence + 1, Ordering::Release);
    }

    /// The event was answered.
    pub(super) fn answer(&self, sequence: u64) {
        self.answered.store(sequence + 1, Ordering::Release);
    }

    /// Whether the event is one of this run.
    pub(super) fn has_begun(&self, sequence: u64) -> bool {
        sequence < self.begun.load(Ordering::Acquire)
    }

    /// How many events were answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }
}

//! Attachments of packets: so many, and they have to follow soon.
//!
//! socketioxide holds a packet until its last attachment is there, and takes
//! nothing else meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::frame::close_code;
use crate::stats::Refusal;

/// How long the attachments of a packet may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Attachments of a client that nobody knows: its events are refused, and should cost nothing.
const OF_STRANGERS: u32 = 1;

/// Attachments that are to come.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    /// Their number in the lower half, and in the upper one since when, in seconds after the start of the server; one
    /// client's packets come one after another, so nobody else writes it meanwhile.
    due: AtomicU64,
}

impl Attachments {
    fn expect(&self, count: u32, now: u64) {
        self.due.store(if count == 0 { 0 } else { now << 32 | u64::from(count) }, Ordering::Relaxed);
    }

    fn arrive(&self) {
        let due = self.due.load(Ordering::Relaxed);
        let left = if due as u32 <= 1 { 0 } else { due - 1 };
        self.due.store(left, Ordering::Relaxed);
    }

    fn is_overdue(&self, now: u64) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        due != 0 && now.saturating_sub(due >> 32) > PATIENCE.as_secs()
    }
}

impl Connection {
    /// A packet names its attachments; false if they are too many, and the connection ends.
    pub(super) fn expect_attachments(self: &Arc<Self>, count: u32) -> bool {
        let most = u32::from(self.plane.settings.max_attachments);
        if count > if self.is_settled_in() { most } else { most.min(OF_STRANGERS) } {
            self.plane.counters.refused(Refusal::Attachments);
            self.end_for_size();
            return false;
        }
        self.attachments.expect(count, self.seconds());
        true
    }

    /// An attachment has come.
    pub(super) fn take_attachment(&self) {
        self.attachments.arrive();
    }

    /// A client that is alive, but does not send what it has announced, is cut.
    pub(super) fn check_attachments(&self) {
        if self.attachments.is_overdue(self.seconds()) {
            self.plane.counters.refused(Refusal::Attachments);
            self.cut();
        }
    }

    /// Closes the transport of a client that has sent too much at once; it comes back by itself.
    pub(super) fn end_for_size(self: &Arc<Self>) {
        if self.transport.get().is_some() { self.finish(close_code::TOO_BIG) } else { self.cut() }
    }

    fn seconds(&self) -> u64 {
        Instant::now().duration_since(self.plane.started).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_is_overdue() {
        let attachments = Attachments::default();
        attachments.expect(2, 100);
        attachments.arrive();
        assert!(!attachments.is_overdue(110) && attachments.is_overdue(111));
        attachments.arrive();
        attachments.arrive();
        assert!(!attachments.is_overdue(1_000));
        attachments.expect(0, 100);
        assert!(!attachments.is_overdue(1_000));
    }
}

//! Attachments of packets: so many, and they have to follow soon.
//!
//! socketioxide holds a packet until its last attachment is there, and takes
//! nothing else meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::connection::Connection;
use super::frame::close_code;
use crate::stats::Refusal;

/// Attachments of a client that nobody knows: its events are refused, and should cost nothing.
const OF_STRANGERS: u16 = 1;

/// Attachments that are to come.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    /// Their number in the lowest bits, and above since when, in milliseconds after the start of the server; one
    /// client's packets come one after another, so nobody else writes it meanwhile.
    due: AtomicU64,
}

/// Bits for a number of attachments.
const BITS: u32 = 16;

impl Attachments {
    fn expect(&self, count: u16, now: u64) {
        self.due.store(if count == 0 { 0 } else { now << BITS | u64::from(count) }, Ordering::Relaxed);
    }

    fn arrive(&self) {
        let due = self.due.load(Ordering::Relaxed);
        let left = if due as u16 <= 1 { 0 } else { due - 1 };
        self.due.store(left, Ordering::Relaxed);
    }

    fn is_overdue(&self, now: u64, patience: Duration) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        due != 0 && u128::from(now.saturating_sub(due >> BITS)) > patience.as_millis()
    }
}

impl Connection {
    /// A packet names its attachments; false if they are too many, and the connection ends.
    pub(super) fn expect_attachments(self: &Arc<Self>, count: u32) -> bool {
        let most = self.plane.settings.max_attachments;
        let most = if self.is_settled_in() { most } else { most.min(OF_STRANGERS) };
        let Some(count) = u16::try_from(count).ok().filter(|count| *count <= most) else {
            self.plane.counters.refused(Refusal::Attachments);
            self.end_for_size();
            return false;
        };
        self.attachments.expect(count, self.millis());
        true
    }

    /// An attachment has come.
    pub(super) fn take_attachment(&self) {
        self.attachments.arrive();
    }

    /// A client that is alive, but does not send what it has announced, is cut.
    pub(super) fn check_attachments(&self) {
        if self.attachments.is_overdue(self.millis(), self.plane.settings.body_timeout) {
            self.plane.counters.refused(Refusal::Attachments);
            self.cut();
        }
    }

    /// Closes the transport of a client that has sent too much at once; it comes back by itself.
    pub(super) fn end_for_size(self: &Arc<Self>) {
        if self.transport.get().is_some() { self.finish(close_code::TOO_BIG) } else { self.cut() }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.plane.started.elapsed().as_millis()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_is_overdue() {
        let attachments = Attachments::default();
        let is_overdue = |now| attachments.is_overdue(now, Duration::from_millis(10));
        attachments.expect(2, 100);
        attachments.arrive();
        assert!(!is_overdue(110) && is_overdue(111));
        attachments.arrive();
        attachments.arrive();
        assert!(!is_overdue(1_000));
        attachments.expect(0, 100);
        assert!(!is_overdue(1_000));
    }
}

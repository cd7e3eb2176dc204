//! What a client has read, where events were not written in the order of the log.
//!
//! A client names the last event it has read. Events are written in the order
//! of the log as long as none waits for another; from the first that overtakes
//! one, this is the list of what was written, until the client has proven that
//! it has read all of it.

use serde::{Deserialize, Serialize};

/// Offsets that are kept; beyond, what the client has read cannot be told.
const MOST: usize = 4_096;

/// The order in which the events of one socket were written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Everything up to this offset was written before the list begins, or lost on purpose.
    base: u64,
    /// Everything up to this offset was read, wherever the last event is that the client has read.
    proven: u64,
    /// What was written since, in that order; none while that is the order of the log.
    written: Option<Vec<u64>>,
}

/// What a client has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Everything up to this offset,
    pub up_to: u64,
    /// and these beyond it.
    pub beyond: Vec<u64>,
}

impl Journal {
    /// The journal of a client that has read this.
    pub fn after(read: Read) -> Self {
        Self { base: read.up_to, proven: read.up_to, written: (!read.beyond.is_empty()).then_some(read.beyond) }
    }

    /// An event is written; `overtakes` says that earlier ones may still wait.
    pub(super) fn write(&mut self, offset: u64, overtakes: bool) {
        match &mut self.written {
            None if !overtakes && offset >= self.base => self.base = offset,
            None => self.written = Some(vec![offset]),
            // One more than fits says that some are missing.
            Some(written) if written.len() <= MOST => written.push(offset),
            Some(_) => {}
        }
    }

    /// Whether there is anything that a proof would end.
    pub fn is_open(&self) -> bool {
        self.written.is_some()
    }

    /// The client has read everything that was written.
    pub(super) fn prove(&mut self) {
        if let Some(written) = self.written.take() {
            self.base = written.into_iter().max().unwrap_or_default().max(self.base);
            self.proven = self.base;
        }
    }

    /// What a client has read whose last event is at this offset; none if that cannot be told.
    pub fn read_up_to(&self, offset: u64) -> Option<Read> {
        let Some(written) = self.written.as_ref().filter(|_| offset > self.base) else {
            return Some(Read { up_to: offset.max(self.proven), beyond: Vec::new() });
        };
        if written.len() > MOST {
            return None;
        }
        let last = written.iter().rposition(|other| *other == offset)?;
        Some(Read { up_to: self.base, beyond: written[..=last].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(up_to: u64, beyond: &[u64]) -> Option<Read> {
        Some(Read { up_to, beyond: beyond.to_vec() })
    }

    #[test]
    fn in_the_order_of_the_log_the_last_event_tells_all() {
        let mut journal = Journal::default();
        for offset in [3, 5, 6] {
            journal.write(offset, false);
        }
        assert_eq!(journal.read_up_to(5), read(5, &[]));
        assert_eq!(journal.read_up_to(6), read(6, &[]));
        assert_eq!(journal.read_up_to(0), read(0, &[]));
    }

    #[test]
    fn what_was_overtaken_is_not_taken_for_read() {
        let mut journal = Journal::default();
        journal.write(3, false);
        for (offset, overtakes) in [(9, true), (4, false), (7, false), (5, false)] {
            journal.write(offset, overtakes);
        }
        assert_eq!(journal.read_up_to(3), read(3, &[]));
        assert_eq!(journal.read_up_to(9), read(3, &[9]));
        assert_eq!(journal.read_up_to(7), read(3, &[9, 4, 7]));
        assert_eq!(journal.read_up_to(6), None, "it was never written");
        let mut resumed = Journal::after(journal.read_up_to(4).expect("it was written"));
        resumed.write(5, false);
        assert_eq!(resumed.read_up_to(4), read(3, &[9, 4]));
        assert_eq!(resumed.read_up_to(5), read(3, &[9, 4, 5]));
        journal.prove();
        assert_eq!(journal.read_up_to(9), read(9, &[]));
        journal.write(10, false);
        assert_eq!(journal.read_up_to(10), read(10, &[]));
    }

    #[test]
    fn what_was_proven_is_read_wherever_the_client_was_last() {
        let mut journal = Journal::default();
        for (offset, overtakes) in [(3, false), (9, true), (4, false)] {
            journal.write(offset, overtakes);
        }
        journal.prove();
        assert_eq!(journal.read_up_to(4), read(9, &[]));
        journal.write(10, false);
        assert_eq!(journal.read_up_to(4), read(9, &[]));
        assert_eq!(journal.read_up_to(10), read(10, &[]));
        let resumed = Journal::after(journal.read_up_to(4).expect("it was written"));
        assert_eq!(resumed.read_up_to(4), read(9, &[]));
    }

    #[test]
    fn a_list_that_is_too_long_tells_nothing() {
        let mut journal = Journal::default();
        journal.write(1, false);
        for offset in 0..=MOST as u64 {
            journal.write(10 + offset, true);
        }
        assert_eq!(journal.read_up_to(10), None);
        assert_eq!(journal.read_up_to(1), read(1, &[]));
    }
}

//! The index of one shard: where the record of each offset is, and which
//! offsets have none.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::settings::JournalSettings;

/// Holes that a shard has before those of repeated crashes become one.
const MAX_HOLES: usize = 16;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The segment file.
    pub(super) segment: u64,
    /// Byte of the file at which the record begins.
    pub(super) position: u32,
    /// Its bytes, header included.
    pub(super) length: u32,
    /// When it was appended, in milliseconds since the epoch.
    pub(super) at_ms: i64,
}

/// Offsets without a record: those after `from`, up to `to`.
///
/// `to` itself is a position that a reader may be at: all that follows it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hole {
    /// The last offset before it.
    pub(super) from: u64,
    /// The last offset in it.
    pub(super) to: u64,
    /// Whether records were lost here; if not, these offsets were only skipped.
    pub(super) lost: bool,
}

impl Hole {
    /// Whether a reader that has read up to `after` misses something here, or claims to have read what is not known.
    fn hides(&self, after: u64) -> bool {
        after < self.to && (self.lost || after > self.from)
    }
}

/// The records of one shard.
///
/// Every offset from `floor` to `head` has a slot, in order, or lies in a hole.
#[derive(Debug)]
pub(super) struct Shard {
    floor: u64,
    head: u64,
    slots: VecDeque<Slot>,
    holes: Vec<Hole>,
    bytes: u64,
}

impl Shard {
    /// A shard without records, of which everything before `floor` is forgotten.
    pub(super) fn new(floor: u64) -> Self {
        Self { floor, head: floor - 1, slots: VecDeque::new(), holes: Vec::new(), bytes: 0 }
    }

    /// The last offset given out.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Everything before this offset is forgotten.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The oldest offset with a record, or the next one to be given out.
    pub(super) fn first(&self) -> u64 {
        self.offset_at(0)
    }

    /// The offsets without a record.
    pub(super) fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Adds the record of the next offset.
    pub(super) fn push(&mut self, slot: Slot) {
        self.head += 1;
        self.bytes += u64::from(slot.length);
        self.slots.push_back(slot);
    }

    /// Goes on behind `to`; the offsets up to there have no record.
    pub(super) fn skip_to(&mut self, to: u64, lost: bool) {
        if to <= self.head {
            return;
        }
        let crowded = self.holes.len() >= MAX_HOLES;
        match self.holes.last_mut() {
            Some(last) if crowded && last.to == self.head => {
                last.to = to;
                last.lost |= lost;
            }
            _ => self.holes.push(Hole { from: self.head, to, lost }),
        }
        self.head = to;
        self.settle();
    }

    /// Takes the record of an offset out, which turned out to be damaged.
    pub(super) fn lose(&mut self, offset: u64) -> Option<Slot> {
        let index = self.rank(offset).checked_sub(1)?;
        if self.offset_at(index) != offset {
            return None;
        }
        let slot = self.slots.remove(index)?;
        self.bytes -= u64::from(slot.length);
        let hole = Hole { from: offset - 1, to: offset, lost: true };
        let at = self.holes.partition_point(|other| other.from < hole.from);
        self.holes.insert(at, hole);
        self.settle();
        Some(slot)
    }

    /// Drops the oldest record, if retention asks for it.
    pub(super) fn drop_oldest(&mut self, keep: &JournalSettings, now_ms: i64) -> Option<Slot> {
        let oldest = *self.slots.front()?;
        let age_ms = u64::try_from(now_ms.saturating_sub(oldest.at_ms)).unwrap_or(0);
        let crowded = self.slots.len() as u64 > keep.max_entries || self.bytes > keep.max_bytes;
        if age_ms <= keep.max_age_ms && !(crowded && self.slots.len() > 1) {
            return None;
        }
        self.floor = self.first() + 1;
        self.holes.retain(|hole| hole.to >= self.floor);
        self.settle();
        self.bytes -= u64::from(oldest.length);
        self.slots.pop_front()
    }

    /// Whether a reader may have read up to this offset, and everything after it is known.
    pub(super) fn resumable_from(&self, offset: u64) -> bool {
        offset <= self.head && offset + 1 >= self.floor && !self.holes.iter().any(|hole| hole.hides(offset))
    }

    /// The next records after an offset, at least one if there is one, and whether any before the first of them are gone.
    ///
    /// Ends before a hole where records were lost, so that the next call tells of it.
    pub(super) fn after(&self, after: u64, limit: usize, max_bytes: usize) -> (Vec<(u64, Slot)>, bool) {
        let mut taken: Vec<(u64, Slot)> = Vec::new();
        let mut bytes = 0;
        for (index, slot) in self.slots.iter().enumerate().skip(self.rank(after)) {
            let offset = self.offset_at(index);
            bytes += slot.length as usize;
            if let Some(&(last, _)) = taken.last() {
                let lost = |hole: &Hole| hole.lost && hole.from >= last && hole.to < offset;
                if taken.len() >= limit || bytes > max_bytes || self.holes.iter().any(lost) {
                    break;
                }
            }
            taken.push((offset, *slot));
        }
        let first = taken.first().map_or(self.head + 1, |&(offset, _)| offset);
        let hidden = self.holes.iter().any(|hole| hole.to < first && hole.hides(after));
        (taken, hidden || after.saturating_add(1) < self.floor)
    }

    /// Lost records at the bottom are only no longer kept, and others next to each other are one hole.
    fn settle(&mut self) {
        while let Some(hole) = self.holes.first().filter(|hole| hole.lost && hole.from < self.floor) {
            self.floor = hole.to + 1;
            self.holes.remove(0);
        }
        self.holes.dedup_by(|hole, before| {
            let one = hole.lost && before.lost && before.to == hole.from;
            before.to = if one { hole.to } else { before.to };
            one
        });
    }

    /// The offset of a slot; of the one behind the last, the next to be given out.
    fn offset_at(&self, index: usize) -> u64 {
        let past = |offset, hole: &Hole| if offset > hole.from { offset + (hole.to - hole.from) } else { offset };
        self.holes.iter().fold(self.floor + index as u64, past)
    }

    /// An offset behind which are the newest slots, so many if there are.
    pub(super) fn back(&self, count: usize) -> u64 {
        let skipped = self.slots.len().saturating_sub(count);
        if skipped < self.slots.len() { self.offset_at(skipped) - 1 } else { self.head }
    }

    /// How many slots are at or before an offset.
    fn rank(&self, offset: u64) -> usize {
        let offset = offset.min(self.head);
        let absent: u64 = self.holes.iter().map(|hole| hole.to.min(offset).saturating_sub(hole.from)).sum();
        (offset + 1).saturating_sub(self.floor + absent) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Durability;

    fn slot(at_ms: i64) -> Slot {
        Slot { segment: 1, position: 0, length: 10, at_ms }
    }

    fn offsets(shard: &Shard, after: u64) -> (Vec<u64>, bool) {
        let (records, gap) = shard.after(after, 100, usize::MAX);
        (records.iter().map(|&(offset, _)| offset).collect(), gap)
    }

    /// 1, 2, 3; 4 to 9 skipped; 11, 12; 13 lost; 14.
    fn holed() -> Shard {
        let mut shard = Shard::new(1);
        (1..=3).for_each(|at| shard.push(slot(at)));
        shard.skip_to(10, false);
        (11..=14).for_each(|at| shard.push(slot(at)));
        shard.lose(13).expect("a record");
        shard
    }

    #[test]
    fn a_page_ends_before_what_is_lost_and_the_next_tells_of_it() {
        let shard = holed();
        assert_eq!(offsets(&shard, 0), (vec![1, 2, 3, 11, 12], false));
        assert_eq!(offsets(&shard, 3), (vec![11, 12], false));
        assert_eq!(offsets(&shard, 5), (vec![11, 12], true));
        assert_eq!(offsets(&shard, 10), (vec![11, 12], false));
        assert_eq!(offsets(&shard, 12), (vec![14], true));
        assert_eq!(offsets(&shard, 13), (vec![14], false));
        assert_eq!(offsets(&shard, 14), (vec![], false));
        assert_eq!(offsets(&shard, u64::MAX), (vec![], false));
    }

    #[test]
    fn only_what_all_that_follows_is_known_of_is_resumable() {
        let mut shard = holed();
        assert_eq!((0..20).filter(|&at| shard.resumable_from(at)).collect::<Vec<_>>(), [13, 14]);
        shard.skip_to(20, false);
        shard.push(slot(21));
        assert_eq!((0..30).filter(|&at| shard.resumable_from(at)).collect::<Vec<_>>(), [13, 14, 20, 21]);
    }

    #[test]
    fn what_is_lost_at_the_bottom_is_only_no_longer_kept() {
        let mut shard = Shard::new(1);
        shard.skip_to(5, true);
        assert_eq!((shard.first(), shard.head(), shard.holes().len()), (6, 5, 0));
        shard.push(slot(0));
        shard.push(slot(0));
        shard.lose(6).expect("a record");
        assert_eq!((shard.first(), shard.floor(), shard.holes().len()), (7, 7, 0));
        assert!(shard.lose(6).is_none());
    }

    #[test]
    fn the_oldest_go_across_holes() {
        let keep = JournalSettings {
            shards: 1,
            segment_bytes: 0,
            durability: Durability::None,
            max_entries: 2,
            max_bytes: 1000,
            max_age_ms: 100,
        };
        let mut shard = holed();
        let mut dropped = 0;
        while shard.drop_oldest(&keep, 0).is_some() {
            dropped += 1;
        }
        assert_eq!((dropped, offsets(&shard, 11)), (4, (vec![12], false)));
        assert_eq!((shard.first(), shard.floor()), (12, 12));
        assert!(!shard.resumable_from(10) && !shard.resumable_from(11));
        while shard.drop_oldest(&keep, 200).is_some() {}
        assert_eq!((shard.first(), shard.head(), offsets(&shard, 3)), (15, 14, (vec![], true)));
        assert!(shard.resumable_from(14));
    }
}

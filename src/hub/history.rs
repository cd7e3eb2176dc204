//! History: what a member of a room would have received.

use std::sync::Arc;

use super::publish::Hub;
use crate::delivery::reaches;
use crate::log::{Entry, Position};
use crate::rooms::RoomName;

/// Entries read at a time.
const PAGE: usize = 500;

/// A stretch of a room's history.
#[derive(Debug)]
pub struct History {
    /// The entries, in order.
    pub entries: Vec<Arc<Entry>>,
    /// Where to go on.
    pub position: Position,
    /// Whether nothing before them is missing.
    pub complete: bool,
    /// Whether there may be more behind them.
    pub more: bool,
}

impl Hub {
    /// Up to `limit` entries that a room's members were sent after a position, or the newest ones; it reads from the
    /// disk, so it is for a thread that may wait.
    pub fn history(&self, room: &RoomName, since: Option<&Position>, limit: usize) -> History {
        let shard = self.log.shard_of(Some(room.organization()));
        let Some(since) = since else { return self.newest(shard, room, limit) };
        let complete = self.log.is_whole_behind(shard, since);
        let head = self.log.head(shard);
        // Of another life of the log nothing is known, so all of this one is told.
        let after = if since.epoch == head.epoch { since.offset } else { 0 };
        let (entries, last) = self.forward(shard, room, after, limit);
        let more = entries.len() == limit;
        History { entries, position: head.at(last), complete, more }
    }

    /// Entries of a room after an offset, and the offset up to which was looked.
    fn forward(&self, shard: usize, room: &RoomName, mut after: u64, limit: usize) -> (Vec<Arc<Entry>>, u64) {
        let mut found = Vec::new();
        loop {
            let page = self.log.since(shard, after, PAGE).entries;
            let Some(last) = page.last() else { return (found, after.max(self.log.head(shard).offset)) };
            after = last.position.offset;
            for entry in page {
                if entry.is_kept() && reaches(&entry.draft, room, &self.catalogue) {
                    let offset = entry.position.offset;
                    found.push(entry);
                    if found.len() == limit {
                        return (found, offset);
                    }
                }
            }
        }
    }

    /// The newest entries of a room.
    fn newest(&self, shard: usize, room: &RoomName, limit: usize) -> History {
        let head = self.log.head(shard);
        let first = self.log.first(shard);
        let mut reach = (2 * limit).max(PAGE);
        loop {
            let after = self.log.back(shard, reach);
            let (mut entries, _) = self.forward(shard, room, after, usize::MAX);
            if entries.len() >= limit || after < first {
                let surplus = entries.len().saturating_sub(limit);
                entries.drain(..surplus);
                let complete = surplus > 0 || entries.len() == limit || self.log.is_whole_behind(shard, &head.at(0));
                return History { entries, position: head, complete, more: false };
            }
            reach *= 4;
        }
    }
}

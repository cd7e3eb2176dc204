//! Messages by the time they were published at, with which their ids begin.

use std::sync::Arc;

use super::publish::Hub;
use crate::log::Entry;

/// How far the time in an id and the order of the log may be apart, in milliseconds.
const SLACK_MS: i64 = 5_000;

/// Entries read at a time.
const PAGE: usize = 500;

impl Hub {
    /// The message with this id, if the log still has it; it reads from the disk, so it is for a thread that may wait.
    pub fn message(&self, id: &str) -> Option<Arc<Entry>> {
        let at_ms = id.strip_prefix("msg_")?.split('_').next()?.parse::<i64>().ok()?;
        (0..self.log.shards()).find_map(|shard| self.message_in(shard, id, at_ms))
    }

    /// What was published since a time by calls that may be repeated; for a thread that may wait.
    pub fn repeatable_since(&self, at_ms: i64) -> Vec<Arc<Entry>> {
        let mut found = Vec::new();
        for shard in 0..self.log.shards() {
            let mut after = self.last_before(shard, at_ms);
            loop {
                let page = self.log.since(shard, after, PAGE).entries;
                let Some(last) = page.last() else { break };
                after = last.position.offset;
                let repeatable = |entry: &Arc<Entry>| entry.draft.call.is_some() && !entry.is_void();
                found.extend(page.into_iter().filter(repeatable));
            }
        }
        found
    }

    /// Whether a call was published since a time, also if this node has not read it back yet; none if nobody can tell
    /// at this moment.
    pub async fn was_called(self: &Arc<Self>, id: [u8; 32], since_ms: i64) -> Option<bool> {
        if !self.log.has_read_all().await.ok()? {
            return None;
        }
        let hub = self.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let is_it = |entry: &Arc<Entry>| entry.draft.call.as_ref().is_some_and(|call| call.id == id);
            hub.repeatable_since(since_ms - SLACK_MS).iter().any(is_it)
        });
        looking.await.ok()
    }

    fn message_in(&self, shard: usize, id: &str, at_ms: i64) -> Option<Arc<Entry>> {
        let mut after = self.last_before(shard, at_ms.saturating_sub(SLACK_MS));
        loop {
            let page = self.log.since(shard, after, PAGE).entries;
            after = page.last()?.position.offset;
            for entry in page {
                if entry.draft.message_id == id {
                    return entry.is_kept().then_some(entry);
                }
                if entry.draft.published_at_ms > at_ms.saturating_add(SLACK_MS) {
                    return None;
                }
            }
        }
    }

    /// An offset before which everything was published before a time.
    fn last_before(&self, shard: usize, at_ms: i64) -> u64 {
        let (mut low, mut high) = (0, self.log.head(shard).offset);
        while low < high {
            let middle = low + (high - low) / 2;
            let next = self.log.since(shard, middle, 1).entries.pop();
            match next.filter(|entry| entry.draft.published_at_ms < at_ms) {
                Some(entry) => low = entry.position.offset,
                None => high = middle,
            }
        }
        low
    }
}

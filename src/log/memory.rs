//! The memory store: a bounded ring of entries for each shard.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::entry::{Draft, Entry};
use super::position::Position;
use crate::config;
use crate::rooms::Id;
use crate::wire::random_letters;

/// The log of one server.
#[derive(Debug)]
pub struct Log {
    epoch: Arc<str>,
    shards: Vec<Shard>,
    max_entries: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Shard {
    ring: Mutex<Ring>,
    appended: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    last: u64,
}

/// What follows an offset.
#[derive(Debug)]
pub struct Batch {
    /// The entries, in order.
    pub entries: Vec<Arc<Entry>>,
    /// Whether entries between the offset and the first of these are gone.
    pub gap: bool,
}

impl Log {
    /// An empty log in a new epoch.
    pub fn new(config: &config::Log) -> Self {
        Self {
            epoch: random_letters(8).into(),
            shards: (0..config.shards.max(1)).map(|_| Shard::default()).collect(),
            max_entries: config.max_entries,
            max_bytes: config.max_bytes,
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The shard of an organization; what has none is in the first.
    pub fn shard_of(&self, organization: Option<&Id>) -> usize {
        let Some(organization) = organization else { return 0 };
        let mut hasher = DefaultHasher::new();
        organization.as_str().hash(&mut hasher);
        (hasher.finish() % self.shards.len() as u64) as usize
    }

    /// Appends an entry to a shard and wakes its sequencer; `report` hears of its delivery.
    pub fn append(&self, shard: usize, draft: Draft, report: oneshot::Sender<usize>) -> Arc<Entry> {
        let shard = &self.shards[shard];
        let entry = {
            let mut ring = shard.lock();
            ring.last += 1;
            ring.bytes += draft.payload.get().len();
            let position = Position { epoch: self.epoch.clone(), offset: ring.last };
            let entry = Arc::new(Entry::new(position, draft, report));
            ring.entries.push_back(entry.clone());
            entry
        };
        shard.appended.notify_waiters();
        entry
    }

    /// Everything up to an offset is delivered: what is over the bounds may go.
    pub fn delivered(&self, shard: usize, offset: u64) {
        let mut ring = self.shards[shard].lock();
        while ring.entries.len() > self.max_entries || ring.bytes > self.max_bytes {
            let Some(oldest) = ring.entries.front() else { return };
            // What was appended since must stay until it is delivered too.
            if oldest.position.offset > offset || ring.entries.len() == 1 {
                return;
            }
            ring.bytes -= oldest.draft.payload.get().len();
            ring.entries.pop_front();
        }
    }

    /// Up to `limit` entries after an offset, as far as they are kept.
    pub fn since(&self, shard: usize, offset: u64, limit: usize) -> Batch {
        let ring = self.shards[shard].lock();
        let first = ring.first();
        let skip = (offset + 1).saturating_sub(first) as usize;
        Batch { entries: ring.entries.iter().skip(skip).take(limit).cloned().collect(), gap: offset + 1 < first }
    }

    /// Whether everything behind a position is still there, so that nothing is missed by who has read up to it.
    pub fn is_whole_behind(&self, shard: usize, position: &Position) -> bool {
        let ring = self.shards[shard].lock();
        position.epoch == self.epoch && position.offset <= ring.last && position.offset + 1 >= ring.first()
    }

    /// The position of the newest entry of a shard.
    pub fn head(&self, shard: usize) -> Position {
        Position { epoch: self.epoch.clone(), offset: self.shards[shard].lock().last }
    }

    /// Waits until a shard has entries after an offset.
    pub async fn appended(&self, shard: usize, offset: u64) {
        let shard = &self.shards[shard];
        loop {
            // Registered before the look, so that an append between the two is not missed.
            let mut appended = std::pin::pin!(shard.appended.notified());
            appended.as_mut().enable();
            if shard.lock().last > offset {
                return;
            }
            appended.await;
        }
    }
}

impl Ring {
    /// Offset of the oldest entry that is kept.
    fn first(&self) -> u64 {
        self.last - self.entries.len() as u64 + 1
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::events::{Catalogue, Facts, Priority};
    use crate::log::Audience;

    fn draft(payload: &str) -> Draft {
        let event = Catalogue::new(&[]).event("kpi:update").expect("an event").clone();
        Draft {
            message_id: "m".into(),
            channels: event.channels,
            event,
            audience: Audience::Everyone,
            except: Vec::new(),
            priority: Priority::Medium,
            ack: None,
            payload: RawValue::from_string(payload.into()).expect("JSON"),
            facts: Facts::default(),
            published_at_ms: 0,
            started: std::time::Instant::now(),
        }
    }

    fn append(log: &Log, payload: &str) {
        log.append(0, draft(payload), oneshot::channel().0);
    }

    fn log(max_entries: usize, max_bytes: usize) -> Log {
        Log::new(&config::Log { max_entries, max_bytes, shards: 1, ..config::Log::default() })
    }

    fn offsets(batch: &Batch) -> Vec<u64> {
        batch.entries.iter().map(|entry| entry.position.offset).collect()
    }

    #[test]
    fn offsets_count_from_one_and_old_entries_leave_a_gap() {
        let log = log(3, 1 << 20);
        assert_eq!(log.head(0).offset, 0);
        for _ in 0..5 {
            append(&log, "1");
        }
        assert_eq!(log.since(0, 0, 10).entries.len(), 5, "nothing goes before it is delivered");
        log.delivered(0, 5);
        let batch = log.since(0, 0, 10);
        assert_eq!((offsets(&batch), batch.gap), (vec![3, 4, 5], true));
        let batch = log.since(0, 2, 2);
        assert_eq!((offsets(&batch), batch.gap), (vec![3, 4], false));
        assert!(log.since(0, 5, 10).entries.is_empty());
        let at = |offset| Position { offset, ..log.head(0) };
        let whole: Vec<u64> = (0..8).filter(|offset| log.is_whole_behind(0, &at(*offset))).collect();
        assert_eq!(whole, [2, 3, 4, 5]);
        assert!(!log.is_whole_behind(0, &Position { epoch: "other".into(), offset: 4 }));
    }

    #[test]
    fn bytes_are_bounded_but_the_newest_entry_stays() {
        let log = log(100, 10);
        append(&log, "\"12345678\"");
        append(&log, "\"a very long payload\"");
        log.delivered(0, 2);
        assert_eq!(offsets(&log.since(0, 0, 10)), [2]);
    }

    #[tokio::test]
    async fn a_reader_is_woken_by_an_append() {
        let log = Arc::new(log(10, 1 << 20));
        let reader = tokio::spawn({
            let log = log.clone();
            async move { log.appended(0, 0).await }
        });
        append(&log, "1");
        reader.await.expect("the reader ends");
    }
}

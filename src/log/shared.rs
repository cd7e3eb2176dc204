//! The log that nodes share: what is published goes to Redis, and becomes an entry when it is read back.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::codec;
use super::entry::{Draft, Entry};
use super::error::StoreError;
use super::log::Log;
use super::position::Position;
use super::report::Report;
use super::store::Store;
use super::streams::{Streams, Tail};

/// What a log needs for being shared.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) streams: Arc<Streams>,
    /// What this node has published in each shard and not read back yet, by message id.
    published: Vec<Mutex<HashMap<String, Published>>>,
}

/// What whoever published something knows of it, beside what is in the log.
#[derive(Debug)]
struct Published {
    draft: Draft,
    report: oneshot::Sender<Report>,
    /// Its offset, once Redis has it.
    there: Option<u64>,
}

/// Takes back what was not read back.
struct Expected<'a> {
    shared: &'a Shared,
    shard: usize,
    message_id: &'a str,
    is_there: bool,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        if !self.is_there {
            self.shared.published(self.shard).remove(self.message_id);
        }
    }
}

impl Shared {
    pub(super) fn new(streams: Arc<Streams>, shards: usize) -> Self {
        Self { streams, published: (0..shards).map(|_| Mutex::default()).collect() }
    }

    fn published(&self, shard: usize) -> MutexGuard<'_, HashMap<String, Published>> {
        self.published[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Whether other nodes append to it too, so that entries come from [`tail`](Self::tail) only.
    pub fn is_shared(&self) -> bool {
        self.keeper().is_some()
    }

    /// Sends an entry to some shards, and tells its place in the first when Redis has it in all; `reports` hear of its
    /// delivery by this node.
    ///
    /// # Errors
    /// If Redis is away or does not take it; if it is away, it may be in some of the shards all the same.
    pub async fn send(
        &self,
        shards: Range<usize>,
        draft: &Draft,
        reports: Vec<oneshot::Sender<Report>>,
    ) -> Result<Position, StoreError> {
        let Some(shared) = self.keeper() else { return Err(StoreError::NotShared) };
        let head = codec::head(draft, &self.catalogue);
        let parts = [head.as_slice(), draft.payload.get().as_bytes()];
        let sending = shards.zip(reports).map(|(shard, report)| {
            let published = Published { draft: draft.clone(), report, there: None };
            shared.published(shard).insert(draft.message_id.clone(), published);
            let expected = Expected { shared, shard, message_id: &draft.message_id, is_there: false };
            async move {
                let mut expected = expected;
                let appended = shared.streams.append(shard, draft.published_at_ms, &parts).await;
                expected.is_there = appended.is_ok();
                if let Ok((_, offset)) = &appended {
                    self.expect(shard, &draft.message_id, *offset);
                }
                appended
            }
        });
        let mut first = None;
        for sent in join_all(sending).await {
            let (epoch, offset) = sent?;
            first.get_or_insert(Position { epoch: epoch.into(), offset });
        }
        first.ok_or(StoreError::NotShared)
    }

    /// Redis has an entry that this node is going to read, unless it has been lost meanwhile.
    fn expect(&self, shard: usize, message_id: &str, offset: u64) {
        let Some(shared) = self.keeper() else { return };
        // As in `jump`: first the ring, then what was published.
        let ring = self.shards[shard].lock();
        let mut published = shared.published(shard);
        if ring.last >= offset {
            published.remove(message_id);
        } else if let Some(own) = published.get_mut(message_id) {
            own.there = Some(offset);
        }
    }

    /// Reads what is new in a shard; what is noted from behind a note on.
    pub fn tail(&self, shard: usize, noted: String) -> Option<Tail> {
        Some(self.keeper()?.streams.tail(shard, noted))
    }

    /// The entries of records that were read; what is not of this catalogue is nobody's.
    pub fn entries_of(&self, shard: usize, records: Vec<(u64, Bytes)>) -> Vec<Arc<Entry>> {
        let Some(shared) = self.keeper() else { return Vec::new() };
        let epoch = self.head(shard);
        let entry = |(offset, record): (u64, Bytes)| {
            let Some(draft) = codec::read(&record, &self.catalogue) else {
                tracing::warn!(shard, offset, "an entry of the log is of an event that is not in the catalogue");
                return None;
            };
            let own = shared.published(shard).remove(&draft.message_id);
            let (draft, report) = own.map_or((draft, None), |own| (own.draft, Some(own.report)));
            Some(Arc::new(Entry::new(epoch.at(offset), draft, report)))
        };
        records.into_iter().filter_map(entry).collect()
    }

    /// Puts entries that were read at hand, up to an offset, and wakes the sequencer.
    pub fn take(&self, shard: usize, entries: Vec<Arc<Entry>>, up_to: u64) {
        let mut ring = self.shards[shard].lock();
        for entry in entries {
            ring.push(entry);
        }
        ring.last = ring.last.max(up_to);
        drop(ring);
        self.shards[shard].appended.notify_waiters();
    }

    /// Whether more is at hand and not delivered than so many entries, or about so many bytes of payload.
    pub fn is_ahead(&self, shard: usize, entries: u64, bytes: usize) -> bool {
        let ring = self.shards[shard].lock();
        // What is delivered stays at hand up to its own bound, and the newest entry whatever its size.
        ring.last > ring.delivered + entries || (ring.last > ring.delivered && ring.bytes > self.max_bytes + bytes)
    }

    /// What is read from here on follows an offset; of another life of the shard, if `is_reborn`.
    pub fn jump(&self, shard: usize, offset: u64, is_reborn: bool) {
        let epoch = self.keeper().filter(|_| is_reborn).map(|shared| shared.streams.epoch(shard));
        let mut ring = self.shards[shard].lock();
        ring.jump(offset, epoch);
        if let Some(shared) = self.keeper() {
            // Nobody is going to read these: whoever waits for them is told nothing more.
            shared.published(shard).retain(|_, own| own.there.is_none_or(|there| there > offset));
        }
    }

    /// Writes notes of shards down, in order.
    ///
    /// # Errors
    /// If Redis is away; some may be there all the same.
    pub async fn note_shared(&self, notes: &[(usize, Vec<u8>)]) -> Result<(), StoreError> {
        let Some(shared) = self.keeper() else { return Ok(()) };
        Ok(shared.streams.note(notes).await?)
    }

    /// The same, on a thread that may wait.
    ///
    /// # Errors
    /// The same.
    pub fn note_shared_now(&self, notes: Vec<(usize, Vec<u8>)>) -> Result<(), StoreError> {
        let Some(shared) = self.keeper() else { return Ok(()) };
        Ok(shared.streams.note_now(notes)?)
    }

    /// All notes of a shard in order, and the id of the last one.
    ///
    /// # Errors
    /// If Redis is away.
    pub async fn shared_notes(&self, shard: usize) -> Result<(Vec<Bytes>, String), StoreError> {
        let Some(shared) = self.keeper() else { return Ok(Default::default()) };
        Ok(shared.streams.notes(shard).await?)
    }

    /// Whether this node has read everything that is in Redis at this moment.
    ///
    /// # Errors
    /// If Redis is away.
    pub async fn has_read_all(&self) -> Result<bool, StoreError> {
        let Some(shared) = self.keeper() else { return Ok(true) };
        for shard in 0..self.shards() {
            let (epoch, offset) = shared.streams.newest(shard).await?;
            let head = self.head(shard);
            if *head.epoch != *epoch || head.offset < offset {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether what is new in a shard can be read, as far as this node knows.
    pub fn is_there(&self, shard: usize) -> bool {
        self.keeper().is_none_or(|shared| shared.streams.is_there(shard))
    }

    /// Who this node is in notes.
    pub fn writer(&self) -> Option<&str> {
        self.keeper().map(|shared| shared.streams.name())
    }
}

//! The log of one server: what is recent is in memory, and with a journal the rest is on the disk.

use std::collections::VecDeque;
use std::iter::repeat_n;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::codec;
use super::entry::{Draft, Entry};
use super::journal::{Journal, JournalError, JournalSettings};
use super::position::Position;
use super::report::Report;
use crate::config::{self, LogStore};
use crate::events::Catalogue;
use crate::rooms::Id;
use crate::wire::random_letters;

/// Entries of a shard that stay in memory beside a journal, and bytes of payload.
const RECENT: usize = 1_024;
const RECENT_BYTES: usize = 4 * 1024 * 1024;

/// Size of a segment of the journal.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Folder of the notes, in that of the journal.
const NOTES: &str = "notes";

/// Notes that are kept, and their bytes.
const MAX_NOTES: u64 = 1_000_000;
const MAX_NOTES_BYTES: u64 = 256 * 1024 * 1024;

/// Entries read at a time, and bytes of records.
const PAGE: u64 = 500;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The log of one server.
#[derive(Debug)]
pub struct Log {
    shards: Vec<Shard>,
    max_entries: usize,
    max_bytes: usize,
    journal: Option<Journal>,
    /// What became of the entries.
    notes: Option<Journal>,
    catalogue: Arc<Catalogue>,
}

#[derive(Debug)]
struct Shard {
    /// Life of the log and number of the shard: an offset means nothing in another one.
    epoch: Arc<str>,
    ring: Mutex<Ring>,
    appended: Notify,
}

/// The newest entries of a shard.
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

/// What an append gave.
#[derive(Debug)]
pub struct Appended {
    /// The entry in each of its shards.
    pub entries: Vec<Arc<Entry>>,
    ticket: u64,
}

impl Log {
    /// The log that a configuration asks for.
    ///
    /// # Errors
    /// If the journal cannot be opened.
    pub fn open(config: &config::Log, catalogue: &Arc<Catalogue>) -> Result<Self, JournalError> {
        let count = usize::from(config.shards.max(1));
        let (journal, notes) = match config.store {
            LogStore::Memory => (None, None),
            LogStore::Disk => {
                let folder = Path::new(&config.path);
                let journal = Journal::open(folder, settings(config, count))?;
                (Some(journal), Some(Journal::open(&folder.join(NOTES), settings_of_notes(config))?))
            }
        };
        let head = |shard| journal.as_ref().map_or(0, |journal| journal.head(shard));
        let (max_entries, max_bytes) = match &journal {
            None => (config.max_entries, config.max_bytes),
            Some(_) => (RECENT, RECENT_BYTES),
        };
        let epoch = journal.as_ref().map_or_else(|| random_letters(8), |journal| journal.epoch().to_string());
        let shards = (0..count).map(|shard| Shard::new(format!("{epoch}{shard}"), head(shard))).collect();
        Ok(Self { shards, max_entries, max_bytes, journal, notes, catalogue: catalogue.clone() })
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The shard of an organization, the same for ever; what has none is in the first.
    pub fn shard_of(&self, organization: Option<&Id>) -> usize {
        organization.map_or(0, |id| crc32fast::hash(id.as_str().as_bytes()) as usize % self.shards.len())
    }

    /// Appends an entry to some shards, in all of them or in none, and wakes their sequencers; `reports` hear of its
    /// delivery.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn append(
        &self,
        shards: Range<usize>,
        draft: Draft,
        reports: Vec<oneshot::Sender<Report>>,
    ) -> Result<Appended, JournalError> {
        let appended = {
            let mut rings: Vec<_> = shards.clone().map(|shard| self.shards[shard].lock()).collect();
            let (offsets, ticket) = match &self.journal {
                None => (rings.iter().map(|ring| ring.last + 1).collect(), 0),
                Some(journal) => {
                    let head = codec::head(&draft, &self.catalogue);
                    let shards: Vec<usize> = shards.clone().collect();
                    let parts = [head.as_slice(), draft.payload.get().as_bytes()];
                    let appended = journal.append(&shards, draft.published_at_ms, &parts)?;
                    (appended.offsets.to_vec(), appended.ticket)
                }
            };
            let epochs = self.shards[shards.clone()].iter().map(|shard| &shard.epoch);
            let places = rings.iter_mut().zip(epochs).zip(offsets).zip(reports).zip(repeat_n(draft, shards.len()));
            let entries = places.map(|((((ring, epoch), offset), report), draft)| {
                let position = Position { epoch: epoch.clone(), offset };
                ring.push(Arc::new(Entry::new(position, draft, report)))
            });
            Appended { entries: entries.collect(), ticket }
        };
        for shard in shards {
            self.shards[shard].appended.notify_waiters();
        }
        Ok(appended)
    }

    /// Whether an entry that was appended is as durable as configured.
    pub fn is_durable(&self, appended: &Appended) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.is_committed(appended.ticket))
    }

    /// Waits until an entry that was appended is as durable as configured.
    ///
    /// # Errors
    /// If it never will be.
    pub async fn durable(&self, appended: &Appended) -> Result<(), JournalError> {
        match &self.journal {
            None => Ok(()),
            Some(journal) => journal.committed(appended.ticket).await,
        }
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
        {
            let ring = self.shards[shard].lock();
            let first = ring.first();
            // The same as `is_recent`, under one lock with the reading.
            if offset + 1 >= first || self.journal.is_none() {
                let skip = (offset + 1).saturating_sub(first) as usize;
                let entries = ring.entries.iter().skip(skip).take(limit).cloned().collect();
                return Batch { entries, gap: offset + 1 < first };
            }
        }
        self.older(shard, offset, limit)
    }

    /// Whether what follows an offset is in memory, as far as it is kept at all.
    pub fn is_recent(&self, shard: usize, offset: u64) -> bool {
        self.journal.is_none() || offset + 1 >= self.shards[shard].lock().first()
    }

    /// All entries after an offset up to another, as far as they are kept.
    pub fn between(&self, shard: usize, mut after: u64, up_to: u64) -> Vec<Arc<Entry>> {
        let mut entries = Vec::new();
        while after < up_to {
            let page = self.since(shard, after, (up_to - after).min(PAGE) as usize).entries;
            let Some(last) = page.last() else { return entries };
            after = last.position.offset;
            entries.extend(page.into_iter().filter(|entry| entry.position.offset <= up_to));
        }
        entries
    }

    /// What only the journal still has.
    fn older(&self, shard: usize, offset: u64, limit: usize) -> Batch {
        let lost = Batch { entries: Vec::new(), gap: true };
        let Some(journal) = &self.journal else { return lost };
        let page = match journal.read(shard, offset, limit, PAGE_BYTES) {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, shard, offset, "the log cannot be read");
                return lost;
            }
        };
        let entry = |offset: u64, record: &[u8]| {
            let draft = codec::read(record, &self.catalogue);
            if draft.is_none() {
                tracing::warn!(shard, offset, "an entry of the log is of an event that is not in the catalogue");
            }
            let position = Position { epoch: self.shards[shard].epoch.clone(), offset };
            draft.map(|draft| Arc::new(Entry::read(position, draft)))
        };
        let count = page.records.len();
        let entries: Vec<_> = page.records.iter().filter_map(|(offset, record)| entry(*offset, record)).collect();
        Batch { gap: page.gap || entries.len() < count, entries }
    }

    /// Whether everything behind a position is still there, so that nothing is missed by who has read up to it.
    pub fn is_whole_behind(&self, shard: usize, position: &Position) -> bool {
        if position.epoch != self.shards[shard].epoch {
            return false;
        }
        if let Some(journal) = &self.journal {
            return journal.resumable_from(shard, position.offset);
        }
        let ring = self.shards[shard].lock();
        position.offset <= ring.last && position.offset + 1 >= ring.first()
    }

    /// The position of the newest entry of a shard.
    pub fn head(&self, shard: usize) -> Position {
        Position { epoch: self.shards[shard].epoch.clone(), offset: self.shards[shard].lock().last }
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

    /// Drops what is older than it is kept for.
    pub fn trim(&self, now_ms: i64) {
        for journal in self.journal.iter().chain(&self.notes) {
            journal.trim(now_ms);
        }
    }

    /// Whether notes are kept of what became of the entries.
    pub fn takes_notes(&self) -> bool {
        self.notes.is_some()
    }

    /// Writes a note down, if notes are kept.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn note(&self, at_ms: i64, note: &[u8]) -> Result<(), JournalError> {
        self.notes.as_ref().map_or(Ok(()), |notes| notes.append(&[0], at_ms, &[note]).map(|_| ()))
    }

    /// All notes, in order; what is damaged is passed over.
    pub fn notes(&self) -> Vec<Bytes> {
        let Some(notes) = &self.notes else { return Vec::new() };
        let mut all = Vec::new();
        let mut after = notes.first(0) - 1;
        while after < notes.head(0) {
            match notes.read(0, after, usize::MAX, PAGE_BYTES) {
                Ok(page) if page.records.is_empty() => break,
                Ok(page) => {
                    after = page.records.last().map_or(after, |(offset, _)| *offset);
                    all.extend(page.records.into_iter().map(|(_, note)| note));
                }
                Err(error) => {
                    tracing::warn!(%error, "the notes of the log cannot be read");
                    break;
                }
            }
        }
        all
    }

    /// Stops for good: everything is on the disk.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn close(&self) -> Result<(), JournalError> {
        self.journal.iter().chain(&self.notes).try_for_each(Journal::close)
    }
}

fn settings_of_notes(config: &config::Log) -> JournalSettings {
    JournalSettings { shards: 1, max_entries: MAX_NOTES, max_bytes: MAX_NOTES_BYTES, ..settings(config, 1) }
}

fn settings(config: &config::Log, shards: usize) -> JournalSettings {
    JournalSettings {
        shards,
        segment_bytes: SEGMENT_BYTES,
        durability: config.durability.into(),
        max_entries: config.max_entries as u64,
        max_bytes: config.max_bytes as u64,
        max_age_ms: config.max_age_ms,
    }
}

impl From<config::Durability> for super::journal::Durability {
    fn from(durability: config::Durability) -> Self {
        match durability {
            config::Durability::None => Self::None,
            config::Durability::Batch => Self::Batch,
            config::Durability::Always => Self::Always,
        }
    }
}

impl Ring {
    /// Offset of the oldest entry that is kept.
    fn first(&self) -> u64 {
        self.last - self.entries.len() as u64 + 1
    }

    fn push(&mut self, entry: Arc<Entry>) -> Arc<Entry> {
        self.last = entry.position.offset;
        self.bytes += entry.draft.payload.get().len();
        self.entries.push_back(entry.clone());
        entry
    }
}

impl Shard {
    /// A shard whose last entry had this offset.
    fn new(epoch: String, last: u64) -> Self {
        let ring = Ring { last, ..Ring::default() };
        Self { epoch: epoch.into(), ring: Mutex::new(ring), appended: Notify::new() }
    }

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
            explains: false,
            call: None,
            published_at_ms: 0,
            started: std::time::Instant::now(),
        }
    }

    fn append(log: &Log, payload: &str) {
        log.append(0..1, draft(payload), vec![oneshot::channel().0]).expect("room");
    }

    fn log(max_entries: usize, max_bytes: usize) -> Log {
        let store = LogStore::Memory;
        let config = config::Log { store, max_entries, max_bytes, shards: 1, ..config::Log::default() };
        Log::open(&config, &Arc::new(Catalogue::new(&[]))).expect("a log in memory")
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

//! The log: entries are records in a store, and the newest of them are at hand.

use std::iter::repeat_n;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::codec;
use super::entry::{Draft, Entry};
use super::error::StoreError;
use super::journal::{Journal, JournalError, JournalSettings, Page, Written};
use super::memory::Memory;
use super::position::Position;
use super::report::Report;
use super::ring::Shard;
use super::shared::Shared;
use super::store::{OwnStore, Store};
use super::streams::Streams;
use crate::config::{self, LogStore};
use crate::events::Catalogue;
use crate::rooms::Id;

/// Entries of a shard that stay at hand, and bytes of payload.
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

/// The log of one server, or of a cluster as one node knows it.
#[derive(Debug)]
pub struct Log {
    pub(super) shards: Vec<Shard>,
    max_entries: usize,
    pub(super) max_bytes: usize,
    max_age_ms: u64,
    keeper: Keeper,
    /// What became of the entries, in a journal beside theirs.
    notes: Option<Journal>,
    /// The last note.
    noted: AtomicU64,
    pub(super) catalogue: Arc<Catalogue>,
}

/// Who keeps the records.
#[derive(Debug)]
pub(super) enum Keeper {
    /// This process alone.
    Own(Box<dyn OwnStore>),
    /// The nodes of a cluster together.
    Shared(Shared),
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
        let settings = settings(config, usize::from(config.shards.max(1)));
        let (store, notes): (Box<dyn OwnStore>, _) = match config.store {
            LogStore::Memory | LogStore::Redis => (Box::new(Memory::new(settings)), None),
            LogStore::Disk => {
                let folder = Path::new(&config.path);
                let journal = Journal::open(folder, settings)?;
                (Box::new(journal), Some(Journal::open(&folder.join(NOTES), settings_of_notes(config))?))
            }
        };
        Ok(Self::over(Keeper::Own(store), notes, config, catalogue))
    }

    /// The log that nodes share.
    pub fn shared(streams: Arc<Streams>, config: &config::Log, catalogue: &Arc<Catalogue>) -> Self {
        let count = usize::from(config.shards.max(1));
        Self::over(Keeper::Shared(Shared::new(streams, count)), None, config, catalogue)
    }

    fn over(keeper: Keeper, notes: Option<Journal>, config: &config::Log, catalogue: &Arc<Catalogue>) -> Self {
        let store = keeper.store();
        let count = usize::from(config.shards.max(1));
        let shards = (0..count).map(|shard| Shard::new(store.epoch(shard), store.head(shard))).collect();
        Self {
            shards,
            max_entries: config.max_entries.min(RECENT),
            max_bytes: config.max_bytes.min(RECENT_BYTES),
            max_age_ms: config.max_age_ms,
            keeper,
            notes,
            noted: AtomicU64::new(0),
            catalogue: catalogue.clone(),
        }
    }

    fn store(&self) -> &dyn Store {
        self.keeper.store()
    }

    /// What is to be asked of the nodes' log, if this is it.
    pub(super) fn keeper(&self) -> Option<&Shared> {
        match &self.keeper {
            Keeper::Own(_) => None,
            Keeper::Shared(shared) => Some(shared),
        }
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
    /// delivery. Only for a log of this process alone.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn append(
        &self,
        shards: Range<usize>,
        draft: Draft,
        reports: Vec<oneshot::Sender<Report>>,
    ) -> Result<Appended, StoreError> {
        let Keeper::Own(store) = &self.keeper else { return Err(StoreError::NotAlone) };
        let appended = {
            let mut rings: Vec<_> = shards.clone().map(|shard| self.shards[shard].lock()).collect();
            let head = codec::head(&draft, &self.catalogue);
            let numbers: Vec<usize> = shards.clone().collect();
            let parts = [head.as_slice(), draft.payload.get().as_bytes()];
            let Written { offsets, ticket } = store.append(&numbers, draft.published_at_ms, &parts)?;
            let places = rings.iter_mut().zip(offsets).zip(reports).zip(repeat_n(draft, shards.len()));
            let entries = places.map(|(((ring, offset), report), draft)| {
                let position = ring.position(offset);
                ring.push(Arc::new(Entry::new(position, draft, Some(report))))
            });
            Appended { entries: entries.collect(), ticket }
        };
        for shard in shards {
            self.shards[shard].appended.notify_waiters();
        }
        Ok(appended)
    }

    /// The entry at an offset, if it is kept; it may be read from the disk.
    pub fn entry(&self, shard: usize, offset: u64) -> Option<Arc<Entry>> {
        let entry = self.since(shard, offset.checked_sub(1)?, 1).entries.pop();
        entry.filter(|entry| entry.position.offset == offset && !entry.is_void())
    }

    /// Shard and offset of a position, if it is of this life of the log.
    pub fn place(&self, position: &str) -> Option<(usize, u64)> {
        let (epoch, offset) = position.split_once('.')?;
        let shard = self.shards.iter().position(|shard| *shard.lock().epoch == *epoch)?;
        Some((shard, offset.parse().ok()?))
    }

    /// The oldest offset of a shard that is kept; one more than the newest if there is none.
    pub fn first(&self, shard: usize) -> u64 {
        self.store().back(shard, usize::MAX) + 1
    }

    /// An offset behind which are the newest entries of a shard, so many if there are.
    pub fn back(&self, shard: usize, count: usize) -> u64 {
        self.store().back(shard, count)
    }

    /// Whether what is appended, or noted of it, is there in the next process.
    pub fn outlives_the_process(&self) -> bool {
        self.notes.is_some() || self.keeper().is_some()
    }

    /// Whether an entry that was appended is as durable as configured.
    pub fn is_durable(&self, appended: &Appended) -> bool {
        match &self.keeper {
            Keeper::Own(store) => store.is_committed(appended.ticket),
            Keeper::Shared(_) => true,
        }
    }

    /// Waits until an entry that was appended is as durable as configured.
    ///
    /// # Errors
    /// If it never will be.
    pub async fn durable(&self, appended: &Appended) -> Result<(), StoreError> {
        match &self.keeper {
            Keeper::Own(store) => Ok(store.committed(appended.ticket).await?),
            Keeper::Shared(_) => Ok(()),
        }
    }

    /// Everything up to an offset is delivered: what is over the bounds may go.
    pub fn delivered(&self, shard: usize, offset: u64) {
        let mut ring = self.shards[shard].lock();
        ring.delivered = offset;
        while ring.entries.len() > 1
            && (ring.entries.len() > self.max_entries || ring.bytes > self.max_bytes)
            && ring.forget_first()
        {}
    }

    /// Up to `limit` entries after an offset, as far as they are kept.
    pub fn since(&self, shard: usize, offset: u64, limit: usize) -> Batch {
        {
            let ring = self.shards[shard].lock();
            // The same as `is_recent`, under one lock with the reading.
            if ring.reaches_back_to(offset) {
                return Batch { entries: ring.after(offset, limit), gap: false };
            }
        }
        self.older(shard, offset, limit)
    }

    /// Up to `limit` entries after an offset that are to be delivered, and up to where there is nothing else.
    pub fn undelivered(&self, shard: usize, offset: u64, limit: usize) -> (Vec<Arc<Entry>>, u64) {
        let ring = self.shards[shard].lock();
        let entries = ring.after(offset, limit);
        let up_to = entries.last().map_or(ring.last, |entry| entry.position.offset);
        (entries, up_to)
    }

    /// Whether what follows an offset is at hand.
    pub fn is_recent(&self, shard: usize, offset: u64) -> bool {
        self.shards[shard].lock().reaches_back_to(offset)
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

    /// What only the store still has.
    fn older(&self, shard: usize, offset: u64, limit: usize) -> Batch {
        let mut after = offset;
        let mut gap = false;
        loop {
            let page = match self.store().read(shard, after, limit, PAGE_BYTES) {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, shard, offset, "the log cannot be read");
                    return Batch { entries: Vec::new(), gap: true };
                }
            };
            let last = page.records.last().map(|(offset, _)| *offset);
            let batch = self.read(shard, &page);
            gap |= batch.gap;
            match last {
                // What cannot be read does not end what can.
                Some(last) if batch.entries.is_empty() => after = last,
                _ => return Batch { gap, ..batch },
            }
        }
    }

    fn read(&self, shard: usize, page: &Page) -> Batch {
        let epoch = self.head(shard);
        let entry = |offset: u64, record: &[u8]| {
            let draft = codec::read(record, &self.catalogue);
            if draft.is_none() {
                tracing::warn!(shard, offset, "an entry of the log is of an event that is not in the catalogue");
            }
            draft.map(|draft| Arc::new(Entry::read(epoch.at(offset), draft)))
        };
        let count = page.records.len();
        let entries: Vec<_> = page.records.iter().filter_map(|(offset, record)| entry(*offset, record)).collect();
        Batch { gap: page.gap || entries.len() < count, entries }
    }

    /// Whether everything behind a position is still there, so that nothing is missed by who has read up to it.
    pub fn is_whole_behind(&self, shard: usize, position: &Position) -> bool {
        position.epoch == self.shards[shard].lock().epoch && self.store().resumable_from(shard, position.offset)
    }

    /// The position of the newest entry of a shard.
    pub fn head(&self, shard: usize) -> Position {
        self.shards[shard].lock().head()
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
        self.store().trim(now_ms);
        if let Some(notes) = &self.notes {
            notes.trim(now_ms);
        }
        let oldest = now_ms.saturating_sub_unsigned(self.max_age_ms);
        for shard in &self.shards {
            let mut ring = shard.lock();
            while ring.entries.front().is_some_and(|entry| entry.draft.published_at_ms < oldest) && ring.forget_first()
            {
            }
        }
    }

    /// How long entries are kept, in milliseconds.
    pub fn max_age_ms(&self) -> u64 {
        self.max_age_ms
    }

    /// Writes a note down, if notes are kept.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub fn note(&self, at_ms: i64, note: &[u8]) -> Result<(), StoreError> {
        let Some(notes) = &self.notes else { return Ok(()) };
        let Written { ticket, .. } = notes.append(&[0], at_ms, &[note])?;
        self.noted.store(ticket, Ordering::Release);
        Ok(())
    }

    /// Waits until all notes are as durable as configured.
    pub async fn notes_durable(&self) {
        if let Some(notes) = &self.notes
            && let Err(error) = notes.committed(self.noted.load(Ordering::Acquire)).await
        {
            tracing::error!(%error, "who got a message and who acknowledged it is not on the disk");
        }
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
    pub fn close(&self) -> Result<(), StoreError> {
        self.notes.as_ref().map_or(Ok(()), Journal::close).map_err(StoreError::from).and(self.store().close())
    }
}

impl Keeper {
    fn store(&self) -> &dyn Store {
        match self {
            Self::Own(store) => store.as_ref(),
            Self::Shared(shared) => shared.streams.as_ref(),
        }
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

#[cfg(test)]
mod tests;

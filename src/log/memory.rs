//! The store in memory: gone when the process is.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::error::StoreError;
use super::journal::{JournalError, JournalSettings, Page, Written};
use super::store::{OwnStore, Store};
use crate::wire::random_letters;

/// Records in memory.
#[derive(Debug)]
pub(super) struct Memory {
    epoch: String,
    settings: JournalSettings,
    shards: Vec<Mutex<Kept>>,
}

/// What is kept of one shard.
#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<(i64, Bytes)>,
    bytes: u64,
    head: u64,
}

impl Memory {
    /// An empty store.
    pub(super) fn new(settings: JournalSettings) -> Self {
        let shards = (0..settings.shards).map(|_| Mutex::default()).collect();
        Self { epoch: random_letters(8), settings, shards }
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Kept> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The oldest offset kept; one more than the head if there is none.
    fn first(&self) -> u64 {
        self.head + 1 - self.records.len() as u64
    }

    /// The newest record goes by age only.
    fn trim(&mut self, settings: &JournalSettings, now_ms: i64) {
        let oldest = now_ms.saturating_sub_unsigned(settings.max_age_ms);
        while let Some((at_ms, record)) = self.records.front() {
            let surplus = self.records.len() as u64 > settings.max_entries || self.bytes > settings.max_bytes;
            if *at_ms >= oldest && !(surplus && self.records.len() > 1) {
                return;
            }
            self.bytes -= record.len() as u64;
            self.records.pop_front();
        }
    }
}

impl Store for Memory {
    fn epoch(&self, shard: usize) -> String {
        format!("{}{shard}", self.epoch)
    }

    fn head(&self, shard: usize) -> u64 {
        self.lock(shard).head
    }

    fn read(&self, shard: usize, after: u64, limit: usize, max_bytes: usize) -> Result<Page, StoreError> {
        let kept = self.lock(shard);
        let first = kept.first();
        let skip = usize::try_from(after.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        let offsets = first.max(after.saturating_add(1))..;
        let mut bytes = 0;
        let fits = |(_, record): &(u64, Bytes)| {
            let is_first = bytes == 0;
            bytes += record.len();
            is_first || bytes <= max_bytes
        };
        let records = kept.records.iter().skip(skip).take(limit).map(|(_, record)| record.clone());
        Ok(Page { records: offsets.zip(records).take_while(fits).collect(), gap: after.saturating_add(1) < first })
    }

    fn back(&self, shard: usize, count: usize) -> u64 {
        let kept = self.lock(shard);
        kept.head - kept.records.len().min(count) as u64
    }

    fn resumable_from(&self, shard: usize, offset: u64) -> bool {
        let kept = self.lock(shard);
        offset <= kept.head && offset + 1 >= kept.first()
    }

    fn trim(&self, now_ms: i64) {
        for shard in 0..self.shards.len() {
            self.lock(shard).trim(&self.settings, now_ms);
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl OwnStore for Memory {
    fn append(&self, shards: &[usize], at_ms: i64, parts: &[&[u8]]) -> Result<Written, JournalError> {
        let record = Bytes::from(parts.concat());
        let append = |shard: &usize| {
            let mut kept = self.lock(*shard);
            kept.head += 1;
            kept.bytes += record.len() as u64;
            kept.records.push_back((at_ms, record.clone()));
            kept.trim(&self.settings, at_ms);
            kept.head
        };
        Ok(Written { offsets: shards.iter().map(append).collect(), ticket: 0 })
    }

    fn is_committed(&self, _ticket: u64) -> bool {
        true
    }

    fn committed(&self, _ticket: u64) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

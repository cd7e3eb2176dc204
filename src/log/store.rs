//! What the log asks of whatever keeps its records: memory, a journal on the disk, or Redis.

use std::fmt::Debug;
use std::pin::Pin;

use super::error::StoreError;
use super::journal::{Journal, JournalError, Page, Written};

/// Keeps records of bytes, each in the history of one shard or of several, and reads them back by offset.
///
/// Offsets of a shard follow each other. Retention by age, number and bytes holds for each shard by itself.
pub(super) trait Store: Debug + Send + Sync {
    /// The life of a shard in letters and digits; offsets of another life mean nothing in this one.
    fn epoch(&self, shard: usize) -> String;

    /// The last offset given out in a shard, that of nothing if there is none.
    fn head(&self, shard: usize) -> u64;

    /// Up to `limit` records after an offset, and about `max_bytes`, but at least one if there is one; for a thread
    /// that may wait.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read(&self, shard: usize, after: u64, limit: usize, max_bytes: usize) -> Result<Page, StoreError>;

    /// An offset behind which are the newest records of a shard, so many if there are.
    fn back(&self, shard: usize, count: usize) -> u64;

    /// Whether a reader can have read up to an offset, and everything after it is still known.
    fn resumable_from(&self, shard: usize, offset: u64) -> bool;

    /// Drops what is too old at a time in milliseconds since the epoch.
    fn trim(&self, now_ms: i64);

    /// Stops for good.
    ///
    /// # Errors
    /// If not everything is stored.
    fn close(&self) -> Result<(), StoreError>;
}

/// A store of this process alone, which gives out offsets itself, counting from 1.
pub(super) trait OwnStore: Store {
    /// Appends one record, its body in parts, to some shards in ascending order: to all of them or to none.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn append(&self, shards: &[usize], at_ms: i64, parts: &[&[u8]]) -> Result<Written, JournalError>;

    /// Whether a record is as durable as configured.
    fn is_committed(&self, ticket: u64) -> bool;

    /// Returns when a record is as durable as configured.
    ///
    /// # Errors
    /// If it never will be.
    fn committed(&self, ticket: u64) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>>;
}

impl Store for Journal {
    fn epoch(&self, shard: usize) -> String {
        format!("{}{shard}", self.epoch())
    }

    fn head(&self, shard: usize) -> u64 {
        self.head(shard)
    }

    fn read(&self, shard: usize, after: u64, limit: usize, max_bytes: usize) -> Result<Page, StoreError> {
        Ok(self.read(shard, after, limit, max_bytes)?)
    }

    fn back(&self, shard: usize, count: usize) -> u64 {
        self.back(shard, count)
    }

    fn resumable_from(&self, shard: usize, offset: u64) -> bool {
        self.resumable_from(shard, offset)
    }

    fn trim(&self, now_ms: i64) {
        self.trim(now_ms);
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(self.close()?)
    }
}

impl OwnStore for Journal {
    fn append(&self, shards: &[usize], at_ms: i64, parts: &[&[u8]]) -> Result<Written, JournalError> {
        self.append(shards, at_ms, parts)
    }

    fn is_committed(&self, ticket: u64) -> bool {
        self.is_committed(ticket)
    }

    fn committed(&self, ticket: u64) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>> {
        Box::pin(self.committed(ticket))
    }
}

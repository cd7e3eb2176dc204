//! What a journal is told when it is opened.

use std::time::Duration;

/// How a journal is laid out, how durable it is, and how much it keeps.
///
/// What is kept is bounded for each shard by itself: the first bound that is
/// reached counts. The newest record of a shard goes by age only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSettings {
    /// How many shards there are, 1 to 65,535; fixed for the life of a folder.
    pub shards: usize,
    /// Size at which a segment file is full, in bytes, at most 1 GiB; a larger record has a file of its own.
    pub segment_bytes: u64,
    /// What an append waits for.
    pub durability: Durability,
    /// Records kept for each shard.
    pub max_entries: u64,
    /// Bytes on disk kept for each shard; a record for several shards counts for each of them.
    pub max_bytes: u64,
    /// Age in milliseconds at which a record goes.
    pub max_age_ms: u64,
}

/// What an append waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: records are written within 50 ms or when 256 KiB wait, and synced at the end.
    None,
    /// `append` returns with the record in the kernel; it is on the disk 5 ms later.
    Batch,
    /// `committed` returns with the record on the disk.
    Always,
}

impl Durability {
    /// Whether records wait in memory before they are written.
    pub(super) fn buffers(self) -> bool {
        self == Self::None
    }

    /// How long the background thread waits after an append.
    pub(super) fn delay(self) -> Duration {
        Duration::from_millis(match self {
            Self::None => 50,
            Self::Batch => 5,
            Self::Always => 0,
        })
    }
}

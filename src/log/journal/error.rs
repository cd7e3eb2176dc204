//! What can go wrong with a journal, and what whoever runs it can do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal cannot be opened, or an append or a read is refused.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refuses an operation on a file.
    #[error("cannot {action} {}: {source}; check that the disk works and has room, and that this process may write there", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another journal is open on the folder.
    #[error("{} is in use by another process; stop that process, or choose another folder", .0.display())]
    InUse(PathBuf),
    /// A file of another version.
    #[error("{} has journal format {found}, and this version reads format {known} only; run the version that wrote it, or move the folder away to begin an empty journal", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this version.
        known: u32,
    },
    /// A file that is no part of a journal, or is beyond reading.
    #[error("{} is not a readable journal file; bring it back from a backup, or move the folder away to begin an empty journal", .0.display())]
    Foreign(PathBuf),
    /// A state file that is damaged, or is not a journal's.
    #[error("{} is not a readable state file of a journal; bring it back from a backup, delete it to keep the records in a new epoch, or move the folder away to begin an empty journal", .0.display())]
    State(PathBuf),
    /// The folder was written with another number of shards.
    #[error("{} was written with {written} shards, and {configured} are configured; configure {written}, or move the folder away to begin an empty journal", folder.display())]
    Shards {
        /// The folder.
        folder: PathBuf,
        /// How many it was written with.
        written: usize,
        /// How many are configured.
        configured: usize,
    },
    /// A setting that no journal can have.
    #[error("the journal's {setting} must be {allowed}; change the setting")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// A sync failed, so nobody knows what is on the disk; a sync cannot be tried again.
    #[error("the journal in {} only reads since a sync failed ({cause}); check the disk, then restart", folder.display())]
    ReadOnly {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The journal was closed.
    #[error("the journal in {} is closed; open it again to append", .0.display())]
    Closed(PathBuf),
    /// A shard that does not exist, or a list of shards that is empty or not in ascending order.
    #[error("{shards:?} is not an ascending list of shards below {count}; name shards of the journal, each once")]
    NoSuchShard {
        /// What was asked for.
        shards: Vec<usize>,
        /// How many shards there are.
        count: usize,
    },
    /// A record over the bound.
    #[error("a record of {bytes} bytes is over the journal's bound of {bound}; append smaller ones")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        bound: usize,
    },
}

impl JournalError {
    /// Names the operation and the file of an I/O error.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.into(), source }
    }

    /// Whether the disk is full.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

//! Why something is not in the log.

use super::journal::JournalError;
use super::streams::StreamError;

/// Why something is not in the store of the log, or cannot be read from it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The journal on the disk says why.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Redis is the reason.
    #[error(transparent)]
    Streams(#[from] StreamError),
    /// An append that only a log of one process takes.
    #[error("this log is shared; send the entry")]
    NotAlone,
    /// A sending that only a log of several nodes takes.
    #[error("this log is not shared; append the entry")]
    NotShared,
}

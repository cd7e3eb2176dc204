//! Positions: where an entry is in the log.

use std::fmt;
use std::sync::Arc;

/// `<epoch>.<offset>`, opaque to clients; another epoch means that the log was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Life of the log that the offset belongs to.
    pub epoch: Arc<str>,
    /// Number of the entry in its shard, from 1.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.offset)
    }
}

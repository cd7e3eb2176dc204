//! The journal: records of bytes, appended to segment files and read back by
//! shard and offset.
//!
//! It knows nothing of entries. All shards share one sequence of files, so a
//! record for several of them is there as a whole or not at all. Nothing that
//! is gone is passed over in silence: a reader is told of a gap.

mod error;
mod index;
mod journal;
mod read;
mod record;
mod recover;
mod scan;
mod segment;
mod settings;
mod shared;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod writer;

pub use error::JournalError;
pub use journal::Journal;
pub(super) use read::Page;
pub use settings::{Durability, JournalSettings};
pub(super) use writer::Written;

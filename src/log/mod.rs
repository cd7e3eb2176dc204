//! The log: everything published is first an entry here.
//!
//! An entry gets an offset in its shard; sequencers, and later history, replay
//! and receipts, read the same log. The store behind it keeps a bounded ring in
//! memory.

mod entry;
mod journal;
mod memory;
mod position;

pub use entry::{Audience, Draft, Entry, Prepared, Targets};
pub use journal::{Appended, Durability, Journal, JournalError, JournalSettings, Page};
pub use memory::{Batch, Log};
pub use position::{Named, Position};

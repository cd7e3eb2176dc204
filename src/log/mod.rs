//! The log: everything published is first an entry here.
//!
//! An entry gets an offset in its shard; sequencers and replay read the same log.
//! What is recent is at hand as entries; everything is a record in a store, in
//! memory or in a journal of segment files.

mod codec;
mod entry;
mod journal;
mod log;
mod memory;
mod position;
mod report;
mod store;

pub use entry::{Audience, Call, Draft, Entry, Prepared, Targets};
pub use journal::{Durability, Journal, JournalError, JournalSettings};
pub use log::{Appended, Batch, Log};
pub use position::{Named, Position};
pub use report::{Explanation, Report};

//! The log: everything published is first an entry here.
//!
//! An entry gets an offset in its shard; sequencers and replay read the same log.
//! What is recent is in memory; with `log.store = "disk"` everything is in a
//! journal of segment files first.

mod codec;
mod entry;
mod journal;
mod log;
mod position;
mod report;

pub use entry::{Audience, Call, Draft, Entry, Prepared, Targets};
pub use journal::{Durability, Journal, JournalError, JournalSettings};
pub use log::{Appended, Batch, Log};
pub use position::{Named, Position};
pub use report::{Explanation, Report};

//! The log: everything published is first an entry here.
//!
//! An entry gets an offset in its shard; sequencers and replay read the same log.
//! What is recent is at hand as entries; everything is a record in a store, in
//! memory, in a journal of segment files, or in Redis.

mod codec;
mod entry;
mod error;
mod journal;
mod log;
mod memory;
mod position;
mod report;
mod ring;
mod shared;
mod store;
mod streams;

pub use entry::{Audience, Call, Draft, Entry, Prepared, Targets};
pub use error::StoreError;
pub use journal::{Durability, Journal, JournalError, JournalSettings};
pub use log::{Appended, Batch, Log};
pub use position::{Named, Position};
pub use report::{Explanation, Report};
pub use streams::{News, Portion, StreamError, StreamSettings, Streams, Tail};

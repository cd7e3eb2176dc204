//! The store in Redis Streams, which the nodes of a cluster share.
//!
//! A shard is a stream of records, with ids `<life>-<offset>`. A life begins
//! when there is no stream, or when it lost something that a node has seen; its
//! offsets follow each other and are greater than those of every life before.
//! Beside it is a stream of notes. What is appended is delivered when it is
//! read back, so every node delivers in the order of the stream.

mod error;
mod reader;
mod scripts;
mod shard;
mod streams;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use error::StreamError;
pub use streams::{StreamSettings, Streams};
pub use tail::{News, Portion, Tail};

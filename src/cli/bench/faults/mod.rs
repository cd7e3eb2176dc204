//! Delivery under faults: connections that are cut, a server that is restarted, a cluster that is broken.
//!
//! The clients come back as stock clients do, and each knows which events it
//! has got. What counts is not how fast delivery is but that every client gets
//! every event, once and in order.

mod args;
mod backoff;
mod chaos;
mod client;
mod conversation;
mod crew;
mod expected;
mod jitter;
mod ledger;
mod link;
mod publisher;
mod recovery;
mod report;
mod restart;
mod seen;
mod shard;
mod witness;

pub(super) use args::{JitterArgs, RestartArgs};
pub(super) use chaos::{ChaosArgs, run as chaos};
pub(super) use jitter::run as jitter;
pub(super) use restart::run as restart;

//! Freshness: who listens to a channel is told when a scope falls silent on it, and when it is live again.
//!
//! `book.rs` knows who was heard when, and what follows from the time;
//! `watch.rs` listens to publications and announces; `past.rs` finds out from
//! the log what an earlier process knew.

mod book;
mod notice;
mod past;
mod unsaid;
mod watch;

pub(super) use watch::{Freshness, run};

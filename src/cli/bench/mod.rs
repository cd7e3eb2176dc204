//! `tiercast bench`: many clients, one publisher or several, and what came through.
//!
//! It measures any server that speaks the `authenticate` and `subscribe` of
//! this project, so that others can be compared in the same run. It shares a
//! machine with the server it measures and is therefore frugal: a few threads,
//! one task per client, one read buffer per thread, and no JSON decoding of
//! what is delivered.

mod args;
mod client;
mod clock;
mod frame;
mod http;
mod inflate;
mod payload;
mod process;
mod progress;
mod publisher;
mod report;
mod run;
mod shard;
mod target;

pub(crate) use args::Args;
pub(crate) use run::run;

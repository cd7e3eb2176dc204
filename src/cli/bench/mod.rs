//! `tiercast bench`: many clients, one publisher or several, and what came through.
//!
//! It measures any server that speaks the `authenticate` and `subscribe` of
//! this project, so that others can be compared in the same run. It shares a
//! machine with the server it measures and is therefore frugal: a few threads,
//! one task per client, one read buffer per thread, and no JSON decoding of
//! what is delivered. [`faults`] holds the modes that break something, and
//! [`flood`] the one that attacks.

mod args;
mod client;
mod clock;
mod command;
mod faults;
mod flood;
mod frame;
mod http;
mod inflate;
mod pace;
mod payload;
mod percentiles;
mod post;
mod process;
mod progress;
mod publisher;
mod random;
mod report;
mod requests;
mod run;
mod save;
mod server;
mod shard;
mod target;
mod websocket;

pub(crate) use command::{Args, run};

//! `tiercast bench chaos`: a cluster that is broken again and again, under clients and publishers that go on.
//!
//! Three nodes are processes of this program on a Redis of the tool's own.
//! What every client received and what every publisher was answered is written
//! down, and [`check`] says what of it must not be.

mod args;
mod check;
mod client;
mod cluster;
mod fault;
mod history;
mod link;
mod proxy;
mod publisher;
mod record;
mod redis;
mod report;
mod run;
mod seeds;
mod settle;
mod shrink;

pub(in crate::cli::bench) use args::ChaosArgs;
pub(in crate::cli::bench) use seeds::run;

//! The command line: one file per command.
//!
//! A command takes its parsed arguments and succeeds or fails with a
//! [`Failure`], which knows its exit code.

pub(crate) mod bench;
pub(crate) mod check_config;
pub(crate) mod cluster;
mod failure;
pub(crate) mod key;
pub(crate) mod serve;
mod source;

use clap::{Parser, Subcommand};

pub(crate) use failure::Failure;

/// A standalone Socket.IO-compatible real-time server.
#[derive(Debug, Parser)]
#[command(name = "tiercast", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server until it is told to stop.
    Serve(serve::Args),
    /// Tell everything that is wrong with a configuration, without starting.
    CheckConfig(check_config::Args),
    /// Make keys of the HTTP API.
    Key(key::Args),
    /// Move a cluster to other Redis servers.
    Cluster(cluster::Args),
    /// Put load on a server and measure it.
    Bench(Box<bench::Args>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}

//! `tiercast bench` and its modes.

use super::{args::LoadArgs, faults, flood, run::run as measure};
use crate::cli::Failure;

/// Arguments of `tiercast bench`; without a mode it measures how fast events are delivered.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    load: LoadArgs,
}

/// What else can be measured.
#[derive(Debug, clap::Subcommand)]
enum Mode {
    /// Cut the clients' connections again and again, and tell what they miss.
    Jitter(faults::JitterArgs),
    /// Restart a server under its clients, and tell what they miss.
    Restart(faults::RestartArgs),
    /// Break a cluster of the tool's own again and again, and tell what its clients miss.
    Chaos(faults::ChaosArgs),
    /// Attack a server of the tool's own while honest clients receive, and tell what that costs them.
    Flood(flood::Args),
}

/// Runs `tiercast bench`.
///
/// # Errors
/// If nothing could be measured, or a mode has found what must not be.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.mode {
        None => measure(&args.load),
        Some(Mode::Jitter(args)) => faults::jitter(args),
        Some(Mode::Restart(args)) => faults::restart(args),
        Some(Mode::Chaos(args)) => faults::chaos(args),
        Some(Mode::Flood(args)) => flood::run(args),
    }
}

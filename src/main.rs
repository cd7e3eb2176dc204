//! The `tiercast` program: parse, run, exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

use cli::{Cli, Command};

/// Gives back what a flood took, which the system's does not (decision 023).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => cli::serve::run(&args),
        Command::CheckConfig(args) => cli::check_config::run(&args),
        Command::Key(args) => cli::key::run(&args),
        Command::Cluster(args) => cli::cluster::run(&args),
        Command::Bench(args) => cli::bench::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

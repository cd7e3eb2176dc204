//! `tiercast check-config`: the very path that `serve` takes, without serving.

use std::io::Write;

use anyhow::Context;

use super::Failure;
use super::source::FileArgs;

/// Arguments of `check-config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    file: FileArgs,
}

/// Says `ok`, or fails with every problem.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    args.file.load(args.file.source()?)?;
    let path = args.file.path();
    let absent = if path.exists() { "" } else { " (there is no such file; every key is at its default)" };
    writeln!(std::io::stdout(), "{}: ok{absent}", path.display()).context("cannot write to stdout")?;
    Ok(())
}

//! `tiercast cluster move`: brings the shards of a cluster to where another configuration has them.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Subcommand;
use tiercast::cluster::{Move, Moved, Outcome};
use tokio::runtime::Runtime;

use super::Failure;
use super::source::FileArgs;

/// Sets the same servers for both configurations.
const SERVERS: &str = "TIERCAST__CLUSTER__REDIS_URLS";

/// Arguments of `cluster`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: ClusterCommand,
}

/// What can be done with a cluster.
#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Copy what lives on another Redis server by the new configuration, while no node runs.
    Move(MoveArgs),
}

/// Arguments of `cluster move`.
#[derive(Debug, clap::Args)]
struct MoveArgs {
    /// Configuration that the nodes have run with
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Configuration that they are going to run with
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Delete at the old servers what was copied and compared
    #[arg(long)]
    delete: bool,
}

/// Moves, and tells what.
pub(crate) fn run(Args { command: ClusterCommand::Move(args) }: &Args) -> Result<(), Failure> {
    if std::env::var_os(SERVERS).is_some() {
        return Err(anyhow!("{SERVERS} would win over both files; unset it, and give the servers in the files").into());
    }
    let load = |path: &PathBuf| {
        let file = FileArgs::of(path.clone());
        file.load(file.source()?)
    };
    let plan = Move::plan(&load(&args.from)?, &load(&args.to)?).map_err(|error| anyhow!(error))?;
    let (mut copied, mut deleted) = (0, 0);
    let tell = |moved: &Moved| {
        copied += usize::from(moved.outcome == Outcome::Copied);
        deleted += usize::from(moved.outcome == Outcome::Deleted);
        writeln!(std::io::stdout(), "{}", line(moved)).ok();
    };
    let runtime = Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(plan.run(args.delete, tell)).map_err(|error| anyhow!(error))?;
    let told = writeln!(std::io::stdout(), "shards copied: {copied}; deleted where they were: {deleted}");
    told.context("cannot write to stdout")?;
    Ok(())
}

fn line(Moved { shard, from, to, keys, outcome }: &Moved) -> String {
    match outcome {
        Outcome::Copied => format!("shard {shard}: {keys} keys copied from {from} to {to}"),
        Outcome::There => format!("shard {shard}: is at {to} already; {keys} keys are left at {from}"),
        Outcome::Same => format!("shard {shard}: stays, since {from} and {to} are the same server"),
        Outcome::Nothing => format!("shard {shard}: nothing of it is at {from}"),
        Outcome::Deleted => format!("shard {shard}: {keys} keys deleted at {from}"),
    }
}

//! All runs, one seed after another, up to the first that fails.

use std::io::{self, Write};

use super::args::ChaosArgs;
use super::fault::{Step, schedule, shown};
use super::report::{Report, Run};
use super::run::run as run_one;
use super::shrink::shrink;
use crate::cli::{Failure, bench::process, bench::save::save};

/// Connections of a client on polling, the other ends of ways to Redis, and what a node that restarts adds.
const CONNECTIONS: u64 = 3;

/// Runs it.
///
/// # Errors
/// If the flags contradict each other, the cluster cannot be run, or a run has found what must not be.
pub(in crate::cli::bench) fn run(args: &ChaosArgs) -> Result<(), Failure> {
    args.check()?;
    process::ensure_open_files(args.clients, CONNECTIONS)?;
    let mut report = Report::default();
    let out = &mut io::stdout().lock();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let faults = match args.schedule.is_empty() {
            true => schedule(seed, args.faults, args.nodes),
            false => args.schedule.clone(),
        };
        let outcome = run_one(args, seed, &faults)?;
        let failed = !outcome.findings.is_empty();
        let run = Run { seed, schedule: faults.clone(), outcome };
        run.print(out)?;
        report.runs.push(run);
        if failed {
            let fails = |rest: &[Step]| {
                let outcome = run_one(args, seed, rest)?;
                let verdict = if outcome.findings.is_empty() { "holds" } else { "fails" };
                eprintln!("{verdict}: {}", shown(rest));
                Ok(!outcome.findings.is_empty())
            };
            report.smallest = shrink(&faults, args.shrink, fails)?;
            break;
        }
    }
    report.print(out)?;
    out.flush().map_err(anyhow::Error::from)?;
    args.json.as_deref().map_or(Ok(()), |path| save(&report, path))?;
    Ok(report.verdict()?)
}

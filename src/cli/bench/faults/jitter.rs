//! `tiercast bench jitter`: every client loses its connection again and again.

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::{runtime, sync::watch};

use super::{
    args::JitterArgs,
    crew::Crew,
    ledger::Ledger,
    publisher::Publisher,
    report::Outcome,
    shard::{Cuts, Plan},
};
use crate::cli::{
    Failure,
    bench::{clock::Clock, process, progress, save::save, target::Target},
};

/// What a run found out.
#[derive(Debug, Serialize)]
struct Report {
    load: Load,
    #[serde(flatten)]
    outcome: Outcome,
}

/// The load, as it was asked for.
#[derive(Debug, Serialize)]
struct Load {
    clients: usize,
    events: u64,
    rate: f64,
    cut_every_ms: u64,
    offline_ms: u64,
}

/// Runs it.
///
/// # Errors
/// If the flags contradict each other, the server cannot be reached or refuses, or an event was not delivered once
/// and in order.
pub(in crate::cli::bench) fn run(args: &JitterArgs) -> Result<(), Failure> {
    args.check()?;
    process::ensure_open_files(args.clients, 1)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let report = runtime.block_on(complete(args))?;
    report.print(&mut io::stdout().lock())?;
    args.common.json.as_deref().map_or(Ok(()), |path| save(&report, path))?;
    Ok(report.outcome.verdict()?)
}

async fn complete(args: &JitterArgs) -> Result<Report> {
    let (clock, ledger) = (Clock::start(), Arc::new(Ledger::default()));
    let target = Target::parse(&args.url)?;
    let mut publisher = Publisher::new(&target, &args.common, args.rate, clock, &ledger)?;
    let cuts =
        Cuts { every: Duration::from_millis(args.cut_every_ms), offline: Duration::from_millis(args.offline_ms) };
    let mut crew = Crew::start(Plan::new(&args.common, args.clients, target, clock, Some(cuts)), &ledger)?;
    crew.open(&mut publisher, args.common.settle()).await?;
    crew.begin_cutting();
    let spinner = progress::spinner(format!("{} events at {}/s", args.events, args.rate));
    let (_go_on, stop) = watch::channel(false);
    let published = publisher.run(args.events, stop).await?.published();
    spinner.set_message("waiting for what is missing");
    // What is missing in the end is what the clients say, however this ends.
    crew.collect(&published.expected, args.common.settle()).await;
    spinner.finish_and_clear();
    let outcome = Outcome::new(&published, &crew.stop()?);
    Ok(Report { load: Load::from(args), outcome })
}

impl From<&JitterArgs> for Load {
    fn from(args: &JitterArgs) -> Self {
        let JitterArgs { clients, events, rate, cut_every_ms, offline_ms, .. } = *args;
        Self { clients, events, rate, cut_every_ms, offline_ms }
    }
}

impl Report {
    fn print(&self, out: &mut impl io::Write) -> Result<()> {
        let Load { clients, rate, cut_every_ms, offline_ms, .. } = &self.load;
        writeln!(
            out,
            "load         {clients} clients, {rate} events/s; each is cut every {cut_every_ms} ms, for {offline_ms} ms"
        )?;
        self.outcome.print(out)
    }
}

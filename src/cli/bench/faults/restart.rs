//! `tiercast bench restart`: the server is stopped and started again under its clients.

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::{runtime, sync::watch, task, time};

use super::{args::RestartArgs, crew::Crew, ledger::Ledger, publisher::Publisher, report::Outcome, shard::Plan};
use crate::cli::{
    Failure,
    bench::{
        clock::Clock,
        process, progress,
        save::save,
        server::{Server, Settings, Stopped},
        target::Target,
    },
};

/// Limits that the load does not meet, and no line for each connection.
const CONFIG: &str = "\
[limits]
max_connections_total = 1000000
max_connections_per_org = 1000000
room_max_size = 1000000

[logging]
level = \"warn\"
log_connection_events = false
log_subscription_events = false
audit = false
";

/// What a run found out. Times are counted from the SIGTERM.
#[derive(Debug, Serialize)]
struct Report {
    load: Load,
    restart: Restart,
    back: Back,
    #[serde(flatten)]
    outcome: Outcome,
}

/// The load, as it was asked for.
#[derive(Debug, Serialize)]
struct Load {
    clients: usize,
    rate: f64,
}

/// What became of the server.
#[derive(Debug, Serialize)]
struct Restart {
    /// When the old process had ended.
    ended_ms: f64,
    /// When the new one listened.
    open_ms: f64,
    /// How long nobody listened.
    closed_ms: f64,
}

/// How the clients came back.
#[derive(Debug, Serialize)]
struct Back {
    /// Clients that were connected and subscribed at the end.
    clients: usize,
    /// When half of them had come back,
    #[serde(skip_serializing_if = "Option::is_none")]
    half_ms: Option<f64>,
    /// 99 in 100,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ms: Option<f64>,
    /// and all.
    #[serde(skip_serializing_if = "Option::is_none")]
    all_ms: Option<f64>,
}

/// Runs it.
///
/// # Errors
/// If the flags contradict each other, the server does not start or stop, a client does not come back, or an event
/// was not delivered once and in order.
pub(in crate::cli::bench) fn run(args: &RestartArgs) -> Result<(), Failure> {
    args.check()?;
    process::ensure_open_files(args.clients, 1)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let report = runtime.block_on(complete(args))?;
    report.print(&mut io::stdout().lock())?;
    args.common.json.as_deref().map_or(Ok(()), |path| save(&report, path))?;
    Ok(report.verdict()?)
}

async fn complete(args: &RestartArgs) -> Result<Report> {
    let (clock, ledger) = (Clock::start(), Arc::new(Ledger::default()));
    let settings = args.config.as_deref().map_or(Settings::Text(CONFIG), Settings::File);
    let mut server = Server::new(args.server.as_deref(), settings)?;
    let target = Target::parse(&format!("http://{}", server.address))?;
    let mut publisher = Publisher::new(&target, &args.common, args.rate, clock, &ledger)?;
    server.start(clock).await?;
    let mut crew = Crew::start(Plan::new(&args.common, args.clients, target, clock, None), &ledger)?;
    crew.open(&mut publisher, args.common.settle()).await?;

    let (stop, stopped) = watch::channel(false);
    let mut publishing = task::spawn(publisher.run(u64::MAX, stopped));
    let spinner = progress::spinner(format!("{} events/s", args.rate));
    // It ends before its time only when it fails.
    let early = time::timeout(Duration::from_millis(args.before_ms), &mut publishing).await;
    if let Ok(ended) = early {
        ended.context("the publisher panicked")??;
    }
    spinner.set_message("restarting the server");
    let old = server.stop(clock).await?;
    let open = server.start(clock).await?;
    spinner.finish_and_clear();
    let times = crew.back(old.told, args.common.settle()).await;
    let spinner = progress::spinner(format!("{} events/s", args.rate));
    let early = time::timeout(Duration::from_millis(args.after_ms), &mut publishing).await;
    stop.send_replace(true);
    let publisher = match early {
        Ok(ended) => ended,
        Err(_) => publishing.await,
    };
    let published = publisher.context("the publisher panicked")??.published();
    spinner.set_message("waiting for what is missing");
    // What is missing in the end is what the clients say, however this ends.
    crew.collect(&published.expected, args.common.settle()).await;
    spinner.finish_and_clear();
    let account = crew.stop()?;
    server.stop(clock).await?;
    let online = account.witnesses.iter().filter(|witness| witness.is_online).count();
    Ok(Report {
        load: Load { clients: args.clients, rate: args.rate },
        restart: Restart::new(old, open),
        back: Back::new(online, args.clients, &times, old.told),
        outcome: Outcome::new(&published, &account),
    })
}

impl Restart {
    fn new(Stopped { told, closed, ended }: Stopped, open: u64) -> Self {
        Self { ended_ms: ms(told, ended), open_ms: ms(told, open), closed_ms: ms(closed, open) }
    }
}

impl Back {
    /// From the times, in order, at which clients came back.
    fn new(online: usize, clients: usize, times: &[u64], told: u64) -> Self {
        let at = |share: f64| times.get((clients as f64 * share).ceil() as usize - 1).map(|time| ms(told, *time));
        Self { clients: online, half_ms: at(0.5), p99_ms: at(0.99), all_ms: at(1.0) }
    }
}

impl Report {
    fn verdict(&self) -> Result<()> {
        let away = self.load.clients - self.back.clients;
        let delivered = self.outcome.verdict();
        if away > 0 {
            let also = delivered.err().map_or_else(String::new, |error| format!("; {error}"));
            bail!("{away} of {} clients are not back{also}", self.load.clients);
        }
        delivered
    }

    fn print(&self, out: &mut impl io::Write) -> Result<()> {
        let Load { clients, rate } = &self.load;
        writeln!(out, "load         {clients} clients, {rate} events/s; the server was restarted")?;
        let Restart { ended_ms, open_ms, closed_ms } = self.restart;
        writeln!(
            out,
            "server       ended after {ended_ms:.0} ms, listened after {open_ms:.0} ms; its port was closed for {closed_ms:.0} ms"
        )?;
        let time = |ms: Option<f64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.0} ms"));
        let Back { clients: back, half_ms, p99_ms, all_ms } = &self.back;
        writeln!(
            out,
            "back         {back} of {clients}; half after {}, 99 % after {}, all after {}",
            time(*half_ms),
            time(*p99_ms),
            time(*all_ms)
        )?;
        self.outcome.print(out)
    }
}

fn ms(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_clients_and_not_of_those_that_came_back() {
        let times: Vec<u64> = (1..=99).map(|ms| 5_000_000 + ms * 1_000_000).collect();
        let back = Back::new(99, 100, &times, 5_000_000);
        assert_eq!((back.half_ms, back.p99_ms, back.all_ms), (Some(50.0), Some(99.0), None));
        let back = Back::new(1, 1, &[7_000_000], 5_000_000);
        assert_eq!((back.half_ms, back.all_ms), (Some(2.0), Some(2.0)));
    }
}

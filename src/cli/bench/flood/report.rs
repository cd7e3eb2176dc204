//! What a run found out: as JSON for programs, as a few lines for people.

use std::io::Write;

use anyhow::{Result, bail};
use serde::Serialize;

use super::{
    args::Args,
    honest::Phase,
    hostile::{Kind, Tallies, Tally},
    level::Level,
};
use crate::cli::bench::percentiles::Percentiles;

/// Answers of the server that are shown of each kind.
const SHOWN: usize = 4;

/// Everything a run found out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// What was asked for.
    pub(super) load: Load,
    /// What the honest clients got before,
    pub(super) calm: Phase,
    /// during,
    pub(super) flood: Phase,
    /// and after the flood.
    pub(super) after: Phase,
    /// What the attackers did.
    pub(super) hostile: Tallies,
    /// Events for attackers that do not read, summed over these.
    pub(super) unread: u64,
    /// The server's memory.
    pub(super) memory: Memory,
    /// What the server held before the flood,
    pub(super) start: Level,
    /// and at the end.
    pub(super) end: Level,
    /// How long it took until everything was back at the start level, in milliseconds; none if it was not in time.
    pub(super) back_ms: Option<u64>,
    /// What ended the first honest connection that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
}

/// The load, as it was asked for, and the bounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Load {
    clients: usize,
    rate: f64,
    seconds: u64,
    hostile: usize,
    addresses: u8,
    acts_per_second: f64,
    kinds: Vec<Kind>,
    max_ratio: f64,
    max_rss_mb: u64,
    kept_rss_mb: u64,
}

/// The server's memory, in kB.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Memory {
    start_kb: u64,
    peak_kb: u64,
    end_kb: u64,
}

impl From<&Args> for Load {
    fn from(args: &Args) -> Self {
        let Args { clients, rate, seconds, hostile, addresses, .. } = *args;
        let Args { acts_per_second, max_ratio, max_rss_mb, kept_rss_mb, .. } = *args;
        let kinds = args.kinds();
        Self { clients, rate, seconds, hostile, addresses, acts_per_second, kinds, max_ratio, max_rss_mb, kept_rss_mb }
    }
}

impl Memory {
    /// From what was seen.
    pub(super) fn new(start: &Level, flood: &Phase, end: &Level) -> Self {
        let peak = flood.rss_kb.iter().max().copied().unwrap_or_default();
        Self { start_kb: start.rss_kb, peak_kb: peak, end_kb: end.rss_kb }
    }
}

impl Report {
    fn ratio(&self) -> f64 {
        self.flood.latency_ms.p99 / self.calm.latency_ms.p99.max(1e-3)
    }

    /// Everything that the flood did and may not.
    fn faults(&self) -> Vec<String> {
        let Load { max_ratio, max_rss_mb, kept_rss_mb, .. } = self.load;
        let mut faults = Vec::new();
        for (when, phase) in [("the calm", &self.calm), ("the flood", &self.flood), ("the end", &self.after)] {
            let Phase { expected, received, clients_with_losses, clients_with_extras, clients_ended, .. } = *phase;
            if received < expected || clients_with_losses + clients_with_extras + clients_ended > 0 {
                faults.push(format!(
                    "honest clients got {received} of {expected} events in {when}: {clients_with_losses} missed some, \
                     {clients_with_extras} got some twice, {clients_ended} were disconnected"
                ));
            }
        }
        let ratio = self.ratio();
        if ratio > max_ratio {
            faults.push(format!("their 99th percentile was {ratio:.2} times that of the calm, more than {max_ratio}"));
        }
        if self.memory.peak_kb > max_rss_mb * 1024 {
            faults.push(format!("the server took {} MB, more than {max_rss_mb}", self.memory.peak_kb / 1024));
        }
        if self.unread == 0 && self.hostile.keys().any(|kind| kind.reads_nothing()) {
            faults.push("attackers that do not read had nothing to read".to_owned());
        }
        if self.back_ms.is_none() {
            let left = self.end.beyond(&self.start, kept_rss_mb * 1024).join(", ");
            faults.push(format!("not everything is back at the start level: {left}"));
        }
        faults
    }

    /// Fails if the flood did what it may not.
    ///
    /// # Errors
    /// With all of that.
    pub(super) fn verdict(&self) -> Result<()> {
        let faults = self.faults();
        if !faults.is_empty() {
            bail!("{}", faults.join("; "));
        }
        Ok(())
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub(super) fn print(&self, out: &mut impl Write) -> Result<()> {
        let Load { clients, rate, seconds, hostile, addresses, acts_per_second, .. } = &self.load;
        writeln!(
            out,
            "load         {clients} honest clients, {rate} events/s; for {seconds} s {hostile} hostile ones from \
             {addresses} addresses, each {acts_per_second} acts/s"
        )?;
        for (name, phase) in [("calm", &self.calm), ("flood", &self.flood), ("after", &self.after)] {
            print_phase(out, name, phase)?;
        }
        writeln!(out, "ratio        {:.2} of the 99th percentiles", self.ratio())?;
        let mb = |kb: u64| kb as f64 / 1024.0;
        let Memory { start_kb, peak_kb, end_kb } = self.memory;
        writeln!(
            out,
            "memory MB    {:.0} at the start, {:.0} at most, {:.0} at the end",
            mb(start_kb),
            mb(peak_kb),
            mb(end_kb)
        )?;
        match self.back_ms {
            Some(ms) => writeln!(out, "back         at the start level after {ms} ms")?,
            None => writeln!(out, "back         not: {}", self.end.beyond(&self.start, 0).join(", "))?,
        }
        self.print_hostile(out)?;
        writeln!(out, "unread       {} events for attackers that do not read", self.unread)?;
        if let Some(error) = &self.first_error {
            writeln!(out, "first end    {error}")?;
        }
        Ok(())
    }

    fn print_hostile(&self, out: &mut impl Write) -> Result<()> {
        writeln!(out, "hostile             clients  connected   acts/s   refused   cut  open  answers")?;
        let seconds = self.load.seconds as f64;
        for (kind, tally) in &self.hostile {
            let Tally { clients, connections, acts, refused, cut, open, .. } = tally;
            let (name, answers, rate) = (kind.name(), tally.main_answers(SHOWN), *acts as f64 / seconds);
            writeln!(
                out,
                "{name:<19} {clients:>7} {connections:>10} {rate:>8.1} {refused:>9} {cut:>5} {open:>5}  {answers}"
            )?;
        }
        Ok(())
    }
}

fn print_phase(out: &mut impl Write, name: &str, phase: &Phase) -> Result<()> {
    let Phase { received, expected, latency_ms, server_cores, tool_cores, other_cores, .. } = phase;
    let Percentiles { p50, p99, max, .. } = latency_ms;
    writeln!(
        out,
        "{name:<12} {received} of {expected}; p50 {p50:.2}  p99 {p99:.2}  max {max:.2} ms; cores: server \
         {server_cores:.2}, tool {tool_cores:.2}, others {other_cores:.2}"
    )?;
    Ok(())
}

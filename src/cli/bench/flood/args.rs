//! What is typed, and the contradictions in it.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};

use super::hostile::Kind;

/// Most addresses that attackers can come from: 127.0.1.1 to 127.0.1.250.
const MOST_ADDRESSES: u8 = 250;

/// Flags of `tiercast bench flood`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Server to start [default: this program].
    #[arg(long, value_name = "PROGRAM")]
    pub server: Option<PathBuf>,
    /// Honest clients, which come from 127.0.0.1.
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub clients: usize,
    /// Events a second that they receive.
    #[arg(long, default_value_t = 20.0, value_name = "N")]
    pub rate: f64,
    /// How long the calm is measured, and how long the flood.
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Hostile clients, shared out among the kinds; each holds a connection or two.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    pub hostile: usize,
    /// Kinds of attack [default: all].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND,...")]
    pub kinds: Vec<Kind>,
    /// Hostile acts of one client in a second; an act is a byte, a request, or a row of messages.
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    pub acts_per_second: f64,
    /// Loopback addresses that the hostile clients come from, 127.0.1.1 and following.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_ADDRESSES)))]
    pub addresses: u8,
    /// How many times as long as in the calm the 99th percentile of honest clients may be.
    #[arg(long, default_value_t = 1.5, value_name = "FACTOR")]
    pub max_ratio: f64,
    /// Memory that the server may take.
    #[arg(long, default_value_t = 512, value_name = "MB")]
    pub max_rss_mb: u64,
    /// Memory that the server may keep beyond the start level, since its allocator gives not everything back.
    #[arg(long, default_value_t = 96, value_name = "MB")]
    pub kept_rss_mb: u64,
    /// How long the server may take until everything is back at the start level.
    #[arg(long, default_value_t = 60_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=86_400_000))]
    pub settle_ms: u64,
    /// Also write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Args {
    /// Refuses what cannot be meant.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.clients > 0, "--clients must be at least 1");
        ensure!(self.hostile > 0, "--hostile must be at least 1");
        ensure!(self.rate > 0.0 && self.rate.is_finite(), "--rate must be above 0");
        ensure!(self.acts_per_second > 0.0 && self.acts_per_second.is_finite(), "--acts-per-second must be above 0");
        ensure!(self.max_ratio > 0.0, "--max-ratio must be above 0");
        Ok(())
    }

    /// The kinds that take part, each once.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let all = Kind::all();
        all.filter(|kind| self.kinds.is_empty() || self.kinds.contains(kind)).collect()
    }

    /// Events of one phase.
    pub(super) fn events(&self) -> u64 {
        ((self.rate * self.seconds as f64) as u64).max(1)
    }

    /// Time between two acts of a hostile client.
    pub(super) fn pace(&self) -> Duration {
        Duration::from_secs_f64((1.0 / self.acts_per_second).clamp(1e-4, 86_400.0))
    }

    /// Where the hostile client of that number comes from.
    pub(super) fn source(&self, number: usize) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 1, 1 + (number % usize::from(self.addresses)) as u8)
    }
}

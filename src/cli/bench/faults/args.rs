//! What is typed for the two modes, and the contradictions in it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};

/// Largest number of milliseconds that a flag takes: a day.
const LONGEST_MS: u64 = 86_400_000;

/// Flags of `tiercast bench jitter`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct JitterArgs {
    /// Server to measure; a path in it is that of the Socket.IO door.
    #[arg(long, default_value = "http://127.0.0.1:5000/ws/", value_name = "URL")]
    pub url: String,
    /// Clients to connect.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub clients: usize,
    /// Events to publish.
    #[arg(long, default_value_t = 120, value_name = "N")]
    pub events: u64,
    /// Events a second.
    #[arg(long, default_value_t = 2.0, value_name = "N")]
    pub rate: f64,
    /// Mean time between two cuts of a client's connection; each differs by up to a third of it.
    #[arg(long, default_value_t = 15_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=LONGEST_MS))]
    pub cut_every_ms: u64,
    /// How long a client whose connection was cut stays away.
    #[arg(long, default_value_t = 2_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=LONGEST_MS))]
    pub offline_ms: u64,
    #[command(flatten)]
    pub common: Common,
}

/// Flags of `tiercast bench restart`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RestartArgs {
    /// Server to start [default: this program].
    #[arg(long, value_name = "PROGRAM")]
    pub server: Option<PathBuf>,
    /// Its configuration, but for the address and the log [default: limits that the load does not meet].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Clients to connect.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    pub clients: usize,
    /// Events a second.
    #[arg(long, default_value_t = 20.0, value_name = "N")]
    pub rate: f64,
    /// How long events are published before the server is told to stop.
    #[arg(long, default_value_t = 3_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=LONGEST_MS))]
    pub before_ms: u64,
    /// How long events are published once all clients are back.
    #[arg(long, default_value_t = 5_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=LONGEST_MS))]
    pub after_ms: u64,
    #[command(flatten)]
    pub common: Common,
}

/// Flags of both.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// How long clients may take to get what they still miss, or to come back.
    #[arg(long, default_value_t = 30_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=LONGEST_MS))]
    pub settle_ms: u64,
    /// Organization to publish to.
    #[arg(long, default_value = "org_bench", value_name = "ID")]
    pub organization: String,
    /// API key to publish with.
    #[arg(long, env = "TIERCAST_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
    /// Clients to connect in a second; the events wait until all are there.
    #[arg(long, default_value_t = 1_000.0, value_name = "N")]
    pub connect_rate: f64,
    /// Threads that run the clients.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// Also write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl JitterArgs {
    /// Refuses what cannot be meant.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.events > 0, "--events must be at least 1");
        self.common.check(self.clients, self.rate)
    }
}

impl RestartArgs {
    /// Refuses what cannot be meant.
    pub(super) fn check(&self) -> Result<()> {
        self.common.check(self.clients, self.rate)
    }
}

impl Common {
    /// How long clients may take.
    pub(super) fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms)
    }

    fn check(&self, clients: usize, rate: f64) -> Result<()> {
        ensure!(clients > 0, "--clients must be at least 1");
        ensure!(rate > 0.0, "--rate must be above 0");
        ensure!(self.threads > 0, "--threads must be at least 1");
        ensure!(self.connect_rate > 0.0, "--connect-rate must be above 0");
        Ok(())
    }
}

//! What is typed, and the contradictions in it.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::fault::{Fault, Step};

/// Flags of `tiercast bench chaos`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ChaosArgs {
    /// Seed of the first run; the same one breaks the same things in the same order.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Runs, each with the seed behind that of the one before.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seeds: u64,
    /// Clients, spread over organizations, departments and nodes; every tenth is on polling.
    #[arg(long, default_value_t = 150, value_name = "N")]
    pub clients: usize,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub nodes: usize,
    /// Publishers, each of which goes from node to node.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub publishers: usize,
    /// Events a second of each publisher.
    #[arg(long, default_value_t = 20.0, value_name = "N")]
    pub rate: f64,
    /// Faults of a run, one after another: each kind once in an order of chance, and then again; one in three has a
    /// second one beside it.
    #[arg(long, default_value_t = Fault::KINDS, value_name = "N")]
    pub faults: usize,
    /// How long each fault lasts.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub seconds_per_fault: f64,
    /// How long everybody may take after a fault to be back and to have received everything.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub settle_seconds: f64,
    /// Faults in place of those that the seed makes, as a failed run prints them, such as `kill-1,cut-0+redis-empty`.
    #[arg(long, value_name = "FAULTS", value_delimiter = ',')]
    pub schedule: Vec<Step>,
    /// Runs of a failed schedule with a fault left out, to find the smallest that fails.
    #[arg(long, default_value_t = 12, value_name = "N")]
    pub shrink: u32,
    /// Show what nodes log, and why clients lost connections.
    #[arg(long)]
    pub verbose: bool,
    /// Also write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl ChaosArgs {
    /// Refuses what cannot be meant.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.seeds > 0, "--seeds must be at least 1");
        ensure!(self.clients > 0, "--clients must be at least 1");
        ensure!(self.nodes > 0, "--nodes must be at least 1");
        ensure!(self.publishers > 0, "--publishers must be at least 1");
        ensure!(self.rate > 0.0 && self.rate.is_finite(), "--rate must be above 0");
        let is_time = |seconds: f64| (0.0..=86_400.0).contains(&seconds);
        ensure!(is_time(self.seconds_per_fault), "--seconds-per-fault must be 0 to 86400");
        ensure!(is_time(self.settle_seconds), "--settle-seconds must be 0 to 86400");
        for fault in self.schedule.iter().flat_map(|step| step.faults()) {
            ensure!(fault.node().is_none_or(|node| node < self.nodes), "--schedule: there is no node for {fault}");
        }
        Ok(())
    }
}

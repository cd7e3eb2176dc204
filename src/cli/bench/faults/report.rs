//! What the two modes found out: as JSON for programs, as a few lines for people.

use std::io::Write;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    expected::Expected,
    publisher::Published,
    seen::Faults,
    shard::Account,
    witness::{Connections, Witness},
};
use crate::cli::bench::percentiles::Percentiles;

/// What both modes tell.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    /// What was published.
    pub(super) publish: Publish,
    /// What was delivered.
    pub(super) delivery: Delivery,
    /// What became of the clients' connections.
    pub(super) connections: Connections,
    /// From the CONNECT reply of a recovered connection to the last missed event.
    pub(super) replay_ms: Times,
    /// From publishing a live event to receiving it.
    pub(super) latency_ms: Times,
    /// What ended the first connection or attempt that the tool did not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
}

/// What was published.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Publish {
    /// Events that were answered.
    pub(super) events: u64,
    /// Attempts that were refused, or whose answer was lost, and that were repeated.
    pub(super) refused: u64,
    /// Events with an answer that was lost; they count nowhere else.
    pub(super) unknown: u64,
}

/// What was delivered. A delivery is one event at one client.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Delivery {
    /// Clients times events.
    pub(super) expected: u64,
    /// Those that came.
    pub(super) received: u64,
    /// Those that did not.
    pub(super) missing: u64,
    /// Those that came again.
    pub(super) twice: u64,
    /// Those that came first after a newer one.
    pub(super) out_of_order: u64,
    /// Clients with any of these faults.
    pub(super) clients_with_faults: u64,
    /// One of the faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) example: Option<String>,
    /// Deliveries of events that this run did not publish.
    pub(super) foreign: u64,
}

/// A distribution of times, and how many there are.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Times {
    count: u64,
    #[serde(flatten)]
    of: Percentiles,
}

impl From<&Histogram<u64>> for Times {
    fn from(histogram: &Histogram<u64>) -> Self {
        Self { count: histogram.len(), of: histogram.into() }
    }
}

impl Outcome {
    /// Adds up what the clients have seen of what was published.
    pub(super) fn new(published: &Published, account: &Account) -> Self {
        let expected = &published.expected;
        let (mut sum, mut connections) = (Faults::default(), Connections::default());
        let (mut clients_with_faults, mut foreign) = (0, 0);
        for witness in &account.witnesses {
            let faults = witness.seen.faults(expected);
            clients_with_faults += u64::from(!faults.is_none());
            sum += faults;
            connections += witness.connections;
            foreign += witness.foreign;
        }
        let deliveries = account.witnesses.len() as u64 * expected.count();
        Self {
            publish: Publish {
                events: expected.count(),
                refused: published.refused,
                unknown: expected.unknown.len() as u64,
            },
            delivery: Delivery {
                expected: deliveries,
                received: deliveries - sum.missing,
                missing: sum.missing,
                twice: sum.twice,
                out_of_order: sum.out_of_order,
                clients_with_faults,
                example: example(account, expected),
                foreign,
            },
            connections,
            replay_ms: (&account.times.replay).into(),
            latency_ms: (&account.times.latency).into(),
            first_error: account.first_error.clone(),
        }
    }

    /// Fails if anything was not delivered once and in order.
    ///
    /// # Errors
    /// With what is wrong.
    pub(super) fn verdict(&self) -> Result<()> {
        let Delivery { missing, twice, out_of_order, clients_with_faults, foreign, .. } = self.delivery;
        let example = self.delivery.example.as_deref().unwrap_or_default();
        if foreign > 0 {
            bail!("{foreign} deliveries were of events that this run did not publish; who else publishes there?");
        }
        if clients_with_faults > 0 {
            bail!(
                "{missing} deliveries are missing, {twice} came twice and {out_of_order} out of order, \
                 at {clients_with_faults} clients; such as {example}"
            );
        }
        Ok(())
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub(super) fn print(&self, out: &mut impl Write) -> Result<()> {
        let Publish { events, refused, unknown } = self.publish;
        writeln!(out, "published    {events} events; {refused} attempts refused, {unknown} events unknown")?;
        let Delivery { expected, received, missing, twice, out_of_order, .. } = self.delivery;
        writeln!(
            out,
            "delivered    {received} of {expected}; {missing} missing, {twice} twice, {out_of_order} out of order"
        )?;
        let Connections { reconnects, recovered, not_recovered, refused, lost, dismissed } = self.connections;
        writeln!(
            out,
            "reconnects   {reconnects}; {recovered} recovered, {not_recovered} not; {refused} attempts refused, \
             {lost} connections lost, {dismissed} clients told to stay away"
        )?;
        let Times { count, of: Percentiles { p50, p99, max, .. } } = self.replay_ms;
        writeln!(out, "replay ms    p50 {p50:.2}  p99 {p99:.2}  max {max:.2}, of {count}")?;
        let Times { count, of: Percentiles { p50, p99, max, .. } } = self.latency_ms;
        writeln!(out, "live ms      p50 {p50:.2}  p99 {p99:.2}  max {max:.2}, of {count}")?;
        if let (Err(_), Some(error)) = (self.verdict(), &self.first_error) {
            writeln!(out, "first end    {error}")?;
        }
        Ok(())
    }
}

/// The first fault of the first client that has one.
fn example(account: &Account, expected: &Expected) -> Option<String> {
    let fault = |witness: &Witness| Some(format!("client {}: {}", witness.index, witness.seen.example(expected)?));
    account.witnesses.iter().find_map(fault)
}

//! What is told of the runs.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Result, bail};
use serde::Serialize;

use super::fault::{Step, shown};
use super::run::Outcome;

/// Findings of a kind that are shown; there are often as many as clients.
const SHOWN: usize = 5;

/// All runs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// One for each seed, up to the first that failed.
    pub(super) runs: Vec<Run>,
    /// The smallest schedule that fails too, if one has failed.
    pub(super) smallest: Vec<Step>,
}

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    /// Its seed.
    pub(super) seed: u64,
    /// What was broken.
    pub(super) schedule: Vec<Step>,
    /// What came of it.
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

impl Run {
    /// Writes it for people.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub(super) fn print(&self, out: &mut impl Write) -> Result<()> {
        let Outcome { answered, published, deliveries, new_sessions, settled_ms, findings } = &self.outcome;
        writeln!(out, "seed {}       {}", self.seed, shown(&self.schedule))?;
        writeln!(
            out,
            "  published   {published}, {answered} of them answered with 200; {deliveries} deliveries, \
             {new_sessions} sessions began anew"
        )?;
        let times: Vec<String> = settled_ms.iter().map(ToString::to_string).collect();
        writeln!(out, "  all back    after {} ms", times.join(", "))?;
        let mut kinds: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for finding in findings {
            kinds.entry(finding.kind).or_default().push(&finding.what);
        }
        for (kind, all) in kinds {
            writeln!(out, "  {kind:?}: {}", all.len())?;
            for what in all.iter().take(SHOWN) {
                writeln!(out, "    {what}")?;
            }
        }
        Ok(())
    }
}

impl Report {
    /// Writes what all runs together say.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub(super) fn print(&self, out: &mut impl Write) -> Result<()> {
        let failed = self.runs.iter().filter(|run| !run.outcome.findings.is_empty()).count();
        writeln!(out, "{} of {} seeds held", self.runs.len() - failed, self.runs.len())?;
        Ok(())
    }

    /// Fails if a run has.
    ///
    /// # Errors
    /// With the seed, and how it is repeated.
    pub(super) fn verdict(&self) -> Result<()> {
        let Some(run) = self.runs.iter().find(|run| !run.outcome.findings.is_empty()) else { return Ok(()) };
        let (seed, first) = (run.seed, &run.outcome.findings[0].what);
        bail!("seed {seed}: {first}; the smallest that fails: --seed {seed} --schedule {}", shown(&self.smallest))
    }
}

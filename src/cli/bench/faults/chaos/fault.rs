//! What is broken, and when.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::cli::bench::random::Random;

/// One step in so many has a second fault.
const PAIRS: usize = 3;

/// One thing that is broken for a while; the numbers are those of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A node is killed, and started again at the end.
    Kill(usize),
    /// A node is told to stop, and started again at the end.
    Drain(usize),
    /// A node's process stands still, and goes on at the end.
    Stall(usize),
    /// A node's connections to Redis break, and it gets no new ones until the end.
    Cut(usize),
    /// A node's connections to Redis are open, and nothing passes until the end.
    Freeze(usize),
    /// Redis is killed, and started again with its data at the end.
    RedisAway,
    /// Redis stands still, and goes on at the end.
    RedisPaused,
    /// Redis is killed and comes back at once, with nothing in it.
    RedisEmpty,
    /// Redis is killed, and at the end its replica takes its place, which may lack what came last.
    RedisFailover,
}

impl Fault {
    /// How many kinds there are.
    pub(super) const KINDS: usize = 9;

    /// A kind, at a node.
    fn new(kind: usize, node: usize) -> Self {
        match kind % Self::KINDS {
            0 => Self::Kill(node),
            1 => Self::Drain(node),
            2 => Self::Stall(node),
            3 => Self::Cut(node),
            4 => Self::Freeze(node),
            5 => Self::RedisAway,
            6 => Self::RedisPaused,
            7 => Self::RedisEmpty,
            _ => Self::RedisFailover,
        }
    }

    /// The node that it is about, if it is about one.
    pub(super) fn node(self) -> Option<usize> {
        match self {
            Self::Kill(node) | Self::Drain(node) | Self::Stall(node) | Self::Cut(node) | Self::Freeze(node) => {
                Some(node)
            }
            Self::RedisAway | Self::RedisPaused | Self::RedisEmpty | Self::RedisFailover => None,
        }
    }

    /// Whether a node cannot read what Redis has meanwhile.
    pub(super) fn blinds(self) -> bool {
        matches!(self, Self::Stall(_) | Self::Cut(_) | Self::Freeze(_))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Drain(_) => "drain",
            Self::Stall(_) => "stall",
            Self::Cut(_) => "cut",
            Self::Freeze(_) => "freeze",
            Self::RedisAway => "redis-away",
            Self::RedisPaused => "redis-paused",
            Self::RedisEmpty => "redis-empty",
            Self::RedisFailover => "redis-failover",
        }
    }
}

/// What is broken at a time: one thing, or a second one while the first is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// What is broken first.
    pub(super) first: Fault,
    /// What is broken while it is.
    pub(super) second: Option<Fault>,
}

/// The steps of a seed: every kind of fault once in an order of chance, then again, until there are enough; some have a
/// second one.
pub(super) fn schedule(seed: u64, steps: usize, nodes: usize) -> Vec<Step> {
    let mut random = Random::of_client(seed as usize);
    let mut below = |bound: usize| (random.unit() * bound as f64) as usize;
    let mut kinds: Vec<usize> = Vec::new();
    let next = || {
        if kinds.is_empty() {
            kinds.extend(0..Fault::KINDS);
        }
        let first = Fault::new(kinds.swap_remove(below(kinds.len())), below(nodes));
        let second = Fault::new(below(Fault::KINDS), below(nodes));
        let is_double = below(PAIRS) == 0 && first.node() != second.node();
        Step { first, second: is_double.then_some(second) }
    };
    std::iter::repeat_with(next).take(steps).collect()
}

/// A schedule as `--schedule` takes it.
pub(super) fn shown(schedule: &[Step]) -> String {
    schedule.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Step {
    /// Its faults, in the order in which they begin.
    pub(super) fn faults(self) -> impl Iterator<Item = Fault> {
        std::iter::once(self.first).chain(self.second)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.second.map_or(Ok(()), |second| write!(f, "+{second}"))
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, second) = text.split_once('+').map_or((text, None), |(first, second)| (first, Some(second)));
        let step = Self { first: first.parse()?, second: second.map(str::parse).transpose()? };
        match step.second.is_some_and(|second| second.node() == step.first.node()) {
            true => Err("two faults at a time have to be at different places".to_owned()),
            false => Ok(step),
        }
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.node().map_or(Ok(()), |node| write!(f, "-{node}"))
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let node = text.rsplit('-').next().and_then(|node| node.parse().ok());
        let kinds = (0..Self::KINDS).map(|kind| Self::new(kind, node.unwrap_or(0)));
        let mut known = kinds.filter(|fault| fault.to_string() == text);
        known.next().ok_or_else(|| {
            let names: Vec<_> = (0..Self::KINDS).map(|kind| Self::new(kind, 0).to_string()).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_always_the_same_faults_and_another_one_others() {
        assert_eq!(schedule(7, 20, 3), schedule(7, 20, 3));
        assert_ne!(schedule(7, 20, 3), schedule(8, 20, 3));
    }

    #[test]
    fn every_kind_comes_once_before_one_comes_again() {
        let steps = schedule(1, 2 * Fault::KINDS, 3);
        for round in steps.chunks(Fault::KINDS) {
            let mut names: Vec<_> = round.iter().map(|step| step.first.name()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), Fault::KINDS);
        }
        let places = (0..20).flat_map(|seed| schedule(seed, 9, 3)).map(|step| step.first.node());
        assert_eq!(places.collect::<std::collections::BTreeSet<_>>().len(), 4, "each of the three nodes, and none");
    }

    #[test]
    fn two_faults_at_a_time_are_at_different_places() {
        let steps: Vec<Step> = (0..100).flat_map(|seed| schedule(seed, 9, 3)).collect();
        let pairs: Vec<_> = steps.iter().filter(|step| step.second.is_some()).collect();
        assert!(pairs.len() > 100 && pairs.len() < 400, "{} of {}", pairs.len(), steps.len());
        assert!(pairs.iter().all(|step| step.second.and_then(Fault::node) != step.first.node()));
        assert!("kill-1+stall-1".parse::<Step>().is_err() && "redis-away+redis-empty".parse::<Step>().is_err());
    }

    #[test]
    fn a_schedule_is_read_as_it_is_shown() {
        let steps = schedule(3, 18, 5);
        let read: Vec<Step> = shown(&steps).split(',').map(|text| text.parse().unwrap()).collect();
        assert_eq!(read, steps);
        assert!("kill".parse::<Step>().unwrap_err().contains("kill-0"));
        assert!("redis-away-1".parse::<Step>().is_err());
    }
}

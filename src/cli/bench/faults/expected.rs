//! What every client should have got.

use std::collections::BTreeSet;

/// The events that a run published, by their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    /// How many there are.
    pub(super) events: u64,
    /// Those whose answer was lost: nobody knows how often they were published, so they are neither expected nor
    /// forbidden.
    pub(super) unknown: BTreeSet<u64>,
}

impl Expected {
    /// Whether every client should have got this one, once.
    pub(super) fn has(&self, sequence: u64) -> bool {
        sequence < self.events && !self.unknown.contains(&sequence)
    }

    /// How many every client should have got.
    pub(super) fn count(&self) -> u64 {
        self.events - self.unknown.range(..self.events).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_not_expected() {
        let expected = Expected { events: 5, unknown: BTreeSet::from([1, 3, 7]) };
        let all: Vec<u64> = (0..9).filter(|sequence| expected.has(*sequence)).collect();
        assert_eq!(all, [0, 2, 4]);
        assert_eq!(expected.count(), 3);
    }
}

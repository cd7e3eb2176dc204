//! Which events one client has got: what is missing, what came again, what came too late.

use std::ops::AddAssign;

use super::expected::Expected;

/// Larger numbers are no event of this run.
const MOST: u64 = 1 << 32;

/// The events of one client.
#[derive(Debug, Default)]
pub(super) struct Seen {
    bits: Vec<u64>,
    /// One more than the newest.
    next: u64,
    again: Vec<u64>,
    late: Vec<u64>,
}

/// What is wrong with what one client got.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Faults {
    /// Events that never came.
    pub(super) missing: u64,
    /// Frames beyond the first of an event.
    pub(super) twice: u64,
    /// Events that came first after a newer one.
    pub(super) out_of_order: u64,
}

impl Seen {
    /// Takes an event; whether it comes for the first time.
    pub(super) fn take(&mut self, sequence: u64) -> bool {
        let (Ok(word), bit) = (usize::try_from(sequence / 64), 1_u64 << (sequence % 64)) else { return false };
        if self.has(sequence) || sequence >= MOST {
            self.again.push(sequence);
            return false;
        }
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= bit;
        if sequence < self.next {
            self.late.push(sequence);
        }
        self.next = self.next.max(sequence + 1);
        true
    }

    /// Whether the event has come.
    pub(super) fn has(&self, sequence: u64) -> bool {
        let word = usize::try_from(sequence / 64).ok().and_then(|word| self.bits.get(word));
        word.is_some_and(|word| word & (1 << (sequence % 64)) != 0)
    }

    /// How many of the first so many events have not come.
    pub(super) fn missing_before(&self, events: u64) -> u64 {
        (0..events).filter(|sequence| !self.has(*sequence)).count() as u64
    }

    /// One of the faults, for people.
    pub(super) fn example(&self, expected: &Expected) -> Option<String> {
        let first = |sequences: &[u64]| sequences.iter().copied().find(|sequence| expected.has(*sequence));
        let missing = (0..expected.events).find(|one| expected.has(*one) && !self.has(*one));
        (missing.map(|event| format!("event {event} is missing")))
            .or_else(|| first(&self.again).map(|event| format!("event {event} came twice")))
            .or_else(|| first(&self.late).map(|event| format!("event {event} came after a newer one")))
    }

    /// What is wrong, measured by what should have come.
    pub(super) fn faults(&self, expected: &Expected) -> Faults {
        let count = |sequences: &[u64]| sequences.iter().filter(|sequence| expected.has(**sequence)).count() as u64;
        Faults {
            missing: (0..expected.events).filter(|one| expected.has(*one) && !self.has(*one)).count() as u64,
            twice: count(&self.again),
            out_of_order: count(&self.late),
        }
    }
}

impl Faults {
    /// Whether there are none.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.twice += other.twice;
        self.out_of_order += other.out_of_order;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn faults(got: &[u64], unknown: &[u64]) -> Faults {
        let mut seen = Seen::default();
        for sequence in got {
            seen.take(*sequence);
        }
        seen.faults(&Expected { events: 200, unknown: BTreeSet::from_iter(unknown.iter().copied()) })
    }

    fn all_but(left_out: &[u64]) -> Vec<u64> {
        (0..200).filter(|sequence| !left_out.contains(sequence)).collect()
    }

    #[test]
    fn everything_once_and_in_order_is_no_fault() {
        assert!(faults(&all_but(&[]), &[]).is_none());
    }

    #[test]
    fn what_never_came_is_missing() {
        assert_eq!(faults(&all_but(&[0, 64, 199]), &[]), Faults { missing: 3, ..Faults::default() });
        assert_eq!(faults(&[], &[]).missing, 200);
    }

    #[test]
    fn what_comes_again_is_not_out_of_order_as_well() {
        let mut got = all_but(&[]);
        got.extend([7, 7, 199]);
        assert_eq!(faults(&got, &[]), Faults { twice: 3, ..Faults::default() });
    }

    #[test]
    fn what_comes_first_after_a_newer_one_is_out_of_order_and_not_missing() {
        let mut got = all_but(&[5, 6]);
        got.extend([6, 5]);
        assert_eq!(faults(&got, &[]), Faults { out_of_order: 2, ..Faults::default() });
    }

    #[test]
    fn what_is_unknown_may_be_missing_or_come_again() {
        let mut got = all_but(&[3]);
        got.extend([100, 100]);
        assert!(faults(&got, &[3, 100]).is_none());
        assert!(!faults(&got, &[3]).is_none());
        assert!(!faults(&got, &[100]).is_none());
    }

    #[test]
    fn an_example_is_one_of_the_faults() {
        let mut seen = Seen::default();
        let expected = |events, unknown: &[u64]| Expected { events, unknown: unknown.iter().copied().collect() };
        assert!(seen.take(1) && seen.take(0) && !seen.take(1));
        assert_eq!(seen.example(&expected(3, &[])).as_deref(), Some("event 2 is missing"));
        assert_eq!(seen.example(&expected(2, &[])).as_deref(), Some("event 1 came twice"));
        assert_eq!(seen.example(&expected(2, &[1])).as_deref(), Some("event 0 came after a newer one"));
        assert_eq!(seen.example(&expected(2, &[0, 1])), None);
    }

    #[test]
    fn a_number_out_of_all_bounds_takes_no_memory() {
        let mut seen = Seen::default();
        assert!(!seen.take(u64::MAX) && !seen.take(MOST));
        assert!(seen.bits.is_empty());
    }

    #[test]
    fn what_is_missing_so_far_is_counted() {
        let mut seen = Seen::default();
        assert!(seen.take(0) && seen.take(2) && seen.take(70));
        assert_eq!(seen.missing_before(3), 1);
        assert_eq!(seen.missing_before(100), 97);
    }
}

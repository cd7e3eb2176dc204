//! Queues that are served in turn, some of each at a time: who waits in a short one does not wait for a long one.

use std::collections::VecDeque;
use std::collections::vec_deque::Drain;

/// How many queues there are; organizations that share one wait for each other.
pub(super) const QUEUES: usize = 32;

/// What is taken from a queue before the next has its turn.
pub(super) const CHUNK: usize = 32;

/// The number of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(u8);

impl Number {
    /// That of what concerns no one organization.
    pub(super) const COMMON: Self = Self(0);

    /// That of an organization, by its hash.
    pub(super) fn of(organization: u64) -> Self {
        Self(1 + (organization % (QUEUES as u64 - 1)) as u8)
    }

    /// As a byte.
    pub(super) const fn byte(self) -> u8 {
        self.0
    }

    /// The one that [`byte`](Self::byte) gave.
    pub(super) const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// As an index.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What has been handed over and is not taken.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    count: usize,
    queues: [VecDeque<T>; QUEUES],
}

/// What is taken, to be served.
#[derive(Debug)]
pub(super) struct Taken<T> {
    queues: [VecDeque<T>; QUEUES],
    /// Whose turn it is.
    turn: usize,
}

impl<T> Waiting<T> {
    /// Hands over; true if nothing waited before.
    pub(super) fn put(&mut self, number: Number, items: impl ExactSizeIterator<Item = T>) -> bool {
        let (before, count) = (self.count, items.len());
        self.queues[number.index()].extend(items);
        self.count += count;
        before == 0 && count > 0
    }

    /// Whether anything waits in this queue.
    pub(super) fn has_more(&self, number: Number) -> bool {
        !self.queues[number.index()].is_empty()
    }

    /// Moves the queues of which nothing is left among what is taken.
    pub(super) fn take(&mut self, taken: &mut Taken<T>) {
        if self.count == 0 {
            return;
        }
        for (waiting, taken) in self.queues.iter_mut().zip(&mut taken.queues) {
            if taken.is_empty() {
                self.count -= waiting.len();
                std::mem::swap(waiting, taken);
            }
        }
    }
}

impl<T> Taken<T> {
    /// The next of a queue that has its turn; none if nothing is left.
    pub(super) fn next_chunk(&mut self) -> Option<(Number, Drain<'_, T>)> {
        let turns = (self.turn..QUEUES).chain(0..self.turn);
        let index = { turns }.find(|index| !self.queues[*index].is_empty())?;
        self.turn = (index + 1) % QUEUES;
        let queue = &mut self.queues[index];
        let count = queue.len().min(CHUNK);
        Some((Number(index as u8), queue.drain(..count)))
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { count: 0, queues: Default::default() }
    }
}

impl<T> Default for Taken<T> {
    fn default() -> Self {
        Self { queues: Default::default(), turn: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is served next: the queue and how many of it.
    fn next(waiting: &mut Waiting<u32>, taken: &mut Taken<u32>) -> Option<(Number, Vec<u32>)> {
        waiting.take(taken);
        taken.next_chunk().map(|(number, chunk)| (number, chunk.collect()))
    }

    #[test]
    fn a_few_wait_for_one_chunk_of_many() {
        let (large, small) = (Number::of(1), Number::of(0));
        let (mut waiting, mut taken) = (Waiting::default(), Taken::default());
        assert!(waiting.put(large, 0..100));
        assert_eq!(next(&mut waiting, &mut taken), Some((large, (0..32).collect())));
        assert!(waiting.put(small, 1000..1003), "nothing waits, since the large queue is being served");
        assert!(!waiting.put(Number::COMMON, 2000..2001));
        let mut served: Vec<_> = std::iter::from_fn(|| next(&mut waiting, &mut taken)).collect();
        assert_eq!(served.len(), 5, "{served:?}");
        // Which of the others comes first depends on their numbers.
        let last = served.split_off(3);
        assert!(served.contains(&(small, (1000..1003).collect())), "{served:?}");
        assert!(served.contains(&(Number::COMMON, vec![2000])), "{served:?}");
        assert!(served.contains(&(large, (32..64).collect())), "{served:?}");
        assert_eq!(last, [(large, (64..96).collect()), (large, (96..100).collect())]);
    }

    #[test]
    fn what_comes_to_a_queue_waits_until_that_is_empty() {
        let large = Number::of(1);
        let (mut waiting, mut taken) = (Waiting::default(), Taken::default());
        waiting.put(large, 0..33);
        next(&mut waiting, &mut taken);
        waiting.put(large, 100..101);
        assert_eq!(next(&mut waiting, &mut taken), Some((large, vec![32])));
        assert!(waiting.has_more(large));
        assert_eq!(next(&mut waiting, &mut taken), Some((large, vec![100])));
        assert!(!waiting.has_more(large));
        assert_eq!(next(&mut waiting, &mut taken), None);
        assert!(waiting.put(large, 0..1), "whoever serves has to be told again");
    }

    #[test]
    fn organizations_spread_over_all_queues_but_the_common_one() {
        let mut seen = [0; QUEUES];
        for organization in (0..QUEUES as u64 - 1).chain([u64::MAX]) {
            seen[Number::of(organization).index()] += 1;
        }
        assert_eq!(seen[Number::COMMON.index()], 0);
        assert!(seen[1..].iter().all(|count| *count > 0), "{seen:?}");
    }
}

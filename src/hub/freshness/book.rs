//! Who was heard when: pure logic, which is told the time.
//!
//! A sign of life only notes its time. Where a pair stands in the order of the
//! deadlines is put right when its turn comes, so each is looked at once an
//! interval however often it is heard.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::rooms::{Id, Scope};

/// Pairs of a channel and a scope that are kept.
const ROOM: usize = 10_000;

/// What is silent for so long is forgotten.
pub(super) const FORGOTTEN_MS: i64 = 86_400_000;

/// A scope on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    /// Which of the watched channels.
    pub(super) channel: usize,
    pub(super) scope: Scope,
}

/// Something to announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) pair: Arc<Pair>,
    /// Whether it has fallen silent; else it is live again.
    pub(super) stale: bool,
    /// How long it has been silent, or was.
    pub(super) age_ms: i64,
}

/// A time, and a number that makes it the only one.
type Turn = (i64, u64);

#[derive(Debug)]
struct Heard {
    last_ms: i64,
    /// Its place among the live ones, or among the silent ones.
    turn: Turn,
    stale: bool,
}

/// What is known of every pair.
#[derive(Debug)]
pub(super) struct Book {
    /// Longest silence on each channel that is not announced.
    intervals: Vec<i64>,
    room: usize,
    organizations: HashMap<Id, HashMap<Arc<Pair>, Heard>>,
    /// The live ones, by a deadline that may have moved since.
    live: BTreeMap<Turn, Arc<Pair>>,
    /// Those announced as silent, by when they were heard last.
    silent: BTreeMap<Turn, Arc<Pair>>,
    /// Those that are live again, which nobody knows yet.
    revived: VecDeque<Change>,
    next: u64,
}

impl Book {
    pub(super) fn new(intervals: Vec<i64>) -> Self {
        Self {
            intervals,
            room: ROOM,
            organizations: HashMap::new(),
            live: BTreeMap::new(),
            silent: BTreeMap::new(),
            revived: VecDeque::new(),
            next: 0,
        }
    }

    /// A sign of life; true if there is something to do sooner than [`Book::wakes_at`] said before.
    pub(super) fn heard(&mut self, pair: Pair, now: i64) -> bool {
        let deadline = now + self.intervals[pair.channel];
        let turn = (deadline, self.number());
        let known = self.organizations.get_mut(&pair.scope.organization).and_then(|pairs| pairs.get_mut(&pair));
        let Some(heard) = known else {
            let sooner = self.wakes_at().is_none_or(|next| deadline < next);
            self.insert(pair, Heard { last_ms: now, turn, stale: false });
            return sooner;
        };
        let before = heard.last_ms;
        heard.last_ms = now.max(before);
        if !heard.stale {
            return false;
        }
        let pair = self.silent.remove(&heard.turn).expect("what is stale is among the silent ones");
        (heard.stale, heard.turn) = (false, turn);
        self.live.insert(turn, pair.clone());
        self.revived.push_back(Change { pair, stale: false, age_ms: now - before });
        true
    }

    /// What an earlier process knew: when it was heard last, and whether its silence was announced. What was not
    /// has an interval to be heard again, since nobody could be heard meanwhile.
    pub(super) fn remember(&mut self, pair: Pair, last_ms: i64, stale: bool, now: i64) {
        let at = if stale { last_ms } else { now + self.intervals[pair.channel] };
        let turn = (at, self.number());
        self.insert(pair, Heard { last_ms, turn, stale });
    }

    /// It is live again since an earlier process announced its silence, which that one did not say any more.
    pub(super) fn revive(&mut self, pair: Pair, age_ms: i64) {
        self.revived.push_back(Change { pair: Arc::new(pair), stale: false, age_ms });
    }

    /// Up to `limit` changes to announce, in their order.
    pub(super) fn due(&mut self, now: i64, limit: usize) -> Vec<Change> {
        let mut changes: Vec<Change> = self.revived.drain(..self.revived.len().min(limit)).collect();
        while changes.len() < limit
            && let Some((turn, pair)) = self.first_live(now)
        {
            let heard = self.known(&pair);
            let age_ms = now - heard.last_ms;
            (heard.stale, heard.turn.0) = (true, heard.last_ms);
            let silent = heard.turn;
            self.live.remove(&turn);
            self.silent.insert(silent, pair.clone());
            changes.push(Change { pair, stale: true, age_ms });
        }
        while let Some((turn, _)) = self.silent.first_key_value()
            && turn.0 + FORGOTTEN_MS <= now
        {
            self.forget_silent();
        }
        changes
    }

    /// When [`Book::due`] has to be asked again.
    pub(super) fn wakes_at(&self) -> Option<i64> {
        if !self.revived.is_empty() {
            return Some(i64::MIN);
        }
        let deadline = self.live.first_key_value().map(|(turn, _)| turn.0);
        let forgotten = self.silent.first_key_value().map(|(turn, _)| turn.0 + FORGOTTEN_MS);
        [deadline, forgotten].into_iter().flatten().min()
    }

    /// What is silent in an organization, and since when.
    pub(super) fn stale_in(&self, organization: &Id) -> impl Iterator<Item = (&Arc<Pair>, i64)> {
        let pairs = self.organizations.get(organization).into_iter().flatten();
        pairs.filter(|(_, heard)| heard.stale).map(|(pair, heard)| (pair, heard.last_ms))
    }

    /// What an earlier process has announced as silent.
    pub(super) fn announced(&self) -> impl Iterator<Item = &Pair> {
        self.silent.values().map(|pair| &**pair).chain(self.revived.iter().map(|change| &*change.pair))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn insert(&mut self, pair: Pair, heard: Heard) {
        if self.live.len() + self.silent.len() >= self.room && !self.forget_silent() {
            self.forget_live();
        }
        let pair = Arc::new(pair);
        let list = if heard.stale { &mut self.silent } else { &mut self.live };
        list.insert(heard.turn, pair.clone());
        self.organizations.entry(pair.scope.organization.clone()).or_default().insert(pair, heard);
    }

    /// The live pair whose deadline comes first, if that is not after `until`; it is put in its place before.
    fn first_live(&mut self, until: i64) -> Option<(Turn, Arc<Pair>)> {
        loop {
            let (turn, pair) = self.live.first_key_value().filter(|(turn, _)| turn.0 <= until)?;
            let (turn, pair) = (*turn, pair.clone());
            let interval = self.intervals[pair.channel];
            let heard = self.known(&pair);
            let deadline = heard.last_ms + interval;
            if deadline <= turn.0 {
                return Some((turn, pair));
            }
            heard.turn.0 = deadline;
            let later = heard.turn;
            self.live.remove(&turn);
            self.live.insert(later, pair);
        }
    }

    fn known(&mut self, pair: &Pair) -> &mut Heard {
        let pairs = self.organizations.get_mut(&pair.scope.organization);
        pairs.and_then(|pairs| pairs.get_mut(pair)).expect("what has a turn is known")
    }

    /// Forgets what is silent the longest; false if nothing is.
    fn forget_silent(&mut self) -> bool {
        let Some((_, pair)) = self.silent.pop_first() else { return false };
        self.forget(&pair);
        true
    }

    /// Forgets the live one that is next to fall silent.
    fn forget_live(&mut self) {
        if let Some((turn, pair)) = self.first_live(i64::MAX) {
            self.live.remove(&turn);
            self.forget(&pair);
        }
    }

    fn forget(&mut self, pair: &Pair) {
        let organization = &pair.scope.organization;
        if let Some(pairs) = self.organizations.get_mut(organization) {
            pairs.remove(pair);
            if pairs.is_empty() {
                self.organizations.remove(organization);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVALS: [i64; 2] = [100, 1_000];

    fn book() -> Book {
        Book::new(INTERVALS.to_vec())
    }

    fn pair(channel: usize, organization: &str) -> Pair {
        Pair { channel, scope: Scope::organization(Id::parse(organization).expect("an id")) }
    }

    fn told(changes: &[Change]) -> Vec<(&str, bool, i64)> {
        changes.iter().map(|change| (change.pair.scope.organization.as_str(), change.stale, change.age_ms)).collect()
    }

    fn stale(book: &Book, organization: &str) -> Vec<(usize, i64)> {
        let organization = Id::parse(organization).expect("an id");
        book.stale_in(&organization).map(|(pair, last)| (pair.channel, last)).collect()
    }

    #[test]
    fn silence_is_told_once_and_so_is_its_end() {
        let mut book = book();
        assert_eq!(book.wakes_at(), None);
        assert!(book.heard(pair(0, "a"), 0));
        assert_eq!(book.wakes_at(), Some(100));
        assert!(book.due(99, 10).is_empty());
        assert_eq!(told(&book.due(130, 10)), [("a", true, 130)]);
        assert_eq!(stale(&book, "a"), [(0, 0)]);
        assert!(book.due(500, 10).is_empty(), "not repeated");
        assert!(book.heard(pair(0, "a"), 600), "its end is told at once");
        assert!(!book.heard(pair(0, "a"), 610));
        assert_eq!(told(&book.due(610, 10)), [("a", false, 600)]);
        assert!(stale(&book, "a").is_empty() && book.due(610, 10).is_empty());
        assert_eq!(told(&book.due(710, 10)), [("a", true, 100)]);
    }

    #[test]
    fn a_sign_of_life_moves_the_deadline_without_waking_anybody() {
        let mut book = book();
        book.heard(pair(0, "a"), 0);
        assert!(!book.heard(pair(0, "a"), 90));
        assert!(book.due(100, 10).is_empty());
        assert_eq!(book.wakes_at(), Some(190));
        assert_eq!(told(&book.due(190, 10)), [("a", true, 100)]);
    }

    #[test]
    fn only_a_nearer_deadline_wakes() {
        let mut book = book();
        assert!(book.heard(pair(1, "a"), 0));
        assert!(book.heard(pair(0, "a"), 10));
        assert!(!book.heard(pair(0, "b"), 20));
        assert!(!book.heard(pair(1, "b"), 30));
        assert_eq!(book.wakes_at(), Some(110));
    }

    #[test]
    fn each_channel_and_scope_is_by_itself() {
        let mut book = book();
        for (channel, organization) in [(0, "a"), (1, "a"), (0, "b")] {
            book.heard(pair(channel, organization), 0);
        }
        book.heard(pair(0, "b"), 50);
        assert_eq!(told(&book.due(120, 10)), [("a", true, 120)]);
        assert_eq!((stale(&book, "a"), stale(&book, "b")), (vec![(0, 0)], vec![]));
        assert_eq!(told(&book.due(1_000, 10)), [("b", true, 950), ("a", true, 1_000)]);
    }

    #[test]
    fn changes_come_in_portions_and_in_their_order() {
        let mut book = book();
        for organization in ["a", "b", "c"] {
            book.heard(pair(0, organization), 0);
        }
        assert_eq!(told(&book.due(100, 2)), [("a", true, 100), ("b", true, 100)]);
        book.heard(pair(0, "b"), 100);
        assert_eq!(book.wakes_at(), Some(i64::MIN));
        assert_eq!(told(&book.due(100, 2)), [("b", false, 100), ("c", true, 100)]);
    }

    #[test]
    fn what_is_silent_for_a_day_is_forgotten() {
        let mut book = book();
        book.heard(pair(0, "a"), 0);
        book.due(100, 10);
        assert_eq!(book.wakes_at(), Some(FORGOTTEN_MS));
        book.due(FORGOTTEN_MS - 1, 10);
        assert_eq!(stale(&book, "a"), [(0, 0)]);
        assert!(book.due(FORGOTTEN_MS, 10).is_empty() && stale(&book, "a").is_empty());
        assert!(book.organizations.is_empty() && book.wakes_at().is_none());
    }

    #[test]
    fn when_there_is_no_room_the_longest_silent_go_first_and_then_who_is_next() {
        let mut book = Book { room: 4, ..book() };
        for (at, organization) in [(0, "a"), (10, "b"), (90, "c"), (95, "d")] {
            book.heard(pair(0, organization), at);
        }
        book.due(110, 10);
        let known = |book: &Book| {
            let mut known: Vec<_> = book.organizations.keys().map(|id| id.as_str().to_owned()).collect();
            known.sort_unstable();
            known.concat()
        };
        assert_eq!(known(&book), "abcd");
        book.heard(pair(0, "e"), 111);
        assert_eq!(known(&book), "bcde");
        book.heard(pair(0, "f"), 112);
        assert_eq!(known(&book), "cdef");
        // Nothing is silent any more, and "c" has been heard again.
        book.heard(pair(0, "c"), 113);
        book.heard(pair(0, "g"), 114);
        assert_eq!(known(&book), "cefg");
        assert_eq!(book.live.len() + book.silent.len(), 4);
    }

    #[test]
    fn what_an_earlier_process_knew_has_time_to_be_heard_unless_its_silence_was_told() {
        let mut book = book();
        book.remember(pair(0, "a"), 1_000, false, 5_000);
        book.remember(pair(0, "b"), 1_000, true, 5_000);
        book.remember(pair(0, "c"), 1_000, false, 5_000);
        book.revive(pair(0, "c"), 300);
        assert_eq!(stale(&book, "b"), [(0, 1_000)]);
        assert_eq!(told(&book.due(5_000, 10)), [("c", false, 300)]);
        assert_eq!(book.wakes_at(), Some(5_100));
        book.heard(pair(0, "c"), 5_050);
        assert_eq!(told(&book.due(5_100, 10)), [("a", true, 4_100)]);
        book.heard(pair(0, "b"), 5_110);
        assert_eq!(told(&book.due(5_110, 10)), [("b", false, 4_110)]);
    }
}

//! What waits for users: places in the log, and for how long.
//!
//! An event that names a user without a socket waits for the next one, and an
//! event that requires acknowledgement until the user has acknowledged it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rooms::Id;

/// Events that wait for all users together; the first to wait go first.
const MOST: usize = 250_000;

/// Organization and user.
type Whom = (Id, Id);

/// One event that waits for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) offset: u64,
    /// In milliseconds since the epoch.
    pub(super) until_ms: i64,
    /// The ack id of the event, if it waits for an acknowledgement.
    pub(super) ack_id: Option<u64>,
}

/// What waits for the users of one server.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Events that wait for one user; the oldest go first.
    most: usize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    users: HashMap<Whom, VecDeque<Wait>>,
    /// Whom each waits for, in the order in which they came; some may wait no more.
    order: VecDeque<(Whom, u64)>,
}

impl Waiting {
    /// Nothing waits; at most so many events for each user.
    pub(super) fn new(most: usize) -> Self {
        Self { most, book: Mutex::default() }
    }

    /// An event waits for a user from here on.
    pub(super) fn add(&self, organization: &Id, user: &Id, wait: Wait) {
        let whom = (organization.clone(), user.clone());
        let mut book = self.lock();
        let waits = book.users.entry(whom.clone()).or_default();
        if waits.back().is_some_and(|last| last.offset >= wait.offset) {
            return;
        }
        waits.push_back(wait);
        if waits.len() > self.most {
            waits.pop_front();
        }
        book.order.push_back((whom, wait.offset));
        if book.order.len() > MOST
            && let Some((whom, offset)) = book.order.pop_front()
        {
            book.remove(&whom, offset);
        }
    }

    /// An event does not wait for a user any more; false if it did not.
    pub(super) fn remove(&self, organization: &Id, user: &Id, offset: u64) -> bool {
        self.lock().remove(&(organization.clone(), user.clone()), offset)
    }

    /// What waits for a user, in order.
    pub(super) fn of(&self, organization: &Id, user: &Id, now_ms: i64) -> Vec<Wait> {
        let book = self.lock();
        let waits = book.users.get(&(organization.clone(), user.clone()));
        waits.into_iter().flatten().filter(|wait| wait.until_ms > now_ms).copied().collect()
    }

    /// Forgets what has waited for too long, and what `is_kept` says the log has no more of, by organization and offset.
    pub(super) fn trim(&self, now_ms: i64, is_kept: impl Fn(&Id, u64) -> bool) {
        let mut book = self.lock();
        let Book { users, order } = &mut *book;
        users.retain(|(organization, _), waits| {
            waits.retain(|wait| wait.until_ms > now_ms && is_kept(organization, wait.offset));
            !waits.is_empty()
        });
        let waits = |whom: &Whom, offset: u64| {
            users.get(whom).is_some_and(|waits| waits.binary_search_by_key(&offset, |wait| wait.offset).is_ok())
        };
        order.retain(|(whom, offset)| waits(whom, *offset));
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn remove(&mut self, whom: &Whom, offset: u64) -> bool {
        let Some(waits) = self.users.get_mut(whom) else { return false };
        let before = waits.len();
        waits.retain(|wait| wait.offset != offset);
        let removed = waits.len() < before;
        if waits.is_empty() {
            self.users.remove(whom);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(offset: u64) -> Wait {
        Wait { offset, until_ms: 100 + i64::try_from(offset).expect("small"), ack_id: None }
    }

    #[test]
    fn events_wait_in_order_within_bounds_until_their_time_is_over() {
        let waiting = Waiting::new(2);
        let id = |text: &str| Id::parse(text).expect("an id");
        let (organization, user) = (id("o"), id("u"));
        let of = |now| waiting.of(&organization, &user, now).iter().map(|wait| wait.offset).collect::<Vec<_>>();
        for offset in [1, 2, 2, 3] {
            waiting.add(&organization, &user, wait(offset));
        }
        assert_eq!(of(0), [2, 3]);
        assert_eq!(of(102), [3]);
        assert!(waiting.of(&organization, &id("v"), 0).is_empty());
        assert!(waiting.of(&id("p"), &user, 0).is_empty());
        assert!(waiting.remove(&organization, &user, 2) && !waiting.remove(&organization, &user, 2));
        assert_eq!(of(0), [3]);
        waiting.trim(0, |organization, offset| organization.as_str() == "o" && offset == 3);
        assert_eq!(of(0), [3]);
        waiting.trim(103, |_, _| true);
        assert!(waiting.lock().users.is_empty() && waiting.lock().order.is_empty());
    }

    #[test]
    fn all_users_together_have_a_bound() {
        let waiting = Waiting::new(usize::MAX);
        let id = |number: u64| Id::parse(&number.to_string()).expect("an id");
        for number in 0..=MOST as u64 {
            waiting.add(&id(1), &id(number % 1_000), wait(number + 1));
        }
        assert_eq!(waiting.of(&id(1), &id(0), 0).first().map(|wait| wait.offset), Some(1_001), "the first has gone");
        assert_eq!(waiting.of(&id(1), &id(1), 0).first().map(|wait| wait.offset), Some(2));
    }
}

//! What waits for users: places in the log, and for how long.
//!
//! An event that names a user without a socket waits for the next one, and an
//! event that requires acknowledgement until the user has acknowledged it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rooms::Id;

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
    users: Mutex<HashMap<Whom, VecDeque<Wait>>>,
}

impl Waiting {
    /// Nothing waits; at most so many events for each user.
    pub(super) fn new(most: usize) -> Self {
        Self { most, users: Mutex::default() }
    }

    /// An event waits for a user from here on.
    pub(super) fn add(&self, organization: &Id, user: &Id, wait: Wait) {
        let mut users = self.lock();
        let waits = users.entry((organization.clone(), user.clone())).or_default();
        if waits.back().is_some_and(|last| last.offset >= wait.offset) {
            return;
        }
        waits.push_back(wait);
        if waits.len() > self.most {
            waits.pop_front();
        }
    }

    /// An event does not wait for a user any more.
    pub(super) fn remove(&self, organization: &Id, user: &Id, offset: u64) {
        let whom = (organization.clone(), user.clone());
        let mut users = self.lock();
        let Some(waits) = users.get_mut(&whom) else { return };
        waits.retain(|wait| wait.offset != offset);
        if waits.is_empty() {
            users.remove(&whom);
        }
    }

    /// What waits for a user, in order.
    pub(super) fn of(&self, organization: &Id, user: &Id, now_ms: i64) -> Vec<Wait> {
        let users = self.lock();
        let waits = users.get(&(organization.clone(), user.clone()));
        waits.into_iter().flatten().filter(|wait| wait.until_ms > now_ms).copied().collect()
    }

    /// Forgets what has waited for too long.
    pub(super) fn trim(&self, now_ms: i64) {
        self.lock().retain(|_, waits| {
            waits.retain(|wait| wait.until_ms > now_ms);
            !waits.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Whom, VecDeque<Wait>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
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
        waiting.remove(&organization, &user, 2);
        assert_eq!(of(0), [3]);
        waiting.trim(103);
        assert!(waiting.lock().is_empty());
    }
}

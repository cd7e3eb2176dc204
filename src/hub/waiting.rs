//! What waits for users: places in the log, and for how long.
//!
//! An event that names a user without a socket waits for the next one, and an
//! event that requires acknowledgement until the user has acknowledged it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rooms::Id;

/// Events that wait for all users together; the oldest of the organization that has most go first.
const MOST: usize = 250_000;

/// Users whom an event has reached, of which it is remembered that it does not wait for them.
const REACHED: usize = 10_000;

/// One event that waits for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) offset: u64,
    /// In milliseconds since the epoch.
    pub(super) until_ms: i64,
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
    organizations: HashMap<Id, Organization>,
    /// How many events wait.
    count: usize,
    /// Organization, user and offset of those that were reached: another node may tell later that it was not there.
    reached: HashSet<(Id, Id, u64)>,
    reached_order: VecDeque<(Id, Id, u64)>,
}

/// What waits for the users of one organization.
#[derive(Debug, Default)]
struct Organization {
    users: HashMap<Id, VecDeque<Wait>>,
    /// Offset and user of each, in order.
    order: BTreeSet<(u64, Id)>,
}

impl Waiting {
    /// Nothing waits; at most so many events for each user.
    pub(super) fn new(most: usize) -> Self {
        Self { most, book: Mutex::default() }
    }

    /// An event waits for a user from here on.
    pub(super) fn add(&self, organization: &Id, user: &Id, wait: Wait) {
        let mut book = self.lock();
        if !book.reached.is_empty() && book.reached.contains(&(organization.clone(), user.clone(), wait.offset)) {
            return;
        }
        let place = book.organizations.entry(organization.clone()).or_default();
        let waits = place.users.entry(user.clone()).or_default();
        // Nearly always behind the others; what another node tells may come later.
        let at = waits.partition_point(|other| other.offset < wait.offset);
        if waits.get(at).is_some_and(|other| other.offset == wait.offset) {
            return;
        }
        waits.insert(at, wait);
        let surplus = (waits.len() > self.most).then(|| waits[0].offset);
        place.order.insert((wait.offset, user.clone()));
        book.count += 1;
        if let Some(surplus) = surplus {
            book.remove(organization, user, surplus);
        }
        if book.count > MOST {
            book.remove_of_largest();
        }
    }

    /// An event does not wait for a user any more; false if it did not.
    pub(super) fn remove(&self, organization: &Id, user: &Id, offset: u64) -> bool {
        self.lock().remove(organization, user, offset)
    }

    /// An event has reached a user on some node, and waits for it no more, whatever other nodes say.
    pub(super) fn has_reached(&self, organization: &Id, user: &Id, offset: u64) {
        let mut book = self.lock();
        book.remove(organization, user, offset);
        let whom = (organization.clone(), user.clone(), offset);
        if book.reached.insert(whom.clone()) {
            book.reached_order.push_back(whom);
        }
        if book.reached_order.len() > REACHED
            && let Some(oldest) = book.reached_order.pop_front()
        {
            book.reached.remove(&oldest);
        }
    }

    /// What waits for a user, in order.
    pub(super) fn of(&self, organization: &Id, user: &Id, now_ms: i64) -> Vec<Wait> {
        let book = self.lock();
        let waits = book.organizations.get(organization).and_then(|organization| organization.users.get(user));
        waits.into_iter().flatten().filter(|wait| wait.until_ms > now_ms).copied().collect()
    }

    /// Forgets what has waited for too long, and what `is_kept` says the log has no more of, by organization and offset.
    pub(super) fn trim(&self, now_ms: i64, is_kept: impl Fn(&Id, u64) -> bool) {
        let mut book = self.lock();
        let Book { organizations, count, .. } = &mut *book;
        organizations.retain(|organization, Organization { users, order }| {
            users.retain(|user, waits| {
                waits.retain(|wait| {
                    let keeps = wait.until_ms > now_ms && is_kept(organization, wait.offset);
                    if !keeps {
                        order.remove(&(wait.offset, user.clone()));
                        *count -= 1;
                    }
                    keeps
                });
                !waits.is_empty()
            });
            !users.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn remove(&mut self, organization: &Id, user: &Id, offset: u64) -> bool {
        let Some(Organization { users, order }) = self.organizations.get_mut(organization) else { return false };
        let Some(waits) = users.get_mut(user) else { return false };
        let Ok(at) = waits.binary_search_by_key(&offset, |wait| wait.offset) else { return false };
        waits.remove(at);
        order.remove(&(offset, user.clone()));
        self.count -= 1;
        if waits.is_empty() {
            users.remove(user);
        }
        if users.is_empty() {
            self.organizations.remove(organization);
        }
        true
    }

    /// What waits for one organization does not push out what waits for the others.
    fn remove_of_largest(&mut self) {
        let largest = self.organizations.iter().max_by_key(|(_, organization)| organization.order.len());
        let first = largest.and_then(|(id, organization)| Some((id.clone(), organization.order.first()?.clone())));
        if let Some((organization, (offset, user))) = first {
            self.remove(&organization, &user, offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(offset: u64) -> Wait {
        Wait { offset, until_ms: 100 + i64::try_from(offset).expect("small") }
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
        assert!(waiting.lock().organizations.is_empty() && waiting.lock().count == 0);
    }

    #[test]
    fn all_users_together_have_a_bound_that_costs_the_largest_organization() {
        let waiting = Waiting::new(300);
        let id = |number: u64| Id::parse(&number.to_string()).expect("an id");
        let (quiet, busy) = (id(1), id(2));
        waiting.add(&quiet, &quiet, wait(1));
        // What has waited and waits no more does not count.
        for offset in 1..=10_000 {
            waiting.add(&busy, &busy, wait(offset));
            waiting.remove(&busy, &busy, offset);
        }
        for number in 0..=MOST as u64 {
            waiting.add(&busy, &id(number % 1_000), wait(number + 1));
        }
        let first =
            |organization: &Id, user: u64| waiting.of(organization, &id(user), 0).first().map(|wait| wait.offset);
        assert_eq!(first(&quiet, 1), Some(1));
        assert_eq!((first(&busy, 0), first(&busy, 1), first(&busy, 2)), (Some(1_001), Some(1_002), Some(3)));
        assert_eq!(waiting.lock().count, MOST);
    }
}

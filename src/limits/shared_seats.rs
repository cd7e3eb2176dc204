//! Seats that the sockets of a connection share: of an organization, and of a user.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::rooms::Id;

/// The seats of organizations: one for each connection, however many of its sockets are in the organization.
pub type OrganizationSeats = SharedSeats<Id>;

/// The seats of users, each within its organization.
pub type UserSeats = SharedSeats<(Id, Id)>;

/// Seats of many owners: one for each connection, however many of its sockets belong to the owner.
#[derive(Debug)]
pub struct SharedSeats<K> {
    taken: Mutex<HashMap<K, HashMap<u64, usize>>>,
    limit: usize,
}

impl<K: Clone + Eq + Hash> SharedSeats<K> {
    /// As many seats for each owner as the limit says; 0 is no bound, and then nobody is counted.
    pub fn new(limit: usize) -> Self {
        Self { taken: Mutex::default(), limit }
    }

    /// Takes a seat for a connection, or shares the one it has; false if all are taken.
    pub fn take(&self, owner: &K, connection: u64) -> bool {
        if self.limit == 0 {
            return true;
        }
        let mut taken = self.lock();
        let seats = taken.entry(owner.clone()).or_default();
        let held = seats.len();
        match seats.entry(connection) {
            Entry::Occupied(mut seat) => *seat.get_mut() += 1,
            Entry::Vacant(_) if held >= self.limit => return false,
            Entry::Vacant(seat) => {
                seat.insert(1);
            }
        }
        true
    }

    /// Gives back what `take` gave.
    pub fn release(&self, owner: &K, connection: u64) {
        let mut taken = self.lock();
        let Some(seats) = taken.get_mut(owner) else { return };
        if let Entry::Occupied(mut seat) = seats.entry(connection) {
            *seat.get_mut() -= 1;
            if *seat.get() == 0 {
                seat.remove();
            }
        }
        if seats.is_empty() {
            taken.remove(owner);
        }
    }

    /// Seats each owner may have.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Seats taken, by owner.
    pub fn by_owner(&self) -> Vec<(K, usize)> {
        self.lock().iter().map(|(owner, seats)| (owner.clone(), seats.len())).collect()
    }

    /// Seats taken.
    pub fn taken(&self) -> usize {
        self.lock().values().map(HashMap::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, HashMap<u64, usize>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_one_connection_share_its_seat() {
        let seats = OrganizationSeats::new(1);
        let organization = Id::parse("o").expect("an id");
        assert!(seats.take(&organization, 1) && seats.take(&organization, 1));
        assert!(!seats.take(&organization, 2));
        seats.release(&organization, 1);
        assert!(!seats.take(&organization, 2));
        seats.release(&organization, 1);
        assert!(seats.take(&organization, 2));
        seats.release(&organization, 2);
        assert!(seats.by_owner().is_empty());
    }

    #[test]
    fn without_a_bound_nobody_is_counted() {
        let seats = UserSeats::new(0);
        let user = (Id::parse("o").expect("an id"), Id::parse("u").expect("an id"));
        assert!(seats.take(&user, 1) && seats.take(&user, 2));
        assert_eq!(seats.taken(), 0);
        seats.release(&user, 1);
    }
}

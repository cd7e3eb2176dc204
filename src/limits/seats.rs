//! Seats: how many connections the server and each organization hold.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::rooms::Id;

/// The seats of the whole server.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    limit: usize,
}

/// One seat, free again when released or dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    released: AtomicBool,
}

impl Seats {
    /// As many seats as the limit says.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), limit })
    }

    /// A seat, unless all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        self.taken
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < self.limit).then_some(taken + 1))
            .is_ok()
            .then(|| Seat { seats: self.clone(), released: AtomicBool::new(false) })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl Seat {
    /// Frees the seat before it is dropped; a second time does nothing.
    pub fn release(&self) {
        if !self.released.swap(true, Ordering::Relaxed) {
            self.seats.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.release();
    }
}

/// The seats of organizations: one for each connection, however many of its sockets are in the organization.
#[derive(Debug)]
pub struct OrganizationSeats {
    taken: Mutex<HashMap<Id, HashMap<u64, usize>>>,
    limit: usize,
}

impl OrganizationSeats {
    /// As many seats for each organization as the limit says.
    pub fn new(limit: usize) -> Self {
        Self { taken: Mutex::default(), limit }
    }

    /// Takes a seat for a connection, or shares the one it has; false if all are taken.
    pub fn take(&self, organization: &Id, connection: u64) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let seats = taken.entry(organization.clone()).or_default();
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
    pub fn release(&self, organization: &Id, connection: u64) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seats) = taken.get_mut(organization) else { return };
        if let Entry::Occupied(mut seat) = seats.entry(connection) {
            *seat.get_mut() -= 1;
            if *seat.get() == 0 {
                seat.remove();
            }
        }
        if seats.is_empty() {
            taken.remove(organization);
        }
    }

    /// Seats each organization may have.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Seats taken, by organization.
    pub fn by_organization(&self) -> Vec<(Id, usize)> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().map(|(organization, seats)| (organization.clone(), seats.len())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_freed_once() {
        let seats = Seats::new(1);
        let seat = seats.take().expect("a seat");
        assert!(seats.take().is_none());
        seat.release();
        drop(seat);
        assert_eq!(seats.taken(), 0);
    }

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
        assert!(seats.by_organization().is_empty());
    }
}
